//! The torture messages of RFC 4475: what becomes of each at the door of the SIP ingress, and why.
//!
//! The files in `tests/data/rfc4475` are the RFC's own, bit by bit. Each has one row here; the section of the RFC stands
//! in it. Where the RFC leaves the choice between refusing and guessing, the row says which we took. REGISTER and MESSAGE
//! are no business of this gateway, so several messages end at 405 before their oddity is even looked at; the oddity is
//! then tried once more in a request that we do serve ([`the_oddities_of_a_refused_method_are_harmless_in_another`]).

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::proptest;
use proptest::sample::Index;
use rsipstack::sip::Header;
use rsipstack::sip::HeadersExt;
use rsipstack::sip::SipMessage;
use rsipstack::sip::param::Branch;
use rsipstack::sip::param::Tag;
use rsipstack::sip::prelude::ToTypedHeader;

use tandem::io::ingress::sip::digest;
use tandem::io::ingress::sip::info_dtmf;
use tandem::io::ingress::sip::normalise::ALLOW;
use tandem::io::ingress::sip::normalise::Reason;
use tandem::io::ingress::sip::normalise::Verdict;
use tandem::io::ingress::sip::normalise::normalise;
use tandem::io::ingress::sip::reliable::required_extensions;
use tandem::io::ingress::sip::reply::Answer;
use tandem::io::ingress::sip::reply::Ceiling;
use tandem::io::ingress::sip::reply::reply;

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The stack gets it as it came.
    Passed,
    /// The stack gets it put right.
    Mended,
    /// It is answered.
    Answered(u16, Reason),
    /// It is not answered.
    Dropped(Reason),
}

use Fate::Answered;
use Fate::Dropped;
use Fate::Mended;
use Fate::Passed;

