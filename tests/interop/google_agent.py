"""An agent made of Google's generated types: a gRPC server that records what a gateway sends and answers with tones.

It plays one conversation: the event is greeted; speech is answered by a partial and a final response; digits are thanked
for, and that ends the conversation.
"""

import importlib
import threading
import time
from concurrent import futures
from dataclasses import dataclass
from dataclasses import field

import grpc

import sound

GREETING, PARTIAL, FINAL, GOODBYE = 440, 620, 1040, 1800
"""The tones, in hertz: away from each other's harmonics and from those of digits."""
SECONDS = {GREETING: 1.5, PARTIAL: 1.0, FINAL: 1.2, GOODBYE: 0.8}
"""How long each is."""
WORDS = "book a table for two"
"""What the agent claims to have understood, whatever was said."""
VOICE = 50
"""The loudness of 20 ms above which somebody speaks. The line is silent, so even the end of a word is heard."""
PAUSE = 0.5
"""Seconds of silence that end an utterance."""
BREATH = 0.2
"""Seconds of it that count as part of the last word."""
WEBHOOK = 0.3
"""Seconds between the partial and the final answer."""


@dataclass
class Stream:
    """One stream as the server saw it."""

    method: str
    metadata: dict
    requests: list = field(default_factory=list)
    """Parsed, in order."""
    requests_at_first_response: int | None = None
    """How much had come before the server said anything, headers included."""
    half_closed: bool = False
    """The gateway ended its side in order."""
    cancelled: bool = False
    """The gateway gave the stream up."""
    is_silent: bool = False
    """Nobody spoke on it, as far as the agent heard."""

    @property
    def first(self):
        return self.requests[0]

    def audio(self):
        """All audio that was sent, joined."""
        return b"".join(request.query_input.audio.audio for request in self.requests[1:])


class GoogleAgent:
    """The server, for one version of the package."""

    def __init__(self, version, workers=8, tls=None):
        """`workers` is how many streams can be open at once; `tls` are a key and a certificate, without which it is plain."""
        self.types = importlib.import_module(f"google.cloud.dialogflowcx_{version}")
        self.streams = []
        self._lock = threading.Lock()
        method = grpc.stream_stream_rpc_method_handler(
            self._streaming_detect_intent,
            request_deserializer=self.types.StreamingDetectIntentRequest.deserialize,
            response_serializer=self.types.StreamingDetectIntentResponse.serialize,
        )
        self.service = f"google.cloud.dialogflow.cx.{version}.Sessions"
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=workers), options=[("grpc.so_reuseport", 0)])
        handlers = grpc.method_handlers_generic_handler(self.service, {"StreamingDetectIntent": method})
        self._server.add_generic_rpc_handlers((handlers,))
        if tls:
            self.port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([tls]))
        else:
            self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(grace=0).wait(5)

    def _streaming_detect_intent(self, requests, context):
        """One turn. As at Google, the response headers leave with the first response: this sends none before."""
        stream = Stream("StreamingDetectIntent", dict(context.invocation_metadata()))
        with self._lock:
            self.streams.append(stream)
        try:
            for response in self._take_turn(stream, requests):
                if stream.requests_at_first_response is None:
                    stream.requests_at_first_response = len(stream.requests)
                yield response
        except grpc.RpcError:
            # That is how this library tells a handler that its client is gone.
            stream.cancelled = True

    def _take_turn(self, stream, requests):
        first = next(requests)
        stream.requests.append(first)
        if "audio" in first.query_input:
            yield from self._listen(stream, requests)
            yield self._answer("One moment.", PARTIAL, partial=True)
            time.sleep(WEBHOOK)
            yield self._answer("Please type your number.", FINAL, transcript=WORDS, digits=True)
            return
        self._drain(stream, requests)
        if "dtmf" in first.query_input:
            yield self._answer("Thank you. Goodbye.", GOODBYE, dtmf=first.query_input.dtmf, end=True)
        else:
            yield self._answer("Hello.", GREETING, trigger_event=first.query_input.event.event)

    def _listen(self, stream, requests):
        """Recognises one utterance: the signal comes before the last words, the answer after half-close."""
        types = self.types.StreamingRecognitionResult.MessageType
        heard, silent = 0, None
        pending = b""
        for request in requests:
            stream.requests.append(request)
            pending += request.query_input.audio.audio
            while len(pending) >= sound.FRAME and (silent is None or silent < PAUSE):
                frame, pending = pending[: sound.FRAME], pending[sound.FRAME :]
                heard += len(frame)
                if sound.loudness(sound.mulaw_decode(frame)) > VOICE:
                    if silent is None:
                        yield self._recognised(types.TRANSCRIPT, "book", heard)
                    silent = 0
                elif silent is not None:
                    silent += len(frame) / sound.RATE
            if silent is not None and silent >= PAUSE:
                yield self._recognised(types.END_OF_SINGLE_UTTERANCE, "", heard)
                break
        # Nothing of the last word is left after this.
        end = heard - round((PAUSE - BREATH) * sound.RATE)
        self._drain(stream, requests)
        yield self._recognised(types.TRANSCRIPT, WORDS, end, is_final=True)

    def _drain(self, stream, requests):
        """Waits until the gateway has half-closed."""
        stream.requests.extend(requests)
        stream.half_closed = True

    def _recognised(self, message_type, transcript, samples, is_final=False):
        result = self.types.StreamingRecognitionResult(
            message_type=message_type,
            transcript=transcript,
            is_final=is_final,
            speech_end_offset={"nanos": samples * 10**9 // sound.RATE % 10**9, "seconds": samples // sound.RATE},
            language_code="en-US",
        )
        if transcript and is_final:
            result.confidence = 0.9
        elif transcript:
            result.stability = 0.8
        return self.types.StreamingDetectIntentResponse(recognition_result=result)

    def _answer(self, text, tone, partial=False, digits=False, end=False, interruptible=True, more=(), **query):
        """`more` are response messages behind the text; without a tone nothing is said."""
        types = self.types
        messages = [{"text": {"text": [text], "allow_playback_interruption": interruptible}}] if text else []
        messages += more
        if end:
            messages.append({"end_interaction": {}})
        result = types.QueryResult(response_messages=messages, language_code="en-US", **query)
        if digits:
            pause = {"seconds": 3}
            settings = {"enabled": True, "max_digits": 10, "finish_digit": "#", "interdigit_timeout_duration": pause}
            result.advanced_settings = {"dtmf_settings": settings}
        kinds = types.DetectIntentResponse.ResponseType
        return types.StreamingDetectIntentResponse(
            detect_intent_response=types.DetectIntentResponse(
                response_id=text,
                query_result=result,
                output_audio=sound.tone(tone, SECONDS[tone]) if tone else b"",
                output_audio_config={
                    "audio_encoding": types.OutputAudioEncoding.OUTPUT_AUDIO_ENCODING_MULAW,
                    "sample_rate_hertz": sound.RATE,
                },
                response_type=kinds.PARTIAL if partial else kinds.FINAL,
            )
        )
