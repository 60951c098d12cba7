//! What `[webrtc]` becomes.

use std::fmt::Display;
use std::fmt::Formatter;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use crate::engine::media::codec::packet::Codec;

/// `[webrtc]`: calls from browsers, signalled by WHIP on the public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webrtc {
    /// Where media is received, UDP; one port carries every call. Empty: no WebRTC, and then nothing else here counts.
    /// An unspecified address stands for every address of this machine. Default `127.0.0.1:10443`.
    pub listen: Vec<SocketAddr>,
    /// The addresses that callers are told. Default none: those of `listen`.
    pub advertised_addresses: Vec<AdvertisedAddress>,
    /// The environment variable that holds tokens. Default `TANDEM_WHIP_TOKENS`, which need not be set.
    pub tokens_env: String,
    /// A file that holds tokens, seen from the working directory.
    pub tokens_file: Option<PathBuf>,
    /// The tokens of both; no two are the same for the same route. Never printed.
    pub tokens: Vec<WhipToken>,
    /// Whether a caller must bring one of the tokens. Default: yes, except without any where only this machine can call; so
    /// elsewhere nobody can call before there are tokens.
    pub require_token: bool,
    /// The origins (RFC 6454) of pages elsewhere that may call, as browsers write them, or `*` alone. Default none.
    pub allowed_origins: Vec<String>,
    /// Names of session parameters that a caller may set and that reach the agent. Default none.
    pub parameters: Vec<String>,
    /// STUN servers that callers are told, `stun:HOST[:PORT]` (RFC 7064). Default none.
    pub stun_servers: Vec<String>,
    /// TURN servers that callers are told, `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:…` (RFC 7065). Default none.
    pub turn_servers: Vec<String>,
    /// The environment variable that holds the secret which the TURN servers share with us.
    pub turn_secret_env: Option<String>,
    /// That secret. There whenever there are TURN servers. Never printed.
    pub turn_secret: Option<Secret>,
    /// For how long a caller's TURN credentials are good, whole seconds. Default 1 h (1 min–1 day).
    pub turn_credential_life: Duration,
    /// The codecs that may be agreed on; of several the caller's order decides. At least one, none twice, never G.722. Default:
    /// Opus, PCMU, PCMA.
    pub codecs: Vec<Codec>,
    /// How hard Opus is encoded. Default 5 (0–10).
    pub opus_complexity: u8,
    /// Whether `GET /` is a telephone for trying. Default yes.
    pub phone_page: bool,
}

impl Webrtc {
    /// Whether anybody can call at all.
    pub fn is_callable(&self) -> bool {
        let is_anybody_let_in = !self.require_token || !self.tokens.is_empty();
        is_anybody_let_in && !self.listen.is_empty()
    }

    /// The codecs that browsers offer, by their words in the configuration.
    pub const CODECS: [(&'static str, Codec); 3] = [
        ("opus", Codec::Opus),
        ("pcmu", Codec::Pcmu),
        ("pcma", Codec::Pcma),
    ];
}

impl Default for Webrtc {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 10_443))],
            advertised_addresses: Vec::new(),
            tokens_env: "TANDEM_WHIP_TOKENS".to_owned(),
            tokens_file: None,
            tokens: Vec::new(),
            require_token: false,
            allowed_origins: Vec::new(),
            parameters: Vec::new(),
            stun_servers: Vec::new(),
            turn_servers: Vec::new(),
            turn_secret_env: None,
            turn_secret: None,
            turn_credential_life: Duration::from_secs(3_600),
            codecs: Self::CODECS.map(|(_, codec)| codec).to_vec(),
            opus_complexity: 5,
            phone_page: true,
        }
    }
}

/// One of `webrtc.advertised_addresses`; displayed as it is written there: `203.0.113.7`, `[2001:db8::7]:30443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvertisedAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port, where it is another than the one that we listen on.
    pub port: Option<u16>,
}

impl AdvertisedAddress {
    /// Reads an address, with or without a port; `None` if it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse() {
            return Some(Self { ip, port: None });
        }
        let address: SocketAddr = text.parse().ok()?;
        Some(Self {
            ip: address.ip(),
            port: Some(address.port()),
        })
    }
}

impl Display for AdvertisedAddress {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.ip, port)),
            None => write!(f, "{}", self.ip),
        }
    }
}

/// One of the tokens by which callers show that they may call (RFC 6750).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhipToken {
    /// The route, as it stands in the path, that it is good for; `None`: every one.
    pub route: Option<String>,
    /// The token (RFC 9110 §11.2, `token68`). Never printed.
    pub token: Secret,
}
