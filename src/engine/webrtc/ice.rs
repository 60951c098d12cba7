//! ICE as a lite agent (RFC 8445 §2.5): answers the peer's checks and remembers where valid ones came from.
//!
//! A check is valid if it is signed with our password, which only our answer told. Nothing is ever sent to an address that
//! has not sent one.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rtc::crypto::RTCCryptoProvider;
use rtc::crypto::providers::RingProvider;
use rtc::stun::attributes::ATTR_ICE_CONTROLLED;
use rtc::stun::attributes::ATTR_MESSAGE_INTEGRITY;
use rtc::stun::attributes::ATTR_USE_CANDIDATE;
use rtc::stun::attributes::ATTR_USERNAME;
use rtc::stun::error_code::CODE_ROLE_CONFLICT;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::BINDING_ERROR;
use rtc::stun::message::BINDING_REQUEST;
use rtc::stun::message::BINDING_SUCCESS;
use rtc::stun::message::Message;
use rtc::stun::message::Setter;
use rtc::stun::xoraddr::XorMappedAddress;

/// Addresses that one peer may have shown: those of its interfaces, and of the networks it moves through. The oldest
/// makes room.
const MAX_PATHS: usize = 8;
/// A nominated path without a check for so long has been left: browsers check every 2.5 s, others every 5 s (RFC 7675
/// §5.1). Browsers nominate the next one; of others it is enough that they check there.
const LEFT_AFTER: Duration = Duration::from_secs(7);
/// The longest check that is looked at. Those of browsers have about 120 bytes.
const MAX_CHECK_BYTES: usize = 576;
/// RFC 8489 §5.
const HEADER_BYTES: usize = 20;

/// Whether a datagram on a media path is STUN (RFC 7983 §7, RFC 8489 §5).
pub fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3))
        && datagram.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42])
        && datagram.len() >= HEADER_BYTES
}

/// For whom a check is: the part of its USERNAME before the colon (RFC 8445 §7.2.2). Looks at nothing else.
pub fn addressee(datagram: &[u8]) -> Option<&str> {
    const USERNAME: u16 = 0x0006;
    let mut rest = datagram.get(HEADER_BYTES..)?;
    loop {
        let (header, behind) = rest.split_at_checked(4)?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if kind == USERNAME {
            let name = std::str::from_utf8(behind.get(..length)?).ok()?;
            return name.split_once(':').map(|(ours, _)| ours);
        }
        rest = behind.get(length.next_multiple_of(4)..)?;
    }
}

/// What one side's checks are addressed to and signed with (RFC 8445 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user name fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
}

impl Credentials {
    /// Random bytes that new ones are made of: 96 bits for the name, 192 for the password; 24 and 128 are demanded.
    pub const RANDOM_BYTES: usize = 12 + 24;

    /// New ones, from bytes that nobody can guess.
    pub fn new(random: &[u8; Self::RANDOM_BYTES]) -> Self {
        // The alphabet of base64 is that of ICE.
        let (name, password) = random.split_at(12);
        Self {
            ufrag: STANDARD_NO_PAD.encode(name),
            pwd: STANDARD_NO_PAD.encode(password),
        }
    }
}

/// Where a peer is, and which of our sockets it is seen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The number of our socket.
    pub socket: usize,
}

/// What a valid check has brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// To be sent back where the check came from.
    pub response: Vec<u8>,
    /// Whether the path was not known before.
    pub is_new: bool,
    /// The path that had to make room.
    pub forgotten: Option<Path>,
}

/// Why a check is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unanswered {
    /// It cannot be read, or is no check at all.
    Malformed,
    /// It is for somebody else, or not signed with our password.
    Forged,
}

/// A lite agent.
pub struct Ice {
    credentials: Credentials,
    /// Those from before a restart, until the peer nominates with the new ones (RFC 8445 §9).
    former: Option<Credentials>,
    known: Vec<Path>,
    selected: Option<Path>,
    /// When the last check came by the selected path.
    selected_heard_at: Instant,
    heard_at: Instant,
    provider: RingProvider,
}

impl Ice {
    /// An agent whose peer has been told `credentials`.
    pub fn new(credentials: Credentials, now: Instant) -> Self {
        Self {
            credentials,
            former: None,
            known: Vec::new(),
            selected: None,
            selected_heard_at: now,
            heard_at: now,
            provider: RingProvider::new(),
        }
    }

    /// What the peer must use.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Other credentials from now on; those that the peer last nominated with are good until it nominates with the new ones,
    /// through however many restarts.
    pub fn restart(&mut self, credentials: Credentials) {
        let before = std::mem::replace(&mut self.credentials, credentials);
        self.former.get_or_insert(before);
    }

