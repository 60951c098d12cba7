//! The configuration: the only place that knows TOML and the environment. The rest sees the plain structs below.
//!
//! [`load`] reads a file and the environment into one tree in which every value remembers where it came from, and then
//! takes the tree apart key by key; what is left over is a problem too. So every problem is told at once, each with its
//! own place. A [`Config`] is displayed as TOML again, without its secrets.
//!
//! A default has one home: the `Default` of the section's struct. `config/tandem.toml` repeats them for people, and a
//! test holds the two together.

mod address;
mod agents;
mod clips;
pub mod load;
mod load_sip;
mod load_turn;
mod load_webrtc;
mod print;
pub mod problem;
mod section;
mod sip;
mod tree;
mod turn;
mod variable;
mod webrtc;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::clips::Clips;
pub use self::sip::DigestAlgorithm;
pub use self::sip::Rtp;
pub use self::sip::SecretSource;
pub use self::sip::Sip;
pub use self::sip::SipAuth;
pub use self::sip::SipListen;
pub use self::sip::SipRegister;
pub use self::sip::SipTransport;
pub use self::sip::SipUser;
pub use self::sip::SrtpPolicy;
pub use self::turn::BargeIn;
pub use self::turn::Fallback;
pub use self::turn::Turn;
pub use self::turn::WavFile;
pub use self::webrtc::AdvertisedAddress;
pub use self::webrtc::Webrtc;
pub use self::webrtc::WhipToken;
use crate::io::leg::IngressKind;

/// Everything that can be configured, checked as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[http]`: the public listener.
    pub http: Http,
    /// `[admin]`: the operator's listener.
    pub admin: Admin,
    /// `[limits]`.
    pub limits: Limits,
    /// `[drain]`.
    pub drain: Drain,
    /// `[sip]`.
    pub sip: Sip,
    /// `[rtp]`.
    pub rtp: Rtp,
    /// `[twilio]`.
    pub twilio: Twilio,
    /// `[webrtc]`.
    pub webrtc: Webrtc,
    /// `[audio]`.
    pub audio: Audio,
    /// `[turn]`.
    pub turn: Turn,
    /// `[fallback]`.
    pub fallback: Fallback,
    /// `[clips]`.
    pub clips: Clips,
    /// `[log]`.
    pub log: Log,
    /// `[[routes]]`, tried in order; the first that fits takes the call.
    pub routes: Vec<Route>,
    /// `[agents.NAME]`.
    pub agents: BTreeMap<String, Agent>,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where Twilio and browsers connect. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// How they see us: scheme, host and, if there is one, a path prefix. `None`: `http://` and the listening address.
    pub public_url: Option<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
        }
    }
}

impl Http {
    /// How others see us, without a slash at the end: `public_url`, or the listening address as a URL.
    pub fn public_base(&self) -> String {
        match &self.public_url {
            Some(url) => url.clone(),
            None => format!("http://{}", self.listen),
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Metrics, health and calls. Default `127.0.0.1:9090`. It has no authentication: keep it inside.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
        }
    }
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls at the same time; more are refused. Default 1000.
    pub calls: usize,
    /// New calls per second; more are refused. Default 50.
    pub calls_per_second: u32,
    /// The longest call. Default 2 h.
    pub call_duration: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 1_000,
            calls_per_second: 50,
            call_duration: Duration::from_secs(2 * 3_600),
        }
    }
}

/// `[drain]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long calls may go on after SIGTERM. Default 30 min.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30 * 60),
        }
    }
}

/// `[twilio]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twilio {
    /// The environment variable that holds the account's auth token. Default `TWILIO_AUTH_TOKEN`.
    pub auth_token_env: String,
    /// The account's auth token, read from that variable. Never printed.
    pub auth_token: Option<Secret>,
    /// Whether X-Twilio-Signature must be right. Default: yes, except without a token where only this machine can call.
    pub require_signature: bool,
    /// Names of custom parameters that may reach the agent as session parameters. Default none.
    pub parameters: Vec<String>,
}

impl Twilio {
    /// Whether there is an account whose calls are to come: on a machine of its own anybody may play Twilio.
    pub(super) const fn is_set_up(&self) -> bool {
        self.auth_token.is_some()
    }
}

impl Default for Twilio {
    fn default() -> Self {
        Self {
            auth_token_env: "TWILIO_AUTH_TOKEN".to_owned(),
            auth_token: None,
            require_signature: false,
            parameters: Vec::new(),
        }
    }
}

/// `[audio]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audio {
    /// How caller audio is written towards the agent. Default `auto`.
    pub uplink: Uplink,
    /// How much goes into one message. Default 100 ms (20–200 ms).
    pub chunk: Duration,
}

impl Default for Audio {
    fn default() -> Self {
        Self {
            uplink: Uplink::Auto,
            chunk: Duration::from_millis(100),
        }
    }
}

/// `audio.uplink`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// mu-law for 8 kHz legs, 16 kHz linear for wider ones.
    Auto,
    /// mu-law at 8 kHz.
    Mulaw8000,
    /// Linear PCM at 8 kHz.
    Linear16At8000,
    /// Linear PCM at 16 kHz.
    Linear16At16000,
}

