//! The shim between a UDP socket and the stack's parser: what comes through is a message that the stack reads as its
//! sender meant it, and what does not come through is answered or dropped for a named reason.
//!
//! The stack (rsipstack) passes over what it cannot read without a word, and reads some valid messages wrong: without
//! Content-Length it loses the body, and with it the SDP; behind a header line that is no UTF-8 it loses all further
//! headers; white space that RFC 3261 allows around `;` and `=` hides tags and branches. So a message is read here
//! first, by [`Raw`], which takes anything. If the stack would read it the same way it is passed on as it stands;
//! otherwise it is written anew. At the end the stack's own parser is asked, so that nothing it would pass over is ever
//! given to it: each request that is not passed on is answered, unless nobody can be (no Via), nobody may be (ACK,
//! responses), or it is too much (more headers than we read).
//!
//! Nothing is kept between messages: a flood of bad ones costs their reading and no memory.

use std::borrow::Cow;
use std::str::FromStr;

use rsipstack::sip::HeadersExt;
use rsipstack::sip::SipMessage;
use rsipstack::sip::prelude::ToTypedHeader;
use rsipstack::transaction::key::TransactionKey;
use rsipstack::transaction::key::TransactionRole;

use super::raw::Field;
use super::raw::Place;
use super::raw::Raw;
use super::raw::is_token;
use super::raw::split_outside;
use super::raw::text;

/// The largest message that is passed on, in bytes: what rsipstack's UDP receive buffer holds. An INVITE with a large
/// SDP and the headers of five proxies has some 5,000; beyond about 1,300 a sender should have used TCP anyway
/// (RFC 3261 §18.1.1).
pub const LARGEST_MESSAGE: usize = 8_192;

/// The methods of the gateway, for `Allow`.
pub const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, NOTIFY";

/// A ping that keeps a NAT's binding open and is to be answered, which the stack does (RFC 5626 §3.5.1).
const PING: &[u8] = b"\r\n\r\n";

/// Sequence numbers are less than 2³¹ (RFC 3261 §8.1.1.5).
const CSEQ_LIMIT: u32 = 1 << 31;

/// What is to be done with a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Give these bytes to the stack: the datagram's own, where nothing had to be changed.
    Pass(Cow<'a, [u8]>),
    /// Answer without state, with [`Reason::status`], if the answer is allowed to be that large.
    Answer(Reason),
    /// Say nothing.
    Drop(Reason),
    /// Nothing was said: a keep-alive that wants no answer.
    KeepAlive,
}

labels! {
    /// Why a message was not passed on.
    pub enum Reason {
        /// Not a SIP message at all.
        NotSip => "not_sip",
        /// More headers than we read. Not answered: the answer would have to repeat each Via, and we have not read them.
        TooManyHeaders => "too_many_headers",
        /// Larger than [`LARGEST_MESSAGE`].
        TooLarge => "too_large",
        /// No Via: nobody to answer.
        NoVia => "no_via",
        /// A SIP version other than 2.0.
        Version => "version",
        /// A first line that is no Request-Line.
        RequestLine => "request_line",
        /// A Request-URI that cannot be read, or has headers (RFC 3261 §19.1.1).
        RequestUri => "request_uri",
        /// A Request-URI that is no `sip`, `sips` or `tel`.
        UriScheme => "uri_scheme",
        /// A method that we do not know.
        UnknownMethod => "unknown_method",
        /// A method that we know and do not serve.
        MethodNotServed => "method_not_allowed",
        /// No From, To, Call-ID or CSeq.
        MissingHeader => "missing_header",
        /// A header that may come once came twice and differs.
        ConflictingHeaders => "conflicting_headers",
        /// A Via that cannot be read, or of a transport that we do not know.
        BadVia => "bad_via",
        /// A From that cannot be read.
        BadFrom => "bad_from",
        /// No tag in From: a client of before 2002 (RFC 2543). The stack cannot tell its calls apart.
        NoFromTag => "no_from_tag",
        /// A To that cannot be read.
        BadTo => "bad_to",
        /// An empty Call-ID, or one with characters that no answer could repeat.
        BadCallId => "bad_call_id",
        /// A CSeq that is no number below 2³¹ and method.
        BadCSeq => "bad_cseq",
        /// A CSeq of another method than the request.
        MethodMismatch => "method_mismatch",
        /// A Max-Forwards that is no number from 0 to 255.
        BadMaxForwards => "bad_max_forwards",
        /// Max-Forwards has run out.
        TooManyHops => "too_many_hops",
        /// A Content-Length that is no number.
        BadContentLength => "bad_content_length",
        /// A Content-Length beyond the end of the datagram: it was cut on its way.
        BodyCut => "body_cut",
        /// A status code that is not 100 to 699.
        BadStatus => "bad_status",
        /// A response with more than one Via, which is on its way to someone else (RFC 3261 §8.1.3.3).
        NotOurResponse => "not_our_response",
        /// The stack's parser does not take it, for whatever is not named above.
        Unreadable => "unreadable",
    }
}

