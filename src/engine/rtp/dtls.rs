//! DTLS-SRTP (RFC 5763, RFC 5764): the two ends of a stream shake hands on its own path, prove by their certificates that
//! they are those whose fingerprints SDP carried, and derive the keys of SRTP.
//!
//! The protocol is `rtc::dtls`; a [`Handshake`] holds one association of it and has neither socket nor timer. Browsers also
//! send data through it (RFC 8261), which only passes here. Around the crate it puts right what would hurt a call:
//! - the crate repeats its flights every second; here the first repeat comes after 250 ms and then ever later;
//! - a repeated flight of the peer makes the crate forget its own timer, and if ours was the one that was lost both ends
//!   wait for ever: such a datagram is answered with our flight again (RFC 6347 §4.2.4) and kept from the crate;
//! - a server that has part of the client's second hello, as large ones come, makes the crate answer the first one again:
//!   that is not sent, for it answers nothing;
//! - what is no well-formed record is dropped before the crate answers it with a fatal alert, and the number of datagrams
//!   is bounded, because the crate keeps fragments that nobody will ask for.
//!
//! The crate draws its own random numbers, and reads the wall clock once for the time that a hello's random carries; it
//! measures nothing by it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::crypto::providers::RingProvider;
use rtc::dtls::config::ClientAuthType;
use rtc::dtls::config::ConfigBuilder;
use rtc::dtls::config::HandshakeConfig;
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::Endpoint;
use rtc::dtls::endpoint::EndpointEvent;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error as RtcError;
use rtc::srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;
use sha2::Digest;
use sha2::Sha256;

use crate::engine::rtp::key::SrtpKey;
use crate::engine::rtp::key::SrtpProfile;

/// After this the handshake has failed. Callers who hear nothing hang up sooner.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// When a flight is first repeated: more than a round trip around the world. RFC 6347 §4.2.4.1 recommends a second, and
/// less for those in a hurry.
const FIRST_REPEAT: Duration = Duration::from_millis(250);
/// Repeats are no further apart than this, each twice as far as the one before.
const LAST_REPEAT: Duration = Duration::from_secs(2);
/// How often one flight is repeated: at 0.25, 0.75, 1.75, 3.75, 5.75, 7.75 and 9.75 s. The crate gives up at eight.
const REPEATS: u32 = 7;
/// The peer's repeats are answered no more often than this: its flight may be several datagrams.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);
/// A handshake takes about ten datagrams; the rest is for repeats and for strangers.
const MAX_DATAGRAMS: u32 = 200;
/// Data of the peer that may wait to be asked for.
const MAX_WAITING_DATA: usize = 64;
/// The longest handshake message: a chain of several RSA certificates.
const MAX_MESSAGE_BYTES: usize = 16 * 1_024;
/// Messages in one record. The longest flight has five.
const MAX_MESSAGES: usize = 8;
/// In our order of preference. The short tag of `AES_CM_128_HMAC_SHA1_32` is not worth having.
const PROFILES: [SrtpProtectionProfile; 3] = [
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
];
/// The crate tells associations apart by address; there is one in each of its endpoints.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1);

/// The SHA-256 of a certificate, as `a=fingerprint` carries it (RFC 8122 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

/// Which side opens the handshake (`a=setup`, RFC 4145 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the ClientHello (`active`).
    Client,
    /// We wait for it (`passive`).
    Server,
}

/// Whether a datagram on a media path is DTLS (RFC 7983 §7).
pub fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// Who we are to our peers: a certificate signed by itself, and its key. One serves every call of a process.
pub struct Identity {
    certificate: Certificate,
    fingerprint: Fingerprint,
    provider: Arc<dyn RTCCryptoProvider>,
}

impl Identity {
    /// A new identity on the curve P-256.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let provider = Arc::new(RingProvider::new());
        let certificate =
            Certificate::generate_self_signed(["tandem".to_owned()], provider.crypto())
                .context("cannot make a certificate for DTLS")?;
        let fingerprint = Fingerprint::of(&certificate.certificate[0]);
        Ok(Self {
            certificate,
            fingerprint,
            provider,
        })
    }

    /// What SDP must say of us.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// The keys of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Of what we send.
    pub ours: SrtpKey,
    /// Of what we receive.
    pub theirs: SrtpKey,
}

/// Why there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Somebody else answers than SDP announced.
    #[error("the peer's certificate is not the announced one")]
    WrongCertificate,
    /// The peer knows no cipher suite of SRTP that we know.
    #[error("no SRTP profile in common")]
    NoCommonProfile,
    /// The peer refused.
    #[error("the peer ended the handshake with an alert")]
    Refused,
    /// The peer does not keep to the protocol, or knows none of our ciphers.
    #[error("the peer's handshake cannot be followed")]
    Broken,
    /// Nothing, or not all, came in ten seconds.
    #[error("the handshake was not finished in time")]
    TimedOut,
}

