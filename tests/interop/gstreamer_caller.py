"""GStreamer's webrtcbin as a caller, in a process of its own; `caller.py` tells what is said on its standard input and output.

Runs in the system's Python, which has the bindings. webrtcbin makes its certificate with an RSA key.
Argument: a JSON object. `codec` is "opus" or "pcmu"; `address` the loopback address to call from; `heard` the file for what
is heard.
"""

import json
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")

from gi.repository import GLib  # noqa: E402
from gi.repository import Gst  # noqa: E402
from gi.repository import GstSdp  # noqa: E402
from gi.repository import GstWebRTC  # noqa: E402

FRAME = 48000 // 50
SPEAK = {
    "opus": "opusenc frame-size=20 inband-fec=true ! rtpopuspay pt=96 ! "
    "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=96",
    "pcmu": "mulawenc ! rtppcmupay min-ptime=20000000 max-ptime=20000000 ! "
    "application/x-rtp,media=audio,encoding-name=PCMU,clock-rate=8000,payload=0",
}
LISTEN = {"opus": "rtpopusdepay ! opusdec", "pcmu": "rtppcmudepay ! mulawdec"}
RAW = "audio/x-raw,format=S16LE,rate={rate},channels=1,layout=interleaved"


def tell(**words):
    print(json.dumps(words), flush=True)


class Caller:
    def __init__(self, options):
        self.options = options
        codec = options["codec"]
        self.pipeline = Gst.parse_launch(
            f"webrtcbin name=peer bundle-policy=max-bundle latency=60 "
            f"appsrc name=mouth is-live=true format=time do-timestamp=true caps={RAW.format(rate=48000)} ! "
            f"audioconvert ! audioresample ! {SPEAK[codec]} ! peer."
        )
        self.peer = self.pipeline.get_by_name("peer")
        self.mouth = self.pipeline.get_by_name("mouth")
        # Loopback is left out by itself. The binding takes a reference that is not its own, so this one is kept.
        self.agent = self.peer.get_property("ice-agent")
        self.agent.emit("add-local-ip-address", options["address"])
        self.samples = b""
        self.offered = False
        self.peer.connect("pad-added", self.on_pad)
        self.peer.connect("notify::connection-state", self.on_state)
        self.peer.connect("notify::ice-gathering-state", self.on_gathering)
        self.pipeline.set_state(Gst.State.READY)
        self.channel = self.peer.emit("create-data-channel", "events", None)
        self.channel.connect("on-message-string", lambda _, text: tell(message=text))
        self.channel.connect("on-open", lambda _: tell(channel="open"))
        self.channel.connect("on-close", lambda _: tell(channel="closed"))
        self.peer.connect("on-negotiation-needed", self.on_negotiation)
        self.pipeline.set_state(Gst.State.PLAYING)
        threading.Thread(target=self.speak, daemon=True).start()

    def on_negotiation(self, _):
        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))

    def on_offer(self, promise):
        if not self.offered:
            self.offered = True
            # The binding hands out what belongs to the reply, so the reply has to stay.
            self.reply = promise.get_reply()
            self.peer.emit("set-local-description", self.reply.get_value("offer"), Gst.Promise.new())

    def on_gathering(self, *_):
        if self.peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            tell(offer=self.peer.get_property("local-description").sdp.as_text())

    def on_state(self, *_):
        tell(state=self.peer.get_property("connection-state").value_nick)

    def on_pad(self, _, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        listen = Gst.parse_bin_from_description(
            f"{LISTEN[self.options['codec']]} ! audioconvert ! audioresample ! {RAW.format(rate=8000)} ! "
            f"filesink location={self.options['heard']} buffer-mode=unbuffered sync=false async=false",
            True,
        )
        self.pipeline.add(listen)
        listen.sync_state_with_parent()
        pad.link(listen.get_static_pad("sink"))

    def speak(self):
        """Says what it is given, and otherwise nothing, 20 ms at a time."""
        start = time.monotonic()
        frames = 0
        while True:
            said, self.samples = self.samples[: 2 * FRAME], self.samples[2 * FRAME :]
            self.mouth.emit("push-buffer", Gst.Buffer.new_wrapped(said.ljust(2 * FRAME, b"\0")))
            frames += 1
            time.sleep(max(0, start + frames * 0.02 - time.monotonic()))

    def obey(self, order):
        if "answer" in order:
            _, message = GstSdp.SDPMessage.new_from_text(order["answer"])
            answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
            self.peer.emit("set-remote-description", answer, Gst.Promise.new())
        elif "say" in order:
            with open(order["say"], "rb") as file:
                self.samples += file.read()


def main():
    Gst.init(None)
    caller = Caller(json.loads(sys.argv[1]))
    loop = GLib.MainLoop()

    def read():
        for line in sys.stdin:
            order = json.loads(line)
            if "close" in order:
                break
            GLib.idle_add(lambda order=order: caller.obey(order) and False)
        GLib.idle_add(loop.quit)

    threading.Thread(target=read, daemon=True).start()
    loop.run()
    caller.pipeline.set_state(Gst.State.NULL)


main()