impl Reason {
    /// The status that says it to the sender of a request (RFC 3261 §21), with a reason phrase that says where to look.
    pub const fn status(self) -> (u16, &'static str) {
        match self {
            Self::TooLarge => (513, "Message Too Large"),
            Self::Version => (505, "Version Not Supported"),
            Self::UriScheme => (416, "Unsupported URI Scheme"),
            Self::UnknownMethod => (501, "Not Implemented"),
            Self::MethodNotServed => (405, "Method Not Allowed"),
            Self::TooManyHops => (483, "Too Many Hops"),
            Self::TooManyHeaders => (400, "Too Many Headers"),
            Self::RequestLine => (400, "Bad Request-Line"),
            Self::RequestUri => (400, "Bad Request-URI"),
            Self::MissingHeader => (400, "Missing Header"),
            Self::ConflictingHeaders => (400, "Conflicting Headers"),
            Self::BadVia | Self::NoVia => (400, "Bad Via"),
            Self::BadFrom => (400, "Bad From"),
            Self::NoFromTag => (400, "Missing From Tag"),
            Self::BadTo => (400, "Bad To"),
            Self::BadCallId => (400, "Bad Call-ID"),
            Self::BadCSeq => (400, "Bad CSeq"),
            Self::MethodMismatch => (400, "CSeq Method Mismatch"),
            Self::BadMaxForwards => (400, "Bad Max-Forwards"),
            Self::BadContentLength => (400, "Bad Content-Length"),
            Self::BodyCut => (400, "Content-Length Beyond Message"),
            Self::NotSip | Self::BadStatus | Self::NotOurResponse | Self::Unreadable => {
                (400, "Bad Request")
            }
        }
    }

    /// The headers without which the answer would break a rule: 405 says what is allowed (RFC 3261 §8.2.1).
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::MethodNotServed => &[("Allow", ALLOW)],
            Self::NotSip
            | Self::TooManyHeaders
            | Self::TooLarge
            | Self::NoVia
            | Self::Version
            | Self::RequestLine
            | Self::RequestUri
            | Self::UriScheme
            | Self::UnknownMethod
            | Self::MissingHeader
            | Self::ConflictingHeaders
            | Self::BadVia
            | Self::BadFrom
            | Self::NoFromTag
            | Self::BadTo
            | Self::BadCallId
            | Self::BadCSeq
            | Self::MethodMismatch
            | Self::BadMaxForwards
            | Self::TooManyHops
            | Self::BadContentLength
            | Self::BodyCut
            | Self::BadStatus
            | Self::NotOurResponse
            | Self::Unreadable => &[],
        }
    }
}

/// Judges a datagram.
pub fn normalise(datagram: &[u8]) -> Verdict<'_> {
    if datagram == PING {
        return Verdict::Pass(Cow::Borrowed(datagram));
    }
    // Some telephones keep their NAT binding open by zero bytes instead of line ends.
    if datagram
        .iter()
        .all(|byte| byte.is_ascii_whitespace() || *byte == 0)
    {
        return Verdict::KeepAlive;
    }
    let raw = Raw::read(datagram);
    let Some(start) = StartLine::read(&raw) else {
        return Verdict::Drop(Reason::NotSip);
    };
    match judge(datagram, &raw, &start) {
        Ok(message) => Verdict::Pass(message),
        Err(reason) if may_be_answered(&start, reason) => Verdict::Answer(reason),
        Err(reason) => Verdict::Drop(reason),
    }
}

fn may_be_answered(start: &StartLine<'_>, reason: Reason) -> bool {
    let answerable = match start {
        StartLine::Request { method, .. } => *method != "ACK",
        StartLine::Response { .. } => false,
    };
    answerable && !matches!(reason, Reason::NoVia | Reason::TooManyHeaders)
}

/// The first line, as far as it must be understood to treat the message at all.
enum StartLine<'a> {
    Request {
        method: &'a str,
        /// What stands between method and version; whether it is one URI is still to be seen.
        uri: Cow<'a, str>,
        version: &'a str,
    },
    Response {
        /// As it came.
        line: Cow<'a, str>,
    },
}

impl<'a> StartLine<'a> {
    /// `None` if the message is not SIP.
    fn read(raw: &Raw<'a>) -> Option<Self> {
        let line = raw.start_line;
        if line
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
        {
            return Some(Self::Response { line: text(line) });
        }
        let method_ends = line.iter().position(u8::is_ascii_whitespace)?;
        let version_begins = line.iter().rposition(u8::is_ascii_whitespace)? + 1;
        let method = line.get(..method_ends)?;
        let version = line.get(version_begins..)?;
        let uri = line.get(method_ends..version_begins)?.trim_ascii();
        let is_sip = version
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"));
        if !is_sip || !is_token(method) {
            return None;
        }
        Some(Self::Request {
            method: std::str::from_utf8(method).ok()?,
            uri: text(uri),
            version: std::str::from_utf8(version).ok()?,
        })
    }
}

