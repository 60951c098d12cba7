"""GStreamer's webrtcbin calls `tandem serve` by WHIP. Its certificate has an RSA key, and libnice is its ICE."""

import concurrent.futures

import pytest

import caller as callers
import conversation
from caller import Gstreamer
from conftest import run_programs
from whip import WhipToneAgent

callers.need_gstreamer()

LINES = ["opus", "pcmu"]


@pytest.fixture(scope="module")
def start_for_module():
    yield from run_programs()


@pytest.fixture(scope="module")
def agent():
    with WhipToneAgent() as agent:
        yield agent


@pytest.fixture(scope="module")
def gateway(start_for_module, tmp_path_factory, agent):
    return conversation.gateway_of(start_for_module, tmp_path_factory.mktemp("gstreamer"), "gateway-gstreamer", agent)


@pytest.fixture(scope="module")
def calls(start_for_module, tmp_path_factory, gateway, agent):
    """Every line's call, all at once: {line: future}."""
    folder = tmp_path_factory.mktemp("lines")

    def call(line):
        caller = Gstreamer(start_for_module, folder, gateway, line, codec=line)
        conversation.with_tones(caller, agent)
        conversation.end(caller)

    with concurrent.futures.ThreadPoolExecutor(len(LINES)) as pool:
        yield {line: pool.submit(call, line) for line in LINES}


@pytest.mark.parametrize("line", LINES)
def test_both_sides_hear_each_other(line, calls):
    calls[line].result(timeout=90)


def test_a_spoken_exchange(start, tmp_path, gateway):
    caller = Gstreamer(start, tmp_path, gateway, "spoken", route="spoken")
    conversation.with_words(caller)
    conversation.end(caller)


def test_nothing_is_left_of_all_these_calls(calls, gateway):
    concurrent.futures.wait(calls.values())
    gateway.wait_until_empty()
    ended = gateway.total("tandem_calls_total", 'end_reason="caller_hung_up"')
    assert ended == gateway.total("tandem_calls_total", 'ingress="whip"') > 0
    assert gateway.total("tandem_caller_audio_unheard_seconds_total") == 0
