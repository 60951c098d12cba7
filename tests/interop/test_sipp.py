"""sipp calls `tandem serve`: every turn that a dialogue can take, with audio, and a load.

Each scenario stands in its test's decorator. All of them are played at once before the first test looks at its own, since
most of their time is waiting.
"""

import concurrent.futures
import zlib

import pytest

import sound
from conftest import need
from conftest import run_programs
from gateway import LOCAL_ECHO
from gateway import TONES
from gateway import Gateway
from gateway import has_ipv6
from gateway import options
from gateway import until
from google_agent import GREETING
from google_agent import SECONDS
from sipp import Scenario
from sipp import play
from sipp import sdp
from tone_agent import CALLER
from tone_agent import GOODBYE_DIGIT
from tone_agent import NUMBER
from tone_agent import SLOW
from tone_agent import TRANSFER
from tone_agent import ToneAgent

need("sipp", "sip-tester")

AT_ONCE = 50
"""Scenarios that are played at the same time: nearly all they do is wait."""
NO_ACK = 32
"""Seconds after which an unconfirmed call is given up: 64 times T1 (RFC 3261, 13.3.1.4)."""
SHORTEST_TIMER = 10
"""The session timer's lower limit in these tests, in seconds; 90 in the world."""
PASSWORD = "correct-horse"
LOAD_CALLS, LOAD_RATE = 1000, 50

SIP = f"""
min_session_expires = "{SHORTEST_TIMER}s"
answer_within = "10s"
"""
# Longer than a call waits for its ACK: not every scenario sends audio.
RTP = 'initial_timeout = "1m"'
USERS = """
[sip.auth]
realm = "interop"
users = [{ username = "desk", password_env = "INTEROP_PASSWORD" }]
"""


class Scripted:
    """What a test's decorator says: the scenario and how it is played."""

    def __init__(self, script, gateway, options):
        self.script, self.gateway, self.options = script, gateway, options


def scenario(script, gateway="open_gateway", **options):
    """Plays the scenario that `script` writes, before the tests. `options` are those of [`play`], `to` is who is called."""
    return pytest.mark.scenario(Scripted(script, gateway, options))


# -------------------------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="module")
def start_for_module():
    yield from run_programs()


@pytest.fixture(scope="module")
def agent():
    with ToneAgent() as agent:
        yield agent


@pytest.fixture(scope="module")
def open_gateway(start_for_module, tmp_path_factory, agent):
    """A gateway that takes everybody's calls."""
    folder = tmp_path_factory.mktemp("open")
    return Gateway(start_for_module, folder, "gateway-sipp", TONES.format(port=agent.port), sip=SIP, rtp=RTP)


@pytest.fixture(scope="module")
def closed_gateway(start_for_module, tmp_path_factory, agent):
    """A gateway that asks for a password."""
    folder = tmp_path_factory.mktemp("closed")
    tones = TONES.format(port=agent.port)
    return Gateway(
        *[start_for_module, folder, "gateway-sipp-digest", tones], sip=SIP, rtp=RTP, more=USERS, INTEROP_PASSWORD=PASSWORD
    )


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A file of mu-law: silence while the agent greets, a tone, silence in which the agent finds that it has ended."""
    path = tmp_path_factory.mktemp("spoken") / "caller.ulaw"
    path.write_bytes(sound.silence(1.8) + sound.tone(CALLER, 0.6) + sound.silence(1.0))
    return path


@pytest.fixture(scope="module")
def all_played(request, start_for_module, spoken):
    """Every collected scenario of this module, being played: {test: future of its result}."""
    marked = [
        (item, item.get_closest_marker("scenario"))
        for item in request.session.items
        if item.module is request.module and item.get_closest_marker("scenario")
    ]
    gateways = {name: request.getfixturevalue(name) for name in {marker.args[0].gateway for _, marker in marked}}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            item.name: pool.submit(_play, start_for_module, item.name, marker.args[0], gateways, spoken)
            for item, marker in marked
        }


def _play(start, test, scripted, gateways, spoken):
    name = test.removeprefix("test_")[:60]
    call = Scenario(user=user_of(test), spoken=spoken)
    scripted.script(call)
    options = dict(scripted.options)
    to, arguments = options.pop("to", "1000"), options.pop("arguments", ())
    return play(start, call, name, to, gateways[scripted.gateway].sip, *arguments, **options)


def user_of(test):
    """Who calls in a test: the agent tells its calls apart by this."""
    return f"u{zlib.crc32(test.encode()):08x}"


@pytest.fixture
def played(all_played, request):
    """This test's scenario, which went as it was written."""
    result = all_played[request.node.name].result(timeout=120)
    assert result.succeeded(), result.story()
    return result


