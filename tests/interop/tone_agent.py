"""A telephone agent of tones: what a caller hears and what the agent hears can both be told by ear.

It greets with a tone that nobody can interrupt, answers every utterance with another, and does what is pressed. Unlike
[`GoogleAgent`], which plays one conversation, it serves any number of calls and remembers each by who called.
"""

import time

import sound
from google_agent import BREATH
from google_agent import FINAL
from google_agent import GOODBYE
from google_agent import GREETING
from google_agent import PARTIAL
from google_agent import PAUSE
from google_agent import VOICE
from google_agent import GoogleAgent

CALLER = 780
"""The tone that callers send, in hertz."""
ANSWER, BACK = FINAL, PARTIAL
"""The tones that follow an utterance, and a transfer that failed."""
KNOWN = [GREETING, BACK, CALLER, ANSWER, GOODBYE]
"""Every tone on these lines."""
SLOW = "slow"
"""Whoever calls this number is greeted late."""
SLOWNESS = 3
"""Seconds of that."""
TRANSFER, GOODBYE_DIGIT = "1", "9"
"""What to press to be transferred, and for the agent to end the call."""
NUMBER = "+15551234567"
"""Where calls are transferred to."""


class ToneAgent(GoogleAgent):
    """The server."""

    def __init__(self):
        super().__init__("v3", workers=100)

    def streams_of(self, caller):
        """The streams of all calls of this caller, in order."""
        return [stream for stream in list(self.streams) if stream.requests and caller_of(stream) == caller]

    def inputs(self, caller):
        """What the agent was given, without the audio: events by name, digits as they were pressed."""
        queries = [stream.first.query_input for stream in self.streams_of(caller)]
        return [query.event.event if "event" in query else query.dtmf.digits for query in queries if "audio" not in query]

    def heard(self, caller):
        """The known tones that the caller's audio held: (hertz, seconds)."""
        audio = b"".join(stream.audio() for stream in self.streams_of(caller) if "audio" in stream.first.query_input)
        return sound.tones(sound.mulaw_decode(audio), KNOWN)

    def _take_turn(self, stream, requests):
        first = next(requests)
        stream.requests.append(first)
        query = first.query_input
        if "audio" in query:
            if (yield from self._hear(stream, requests)):
                yield self._answer("I heard you.", ANSWER, interruptible=False)
            else:
                yield self._answer("", None)
            return
        self._drain(stream, requests)
        if "dtmf" in query:
            yield self._answer_digits(query.dtmf)
        elif query.event.event == "WELCOME":
            if dialled_of(stream) == SLOW:
                time.sleep(SLOWNESS)
            yield self._answer("Hello.", GREETING, interruptible=False, trigger_event="WELCOME")
        else:
            yield self._answer("I am back.", BACK, interruptible=False, trigger_event=query.event.event)

    def _answer_digits(self, dtmf):
        more = []
        if dtmf.digits == TRANSFER:
            more.append({"telephony_transfer_call": {"phone_number": NUMBER}})
        if dtmf.digits == GOODBYE_DIGIT:
            more.append({"end_interaction": {}})
        return self._answer("As you wish.", GOODBYE, interruptible=False, more=more, dtmf=dtmf)

    def _hear(self, stream, requests):
        """Listens until an utterance ends or the gateway closes; whether there was one."""
        types = self.types.StreamingRecognitionResult.MessageType
        heard, silent, pending = 0, None, b""
        for request in requests:
            stream.requests.append(request)
            pending += request.query_input.audio.audio
            while len(pending) >= sound.FRAME and (silent is None or silent < PAUSE):
                frame, pending = pending[: sound.FRAME], pending[sound.FRAME :]
                heard += len(frame)
                if sound.loudness(sound.mulaw_decode(frame)) > VOICE:
                    silent = 0
                elif silent is not None:
                    silent += len(frame) / sound.RATE
            if silent is not None and silent >= PAUSE:
                yield self._recognised(types.END_OF_SINGLE_UTTERANCE, "", heard)
                break
        self._drain(stream, requests)
        if silent is None:
            return False
        end = heard - round((PAUSE - BREATH) * sound.RATE)
        yield self._recognised(types.TRANSCRIPT, "a tone", end, is_final=True)
        return True


def caller_of(stream):
    return (stream.first.query_params.payload or {}).get("telephony", {}).get("caller_id")


def dialled_of(stream):
    return (stream.first.query_params.payload or {}).get("tandem", {}).get("dialled")
