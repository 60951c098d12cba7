"""What a caller by WHIP and an agent say to each other, and whether both have heard it."""

import pytest

from gateway import TONES
from gateway import until
from google_agent import GREETING
from google_agent import SECONDS
from tone_agent import ANSWER
from tone_agent import CALLER
from whip import WhipGateway

SPOKEN = 0.8
"""Seconds of the caller's tone."""
REQUEST = "book a table for two"
UNDERSTOOD = "table for two"


def gateway_of(start, folder, name, agent, **options):
    """A gateway before a tone agent and the embedded one."""
    return WhipGateway(start, folder, name, TONES.format(port=agent.port), **options)


def with_tones(caller, agent):
    """Listens to the greeting, says a tone, hears the agent's. On a bad network and on a busy machine tones have holes."""
    caller.connected()
    caller.wait_for_silence()
    caller.say_tone(CALLER, SPOKEN)
    caller.event("final", text="a tone")
    until(lambda: ANSWER in dict(caller.heard()), f"{caller.process.name} hears the agent's answer")
    caller.wait_for_silence()
    heard = caller.heard()
    assert [tone for tone, _ in heard] == [GREETING, ANSWER]
    for tone, seconds in heard:
        assert seconds == pytest.approx(SECONDS[tone], abs=0.3), f"{tone} Hz"
    told = agent.heard(caller.name)
    assert {tone for tone, _ in told} == {CALLER}, told
    assert sum(seconds for _, seconds in told) == pytest.approx(SPOKEN, abs=0.3), told
    for kind in ["turn_started", "agent_text", "playback", "turn_latency"]:
        caller.event(kind)
    # Events are told in the order of the call.
    times = [event["at_ms"] for event in caller.events]
    assert times == sorted(times)


def with_words(caller, barge_in=False):
    """Books a table with the embedded agent, as far as its first question; over its welcome, if it is to be interrupted."""
    caller.connected()
    caller.event("agent_text", text="how can i help you")
    if barge_in:
        until(lambda: len(caller.samples()) > 2.5 * 8000, "some of the welcome is heard")
    else:
        caller.wait_for_silence()
    caller.speak(REQUEST)
    if UNDERSTOOD not in caller.event("final")["text"].lower():
        # On a busy machine speech has holes; who is not understood says it once more.
        caller.event("turn_latency")
        caller.wait_for_silence()
        caller.speak(REQUEST)
    caller.event("final", text=UNDERSTOOD)
    caller.event("agent_text", text="for which day")
    if barge_in:
        caller.event("barge_in")
        caller.event("playback", outcome="cut")
    caller.event("turn_latency")
    caller.wait_for_silence()
    caller.event("playback", segment=2, outcome="played")


def press(caller, agent, keys, rate):
    """Presses keys, the last of which ends the input, and sees what the agent is given."""
    caller.connected()
    caller.wait_for_silence()
    caller.press(keys, rate)
    until(lambda: len(agent.inputs(caller.name)) > 1, f"the agent is given {keys}")
    assert agent.inputs(caller.name) == ["WELCOME", keys[:-1]]
    for key in keys:
        caller.event("dtmf", digit=key)
    assert [event["digit"] for event in caller.events if event["type"] == "dtmf"] == list(keys)


def end(caller):
    """Hangs up, and hears that this is why the call is over."""
    caller.hang_up()
    caller.event("ended", reason="caller_hung_up")
    caller.leave()
    assert caller.events[-1]["type"] == "ended"
