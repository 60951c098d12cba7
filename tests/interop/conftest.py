"""The gateway's processes, started for a test and ended after it by their ids; their logs are shown when a test fails."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

BIN = pathlib.Path(os.environ["INTEROP_BIN"])
OUT = pathlib.Path(os.environ["INTEROP_OUT"])
# The number of this process among those that share the tests, a file each (pytest-xdist).
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
START_TIMEOUT = 30
"""Seconds until a port must answer. Loading the recogniser's model takes about one on an idle machine."""
STOP_TIMEOUT = 5
"""Seconds from the polite signal to the other."""
LOG_LINES = 80
"""How much of a log is shown."""

RUNNING = []
"""Every process whose fixture has not been torn down, whether it has ended or not."""


class Process:
    """A program with a log of its own, in its own working directory and without the settings of whoever runs the tests."""

    def __init__(self, name, *arguments, cwd, program=False, talks=False, **environment):
        """One of ours, or with `program` one of the machine's. Where it `talks`, its input and output are pipes of ours."""
        self.name = name
        self.log = OUT / "logs" / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [found(arguments[0]) if program else BIN / arguments[0], *arguments[1:]],
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                cwd=cwd,
                env=clean_environment() | environment,
            )

    def wait_for_port(self, port):
        """Waits until it listens on this port."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            assert self.child.poll() is None, f"{self.name} ended with {self.child.returncode}:\n{self.tail()}"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"{self.name} does not listen on port {port} after {START_TIMEOUT} s:\n{self.tail()}")

    def wait(self, timeout):
        """Waits for its end and returns its exit code."""
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout} s:\n{self.tail()}") from None

    def stop(self):
        """Ends it, politely first."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            try:
                self.child.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def output(self):
        """All it has written, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace"))

    def tail(self):
        """The last of it."""
        return "\n".join(self.output().splitlines()[-LOG_LINES:])


def found(program):
    """The path of a program that is not ours. Debian keeps servers where not everybody's PATH leads."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    return shutil.which(program, path=path)


def need(program, package):
    """Skips a whole module of tests where a program is missing."""
    if found(program) is None:
        pytest.skip(f"there is no {program}; install the package {package}", allow_module_level=True)


def clean_environment():
    """The environment without what would configure the gateway, or send its traffic to a proxy."""
    configuring = re.compile(r"TANDEM__|TWILIO_|GOOGLE_|GCE_|CLOUDSDK_|RUST_LOG|(?i:.*_proxy)$")
    return {name: value for name, value in os.environ.items() if not configuring.match(name)}


def free_port():
    """A port on which nothing listens. Somebody could take it before we do; then the test fails and says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_programs():
    """The body of a fixture: gives a function that starts a [`Process`], and ends what it started."""
    started = []

    def start(name, *arguments, **options):
        process = Process(name, *arguments, **options)
        started.append(process)
        RUNNING.append(process)
        return process

    yield start
    for process in reversed(started):
        process.stop()
        RUNNING.remove(process)


@pytest.fixture
def start():
    """Starts programs that live as long as one test."""
    yield from run_programs()


@pytest.fixture(scope="session")
def start_for_session():
    """Starts programs that live as long as all tests."""
    yield from run_programs()


@pytest.fixture(scope="session")
def agent(start_for_session, tmp_path_factory):
    """The address of `tandem agent` with the embedded script."""
    port = free_port()
    process = start_for_session(
        "agent", "tandem", "agent", "--listen", f"127.0.0.1:{port}", cwd=tmp_path_factory.mktemp("agent")
    )
    process.wait_for_port(port)
    return f"127.0.0.1:{port}"


def pytest_configure(config):
    config.addinivalue_line("markers", "scenario: a dialogue that sipp has with the gateway before the tests look at it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the logs of the programs that a failed test has used."""
    report = yield
    if report.failed:
        # What has ended well has nothing to tell.
        report.sections += [
            (f"the end of {process.log.name}", process.tail()) for process in RUNNING if process.child.poll() != 0
        ]
    return report
