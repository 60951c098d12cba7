"""What nobody should send to WHIP's two doors: each request gets a clear status, each datagram silence, each a counter. A
call that goes on meanwhile notices nothing, and nothing is left behind."""

import asyncio
import importlib.util
import os
import random
import re
import socket
import struct
import threading
import time

import pytest

import conversation
from caller import Aiortc
from conftest import run_programs
from gateway import until
from stun import check
from stun import is_answered
from whip import CONNECT_DEADLINE
from whip import FRAGMENT
from whip import SDP
from whip import WhipToneAgent
from whip import an_offer
from whip import attribute

FLOOD, FLOOD_SECONDS = 50_000, 4
"""Checks, and in which time: 12,500 a second, each to be looked at by a debug build on a busy machine."""
TOKENS = {"tones": "for-tones-alone", "spoken": "for-spoken-alone", None: "for-every-route"}
NO_AUDIO = an_offer("webrtc-datachannel", kind="application").replace("UDP/TLS/RTP/SAVPF", "UDP/DTLS/SCTP")
ANSWER = an_offer().replace("a=setup:actpass", "a=setup:active")


@pytest.fixture(scope="module")
def start_for_module():
    yield from run_programs()


@pytest.fixture(scope="module")
def agent():
    with WhipToneAgent() as agent:
        yield agent


@pytest.fixture(scope="module")
def gateway(start_for_module, tmp_path_factory, agent):
    return conversation.gateway_of(start_for_module, tmp_path_factory.mktemp("bad"), "gateway-whip-bad", agent)


