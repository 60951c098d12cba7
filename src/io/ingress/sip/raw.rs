//! A SIP message as lines, before anything is believed about them.
//!
//! The shim in front of the stack ([`normalise`](super::normalise)) and the stateless answers ([`reply`](super::reply))
//! must both read messages that no proper parser takes. This reader takes anything: it splits, unfolds and trims, and
//! remembers whether it had to. What a value means is the business of those who ask for it.

use std::borrow::Cow;

/// The most header lines that are read. Telephones send 15 to 25, a call through five proxies some 40.
pub const MOST_HEADERS: usize = 64;

/// The headers that have a compact form which matters here (RFC 3261 §7.3.3).
const COMPACT: [(&str, &str); 11] = [
    ("b", "Referred-By"),
    ("c", "Content-Type"),
    ("f", "From"),
    ("i", "Call-ID"),
    ("k", "Supported"),
    ("l", "Content-Length"),
    ("m", "Contact"),
    ("r", "Refer-To"),
    ("t", "To"),
    ("v", "Via"),
    ("x", "Session-Expires"),
];

/// A message as lines.
#[derive(Debug)]
pub struct Raw<'a> {
    /// The first line, without the white space around it.
    pub start_line: &'a [u8],
    /// The headers in their order. Lines that are no header are left out (RFC 3261 §8.2.2: what is malformed and not
    /// needed is ignored).
    pub fields: Vec<Field<'a>>,
    /// All that follows the empty line.
    pub body: &'a [u8],
    /// Whether every line of the header part is what the stack's parser reads as we do: ended by CRLF, not folded, a
    /// name and a colon without space between, UTF-8.
    pub plain: bool,
    /// Whether there were more than [`MOST_HEADERS`]; the rest is not in `fields`.
    pub too_many: bool,
}

/// One header.
#[derive(Debug)]
pub struct Field<'a> {
    /// The name as it was written; a token (RFC 3261 §25.1).
    pub name: &'a str,
    /// The value on one line, without the white space around it. It holds no CR and no LF, whatever the peer sent.
    pub value: Cow<'a, [u8]>,
}

impl Field<'_> {
    /// Whether this is the header called `name`, in any case or its compact form.
    pub fn is(&self, name: &str) -> bool {
        self.full_name().eq_ignore_ascii_case(name)
    }

    /// The name with a compact form written out.
    pub fn full_name(&self) -> &str {
        COMPACT
            .iter()
            .find(|(compact, _)| self.name.eq_ignore_ascii_case(compact))
            .map_or(self.name, |(_, full)| full)
    }

    /// The value as text. Bytes that are no UTF-8 are read as ISO 8859-1, which is what old exchanges put into names.
    pub fn text(&self) -> Cow<'_, str> {
        text(&self.value)
    }
}

/// Bytes as text: UTF-8, or else ISO 8859-1, in which every byte is a character.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

impl<'a> Raw<'a> {
    /// Splits a message into its lines. Empty lines before the first are passed over (RFC 3261 §7.5), and a message
    /// that ends within its headers has no body.
    pub fn read(message: &'a [u8]) -> Self {
        let mut raw = Self {
            start_line: &[],
            fields: Vec::new(),
            body: &[],
            plain: true,
            too_many: false,
        };
        let mut lines = Lines(message);
        for line in lines.by_ref() {
            raw.plain &= line.proper;
            raw.start_line = line.content.trim_ascii();
            if !raw.start_line.is_empty() {
                raw.plain &= std::str::from_utf8(raw.start_line).is_ok();
                break;
            }
            raw.plain = false;
        }
        let (mut ended, mut kept) = (false, false);
        for line in lines.by_ref() {
            raw.plain &= line.proper;
            if line.content.is_empty() {
                ended = true;
                break;
            }
            kept = raw.add(line.content, kept);
        }
        raw.plain &= ended;
        raw.body = lines.0;
        raw
    }

    /// The headers called `name`, in their order.
    pub fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b Field<'a>> {
        self.fields.iter().filter(move |field| field.is(name))
    }

    /// The first header called `name`.
    pub fn first(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.is(name))
    }

    /// Takes a line, and tells whether it was kept; one that is folded goes the way of the one before (`kept`).
    fn add(&mut self, line: &'a [u8], kept: bool) -> bool {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        if folded {
            self.plain = false;
            if let Some(field) = self.fields.last_mut().filter(|_| kept) {
                let value = field.value.to_mut();
                value.push(b' ');
                value.extend_from_slice(&one_line(line.trim_ascii()));
                if value.first() == Some(&b' ') {
                    value.remove(0);
                }
            }
            return kept;
        }
        let Some((name, value)) = split_header(line) else {
            self.plain = false;
            return false;
        };
        if self.fields.len() == MOST_HEADERS {
            self.too_many = true;
            return false;
        }
        let value = one_line(value.trim_ascii());
        self.plain &= matches!(value, Cow::Borrowed(_)) && std::str::from_utf8(&value).is_ok();
        self.plain &= line.get(name.len()) == Some(&b':');
        self.fields.push(Field { name, value });
        true
    }
}

