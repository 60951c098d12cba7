"""An agent of Google's types that asks much of a gateway.

Its answers come with advanced settings, and its greeting with a message for another channel. Speech is answered by a call of a tool;
what comes of the tool is answered in words; and silence after that by the end.
"""

import time

from google_agent import FINAL
from google_agent import GOODBYE
from google_agent import GREETING
from google_agent import WORDS
from google_agent import GoogleAgent

GREETING_WORDS = "Welcome to the bistro where every guest of ours has a table by the window"
"""Enough of them that some are heard before a caller cuts in, and some are not."""
GREETING_REPEATED = 2
"""How often the greeting's tone is sounded: long enough to speak over it."""
NO_SPEECH_TIMEOUT = 2
"""Seconds of silence that the agent allows; the gateway's own default is 5."""
MODEL = "telephony_short"
"""The recogniser's model that the agent wants for English."""
CHANNEL, OTHER_CHANNEL = "phone", "chat"
"""Ours and another."""
TOOL = "projects/interop/locations/global/agents/bistro/tools/tables"
"""What no gateway here can run."""
ACTION = "free_tables"
"""What it should do."""


class WishingAgent(GoogleAgent):
    """The server."""

    def __init__(self, version):
        super().__init__(version)
        self.times = {}
        """When streams were half-closed and answered, by their order: pairs of seconds."""

    def _take_turn(self, stream, requests):
        first = next(requests)
        stream.requests.append(first)
        number = self.streams.index(stream)
        if "audio" in first.query_input:
            yield from self._hear(stream, requests)
            answer = self._answer_to_speech(stream)
        else:
            self._drain(stream, requests)
            answer = self._answer_to(first.query_input)
        # Google sends what is in force with every answer, and what is not there is not in force.
        answer.detect_intent_response.query_result.advanced_settings = {
            "speech_settings": {
                "endpointer_sensitivity": 90,
                "no_speech_timeout": {"seconds": NO_SPEECH_TIMEOUT},
                "models": {"en": MODEL, "de": "telephony"},
            }
        }
        half_closed = time.monotonic()
        yield answer
        self.times[number] = half_closed, time.monotonic()

    def _hear(self, stream, requests):
        """Recognises an utterance as the other agent does; of silence it makes nothing."""
        recognised = []
        for response in self._listen(stream, requests):
            is_final = response.recognition_result.is_final
            if recognised or not is_final:
                recognised.append(response)
                yield response
        stream.is_silent = not recognised

    def _answer_to_speech(self, stream):
        if stream.is_silent:
            kinds = self.types.Match.MatchType
            return self._answer("Goodbye.", GOODBYE, end=True, match={"match_type": kinds.NO_INPUT})
        call = {"tool": TOOL, "action": ACTION, "input_parameters": {"guests": 2}}
        return self._answer("", None, transcript=WORDS, more=[{"tool_call": call}])

    def _answer_to(self, query_input):
        if "tool_call_result" in query_input:
            return self._answer("I cannot look.", FINAL)
        other = {"text": {"text": ["Click here."]}, "channel": OTHER_CHANNEL}
        ours = {"text": {"text": ["Hello."]}, "channel": CHANNEL}
        response = self._answer(GREETING_WORDS, GREETING, more=[other, ours], trigger_event=query_input.event.event)
        response.detect_intent_response.output_audio *= GREETING_REPEATED
        return response
