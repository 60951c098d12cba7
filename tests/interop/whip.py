"""WHIP (RFC 9725) as a client speaks it, and a gateway that is called so."""

import http.client
import json
import re
import urllib.parse
from dataclasses import dataclass

from gateway import Gateway
from gateway import free_ports
from gateway import has_ipv6
from gateway import until
from tone_agent import ToneAgent

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
PARAMETER = "caller"
"""The session parameter by which the agent tells callers apart."""
CONNECT_DEADLINE = 10
"""Seconds after which a caller who has not connected is dropped."""

WEBRTC = """
{more}
[webrtc]
listen = [{listen}]
parameters = ["{parameter}"]
{webrtc}
[[routes]]
name = "tones"
ingress = "whip"
to = "tones"
agent = "agent"
[[routes]]
name = "spoken"
ingress = "whip"
to = "spoken"
agent = "spoken"
[agents.spoken]
kind = "local"
name = "projects/interop/locations/global/agents/spoken"
language = "en-US"
"""


@dataclass
class Response:
    """What the gateway answered."""

    status: int
    headers: http.client.HTTPMessage
    body: str

    @property
    def reason(self):
        """The label of a refusal, in a problem document (RFC 9457)."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.headers, self.body)
        problem = json.loads(self.body)
        assert problem["status"] == self.status
        assert problem["title"]
        return problem["reason"]


class WhipGateway(Gateway):
    """A gateway with WHIP on a UDP port of its own: the route `tones` leads to a tone agent, `spoken` to the embedded one."""

    def __init__(self, start, folder, name, agent, webrtc="", more="", **options):
        (self.media,) = free_ports(1)
        addresses = [f'"127.0.0.1:{self.media}"'] + [f'"[::1]:{self.media}"'] * has_ipv6()
        text = WEBRTC.format(listen=", ".join(addresses), parameter=PARAMETER, webrtc=webrtc, more=more)
        super().__init__(start, folder, name, agent, webrtc="", more=text, **options)

    def request(self, method, path, body=None, **headers):
        """One request; underscores in the names of headers are hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=15)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body.encode() if isinstance(body, str) else body, named)
            answer = connection.getresponse()
            return Response(answer.status, answer.headers, answer.read().decode())
        finally:
            connection.close()

    def offer(self, sdp, route="tones", kind=SDP, query=None, **headers):
        """Offers a call."""
        path = f"/whip/{route}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        return self.request("POST", path, sdp, Content_Type=kind, **headers)

    def refused(self, reason):
        """How many have been refused for this."""
        return self.total("tandem_whip_refused_total", f'reason="{reason}"')

    def ignored(self, reason):
        """How many datagrams were not taken for this."""
        return self.total("tandem_whip_datagrams_ignored_total", f'reason="{reason}"')

    def is_empty(self):
        """Whether nothing of any call is left."""
        return not self.alive() and self.total("tandem_calls_active") == 0

    def wait_until_empty(self, patience=10):
        until(self.is_empty, "nothing of the calls is left", patience)


class WhipToneAgent(ToneAgent):
    """Tells callers apart by a session parameter: a browser has no number. Only a call's first stream has it."""

    def streams_of(self, caller):
        streams = [stream for stream in list(self.streams) if stream.requests]
        sessions = {
            stream.first.session
            for stream in streams
            if (stream.first.query_params.parameters or {}).get(PARAMETER) == caller
        }
        return [stream for stream in streams if stream.first.session in sessions]


def attribute(sdp, name):
    """The first value of an attribute in an SDP, or nothing."""
    found = re.search(rf"^a={name}:(.*?)\r?$", sdp, re.MULTILINE)
    return found and found[1]


def fragment(sdp, ufrag=None, password=None):
    """A fragment (RFC 8840) about the first media line of an offer, with its credentials or others."""
    lines = [
        f"a=ice-ufrag:{ufrag or attribute(sdp, 'ice-ufrag')}",
        f"a=ice-pwd:{password or attribute(sdp, 'ice-pwd')}",
        "m=audio 9 UDP/TLS/RTP/SAVPF 0",
        f"a=mid:{attribute(sdp, 'mid')}",
        "a=candidate:1 1 udp 2130706431 127.0.0.1 50000 typ host",
        "a=end-of-candidates",
    ]
    return "\r\n".join([*lines, ""])


def an_offer(codecs="0", kind="audio", ufrag="ours", lines=1):
    """An offer that nobody stands behind."""
    fingerprint = ":".join(["AB"] * 32)
    head = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    head.append("a=group:BUNDLE " + " ".join(str(mid) for mid in range(lines)))
    for mid in range(lines):
        head += [
            f"m={kind} 9 UDP/TLS/RTP/SAVPF {codecs}",
            "c=IN IP4 0.0.0.0",
            f"a=mid:{mid}",
            f"a=ice-ufrag:{ufrag}",
            "a=ice-pwd:abcdefghijklmnopqrstuvwx",
            f"a=fingerprint:sha-256 {fingerprint}",
            "a=setup:actpass",
            "a=rtcp-mux",
            "a=sendrecv",
        ]
    return "\r\n".join([*head, ""])
