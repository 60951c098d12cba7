//! What a session description says (RFC 8866), read leniently and written in the canonical order.
//!
//! Telephones leave out `s=` and `t=`, write `b=` before `c=`, end lines with LF, put spaces into `o=` and numbers into
//! it that fit no integer. None of that stops a call, so only three things are errors: a body that is not SDP at all, a
//! media line that cannot be answered in its place, and more of anything than a call can need.

use std::fmt;
use std::net::IpAddr;

/// The most bytes of a body: a browser's offer with all its candidates is about 6 KiB, a telephone's below 2 KiB.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
/// The most media lines: a video conference with slides has five, and each costs a line in the answer.
pub const MAX_MEDIA: usize = 16;
/// The most attributes of the session or of one media line: a browser writes some 170 about its video, and candidates come on
/// top. [`MAX_BODY_BYTES`] bounds those of all lines together.
pub const MAX_ATTRIBUTES: usize = 512;
/// The most formats of one media line. There are only 128 payload types, and the longest lists seen name 25.
pub const MAX_FORMATS: usize = 64;

/// A session description: what was written, as far as anybody here reads it. `s=`, `t=`, `b=`, `i=` and the like are
/// not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// What follows `o=`. Opaque: two descriptions of a peer are compared by what they say.
    pub origin: Option<String>,
    /// `c=` of the session, for media lines that have none.
    pub connection: Option<Connection>,
    /// Attributes of the session.
    pub attributes: Vec<Attribute>,
    /// The media lines, in order; an answer has as many.
    pub media: Vec<Media>,
}

/// An `m=` line and what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, `image`, …
    pub kind: String,
    /// Where packets are wanted; 0 is a line that is refused or gone (RFC 3264 §5.1, §6).
    pub port: u16,
    /// `RTP/AVP` and the like.
    pub protocol: String,
    /// Payload types, or whatever names the formats of other protocols.
    pub formats: Vec<String>,
    /// `c=` of this line.
    pub connection: Option<Connection>,
    /// Attributes of this line.
    pub attributes: Vec<Attribute>,
}

/// Where packets are wanted (`c=`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// An IP address, without the TTL and count of multicast.
    Ip(IpAddr),
    /// Anything else, as it was written: a host name, another network.
    Other(String),
}

/// An `a=` line.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// What is before the colon.
    pub name: String,
    /// What is behind it.
    pub value: Option<String>,
}

/// Why a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// More than [`MAX_BODY_BYTES`].
    #[error("the description is too long")]
    TooLong,
    /// The first line is not `v=0`.
    #[error("the body is not a session description")]
    NotSdp,
    /// A media line without kind, port or protocol: it could not be answered.
    #[error("a media line is incomplete")]
    MediaLine,
    /// More than [`MAX_MEDIA`].
    #[error("too many media lines")]
    TooManyMedia,
    /// More than [`MAX_FORMATS`].
    #[error("too many formats in a media line")]
    TooManyFormats,
    /// More than [`MAX_ATTRIBUTES`].
    #[error("too many attributes")]
    TooManyAttributes,
}