/// File, section of the RFC, fate, why.
const MESSAGES: [(&str, &str, Fate, &str); 49] = [
    (
        "wsinv",
        "3.1.1.1",
        Mended,
        "valid: white space, folding and compact forms wherever they are allowed",
    ),
    (
        "intmeth",
        "3.1.1.2",
        Answered(501, Reason::UnknownMethod),
        "valid, of a method that nobody has heard of",
    ),
    (
        "esc01",
        "3.1.1.3",
        Mended,
        "valid: escapes in URIs; a folded Contact is unfolded",
    ),
    (
        "escnull",
        "3.1.1.4",
        Answered(405, Reason::MethodNotServed),
        "valid: escaped zero bytes, in a REGISTER",
    ),
    (
        "esc02",
        "3.1.1.5",
        Answered(501, Reason::UnknownMethod),
        "valid: the method is not REGISTER, since a method is not unescaped",
    ),
    (
        "lwsdisp",
        "3.1.1.6",
        Passed,
        "valid: no space between display name and bracket",
    ),
    (
        "longreq",
        "3.1.1.7",
        Mended,
        "valid: long values and 34 Vias; white space before colons goes",
    ),
    (
        "dblreq",
        "3.1.1.8",
        Answered(405, Reason::MethodNotServed),
        "valid: the second request in the datagram is not looked at",
    ),
    (
        "semiuri",
        "3.1.1.9",
        Mended,
        "valid: a semicolon in the user part, which the stack would take for the end of the host",
    ),
    (
        "transports",
        "3.1.1.10",
        Passed,
        "valid: a transport that we do not know, but not in the top Via",
    ),
    (
        "mpart01",
        "3.1.1.11",
        Answered(405, Reason::MethodNotServed),
        "valid: a binary body, in a MESSAGE",
    ),
    (
        "unreason",
        "3.1.1.12",
        Passed,
        "valid: a reason phrase in Cyrillic",
    ),
    ("noreason", "3.1.1.13", Passed, "valid: no reason phrase"),
    (
        "badinv01",
        "3.1.2.1",
        Answered(400, Reason::BadVia),
        "empty parameters in Via",
    ),
    (
        "clerr",
        "3.1.2.2",
        Answered(400, Reason::BodyCut),
        "Content-Length beyond the datagram",
    ),
    (
        "ncl",
        "3.1.2.3",
        Answered(400, Reason::BadContentLength),
        "a negative Content-Length",
    ),
    (
        "scalar02",
        "3.1.2.4",
        Answered(400, Reason::BadCSeq),
        "numbers beyond their range",
    ),
    (
        "scalarlg",
        "3.1.2.5",
        Dropped(Reason::BadCSeq),
        "the same in a response, which is never answered",
    ),
    (
        "quotbal",
        "3.1.2.6",
        Answered(400, Reason::BadTo),
        "a quote that is not closed",
    ),
    (
        "ltgtruri",
        "3.1.2.7",
        Mended,
        "brackets around the Request-URI; liberal, since what is meant is beyond doubt",
    ),
    (
        "lwsruri",
        "3.1.2.8",
        Answered(400, Reason::RequestLine),
        "a space in the Request-URI; strict, as the RFC advises",
    ),
    (
        "lwsstart",
        "3.1.2.9",
        Mended,
        "two spaces in the Request-Line; liberal",
    ),
    (
        "trws",
        "3.1.2.10",
        Passed,
        "spaces behind the Request-Line; liberal, the stack does not mind",
    ),
    (
        "escruri",
        "3.1.2.11",
        Answered(400, Reason::RequestUri),
        "headers in the Request-URI, which RFC 3261 forbids",
    ),
    (
        "baddate",
        "3.1.2.12",
        Passed,
        "a Date that is not in GMT; we do not read Date",
    ),
    (
        "regbadct",
        "3.1.2.13",
        Answered(405, Reason::MethodNotServed),
        "a Contact without brackets, in a REGISTER",
    ),
    (
        "badaspec",
        "3.1.2.14",
        Passed,
        "spaces within the brackets of To; liberal, the stack trims them",
    ),
    (
        "baddn",
        "3.1.2.15",
        Passed,
        "an unquoted comma in a display name; liberal, From is no list",
    ),
    (
        "badvers",
        "3.1.2.16",
        Answered(505, Reason::Version),
        "SIP/7.0",
    ),
    (
        "mismatch01",
        "3.1.2.17",
        Answered(400, Reason::MethodMismatch),
        "OPTIONS with the CSeq of an INVITE",
    ),
    (
        "mismatch02",
        "3.1.2.18",
        Answered(501, Reason::UnknownMethod),
        "the same with an unknown method; the RFC takes either",
    ),
    (
        "bigcode",
        "3.1.2.19",
        Dropped(Reason::BadStatus),
        "a status code of ten digits",
    ),
    (
        "badbranch",
        "3.2.1",
        Passed,
        "a branch that is only the magic cookie; the stack tells transactions apart by more",
    ),
    (
        "insuf",
        "3.3.1",
        Answered(400, Reason::MissingHeader),
        "no Call-ID, From and To",
    ),
    (
        "unkscm",
        "3.3.2",
        Answered(416, Reason::UriScheme),
        "an unknown scheme in the Request-URI",
    ),
    (
        "novelsc",
        "3.3.3",
        Answered(416, Reason::UriScheme),
        "a known scheme that is not SIP's",
    ),
    (
        "unksm2",
        "3.3.4",
        Answered(405, Reason::MethodNotServed),
        "unknown schemes in To and Contact, in a REGISTER",
    ),
    (
        "bext01",
        "3.3.5",
        Passed,
        "an unknown Require, answered by 420 where the headers are looked at",
    ),
    (
        "invut",
        "3.3.6",
        Passed,
        "an unknown body, answered by 415 where bodies are looked at",
    ),
    (
        "regaut01",
        "3.3.7",
        Answered(405, Reason::MethodNotServed),
        "an unknown kind of Authorization, in a REGISTER",
    ),
    (
        "multi01",
        "3.3.8",
        Answered(400, Reason::ConflictingHeaders),
        "two of each that may come once",
    ),
    (
        "mcl01",
        "3.3.9",
        Answered(400, Reason::ConflictingHeaders),
        "two Content-Lengths",
    ),
    (
        "bcast",
        "3.3.10",
        Dropped(Reason::NotOurResponse),
        "a response with a Via below the top one",
    ),
    (
        "zeromf",
        "3.3.11",
        Passed,
        "OPTIONS with Max-Forwards 0 may be answered by whom it reaches",
    ),
    (
        "cparam01",
        "3.3.12",
        Answered(405, Reason::MethodNotServed),
        "a parameter of the Contact, in a REGISTER",
    ),
    (
        "cparam02",
        "3.3.13",
        Answered(405, Reason::MethodNotServed),
        "a parameter of the Contact's URI, in a REGISTER",
    ),
    (
        "regescrt",
        "3.3.14",
        Answered(405, Reason::MethodNotServed),
        "a Contact with an escaped Route, in a REGISTER",
    ),
    (
        "sdp01",
        "3.3.15",
        Passed,
        "an Accept that leaves no body for our answer; we send SDP all the same",
    ),
    (
        "inv2543",
        "4.1",
        Answered(400, Reason::NoFromTag),
        "RFC 2543, valid when it was written: without a From tag the stack has no transaction for it",
    ),
];

#[test]
fn each_torture_message_meets_the_fate_that_its_row_states() {
    for (name, section, fate, why) in &MESSAGES {
        let message = read(name);
        let met = match normalise(&message) {
            Verdict::Pass(passed) if message.starts_with(&passed) => Passed,
            Verdict::Pass(_) => Mended,
            Verdict::Answer(reason) => Answered(reason.status().0, reason),
            Verdict::Drop(reason) => Dropped(reason),
            Verdict::KeepAlive => panic!("{name} is a message"),
        };
        assert_eq!(met, *fate, "{name} (RFC 4475 §{section}): {why}");
    }
}

