"""Scenarios for sipp, written in Python beside the test that plays them, and a player that runs one as a process.

sipp's own XML says the same headers again in every message and counts messages by hand; here a scenario is a list of what
is sent and what must come. The XML that is made of it, and every message sent and received, stay in the logs' folder.
"""

import html
import itertools
import re

from conftest import OUT
from conftest import WORKER
from gateway import free_ports

MEDIA_PORTS = itertools.count(12000 + 1000 * WORKER, 8)
"""Each sipp's own, for it wants several in a row: below those of the gateways and below the kernel's ephemeral range, where
another program might take one between a look and its use."""

PATIENCE = 8
"""Seconds for which a scenario waits for a message unless it says otherwise."""
LIMIT = 60
"""Seconds after which sipp gives up a scenario."""
STORY = 8000
"""How many characters of a failed scenario's messages are shown."""
TO_GATEWAY = "sip:[service]@[remote_ip]:[remote_port]"
IN_DIALOG = "[next_url]"


def sdp(direction="sendrecv", formats="0 8 101", address=None, port="[media_port]", version=1, media="RTP/AVP"):
    """An offer or answer of sipp's own address; `[rtpstream_audio_port]` is the port from which it plays files."""
    family, address = ("[local_ip_type]", "[media_ip]") if address is None else ("4", address)
    lines = [
        "v=0",
        f"o=sipp 1 {version} IN IP[local_ip_type] [local_ip]",
        "s=-",
        f"c=IN IP{family} {address}",
        "t=0 0",
        f"m=audio {port} {media} {formats}",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        f"a={direction}",
    ]
    return "\n".join(line for line in lines if not line.startswith("a=rtpmap:101") or "101" in formats.split())


class Scenario:
    """What one side of a call sends and expects, in order.

    `user` is who calls, `spoken` a file of raw mu-law; `routed` if there is a proxy on the way that wants to stay there.
    """

    def __init__(self, user="sipp", spoken=None, routed=False):
        self.user, self.spoken, self.routed = user, spoken, routed
        self.steps = []
        self.invite_at = None
        """Which step the last INVITE was: CANCEL and the ACK of a refusal carry its branch."""
        self.cseq = 0
        self.invite_cseq = 0
        self.variables = []
        self.in_dialog = False

    # ------------------------------------------------------------------------------------------------- what is sent

    def send(self, method, *headers, uri=None, body=None, kind="application/sdp", cseq=None, length=True, **options):
        """A request. In a dialog unless nothing has been accepted yet; with the next CSeq unless told another."""
        if method in ("ACK", "CANCEL"):
            number = self.invite_cseq
        elif cseq is None:
            self.cseq += 1
            number = self.cseq
        else:
            number = cseq
        branch = "[branch]"
        if method == "CANCEL" or options.get("of_refusal"):
            branch = f"[branch-{len(self.steps) - self.invite_at}]"
        if method == "INVITE":
            self.invite_at, self.invite_cseq = len(self.steps), number
        to_tag = "" if method == "CANCEL" or not (self.in_dialog or options.get("of_refusal")) else "[peer_tag_param]"
        to_tag = options.get("to_tag", to_tag)
        lines = [
            f"{method} {uri or (IN_DIALOG if self.in_dialog else TO_GATEWAY)} SIP/2.0",
            f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}",
            f"From: <sip:{self.user}@[local_ip]:[local_port]>;tag=[pid]-[call_number]",
            f"To: <{TO_GATEWAY}>{to_tag}",
            "Call-ID: [call_id]",
            f"CSeq: {number} {method}",
            "Max-Forwards: 70",
            f"Contact: <sip:{self.user}@[local_ip]:[local_port];transport=[transport]>",
            *(["[routes]"] if self.routed and self.in_dialog else []),
            *headers,
        ]
        self._message(lines, body, kind, length, retransmitted=method != "ACK")

    def reply(self, code, reason, *headers, body=None, kind="application/sdp"):
        """A response to the request that came last."""
        lines = [
            f"SIP/2.0 {code} {reason}",
            *[f"[last_{name}:]" for name in ("Via", "From", "To", "Call-ID", "CSeq")],
            f"Contact: <sip:{self.user}@[local_ip]:[local_port];transport=[transport]>",
            *headers,
        ]
        self._message(lines, body, kind, length=True, retransmitted=False)

    def _message(self, lines, body, kind, length, retransmitted):
        if body is not None:
            lines = [*lines, f"Content-Type: {kind}"]
        if length:
            lines = [*lines, "Content-Length: [len]"]
        text = "\n".join([*lines, "", *([body] if body is not None else []), ""])
        attribute = ' retrans="500"' if retransmitted else ""
        self.steps.append(f"<send{attribute}><![CDATA[\n\n{text}\n]]></send>")

    def invite(self, *headers, body=sdp(), **options):
        """An INVITE, the first or a later one."""
        self.send("INVITE", *headers, body=body, **options)

    def ack(self, body=None):
        """For a 2xx."""
        self.send("ACK", body=body)

    def ack_refusal(self):
        """For anything else, which belongs to the INVITE's transaction."""
        uri = None if self.in_dialog else TO_GATEWAY
        self.send("ACK", uri=uri, of_refusal=True)

    # ----------------------------------------------------------------------------------------------- what is received

    def receive(
        self, what, *, optional=False, patience=PATIENCE, auth=False, dialog=False, headers=None, body=(), save=None
    ):
        """A response by its code or a request by its method; else the scenario fails. With `dialog`, its Contact and its
        routes are where requests go from now on.

        `headers` are regular expressions by name, `body` those that the body must match. `save` keeps a header's value,
        as `[$name]`.
        """
        attributes = f'{"response" if isinstance(what, int) else "request"}="{what}"'
        if optional:
            attributes += ' optional="true"'
        else:
            attributes += f' timeout="{round(patience * 1000)}"'
        if auth:
            attributes += ' auth="true"'
        if dialog:
            attributes += ' rrs="true"'
        actions = [
            self._check(expression, f'search_in="hdr" header="{name}:"') for name, expression in (headers or {}).items()
        ]
        actions += [self._check(expression, 'search_in="body"') for expression in body]
        for name, header in (save or {}).items():
            actions.append(self._check(r"[^ ].*", f'search_in="hdr" header="{header}:"', name=name))
        inside = f"<action>{''.join(actions)}</action>" if actions else ""
        self.steps.append(f"<recv {attributes}>{inside}</recv>")

    def _check(self, expression, where, name=None):
        name = name or f"check{len(self.variables)}"
        self.variables.append(name)
        return f'<ereg regexp="{html.escape(expression)}" {where} check_it="true" assign_to="{name}"/>'

    def provisional(self):
        """What may come before an answer, and is of no interest here."""
        for code in (100, 180, 183):
            self.receive(code, optional=True)

    def answered(self, **expected):
        """A final 200 to the INVITE, which makes a dialog."""
        self.provisional()
        self.receive(200, dialog=True, **expected)
        self.in_dialog = True

    def refused(self, code, **expected):
        """Any other final answer, and our ACK for it."""
        self.receive(100, optional=True)
        self.receive(code, **expected)
        self.ack_refusal()

    # -------------------------------------------------------------------------------------------------- combinations

    def call(self, *headers, **options):
        """An INVITE, answered and confirmed."""
        self.invite(*headers, **options)
        self.answered()
        self.ack()

    def ask(self, method, code, *headers, **options):
        """A request and the answer it must get."""
        expected = {name: options.pop(name) for name in ("headers_expected", "body_expected") if name in options}
        self.send(method, *headers, **options)
        self.receive(code, headers=expected.get("headers_expected"), body=expected.get("body_expected", ()))

    def hang_up(self):
        """We end the call."""
        self.ask("BYE", 200)

    def hung_up(self, patience=PATIENCE, **expected):
        """The gateway ends the call."""
        self.receive("BYE", patience=patience, **expected)
        self.reply(200, "OK")

    def pause(self, seconds):
        self.steps.append(f'<pause milliseconds="{round(seconds * 1000)}"/>')

    def speak(self):
        """Starts to send what is spoken, once, from `[rtpstream_audio_port]`."""
        self.steps.append(f'<nop><action><exec rtp_stream="{self.spoken},1,0"/></action></nop>')

    def xml(self, name):
        """As sipp reads it."""
        referred = f'<Reference variables="{",".join(self.variables)}"/>' if self.variables else ""
        steps = "\n".join([*self.steps, referred])
        return f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<scenario name="{name}">\n{steps}\n</scenario>\n'