@pytest.fixture
def user(request):
    """Who called in this test."""
    return user_of(request.node.name)


# --------------------------------------------------------------------------------------------------- a call and its audio


def _plain_call(call):
    call.call()
    call.pause(3.5)
    call.hang_up()


@scenario(_plain_call, echo=True)
def test_audio_goes_both_ways(played, agent, user):
    # sipp sends back every packet, so what the agent hears first is its own greeting.
    heard = agent.heard(user)
    assert sum(seconds for tone, seconds in heard if tone == GREETING) == pytest.approx(SECONDS[GREETING], abs=0.2), heard


def _call_with_speech(call, *headers, **options):
    options.setdefault("body", sdp(port="[rtpstream_audio_port]"))
    call.invite(*headers, **options)
    call.answered()
    call.ack()
    call.speak()
    call.pause(4)
    call.hang_up()


@scenario(_call_with_speech)
def test_what_sipp_plays_is_heard_whole(played, agent, user):
    assert [tone for tone, _ in agent.heard(user)] == [CALLER]
    assert agent.heard(user)[0][1] == pytest.approx(0.6, abs=0.15)


@scenario(_call_with_speech, transport="t1")
def test_a_call_over_tcp(played, agent, user):
    assert [tone for tone, _ in agent.heard(user)] == [CALLER]


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 on this machine's loopback")
@scenario(_plain_call, address="::1", echo=True)
def test_a_call_over_ipv6(played, agent, user):
    assert [tone for tone, _ in agent.heard(user)][:1] == [GREETING]


def _call_without_length(call):
    _call_with_speech(call, length=False)


@scenario(_call_without_length)
def test_an_invite_over_udp_without_content_length_has_its_offer(played, agent, user):
    assert [tone for tone, _ in agent.heard(user)] == [CALLER]


def _delayed_offer(call):
    call.invite(body=None)
    call.answered(body=["m=audio [1-9][0-9]* RTP/AVP", "a=rtpmap:0 PCMU/8000|RTP/AVP 0"])
    call.ack(body=sdp(port="[rtpstream_audio_port]", formats="0 101"))
    call.speak()
    call.pause(4)
    call.hang_up()


@scenario(_delayed_offer)
def test_an_invite_without_an_offer_gets_one_and_the_answer_comes_in_the_ack(played, agent, user):
    assert [tone for tone, _ in agent.heard(user)] == [CALLER]


def _unknown_codecs(call):
    call.invite(body=sdp(formats="18 101"))
    call.provisional()
    call.receive(488)
    call.ack_refusal()


@scenario(_unknown_codecs)
def test_an_offer_of_unknown_codecs_is_not_acceptable(played):
    pass


def _agent_ends(call):
    call.call()
    call.pause(2)
    call.ask("INFO", 200, body=f"Signal={GOODBYE_DIGIT}\nDuration=160\n", kind="application/dtmf-relay")
    call.hung_up()


@scenario(_agent_ends)
def test_the_agent_ends_the_call_after_its_goodbye(played, agent, user):
    assert agent.inputs(user) == ["WELCOME", GOODBYE_DIGIT]


# -------------------------------------------------------------------------------------------------- before the answer


def _cancelled(call):
    call.invite()
    call.receive(100, optional=True)
    call.receive(180)
    call.pause(0.3)
    call.ask("CANCEL", 200, body=None)
    call.receive(487)
    call.ack_refusal()