@pytest.fixture(scope="module")
def guarded(start_for_module, tmp_path_factory, agent):
    """A gateway that asks for tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = " ".join(f"{route}:{token}" if route else token for route, token in TOKENS.items())
    return conversation.gateway_of(
        start_for_module, folder, "gateway-whip-guarded", agent, TANDEM_WHIP_TOKENS=tokens
    )


@pytest.fixture
def call(start, tmp_path, gateway, request):
    """A healthy call, not yet connected."""
    if importlib.util.find_spec("aiortc") is None:
        pytest.skip("there is no aiortc; pip could not install it")
    return Aiortc(start, tmp_path, gateway, re.sub(r"\W+", "-", request.node.name)[-40:].strip("-"))


@pytest.fixture
def session(gateway):
    """A session whose caller never comes."""
    response = gateway.offer(an_offer())
    assert response.status == 201, response.body
    yield response
    gateway.request("DELETE", response.headers["Location"])


@pytest.fixture(autouse=True)
def nothing_is_left(gateway):
    yield
    gateway.wait_until_empty(CONNECT_DEADLINE + 5)


# ------------------------------------------------------------------------------------------------------------ offers

OFFERS = {
    "garbage": ("garbage", 400, "bad_offer"),
    "nothing": ("", 400, "bad_offer"),
    "bytes-that-are-no-text": (bytes(range(256)) * 8, 400, "bad_offer"),
    "no-audio": (NO_AUDIO, 406, "no_audio"),
    "video-only": (an_offer("96", kind="video") + "a=rtpmap:96 VP8/90000\r\n", 406, "no_audio"),
    "no-common-codec": (an_offer("18"), 406, "no_common_codec"),
    "two-lines-of-audio": (an_offer(lines=2), 422, "several_audio_lines"),
    "audio-over-tcp": (an_offer().replace("UDP/TLS", "TCP/TLS"), 406, "unknown_transport"),
    "no-fingerprint": (an_offer().replace("a=fingerprint", "a=x-fingerprint"), 406, "no_fingerprint"),
    "no-ice": (an_offer().replace("a=ice-ufrag", "a=x-ufrag"), 406, "no_ice_credentials"),
    "no-rtcp-mux": (an_offer().replace("a=rtcp-mux", "a=x-rtcp-mux"), 406, "no_rtcp_mux"),
    "twenty-lines": (an_offer(lines=20), 422, "too_many_lines"),
    "64-KiB": (an_offer() + "a=x\r\n" * 13_200, 413, "body_too_large"),
}


@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_that_cannot_be_taken_is_refused(name, gateway):
    body, status, reason = OFFERS[name]
    before = gateway.refused(reason)
    refused = gateway.offer(body)
    assert (refused.status, refused.reason) == (status, reason), refused.body
    assert gateway.refused(reason) == before + 1


@pytest.mark.parametrize(("theirs", "ours"), [("active", "passive"), ("passive", "active")])
def test_an_offer_that_insists_on_its_part_in_the_handshake_leaves_us_the_other(theirs, ours, gateway):
    # That is how an answer looks, too: nothing else in it says what it is (RFC 8842, 5.2).
    response = gateway.offer(an_offer().replace("a=setup:actpass", f"a=setup:{theirs}"))
    assert response.status == 201, response.body
    assert attribute(response.body, "setup") == ours
    assert gateway.request("DELETE", response.headers["Location"]).status == 200


def test_a_body_of_unknown_length_is_cut_off(gateway):
    def pieces():
        for _ in range(100):
            yield b"a=x\r\n" * 200

    before = gateway.refused("body_too_large")
    try:
        assert gateway.offer(pieces()).status == 413
    except ConnectionError:
        # It need not read to the end before it closes.
        pass
    until(lambda: gateway.refused("body_too_large") == before + 1, "it is counted")


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/sdpx", ""])
def test_an_offer_of_another_type_is_refused_with_the_right_one(kind, gateway):
    before = gateway.refused("unsupported_offer")
    refused = gateway.offer(an_offer(), kind=kind)
    assert (refused.status, refused.reason) == (415, "unsupported_offer")
    assert SDP in refused.headers["Accept-Post"]
    assert gateway.refused("unsupported_offer") == before + 1


def test_a_route_that_is_not_there_is_not_found(gateway):
    refused = gateway.offer(an_offer(), route="nowhere")
    assert (refused.status, refused.reason) == (404, "no_route")


def test_an_answer_after_the_offer_is_refused_in_every_way(gateway, session):
    location = session.headers["Location"]
    posted = gateway.request("POST", location, ANSWER, Content_Type=SDP)
    assert (posted.status, posted.reason) == (405, "method_not_allowed")
    assert "PATCH" in posted.headers["Allow"]
    patched = gateway.request("PATCH", location, ANSWER, Content_Type=SDP, If_Match=session.headers["ETag"])
    assert (patched.status, patched.reason) == (415, "unsupported_change")
    assert patched.headers["Accept-Patch"] == FRAGMENT


def test_a_restart_that_cannot_be_made_is_refused(gateway, session):
    location = session.headers["Location"]
    empty = gateway.request("PATCH", location, "a=end-of-candidates\r\n", Content_Type=FRAGMENT, If_Match="*")
    assert empty.status in (400, 422), empty.body
    large = gateway.request("PATCH", location, b"a=x\r\n" * 14_000, Content_Type=FRAGMENT, If_Match="*")
    assert (large.status, large.reason) == (413, "body_too_large")
    nowhere = location[:-1] + ("0" if location[-1] != "0" else "1")
    for method in ("PATCH", "DELETE"):
        missed = gateway.request(method, nowhere, "", Content_Type=FRAGMENT, If_Match="*")
        assert (missed.status, missed.reason) == (404, "no_session")


def test_a_token_opens_its_own_route_alone(guarded):
    def offered(token):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return guarded.offer(an_offer(), **headers)

    for token, status, reason in [
        (None, 401, "missing_token"),
        ("guessed", 401, "unknown_token"),
        (TOKENS["spoken"], 403, "wrong_route"),
    ]:
        before = guarded.refused(reason)
        refused = offered(token)
        assert (refused.status, refused.reason) == (status, reason)
        assert status != 401 or refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert guarded.refused(reason) == before + 1
    for token in (TOKENS["tones"], TOKENS[None]):
        taken = offered(token)
        assert taken.status == 201, taken.body
        location = taken.headers["Location"]
        # Who may not begin a call may not end it either.
        for wrong, status in [(None, 401), (TOKENS["spoken"], 403)]:
            headers = {"Authorization": f"Bearer {wrong}"} if wrong else {}
            assert guarded.request("DELETE", location, **headers).status == status
        assert guarded.request("DELETE", location, Authorization=f"Bearer {token}").status == 200
    guarded.wait_until_empty()


# --------------------------------------------------------------------------------------------------------- datagrams


def flood(port, datagram, count=FLOOD, seconds=FLOOD_SECONDS):
    """Sends a datagram many times, at an even pace, and gives how often something came back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        start, answered = time.monotonic(), 0
        for n in range(count):
            if n % 50 == 0:
                time.sleep(max(0, start + n * seconds / count - time.monotonic()))
            try:
                peer.sendto(datagram, ("127.0.0.1", port))
                answered += bool(n % 50 == 0 and peer.recv(2048))
            except BlockingIOError:
                continue
        return answered


