"""aiortc calls `tandem serve` by WHIP: both codecs, both kinds of addresses, keys, and every request that WHIP has."""

import concurrent.futures

import pytest

import caller as callers
import conversation
from caller import Aiortc
from conftest import run_programs
from gateway import has_ipv6
from gateway import until
from stun import is_answered
from tone_agent import GOODBYE_DIGIT
from whip import FRAGMENT
from whip import SDP
from whip import WhipToneAgent
from whip import attribute
from whip import fragment

callers.need_aiortc()

LINES = {
    "opus": {},
    "pcmu": {"codec": "pcmu"},
    "ipv6": {"address": "::1"},
    # Sound that comes before its keys is no reason to fail.
    "noise": {"noise": True},
}
CONSENT = 40
"""Seconds after which somebody who does not answer is taken for gone."""


@pytest.fixture(scope="module")
def start_for_module():
    yield from run_programs()


@pytest.fixture(scope="module")
def agent():
    with WhipToneAgent() as agent:
        yield agent


@pytest.fixture(scope="module")
def gateway(start_for_module, tmp_path_factory, agent):
    return conversation.gateway_of(start_for_module, tmp_path_factory.mktemp("aiortc"), "gateway-aiortc", agent)


@pytest.fixture(scope="module")
def vanished(start_for_module, tmp_path_factory, gateway):
    """A call whose caller is gone without a word, while the other tests go on."""
    caller = Aiortc(start_for_module, tmp_path_factory.mktemp("vanished"), gateway, "vanished").connected()
    caller.event("agent_text")
    caller.vanish()
    return caller


@pytest.fixture(scope="module")
def calls(start_for_module, tmp_path_factory, gateway, agent, vanished):
    """Every line's call, all at once: {line: future}."""
    folder = tmp_path_factory.mktemp("lines")
    lines = {line: options for line, options in LINES.items() if line != "ipv6" or has_ipv6()}

    def call(line):
        caller = Aiortc(start_for_module, folder, gateway, line, **lines[line])
        conversation.with_tones(caller, agent)
        conversation.end(caller)
        return caller

    with concurrent.futures.ThreadPoolExecutor(len(lines)) as pool:
        yield {line: pool.submit(call, line) for line in lines}


@pytest.mark.parametrize("line", LINES)
def test_both_sides_hear_each_other(line, calls, gateway):
    if line not in calls:
        pytest.skip("there is no IPv6 on this machine's loopback")
    caller = calls[line].result(timeout=90)
    # Its certificate does not come in one piece.
    assert caller.said("fragments") > 1
    if line == "noise":
        assert caller.said("noise") > 0
        # From an address whose checks are good, but nobody has keys.
        assert gateway.ignored("too_early") > 0


def test_the_answer_is_what_was_agreed_on(calls):
    caller = calls["pcmu"].result(timeout=90)
    audio = caller.answer.split("m=")[1]
    assert audio.split("\r\n")[0].split(" ")[3:] == ["0", "126"], "one codec and the telephone-events of its clock"
    assert "a=sendrecv" in audio and "a=rtcp-mux" in audio
    assert attribute(caller.answer, "group") == "BUNDLE 0 1"
    assert caller.etag.startswith('"') and caller.etag.endswith('"')
    assert caller.location.startswith("/whip/tones/")
    assert caller.response.headers["Content-Type"] == SDP
    assert caller.response.headers["Accept-Patch"] == FRAGMENT


@pytest.mark.parametrize(("codec", "rate"), [("opus", 48000), ("pcmu", 8000)])
def test_keys_arrive_once_each_and_in_order(codec, rate, start, tmp_path, gateway, agent):
    before = gateway.total("tandem_dtmf_digits_total", "rtp")
    caller = Aiortc(start, tmp_path, gateway, f"keys-{codec}", codec=codec)
    conversation.press(caller, agent, "5527#", rate)
    conversation.end(caller)
    assert gateway.total("tandem_dtmf_digits_total", "rtp") == before + 5


def test_a_spoken_exchange_that_begins_with_an_interruption(start, tmp_path, gateway):
    caller = Aiortc(start, tmp_path, gateway, "spoken", route="spoken")
    conversation.with_words(caller, barge_in=True)
    conversation.end(caller)


def test_when_the_agent_ends_the_call_its_caller_is_told_and_disconnected(start, tmp_path, gateway, agent):
    caller = Aiortc(start, tmp_path, gateway, "ended").connected()
    caller.wait_for_silence()
    caller.press(GOODBYE_DIGIT, 48000)
    caller.event("ended", reason="agent_ended")
    caller.told("state", value="closed")
    assert agent.inputs("ended") == ["WELCOME", GOODBYE_DIGIT]
    until(lambda: gateway.request("DELETE", caller.location).status == 404, "the session is gone")


def test_candidates_and_a_restart_by_patch(start, tmp_path, gateway, agent):
    caller = Aiortc(start, tmp_path, gateway, "patched").connected()
    trickle = fragment(caller.sdp)

    def patch(body, **headers):
        return gateway.request("PATCH", caller.location, body, Content_Type=FRAGMENT, **headers)

    assert patch(trickle, If_Match=caller.etag).status == 204
    assert (patch(trickle).status, patch(trickle, If_Match='"other"').status) == (428, 412)
    assert patch("garbage", If_Match=caller.etag).status == 400

    restarted = patch(fragment(caller.sdp, "anew", "anew" * 6), If_Match="*")
    assert restarted.status == 200, restarted.body
    assert restarted.headers["Content-Type"] == FRAGMENT
    ufrag, password = attribute(restarted.body, "ice-ufrag"), attribute(restarted.body, "ice-pwd")
    assert ufrag and ufrag != attribute(caller.answer, "ice-ufrag")
    assert password and password != attribute(caller.answer, "ice-pwd")
    # As in the answer (RFC 9725, 4.3.3).
    assert restarted.body.startswith("a=ice-lite\r\n") and "a=ice-lite" in caller.answer
    assert attribute(restarted.body, "candidate") and "a=end-of-candidates" in restarted.body
    assert restarted.headers["ETag"] not in (None, caller.etag)
    assert patch(trickle, If_Match=caller.etag).status == 412, "the old entity is gone"

    # aiortc cannot restart, so somebody else uses the new credentials, and it goes on with the old ones.
    assert is_answered(gateway.media, ufrag, password, "anew")
    assert not is_answered(gateway.media, ufrag, "wrong" * 5, "anew", tries=2)
    conversation.with_tones(caller, agent)
    conversation.end(caller)
    assert gateway.request("DELETE", caller.location).status == 404


def test_who_vanishes_is_missed_and_nothing_is_left_of_all_these_calls(calls, gateway, vanished):
    concurrent.futures.wait(calls.values())
    gateway.wait_until_empty(CONSENT)
    assert gateway.total("tandem_calls_total", 'end_reason="consent_lost"') == 1
    ended = gateway.total("tandem_calls_total", 'end_reason="caller_hung_up"')
    ended += gateway.total("tandem_calls_total", 'end_reason="agent_ended"')
    assert ended + 1 == gateway.total("tandem_calls_total", 'ingress="whip"')
    assert gateway.total("tandem_caller_audio_unheard_seconds_total") == 0