@scenario(_cancelled, to=SLOW)
def test_a_call_can_be_cancelled_while_it_rings(played):
    pass


def _reliable(call):
    call.invite("Require: 100rel")
    call.receive(100, optional=True)
    call.receive(180, dialog=True, headers={"Require": "100rel"}, save={"rseq": "RSeq"})
    call.in_dialog = True
    call.ask("PRACK", 200, "RAck: [$rseq] 1 INVITE")
    call.provisional()
    call.receive(200)
    # PRACK has taken a number of its own; the ACK has that of the INVITE.
    call.ack()
    call.pause(0.5)
    call.hang_up()


@scenario(_reliable, to=SLOW)
def test_ringing_is_reliable_where_the_caller_requires_it(played):
    pass


def _unknown_extension(call):
    call.invite("Require: teleportation")
    call.refused(420, headers={"Unsupported": "teleportation"})


@scenario(_unknown_extension)
def test_an_unknown_extension_is_refused_by_name(played):
    pass


def _never_confirmed(call):
    call.invite()
    call.answered()
    # Retransmissions of the 200 are taken for what they are; then the gateway gives up.
    call.hung_up(patience=NO_ACK + 8)


@scenario(_never_confirmed)
def test_a_call_that_is_never_confirmed_is_given_up_after_32_s(played):
    # 0.5 s, then doubling up to 4 s: eleven of them (RFC 3261, 13.3.1.4).
    answers = [message for message in played.received() if message.startswith("SIP/2.0 200") and "INVITE" in message]
    assert 9 <= len(answers) <= 12


# ------------------------------------------------------------------------------------------------------- digest


def _with_password(call):
    call.invite()
    call.receive(100, optional=True)
    call.receive(401, auth=True)
    call.ack_refusal()
    call.invite("[authentication username=desk password=correct-horse]")
    call.answered()
    call.ack()
    call.pause(0.3)
    call.hang_up()


def _with_wrong_password(call):
    call.invite()
    call.receive(100, optional=True)
    call.receive(401, auth=True)
    call.ack_refusal()
    call.invite("[authentication username=desk password=wrong]")
    call.receive(100, optional=True)
    call.refused(401)


@scenario(_with_password, gateway="closed_gateway")
def test_the_right_password_lets_a_call_in(played, agent, user):
    assert agent.inputs(user) == ["WELCOME"]


@scenario(_with_wrong_password, gateway="closed_gateway")
def test_the_wrong_password_does_not(played, agent, user):
    assert agent.inputs(user) == []


# --------------------------------------------------------------------------------------------------- within a call


def _held(call):
    call.call()
    for version, (offered, answered, address) in enumerate(
        [
            ("sendonly", "a=recvonly", None),
            ("sendrecv", "a=sendrecv", None),
            ("inactive", "a=inactive", None),
            ("sendrecv", "a=sendrecv", None),
            ("sendrecv", "a=(sendrecv|recvonly|inactive)", "0.0.0.0"),
            ("sendrecv", "a=sendrecv", None),
        ],
        start=2,
    ):
        call.invite(body=sdp(offered, address=address, version=version))
        call.answered(body=[answered])
        call.ack()
        call.pause(0.4)
    call.pause(1.5)
    call.hang_up()


@scenario(_held, echo=True)
def test_a_call_can_be_held_in_three_ways_and_resumed(played, agent, user):
    # Nothing comes back from a line on hold, so what is heard proves that the audio goes on.
    assert GREETING in [tone for tone, _ in agent.heard(user)]


def _updated(call):
    call.call()
    call.ask("UPDATE", 200)
    call.ask("UPDATE", 200, body=sdp("sendonly", version=2), body_expected=["a=recvonly"])
    call.ask("UPDATE", 200, body=sdp(version=3), body_expected=["a=sendrecv"])
    call.hang_up()


@scenario(_updated)
def test_an_update_refreshes_and_renegotiates(played):
    pass


