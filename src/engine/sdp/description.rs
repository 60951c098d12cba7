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
/// The most attributes of the session or of one media line: every format may have four, and candidates come on top.
pub const MAX_ATTRIBUTES: usize = 128;
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
        let mut words = value.split_ascii_whitespace();
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
    text.trim_matches(|character: char| character.is_whitespace() || character.is_control())
}