/// Name and value of a header line; `None` if it is none.
fn split_header(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let name = line.get(..colon)?.trim_ascii_end();
    let value = line.get(colon + 1..)?;
    is_token(name).then_some(())?;
    Some((std::str::from_utf8(name).ok()?, value))
}

/// A value without stray CRs: a CR alone ends a line for some parsers, and must not begin a header in what we echo.
fn one_line(value: &[u8]) -> Cow<'_, [u8]> {
    if value.contains(&b'\r') {
        let line = value
            .iter()
            .map(|&byte| if byte == b'\r' { b' ' } else { byte });
        Cow::Owned(line.collect())
    } else {
        Cow::Borrowed(value)
    }
}

/// Whether `bytes` are a token (RFC 3261 §25.1).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte))
}

/// Splits a value at `separator` where that stands outside quoted strings and angle brackets; `None` if one of these
/// is not closed.
pub fn split_outside(value: &str, separator: u8) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut begin = 0;
    let mut place = Place::Outside;
    for (at, &byte) in value.as_bytes().iter().enumerate() {
        // The separators are ASCII, so a cut never falls into the middle of a character.
        if byte == separator && place == Place::Outside {
            parts.push(value.get(begin..at)?);
            begin = at + 1;
        }
        place = place.after(byte);
    }
    parts.push(value.get(begin..)?);
    (place == Place::Outside).then_some(parts)
}

/// Where in a header's value a byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Neither quoted nor in angle brackets.
    Outside,
    /// In a quoted string.
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
    /// In angle brackets.
    Bracketed,
}

impl Place {
    /// Where the byte after `byte` stands.
    pub const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Outside, b'"') | (Self::Escaped, _) => Self::Quoted,
            (Self::Outside, b'<') => Self::Bracketed,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted, b'"') | (Self::Bracketed, b'>') => Self::Outside,
            (place, _) => place,
        }
    }
}

/// The lines of a message; afterwards, what follows the last one taken.
struct Lines<'a>(&'a [u8]);

struct Line<'a> {
    content: &'a [u8],
    /// Ended by CRLF.
    proper: bool,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match self.0.iter().position(|&byte| byte == b'\n') {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, &self.0[self.0.len()..]),
        };
        let ended = line.len() < self.0.len();
        self.0 = rest;
        Some(match line.strip_suffix(b"\r") {
            Some(content) => Line {
                content,
                proper: ended,
            },
            None => Line {
                content: line,
                proper: false,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_message_is_read_as_it_stands() {
        let raw = Raw::read(b"BYE sip:a SIP/2.0\r\nVia: x\r\nt: y\r\n\r\nbody\n");
        assert!(raw.plain);
        assert_eq!(raw.start_line, b"BYE sip:a SIP/2.0");
        assert_eq!(headers(&raw), ["Via: x", "To: y"]);
        assert_eq!(raw.body, b"body\n");
    }

    #[test]
    fn folded_bare_and_spaced_lines_are_read_but_not_plain() {
        for (message, expected) in [
            ("B\r\n\tx\r\nTo :\r\n a\r\n\tb\r\n\r\n", "To: a b"),
            ("B\nTo:a b\n\n", "To: a b"),
            ("\r\nB\r\nTo: a b\r\n\r\n", "To: a b"),
            ("B\r\nTo: a\rb\r\n\r\n", "To: a b"),
            (
                "B\r\nTo: a b\r\nno header\r\n more\r\nn m: x\r\n\r\n",
                "To: a b",
            ),
            ("B\r\nTo: a b\r\n", "To: a b"),
        ] {
            let raw = Raw::read(message.as_bytes());
            assert!(!raw.plain, "{message:?}");
            assert_eq!(raw.start_line, b"B", "{message:?}");
            assert_eq!(headers(&raw), [expected], "{message:?}");
        }
    }

    #[test]
    fn old_characters_are_read_as_latin_1() {
        let raw = Raw::read(b"B\r\nFrom: \"J\xf6rg\" <sip:j@a>\r\n\r\n");
        assert!(!raw.plain);
        assert_eq!(headers(&raw), ["From: \"J\u{f6}rg\" <sip:j@a>"]);
    }

    #[test]
    fn headers_beyond_the_limit_are_not_kept() {
        let message = format!("B\r\n{}\r\n", "Via: x\r\n".repeat(MOST_HEADERS + 1));
        let raw = Raw::read(message.as_bytes());
        assert!(raw.too_many);
        assert_eq!(raw.fields.len(), MOST_HEADERS);
    }

    #[test]
    fn separators_in_quotes_and_brackets_do_not_separate() {
        assert_eq!(
            split_outside(r#""a;\";" <b;c>;d;"e;""#, b';'),
            Some(vec![r#""a;\";" <b;c>"#, "d", r#""e;""#])
        );
        assert_eq!(split_outside(r#""a;b"#, b';'), None);
        assert_eq!(split_outside("<a;b", b';'), None);
    }

    fn headers(raw: &Raw<'_>) -> Vec<String> {
        let line = |field: &Field<'_>| format!("{}: {}", field.full_name(), field.text());
        raw.fields.iter().map(line).collect()
    }
}
