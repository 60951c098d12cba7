"""The spoken conversation of `make demo` over SIP, with a network between the caller and the gateway that loses 5 % of the
caller's packets, delays each by up to 60 ms and lets them overtake each other."""

import pathlib

from gateway import Gateway

SCENARIO = pathlib.Path(__file__).parents[2] / "loadtest" / "scenarios" / "sip-bad-network.toml"
CONVERSATION_TIMEOUT = 120
"""Seconds for a conversation of half a minute on a busy machine."""
LOCAL_AGENT = 'kind = "local"'


def test_every_sentence_is_understood_and_nothing_is_left_unheard(start, tmp_path):
    gateway = Gateway(start, tmp_path, "gateway-bad-network", LOCAL_AGENT)
    scenario = tmp_path / "scenario.toml"
    text = SCENARIO.read_text()
    assert "127.0.0.1:5060" in text and "127.0.0.1:9090" in text
    text = text.replace("127.0.0.1:5060", f"127.0.0.1:{gateway.sip}").replace("127.0.0.1:9090", f"127.0.0.1:{gateway.admin}")
    scenario.write_text(text)
    caller = start("caller-bad-network", "tandem-load", "run", scenario, cwd=tmp_path)
    assert caller.wait(CONVERSATION_TIMEOUT) == 0, caller.output()
    # That packets were lost is what the test is about.
    assert gateway.total("tandem_rtp_lost_packets_total") > 10
    assert gateway.total("tandem_caller_audio_unheard_seconds_total") == 0
