"""Google's own clients, v3 and v3beta1, talk to `tandem agent` and get what they would get from Dialogflow CX.

What is said, and on which page, is in config/local-agent.toml.
"""

import asyncio
import importlib
import itertools
import threading
import time
import uuid

import grpc
import pytest
from google.api_core import exceptions

import sound
from wire import unknown_fields

AGENT = "projects/interop/locations/global/agents/bistro"
TURN_TIMEOUT = 30
"""Seconds that one turn may take, with other work on the machine."""
CHUNK = sound.RATE // 10
"""100 ms of mu-law, as Google's samples send."""
LONGEST_TALK = 20
"""Seconds of audio after which a microphone gives up on a server that does not end the utterance."""
WELCOME = (
    "Welcome to Tandem Bistro. You can book a table, ask for our opening hours, or speak to a person. How can I help you?"
)


class Version:
    """One version of Google's package, with clients of it for our server."""

    def __init__(self, name, address):
        self.types = importlib.import_module(f"google.cloud.dialogflowcx_{name}")
        self.transports = importlib.import_module(f"google.cloud.dialogflowcx_{name}.services.sessions.transports")
        self.address = address
        channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        transport = self.transports.SessionsGrpcTransport(channel=channel)
        self.client = self.types.SessionsClient(transport=transport)

    def async_client(self):
        """Must be made in the loop that uses it."""
        channel = grpc.aio.insecure_channel(self.address, options=[("grpc.enable_http_proxy", 0)])
        transport = self.transports.SessionsGrpcAsyncIOTransport(channel=channel)
        return self.types.SessionsAsyncClient(transport=transport)

    def input(self, **kind):
        return self.types.QueryInput(language_code="en-US", **kind)

    def text(self, text):
        return self.input(text=self.types.TextInput(text=text))

    def event(self, event):
        return self.input(event=self.types.EventInput(event=event))

    def dtmf(self, digits, finish_digit=""):
        return self.input(dtmf=self.types.DtmfInput(digits=digits, finish_digit=finish_digit))

    def speech(self, **config):
        """The input of a first message that announces mu-law audio."""
        encoding = self.types.AudioEncoding.AUDIO_ENCODING_MULAW
        settings = {"audio_encoding": encoding, "sample_rate_hertz": sound.RATE, "single_utterance": True} | config
        return self.input(audio=self.types.AudioInput(config=self.types.InputAudioConfig(**settings)))

    def sound(self, encoding, rate):
        return self.types.OutputAudioConfig(
            audio_encoding=self.types.OutputAudioEncoding[f"OUTPUT_AUDIO_ENCODING_{encoding}"], sample_rate_hertz=rate
        )

    def on_page(self, page, **parameters):
        """Query parameters that put the session there."""
        return self.types.QueryParameters(
            current_page=f"{AGENT}/flows/script/pages/{page}", parameters=parameters or None
        )

    def first(self, session, query_input, **more):
        return self.types.StreamingDetectIntentRequest(session=session, query_input=query_input, **more)

    def ask(self, session, query_input, **more):
        """A turn in one request and one response."""
        request = self.types.DetectIntentRequest(session=session, query_input=query_input, **more)
        response = self.client.detect_intent(request, timeout=TURN_TIMEOUT)
        assert unknown_fields(type(response).pb(response)) == []
        return response

    def stream(self, requests):
        """A turn in a stream, as a [`Turn`]."""
        turn = Turn(self.types)
        for response in self.client.streaming_detect_intent(requests, timeout=TURN_TIMEOUT):
            turn.take(response)
        return turn

    def say(self, session, audio, speed=1, **more):
        """A spoken turn, as a good client takes it: half-closes when the server says that the utterance is over."""
        config = more.pop("config", {})
        microphone = Microphone(self.types, self.first(session, self.speech(**config), **more), audio, speed)
        turn = Turn(self.types)
        try:
            for response in self.client.streaming_detect_intent(microphone.requests(), timeout=TURN_TIMEOUT):
                turn.take(response)
                if turn.signals:
                    microphone.stop()
        finally:
            microphone.stop()
        return turn


