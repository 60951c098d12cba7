//! The configuration: the only file that knows TOML and the environment. The rest sees the plain structs below.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::io::leg::IngressKind;

/// Everything that can be configured, checked as a whole.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[http]`: the public listener.
    pub http: Http,
    /// `[admin]`: the operator's listener.
    pub admin: Admin,
    /// `[limits]`.
    pub limits: Limits,
    /// `[drain]`.
    pub drain: Drain,
    /// `[twilio]`.
    pub twilio: Twilio,
    /// `[audio]`.
    pub audio: Audio,
    /// `[turn]`.
    pub turn: Turn,
    /// `[log]`.
    pub log: Log,
    /// `[[routes]]`, tried in order; the first that fits takes the call.
    pub routes: Vec<Route>,
    /// `[agents.NAME]`.
    pub agents: BTreeMap<String, Agent>,
}

/// `[http]`
#[derive(Clone, Debug)]
pub struct Http {
    /// Where Twilio and browsers connect. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// How they see us: scheme, host and, if there is one, a path prefix. `None`: `http://` and the listening address.
    pub public_url: Option<String>,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct Admin {
    /// Metrics, health and calls. Default `127.0.0.1:9090`. It has no authentication: keep it inside.
    pub listen: SocketAddr,
}

/// `[limits]`
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls at the same time; more are refused. Default 1000.
    pub calls: usize,
    /// New calls per second; more are refused. Default 50.
    pub calls_per_second: u32,
    /// The longest call. Default 2 h.
    pub call_duration: Duration,
}

/// `[drain]`
#[derive(Clone, Debug)]
pub struct Drain {
    /// How long calls may go on after SIGTERM. Default 30 min.
    pub timeout: Duration,
}

/// `[twilio]`
#[derive(Clone, Debug)]
pub struct Twilio {
    /// The account's auth token, read from the environment variable that `auth_token_env` names. Never printed.
    pub auth_token: Option<Secret>,
    /// Whether X-Twilio-Signature must be right. Default: yes, except without a token on a loopback listener.
    pub require_signature: bool,
    /// Names of custom parameters that may reach the agent as session parameters. Default none.
    pub parameters: Vec<String>,
}

/// `[audio]`
#[derive(Clone, Debug)]
pub struct Audio {
    /// How caller audio is written towards the agent. Default `auto`.
    pub uplink: Uplink,
    /// How much goes into one message. Default 100 ms (20–200 ms).
    pub chunk: Duration,
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

/// `[turn]`
#[derive(Clone, Debug)]
pub struct Turn {
    /// What lets a caller interrupt. Default `words`.
    pub barge_in: BargeIn,
    /// How long a caller may be silent after a prompt, unless the agent says otherwise. Default 5 s.
    pub no_input_timeout: Duration,
    /// Silent turns in a row that end the call. Default 3.
    pub no_input_limit: u32,
    /// The longest speech stream before we half-close it. Default 55 s.
    pub stream_ceiling: Duration,
    /// The longest pause between two digits, unless the agent says otherwise. Default 3 s.
    pub interdigit_timeout: Duration,
    /// The most digits of one input, unless the agent says otherwise. Default 20.
    pub max_digits: u32,
}

/// `turn.barge_in`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BargeIn {
    /// Recognised words cut the prompt.
    Words,
    /// Voice that lasts cuts the prompt.
    Voice,
    /// Nothing cuts the prompt.
    Off,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// A `tracing` filter. Default `info`.
    pub filter: String,
    /// One JSON object a line instead of text. Default no.
    pub json: bool,
    /// Whether phone numbers are shortened in logs. Default yes.
    pub redact_numbers: bool,
}

/// One of `[[routes]]`: which agent takes a call. A missing condition fits every call.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name, for logs.
    pub name: String,
    /// Only calls that came by this ingress.
    pub ingress: Option<IngressKind>,
    /// Only calls to this number.
    pub to: Option<String>,
    /// Only calls from this number.
    pub from: Option<String>,
    /// The agent, a key of `[agents]`.
    pub agent: String,
}

/// One of `[agents]`.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Which service answers.
    pub kind: AgentKind,
    /// `projects/P/locations/L/agents/A`. Not needed for `local`.
    pub name: AgentName,
    /// A published environment; the draft without it.
    pub environment: Option<String>,
    /// BCP 47 language tag. Default `en-US`.
    pub language: String,
    /// The opening turn. Default: the event `WELCOME`.
    pub greeting: Greeting,
    /// `http://HOST:PORT` (plain text, no credentials) or `https://HOST[:PORT]`. Default: derived from the location.
    pub endpoint: Option<String>,
    /// A credentials file. Default: Application Default Credentials.
    pub credentials: Option<PathBuf>,
    /// The recogniser's model, for example `telephony`. Default: the agent's own.
    pub model: Option<String>,
    /// `local` only: a script file. Default: the embedded one.
    pub script: Option<PathBuf>,
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