def _pressed(call):
    call.call()
    call.pause(2)
    call.ask("INFO", 200, body="Signal=5\nDuration=160\n", kind="application/dtmf-relay")
    call.ask("INFO", 200, body="7", kind="application/dtmf")
    call.pause(2)
    call.hang_up()


@scenario(_pressed)
def test_digits_come_by_info_in_both_bodies(played, agent, user):
    assert "".join(agent.inputs(user)) == "WELCOME57"


def _transferred(call):
    call.call()
    call.pause(2)
    call.ask("INFO", 200, body=TRANSFER, kind="application/dtmf")
    call.receive("REFER", headers={"Refer-To": NUMBER.replace("+", "[+]"), "Contact": "sip:"})
    call.reply(202, "Accepted")
    for state, fragment in [("active;expires=60", "100 Trying"), ("terminated;reason=noresource", "200 OK")]:
        notified = ["Event: refer", f"Subscription-State: {state}"]
        call.ask("NOTIFY", 200, *notified, body=f"SIP/2.0 {fragment}\n", kind="message/sipfrag;version=2.0")
    call.hung_up()


@scenario(_transferred)
def test_the_agent_transfers_and_the_call_ends_when_it_is_done(played, agent, user):
    assert agent.inputs(user) == ["WELCOME", TRANSFER]


def _not_transferred(call):
    call.call()
    call.pause(2)
    call.ask("INFO", 200, body=TRANSFER, kind="application/dtmf")
    call.receive("REFER")
    call.reply(603, "Decline")
    call.pause(2.5)
    call.hang_up()


@scenario(_not_transferred)
def test_a_refused_transfer_goes_back_to_the_agent(played, agent, user):
    welcome, digits, event = agent.inputs(user)
    assert (welcome, digits) == ("WELCOME", TRANSFER)
    assert event, "the agent was not told"


def _failed_later(call):
    call.call()
    call.pause(2)
    call.ask("INFO", 200, body=TRANSFER, kind="application/dtmf")
    call.receive("REFER")
    call.reply(202, "Accepted")
    for state, fragment in [("active;expires=60", "100 Trying"), ("terminated;reason=noresource", "486 Busy Here")]:
        notified = ["Event: refer", f"Subscription-State: {state}"]
        call.ask("NOTIFY", 200, *notified, body=f"SIP/2.0 {fragment}\n", kind="message/sipfrag;version=2.0")
    call.pause(2.5)
    call.hang_up()


@scenario(_failed_later)
def test_a_transfer_that_finds_nobody_goes_back_to_the_agent(played, agent, user):
    assert len(agent.inputs(user)) == 3, agent.inputs(user)


def _old_number(call):
    call.call()
    call.ask("UPDATE", 200)
    call.ask("INFO", 200, body="3", kind="application/dtmf")
    call.ask("UPDATE", 500, cseq=1)
    call.hang_up()


@scenario(_old_number)
def test_a_request_with_an_old_number_is_refused(played):
    pass


# ----------------------------------------------------------------------------------------------------- session timers


def _refreshed(method, *headers):
    def script(call):
        call.invite(
            "Supported: timer",
            f"Session-Expires: {SHORTEST_TIMER};refresher=uas",
            f"Min-SE: {SHORTEST_TIMER}",
            *headers,
        )
        call.answered(headers={"Session-Expires": f"{SHORTEST_TIMER} *;.*refresher=uas"})
        call.ack()
        for _ in range(2):
            call.receive(method, headers={"Session-Expires": f"{SHORTEST_TIMER}"}, patience=SHORTEST_TIMER)
            body = {"body": sdp()} if method == "INVITE" else {}
            call.reply(
                200, "OK", "Supported: timer", f"Session-Expires: {SHORTEST_TIMER};refresher=uac", "Require: timer", **body
            )
            if method == "INVITE":
                call.receive("ACK")
        call.hang_up()

    return script


@scenario(_refreshed("UPDATE", "Allow: INVITE, ACK, BYE, CANCEL, UPDATE"))
def test_the_gateway_refreshes_a_session_by_update(played):
    pass