class Microphone:
    """The requests of a spoken turn: the config, then 100 ms of audio at a time, then silence until it is stopped."""

    def __init__(self, types, first, audio, speed):
        self.types, self.first, self.audio, self.speed = types, first, audio, speed
        self.stopped = threading.Event()

    def stop(self):
        self.stopped.set()

    def requests(self):
        yield self.first
        for message in self.messages():
            yield message
            if self.stopped.wait(0.1 / self.speed):
                return

    async def requests_async(self):
        yield self.first
        for message in self.messages():
            yield message
            await asyncio.sleep(0.1 / self.speed)
            if self.stopped.is_set():
                return

    def messages(self):
        chunks = [self.audio[start : start + CHUNK] for start in range(0, len(self.audio), CHUNK)]
        for chunk in itertools.islice(itertools.chain(chunks, itertools.repeat(sound.silence(0.1))), LONGEST_TALK * 10):
            audio = self.types.AudioInput(audio=chunk)
            yield self.types.StreamingDetectIntentRequest(query_input=self.types.QueryInput(audio=audio))


class Turn:
    """What came back on a stream, in its order and with its times."""

    def __init__(self, types):
        self.types = types
        self.order = []
        self.recognised = []
        self.answers = []
        self.answered_at = []

    def take(self, response):
        assert unknown_fields(type(response).pb(response)) == []
        kinds = self.types.StreamingRecognitionResult.MessageType
        if "detect_intent_response" in response:
            self.answers.append(response.detect_intent_response)
            self.answered_at.append(time.monotonic())
            self.order.append(response.detect_intent_response.response_type.name)
            return
        result = response.recognition_result
        self.recognised.append(result)
        if result.message_type == kinds.TRANSCRIPT:
            self.order.append("final" if result.is_final else "interim")
        else:
            self.order.append(result.message_type.name)

    @property
    def signals(self):
        return self.order.count("END_OF_SINGLE_UTTERANCE")

    @property
    def finals(self):
        return [result.transcript for result in self.recognised if result.is_final]

    @property
    def result(self):
        return self.answers[-1].query_result

    def without_repeats(self):
        return [kind for kind, _ in itertools.groupby(self.order)]


@pytest.fixture(params=["v3", "v3beta1"])
def version(request, agent):
    return Version(request.param, agent)


@pytest.fixture
def session():
    return f"{AGENT}/sessions/{uuid.uuid4()}"


@pytest.fixture(scope="module")
def book_a_table():
    return sound.silence(0.5) + sound.speak("book a table for two")


@pytest.fixture(scope="module")
def yes():
    return sound.silence(0.5) + sound.speak("yes")


def match_type(result):
    return result.match.match_type.name


def texts(result):
    return [text for message in result.response_messages for text in message.text.text]


def kinds(result):
    """Which kinds of messages an answer holds, in order."""
    return [type(message).pb(message).WhichOneof("message") for message in result.response_messages]


def test_text_is_matched_fills_a_parameter_and_moves_the_conversation(version, session):
    result = version.ask(session, version.text("book a table for two")).query_result
    assert match_type(result) == "INTENT"
    assert result.match.intent.display_name == "book"
    assert result.match.intent.name == f"{AGENT}/intents/book"
    assert result.text == "book a table for two"
    assert result.language_code == "en-US"
    assert dict(result.parameters) == {"number": 2}
    assert result.current_page.name == f"{AGENT}/flows/script/pages/day"
    assert texts(result) == ["A table for 2. For which day?"]

    # The next request names the session and nothing else, and finds the conversation where it was.
    result = version.ask(session, version.text("on Friday, please")).query_result
    assert match_type(result) == "PARAMETER_FILLING"
    assert texts(result) == ["So that is a table for 2, friday. Is that correct?"]
    assert result.current_page.display_name == "confirm"


def test_text_that_fits_nothing_is_no_match_and_stays_on_the_page(version, session):
    result = version.ask(session, version.text("do you sell bicycles")).query_result
    assert match_type(result) == "NO_MATCH"
    assert result.current_page.display_name == "start"
    assert texts(result) == ["Sorry, I did not understand that. You can say, book a table for two."]


