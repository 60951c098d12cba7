"""werift calls `tandem serve` by WHIP, over a network of its own: packets are lost, late, doubled, overtaken by others, and
their source changes in mid-call. Its DTLS handshake comes in small pieces."""

import concurrent.futures

import pytest

import caller as callers
import conversation
from caller import Werift
from conftest import run_programs
from whip import WhipToneAgent

callers.need_werift()

BAD_NETWORK = {"loss": 0.05, "jitter": 40, "duplicates": 0.03}
LINES = {
    "opus": {},
    "pcmu": {"codec": "pcmu"},
    "bad-network": BAD_NETWORK,
    # The tone that is said comes from the second source.
    "two-sources": {"ssrc_change": 2},
    # Of which every longer message of the handshake is made.
    "fragments": {"fragment": 60, "codec": "pcmu"},
    "noise": {"noise": True, "codec": "pcmu"},
}
KEYS = {
    "opus-48000": (48000, {}),
    # A telephone's clock beside the codec's: what else a caller offers is not ours to choose.
    "opus-8000": (8000, {"events": [8000]}),
    "pcmu-8000": (8000, {"codec": "pcmu"}),
    "bad-network": (48000, BAD_NETWORK),
}


@pytest.fixture(scope="module")
def start_for_module():
    yield from run_programs()


@pytest.fixture(scope="module")
def agent():
    with WhipToneAgent() as agent:
        yield agent


@pytest.fixture(scope="module")
def gateway(start_for_module, tmp_path_factory, agent):
    return conversation.gateway_of(start_for_module, tmp_path_factory.mktemp("werift"), "gateway-werift", agent)


@pytest.fixture(scope="module")
def calls(start_for_module, tmp_path_factory, gateway, agent):
    """Every call of tones and keys, three at a time, for its cryptography is slow: {name: future}."""
    folder = tmp_path_factory.mktemp("lines")

    def converse(line):
        caller = Werift(start_for_module, folder, gateway, line, **LINES[line])
        conversation.with_tones(caller, agent)
        conversation.end(caller)
        return caller

    def press(line):
        rate, options = KEYS[line]
        caller = Werift(start_for_module, folder, gateway, f"keys-{line}", **options)
        conversation.press(caller, agent, "5527#", rate)
        conversation.end(caller)
        return caller

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        calls = {line: pool.submit(converse, line) for line in LINES}
        yield calls | {f"keys-{line}": pool.submit(press, line) for line in KEYS}


@pytest.mark.parametrize("line", LINES)
def test_both_sides_hear_each_other(line, calls, gateway):
    caller = calls[line].result(timeout=120)
    sent = caller.said("sent")
    if line == "bad-network":
        assert sent["lost"] > 0 and sent["duplicates"] > 0 and sent["late"] > 0, sent
        assert gateway.total("tandem_rtp_lost_packets_total") > 0
    if line == "two-sources":
        assert sent["ssrcs"] == 2
    if line == "fragments":
        assert caller.said("fragments") > 1
    if line == "noise":
        assert caller.said("noise") > 0
        assert gateway.ignored("too_early") > 0


@pytest.mark.parametrize("line", KEYS)
def test_keys_arrive_once_each_and_in_order(line, calls):
    calls[f"keys-{line}"].result(timeout=120)


def test_a_spoken_exchange_on_a_bad_network(start, tmp_path, gateway):
    caller = Werift(start, tmp_path, gateway, "spoken", route="spoken", **BAD_NETWORK)
    conversation.with_words(caller)
    conversation.end(caller)


def test_nothing_is_left_of_all_these_calls(calls, gateway):
    concurrent.futures.wait(calls.values())
    gateway.wait_until_empty()
    ended = gateway.total("tandem_calls_total", 'end_reason="caller_hung_up"')
    assert ended == gateway.total("tandem_calls_total", 'ingress="whip"') > 0
    assert gateway.total("tandem_caller_audio_unheard_seconds_total") == 0