impl Description {
    /// Reads a body. Bytes that are not UTF-8 are replaced: they can only be in names that nobody here reads.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        if body.len() > MAX_BODY_BYTES {
            return Err(ParseError::TooLong);
        }
        let body = String::from_utf8_lossy(body);
        let mut lines = body
            .split(['\r', '\n'])
            .map(trim)
            .filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err(ParseError::NotSdp);
        }
        let mut description = Self::default();
        for line in lines {
            if let Some((kind, value)) = line.split_once('=') {
                description.take(kind, trim(value))?;
            }
        }
        Ok(description)
    }

    /// Whether both say the same, `o=` apart.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.connection == other.connection
            && self.attributes == other.attributes
            && self.media == other.media
    }

    fn take(&mut self, kind: &str, value: &str) -> Result<(), ParseError> {
        match kind {
            "o" => _ = self.origin.get_or_insert_with(|| value.to_owned()),
            "c" => {
                // Several in one section are addresses of layered multicast (RFC 8866 §5.7): the first is enough.
                let connection = match self.media.last_mut() {
                    Some(media) => &mut media.connection,
                    None => &mut self.connection,
                };
                connection.get_or_insert_with(|| Connection::parse(value));
            }
            "a" => {
                let attributes = match self.media.last_mut() {
                    Some(media) => &mut media.attributes,
                    None => &mut self.attributes,
                };
                if attributes.len() == MAX_ATTRIBUTES {
                    return Err(ParseError::TooManyAttributes);
                }
                attributes.push(Attribute::parse(value));
            }
            "m" => {
                if self.media.len() == MAX_MEDIA {
                    return Err(ParseError::TooManyMedia);
                }
                self.media.push(Media::parse(value)?);
            }
            // `s=`, `t=`, `b=`, … and whatever somebody invented: nothing that a call hangs on.
            _ => {}
        }
        Ok(())
    }
}

impl Media {
    /// The line that refuses this one: port 0 and one of its own formats (RFC 3264 §6).
    pub fn refused(&self) -> Self {
        Self {
            kind: self.kind.clone(),
            port: 0,
            protocol: self.protocol.clone(),
            // A line without any is read, but must not be written (RFC 8866 §9).
            formats: vec![self.formats.first().map_or("0", String::as_str).to_owned()],
            connection: None,
            attributes: Vec::new(),
        }
    }

    /// Whether it is an audio line.
    pub fn is_audio(&self) -> bool {
        self.kind.eq_ignore_ascii_case("audio")
    }

    /// Whether packets are wanted, at all or again later: its port is not 0.
    pub const fn is_open(&self) -> bool {
        self.port != 0
    }

    fn parse(value: &str) -> Result<Self, ParseError> {
        // The words are written again, if only to refuse the line; a control character among them would reach the peer's
        // parser, or be trimmed there.
        let mut words = value.split(is_blank).filter(|word| !word.is_empty());
        let mut word = || words.next().ok_or(ParseError::MediaLine);
        let kind = word()?.to_owned();
        let port = word()?;
        // A count of ports (`4000/2`) is for layered codings, which no telephone has.
        let port = port.split_once('/').map_or(port, |(port, _)| port);
        let port = port.parse().map_err(|_| ParseError::MediaLine)?;
        let protocol = word()?.to_owned();
        let formats: Vec<String> = words.take(MAX_FORMATS + 1).map(str::to_owned).collect();
        if formats.len() > MAX_FORMATS {
            return Err(ParseError::TooManyFormats);
        }
        Ok(Self {
            kind,
            port,
            protocol,
            formats,
            connection: None,
            attributes: Vec::new(),
        })
    }
}

impl Connection {
    fn parse(value: &str) -> Self {
        match Self::parse_ip(value) {
            Some(address) => Self::Ip(address),
            None => Self::Other(value.to_owned()),
        }
    }

    /// Reads `IN IP4 192.0.2.1/127`. The family is taken from the address itself: some write IP4 before either.
    pub(super) fn parse_ip(value: &str) -> Option<IpAddr> {
        let mut words = value.split_ascii_whitespace();
        let network = words.next()?;
        let family = words.next()?;
        if !network.eq_ignore_ascii_case("IN") || !family.to_ascii_uppercase().starts_with("IP") {
            return None;
        }
        words.next()?.split('/').next()?.parse().ok()
    }
}

