"""Other people's WebRTC, each in a process of its own, that calls the gateway by WHIP.

The processes only speak WebRTC; what goes over HTTP is done here. Their standard output has a JSON object a line: `offer`
(first), `state` of the connection, `channel` (the data channel's state), `message` (its text), `noise`, `fragments`, `sent`.
Their standard input takes orders: `answer`, `say` (a file), `press` (keys, at a clock `rate`), `close`.
"""

import importlib.util
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import threading
import time

import pytest

import sound
from conftest import OUT
from conftest import found
from conftest import need
from gateway import until
from tone_agent import KNOWN
from whip import PARAMETER

HERE = pathlib.Path(__file__).parent
WERIFT = OUT / "werift"
"""Where it is installed."""
BINDINGS = "/usr/bin/python3"
"""The Python that has Debian's bindings of GStreamer."""
READY = 30
"""Seconds until a process has written its offer: on a busy machine, an RSA key takes some."""
RATE = 48000
"""Of what is said, except by werift in PCMU."""


def need_aiortc():
    """Skips a module of tests where there is no aiortc."""
    if importlib.util.find_spec("aiortc") is None:
        pytest.skip("there is no aiortc; pip could not install it", allow_module_level=True)


def need_gstreamer():
    """Likewise for GStreamer."""
    names = "webrtcbin nicesrc dtlssrtpenc sctpenc opusenc rtpopuspay rtppcmupay mulawenc audioresample appsrc filesink"
    program = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstWebRTC', '1.0');"
        "from gi.repository import Gst; Gst.init(None);"
        f"raise SystemExit(not all(map(Gst.ElementFactory.find, '{names}'.split())))"
    )
    packages = "gstreamer1.0-plugins-bad, gstreamer1.0-nice, python3-gi and gir1.2-gst-plugins-bad-1.0"
    words = f"there is no webrtcbin for Python (packages {packages})"
    if not os.path.exists(BINDINGS):
        pytest.skip(words, allow_module_level=True)
    _try(words, [BINDINGS, "-c", program], 30)


