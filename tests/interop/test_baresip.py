"""baresip, a softphone, calls `tandem serve` with every codec and every encryption, and both ends are listened to."""

import concurrent.futures
import json
import socket
import subprocess
from dataclasses import dataclass

import pytest

import sound
from conftest import found
from conftest import need
from conftest import run_programs
from gateway import TONES
from gateway import Gateway
from gateway import free_ports
from gateway import until
from google_agent import GREETING
from google_agent import SECONDS
from tone_agent import ANSWER
from tone_agent import CALLER
from tone_agent import KNOWN
from tone_agent import ToneAgent

need("baresip", "baresip-core")
need("openssl", "openssl")

CALL = 8
"""Seconds of a call: the greeting, the caller's tone, the agent's answer."""
SILENCE, SPOKEN = 2.5, 0.8
"""What the caller says: so many seconds of nothing, then of a tone."""
RTP_PORTS = 100
"""Each phone's share."""

CONFIG = """
poll_method epoll
net_interface 127.0.0.1
sip_listen 127.0.0.1:{sip}
audio_source aufile,{said}
audio_player aubridge,nobody
audio_alert aubridge,nobody
audio_buffer 20-160
rtp_ports {rtp_first}-{rtp_last}
module_path {modules}
module {codec}.so
module aufile.so
module aubridge.so
module sndfile.so
snd_path {folder}
{encryption}
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
"""


@dataclass
class Line:
    """How one phone calls."""

    codec: str
    """As baresip's accounts name it."""
    rate: int = 8000
    """Samples per second of its sound."""
    channels: int = 1
    module: str = "g711"
    encryption: str | None = None
    """baresip's `mediaenc`."""
    transport: str = "udp"
    decoder: str = ""
    """How baresip's log names what was agreed on."""


LINES = {
    "pcmu": Line("PCMU/8000/1", decoder="PCMU 8000Hz"),
    "pcma": Line("PCMA/8000/1", decoder="PCMA 8000Hz"),
    "g722": Line("G722/16000/1", rate=16000, module="g722", decoder="G722 16000Hz"),
    "opus": Line("opus/48000/2", rate=48000, channels=2, module="opus", decoder="opus 48000Hz"),
    "sdes": Line("PCMU/8000/1", encryption="srtp-mand", decoder="PCMU 8000Hz"),
    "dtls": Line("PCMU/8000/1", encryption="dtls_srtp", decoder="PCMU 8000Hz"),
    "tls-sdes-opus": Line(
        *["opus/48000/2", 48000, 2, "opus"], encryption="srtp-mand", transport="tls", decoder="opus 48000Hz"
    ),
    "tcp-dtls-g722": Line(
        *["G722/16000/1", 16000, 1, "g722"], encryption="dtls_srtp", transport="tcp", decoder="G722 16000Hz"
    ),
}
MODULES = {"srtp-mand": "srtp", "dtls_srtp": "dtls_srtp"}
SECURED = {"srtp-mand": "SRTP is Enabled", "dtls_srtp": "DTLS-SRTP complete"}
"""What baresip says when the sound is encrypted."""