impl Uplink {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("auto", Self::Auto),
        ("mulaw-8000", Self::Mulaw8000),
        ("linear16-8000", Self::Linear16At8000),
        ("linear16-16000", Self::Linear16At16000),
    ];
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A `tracing` filter. Default `info`.
    pub filter: String,
    /// One JSON object a line instead of text. Default no.
    pub json: bool,
    /// Whether phone numbers are shortened in logs. Default yes.
    pub redact_numbers: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            json: false,
            redact_numbers: true,
        }
    }
}

/// One of `[[routes]]`: which agent takes a call. A missing condition fits every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name, for logs.
    pub name: String,
    /// Only calls that came by this ingress.
    pub ingress: Option<IngressKind>,
    /// Only calls to this number.
    pub to: Option<String>,
    /// Only calls from this number.
    pub from: Option<String>,
    /// Only SIP calls whose request URI has this host; case does not count, in any host.
    pub domain: Option<String>,
    /// Only SIP calls that have each of these header fields with exactly this value. Names have no case; none is here
    /// twice.
    pub headers: BTreeMap<String, String>,
    /// Where live-agent hand-offs are transferred: a telephone number (`+` and digits, or digits) or a `sip:` URI.
    pub handoff: Option<String>,
    /// The agent, a key of `[agents]`.
    pub agent: String,
}

impl Route {
    /// A route that takes every call to one agent.
    pub fn every_call(name: &str, agent: &str) -> Self {
        Self {
            name: name.to_owned(),
            ingress: None,
            to: None,
            from: None,
            domain: None,
            headers: BTreeMap::new(),
            handoff: None,
            agent: agent.to_owned(),
        }
    }
}

/// One of `[agents]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Which service answers.
    pub kind: AgentKind,
    /// `projects/P/locations/L/agents/A`. Default for `local`: [`AgentName::local`].
    pub name: AgentName,
    /// A published environment; the draft without it.
    pub environment: Option<String>,
    /// BCP 47 language tag. Default `en-US`.
    pub language: String,
    /// The opening turn. Default: the event `WELCOME`.
    pub greeting: Greeting,
    /// `http://HOST:PORT` (plain text, no credentials) or `https://HOST[:PORT]`. Default: derived from the location.
    pub endpoint: Option<String>,
    /// A credentials file, seen from the working directory. Default: Application Default Credentials.
    pub credentials: Option<PathBuf>,
    /// The recogniser's model, for example `telephony`. Default: the agent's own.
    pub model: Option<String>,
    /// The channel whose response messages are wanted, as the agent's author named it. Default: those for every channel.
    pub channel: Option<String>,
    /// `local` only: a script file, seen from the working directory. Default: the embedded one.
    pub script: Option<PathBuf>,
    /// The tools that its calls can run: URLs by the tools' resource names. Default none.
    pub tools: BTreeMap<String, String>,
}

impl Agent {
    /// The agent of a configuration that names none: the embedded one, with its embedded script.
    pub fn local() -> Self {
        Self {
            kind: AgentKind::Local,
            name: AgentName::local(),
            environment: None,
            language: "en-US".to_owned(),
            greeting: Greeting::default(),
            endpoint: None,
            credentials: None,
            model: None,
            channel: None,
            script: None,
            tools: BTreeMap::new(),
        }
    }
}

/// `agents.NAME.kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// Dialogflow CX, `google.cloud.dialogflow.cx.v3`.
    DialogflowCx,
    /// Dialogflow CX, `google.cloud.dialogflow.cx.v3beta1`.
    DialogflowCxV3beta1,
    /// The embedded local agent, spoken to as Dialogflow CX v3 on a loopback port.
    Local,
}

impl AgentKind {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("dialogflow-cx", Self::DialogflowCx),
        ("dialogflow-cx-v3beta1", Self::DialogflowCxV3beta1),
        ("local", Self::Local),
    ];
}

/// A parsed `projects/P/locations/L/agents/A`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentName {
    /// The Google Cloud project.
    pub project: String,
    /// The location, which decides the host.
    pub location: String,
    /// The agent's id.
    pub agent: String,
}

impl AgentName {
    /// The name under which the local agent goes when it is given none.
    pub fn local() -> Self {
        Self {
            project: "local".to_owned(),
            location: "global".to_owned(),
            agent: "local".to_owned(),
        }
    }

    /// Reads `projects/P/locations/L/agents/A`; `None` if it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let segments: Vec<&str> = text.split('/').collect();
        let ["projects", project, "locations", location, "agents", agent] = segments[..] else {
            return None;
        };
        // A project may carry a domain (`example.com:project`); nothing else here has more than letters and dashes.
        let is_id = |id: &str| {
            !id.is_empty()
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        };
        if ![project, location, agent].into_iter().all(is_id) {
            return None;
        }
        Some(Self {
            project: project.to_owned(),
            location: location.to_owned(),
            agent: agent.to_owned(),
        })
    }
}

impl std::fmt::Display for AgentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "projects/{}/locations/{}/agents/{}",
            self.project, self.location, self.agent
        )
    }
}

/// `agents.NAME.greeting`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// A custom event.
    Event(String),
    /// Words, as if the caller had said them.
    Text(String),
    /// An intent by its resource name.
    Intent(String),
    /// The caller speaks first.
    None,
}

impl Default for Greeting {
    fn default() -> Self {
        Self::Event("WELCOME".to_owned())
    }
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}
