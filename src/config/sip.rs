//! What `[sip]` and `[rtp]` become.

use std::fmt::Display;
use std::fmt::Formatter;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::Secret;
use crate::engine::media::codec::packet::Codec;

/// `[sip]`: the PBX's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sip {
    /// Where SIP is heard; empty: nowhere, and then nothing else here counts. Default UDP and TCP on `127.0.0.1:5060`.
    pub listen: Vec<SipListen>,
    /// How others reach us, an IP address (IPv6 without brackets) or a host name, without a port. `None`: by the
    /// address that the machine itself has towards them.
    pub advertised_address: Option<String>,
    /// The certificate chain of `tls:` listeners, PEM. There whenever one of them is.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, PEM. There whenever a `tls:` listener is.
    pub tls_key: Option<PathBuf>,
    /// Who may send calls; empty: everybody. With [`SipAuth::users`] as well, a caller must pass both.
    pub allow: Vec<IpNet>,
    /// `[sip.auth]`.
    pub auth: SipAuth,
    /// `[[sip.register]]`: the extensions that we register as.
    pub register: Vec<SipRegister>,
    /// SIP header fields whose values may reach the agent as session parameters. Default none.
    pub parameters: Vec<String>,
    /// How long a call may ring while the agent's first words are prepared. Default 3 s (0–30 s).
    pub answer_within: Duration,
    /// The session interval that we ask for (RFC 4028), whole seconds. Default 30 min.
    pub session_expires: Duration,
    /// The shortest session interval that we agree to, whole seconds; never above `session_expires`. Default 90 s.
    pub min_session_expires: Duration,
    /// How long a transfer may take until its outcome is known. Default 20 s.
    pub transfer_timeout: Duration,
    /// TCP and TLS connections at a time. Default 1000.
    pub connections: usize,
}

impl Default for Sip {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
        let listen = |transport| SipListen { transport, address };
        Self {
            listen: [SipTransport::Udp, SipTransport::Tcp].map(listen).to_vec(),
            advertised_address: None,
            tls_certificate: None,
            tls_key: None,
            allow: Vec::new(),
            auth: SipAuth::default(),
            register: Vec::new(),
            parameters: Vec::new(),
            answer_within: Duration::from_secs(3),
            session_expires: Duration::from_secs(30 * 60),
            min_session_expires: Duration::from_secs(90),
            transfer_timeout: Duration::from_secs(20),
            connections: 1_000,
        }
    }
}

/// One of `sip.listen`; displayed as it is written there: `udp:127.0.0.1:5060`, `tls:[::1]:5061`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipListen {
    /// What carries the messages.
    pub transport: SipTransport,
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
}

impl SipListen {
    /// Reads `TRANSPORT:ADDRESS:PORT`; `None` if it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, address) = text.split_once(':')?;
        let transport = SipTransport::WORDS
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word));
        Some(Self {
            transport: transport?.1,
            address: address.parse().ok()?,
        })
    }
}

impl Display for SipListen {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.transport.word(), self.address)
    }
}

/// What carries SIP messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SipTransport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// An encrypted stream.
    Tls,
}

impl SipTransport {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 3] =
        [("udp", Self::Udp), ("tcp", Self::Tcp), ("tls", Self::Tls)];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// `[sip.auth]`: digest authentication (RFC 8760) of those who call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipAuth {
    /// What callers are told that the password is for. Default `tandem`.
    pub realm: String,
    /// How passwords are proven, the preferred first; at least one, none twice. Default: MD5, then SHA-256.
    pub algorithms: Vec<DigestAlgorithm>,
    /// Who may call; empty: no password is asked for.
    pub users: Vec<SipUser>,
}

impl Default for SipAuth {
    fn default() -> Self {
        Self {
            realm: "tandem".to_owned(),
            algorithms: vec![DigestAlgorithm::Md5, DigestAlgorithm::Sha256],
            users: Vec::new(),
        }
    }
}

/// One of `sip.auth.algorithms` (RFC 8760).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// What everybody knows.
    Md5,
    /// What is still trusted.
    Sha256,
}

impl DigestAlgorithm {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 2] = [("md5", Self::Md5), ("sha-256", Self::Sha256)];
}

/// One of `sip.auth.users`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipUser {
    /// The user name of the digest; unlike any other user's.
    pub username: String,
    /// The password. Never printed.
    pub password: Secret,
    /// Where the password was read.
    pub password_from: SecretSource,
}

/// One of `[[sip.register]]`: an extension of a PBX that we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipRegister {
    /// Where to register: `sip:HOST[:PORT][;transport=udp|tcp|tls]` or `sips:HOST[:PORT]`, without a user.
    pub registrar: String,
    /// The extension: the user of the address that is registered.
    pub username: String,
    /// The user name of the digest, where it is another than `username`.
    pub auth_username: Option<String>,
    /// The password. Never printed.
    pub password: Secret,
    /// Where the password was read.
    pub password_from: SecretSource,
    /// For how long to register, whole seconds; the registrar may grant less. Default 10 min (60 s–24 h).
    pub expires: Duration,
    /// The host of the address that is registered, where it is another than the registrar's.
    pub domain: Option<String>,
}

impl SipRegister {
    /// How long a registration is asked for when nothing is said.
    pub const DEFAULT_EXPIRES: Duration = Duration::from_secs(600);
}

/// Where a secret was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In this environment variable.
    Environment(String),
    /// In this file, seen from the working directory.
    File(PathBuf),
}

/// `[rtp]`: the sound of SIP calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtp {
    /// The ports; the first is even, and there are two at least. Default 10000–19999.
    pub ports: RangeInclusive<u16>,
    /// The address in SDP. `None`: `sip.advertised_address` if that is an IP address, else the address that the machine
    /// itself has towards the caller.
    pub advertised_address: Option<IpAddr>,
    /// The codecs that may be agreed on, the best first; at least one, none twice. Default: all.
    pub codecs: Vec<Codec>,
    /// How hard Opus is encoded. Default 5 (0–10).
    pub opus_complexity: u8,
    /// Whether calls are encrypted. Default `optional`.
    pub srtp: SrtpPolicy,
    /// Whether only the address of the caller's SDP is heard, instead of learning the one behind a NAT. Default no.
    pub strict_source: bool,
    /// How long a new call may go without a packet. Default 30 s.
    pub initial_timeout: Duration,
    /// How long a call under way may go without a packet, RTP or RTCP. Default 60 s.
    pub timeout: Duration,
    /// The same while a call is on hold. Default 30 min.
    pub hold_timeout: Duration,
}

impl Default for Rtp {
    fn default() -> Self {
        Self {
            ports: 10_000..=19_999,
            advertised_address: None,
            codecs: Codec::ALL.to_vec(),
            opus_complexity: 5,
            srtp: SrtpPolicy::Optional,
            strict_source: false,
            initial_timeout: Duration::from_secs(30),
            timeout: Duration::from_secs(60),
            hold_timeout: Duration::from_secs(30 * 60),
        }
    }
}

/// `rtp.srtp`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpPolicy {
    /// Never: an offer of nothing else is refused.
    Off,
    /// Whenever the caller can.
    Optional,
    /// Always: an offer without it is refused.
    Required,
}

impl SrtpPolicy {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("off", Self::Off),
        ("optional", Self::Optional),
        ("required", Self::Required),
    ];
}