/// One handshake, and what is left of it: our last flight may be asked for again after the keys are there, so it is kept
/// as long as its stream.
pub struct Handshake {
    endpoint: Endpoint,
    role: DtlsRole,
    expected: Fingerprint,
    outgoing: VecDeque<Bytes>,
    data: VecDeque<Bytes>,
    phase: Phase,
    /// When it fails.
    limit: Instant,
    /// When our last flight is repeated, if it is not answered before.
    repeat_at: Option<Instant>,
    repeat_interval: Duration,
    repeats: u32,
    last_sent: Option<Instant>,
    datagrams: u32,
    /// The number after that of the last handshake message seen.
    seen: u16,
    /// Messages numbered below this have been answered by our last flight.
    answered: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Shaking,
    Done,
    Closed,
    Failed(HandshakeError),
}

impl Handshake {
    /// Begins a handshake with the peer whose certificate SDP announced as `expected`. A client's first flight is ready
    /// to be sent.
    pub fn new(role: DtlsRole, identity: &Identity, expected: Fingerprint, now: Instant) -> Self {
        let config = Arc::new(config(role, identity, expected));
        let server_config = (role == DtlsRole::Server).then(|| config.clone());
        let mut handshake = Self {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, server_config),
            role,
            expected,
            outgoing: VecDeque::new(),
            data: VecDeque::new(),
            phase: Phase::Shaking,
            limit: now + TIME_LIMIT,
            repeat_at: None,
            repeat_interval: FIRST_REPEAT,
            repeats: 0,
            last_sent: None,
            datagrams: 0,
            seen: 0,
            answered: 0,
        };
        match role {
            DtlsRole::Client => {
                let opened = handshake.endpoint.connect(now, PEER, config, None);
                opened.expect("a ClientHello needs nothing but random numbers");
                handshake.collect(now);
            }
            DtlsRole::Server => {}
        }
        handshake
    }

    /// Takes a datagram of the peer (see [`is_dtls`]). The keys come out once, when the handshake is done; afterwards
    /// there may still be something to send.
    ///
    /// # Errors
    /// If the handshake failed, now or before.
    pub fn receive(
        &mut self,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Option<Keys>, HandshakeError> {
        match self.phase {
            Phase::Shaking | Phase::Done => {}
            Phase::Closed => return Ok(None),
            Phase::Failed(error) => return Err(error),
        }
        let Some(contents) = Contents::of(datagram) else {
            return Ok(None);
        };
        let is_data = self.phase == Phase::Done && contents.is_data;
        if !is_data {
            if self.datagrams == MAX_DATAGRAMS {
                return Ok(None);
            }
            self.datagrams += 1;
        }
        if self.phase == Phase::Shaking && contents.is_repeat_of_before(self.answered) {
            let is_too_soon = self
                .last_sent
                .is_some_and(|sent| now < sent + ANSWER_INTERVAL);
            // A server's first answer is not repeated by itself: there the crate wants to see the repeat.
            if is_too_soon || self.repeat(now) {
                return Ok(None);
            }
        }
        self.seen = self.seen.max(contents.end_of_messages);
        let read = self
            .endpoint
            .read(now, PEER, None, BytesMut::from(datagram));
        let was_shaking = self.phase == Phase::Shaking;
        let waiting = self.outgoing.len();
        let is_sent = self.collect(now);
        let is_new = contents.end_of_messages > self.answered;
        if is_sent && is_new && self.answered > 0 && is_demand_for_cookie(&self.outgoing[waiting]) {
            self.outgoing.truncate(waiting);
        } else if is_sent && was_shaking {
            // A new flight.
            self.answered = self.seen;
            self.repeats = 0;
            self.repeat_interval = FIRST_REPEAT;
            self.repeat_at = Some(now + FIRST_REPEAT);
        }
        match read {
            Ok(events) => self.follow(events),
            // The crate reports what it dropped, too; an association that stands is not ended by that.
            Err(_) if !was_shaking => Ok(None),
            Err(error) => self.fail(HandshakeError::from_crate(&error)),
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }

    /// Data of the peer, a record at a time. What nobody asks for is thrown away in the end.
    pub fn poll_data(&mut self) -> Option<Bytes> {
        self.data.pop_front()
    }

    /// Sends data; nothing before the handshake is done or after the end.
    pub fn send_data(&mut self, data: &[u8], now: Instant) {
        if self.phase == Phase::Done && self.endpoint.write(now, PEER, data).is_ok() {
            self.collect(now);
        }
    }

    /// Whether the peer has ended the association.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Ends the association: the peer is told by an alert (RFC 5246 §7.2.1).
    pub fn close(&mut self, now: Instant) {
        if self.phase == Phase::Done && self.endpoint.close(now).is_ok() {
            self.collect(now);
            self.phase = Phase::Closed;
        }
    }

    /// When [`Handshake::tick`] wants to be called next; `None` once the handshake is over.
    pub fn deadline(&self) -> Option<Instant> {
        (self.phase == Phase::Shaking)
            .then(|| self.repeat_at.map_or(self.limit, |at| at.min(self.limit)))
    }

    /// Repeats what was not answered, and gives up after ten seconds.
    ///
    /// # Errors
    /// If the handshake failed, now or before.
    pub fn tick(&mut self, now: Instant) -> Result<(), HandshakeError> {
        match self.phase {
            Phase::Shaking => {}
            Phase::Done | Phase::Closed => return Ok(()),
            Phase::Failed(error) => return Err(error),
        }
        if now >= self.limit {
            return self.fail(HandshakeError::TimedOut);
        }
        if self.repeat_at.is_some_and(|at| now >= at) {
            self.repeat(now);
        }
        Ok(())
    }

    /// Sends our last flight again; says whether there was one to send.
    fn repeat(&mut self, now: Instant) -> bool {
        self.repeat_interval = (self.repeat_interval * 2).min(LAST_REPEAT);
        self.repeat_at = Some(now + self.repeat_interval);
        if self.repeats == REPEATS {
            self.repeat_at = None;
            return false;
        }
        // The crate has no timer while it has part of a flight: then the peer knows ours and will repeat the rest of its.
        let Some(crates_own) = self.endpoint.poll_timeout(&PEER) else {
            return false;
        };
        // It repeats when its own time has come, so it is told that it has. It fails on the eighth repeat only.
        if self.endpoint.handle_timeout(PEER, crates_own).is_err() {
            return false;
        }
        let is_sent = self.collect(now);
        self.repeats += u32::from(is_sent);
        is_sent
    }

    /// Fetches what the crate wants to send; says whether that was anything.
    fn collect(&mut self, now: Instant) -> bool {
        let before = self.outgoing.len();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.outgoing.push_back(transmit.message.freeze());
        }
        let is_sent = self.outgoing.len() > before;
        if is_sent {
            self.last_sent = Some(now);
            self.repeat_at = self.repeat_at.or(Some(now + self.repeat_interval));
        }
        is_sent
    }

    fn follow(&mut self, events: Vec<EndpointEvent>) -> Result<Option<Keys>, HandshakeError> {
        let mut keys = None;
        for event in events {
            match event {
                EndpointEvent::ApplicationData(data) if self.data.len() < MAX_WAITING_DATA => {
                    self.data.push_back(data.freeze());
                }
                EndpointEvent::HandshakeComplete => {
                    self.phase = Phase::Done;
                    keys = match self.keys() {
                        Ok(keys) => Some(keys),
                        Err(error) => return self.fail(error),
                    };
                }
                EndpointEvent::PeerClosed => self.phase = Phase::Closed,
                // Data that finds no room; SCTP sends it again. The enum is open to additions.
                _ => {}
            }
        }
        Ok(keys)
    }

    fn fail<T>(&mut self, error: HandshakeError) -> Result<T, HandshakeError> {
        self.phase = Phase::Failed(error);
        Err(error)
    }

    /// Cuts the exported bytes into keys (RFC 5764 §4.2).
    fn keys(&self) -> Result<Keys, HandshakeError> {
        let state = self
            .endpoint
            .get_connection_state(PEER)
            .expect("a completed association is there");
        let shown = state.peer_certificates.first();
        if shown.map(|shown| Fingerprint::of(shown)) != Some(self.expected) {
            return Err(HandshakeError::WrongCertificate);
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => SrtpProfile::AeadAes256Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::AesCm128HmacSha1_80,
            _ => return Err(HandshakeError::NoCommonProfile),
        };
        let (key, salt) = (profile.key_bytes(), profile.salt_bytes());
        let exported = state
            .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], 2 * (key + salt))
            .map_err(|_| HandshakeError::Broken)?;
        let (keys, salts) = exported.as_ref().split_at(2 * key);
        let side = |i: usize| {
            let bytes = [&keys[i * key..][..key], &salts[i * salt..][..salt]].concat();
            SrtpKey::new(profile, &bytes).expect("cut to the profile's own lengths")
        };
        let (client, server) = (side(0), side(1));
        Ok(match self.role {
            DtlsRole::Client => Keys {
                ours: client,
                theirs: server,
            },
            DtlsRole::Server => Keys {
                ours: server,
                theirs: client,
            },
        })
    }
}