@pytest.mark.parametrize("ufrag", ["unknown", "known"])
def test_a_flood_of_checks_is_not_answered_and_disturbs_nobody(ufrag, gateway, call, agent):
    reasons = ["unknown_user"] if ufrag == "unknown" else ["forged_check", "crowded"]
    before = sum(map(gateway.ignored, reasons))
    seen = []

    def attack(target):
        seen.append(flood(gateway.media, check(f"{target}:ours", "wrong" * 5)))
        seen.append(is_answered(gateway.media, name, password))

    call.connected()
    # Somebody who has not come yet; from here they have ten seconds.
    session = gateway.offer(an_offer())
    name, password = attribute(session.body, "ice-ufrag"), attribute(session.body, "ice-pwd")
    attacker = threading.Thread(target=attack, args=["nobody" if ufrag == "unknown" else name])
    attacker.start()
    conversation.with_tones(call, agent)
    attacker.join()
    # Nothing came back, and who was attacked can still come.
    assert seen == [0, True]
    # What the kernel had no room for does not count.
    until(lambda: sum(map(gateway.ignored, reasons)) - before > 0.9 * FLOOD, "the flood is counted")
    gateway.request("DELETE", session.headers["Location"])
    assert gateway.total("tandem_caller_audio_unheard_seconds_total") == 0
    conversation.end(call)


def test_datagrams_of_strangers_are_counted_and_not_answered(gateway, session):
    rng = random.Random(4)
    rtp = struct.pack("!BBHII", 0x80, 0, 1, 160, 7) + bytes(160)
    client_hello = bytes([22, 0xFE, 0xFD]) + bytes(9) + b"\0\4" + bytes(4)
    noise = [rtp, client_hello, b"\0", b"\0\1\0\0", check("x", "y")[:30], os.urandom(2000)]
    noise += [rng.randbytes(rng.randrange(1, 1500)) for _ in range(500)]
    reasons = ("malformed", "stranger", "unknown_user", "forged_check", "too_early")
    before = sum(map(gateway.ignored, reasons))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        for datagram in noise:
            peer.sendto(datagram, ("127.0.0.1", gateway.media))
        until(lambda: sum(map(gateway.ignored, reasons)) == before + len(noise), "each is counted once")
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(2048)


def test_who_stops_before_the_keys_and_who_never_comes_are_dropped_after_ten_seconds(gateway, call, agent):
    before = gateway.refused("never_connected")
    calls = gateway.total("tandem_calls_total")
    silent = gateway.offer(an_offer())
    assert silent.status == 201
    start = time.monotonic()
    first = asyncio.run(connect_without_keys(gateway))
    assert first and first[0] == 22, "the handshake has reached the peer who ignores it"
    # Meanwhile somebody else calls.
    conversation.with_tones(call, agent)
    conversation.end(call)
    until(lambda: gateway.refused("never_connected") == before + 2, "both are dropped", CONNECT_DEADLINE + 3)
    assert time.monotonic() - start > CONNECT_DEADLINE - 1, "they had their time"
    assert gateway.request("DELETE", silent.headers["Location"]).status == 404
    # They were never calls.
    until(lambda: gateway.total("tandem_calls_total") == calls + 1, "one call has ended")


async def connect_without_keys(gateway):
    """Finds a way to the gateway by ICE, and ignores the handshake that follows; its first packet."""
    import aioice
    import aioice.ice

    everywhere = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    peer = aioice.Connection(ice_controlling=True)
    try:
        await peer.gather_candidates()
    finally:
        aioice.ice.get_host_addresses = everywhere
    offer = an_offer(ufrag=peer.local_username).replace("abcdefghijklmnopqrstuvwx", peer.local_password)
    response = gateway.offer(offer)
    assert response.status == 201, response.body
    peer.remote_username = attribute(response.body, "ice-ufrag")
    peer.remote_password = attribute(response.body, "ice-pwd")
    peer.remote_is_lite = "a=ice-lite" in response.body
    await peer.add_remote_candidate(aioice.Candidate.from_sdp(attribute(response.body, "candidate")))
    await peer.add_remote_candidate(None)
    await peer.connect()
    try:
        return await asyncio.wait_for(peer.recv(), 5)
    finally:
        await peer.close()