    /// Whom checks may be addressed to: two at most, whatever number of restarts there was.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = [Some(&self.credentials), self.former.as_ref()];
        all.into_iter().flatten().map(|good| good.ufrag.as_str())
    }

    /// Takes a check.
    ///
    /// # Errors
    /// Why it is not answered.
    pub fn receive(
        &mut self,
        datagram: &[u8],
        path: Path,
        now: Instant,
    ) -> Result<Check, Unanswered> {
        if datagram.len() > MAX_CHECK_BYTES {
            return Err(Unanswered::Malformed);
        }
        let mut request = Message::new();
        request
            .unmarshal_binary(datagram)
            .map_err(|_| Unanswered::Malformed)?;
        let is_whole = datagram.len() == HEADER_BYTES + request.length as usize;
        if request.typ != BINDING_REQUEST || !is_whole {
            return Err(Unanswered::Malformed);
        }
        let (pwd, is_current) = self.judge(&mut request).ok_or(Unanswered::Forged)?;
        // Both sides believe to be the controlled one; we cannot be the other (RFC 8445 §7.3.1.1).
        if request.contains(ATTR_ICE_CONTROLLED) {
            let response = self.respond(&request, &pwd, Box::new(BINDING_ERROR), path);
            return Ok(Check {
                response,
                is_new: false,
                forgotten: None,
            });
        }
        self.heard_at = now;
        let (is_new, forgotten) = self.learn(path);
        let is_nominated = request.contains(ATTR_USE_CANDIDATE);
        let is_left = self.selected.is_some() && now >= self.selected_heard_at + LEFT_AFTER;
        if is_nominated || is_left {
            self.selected = Some(path);
        }
        if is_nominated && is_current {
            self.former = None;
        }
        if self.selected == Some(path) {
            self.selected_heard_at = now;
        }
        let response = self.respond(&request, &pwd, Box::new(BINDING_SUCCESS), path);
        Ok(Check {
            response,
            is_new,
            forgotten,
        })
    }

    /// Where to send: the path that the peer nominated last, or has moved to since.
    pub const fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Whether the peer has shown that it is there.
    pub fn knows(&self, path: Path) -> bool {
        self.known.contains(&path)
    }

    /// When the peer last sent a valid check: its consent to hear us (RFC 7675).
    pub const fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// The password with which a check is rightly signed, and whether it is the current one.
    fn judge(&self, request: &mut Message) -> Option<(String, bool)> {
        /// RFC 8489 §14.5. The crate counts on it.
        const SIGNATURE_BYTES: usize = 20;
        let attributes = &mut request.attributes.0;
        let signature = attributes
            .iter()
            .position(|attribute| attribute.typ == ATTR_MESSAGE_INTEGRITY)?;
        if attributes[signature].value.len() != SIGNATURE_BYTES {
            return None;
        }
        // What is behind the signature is not signed.
        let mut signed = attributes[..signature].iter();
        let name = signed.find(|attribute| attribute.typ == ATTR_USERNAME)?;
        let (ufrag, _) = std::str::from_utf8(&name.value).ok()?.split_once(':')?;
        let all = [Some(&self.credentials), self.former.as_ref()];
        let meant = all
            .into_iter()
            .flatten()
            .find(|credentials| credentials.ufrag == ufrag)?;
        let crypto = self.provider.crypto();
        MessageIntegrity::check(request, meant.pwd.as_bytes(), crypto).ok()?;
        request.attributes.0.truncate(signature);
        Some((meant.pwd.clone(), *meant == self.credentials))
    }

    fn learn(&mut self, path: Path) -> (bool, Option<Path>) {
        if self.knows(path) {
            return (false, None);
        }
        let mut forgotten = None;
        if self.known.len() == MAX_PATHS {
            let oldest = self
                .known
                .iter()
                .position(|known| Some(*known) != self.selected);
            forgotten = oldest.map(|oldest| self.known.remove(oldest));
        }
        self.known.push(path);
        (true, forgotten)
    }

    fn respond(
        &self,
        request: &Message,
        pwd: &str,
        kind: Box<dyn Setter>,
        Path { remote, .. }: Path,
    ) -> Vec<u8> {
        let mut id = Message::new();
        id.transaction_id = request.transaction_id;
        let mut parts: Vec<Box<dyn Setter + '_>> = vec![Box::new(id), kind];
        if request.contains(ATTR_ICE_CONTROLLED) {
            parts.push(Box::new(CODE_ROLE_CONFLICT));
        } else {
            parts.push(Box::new(XorMappedAddress {
                // A socket for both families shows IPv4 inside IPv6, which the peer would not know itself by.
                ip: remote.ip().to_canonical(),
                port: remote.port(),
            }));
        }
        let signature = MessageIntegrity::new_short_term_integrity_with_provider(
            pwd.to_owned(),
            self.provider.crypto(),
        );
        parts.push(Box::new(signature));
        parts.push(Box::new(FINGERPRINT));
        let mut response = Message::new();
        response
            .build(&parts)
            .expect("ring has SHA-1, and the parts are few and short");
        response.raw
    }
}

#[cfg(test)]
mod tests;