#[test]
fn no_torture_message_is_without_a_row() {
    let rows: BTreeSet<String> = MESSAGES
        .iter()
        .map(|(name, ..)| format!("{name}.dat"))
        .collect();
    let files: BTreeSet<String> = fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("plain names"))
        .collect();
    assert_eq!(files, rows);
    assert_eq!(rows.len(), MESSAGES.len(), "one row each");
}

#[test]
fn what_passes_is_read_by_the_stack_as_its_sender_meant_it() {
    for (name, ..) in &MESSAGES {
        let message = read(name);
        // Whatever it is, the stack's parser must not fall over it.
        let _ = SipMessage::try_from(message.as_slice());
        let Verdict::Pass(passed) = normalise(&message) else {
            continue;
        };
        let parsed =
            SipMessage::try_from(&*passed).unwrap_or_else(|error| panic!("{name}: {error}"));
        // The Call-IDs of the RFC begin with the names of the files.
        let call_id = parsed.call_id_header().expect("a Call-ID").value();
        assert!(
            call_id.starts_with(&format!("{name}.")),
            "{name}: {call_id}"
        );
        let via = parsed.top_via_header().expect("a Via").typed();
        assert!(via.is_ok(), "{name}: {via:?}");
        let method = passed.split(|byte| *byte == b' ').next().expect("a word");
        match &parsed {
            SipMessage::Request(request) => {
                assert_eq!(request.method.to_string().as_bytes(), method, "{name}");
                let sequence = request
                    .cseq_header()
                    .expect("a CSeq")
                    .typed()
                    .expect("good");
                assert_eq!(sequence.method, request.method, "{name}");
                let from = request
                    .from_header()
                    .expect("a From")
                    .typed()
                    .expect("good");
                assert!(from.tag().is_some(), "{name}");
            }
            SipMessage::Response(_) => assert_eq!(method, b"SIP/2.0", "{name}"),
        }
    }
}

#[test]
fn the_mended_messages_say_what_the_rfc_says_they_say() {
    let request = passed("wsinv");
    let to = request.to_header().expect("a To").typed().expect("good");
    assert_eq!(to.uri.to_string(), "sip:vivekg@chair-dnrc.example.com");
    assert_eq!(to.tag().map(Tag::value), Some("1918181833n"));
    let from = request
        .from_header()
        .expect("a From")
        .typed()
        .expect("good");
    assert_eq!(from.uri.to_string(), "sip:jdrosen@example.com");
    assert_eq!(from.tag().map(Tag::value), Some("98asjd8"));
    let sequence = request
        .cseq_header()
        .expect("a CSeq")
        .typed()
        .expect("good");
    assert_eq!(sequence.seq, 9);
    let via = request
        .top_via_header()
        .expect("a Via")
        .typed()
        .expect("good");
    assert_eq!(via.uri.host_with_port.to_string(), "192.0.2.2");
    assert_eq!(via.branch().map(Branch::value), Some("390skdjuw"));
    assert!(request.body.starts_with(b"v=0\r\n") && request.body.len() == 150);

    let request = passed("semiuri");
    assert_eq!(request.uri.host_with_port.to_string(), "example.com");
    assert_eq!(request.uri.user(), Some("user%3Bpar=u%40example.net"));

    for name in ["ltgtruri", "lwsstart"] {
        assert_eq!(
            passed(name).uri.to_string(),
            "sip:user@example.com",
            "{name}"
        );
    }
    assert_eq!(passed("ltgtruri").body.len(), 159);

    let long = passed("longreq");
    let from = long.from_header().expect("a From").typed().expect("good");
    assert!(from.tag().is_some_and(|tag| tag.value().len() == 155));
    assert_eq!(long.body.len(), 150);
    let vias = long
        .headers
        .iter()
        .filter(|header| header.to_string().starts_with("Via: "));
    assert_eq!(vias.count(), 34);

    let escaped = passed("esc01");
    assert_eq!(escaped.uri.user(), Some("sips%3Auser%40example.com"));
    let contact = escaped
        .contact_header()
        .expect("a Contact")
        .typed()
        .expect("good");
    assert_eq!(contact.uri.host_with_port.to_string(), "host5.example.net");
}

#[test]
fn an_unknown_require_is_named() {
    let message = read("bext01");
    let text = String::from_utf8_lossy(&message);
    let values = text
        .lines()
        .filter_map(|line| line.strip_prefix("Require: "));
    assert_eq!(
        required_extensions(values),
        ["nothingSupportsThis", "nothingSupportsThisEither"]
    );
}