def test_the_welcome_event_greets_and_tells_how_the_page_takes_digits(version, session):
    result = version.ask(session, version.event("WELCOME")).query_result
    assert match_type(result) == "EVENT"
    assert result.match.event == "WELCOME"
    assert result.trigger_event == "WELCOME"
    assert texts(result) == [WELCOME]
    assert [message.text.allow_playback_interruption for message in result.response_messages] == [True]
    digits = result.advanced_settings.dtmf_settings
    assert (digits.enabled, digits.max_digits, digits.finish_digit) == (True, 1, "#")
    assert digits.interdigit_timeout_duration.total_seconds() == 3
    assert result.advanced_settings.speech_settings.no_speech_timeout.total_seconds() == 5


def test_digits_choose_and_fill_in(version, session):
    result = version.ask(session, version.dtmf("1")).query_result
    assert (match_type(result), result.match.intent.display_name) == ("INTENT", "book.start")
    assert result.current_page.display_name == "people"
    assert result.dtmf.digits == "1"

    result = version.ask(session, version.dtmf("12", finish_digit="#")).query_result
    assert match_type(result) == "PARAMETER_FILLING"
    assert (result.dtmf.digits, result.dtmf.finish_digit) == ("12", "#")
    assert result.current_page.display_name == "day"
    assert dict(result.parameters) == {"number": 12}


def test_an_intent_is_triggered_by_its_name(version, session):
    intent = version.types.IntentInput(intent=f"{AGENT}/intents/hours")
    result = version.ask(session, version.input(intent=intent)).query_result
    assert match_type(result) == "DIRECT_INTENT"
    assert result.match.intent.display_name == "hours"
    assert "We are open every day" in texts(result)[0]


def test_a_handoff_a_transfer_and_an_end_are_messages(version, session):
    result = version.ask(session, version.text("operator")).query_result
    assert kinds(result) == ["text", "live_agent_handoff"]
    assert not result.response_messages[0].text.allow_playback_interruption
    assert dict(result.response_messages[1].live_agent_handoff.metadata) == {
        "queue": "front-desk",
        "reason": "caller asked",
    }
    result = version.ask(session, version.text("transfer me")).query_result
    assert kinds(result) == ["text", "telephony_transfer_call"]
    assert result.response_messages[1].telephony_transfer_call.phone_number == "+15551234567"

    assert kinds(version.ask(session, version.text("goodbye")).query_result) == ["text", "end_interaction"]


def test_matching_moves_nothing_and_fulfilling_does(version, session):
    types = version.types
    match = types.MatchIntentRequest(session=session, query_input=version.text("book a table for six people"))
    matched = version.client.match_intent(match, timeout=TURN_TIMEOUT)
    assert unknown_fields(type(matched).pb(matched)) == []
    assert [found.intent.display_name for found in matched.matches] == ["book"]
    assert dict(matched.matches[0].parameters) == {"number": 6}
    assert matched.text == "book a table for six people"
    assert matched.current_page.display_name == "start"

    again = version.client.match_intent(match, timeout=TURN_TIMEOUT)
    assert again.current_page.display_name == "start"

    fulfil = types.FulfillIntentRequest(
        match_intent_request=match, match=matched.matches[0], output_audio_config=version.sound("MULAW", 8000)
    )
    fulfilled = version.client.fulfill_intent(fulfil, timeout=TURN_TIMEOUT)
    assert unknown_fields(type(fulfilled).pb(fulfilled)) == []
    assert fulfilled.query_result.current_page.display_name == "day"
    assert texts(fulfilled.query_result) == ["A table for 6. For which day?"]
    assert len(fulfilled.output_audio) > 1.5 * sound.RATE