/// The message for the stack.
fn judge<'a>(
    datagram: &'a [u8],
    raw: &Raw<'a>,
    start: &StartLine<'_>,
) -> Result<Cow<'a, [u8]>, Reason> {
    if raw.too_many {
        return Err(Reason::TooManyHeaders);
    }
    let top_via = raw.first("Via").ok_or(Reason::NoVia)?;
    if let StartLine::Request { version, .. } = start
        && !version.eq_ignore_ascii_case("SIP/2.0")
    {
        return Err(Reason::Version);
    }
    let repeated = repeated_singletons(raw)?;
    check_via(&top_via.text())?;
    let sequence_method = check_identity(raw)?;
    let body = framed_body(raw)?;
    let start_line = match start {
        StartLine::Request { method, uri, .. } => {
            let hops = max_forwards(raw)?;
            check_method(method, &sequence_method)?;
            // RFC 3261 §16.3 (3) lets who is asked for OPTIONS answer it for himself.
            if hops == Some(0) && *method != "OPTIONS" {
                return Err(Reason::TooManyHops);
            }
            format!("{method} {} SIP/2.0", request_uri(uri)?)
        }
        StartLine::Response { line } => {
            check_response(raw, line)?;
            line.clone().into_owned()
        }
    };

    let stated = raw.first("Content-Length").is_some();
    let same = raw.plain
        && stated
        && !repeated
        && raw.start_line == start_line.as_bytes()
        && raw
            .fields
            .iter()
            .all(|field| matches!(tightened(field), Cow::Borrowed(_)));
    let message = if same {
        // The bytes behind the body go (RFC 3261 §18.3).
        let end = datagram.len() - raw.body.len() + body.len();
        Cow::Borrowed(&datagram[..end])
    } else {
        Cow::Owned(written_anew(raw, &start_line, body))
    };
    if message.len() > LARGEST_MESSAGE {
        return Err(Reason::TooLarge);
    }
    ask_the_stack(&message)?;
    Ok(message)
}

/// Whether a header that may come once came again saying the same.
fn repeated_singletons(raw: &Raw<'_>) -> Result<bool, Reason> {
    let mut repeated = false;
    for name in SINGLETONS {
        let mut fields = raw.all(name);
        if let Some(first) = fields.next() {
            for other in fields {
                if other.value != first.value {
                    return Err(Reason::ConflictingHeaders);
                }
                repeated = true;
            }
        }
    }
    Ok(repeated)
}

/// The headers that come once and on which the way of a message depends.
const SINGLETONS: [&str; 7] = [
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Max-Forwards",
    "Content-Length",
    "Content-Type",
];

/// The body by its Content-Length; a datagram ends it where that is missing (RFC 3261 §18.3).
fn framed_body<'a>(raw: &Raw<'a>) -> Result<&'a [u8], Reason> {
    let Some(field) = raw.first("Content-Length") else {
        return Ok(raw.body);
    };
    let length = decimal::<u64>(&field.text()).ok_or(Reason::BadContentLength)?;
    usize::try_from(length)
        .ok()
        .and_then(|length| raw.body.get(..length))
        .ok_or(Reason::BodyCut)
}

/// Checks the headers by which transactions and dialogs are told apart, and gives the method of CSeq.
fn check_identity(raw: &Raw<'_>) -> Result<String, Reason> {
    let header = |name| raw.first(name).ok_or(Reason::MissingHeader);
    let (from, to) = (header("From")?.text(), header("To")?.text());
    let call_id = &header("Call-ID")?.value;
    let sequence = header("CSeq")?.text();
    if !is_address(&to) {
        return Err(Reason::BadTo);
    }
    if !is_address(&from) {
        return Err(Reason::BadFrom);
    }
    if parameter(&from, "tag").is_none() {
        return Err(Reason::NoFromTag);
    }
    let printable = |byte: &u8| byte.is_ascii_graphic();
    if call_id.is_empty() || !call_id.iter().all(printable) {
        return Err(Reason::BadCallId);
    }
    let (number, method) = sequence
        .split_once(|c: char| c.is_ascii_whitespace())
        .ok_or(Reason::BadCSeq)?;
    let method = method.trim_ascii();
    let in_range = decimal::<u32>(number).is_some_and(|number| number < CSEQ_LIMIT);
    if !in_range || !is_token(method.as_bytes()) {
        return Err(Reason::BadCSeq);
    }
    Ok(method.to_owned())
}

