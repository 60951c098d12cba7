"""aiortc as a caller, in a process of its own; `caller.py` tells what is said on its standard input and output.

Argument: a JSON object. `codec` is "opus" or "pcmu"; `address` the loopback address to call from; `heard` the file for what
is heard; with `noise`, packets that look like RTP are sent between ICE and DTLS, when nobody has keys for them.
"""

import asyncio
import contextlib
import fractions
import json
import os
import struct
import sys

import aioice.ice
import av
from aiortc import MediaStreamTrack
from aiortc import RTCPeerConnection
from aiortc import RTCRtpSender
from aiortc import RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

RATE = 48000
FRAME = RATE // 50
NOISE = 50
"""Packets of it."""
EVENTS = {48000: 110, 8000: 126}
"""The payload types under which telephone-events are offered, by their clocks."""
END_BIT = 0x80
VOLUME = 10
HANDSHAKE = 22
"""DTLS's type of a record."""


def tell(**words):
    print(json.dumps(words), flush=True)


class Mouth(MediaStreamTrack):
    """Says what it is given, and otherwise nothing, 20 ms at a time."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.samples = b""
        self._frames = 0
        self._start = None

    async def recv(self):
        now = asyncio.get_running_loop().time()
        if self._start is None:
            self._start = now
        await asyncio.sleep(self._start + self._frames * 0.02 - now)
        said, self.samples = self.samples[: 2 * FRAME], self.samples[2 * FRAME :]
        frame = av.AudioFrame(format="s16", layout="mono", samples=FRAME)
        frame.planes[0].update(said.ljust(2 * FRAME, b"\0"))
        frame.sample_rate = RATE
        frame.time_base = fractions.Fraction(1, RATE)
        frame.pts = self._frames * FRAME
        self._frames += 1
        return frame


async def listen(track, path):
    """Writes what is heard, as samples at 8 kHz."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=8000)
    with open(path, "wb", buffering=0) as file:
        with contextlib.suppress(MediaStreamError):
            while True:
                for frame in resampler.resample(await track.recv()):
                    file.write(bytes(frame.planes[0])[: 2 * frame.samples])


class Keypad:
    """Puts telephone-events (RFC 4733) between the packets of the sound, for which aiortc has no function."""

    def __init__(self, sender):
        self._transport = sender.transport
        self._send = self._transport._send_rtp
        self._transport._send_rtp = self._pass_on
        self._more = 0
        self._sequence = None
        self._timestamp = None
        self._ssrc = sender._ssrc

    async def _pass_on(self, data):
        if not 192 <= data[1] <= 223:
            sequence, self._timestamp = struct.unpack("!HI", data[2:8])
            self._sequence = sequence + self._more & 0xFFFF
            data = data[:2] + struct.pack("!H", self._sequence) + data[4:]
        await self._send(data)

    async def press(self, key, rate):
        timestamp, step = self._timestamp, rate // 50
        for count in [1, 2, 3, 4, 5, 6, 6, 6]:
            is_last = count == 6
            self._sequence = self._sequence + 1 & 0xFFFF
            self._more += 1
            mark = 0x80 if count == 1 else 0
            header = struct.pack("!BBHII", 0x80, mark | EVENTS[rate], self._sequence, timestamp, self._ssrc)
            body = struct.pack("!BBH", "0123456789*#".index(key), END_BIT * is_last | VOLUME, count * step)
            await self._send(header + body)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)


def with_events(sdp):
    """The offer with telephone-events in its audio line, as a browser writes it."""
    lines = []
    for line in sdp.split("\r\n"):
        if line.startswith("m=audio"):
            line += "".join(f" {payload_type}" for payload_type in EVENTS.values())
            lines.append(line)
            lines += [f"a=rtpmap:{payload_type} telephone-event/{rate}" for rate, payload_type in EVENTS.items()]
            lines += [f"a=fmtp:{payload_type} 0-15" for payload_type in EVENTS.values()]
        else:
            lines.append(line)
    return "\r\n".join(ordered(lines))


def ordered(lines):
    """What follows an m-line directly may only be its c-line (RFC 8866, 5): moves ours behind it."""
    for at, line in enumerate(lines):
        if line.startswith("m=audio"):
            after = next(index for index in range(at, len(lines)) if lines[index].startswith("c="))
            return lines[: at + 1] + [lines[after]] + lines[at + 1 : after] + lines[after + 1 :]
    return lines


def count_fragments(ice):
    """Tells how many pieces of handshake messages are sent (RFC 6347, 4.2.3): OpenSSL knows no MTU here, and takes 256."""
    send = ice._send

    async def counted(data):
        at, pieces = 0, 0
        while data[0] == HANDSHAKE and at + 25 <= len(data):
            epoch, length = int.from_bytes(data[at + 3 : at + 5]), int.from_bytes(data[at + 11 : at + 13])
            whole, piece = data[at + 14 : at + 17], data[at + 22 : at + 25]
            pieces += epoch == 0 and data[at] == HANDSHAKE and piece != whole
            at += 13 + length
        if pieces:
            tell(fragments=pieces)
        await send(data)

    ice._send = counted


async def make_noise(ice):
    """Sends what could be RTP as soon as there is a pair for it, before DTLS begins."""
    while ice.state != "completed":
        await asyncio.sleep(0)
    for n in range(NOISE):
        await ice._send(struct.pack("!BBHII", 0x80, 96, n, n * FRAME, 7) + os.urandom(60))
    tell(noise=NOISE)


async def main(options):
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [options["address"]]
    peer = RTCPeerConnection()
    mouth = Mouth()
    transceiver = peer.addTransceiver(mouth, direction="sendrecv")
    wanted = f"audio/{options['codec']}".lower()
    codecs = [codec for codec in RTCRtpSender.getCapabilities("audio").codecs if codec.mimeType.lower() == wanted]
    transceiver.setCodecPreferences(codecs)
    channel = peer.createDataChannel("events")
    channel.on("open", lambda: tell(channel="open"))
    channel.on("close", lambda: tell(channel="closed"))
    channel.on("message", lambda text: tell(message=text))
    peer.on("connectionstatechange", lambda: tell(state=peer.connectionState))
    tasks = []
    peer.on("track", lambda track: tasks.append(asyncio.ensure_future(listen(track, options["heard"]))))
    await peer.setLocalDescription(await peer.createOffer())
    keypad = Keypad(transceiver.sender)
    count_fragments(transceiver.sender.transport.transport)
    tell(offer=with_events(peer.localDescription.sdp))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        if "answer" in order:
            answer = RTCSessionDescription(sdp=order["answer"], type="answer")
            if options.get("noise"):
                tasks.append(asyncio.ensure_future(make_noise(transceiver.sender.transport.transport)))
            await peer.setRemoteDescription(answer)
        elif "say" in order:
            with open(order["say"], "rb") as file:
                mouth.samples += file.read()
        elif "press" in order:
            # The agent need not wait for the last repetition before it ends the call.
            with contextlib.suppress(ConnectionError):
                for key in order["press"]:
                    await keypad.press(key, order["rate"])
        elif "close" in order:
            break
    await peer.close()


asyncio.run(main(json.loads(sys.argv[1])))
