//! Where a caller may be transferred: the one grammar for what routes, agents and operators write.
//!
//! What an agent says must not end up as anything else on a telephone line, in a header field or in XML, so this is
//! narrower than RFC 3261: what could break out of those is not in it, though it may stand there escaped.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// The longest number (E.164: 15 digits).
const LONGEST_NUMBER: usize = 15;
/// The longest URI, in bytes; longer ones are nobody's.
const LONGEST_URI: usize = 256;

/// A place that callers can be transferred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Digits, perhaps after a `+`, without what is there for the eye alone. A PBX's own codes have `*` and `#` too.
    Number(String),
    /// A `sip:` or `sips:` URI, its scheme in lower case. It may do without a user.
    SipUri(String),
}

impl Destination {
    /// Reads a number, with or without `tel:`, or a URI; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        // RFC 3986 §3.1: schemes have no case.
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("tel".to_owned(), text),
        };
        match &*scheme {
            "tel" => number(rest).map(Self::Number),
            "sip" | "sips" => is_address(rest)
                .then(|| format!("{scheme}:{rest}"))
                .filter(|uri| uri.len() <= LONGEST_URI)
                .map(Self::SipUri),
            _ => None,
        }
    }

    /// Whether Twilio's `<Dial>` takes it: a number of the public network, or a `sip:` URI with a user. A REFER takes more,
    /// for whoever gets it knows what its own `sip:pbx` or `*72` is.
    pub fn is_dialable(&self) -> bool {
        match self {
            Self::Number(number) => !number.contains(['*', '#']),
            Self::SipUri(uri) => uri.starts_with("sip:") && uri.contains('@'),
        }
    }
}

impl Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Number(text) | Self::SipUri(text)) = self;
        f.write_str(text)
    }
}

fn number(text: &str) -> Option<String> {
    let number = text.replace([' ', '-', '.', '(', ')'], "");
    let keys = number.strip_prefix('+').unwrap_or(&number);
    let is_key = |byte: u8| byte.is_ascii_digit() || b"*#".contains(&byte);
    let is_number = (1..=LONGEST_NUMBER).contains(&keys.len()) && keys.bytes().all(is_key);
    is_number.then_some(number)
}

/// What follows the scheme of a SIP URI: perhaps a user, a host, perhaps parameters and headers.
fn is_address(text: &str) -> bool {
    let is_clean = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&byte));
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let end = rest.find([';', '?']).unwrap_or(rest.len());
    is_clean
        && user.is_none_or(|user| !user.is_empty() && !user.contains('@'))
        && is_host_and_port(&rest[..end])
}

/// A host, IPv6 in brackets, and perhaps a port.
pub fn is_host_and_port(text: &str) -> bool {
    let is_port = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            address.parse::<Ipv6Addr>().is_ok() && port_fits
        });
    }
    match text.split_once(':') {
        Some((host, port)) => is_host(host) && is_port(port),
        None => is_host(text),
    }
}

/// An IPv4 address, or a name whose last label begins with a letter (RFC 3261 §25.1, `hostname`).
pub fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_name = text.len() <= 253
        && text.split('.').all(is_label)
        && last.starts_with(|c: char| c.is_ascii_alphabetic());
    is_name || text.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written, what it is read as, and whether `<Dial>` takes it.
    const PLACES: [(&str, &str, bool); 17] = [
        ("1", "1", true),
        ("100", "100", true),
        ("+18005551212", "+18005551212", true),
        ("+1 (800) 555-1212", "+18005551212", true),
        ("+1.800.555.1212", "+18005551212", true),
        ("tel:+1-800-555-1212", "+18005551212", true),
        ("TEL:100", "100", true),
        ("123456789012345", "123456789012345", true),
        ("*72", "*72", false),
        ("100#", "100#", false),
        ("sip:people@pbx", "sip:people@pbx", true),
        (
            "SIP:People@PBX.example.com",
            "sip:People@PBX.example.com",
            true,
        ),
        ("sip:+1555@[::1]:5070", "sip:+1555@[::1]:5070", true),
        (
            "sip:a@b;transport=tcp?X-Queue=sales",
            "sip:a@b;transport=tcp?X-Queue=sales",
            true,
        ),
        ("sip:pbx", "sip:pbx", false),
        ("sip:10.0.0.1:5070", "sip:10.0.0.1:5070", false),
        ("sips:people@pbx", "sips:people@pbx", false),
    ];

    #[test]
    fn every_place_is_read_in_one_way() {
        for (written, read, is_dialable) in PLACES {
            let destination = Destination::parse(written).unwrap_or_else(|| panic!("{written}"));
            assert_eq!(destination.to_string(), read, "{written}");
            assert_eq!(destination.is_dialable(), is_dialable, "{written}");
            assert_eq!(Destination::parse(read), Some(destination), "{written}");
        }
    }

    #[test]
    fn what_is_no_place_or_more_than_one_is_refused() {
        for written in [
            "",
            "+",
            "+-",
            "()",
            "1+1",
            "1234567890123456",
            "+1234567890123456",
            "bob",
            "the front desk",
            "911;x=1",
            "</Dial>",
            "\u{7f}",
            "١٢٣",
            "tel:",
            "tel:bob",
            "tel:100;phone-context=pbx",
            "http://pbx",
            "pbx.example.com",
            "sip:",
            "sip:@pbx",
            "sip:a@",
            "sip:a@b@c",
            "sip:a b@pbx",
            "sip:a@pbx:0",
            "sip:a@pbx:99999",
            "sip:a@pbx>;x=<b",
            "sip:a@here><Say>",
            "sip:a@b\r\nX-Evil: 1",
            "sip:a@b\"",
        ] {
            assert_eq!(Destination::parse(written), None, "{written:?}");
        }
        let uri = |length: usize| format!("sip:{}@b", "a".repeat(length - "sip:@b".len()));
        assert!(Destination::parse(&uri(LONGEST_URI)).is_some());
        assert_eq!(Destination::parse(&uri(LONGEST_URI + 1)), None);
    }
}