def need_werift():
    """Likewise for werift, whose Opus is encoded and decoded by aiortc's library. Installs it."""
    need_aiortc()
    need("node", "nodejs")
    need("npm", "npm")
    lock = (HERE / "werift" / "package-lock.json").read_bytes()
    stamp = WERIFT / "installed"
    if not (stamp.exists() and stamp.read_bytes() == lock):
        WERIFT.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "werift" / name, WERIFT)
        command = [found("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"]
        _try("npm cannot install werift", command, 120, cwd=WERIFT)
        stamp.write_bytes(lock)
    # It says that it wants a newer Node than it does.
    _try("this Node cannot run werift", [found("node"), "-e", 'require("werift")'], 20, cwd=WERIFT)


def _try(words, command, patience, **options):
    """Skips a module of tests, with these words, where a command fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, **options)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{words} within {patience} s", allow_module_level=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        pytest.skip(f"{words}: {said[-1] if said else done.returncode}", allow_module_level=True)


class Caller:
    """One call."""

    def __init__(self, start, folder, gateway, name, route="tones", codec="opus", address="127.0.0.1", **options):
        """Starts the process and offers a call, without waiting for it to be connected."""
        self.gateway, self.name, self.codec, self.route = gateway, name, codec, route
        self.folder = folder / name
        self.folder.mkdir()
        self.file = self.folder / "heard"
        self.lines, self.events = [], []
        options = {"codec": codec, "address": address, "heard": str(self.file)} | options
        program, *arguments = self.command()
        self.process = start(
            *[f"{self.kind}-{name}", program, *arguments, json.dumps(options)],
            cwd=self.folder,
            program=True,
            talks=True,
            WERIFT=str(WERIFT),
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.sdp = self.told("offer", READY)
        self.began = time.monotonic()
        self.response = gateway.offer(self.sdp, route, query={PARAMETER: name})
        assert self.response.status == 201, (self.response.body, self.sdp)
        self.answer = self.response.body
        self.location, self.etag = self.response.headers["Location"], self.response.headers["ETag"]
        self.order(answer=self.answer)

    def _read(self):
        for line in self.process.child.stdout:
            words = json.loads(line)
            self.lines.append(words | {"seconds": time.monotonic()})
            if "message" in words:
                self.events.append(json.loads(words["message"]))

    def order(self, **words):
        self.process.child.stdin.write(json.dumps(words).encode() + b"\n")
        self.process.child.stdin.flush()

    def said(self, name, value=None):
        """Whether the process has said this, and what; nothing so far is `None`."""
        found = [words[name] for words in list(self.lines) if name in words]
        return next((it for it in found if value in (None, it)), None)

    def told(self, name, patience=10, value=None):
        """Waits until the process says this."""
        until(
            lambda: self.said(name, value) is not None or self.process.child.poll() is not None,
            f"{self.process.name} says {name} {value or ''}; it has said {self.lines}",
            patience,
        )
        assert self.said(name, value) is not None, f"{self.process.name} ended:\n{self.process.tail()}"
        return self.said(name, value)

    def connected(self):
        """Waits until there is a connection with a data channel."""
        self.told("state", READY, "connected")
        self.told("channel", 10, "open")
        return self

    def event(self, kind, patience=15, **expected):
        """Waits for an event of the call; what is expected in it may be a part of a text, in whatever case."""

        def fits(event):
            return event["type"] == kind and all(
                _fits(event.get(name), value) for name, value in expected.items()
            )

        until(
            lambda: any(fits(event) for event in list(self.events)),
            f"{self.process.name} is told of {kind} {expected}; it was told {self.events}",
            patience,
        )
        return next(event for event in self.events if fits(event))

    def say(self, samples):
        """Says samples of [`self.rate`], from now on."""
        path = self.folder / f"said-{time.monotonic_ns()}"
        path.write_bytes(self.encoded(samples))
        self.order(say=str(path))

    @property
    def rate(self):
        return RATE

    def say_tone(self, hertz, seconds):
        self.say(sound.tone_samples(hertz, seconds, rate=self.rate))

    def speak(self, text):
        self.say(sound.speak_samples(text, self.rate))

    def press(self, keys, rate):
        """Sends keys as telephone events (RFC 4733) of this clock."""
        self.order(press=keys, rate=rate)

    def wait_for_silence(self, seconds=0.8, patience=25):
        """Waits until the agent has spoken and then been silent for so long."""

        def is_silent():
            samples = self.samples()
            count = round(seconds * sound.RATE)
            return sound.loudness(samples[:-count]) > 50 and sound.loudness(samples[-count:]) < 50

        until(is_silent, f"{self.process.name} hears the agent, and then nothing", patience)

    def heard(self):
        """The known tones that came back: (hertz, seconds)."""
        return sound.tones(self.samples(), KNOWN)

    def hang_up(self):
        """Ends the call as WHIP says."""
        answer = self.gateway.request("DELETE", self.location)
        assert answer.status == 200, answer.body

    def leave(self):
        """Lets the process close its connection and end."""
        if self.process.child.poll() is None:
            self.order(close=True)
        assert self.process.wait(15) == 0, self.process.tail()

    def vanish(self):
        """Ends the process without a goodbye."""
        self.process.child.kill()
        self.process.child.wait()

    def samples(self):
        """What has been heard so far, at 8 kHz."""
        data = self.file.read_bytes() if self.file.exists() else b""
        return list(struct.unpack(f"<{len(data) // 2}h", data[: len(data) // 2 * 2]))

    def encoded(self, samples):
        return struct.pack(f"<{len(samples)}h", *samples)


class Aiortc(Caller):
    """aiortc: Python, ECDSA, with telephone-events that we put into its packets."""

    kind = "aiortc"

    def command(self):
        return [sys.executable, HERE / "aiortc_caller.py"]


class Gstreamer(Caller):
    """webrtcbin: C, libnice, OpenSSL with an RSA certificate."""

    kind = "gstreamer"

    def command(self):
        return [BINDINGS, HERE / "gstreamer_caller.py"]


class Werift(Caller):
    """werift: TypeScript, everything down to its DTLS; it sends packets that are made here."""

    kind = "werift"

    def command(self):
        return ["node", HERE / "werift" / "caller.mjs"]

    @property
    def rate(self):
        return RATE if self.codec == "opus" else sound.RATE

    def encoded(self, samples):
        if self.codec == "opus":
            packets = _opus_packets(samples)
        else:
            data = sound.mulaw_encode(samples)
            packets = [data[at : at + sound.FRAME] for at in range(0, len(data), sound.FRAME)]
        return b"".join(struct.pack("!H", len(packet)) + packet for packet in packets)

    def samples(self):
        data = self.file.read_bytes() if self.file.exists() else b""
        packets = {}
        while len(data) >= 9:
            _, sequence, _, length = struct.unpack("!BHIH", data[:9])
            packets.setdefault(sequence, data[9 : 9 + length])
            data = data[9 + length :]
        return _decoded(list(packets.values()), self.codec)


def _fits(found, wanted):
    if isinstance(wanted, str) and isinstance(found, str):
        return wanted.lower() in found.lower()
    return found == wanted


def _opus_packets(samples):
    """Opus packets of 20 ms."""
    import av

    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.format, codec.layout = RATE, "s16", "mono"
    codec.options = {"application": "voip", "fec": "1", "packet_loss": "10"}
    packets = []
    step = RATE // 50
    for at in range(0, len(samples), step):
        piece = list(samples[at : at + step])
        piece += [0] * (step - len(piece))
        frame = av.AudioFrame(format="s16", layout="mono", samples=step)
        frame.planes[0].update(struct.pack(f"<{step}h", *piece))
        frame.sample_rate, frame.pts = RATE, at
        packets += codec.encode(frame)
    return [bytes(packet) for packet in packets + codec.encode(None)]


def _decoded(packets, codec):
    """Samples at 8 kHz."""
    if codec == "pcmu":
        return sound.mulaw_decode(b"".join(packets))
    import av

    decoder = av.CodecContext.create("libopus", "r")
    resampler = av.AudioResampler(format="s16", layout="mono", rate=sound.RATE)
    data = b""
    for packet in packets:
        for frame in decoder.decode(av.Packet(packet)):
            for piece in resampler.resample(frame):
                data += bytes(piece.planes[0])[: 2 * piece.samples]
    return list(struct.unpack(f"<{len(data) // 2}h", data))
