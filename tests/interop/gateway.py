"""A gateway that answers the telephone: its configuration, its ports, and what it tells of itself."""

import itertools
import json
import re
import socket
import time
import urllib.error
import urllib.request
import uuid

from conftest import WORKER

PATIENCE = 10
"""Seconds for which a test waits for something to become true."""
RTP_PORTS = itertools.cycle(range(20000 + 4000 * WORKER, 24000 + 4000 * WORKER, 800))
"""Each gateway's own, of those that live at one time, below the kernel's ephemeral range. Three workers fit."""

LOG = "info,rsipstack=warn,tandem=debug"
"""What goes into a gateway's log."""

CONFIG = """
[http]
listen = "127.0.0.1:{http}"
[admin]
listen = "127.0.0.1:{admin}"
[log]
filter = "{log}"
redact_numbers = false
[limits]
calls_per_second = 1000
[audio]
# What the agent hears is then looked at as it is.
uplink = "mulaw-8000"
[turn]
# Nobody shall be asked whether they are still there.
no_input_timeout = "1m"
interdigit_timeout = "600ms"
[rtp]
ports = "{rtp_first}-{rtp_last}"
{rtp}
[sip]
listen = [{listen}]
{sip}
{webrtc}
[agents.agent]
{agent}
language = "en-US"
{more}
"""

NO_WEBRTC = "[webrtc]\nlisten = []"
TONES = """
kind = "dialogflow-cx"
name = "projects/interop/locations/global/agents/tones"
greeting = {{ event = "WELCOME" }}
endpoint = "http://127.0.0.1:{port}"
"""
LOCAL_ECHO = """
kind = "local"
name = "projects/interop/locations/global/agents/echo"
"""


def free_ports(count, step=1):
    """Ports that are free for UDP and TCP, each with the `step - 1` behind it free for UDP too."""
    found = []
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port + step < 65536 and port not in found and all(_free_for_udp(port + more) for more in range(step)):
            found.append(port)
    return found


def _free_for_udp(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def options(port, line_end="\r\n"):
    """Asks whatever listens on a UDP port for its options, without a user; the code of its answer, or nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(1)
        ours = f"127.0.0.1:{peer.getsockname()[1]}"
        unique = uuid.uuid4().hex
        lines = [
            f"OPTIONS sip:127.0.0.1:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {ours};branch=z9hG4bK{unique}",
            f"From: <sip:options@{ours}>;tag=1",
            f"To: <sip:127.0.0.1:{port}>",
            f"Call-ID: {unique}",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        peer.sendto(line_end.join([*lines, "", ""]).encode(), ("127.0.0.1", port))
        try:
            answer = peer.recv(4096)
        except OSError:
            return None
    return int(answer.split(b" ")[1])


def has_ipv6():
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Gateway:
    """`tandem serve` with a SIP listener on one port (UDP and TCP), ready for calls."""

    def __init__(self, start, folder, name, agent, sip="", rtp="", webrtc=NO_WEBRTC, more="", tls=None, log=LOG, **environment):
        """`agent` is the body of its agent's section. `tls` is (certificate, key); the port is `tls_port`."""
        self.sip, self.tls_port, self.http, self.admin = free_ports(4)
        listen = [f"udp:127.0.0.1:{self.sip}", f"tcp:127.0.0.1:{self.sip}"]
        if has_ipv6():
            listen.append(f"udp:[::1]:{self.sip}")
        if tls is not None:
            listen.append(f"tls:127.0.0.1:{self.tls_port}")
            sip += f'\ntls_certificate = "{tls[0]}"\ntls_key = "{tls[1]}"'
        first = next(RTP_PORTS)
        config = folder / f"{name}.toml"
        text = CONFIG.format(
            http=self.http,
            admin=self.admin,
            rtp_first=first,
            rtp_last=first + 799,
            rtp=rtp,
            listen=", ".join(f'"{each}"' for each in listen),
            sip=sip,
            agent=agent,
            webrtc=webrtc,
            log=log,
            more=more,
        )
        config.write_text(text)
        self.process = start(name, "tandem", "serve", "--config", config, cwd=folder, **environment)
        self.process.wait_for_port(self.admin)
        until(lambda: self.get("/readyz") is not None, f"{name} is ready")

    def get(self, path):
        """A page of the admin listener, or nothing where it does not answer 200."""
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5).read().decode()
        except urllib.error.HTTPError:
            return None

    def post(self, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", method="POST", data=b"")
        urllib.request.urlopen(request, timeout=5).read()

    def calls(self):
        """What the registry tells of the calls in progress."""
        return json.loads(self.get("/v1/calls"))["calls"]

    def metrics(self, name):
        """Every series of a metric: {labels: value}."""
        found = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", self.get("/metrics"), re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def total(self, name, label=""):
        """The sum of a metric's series whose labels contain this."""
        return sum(value for labels, value in self.metrics(name).items() if label in labels)

    def alive(self):
        """Which objects of calls are still there: {labels: count}, without zeros."""
        return {labels: value for labels, value in self.metrics("tandem_objects_alive").items() if value}


def until(condition, words, patience=PATIENCE):
    """Waits until something is true, and fails with these words if it does not become so."""
    deadline = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {patience} s: {words}"
        time.sleep(0.05)