impl HandshakeError {
    fn from_crate(error: &RtcError) -> Self {
        match error {
            RtcError::ErrNoMatchingCertificateFingerprint
            | RtcError::ErrClientCertificateRequired => Self::WrongCertificate,
            RtcError::ErrServerNoMatchingSrtpProfile | RtcError::ErrClientNoMatchingSrtpProfile => {
                Self::NoCommonProfile
            }
            RtcError::ErrAlertFatalOrClose => Self::Refused,
            _ => Self::Broken,
        }
    }
}

fn config(role: DtlsRole, identity: &Identity, expected: Fingerprint) -> HandshakeConfig {
    ConfigBuilder::default()
        .with_crypto_provider(identity.provider.clone())
        .with_certificates(vec![identity.certificate.clone()])
        .with_srtp_protection_profiles(PROFILES.to_vec())
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        // No authority has signed these certificates: the fingerprint is what they are verified by.
        .with_insecure_skip_verify(true)
        .with_verify_peer_certificate(Some(Arc::new(
            move |chain: &[Vec<u8>], _: &[_]| match chain.first() {
                Some(shown) if Fingerprint::of(shown) == expected => Ok(()),
                _ => Err(RtcError::ErrNoMatchingCertificateFingerprint),
            },
        )))
        .build(role == DtlsRole::Client, None)
        .expect(
            "ring has the ciphers, and the identity the certificate, that a configuration needs",
        )
}

