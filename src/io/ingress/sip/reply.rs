//! Answers without state: a response made from the bytes of a request and nothing else (RFC 3261 §8.2.7).
//!
//! What is refused before the stack sees it — bad messages, strangers, floods — is answered from here, so that it costs
//! no transaction and no memory. Nothing a peer has sent is trusted: values are echoed on one line, and who is not
//! known yet never gets more bytes than he sent, or a forged source address would make us a weapon against its owner.
//!
//! The response goes to where the request came from, address and port, as the stack sends its own. RFC 3261 §18.2.2
//! would have the port of the Via without `rport`; behind a NAT nobody listens there.

use std::net::IpAddr;
use std::net::SocketAddr;

use sha2::Digest;
use sha2::Sha256;

use super::raw::Field;
use super::raw::Place;
use super::raw::Raw;
use super::raw::split_outside;

/// A response that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// 100 to 699.
    pub status: u16,
    /// What it says in words.
    pub phrase: &'a str,
    /// Headers without which it means nothing, such as WWW-Authenticate. Names and values are ours and hold no line end.
    pub required: &'a [(&'a str, &'a str)],
    /// Headers that may be left out, the last first, where the response would be too large.
    pub optional: &'a [(&'a str, &'a str)],
}

/// How large a response may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// For a peer whom we know.
    None,
    /// For everyone else: not larger than the request.
    Request,
}

/// The response to `request`, which came from `source`; `None` if it may not be answered (a response, an ACK, without
/// Via, with more headers than we read) or if no form of the answer keeps to the ceiling.
pub fn reply(
    request: &[u8],
    answer: &Answer<'_>,
    source: SocketAddr,
    ceiling: Ceiling,
) -> Option<Vec<u8>> {
    let raw = Raw::read(request);
    if !answerable(&raw) {
        return None;
    }
    let limit = match ceiling {
        Ceiling::None => usize::MAX,
        Ceiling::Request => request.len(),
    };
    let full = (0..=answer.optional.len())
        .rev()
        .map(|kept| (Names::Full, kept));
    full.chain([(Names::Compact, 0)])
        .map(|(names, kept)| write(&raw, answer, source, names, kept))
        .find(|response| response.len() <= limit)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Full,
    Compact,
}

fn answerable(raw: &Raw<'_>) -> bool {
    let line = raw.start_line;
    let method = line.split(u8::is_ascii_whitespace).next();
    let is_response = line
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"));
    !raw.too_many
        && !is_response
        && method.is_some_and(|method| !method.is_empty() && method != b"ACK")
        && raw.first("Via").is_some()
}

fn write(
    raw: &Raw<'_>,
    answer: &Answer<'_>,
    source: SocketAddr,
    names: Names,
    kept: usize,
) -> Vec<u8> {
    let mut response = Vec::with_capacity(1_024);
    let status = format!("SIP/2.0 {} {}\r\n", answer.status, answer.phrase);
    response.extend_from_slice(status.as_bytes());
    let mut add = |full: &str, compact: &str, value: &[u8]| {
        let name = match names {
            Names::Full => full,
            Names::Compact => compact,
        };
        response.extend_from_slice(name.as_bytes());
        response.extend_from_slice(if names == Names::Full { b": " } else { b":" });
        response.extend_from_slice(value);
        response.extend_from_slice(b"\r\n");
    };

    for (at, via) in raw.all("Via").enumerate() {
        match at {
            0 => add("Via", "v", &received(&via.value, source)),
            _ => add("Via", "v", &via.value),
        }
    }
    // A header that the request lacks cannot be echoed; that it is missing is what the response says (RFC 4475 §3.3.1).
    if let Some(from) = raw.first("From") {
        add("From", "f", &from.value);
    }
    if let Some(to) = raw.first("To") {
        add("To", "t", &with_tag(to, raw));
    }
    if let Some(call_id) = raw.first("Call-ID") {
        add("Call-ID", "i", &call_id.value);
    }
    if let Some(sequence) = raw.first("CSeq") {
        add("CSeq", "CSeq", &sequence.value);
    }
    let optional = answer.optional.iter().take(kept);
    for (name, value) in answer.required.iter().chain(optional) {
        add(name, name, value.as_bytes());
    }
    add("Content-Length", "l", b"0");
    response.extend_from_slice(b"\r\n");
    response
}

