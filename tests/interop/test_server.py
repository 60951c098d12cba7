"""`tandem serve` calls a server made of Google's own generated types, and speaks to it as Google documents it."""

import re

import pytest

import google_agent
import sound
import wishing_agent
from conftest import found
from conftest import free_port
from conftest import run_programs
from google_agent import FINAL
from google_agent import GOODBYE
from google_agent import GREETING
from google_agent import PARTIAL
from google_agent import SECONDS
from google_agent import GoogleAgent
from refusing_agent import RefusingAgent
from refusing_agent import TOKEN
from refusing_agent import TokenServer
from refusing_agent import make_certificate
from wishing_agent import NO_SPEECH_TIMEOUT
from wishing_agent import WishingAgent
from wire import field_names
from wire import unknown_fields

ENVIRONMENT = "projects/interop/locations/global/agents/bistro/environments/prod"
CALLER, DIALLED = "+15550100", "+15550199"
CALL_TIMEOUT = 60
"""Seconds for a call that takes about twelve."""
REPLAY = 0.3
"""Seconds of a silent caller's audio that a stream may have from before it was opened: a syllable that is beginning."""
INTERRUPTED_AFTER = 1.5
"""Seconds of the call after which the caller speaks over a greeting of three."""
GRACE = 0.7
"""Seconds by which the gateway outwaits the agent's own clock of silence."""
REFUSAL_TIMEOUT = 12
"""Seconds in which a gateway without credentials must give up: five for the metadata server, and the start."""

GATEWAY = """
[http]
listen = "127.0.0.1:{http}"
[admin]
listen = "127.0.0.1:{admin}"
[sip]
listen = []
[twilio]
parameters = ["Direction"]
[log]
filter = "info,tandem=debug"
[agents.official]
kind = "{kind}"
name = "projects/interop/locations/global/agents/bistro"
environment = "prod"
language = "en-US"
greeting = {{ event = "WELCOME" }}
endpoint = "http://127.0.0.1:{agent}"
{more}
"""

WITHOUT_CREDENTIALS = """
[http]
listen = "127.0.0.1:{http}"
[admin]
listen = "127.0.0.1:{admin}"
[sip]
listen = []
[agents.official]
kind = "dialogflow-cx"
name = "projects/interop/locations/europe-west3/agents/bistro"
language = "en-US"
"""


class Call:
    """A call that is over: what the caller's program said, what was recorded, what the agent saw."""

    def __init__(self, agent, said, output, exit_code, recording, log):
        self.agent, self.said, self.output, self.exit_code, self.log = agent, said, output, exit_code, log
        (_, self.heard), self.rate = sound.read_wav(recording) if recording.exists() else (([], []), None)

    def turns(self):
        """The kind of input of each stream, in order."""
        return [kind_of(stream) for stream in self.agent.streams]

    def stream(self, kind):
        """The first stream with this kind of input."""
        return next(stream for stream in self.agent.streams if kind_of(stream) == kind)


def kind_of(stream):
    return pb(stream.first).query_input.WhichOneof("input")


def pb(message):
    """The plain protobuf message, which tells what is set."""
    return type(message).pb(message)