def test_linear_audio_comes_as_a_wav_file_and_mulaw_bare_and_both_sound_the_same(version, session):
    linear = version.ask(session, version.event("WELCOME"), output_audio_config=version.sound("LINEAR_16", 16000))
    assert linear.output_audio_config == version.sound("LINEAR_16", 16000)
    (samples,), rate = sound.read_wav(linear.output_audio)
    assert rate == 16000
    seconds = len(samples) / rate
    assert 5 < seconds < 15
    assert sound.loudness(samples) > 500

    mulaw = version.ask(session, version.event("WELCOME"), output_audio_config=version.sound("MULAW", 8000))
    assert mulaw.output_audio_config == version.sound("MULAW", 8000)
    assert not mulaw.output_audio.startswith(b"RIFF")
    assert len(mulaw.output_audio) / sound.RATE == pytest.approx(seconds, abs=0.01)
    assert sound.loudness(sound.mulaw_decode(mulaw.output_audio)) == pytest.approx(sound.loudness(samples), rel=0.1)

    assert version.ask(session, version.event("WELCOME")).output_audio == b"", "none was asked for"


def test_speech_gives_interim_words_the_end_signal_the_final_words_and_then_the_answer(version, session, book_a_table):
    turn = version.say(session, book_a_table, output_audio_config=version.sound("MULAW", 8000))
    assert turn.without_repeats() == ["interim", "END_OF_SINGLE_UTTERANCE", "final", "FINAL"]
    assert turn.signals == 1
    assert turn.finals == ["book a table for two"]

    interims = [result for result, kind in zip(turn.recognised, turn.order) if kind == "interim"]
    # Interim words are guesses, and may be wrong. But words they are: clients stop their prompt for them.
    assert all(result.transcript for result in interims), interims
    assert all(0 <= result.stability <= 1 for result in interims)
    final = turn.recognised[-1]
    assert 0.5 < final.confidence <= 1
    assert final.language_code == "en-US"
    assert final.speech_end_offset.total_seconds() == pytest.approx(len(book_a_table) / sound.RATE, abs=0.5)

    assert turn.result.transcript == "book a table for two"
    assert match_type(turn.result) == "INTENT"
    assert texts(turn.result) == ["A table for 2. For which day?"]
    assert len(turn.answers[0].output_audio) > 1.5 * sound.RATE


def test_without_single_utterance_the_client_ends_the_turn(version, session, book_a_table):
    def requests():
        yield version.first(session, version.speech(single_utterance=False))
        audio = book_a_table + sound.silence(1.5)
        for start in range(0, len(audio), CHUNK):
            chunk = version.types.AudioInput(audio=audio[start : start + CHUNK])
            yield version.types.StreamingDetectIntentRequest(query_input=version.types.QueryInput(audio=chunk))

    turn = version.stream(requests())
    assert turn.signals == 0
    assert turn.finals == ["book a table for two"]
    assert turn.order[-2:] == ["final", "FINAL"]
    assert turn.result.current_page.display_name == "day"


def test_a_slow_step_sends_a_partial_answer_ahead(version, session, yes):
    turn = version.say(
        session,
        yes,
        speed=2,
        query_params=version.on_page("confirm", number=2, day="tomorrow"),
        output_audio_config=version.sound("MULAW", 8000),
        enable_partial_response=True,
    )
    assert turn.order[-3:] == ["final", "PARTIAL", "FINAL"], turn.order
    partial, final = turn.answers
    assert (partial.allow_cancellation, final.allow_cancellation) == (True, False)
    assert texts(partial.query_result) == ["One moment please, while I check."]
    assert texts(final.query_result) == [
        "Your table for 2, tomorrow, is confirmed.",
        "Is there anything else I can do for you?",
    ]
    assert dict(final.query_result.response_messages[1].conversation_success.metadata) == {"booked": True}
    assert match_type(final.query_result) == "INTENT"
    assert final.query_result.current_page.display_name == "more"
    assert len(partial.output_audio) > sound.RATE and len(final.output_audio) > 2 * sound.RATE
    assert turn.answered_at[1] - turn.answered_at[0] > 1, "the partial answer waited for the slow step"