/// The To of the response: with a tag, if it has none. The tag is made from what stays the same when the request is
/// repeated, so the repetition gets the same response (RFC 3261 §8.2.7).
fn with_tag(to: &Field<'_>, raw: &Raw<'_>) -> Vec<u8> {
    let mut value = to.value.to_vec();
    if has_tag(to) {
        return value;
    }
    let mut hash = Sha256::new();
    for name in ["Via", "From", "Call-ID", "CSeq"] {
        let field = raw.first(name).map_or(&[][..], |field| &field.value);
        hash.update(field.len().to_be_bytes());
        hash.update(field);
    }
    let tag: String = hash.finalize().iter().take(8).map(hex).collect();
    value.extend_from_slice(b";tag=");
    value.extend_from_slice(tag.as_bytes());
    value
}

fn hex(byte: &u8) -> String {
    format!("{byte:02x}")
}

/// Whether a To has a tag. Where its quotes are not closed nobody can say; then the whole is searched.
pub(super) fn has_tag(to: &Field<'_>) -> bool {
    let text = to.text();
    let is_tag = |part: &&str| {
        part.split_once('=')
            .is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("tag"))
    };
    match split_outside(&text, b';') {
        Some(parts) => parts.iter().skip(1).any(is_tag),
        None => text.split(';').skip(1).any(|part| is_tag(&part)),
    }
}

/// The first Via with what its sender cannot know: the address we saw, and the port if it asked (RFC 3261 §18.2.1,
/// RFC 3581 §4). What it claims about these itself is taken out.
fn received(via: &[u8], source: SocketAddr) -> Vec<u8> {
    let end = end_of_first(via, b',');
    let (first, others) = via.split_at(end);
    let mut written = Vec::with_capacity(via.len() + 64);
    let mut rest = first;
    let mut port_asked = false;
    let mut sent_by: &[u8] = &[];
    let mut is_parameter = false;
    loop {
        let (part, after) = rest.split_at(end_of_first(rest, b';'));
        let name_ends = part.iter().position(|&byte| byte == b'=');
        let name = part[..name_ends.unwrap_or(part.len())].trim_ascii();
        let is_port = is_parameter && name.eq_ignore_ascii_case(b"rport");
        port_asked |= is_port;
        if !is_parameter {
            sent_by = part;
        }
        let is_claim = is_parameter && name.eq_ignore_ascii_case(b"received");
        if !is_port && !is_claim {
            if is_parameter {
                written.push(b';');
            }
            written.extend_from_slice(part.trim_ascii_end());
        }
        is_parameter = true;
        match after.split_first() {
            Some((_, next)) => rest = next,
            None => break,
        }
    }
    let ip = source.ip().to_canonical();
    if port_asked || !is_sent_by(sent_by, ip) {
        written.extend_from_slice(format!(";received={ip}").as_bytes());
    }
    if port_asked {
        written.extend_from_slice(format!(";rport={}", source.port()).as_bytes());
    }
    written.extend_from_slice(others);
    written
}

/// Where the first of several parts ends.
fn end_of_first(value: &[u8], separator: u8) -> usize {
    let mut place = Place::Outside;
    for (at, &byte) in value.iter().enumerate() {
        if byte == separator && place == Place::Outside {
            return at;
        }
        place = place.after(byte);
    }
    value.len()
}