/// Whether a datagram of ours is a HelloVerifyRequest (RFC 6347 §4.2.1).
fn is_demand_for_cookie(datagram: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    const HELLO_VERIFY_REQUEST: u8 = 3;
    datagram.first() == Some(&HANDSHAKE) && datagram.get(13) == Some(&HELLO_VERIFY_REQUEST)
}

/// What a datagram carries, as far as it must be known before the crate sees it.
struct Contents {
    /// The number after the highest of its plain handshake messages; 0 if it has none.
    end_of_messages: u16,
    has_others: bool,
    /// Whether it has encrypted data and nothing else.
    is_data: bool,
}

impl Contents {
    /// `None` unless all of it is well-formed records of DTLS 1.0 or 1.2 (RFC 6347 §4.1).
    fn of(datagram: &[u8]) -> Option<Self> {
        let mut contents = Self {
            end_of_messages: 0,
            has_others: false,
            is_data: true,
        };
        let mut rest = datagram;
        while !rest.is_empty() {
            let (header, behind) = rest.split_at_checked(13)?;
            let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let (body, next) = behind.split_at_checked(length)?;
            rest = next;
            contents.is_data &= header[0] == 23;
            let is_our_version = matches!(header[1..3], [0xFE, 0xFF | 0xFD]);
            let is_plain = header[3..5] == [0, 0];
            match (header[0], is_plain, body) {
                _ if !is_our_version => return None,
                // ChangeCipherSpec.
                (20, true, [1]) => {}
                // An alert; of those that only warn the crate makes an end, too.
                (21, true, [2, _]) => contents.has_others = true,
                (22, true, _) => contents.add_messages(body)?,
                (20..=23, false, _) => contents.has_others = true,
                _ => return None,
            }
        }
        (!datagram.is_empty()).then_some(contents)
    }

    /// Handshake messages or fragments of them (RFC 6347 §4.2.2).
    fn add_messages(&mut self, body: &[u8]) -> Option<()> {
        let u24 = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let mut rest = body;
        for _ in 0..MAX_MESSAGES {
            let (header, behind) = rest.split_at_checked(12)?;
            let (whole, offset, length) =
                (u24(&header[1..4]), u24(&header[6..9]), u24(&header[9..12]));
            let is_sound = whole <= MAX_MESSAGE_BYTES
                && offset + length <= whole
                && (length > 0 || whole == 0);
            if !is_sound {
                return None;
            }
            let number = u16::from_be_bytes([header[4], header[5]]);
            self.end_of_messages = self.end_of_messages.max(number.checked_add(1)?);
            (_, rest) = behind.split_at_checked(length)?;
            if rest.is_empty() {
                return Some(());
            }
        }
        None
    }

    /// Whether it has only what was answered before.
    fn is_repeat_of_before(&self, answered: u16) -> bool {
        !self.has_others && self.end_of_messages > 0 && self.end_of_messages <= answered
    }
}

#[cfg(test)]
mod tests;