/// The hops that are left. None stated is tolerated: RFC 2543 did not know it.
fn max_forwards(raw: &Raw<'_>) -> Result<Option<u8>, Reason> {
    raw.first("Max-Forwards")
        .map(|field| decimal::<u8>(&field.text()).ok_or(Reason::BadMaxForwards))
        .transpose()
}

fn check_method(method: &str, sequence_method: &str) -> Result<(), Reason> {
    match method {
        "INVITE" | "ACK" | "BYE" | "CANCEL" | "OPTIONS" | "INFO" | "UPDATE" | "PRACK"
        | "NOTIFY" => {}
        "REFER" | "MESSAGE" | "SUBSCRIBE" | "PUBLISH" | "REGISTER" => {
            return Err(Reason::MethodNotServed);
        }
        _ => return Err(Reason::UnknownMethod),
    }
    if method != sequence_method {
        return Err(Reason::MethodMismatch);
    }
    Ok(())
}

fn check_response(raw: &Raw<'_>, line: &str) -> Result<(), Reason> {
    let mut words = line.split_ascii_whitespace();
    if !words
        .next()
        .is_some_and(|version| version.eq_ignore_ascii_case("SIP/2.0"))
    {
        return Err(Reason::Version);
    }
    if !words
        .next()
        .and_then(decimal::<u16>)
        .is_some_and(|code| (100..700).contains(&code))
    {
        return Err(Reason::BadStatus);
    }
    let vias = raw
        .all("Via")
        .filter_map(|field| split_outside(&field.text(), b',').map(|values| values.len()))
        .sum::<usize>();
    if vias > 1 {
        return Err(Reason::NotOurResponse);
    }
    Ok(())
}

/// The Request-URI as the stack reads it right.
fn request_uri(uri: &str) -> Result<String, Reason> {
    // Angle brackets do not belong here, but what is meant is beyond doubt.
    let uri = uri
        .strip_prefix('<')
        .and_then(|uri| uri.strip_suffix('>'))
        .unwrap_or(uri);
    if uri.is_empty() || uri.contains(|c: char| c.is_ascii_whitespace()) {
        return Err(Reason::RequestLine);
    }
    if !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Reason::RequestUri);
    }
    let (scheme, rest) = uri.split_once(':').ok_or(Reason::RequestUri)?;
    match scheme.to_ascii_lowercase().as_str() {
        "sip" | "sips" => {}
        "tel" => return Ok(uri.to_owned()),
        _ => return Err(Reason::UriScheme),
    }
    let Some((user, host)) = rest.rsplit_once('@') else {
        return if rest.contains('?') {
            Err(Reason::RequestUri)
        } else {
            Ok(uri.to_owned())
        };
    };
    if host.contains('?') || user.contains('@') {
        return Err(Reason::RequestUri);
    }
    Ok(format!("{scheme}:{}@{host}", escaped_user(user)))
}

/// A user part as the stack reads it right: it takes the first `;` or `?` of a URI for the end of the address, also in
/// the user part, where RFC 3261 §25.1 allows them and carriers put number portability: `sip:+15551234567;npdi@host`.
fn escaped_user(user: &str) -> String {
    user.replace(';', "%3B").replace('?', "%3F")
}

/// A Contact with its user parts like that, or requests in the dialog would go to the wrong host.
fn escaped_contact(value: &str) -> String {
    let mut written = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, bracketed)) = rest.split_once('<') {
        let (uri, after) = bracketed.split_at(bracketed.find('>').unwrap_or(bracketed.len()));
        written.push_str(before);
        written.push('<');
        match uri.rsplit_once('@') {
            Some((user, host)) => {
                written.push_str(&escaped_user(user));
                written.push('@');
                written.push_str(host);
            }
            None => written.push_str(uri),
        }
        rest = after;
    }
    written.push_str(rest);
    written
}

/// Whether the first value of a Via can be answered to (RFC 3261 §20.42). The stack reads over empty parameters; those
/// are what a generator that has lost its mind writes, so they are refused (RFC 4475 §3.1.2.1).
fn check_via(value: &str) -> Result<(), Reason> {
    let values = split_outside(value, b',').ok_or(Reason::BadVia)?;
    if values.iter().any(|value| value.trim().is_empty()) {
        return Err(Reason::BadVia);
    }
    let parts = values
        .first()
        .and_then(|first| split_outside(first, b';'))
        .ok_or(Reason::BadVia)?;
    if parts.iter().any(|part| part.trim().is_empty()) {
        return Err(Reason::BadVia);
    }
    Ok(())
}

/// Whether a From or To can be read: quotes and brackets closed, and an address in them.
fn is_address(value: &str) -> bool {
    let Some(parts) = split_outside(value, b';') else {
        return false;
    };
    let Some(address) = parts.first() else {
        return false;
    };
    uri_of(address).is_some_and(|uri| {
        let clean = |c: char| !matches!(c, '"' | '<' | '>' | ' ' | '\t');
        uri.split_once(':').is_some_and(|(scheme, rest)| {
            is_token(scheme.as_bytes()) && !rest.is_empty() && rest.chars().all(clean)
        })
    })
}