/// Whether a Via's `SIP/2.0/UDP host:port` names this address.
fn is_sent_by(part: &[u8], ip: IpAddr) -> bool {
    let Ok(part) = std::str::from_utf8(part) else {
        return false;
    };
    let Some(host) = part.split_ascii_whitespace().last() else {
        return false;
    };
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next(),
        None => host.split(':').next(),
    };
    host.and_then(|host| host.parse::<IpAddr>().ok()) == Some(ip)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::proptest;
    use rsipstack::sip::SipMessage;

    use super::*;

    const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\n\
        Via: SIP/2.0/UDP pc1.example.com:5066;received=9.9.9.9;branch=z9hG4bK1;rport;x=\"a,b;c\" , SIP/2.0/UDP p2\r\n\
        v:\r\n SIP/2.0/TCP p3;branch=2\r\n\
        From: <sip:alice@a>;tag=a1\r\n\
        To: \"B;tag=\" <sip:b@b;tag=no>\r\n\
        Call-ID: c1\r\n\
        CSeq: 1 OPTIONS\r\n\
        \r\n";
    const NOT_FOUND: Answer<'_> = Answer {
        status: 404,
        phrase: "Not Found",
        required: &[],
        optional: &[],
    };

    #[test]
    fn a_response_echoes_what_it_must_and_adds_where_the_request_came_from() {
        let response = text_of(&NOT_FOUND, OPTIONS, "192.0.2.7:1024");
        let at = response.find("<sip:b@b;tag=no>;tag=").expect("a tag");
        let (before, after) = response.split_at(at);
        assert_eq!(
            before,
            "SIP/2.0 404 Not Found\r\n\
             Via: SIP/2.0/UDP pc1.example.com:5066;branch=z9hG4bK1;x=\"a,b;c\";received=192.0.2.7;rport=1024, SIP/2.0/UDP p2\r\n\
             Via: SIP/2.0/TCP p3;branch=2\r\n\
             From: <sip:alice@a>;tag=a1\r\n\
             To: \"B;tag=\" "
        );
        let tag = &after["<sip:b@b;tag=no>;tag=".len()..][..16];
        assert!(tag.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(after.ends_with("\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn a_repeated_request_gets_the_same_tag_and_another_one_another() {
        let first = text_of(&NOT_FOUND, OPTIONS, "192.0.2.7:1024");
        assert_eq!(first, text_of(&NOT_FOUND, OPTIONS, "192.0.2.7:1024"));
        let other = OPTIONS.replace("CSeq: 1", "CSeq: 2");
        let second = text_of(&NOT_FOUND, &other, "192.0.2.7:1024");
        assert_ne!(first.replace("CSeq: 1", "CSeq: 2"), second);
        let tagged = OPTIONS.replace("tag=no>", "x> ; Tag = b1");
        let third = text_of(&NOT_FOUND, &tagged, "192.0.2.7:1024");
        assert!(third.contains("<sip:b@b;x> ; Tag = b1\r\n"), "{third}");
    }

    #[test]
    fn received_is_added_only_where_it_is_news() {
        for (sent_by, source, expected) in [
            ("192.0.2.7", "192.0.2.7:1024", "192.0.2.7"),
            ("192.0.2.7:99", "[::ffff:192.0.2.7]:1024", "192.0.2.7:99"),
            (
                "192.0.2.8",
                "192.0.2.7:1024",
                "192.0.2.8;received=192.0.2.7",
            ),
            (
                "[2001:db8::1]:5060",
                "[2001:db8::1]:9",
                "[2001:db8::1]:5060",
            ),
            (
                "h;rport=1",
                "[2001:db8::1]:9",
                "h;received=2001:db8::1;rport=9",
            ),
        ] {
            let request = format!("BYE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP {sent_by}\r\n\r\n");
            let response = text_of(&NOT_FOUND, &request, source);
            let via = format!("\r\nVia: SIP/2.0/UDP {expected}\r\n");
            assert!(response.contains(&via), "{response}");
        }
    }

    #[test]
    fn a_stranger_gets_no_more_than_he_sent() {
        let source = "192.0.2.7:1024".parse().expect("an address");
        let answer = Answer {
            status: 401,
            phrase: "Unauthorized",
            required: &[("WWW-Authenticate", "Digest x")],
            optional: &[("A", "1"), ("B", "2")],
        };
        let full = reply(OPTIONS.as_bytes(), &answer, source, Ceiling::None).expect("an answer");
        let pad = full.len() - OPTIONS.len();
        // The request grows by a header that is not echoed: then more and more of the answer fits.
        let padded = |size: usize| {
            let pad = "x".repeat(size - OPTIONS.len() - "S: \r\n".len());
            OPTIONS.replace("Call-ID", &format!("S: {pad}\r\nCall-ID"))
        };
        let fits = |size: usize| {
            let request = padded(size);
            assert_eq!(request.len(), size);
            let response = reply(request.as_bytes(), &answer, source, Ceiling::Request)?;
            assert!(response.len() <= size);
            Some(String::from_utf8(response).expect("text"))
        };
        assert!(pad > 10);
        let size = full.len();
        assert!(fits(size).is_some_and(|r| r.contains("\r\nB: 2\r\n")));
        assert!(fits(size - 1).is_some_and(|r| r.contains("A: 1") && !r.contains("B: 2")));
        assert!(fits(size - 7).is_some_and(|r| r.contains("From: ") && !r.contains("A: 1")));
        let small = fits(size - 13).expect("compact names are shorter");
        assert!(small.contains("\r\nv:") && small.contains("WWW-Authenticate"));
        assert_eq!(fits(small.len() - 1), None);
    }

    #[test]
    fn responses_acks_and_those_without_via_get_none() {
        let source = "192.0.2.7:1024".parse().expect("an address");
        for request in [
            OPTIONS.replace("OPTIONS sip", "ACK sip"),
            OPTIONS.replace("OPTIONS sip:a@b SIP/2.0", "SIP/2.0 200 OK"),
            OPTIONS.replace("Via", "Vie").replace("v:", "w:"),
            OPTIONS.replace("From", &format!("{}From", "S: x\r\n".repeat(64))),
            String::new(),
        ] {
            let response = reply(request.as_bytes(), &NOT_FOUND, source, Ceiling::None);
            assert_eq!(response, None, "{request}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_echoed_adds_no_line(value in vec(any::<u8>(), 0..60), name in 0..5_usize) {
            let source = "192.0.2.7:1024".parse().expect("an address");
            let old: &[u8] = [&b"SIP/2.0/UDP pc1"[..], b"<sip:alice", b"\"B;tag", b"c1\r", b"1 OPT"][name];
            let at = OPTIONS.as_bytes().windows(old.len()).position(|part| part == old).expect("there");
            let mut request = OPTIONS.as_bytes().to_vec();
            // A line end of the peer's own is his own header, and may be echoed as one.
            let line: Vec<u8> = value.into_iter().filter(|byte| *byte != b'\n').collect();
            request.splice(at..at, line);
            let response = reply(&request, &NOT_FOUND, source, Ceiling::None).expect("an answer");
            let lines = response.split(|byte| *byte == b'\n').count();
            assert_eq!(lines, 10);
            assert_eq!(response.iter().filter(|byte| **byte == b'\r').count(), 9);
        }

        #[test]
        fn no_bytes_panic(request in vec(any::<u8>(), 0..300)) {
            let source = "[2001:db8::1]:9".parse().expect("an address");
            if let Some(response) = reply(&request, &NOT_FOUND, source, Ceiling::Request) {
                assert!(response.len() <= request.len());
            }
        }
    }

    fn text_of(answer: &Answer<'_>, request: &str, source: &str) -> String {
        let source = source.parse().expect("an address");
        let response = reply(request.as_bytes(), answer, source, Ceiling::None).expect("an answer");
        assert!(SipMessage::try_from(response.as_slice()).is_ok());
        String::from_utf8(response).expect("text")
    }
}
