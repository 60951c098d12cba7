//! SIP messages as text.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
}

impl Message {
    pub(crate) fn new(text: String) -> Self {
        Self { text }
    }

    fn head(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or(&*self.text, |(head, _)| head)
    }

    pub(crate) fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }

    pub(crate) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// `None` in a request.
    pub(crate) fn status(&self) -> Option<u16> {
        let rest = self.first_line().strip_prefix("SIP/2.0 ")?;
        rest.split(' ').next()?.parse().ok()
    }

    /// The method, of a request and of a response.
    pub(crate) fn method(&self) -> &str {
        self.need("CSeq").split(' ').nth(1).expect("a method")
    }

    pub(crate) fn sequence(&self) -> u32 {
        let number = self.need("CSeq").split(' ').next();
        number.expect("a number").parse().expect("a number")
    }

    /// The values of a header, by its full name, whichever it was written by.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> + use<'_> {
        let compact = match name {
            "Via" => "v",
            "From" => "f",
            "To" => "t",
            "Call-ID" => "i",
            "Content-Length" => "l",
            other => other,
        };
        let is_name = |found: &str| {
            [name, compact]
                .iter()
                .any(|name| found.eq_ignore_ascii_case(name))
        };
        let fields = self.head().lines().skip(1);
        let fields = fields.filter_map(|line| line.split_once(':'));
        let found: Vec<&str> = fields
            .filter(|(found, _)| is_name(found.trim()))
            .map(|(_, value)| value.trim())
            .collect();
        found.into_iter()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// A header that must be there.
    pub(crate) fn need(&self, name: &str) -> &str {
        let header = self.header(name);
        header.unwrap_or_else(|| panic!("no {name} in {}", self.text))
    }

    /// The address in Contact.
    pub(crate) fn contact(&self) -> &str {
        let (_, rest) = self.need("Contact").split_once('<').expect("an address");
        rest.split('>').next().expect("an address")
    }
}

/// A request that is to be sent, as it is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn new(method: &str, uri: &str) -> Self {
        Self {
            method: method.to_owned(),
            uri: uri.to_owned(),
            version: "SIP/2.0".to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no {name}")).1
    }

    /// With one more header.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a header changed.
    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        for header in &mut self.headers {
            if header.0 == name {
                header.1 = value.into();
                return self;
            }
        }
        panic!("no {name}");
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// With another body, and its headers.
    pub(crate) fn body(self, kind: &str, body: impl Into<String>) -> Self {
        let body = body.into();
        let mut request = self
            .without("Content-Type")
            .without("Content-Length")
            .with("Content-Type", kind)
            .with("Content-Length", body.len().to_string());
        request.body = body;
        request
    }

    pub(crate) fn sdp(self, body: impl Into<String>) -> Self {
        self.body("application/sdp", body)
    }

    /// The same once more, as another transaction: with a new branch and this CSeq number.
    pub(crate) fn again(self, sequence: u32) -> Self {
        let via = self.header("Via").to_owned();
        let (sent_by, _) = via.split_once(";branch=").expect("a branch");
        let via = format!("{sent_by};branch={};rport", branch());
        let sequence = format!("{sequence} {}", self.method);
        self.set("Via", via).set("CSeq", sequence)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} {} {}\r\n", self.method, self.uri, self.version);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text + "\r\n" + &self.body
    }
}

/// The branch of a new transaction.
pub(crate) fn branch() -> String {
    format!("z9hG4bK{}", unique())
}

/// A word that nobody has used before.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{number}x{:08x}", rand::random::<u32>())
}