/// The URI of an address, with or without a display name; `None` if something follows its bracket.
fn uri_of(address: &str) -> Option<&str> {
    let mut place = Place::Outside;
    for (at, byte) in address.bytes().enumerate() {
        let before = place;
        place = place.after(byte);
        if before == Place::Outside && place == Place::Bracketed {
            let (uri, after) = address.get(at + 1..)?.split_once('>')?;
            return after.trim().is_empty().then(|| uri.trim());
        }
    }
    Some(address.trim())
}

/// The value of a header's parameter.
fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    split_outside(value, b';')?
        .into_iter()
        .skip(1)
        .find_map(|part| {
            let (key, value) = part.split_once('=')?;
            let value = value.trim();
            (key.trim().eq_ignore_ascii_case(name) && is_token(value.as_bytes())).then_some(value)
        })
}

/// A header's value without what the stack stumbles over.
fn tightened<'b>(field: &'b Field<'_>) -> Cow<'b, str> {
    let value = field.text();
    let squeezed = match field.full_name().to_ascii_lowercase().as_str() {
        "via" => squeeze(&value, b"/:;="),
        // Their parameters begin behind the address, so that a display name keeps its spaces.
        "from" | "to" | "route" | "record-route" => squeeze(&value, b";="),
        "contact" => escaped_contact(&squeeze(&value, b";=")),
        _ => return value,
    };
    if squeezed == *value {
        value
    } else {
        Cow::Owned(squeezed)
    }
}

/// Takes away white space beside `marks`, and angle brackets in quoted strings, by which the stack finds an address.
fn squeeze(value: &str, marks: &[u8]) -> String {
    let mut squeezed = String::with_capacity(value.len());
    let mut place = Place::Outside;
    let is_mark = |c: char| u8::try_from(c).is_ok_and(|byte| marks.contains(&byte));
    for c in value.chars() {
        let outside = place == Place::Outside;
        let escaped = place == Place::Escaped;
        let quoted = escaped || place == Place::Quoted;
        // Only ASCII changes the place, and 0 stands for every other character.
        place = place.after(u8::try_from(c).unwrap_or_default());
        if quoted && matches!(c, '<' | '>') {
            if escaped {
                // The backslash goes too, or it would escape what follows.
                squeezed.pop();
            }
            continue;
        }
        let space = matches!(c, ' ' | '\t');
        if outside && space && squeezed.ends_with(is_mark) {
            continue;
        }
        if outside && is_mark(c) {
            squeezed.truncate(squeezed.trim_end_matches([' ', '\t']).len());
        }
        squeezed.push(c);
    }
    squeezed
}