impl Attribute {
    /// An attribute without a value, such as `sendrecv`.
    pub fn flag(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: None,
        }
    }

    /// An attribute with a value, such as `ptime:20`.
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: Some(value.into()),
        }
    }

    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((name, value)) => Self::new(trim(name), trim(value)),
            None => Self::flag(text),
        }
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `a=crypto` carries a key, which no log may show.
        if self.name.eq_ignore_ascii_case("crypto") {
            return write!(f, "crypto:<secret>");
        }
        match &self.value {
            Some(value) => write!(f, "{}:{value}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "a={}:{value}\r\n", self.name),
            None => write!(f, "a={}\r\n", self.name),
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(address)) => write!(f, "c=IN IP4 {address}\r\n"),
            Self::Ip(IpAddr::V6(address)) => write!(f, "c=IN IP6 {address}\r\n"),
            Self::Other(text) => write!(f, "c={text}\r\n"),
        }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {} {}", self.kind, self.port, self.protocol)?;
        for format in &self.formats {
            write!(f, " {format}")?;
        }
        f.write_str("\r\n")?;
        if let Some(connection) = &self.connection {
            connection.fmt(f)?;
        }
        self.attributes
            .iter()
            .try_for_each(|attribute| attribute.fmt(f))
    }
}

impl fmt::Display for Description {
    /// Writes the body, in the order of RFC 8866 §5, which many readers insist on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v=0\r\n")?;
        if let Some(origin) = &self.origin {
            write!(f, "o={origin}\r\n")?;
        }
        f.write_str("s=-\r\n")?;
        if let Some(connection) = &self.connection {
            connection.fmt(f)?;
        }
        f.write_str("t=0 0\r\n")?;
        self.attributes
            .iter()
            .try_for_each(|attribute| attribute.fmt(f))?;
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}