@scenario(_refreshed("INVITE", "Allow: INVITE, ACK, BYE, CANCEL"))
def test_the_gateway_refreshes_a_session_by_invite_where_there_is_no_update(played):
    pass


def _never_refreshed(call):
    call.invite(
        "Supported: timer", f"Session-Expires: {SHORTEST_TIMER};refresher=uac", f"Min-SE: {SHORTEST_TIMER}"
    )
    call.answered(headers={"Session-Expires": f"{SHORTEST_TIMER} *;.*refresher=uac"})
    call.ack()
    call.hung_up(patience=SHORTEST_TIMER + 4)


@scenario(_never_refreshed)
def test_a_session_that_its_caller_does_not_refresh_ends(played):
    pass


def _too_small(call):
    call.invite("Supported: timer", f"Session-Expires: {SHORTEST_TIMER - 2}")
    call.refused(422, headers={"Min-SE": str(SHORTEST_TIMER)})


@scenario(_too_small)
def test_a_session_timer_that_is_too_small_is_refused_with_the_least(played):
    pass


# --------------------------------------------------------------------------------------------------- outside a dialog


def _options(call):
    call.ask("OPTIONS", 200, uri="sip:[remote_ip]:[remote_port]", headers_expected={"Allow": "INVITE"})


@scenario(_options)
def test_options_without_a_user_is_answered(played):
    pass


def _outside(method, body=None, kind="application/dtmf"):
    def script(call):
        call.ask(method, 481, body=body, kind=kind, to_tag=";tag=nobody")

    return script


@scenario(_outside("BYE"))
def test_a_bye_for_no_call_is_refused(played):
    pass


@scenario(_outside("UPDATE"))
def test_an_update_for_no_call_is_refused(played):
    pass


@scenario(_outside("INFO", body="1"))
def test_an_info_for_no_call_is_refused(played):
    pass


def _not_served(call):
    call.ask("PUBLISH", 405, "Event: presence", headers_expected={"Allow": "INVITE"})


@scenario(_not_served)
def test_a_method_that_is_not_served_is_not_allowed(played):
    pass


def _not_known(call):
    call.ask("TELEPORT", 501)


@scenario(_not_known)
def test_an_unknown_method_is_not_implemented(played):
    pass


def test_lines_that_end_without_a_carriage_return_are_understood(open_gateway):
    # sipp mends its own line ends, so this one is written by hand.
    assert options(open_gateway.sip, line_end="\n") == 200


# ---------------------------------------------------------------------------------------------------------- afterwards


def test_nothing_is_left_of_all_these_calls(all_played, open_gateway, closed_gateway):
    concurrent.futures.wait(all_played.values())
    for gateway in (open_gateway, closed_gateway):
        until(lambda: not gateway.alive(), f"nothing is alive: {gateway.alive()}")
        assert gateway.total("tandem_calls_active") == 0


def test_a_thousand_calls_at_fifty_a_second_do_not_fail(start_for_module, tmp_path_factory, all_played):
    concurrent.futures.wait(all_played.values())
    folder = tmp_path_factory.mktemp("load")
    gateway = Gateway(start_for_module, folder, "gateway-sipp-load", LOCAL_ECHO, log="warn")
    call = Scenario(user="load")
    call.call()
    call.pause(0.5)
    call.hang_up()
    result = play(
        start_for_module,
        call,
        "load",
        "1000",
        gateway.sip,
        calls=LOAD_CALLS,
        rate=LOAD_RATE,
        echo=True,
        limit=90,
    )
    assert result.succeeded(), result.story()
    until(lambda: not gateway.alive(), f"nothing is alive: {gateway.alive()}")
    assert gateway.total("tandem_calls_total", 'ingress="sip"') == LOAD_CALLS
    assert gateway.total("tandem_calls_total", 'end_reason="caller_hung_up"') == LOAD_CALLS
    assert gateway.total("tandem_calls_refused_total") == 0