/// The oddities in REGISTER and MESSAGE come to us in requests that we do serve.
#[test]
fn the_oddities_of_a_refused_method_are_harmless_in_another() {
    for (name, method) in [
        ("escnull", "REGISTER"),
        ("dblreq", "REGISTER"),
        ("mpart01", "MESSAGE"),
        ("regbadct", "REGISTER"),
        ("unksm2", "REGISTER"),
        ("regaut01", "REGISTER"),
        ("cparam01", "REGISTER"),
        ("cparam02", "REGISTER"),
        ("regescrt", "REGISTER"),
    ] {
        let message = replaced(&read(name), method, "OPTIONS");
        let Verdict::Pass(passed) = normalise(&message) else {
            panic!("{name}: {:?}", normalise(&message));
        };
        let Ok(SipMessage::Request(request)) = SipMessage::try_from(&*passed) else {
            panic!("{name} is a request");
        };
        let length = match name {
            "mpart01" => 553,
            _ => 0,
        };
        assert_eq!(request.body.len(), length, "{name}");
    }
}

#[test]
fn each_answer_is_a_response_that_the_sender_can_match() {
    for (name, _, fate, _) in &MESSAGES {
        let Answered(status, reason) = fate else {
            continue;
        };
        let message = read(name);
        let answer = answer_for(*reason);
        let response = reply(&message, &answer, source(), Ceiling::None).expect("it has a Via");
        let SipMessage::Response(parsed) =
            SipMessage::try_from(response.as_slice()).unwrap_or_else(|e| panic!("{name}: {e}"))
        else {
            panic!("{name}: a response");
        };
        assert_eq!(parsed.status_code.code(), *status, "{name}");
        let vias = |message: &[u8]| {
            let text = String::from_utf8_lossy(message).to_lowercase();
            text.split("branch").count()
        };
        // dblreq has a second request behind it, with a branch of its own.
        let others = usize::from(*name == "dblreq");
        assert_eq!(vias(&response), vias(&message) - others, "{name}");

        let allow = (*status == 405).then(|| ALLOW.to_owned());
        let said = parsed.headers.iter().find_map(|header| match header {
            Header::Allow(allow) => Some(allow.value().to_owned()),
            _ => None,
        });
        assert_eq!(said, allow, "{name}");

        let again = reply(&message, &answer, source(), Ceiling::None);
        assert_eq!(again.as_deref(), Some(response.as_slice()), "{name}");
        if let Some(small) = reply(&message, &answer, source(), Ceiling::Request) {
            assert!(small.len() <= message.len(), "{name}");
        }
    }
}

proptest! {
    #[test]
    fn damaged_torture_messages_panic_nowhere(
        which in any::<Index>(),
        damages in vec((any::<Index>(), any::<u8>(), 0..3_u8), 0..12),
    ) {
        let mut message = read(MESSAGES[which.index(MESSAGES.len())].0);
        for (index, byte, kind) in damages {
            let at = index.index(message.len());
            match kind {
                0 => message[at] = byte,
                1 => message.insert(at, byte),
                _ => drop(message.remove(at)),
            }
        }
        match normalise(&message) {
            Verdict::Pass(passed) => assert!(SipMessage::try_from(&*passed).is_ok()),
            Verdict::Answer(reason) => {
                assert!(reply(&message, &answer_for(reason), source(), Ceiling::None).is_some());
            }
            Verdict::Drop(_) | Verdict::KeepAlive => {}
        }
        if let Some(response) = reply(&message, &answer_for(Reason::BadVia), source(), Ceiling::Request) {
            assert!(response.len() <= message.len());
        }
        let text = String::from_utf8_lossy(&message);
        let now = Instant::now();
        let mut authenticator = digest::Authenticator::new("r", digest::Algorithm::ALL.to_vec(), [], [0; 32], digest::NONCE_LIFE, 4, now);
        assert!(authenticator.check("INVITE", text.lines(), now).is_err());
        info_dtmf::digit("application/dtmf-relay", &message);
    }
}

fn answer_for(reason: Reason) -> Answer<'static> {
    let (status, phrase) = reason.status();
    Answer {
        status,
        phrase,
        required: reason.headers(),
        optional: &[],
    }
}

fn source() -> SocketAddr {
    "198.51.100.9:40000".parse().expect("an address")
}

fn passed(name: &str) -> rsipstack::sip::Request {
    let message = read(name);
    let Verdict::Pass(passed) = normalise(&message) else {
        panic!("{name} passes");
    };
    match SipMessage::try_from(&*passed) {
        Ok(SipMessage::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

fn replaced(message: &[u8], from: &str, to: &str) -> Vec<u8> {
    let from = from.as_bytes();
    let mut replaced = Vec::new();
    let mut rest = message;
    while let Some(at) = rest.windows(from.len()).position(|part| part == from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.dat"))).expect("the file is there")
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rfc4475"))
}