/// Without blanks and control characters at either end: some bodies end in NUL.
fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() || character.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n";

    fn parse(body: &str) -> Description {
        Description::parse(body.as_bytes()).expect("the body can be read")
    }

    #[test]
    fn everything_that_is_read_is_where_it_belongs() {
        let description = parse(&format!(
            "{BODY}m=video 0 RTP/AVP 96\r\nc=IN IP6 ::1\r\na=x\r\n"
        ));
        let audio = &description.media[0];
        assert_eq!(
            description.origin.as_deref(),
            Some("- 1 1 IN IP4 192.0.2.1")
        );
        assert_eq!(
            description.connection,
            Some(Connection::Ip("192.0.2.1".parse().unwrap()))
        );
        assert_eq!((audio.kind.as_str(), audio.port), ("audio", 4000));
        assert_eq!(audio.protocol, "RTP/AVP");
        assert_eq!(audio.formats, ["0", "8", "101"]);
        assert_eq!(audio.connection, None);
        assert_eq!(
            audio.attributes,
            [
                Attribute::new("rtpmap", "0 PCMU/8000"),
                Attribute::new("rtpmap", "101 telephone-event/8000"),
                Attribute::new("ptime", "20"),
                Attribute::flag("sendrecv"),
            ]
        );
        let video = &description.media[1];
        assert_eq!(
            video.connection,
            Some(Connection::Ip("::1".parse().unwrap()))
        );
        assert_eq!(video.attributes, [Attribute::flag("x")]);
    }

    #[test]
    fn bodies_that_say_the_same_in_other_ways_are_read_the_same() {
        let expected = parse(BODY);
        for (what, body) in [
            ("LF only", BODY.replace("\r\n", "\n")),
            ("CR only", BODY.replace("\r\n", "\r")),
            ("no newline at the end", BODY.trim_end().to_owned()),
            ("a blank line at the end", format!("{BODY}\r\n")),
            ("NUL at the end", format!("{BODY}\0\0")),
            ("blank lines before", format!("\r\n{BODY}")),
            ("no s=", BODY.replace("s=-\r\n", "")),
            ("empty s=", BODY.replace("s=-\r\n", "s=\r\n")),
            ("blank s=", BODY.replace("s=-\r\n", "s= \r\n")),
            ("no t=", BODY.replace("t=0 0\r\n", "")),
            (
                "i= and b= in the media",
                BODY.replace("8 101\r\n", "8 101\r\ni=x\r\nb=AS:64\r\nb=TIAS:64000\r\n"),
            ),
            ("b= before c=", BODY.replace("c=IN", "b=AS:84\r\nc=IN")),
            ("c= after t=", {
                let without = BODY.replace("c=IN IP4 192.0.2.1\r\n", "");
                without.replace("t=0 0\r\n", "t=0 0\r\nc=IN IP4 192.0.2.1\r\n")
            }),
            ("an unknown line", BODY.replace("t=0 0", "x=foo\r\nt=0 0")),
            ("no line at all", BODY.replace("t=0 0", "nonsense\r\nt=0 0")),
            ("blanks at the end", BODY.replace("8 101\r\n", "8 101 \r\n")),
            ("two blanks", BODY.replace("RTP/AVP 0", "RTP/AVP  0")),
            ("r= and z=", {
                let repeats = "t=0 0\r\nr=604800 3600 0 90000\r\nz=2882844526 -1h\r\n";
                BODY.replace("t=0 0\r\n", repeats)
            }),
            ("a count of ports", BODY.replace("4000", "4000/2")),
            (
                "a time to live",
                BODY.replace("c=IN IP4 192.0.2.1", "c=IN IP4 192.0.2.1/127"),
            ),
            ("small letters", BODY.replace("c=IN IP4", "c=in ip4")),
            (
                "a blank after the colon",
                BODY.replace("ptime:20", "ptime: 20"),
            ),
        ] {
            assert_eq!(parse(&body), expected, "{what}");
        }
    }

    #[test]
    fn bodies_that_other_parsers_refuse_are_read() {
        let of_media = |body: String, index: usize| parse(&body).media.remove(index);
        for origin in [
            "- 18446744073709551615 18446744073709551615 IN IP4 192.0.2.1",
            "- 99999999999999999999999 1 IN IP4 192.0.2.1",
            "Cisco SystemsSIP-GW 1 1 IN IP4 192.0.2.1",
        ] {
            let body = BODY.replace("- 1 1 IN IP4 192.0.2.1", origin);
            assert_eq!(parse(&body).origin.as_deref(), Some(origin));
        }
        let without = BODY.replace("o=- 1 1 IN IP4 192.0.2.1\r\n", "");
        assert_eq!(parse(&without).origin, None);
        let fax = of_media(format!("{BODY}m=image 0 udptl t38\r\n"), 1);
        assert_eq!((fax.port, fax.formats), (0, vec!["t38".to_owned()]));
        let bare = of_media(format!("{BODY}m=video 0 RTP/AVP\r\n"), 1);
        assert_eq!(bare.formats, Vec::<String>::new());
        let named = BODY.replace("c=IN IP4 192.0.2.1", "c=IN IP4 media.example.com");
        let connection = Connection::Other("IN IP4 media.example.com".to_owned());
        assert_eq!(parse(&named).connection, Some(connection));
        let own = BODY
            .replace("c=IN IP4 192.0.2.1\r\n", "")
            .replace("8 101\r\n", "8 101\r\nc=IN IP4 192.0.2.2\r\n");
        let connection = Connection::Ip("192.0.2.2".parse().unwrap());
        assert_eq!(of_media(own, 0).connection, Some(connection));
        let ipv6 = BODY.replace("c=IN IP4 192.0.2.1", "c=IN IP6 2001:db8::1");
        let connection = Connection::Ip("2001:db8::1".parse().unwrap());
        assert_eq!(parse(&ipv6).connection, Some(connection));
        for attributes in [
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\n",
            "a=silenceSupp:off - - - -\r\na=X-nat:0\r\na=foo\r\n",
            "a=setup:actpass\r\na=fingerprint:SHA-256 AA:BB\r\na=ice-ufrag:abc\r\n",
            "a=rtcp:4001 IN IP4 192.0.2.1\r\n",
            "a=maxptime:20.0\r\n",
        ] {
            let audio = of_media(format!("{BODY}{attributes}"), 0);
            let written: String = audio.attributes[4..]
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(written, attributes);
        }
        let latin = [b"v=0\r\ns=caf\xE9\r\n".as_slice(), &BODY.as_bytes()[5..]].concat();
        assert_eq!(Description::parse(&latin).unwrap(), parse(BODY));
    }

    #[test]
    fn only_what_cannot_be_answered_is_an_error() {
        let lines = |line: &str, count: usize| format!("{BODY}{}", line.repeat(count));
        let formats = |count: usize| BODY.replace(" 0 8 101\r\n", &(" 0".repeat(count) + "\r\n"));
        for (body, expected) in [
            (String::new(), Err(ParseError::NotSdp)),
            ("hello".to_owned(), Err(ParseError::NotSdp)),
            (BODY.replace("v=0", "v=1"), Err(ParseError::NotSdp)),
            (BODY.replace("v=0\r\n", ""), Err(ParseError::NotSdp)),
            (BODY.replace("4000", "70000"), Err(ParseError::MediaLine)),
            (BODY.replace("4000", "-1"), Err(ParseError::MediaLine)),
            (format!("{BODY}m=\r\n"), Err(ParseError::MediaLine)),
            (format!("{BODY}m=audio 1\r\n"), Err(ParseError::MediaLine)),
            (lines("m=audio 0 RTP/AVP 0\r\n", 15), Ok(())),
            (
                lines("m=audio 0 RTP/AVP 0\r\n", 16),
                Err(ParseError::TooManyMedia),
            ),
            (formats(64), Ok(())),
            (formats(65), Err(ParseError::TooManyFormats)),
            (lines("a=x\r\n", 508), Ok(())),
            (lines("a=x\r\n", 509), Err(ParseError::TooManyAttributes)),
            (lines("\n", MAX_BODY_BYTES - BODY.len()), Ok(())),
            (
                lines("\n", MAX_BODY_BYTES - BODY.len() + 1),
                Err(ParseError::TooLong),
            ),
        ] {
            let result = Description::parse(body.as_bytes()).map(|_| ());
            assert_eq!(result, expected, "{body}");
        }
    }

    #[test]
    fn all_that_a_browser_says_of_its_video_is_read() {
        // Each codec with what it can report, and a second number for what is sent again.
        let codecs: String = (41..63)
            .map(|half| {
                let (number, again) = (2 * half, 2 * half + 1);
                let reports = ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"];
                let reports = reports.map(|report| format!("a=rtcp-fb:{number} {report}\r\n"));
                format!(
                    "a=rtpmap:{number} H264/90000\r\n{}a=fmtp:{number} packetization-mode=1\r\n\
                     a=rtpmap:{again} rtx/90000\r\na=fmtp:{again} apt={number}\r\n",
                    reports.concat()
                )
            })
            .collect();
        let numbers: Vec<String> = (82..126).map(|number| number.to_string()).collect();
        let numbers = numbers.join(" ");
        let body = format!("{BODY}m=video 9 UDP/TLS/RTP/SAVPF {numbers}\r\n{codecs}");
        assert_eq!(parse(&body).media[1].attributes.len(), 22 * 9);
    }

    #[test]
    fn two_bodies_say_the_same_if_only_their_origin_differs() {
        let first = parse(BODY);
        let numbered = parse(&BODY.replace("- 1 1", "- 1 2"));
        assert!(first.says_the_same_as(&numbered) && first != numbered);
        for (from, to) in [
            ("t=0 0", "a=x"),
            ("c=IN IP4 192.0.2.1", "c=IN IP4 192.0.2.2"),
            ("sendrecv", "sendonly"),
        ] {
            assert!(!first.says_the_same_as(&parse(&BODY.replace(from, to))));
        }
    }

    #[test]
    fn a_body_is_written_in_the_order_of_the_rfc() {
        let body = "m=audio 4000 RTP/AVP 0\na=ptime:20\nc=IN IP4 192.0.2.2\nb=AS:64";
        let body = format!("v=0\na=tool:x\nc=IN IP4 192.0.2.1\no=- 1 1 IN IP4 192.0.2.1\n{body}");
        assert_eq!(
            parse(&body).to_string(),
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=tool:x\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.2\r\na=ptime:20\r\n"
        );
    }
}