@pytest.fixture(scope="module", params=["v3", "v3beta1"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def start_for_call(version):
    """Starts programs that live as long as the tests of one call."""
    yield from run_programs()


@pytest.fixture(scope="module")
def call(version, start_for_call, tmp_path_factory):
    """One call, made once and looked at by several tests: the caller listens, speaks, listens, presses `42#`."""
    folder = tmp_path_factory.mktemp("call")
    says = ["--say", folder / "said.wav", "--dtmf", "42#"]
    return take_call(start_for_call, folder, version, GoogleAgent(version), "", says)


@pytest.fixture(scope="module")
def wishful(version, start_for_call, tmp_path_factory):
    """Likewise, with an agent that asks much: the caller speaks over the greeting, then is silent until the agent ends it."""
    folder = tmp_path_factory.mktemp("wishful")
    says = ["--say-at", f"{INTERRUPTED_AFTER}={folder / 'said.wav'}", "--seconds", str(CALL_TIMEOUT / 2)]
    channel = f'channel = "{wishing_agent.CHANNEL}"\nmodel = "telephony"'
    return take_call(start_for_call, folder, f"wishful-{version}", WishingAgent(version), channel, says)


def take_call(start, folder, name, agent, more, says):
    """A call between this agent, whose configuration has `more`, and a caller who does what `says` says."""
    http, admin = free_port(), free_port()
    version = name.rpartition("-")[2]
    kind = {"v3": "dialogflow-cx", "v3beta1": "dialogflow-cx-v3beta1"}[version]
    # Of the two zeros of mu-law, the positive one: the other is not the same after a WAV file.
    said = sound.speak("book a table for two").replace(b"\x7f", b"\xff")
    sound.write_wav(folder / "said.wav", said)
    with agent:
        config = folder / "tandem.toml"
        config.write_text(GATEWAY.format(http=http, admin=admin, kind=kind, agent=agent.port, more=more))
        gateway = start(f"gateway-{name}", "tandem", "serve", "--config", config, cwd=folder)
        gateway.wait_for_port(http)
        gateway.wait_for_port(admin)
        caller = start(
            f"caller-{name}",
            *["tandem-load", "call", f"ws://127.0.0.1:{http}/twilio/media", "--admin", f"http://127.0.0.1:{admin}"],
            *[*says, "--record", folder / "heard.wav", "--from", CALLER, "--to", DIALLED],
            cwd=folder,
        )
        exit_code = caller.wait(CALL_TIMEOUT)
        gateway.stop()
    return Call(agent, said, caller.output(), exit_code, folder / "heard.wav", gateway.output())


def test_the_conversation_goes_as_the_agent_plays_it_and_the_agent_ends_it(call):
    assert call.exit_code == 0, call.output
    # The second stream of speech hears nothing: digits take its place.
    assert call.turns() == ["event", "audio", "audio", "dtmf"]
    assert "gateway ended the call: agent_ended" in call.output
    lines = ["agent says  “Hello.”", f"agent heard  “{google_agent.WORDS}”", "agent says  “Thank you. Goodbye.”"]
    for line in lines:
        assert line in call.output


def test_google_s_types_know_every_field_that_is_sent(call):
    sent = [pb(request) for stream in call.agent.streams for request in stream.requests]
    assert len(sent) > 20
    assert [name for message in sent for name in unknown_fields(message)] == []


def test_every_turn_names_the_same_session_in_the_environment(call):
    sessions = {stream.first.session for stream in call.agent.streams}
    assert len(sessions) == 1
    parent, _, session = sessions.pop().rpartition("/sessions/")
    assert parent == ENVIRONMENT
    assert re.fullmatch(r"[\w-]{1,36}", session, re.ASCII), session


def test_every_turn_asks_for_mulaw_and_partial_answers_and_tells_who_calls(call):
    encodings = call.agent.types.OutputAudioEncoding
    for number, stream in enumerate(call.agent.streams):
        first = stream.first
        assert first.query_input.language_code == "en-US"
        assert first.output_audio_config.audio_encoding == encodings.OUTPUT_AUDIO_ENCODING_MULAW
        assert first.output_audio_config.sample_rate_hertz == 8000
        assert first.enable_partial_response
        payload = first.query_params.payload
        assert payload["telephony"]["caller_id"] == CALLER
        assert payload["tandem"]["dialled"] == DIALLED
        # Set again, they would undo what the agent made of them.
        parameters = dict(first.query_params.parameters or {})
        assert parameters == ({"Direction": "inbound"} if number == 0 else {})


def test_plain_text_carries_no_credentials_and_the_client_names_itself(call):
    for stream in call.agent.streams:
        assert "authorization" not in stream.metadata
        assert "gl-rust/" in stream.metadata["x-goog-api-client"]
        # Google's own clients send no routing header on a stream of requests.
        assert "x-goog-request-params" not in stream.metadata


def test_the_greeting_is_an_event_alone(call):
    stream = call.stream("event")
    assert len(stream.requests) == 1 and stream.half_closed
    assert stream.first.query_input.event.event == "WELCOME"


def test_speech_is_announced_first_and_is_nothing_but_audio_after(call):
    encodings = call.agent.types.AudioEncoding
    for stream in call.agent.streams:
        if kind_of(stream) != "audio":
            continue
        first = stream.first.query_input.audio
        assert first.audio == b""
        assert first.config.audio_encoding == encodings.AUDIO_ENCODING_MULAW
        assert first.config.sample_rate_hertz == 8000
        assert first.config.single_utterance
        for request in map(pb, stream.requests[1:]):
            assert field_names(request) == ["query_input"]
            assert field_names(request.query_input) == ["audio"]
            assert field_names(request.query_input.audio) == ["audio"]
            assert 0 < len(request.query_input.audio.audio) <= 25_000


def test_the_barge_in_window_is_what_is_left_of_the_prompt(call):
    no_barge_in, total = window_of(call.agent.streams[1])
    assert no_barge_in == 0, "the whole greeting may be interrupted"
    assert total == pytest.approx(SECONDS[GREETING], abs=0.4)


def test_what_cannot_be_interrupted_is_outside_the_barge_in_window(call):
    # The partial answer, which cannot be interrupted, is still being heard; the final one, behind it, can be.
    no_barge_in, total = window_of(call.agent.streams[2])
    assert no_barge_in == pytest.approx(SECONDS[PARTIAL] - google_agent.WEBHOOK, abs=REPLAY)
    assert total - no_barge_in == pytest.approx(SECONDS[FINAL], abs=0.1)


def test_a_new_stream_does_not_begin_with_the_silence_since_the_last_words(call):
    # Windows count the stream's own audio, so what is sent again makes them longer.
    _, total = window_of(call.agent.streams[2])
    prompt = SECONDS[PARTIAL] - google_agent.WEBHOOK + SECONDS[FINAL]
    assert total == pytest.approx(prompt, abs=REPLAY), f"{total - prompt:.2f} s were sent again"


def window_of(stream):
    """A stream's barge-in window: what is protected and its whole length, in seconds."""
    window = stream.first.query_input.audio.config.barge_in_config
    return window.no_barge_in_duration.total_seconds(), window.total_duration.total_seconds()


def test_audio_flows_while_the_server_has_not_sent_its_headers(call):
    stream = call.stream("audio")
    # The greeting is on, so the caller is silent and the recogniser has nothing to say for a good second.
    assert stream.requests_at_first_response > 10


def test_the_agent_hears_what_the_caller_says(call):
    stream = call.stream("audio")
    assert stream.half_closed, "the end of the utterance was not answered by a half-close"
    audio, said = stream.audio(), call.said
    frames = [said[start : start + sound.FRAME] for start in range(0, len(said) - sound.FRAME, sound.FRAME)]
    voiced = [frame for frame in frames if sound.loudness(sound.mulaw_decode(frame)) > google_agent.VOICE]
    # Mu-law goes through untouched, so frames are found again byte for byte; a busy machine may lose a few.
    found = [frame for frame in voiced if frame in audio]
    assert len(voiced) > 20
    assert len(found) >= 0.95 * len(voiced), f"{len(found)} of {len(voiced)} frames"


def test_digits_give_up_the_open_stream_and_arrive_as_one_input(call):
    listening, digits = call.agent.streams[-2:]
    # Half-closed, it would make the agent answer an utterance that nobody made.
    assert listening.cancelled and not listening.half_closed
    assert digits.first.query_input.dtmf.digits == "42"
    assert digits.first.query_input.dtmf.finish_digit == "#"
    assert len(digits.requests) == 1 and digits.half_closed


def test_the_caller_hears_every_answer_in_order_and_whole(call):
    assert call.rate == sound.RATE
    heard = sound.tones(call.heard, SECONDS)
    assert [tone for tone, _ in heard] == [GREETING, PARTIAL, FINAL, GOODBYE]
    for tone, seconds in heard:
        assert seconds == pytest.approx(SECONDS[tone], abs=0.15), f"{tone} Hz"


def test_an_agent_that_asks_much_is_heard_to_its_end(wishful):
    assert wishful.exit_code == 0, wishful.output
    assert wishful.turns() == ["event", "audio", "tool_call_result", "audio"], wishful.output
    assert "gateway ended the call: agent_ended" in wishful.output


def test_google_s_types_know_every_field_of_what_is_answered_to_wishes(wishful):
    sent = [pb(request) for stream in wishful.agent.streams for request in stream.requests]
    assert [name for message in sent for name in unknown_fields(message)] == []


def test_a_tool_that_cannot_be_run_is_answered_with_an_error(wishful):
    result = pb(wishful.stream("tool_call_result").first).query_input.tool_call_result
    assert (result.tool, result.action) == (wishing_agent.TOOL, wishing_agent.ACTION)
    assert result.WhichOneof("result") == "error"
    assert result.error.message


def test_what_was_heard_of_a_prompt_that_was_cut_is_told_once_and_then_removed_by_a_null(wishful):
    greeting, _, told, removed = [pb(stream.first).query_params.parameters.fields for stream in wishful.agent.streams]
    assert "heard_text" not in greeting
    heard, cut_at = told["heard_text"].string_value, told["cut_at_ms"].number_value
    assert 500 < cut_at < SECONDS[GREETING] * wishing_agent.GREETING_REPEATED * 1000
    assert heard and wishing_agent.GREETING_WORDS.startswith(heard), heard
    assert {name: value.WhichOneof("kind") for name, value in removed.items()} == {
        "heard_text": "null_value",
        "cut_at_ms": "null_value",
    }


def test_the_channel_is_asked_for_in_every_turn_and_what_is_for_another_is_told(wishful):
    channels = {stream.first.query_params.channel for stream in wishful.agent.streams}
    assert channels == {wishing_agent.CHANNEL}
    assert "Click here." not in wishful.output
    assert "agent says  “Hello.”" in wishful.output
    told = [line for line in wishful.log.splitlines() if "something unsupported" in line]
    for name in ["channel", "advanced_settings.endpointer_sensitivity"]:
        assert len([line for line in told if line.endswith(f" {name}")]) == 1, told


def test_the_agent_s_model_for_the_language_comes_before_the_configured_one(wishful):
    models = [
        stream.first.query_input.audio.config.model for stream in wishful.agent.streams if kind_of(stream) == "audio"
    ]
    assert models == [wishing_agent.MODEL] * 2


def test_the_agent_s_own_time_of_silence_is_obeyed(wishful):
    (_, answered), (half_closed, _) = wishful.agent.times[2], wishful.agent.times[3]
    silence = half_closed - answered - SECONDS[FINAL]
    assert silence == pytest.approx(NO_SPEECH_TIMEOUT + GRACE, abs=0.8)


def test_a_token_that_is_refused_is_replaced_and_the_caller_is_greeted(start, tmp_path):
    if found("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = make_certificate(tmp_path)
    http, admin = free_port(), free_port()
    tls = key.read_bytes(), certificate.read_bytes()
    with TokenServer() as tokens, RefusingAgent("v3", tls=tls) as agent:
        tokens.write_credentials(tmp_path / "user.json")
        more = f'credentials = "{tmp_path / "user.json"}"'
        config = tmp_path / "tandem.toml"
        text = GATEWAY.format(http=http, admin=admin, kind="dialogflow-cx", agent=agent.port, more=more)
        config.write_text(text.replace("http://127.0.0.1", "https://127.0.0.1"))
        gateway = start(
            "gateway-refused", "tandem", "serve", "--config", config, cwd=tmp_path, SSL_CERT_FILE=str(certificate)
        )
        gateway.wait_for_port(http)
        caller = start(
            "caller-refused",
            *["tandem-load", "call", f"ws://127.0.0.1:{http}/twilio/media", "--admin", f"http://127.0.0.1:{admin}"],
            *["--seconds", "4"],
            cwd=tmp_path,
        )
        assert caller.wait(CALL_TIMEOUT) == 0, caller.output()
        gateway.stop()
        assert "agent says  “Hello.”" in caller.output(), gateway.output()
        shown = [stream.metadata["authorization"] for stream in agent.streams]
        assert shown[0] == f"Bearer {TOKEN.format(1)}"
        assert len(shown) > 1 and set(shown[1:]) == {f"Bearer {TOKEN.format(2)}"}, shown
        assert tokens.given == [TOKEN.format(1), TOKEN.format(2)]


def test_without_credentials_the_gateway_refuses_to_start_with_one_sentence(start, tmp_path):
    config = tmp_path / "tandem.toml"
    config.write_text(WITHOUT_CREDENTIALS.format(http=free_port(), admin=free_port()))
    gateway = start(
        "gateway-without-credentials",
        *["tandem", "serve", "--config", config],
        cwd=tmp_path,
        HOME=str(tmp_path),
        GCE_METADATA_HOST="127.0.0.1:1",
    )
    assert gateway.wait(REFUSAL_TIMEOUT) != 0
    last = gateway.output().rstrip().splitlines()[-1]
    assert last.startswith("tandem: agents.official: No Google credentials were found: set GOOGLE_APPLICATION_CREDENTIALS")
    assert "panicked" not in gateway.output()