class Result:
    """How a scenario ended."""

    def __init__(self, name, code, folder):
        self.name, self.code, self.folder = name, code, folder

    def succeeded(self):
        """Nothing but what was expected came, in time."""
        return self.code == 0

    def messages(self):
        """Everything that was sent and received."""
        return _read(self.folder / f"{self.name}.messages.log")

    def received(self):
        """The messages that came, in order."""
        parts = re.split(r"^-{20,}.*\n", self.messages(), flags=re.MULTILINE)
        return [part.split("\n\n", 1)[1] for part in parts if "message received" in part.split("\n\n", 1)[0]]

    def story(self):
        """What went wrong, and the messages that led there."""
        errors = _read(self.folder / f"{self.name}.errors.log")
        return f"sipp ended {self.name} with {self.code}\n{errors[:STORY]}\n{self.messages()[-STORY:]}"


def play(
    start, scenario, name, service, port, *, transport="u1", address="127.0.0.1", limit=LIMIT, echo=False, calls=1, rate=10
):
    """Plays a scenario against a gateway's port and returns its [`Result`]. With `echo`, sipp sends back what it hears.

    One call is traced; of many there are only the errors.
    """
    folder = OUT / "sipp"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.xml"
    path.write_text(scenario.xml(name))
    (local,), media = free_ports(1), next(MEDIA_PORTS)
    for suffix in ("errors", "messages"):
        (folder / f"{name}.{suffix}.log").unlink(missing_ok=True)
    remote = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    process = start(
        f"sipp-{name}",
        *["sipp", remote, "-sf", path, "-s", service, "-m", str(calls), "-t", transport],
        *["-r", str(rate), "-l", str(calls)],
        *["-i", address, "-p", str(local), "-mi", address, "-mp", str(media)],
        *["-nostdin", "-timeout", f"{limit}s", "-timeout_error"],
        *["-trace_err", "-error_file", folder / f"{name}.errors.log"],
        *(["-trace_msg", "-message_file", folder / f"{name}.messages.log"] if calls == 1 else []),
        *(["-rtp_echo"] if echo else []),
        cwd=folder,
        program=True,
    )
    return Result(name, process.wait(limit + 10), folder)


def _read(path):
    return path.read_text(errors="replace") if path.exists() else ""
