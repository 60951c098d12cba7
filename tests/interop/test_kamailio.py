"""Kamailio beside `tandem serve`: as the PBX where it registers as an extension, and as the dispatcher before several.

The dispatcher runs the file that operators get, deploy/kamailio/kamailio.cfg.
"""

import concurrent.futures
import pathlib
import shutil
import time

import pytest

from conftest import need
from gateway import TONES
from gateway import Gateway
from gateway import free_ports
from gateway import options
from gateway import until
from sipp import Scenario
from sipp import play
from tone_agent import ToneAgent

need("kamailio", "kamailio")
need("sipp", "sip-tester")

HERE = pathlib.Path(__file__).parent
DISPATCHER = HERE.parent.parent / "deploy/kamailio/kamailio.cfg"
REGISTRAR = HERE / "kamailio/registrar.cfg"
PASSWORD = "correct horse"
GRANTED = 6
"""Seconds for which the registrar keeps an extension, whatever it asked for."""
PROBE_INTERVAL = 2
"""Seconds between two probes; the least time that a new state takes to be known."""

LOCAL_REGISTRAR = """
#!define LISTEN udp:127.0.0.1:{port}
#!define GRANTED {granted}
#!define PASSWORD "{password}"
"""
LOCAL_DISPATCHER = """
#!define LISTEN_UDP udp:127.0.0.1:{port}
#!define LISTEN_TCP tcp:127.0.0.1:{port}
#!define DISPATCHER_LIST "{list}"
#!define CALLERS "127.0.0.0/8"
#!define PROBE_INTERVAL {interval}
#!define CONTROL "unix:{folder}/ctl"
"""
EXTENSION = """
[[sip.register]]
registrar = "sip:127.0.0.1:{port}"
username = "1000"
password_env = "INTEROP_PASSWORD"
"""


class Kamailio:
    """Kamailio in the foreground, with a folder of its own."""

    def __init__(self, start, folder, name, config, port):
        self.port = port
        self.process = start(
            name,
            *["kamailio", "-f", config, "-DD", "-E", "-m", "32", "-M", "4", "-Y", folder, "-P", folder / "pid"],
            cwd=folder,
            program=True,
        )
        until(lambda: options(port) == 200 or self.process.child.poll() is not None, f"{name} answers")
        assert self.process.child.poll() is None, self.process.output()


@pytest.fixture(scope="module")
def agent():
    with ToneAgent() as agent:
        yield agent


@pytest.fixture
def callers(start):
    """Gives a function that calls through a proxy while the test goes on: a future of sipp's result."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:

        def call(name, port, seconds):
            scenario = Scenario(user=name, routed=True)
            scenario.call()
            scenario.pause(seconds)
            scenario.hang_up()
            return pool.submit(play, start, scenario, name, "1000", port)

        yield call


def ended_well(call):
    result = call.result(timeout=60)
    assert result.succeeded(), result.story()


def test_the_gateway_is_an_extension_of_a_registrar_and_stays_one(start, tmp_path, agent, callers):
    (port,) = free_ports(1)
    config = shutil.copy(REGISTRAR, tmp_path)
    (tmp_path / "local.cfg").write_text(LOCAL_REGISTRAR.format(port=port, granted=GRANTED, password=PASSWORD))
    registrar = Kamailio(start, tmp_path, "kamailio-registrar", config, port)
    tones = TONES.format(port=agent.port)
    extension = EXTENSION.format(port=port)
    gateway = Gateway(start, tmp_path, "gateway-extension", tones, more=extension, INTEROP_PASSWORD=PASSWORD)
    until(lambda: "registered 1000 by 1000" in registrar.process.output(), "the gateway has registered")
    ended_well(callers("registered", port, 0.5))
    assert agent.inputs("registered") == ["WELCOME"]
    # Without renewal the first registration and even the second are over by then.
    time.sleep(2 * GRANTED + 2)
    ended_well(callers("still-registered", port, 0.5))
    times = registrar.process.output().count("registered 1000 by 1000")
    assert 3 <= times <= 8, f"registered {times} times"
    until(lambda: not gateway.alive(), f"nothing is alive: {gateway.alive()}")


@pytest.fixture
def dispatcher(start, tmp_path, agent):
    """Three gateways and Kamailio before them, once it has found all three."""
    (port,) = free_ports(1)
    tones = TONES.format(port=agent.port)
    gateways = [Gateway(start, tmp_path, f"gateway-dispatched-{number}", tones) for number in range(3)]
    (tmp_path / "dispatcher.list").write_text("".join(f"1 sip:127.0.0.1:{each.sip} 0\n" for each in gateways))
    config = shutil.copy(DISPATCHER, tmp_path)
    local = LOCAL_DISPATCHER.format(
        port=port, list=tmp_path / "dispatcher.list", interval=PROBE_INTERVAL, folder=tmp_path
    )
    (tmp_path / "tandem-local.cfg").write_text(local)
    return Kamailio(start, tmp_path, "kamailio-dispatcher", config, port), gateways


def test_a_draining_gateway_keeps_its_calls_and_a_dead_one_loses_no_new_ones(dispatcher, callers, agent):
    kamailio, (draining, staying, dying) = dispatcher
    first = [callers(f"first-{number}", kamailio.port, 9) for number in range(3)]
    for gateway in (draining, staying, dying):
        until(lambda: len(gateway.calls()) == 1, "each gateway has one of three calls")

    draining.post("/v1/drain")
    assert options(draining.sip) == 503
    assert options(staying.sip) == 200
    time.sleep(PROBE_INTERVAL + 0.5)
    before = draining.total("tandem_calls_refused_total")
    second = [callers(f"second-{number}", kamailio.port, 1) for number in range(4)]
    for call in second:
        ended_well(call)
    # Not even asked: it is out of rotation.
    assert draining.total("tandem_calls_refused_total") == before
    assert len(draining.calls()) == 1, "the call of the draining gateway lives on"
    for call in first:
        ended_well(call)

    dying.process.child.kill()
    third = [callers(f"third-{number}", kamailio.port, 1) for number in range(2)]
    for call in third:
        ended_well(call)
    assert "does not answer" in kamailio.process.output()
    assert [agent.inputs(f"third-{number}") for number in range(2)] == [["WELCOME"]] * 2
    assert staying.total("tandem_calls_total", 'end_reason="caller_hung_up"') == 1 + 2 + 2