class Phone:
    """A baresip that makes one call, and what is left of it."""

    def __init__(self, start, folder, name, line, gateway, to="1000"):
        self.user = f"phone-{name}"
        self.folder = folder / name
        self.folder.mkdir()
        said = self.folder / "said.wav"
        write_said(said, line)
        (sip, self.control), (rtp,) = free_ports(2), free_ports(1, step=RTP_PORTS)
        encryption = f"module {MODULES[line.encryption]}.so" if line.encryption else ""
        if line.transport == "tls" or line.encryption == "dtls_srtp":
            encryption += f"\nsip_certificate {gateway.certificate}"
        config = CONFIG.format(
            sip=sip,
            control=self.control,
            said=said,
            rtp_first=rtp,
            rtp_last=rtp + RTP_PORTS - 1,
            modules=modules(),
            codec=line.module,
            folder=self.folder,
            encryption=encryption,
        )
        (self.folder / "config").write_text(config)
        parameters = ["regint=0", f"audio_codecs={line.codec}"]
        if line.encryption:
            parameters.append(f"mediaenc={line.encryption}")
        account = f"<sip:{self.user}@127.0.0.1;transport={line.transport}>;{';'.join(parameters)}\n"
        (self.folder / "accounts").write_text(account)
        (self.folder / "contacts").write_text("")
        port = gateway.tls_port if line.transport == "tls" else gateway.sip
        self.process = start(
            self.user,
            *["baresip", "-f", self.folder, "-e", f"/dial sip:{to}@127.0.0.1:{port}", "-t", str(CALL)],
            cwd=self.folder,
            program=True,
        )

    def press(self, keys):
        """Sends keys as telephone events (RFC 4733), once there is a call."""
        until(lambda: "Call established" in self.process.output(), "the phone's call is answered")
        command = json.dumps({"command": "sndcode", "params": keys})
        with socket.create_connection(("127.0.0.1", self.control), timeout=5) as control:
            control.sendall(f"{len(command)}:{command},".encode())
            assert b'"ok":true' in control.recv(4096)

    def wait(self):
        """Lets it end its call, and returns it."""
        self.code = self.process.wait(CALL + 20)
        self.said = self.process.output()
        return self

    def heard(self):
        """The known tones in what it played: (hertz, seconds)."""
        recordings = list(self.folder.glob("dump-*-dec.wav"))
        assert recordings, self.said
        channels, rate = sound.read_wav(recordings[0])
        # The tones are far below half of 8 kHz, so that leaving samples out does not bend them.
        return sound.tones(channels[0][:: rate // sound.RATE], KNOWN)


def modules():
    """Where baresip's modules are."""
    listed = subprocess.run(["find", "/usr/lib", "/usr/local/lib", "-name", "aubridge.so"], capture_output=True, text=True)
    return listed.stdout.split("\n")[0].rpartition("/")[0]


def write_said(path, line):
    """What this line's caller says: baresip wants files of exactly the codec's rate and channels."""
    tone = sound.tone_samples(CALLER, SPOKEN, rate=line.rate)
    quiet = [0] * round(SILENCE * line.rate)
    rest = [0] * round(CALL * line.rate)
    sound.write_samples(path, [*quiet, *tone, *rest], line.rate, line.channels)


@pytest.fixture(scope="module")
def start_for_module():
    yield from run_programs()


@pytest.fixture(scope="module")
def agent():
    with ToneAgent() as agent:
        yield agent


@pytest.fixture(scope="module")
def gateway(start_for_module, tmp_path_factory, agent):
    folder = tmp_path_factory.mktemp("phones")
    certificate, key = folder / "gateway.crt", folder / "gateway.key"
    subprocess.run(
        [
            *[found("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
            *["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"],
            *["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    gateway = Gateway(
        *[start_for_module, folder, "gateway-baresip", TONES.format(port=agent.port)], tls=(certificate, key)
    )
    # What a phone shows of itself may be the same.
    gateway.certificate = folder / "phone.pem"
    gateway.certificate.write_text(certificate.read_text() + key.read_text())
    return gateway


@pytest.fixture(scope="module")
def phones(request, start_for_module, tmp_path_factory, gateway):
    """Every phone that a collected test listens to, all calling at once: {line: future}."""
    folder = tmp_path_factory.mktemp("lines")
    wanted = {
        item.callspec.params["line"]
        for item in request.session.items
        if item.module is request.module and "line" in getattr(getattr(item, "callspec", None), "params", {})
    }
    with concurrent.futures.ThreadPoolExecutor(max(len(wanted), 1)) as pool:
        yield {name: pool.submit(_call, start_for_module, folder, name, gateway) for name in wanted}


def _call(start, folder, name, gateway):
    return Phone(start, folder, name, LINES[name], gateway).wait()


@pytest.mark.parametrize("line", LINES)
def test_both_sides_hear_each_other(line, phones, agent):
    phone = phones[line].result(timeout=60)
    assert phone.code == 0, phone.said
    assert f"audio decoder: {LINES[line].decoder}" in phone.said
    if LINES[line].encryption:
        assert SECURED[LINES[line].encryption] in phone.said
    heard = phone.heard()
    assert [tone for tone, _ in heard] == [GREETING, ANSWER]
    for tone, seconds in heard:
        assert seconds == pytest.approx(SECONDS[tone], abs=0.2), f"{tone} Hz"
    told = agent.heard(phone.user)
    assert [tone for tone, _ in told] == [CALLER]
    assert told[0][1] == pytest.approx(SPOKEN, abs=0.15)


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
def test_keys_arrive_once_each_and_in_order(codec, start, tmp_path, phones, gateway, agent):
    # Opus has telephone events at 48 kHz.
    before = gateway.total("tandem_dtmf_digits_total", "rtp")
    phone = Phone(start, tmp_path, f"keys-{codec}", LINES[codec], gateway)
    phone.press("5527#")
    phone.wait()
    assert agent.inputs(phone.user) == ["WELCOME", "5527"]
    assert gateway.total("tandem_dtmf_digits_total", "rtp") == before + 5


def test_nothing_is_left_of_all_these_calls(phones, gateway):
    concurrent.futures.wait(phones.values())
    until(lambda: not gateway.alive(), f"nothing is alive: {gateway.alive()}")
    calls = gateway.total("tandem_calls_total")
    assert calls >= len(phones)
    assert gateway.total("tandem_calls_total", 'end_reason="caller_hung_up"') == calls
    assert gateway.total("tandem_caller_audio_unheard_seconds_total") == 0


def test_a_gateway_that_requires_encryption_refuses_a_plain_call(start, tmp_path, agent):
    strict = Gateway(start, tmp_path, "gateway-baresip-strict", TONES.format(port=agent.port), rtp='srtp = "required"')
    phone = Phone(start, tmp_path, "plain", LINES["pcmu"], strict).wait()
    assert "488" in phone.said
    assert agent.streams_of(phone.user) == []