/// The message on plain lines, with one Content-Length that is right.
fn written_anew(raw: &Raw<'_>, start_line: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(LARGEST_MESSAGE / 4 + body.len());
    message.extend_from_slice(start_line.as_bytes());
    message.extend_from_slice(b"\r\n");
    for (at, field) in raw.fields.iter().enumerate() {
        let name = field.full_name();
        let again = SINGLETONS
            .iter()
            .any(|single| name.eq_ignore_ascii_case(single))
            && raw.fields.iter().take(at).any(|earlier| earlier.is(name));
        if again || field.is("Content-Length") {
            continue;
        }
        message.extend_from_slice(name.as_bytes());
        message.extend_from_slice(b": ");
        message.extend_from_slice(tightened(field).as_bytes());
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    message.extend_from_slice(body);
    message
}

/// Goes the way that the stack goes with a message until it has found its transaction.
fn ask_the_stack(message: &[u8]) -> Result<(), Reason> {
    let parsed = SipMessage::try_from(message).map_err(|_| Reason::Unreadable)?;
    let top_via = parsed.top_via_header().map_err(|_| Reason::BadVia)?;
    top_via.typed().map_err(|_| Reason::BadVia)?;
    let key = match &parsed {
        SipMessage::Request(request) => {
            TransactionKey::from_request(request, TransactionRole::Server)
        }
        SipMessage::Response(response) => {
            TransactionKey::from_response(response, TransactionRole::Client)
        }
    };
    key.map_err(|_| Reason::Unreadable)?;
    let to = parsed.to_header().map_err(|_| Reason::BadTo)?;
    to.tag().map(drop).map_err(|_| Reason::BadTo)
}

/// A number of digits alone: `parse` would take a sign.
fn decimal<N: FromStr>(text: &str) -> Option<N> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::Strategy;
    use proptest::prelude::any;
    use proptest::proptest;
    use proptest::sample::Index;
    use rsipstack::sip::Request;
    use rsipstack::sip::param::Branch;
    use rsipstack::sip::param::Tag;

    use super::*;

    const INVITE: &str = "INVITE sip:1000@voice.example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\n\
        Max-Forwards: 70\r\n\
        From: \"Alice\" <sip:alice@192.0.2.1>;tag=a1\r\n\
        To: <sip:1000@voice.example.com>\r\n\
        Call-ID: c1@192.0.2.1\r\n\
        CSeq: 1 INVITE\r\n\
        Contact: <sip:alice@192.0.2.1:5060>\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: 5\r\n\
        \r\n\
        v=0\r\n";

    #[test]
    fn a_good_message_is_passed_on_as_it_stands() {
        let verdict = normalise(INVITE.as_bytes());
        assert_eq!(verdict, Verdict::Pass(Cow::Borrowed(INVITE.as_bytes())));
    }

    #[test]
    fn keep_alives_are_for_nobody_but_a_ping_is_answered_by_the_stack() {
        assert_eq!(normalise(PING), Verdict::Pass(Cow::Borrowed(PING)));
        for nothing in ["", "\r\n", "\n", "\r\n\r\n\r\n", " ", "\0\0\0\0"] {
            assert_eq!(normalise(nothing.as_bytes()), Verdict::KeepAlive);
        }
    }

    #[test]
    fn the_body_ends_where_content_length_or_the_datagram_says() {
        // Missing: the datagram ends it. Too small: the rest goes. Twice the same: once.
        for (from, to) in [
            ("Content-Length: 5\r\n", ""),
            ("v=0\r\n", "v=0\r\ngarbage"),
            ("Call-ID", "l: 5\r\nCall-ID"),
            ("Content-Length: 5", "Content-Length:\t0005"),
            ("Content-Length: 5", "Content-Length\t: 5"),
        ] {
            assert_eq!(passed(from, to).body, b"v=0\r\n", "{to:?}");
        }
        for (to, reason) in [
            ("Content-Length: 6", Reason::BodyCut),
            (
                "Content-Length: 99999999999999999999",
                Reason::BadContentLength,
            ),
            ("Content-Length: -5", Reason::BadContentLength),
            ("Content-Length: +5", Reason::BadContentLength),
            ("Content-Length: five", Reason::BadContentLength),
            ("Content-Length: 5\r\nl: 4", Reason::ConflictingHeaders),
        ] {
            assert_eq!(refused("Content-Length: 5", to), reason, "{to:?}");
        }
    }

    #[test]
    fn sloppy_lines_reach_the_stack_as_plain_ones() {
        let sloppy = INVITE
            .replace("\r\n", "\n")
            .replace("Content-Length: 5\n", "")
            .replace("From: ", "\nf :\n  ")
            .replacen("\n\nf", "\nf", 1)
            .replace(
                "INVITE sip:1000@voice.example.com",
                "\n\nINVITE   <sip:1000@voice.example.com>",
            );
        let Verdict::Pass(message) = normalise(sloppy.as_bytes()) else {
            panic!("it can be read");
        };
        let request = parsed(&message);
        assert_eq!(request.uri.to_string(), "sip:1000@voice.example.com");
        assert_eq!(request.body, b"v=0\n");
        let from = request
            .from_header()
            .expect("a From")
            .typed()
            .expect("good");
        assert_eq!(from.display_name.as_deref(), Some("Alice"));
        assert_eq!(from.tag().map(Tag::value), Some("a1"));
    }

    #[test]
    fn white_space_and_brackets_do_not_hide_a_tag_or_a_branch() {
        let request = passed(
            "branch=z9hG4bK1;rport",
            " branch = z9hG4bK1 ;\r\n rport , SIP / 2.0 / TCP  192.0.2.9",
        );
        let via = request
            .top_via_header()
            .expect("a Via")
            .typed()
            .expect("good");
        assert_eq!(via.branch().map(Branch::value), Some("z9hG4bK1"));
        let request = passed(
            "\"Alice\" <sip:alice@192.0.2.1>;tag=a1",
            "\"Al <sip:x@y> ;tag=no\" <sip:alice@192.0.2.1> ; tag\t=\ta1",
        );
        let from = request
            .from_header()
            .expect("a From")
            .typed()
            .expect("good");
        assert_eq!(from.uri.to_string(), "sip:alice@192.0.2.1");
        assert_eq!(from.tag().map(Tag::value), Some("a1"));
    }

    #[test]
    fn a_name_in_old_characters_does_not_hide_the_headers_behind_it() {
        let mut latin = INVITE.as_bytes().to_vec();
        let at = INVITE.find("Alice").expect("it is there");
        latin[at + 1] = 0xf6;
        let Verdict::Pass(message) = normalise(&latin) else {
            panic!("it can be read");
        };
        let request = parsed(&message);
        let from = request
            .from_header()
            .expect("a From")
            .typed()
            .expect("good");
        assert_eq!(from.display_name.as_deref(), Some("A\u{f6}ice"));
        assert!(request.call_id_header().is_ok());
    }

    #[test]
    fn a_user_part_with_parameters_of_its_own_keeps_its_host() {
        let request = passed(
            "sip:1000@voice.example.com SIP",
            "sip:+1555;npdi;rn=+1444@voice.example.com:5062;user=phone SIP",
        );
        assert_eq!(
            request.uri.host_with_port.to_string(),
            "voice.example.com:5062"
        );
        assert_eq!(request.uri.user(), Some("+1555%3Bnpdi%3Brn=+1444"));
        let request = passed(
            "<sip:alice@192.0.2.1:5060>",
            "\"a;b\" <sip:+1555;npdi@192.0.2.1:5060;x?y=z>;q=1",
        );
        let contact = request.contact_header().expect("a Contact");
        assert_eq!(
            contact.value(),
            "\"a;b\" <sip:+1555%3Bnpdi@192.0.2.1:5060;x?y=z>;q=1"
        );
        let tel = passed("sip:1000@voice.example.com SIP", "tel:+15551234 SIP");
        assert_eq!(tel.uri.host_with_port.to_string(), "+15551234");
    }

    #[test]
    fn every_refusal_of_a_request_has_its_own_reason() {
        for (from, to, reason) in [
            ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", Reason::Version),
            ("sip:1000@voice.example.com SIP", "SIP", Reason::RequestLine),
            (
                "example.com SIP",
                "example.com; lr SIP",
                Reason::RequestLine,
            ),
            (
                "example.com SIP",
                "example.com?Route=x SIP",
                Reason::RequestUri,
            ),
            (
                "sip:1000@voice.example.com SIP",
                "1000 SIP",
                Reason::RequestUri,
            ),
            ("INVITE sip:1000", "INVITE sip:a@b@1000", Reason::RequestUri),
            ("INVITE sip:", "INVITE http:", Reason::UriScheme),
            ("INVITE", "DANCE", Reason::UnknownMethod),
            ("INVITE", "invite", Reason::UnknownMethod),
            ("INVITE", "MESSAGE", Reason::MethodNotServed),
            ("From: ", "Form: ", Reason::MissingHeader),
            ("To: ", "Too: ", Reason::MissingHeader),
            ("Call-ID: ", "Call-Id-: ", Reason::MissingHeader),
            ("CSeq: ", "C-Seq: ", Reason::MissingHeader),
            ("To: ", "To: <sip:x@y>\r\nTo: ", Reason::ConflictingHeaders),
            ("UDP 192", "CARRIER-PIGEON 192", Reason::BadVia),
            ("SIP/2.0/UDP 192.0.2.1:5060;", "nonsense;", Reason::BadVia),
            (";rport", ";;rport", Reason::BadVia),
            (";rport", ";rport=many", Reason::BadVia),
            (";rport", ";x=\"", Reason::BadVia),
            ("\"Alice\"", "\"Alice", Reason::BadFrom),
            (";tag=a1", "", Reason::NoFromTag),
            (";tag=a1", ";tag=", Reason::NoFromTag),
            (
                "<sip:1000@voice.example.com>",
                "<sip:1000@voice",
                Reason::BadTo,
            ),
            ("To: <sip:1000@voice.example.com>", "To:", Reason::BadTo),
            ("c1@192.0.2.1", "", Reason::BadCallId),
            ("c1@192.0.2.1", "c 1", Reason::BadCallId),
            ("CSeq: 1 INVITE", "CSeq: 2147483648 INVITE", Reason::BadCSeq),
            ("CSeq: 1 INVITE", "CSeq: -1 INVITE", Reason::BadCSeq),
            ("CSeq: 1 INVITE", "CSeq: INVITE", Reason::BadCSeq),
            ("CSeq: 1 INVITE", "CSeq: 1 BYE", Reason::MethodMismatch),
            (
                "Max-Forwards: 70",
                "Max-Forwards: 256",
                Reason::BadMaxForwards,
            ),
            ("Max-Forwards: 70", "Max-Forwards: 0", Reason::TooManyHops),
        ] {
            let reason_found = match (from, to) {
                ("INVITE", method) => refused_message(&INVITE.replace("INVITE", method)),
                _ => refused(from, to),
            };
            assert_eq!(reason_found, reason, "{from:?} -> {to:?}");
        }
        let large = format!("Subject: {}\r\nTo: ", "x".repeat(LARGEST_MESSAGE));
        assert_eq!(refused("To: ", &large), Reason::TooLarge);
    }

    #[test]
    fn what_may_be_missing_or_odd_is_tolerated() {
        for (from, to) in [
            ("Max-Forwards: 70\r\n", ""),
            ("Max-Forwards: 70", "Max-Forwards: 70\r\nMax-Forwards: 70"),
            ("To: ", "no header at all\r\nTo: "),
            ("To: ", "na me: x\r\nTo: "),
            (";branch=z9hG4bK1;rport", ""),
        ] {
            passed(from, to);
        }
        let options = INVITE
            .replace("INVITE", "OPTIONS")
            .replace("Max-Forwards: 70", "Max-Forwards: 0");
        assert!(matches!(
            normalise(options.as_bytes()),
            Verdict::Pass(Cow::Borrowed(_))
        ));
        // Headers end with the datagram: nothing is missing that must be there.
        let end = INVITE.find("Content-Type").expect("it is there");
        assert!(matches!(
            normalise(&INVITE.as_bytes()[..end]),
            Verdict::Pass(Cow::Owned(_))
        ));
    }

    #[test]
    fn what_may_not_be_answered_is_dropped() {
        let ack = INVITE.replace("INVITE", "ACK");
        let response = INVITE.replace(
            "INVITE sip:1000@voice.example.com SIP/2.0",
            "SIP/2.0 200 OK",
        );
        assert!(matches!(normalise(response.as_bytes()), Verdict::Pass(_)));
        let many = format!("{}To: ", "Subject: x\r\n".repeat(64));
        for (message, reason) in [
            (ack.replace("From:", "Form:"), Reason::MissingHeader),
            (INVITE.replace("Via:", "Vie:"), Reason::NoVia),
            (INVITE.replace("To: ", &many), Reason::TooManyHeaders),
            (response.replace(" 200 ", " 99 "), Reason::BadStatus),
            (response.replace(" 200 ", " 700 "), Reason::BadStatus),
            (
                response.replace("SIP/2.0 200", "SIP/3.0 200"),
                Reason::Version,
            ),
            (
                response.replace(";rport", ",SIP/2.0/UDP 192.0.2.7"),
                Reason::NotOurResponse,
            ),
            (response.replace("CSeq: 1 ", "CSeq: x "), Reason::BadCSeq),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), Reason::NotSip),
            ("\u{1}\0\u{8}!\u{12}\u{a4}B".to_owned(), Reason::NotSip),
            ("INVITE".to_owned(), Reason::NotSip),
        ] {
            let verdict = normalise(message.as_bytes());
            assert_eq!(verdict, Verdict::Drop(reason), "{message}");
        }
    }

    #[test]
    fn every_reason_has_a_status() {
        for reason in Reason::ALL {
            assert!((400..600).contains(&reason.status().0), "{reason:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..400)) {
            normalise(&bytes);
        }

        #[test]
        fn a_damaged_message_never_panics_and_what_passes_is_read_by_the_stack(damaged in damaged()) {
            if let Verdict::Pass(message) = normalise(&damaged) {
                assert!(message.len() <= LARGEST_MESSAGE);
                assert!(SipMessage::try_from(&*message).is_ok());
            }
        }

        #[test]
        fn what_was_mended_needs_no_mending(damaged in damaged()) {
            if let Verdict::Pass(message) = normalise(&damaged) {
                assert_eq!(normalise(&message), Verdict::Pass(Cow::Borrowed(&*message)));
            }
        }
    }

    /// The INVITE with some of its bytes changed, left out or doubled.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let bytes = "[\r\n\t :;,<>\"=\\\\/0-9A-Z]|[\\x00-\\x20]|[\\x80-\\xff]";
        let byte =
            proptest::string::bytes_regex(&format!("(?s-u:{bytes})")).expect("a good expression");
        vec((any::<Index>(), 0..3_u8, byte), 0..6).prop_map(|damages| {
            let mut message = INVITE.as_bytes().to_vec();
            for (index, kind, byte) in damages {
                let at = index.index(message.len());
                match kind {
                    0 => message.splice(at..=at, byte),
                    1 => message.splice(at..at, byte),
                    _ => message.splice(at..=at, Vec::new()),
                };
            }
            message
        })
    }

    /// The INVITE with a change, as the stack has it.
    fn passed(from: &str, to: &str) -> Request {
        assert!(INVITE.contains(from), "{from}");
        let message = INVITE.replacen(from, to, 1);
        match normalise(message.as_bytes()) {
            Verdict::Pass(message) => parsed(&message),
            other => panic!("{other:?}: {message}"),
        }
    }

    fn parsed(message: &[u8]) -> Request {
        match SipMessage::try_from(message) {
            Ok(SipMessage::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Why the INVITE with a change is answered.
    fn refused(from: &str, to: &str) -> Reason {
        assert!(INVITE.contains(from), "{from}");
        refused_message(&INVITE.replacen(from, to, 1))
    }

    fn refused_message(message: &str) -> Reason {
        match normalise(message.as_bytes()) {
            Verdict::Answer(reason) => reason,
            other => panic!("{other:?}: {message}"),
        }
    }
}