def test_without_partial_answers_all_is_in_the_final_one(version, session):
    params = version.on_page("confirm", number=2, day="tomorrow")
    turn = version.stream(iter([version.first(session, version.text("yes"), query_params=params)]))
    assert turn.order == ["FINAL"]
    assert len(texts(turn.result)) == 3


def test_one_request_can_have_a_stream_of_answers(version, session):
    params = version.on_page("confirm", number=3, day="friday")
    request = version.types.DetectIntentRequest(session=session, query_input=version.text("yes"), query_params=params)
    answers = list(version.client.server_streaming_detect_intent(request, timeout=TURN_TIMEOUT))
    assert [answer.response_type.name for answer in answers] == ["PARTIAL", "FINAL"]
    assert texts(answers[1].query_result)[0] == "Your table for 3, friday, is confirmed."


def test_events_and_digits_can_be_streamed_too(version, session):
    turn = version.stream(iter([version.first(session, version.event("WELCOME"))]))
    assert (turn.order, texts(turn.result)) == (["FINAL"], [WELCOME])
    turn = version.stream(iter([version.first(session, version.dtmf("1"))]))
    assert (turn.order, turn.result.current_page.display_name) == (["FINAL"], "people")


def test_silence_after_the_prompt_is_no_input(version, session):
    # The prompt of two seconds and the five after it are counted in audio, which may come faster than it is spoken.
    prompt = {"no_barge_in_duration": {"seconds": 0}, "total_duration": {"seconds": 2}}
    turn = version.say(session, b"", speed=20, config={"barge_in_config": prompt})
    assert turn.order == ["END_OF_SINGLE_UTTERANCE", "FINAL"]
    assert turn.recognised[0].speech_end_offset.total_seconds() == pytest.approx(7, abs=0.2)
    assert match_type(turn.result) == "NO_INPUT"
    assert turn.result.transcript == ""
    assert texts(turn.result) == ["Are you still there? You can say, book a table for two."]


def test_a_wrong_first_message_is_an_invalid_argument(version, session):
    no_language = version.text("hello")
    no_language.language_code = ""
    bare_audio = version.input(audio=version.types.AudioInput(audio=sound.silence(0.1)))
    for what, first in [
        ("no input", version.types.StreamingDetectIntentRequest(session=session)),
        ("no session", version.types.StreamingDetectIntentRequest(query_input=version.text("hello"))),
        ("a session of the old API", version.first("projects/p/agent/sessions/1", version.text("hello"))),
        ("no language", version.first(session, no_language)),
        ("audio without its config", version.first(session, bare_audio)),
        ("mu-law at 16 kHz", version.first(session, version.speech(sample_rate_hertz=16000))),
    ]:
        try:
            answers = version.stream(iter([first])).order
        except exceptions.InvalidArgument as error:
            assert error.message, what
        else:
            pytest.fail(f"{what} was answered with {answers}")


def test_a_later_message_without_audio_is_an_invalid_argument(version, session):
    empty = version.types.StreamingDetectIntentRequest(query_input=version.types.QueryInput())
    with pytest.raises(exceptions.InvalidArgument):
        version.stream(iter([version.first(session, version.speech()), empty]))


def test_the_asynchronous_client_takes_text_and_spoken_turns(version, session, book_a_table):
    async def talk():
        client = version.async_client()
        request = version.types.DetectIntentRequest(session=session, query_input=version.event("WELCOME"))
        welcome = await client.detect_intent(request, timeout=TURN_TIMEOUT)
        microphone = Microphone(version.types, version.first(session, version.speech()), book_a_table, speed=2)
        turn = Turn(version.types)
        requests = microphone.requests_async()
        async for response in await client.streaming_detect_intent(requests, timeout=TURN_TIMEOUT):
            turn.take(response)
            if turn.signals:
                microphone.stop()
        await client.transport.close()
        return welcome, turn

    welcome, turn = asyncio.run(talk())
    assert texts(welcome.query_result) == [WELCOME]
    assert turn.without_repeats() == ["interim", "END_OF_SINGLE_UTTERANCE", "final", "FINAL"]
    assert turn.finals == ["book a table for two"]
    assert turn.result.current_page.display_name == "day"
