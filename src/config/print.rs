//! Writing a configuration as TOML, without its secrets: what `tandem check` prints. It can be loaded again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fmt::Formatter;
use std::path::PathBuf;
use std::time::Duration;

use super::Agent;
use super::AgentKind;
use super::BargeIn;
use super::Config;
use super::DigestAlgorithm;
use super::Fallback;
use super::Greeting;
use super::Route;
use super::Rtp;
use super::Secret;
use super::SecretSource;
use super::Sip;
use super::SrtpPolicy;
use super::Turn;
use super::Twilio;
use super::Uplink;
use super::WavFile;
use super::Webrtc;
use super::clips;
use crate::io::leg::IngressKind;

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "[http]")?;
        writeln!(f, "listen = {}", quoted(&self.http.listen))?;
        optional(f, "public_url", self.http.public_url.as_ref())?;

        writeln!(f, "\n[admin]")?;
        writeln!(f, "listen = {}", quoted(&self.admin.listen))?;

        writeln!(f, "\n[limits]")?;
        writeln!(f, "calls = {}", self.limits.calls)?;
        writeln!(f, "calls_per_second = {}", self.limits.calls_per_second)?;
        writeln!(f, "call_duration = {}", time(self.limits.call_duration))?;

        writeln!(f, "\n[drain]")?;
        writeln!(f, "timeout = {}", time(self.drain.timeout))?;

        sip(f, &self.sip)?;
        rtp(f, &self.rtp)?;
        twilio(f, &self.twilio)?;
        webrtc(f, &self.webrtc)?;

        writeln!(f, "\n[audio]")?;
        let uplink = word(&Uplink::WORDS, self.audio.uplink);
        writeln!(f, "uplink = {uplink}")?;
        writeln!(f, "chunk = {}", time(self.audio.chunk))?;

        turn(f, &self.turn)?;
        fallback(f, &self.fallback)?;

        clips::print(f, &self.clips)?;

        writeln!(f, "\n[log]")?;
        writeln!(f, "filter = {}", quoted(&self.log.filter))?;
        writeln!(f, "json = {}", self.log.json)?;
        writeln!(f, "redact_numbers = {}", self.log.redact_numbers)?;

        for entry in &self.routes {
            route(f, entry)?;
        }
        for (name, entry) in &self.agents {
            agent(f, name, entry)?;
        }
        Ok(())
    }
}

fn sip(f: &mut Formatter<'_>, sip: &Sip) -> std::fmt::Result {
    let path = |path: &'_ Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    writeln!(f, "\n[sip]")?;
    writeln!(f, "listen = {}", quoted_list(&sip.listen))?;
    optional(f, "advertised_address", sip.advertised_address.as_ref())?;
    optional(f, "tls_certificate", path(&sip.tls_certificate))?;
    optional(f, "tls_key", path(&sip.tls_key))?;
    writeln!(f, "allow = {}", quoted_list(&sip.allow))?;
    writeln!(f, "parameters = {}", quoted_list(&sip.parameters))?;
    writeln!(f, "answer_within = {}", time(sip.answer_within))?;
    writeln!(f, "session_expires = {}", time(sip.session_expires))?;
    let least = time(sip.min_session_expires);
    writeln!(f, "min_session_expires = {least}")?;
    writeln!(f, "transfer_timeout = {}", time(sip.transfer_timeout))?;
    writeln!(f, "connections = {}", sip.connections)?;

    writeln!(f, "\n[sip.auth]")?;
    writeln!(f, "realm = {}", quoted(&sip.auth.realm))?;
    let algorithms = sip.auth.algorithms.iter();
    let algorithms: Vec<&str> = algorithms
        .map(|algorithm| word_of(&DigestAlgorithm::WORDS, *algorithm))
        .collect();
    writeln!(f, "algorithms = {}", quoted_list(&algorithms))?;
    for user in &sip.auth.users {
        writeln!(f, "\n[[sip.auth.users]]")?;
        writeln!(f, "username = {}", quoted(&user.username))?;
        password(f, &user.password, &user.password_from)?;
    }
    for register in &sip.register {
        writeln!(f, "\n[[sip.register]]")?;
        writeln!(f, "registrar = {}", quoted(&register.registrar))?;
        writeln!(f, "username = {}", quoted(&register.username))?;
        optional(f, "auth_username", register.auth_username.as_ref())?;
        password(f, &register.password, &register.password_from)?;
        writeln!(f, "expires = {}", time(register.expires))?;
        optional(f, "domain", register.domain.as_ref())?;
    }
    Ok(())
}

fn password(f: &mut Formatter<'_>, password: &Secret, from: &SecretSource) -> std::fmt::Result {
    match from {
        SecretSource::Environment(name) => {
            writeln!(f, "password_env = {}  # {password:?}", quoted(name))
        }
        SecretSource::File(path) => {
            let path = quoted(&path.display());
            writeln!(f, "password_file = {path}  # {password:?}")
        }
    }
}

fn rtp(f: &mut Formatter<'_>, rtp: &Rtp) -> std::fmt::Result {
    let ports = format!("{}-{}", rtp.ports.start(), rtp.ports.end());
    let codecs = rtp.codecs.iter();
    let codecs: Vec<String> = codecs
        .map(|codec| codec.encoding_name().to_ascii_lowercase())
        .collect();
    writeln!(f, "\n[rtp]")?;
    writeln!(f, "ports = {}", quoted(&ports))?;
    optional(f, "advertised_address", rtp.advertised_address)?;
    writeln!(f, "codecs = {}", quoted_list(&codecs))?;
    writeln!(f, "opus_complexity = {}", rtp.opus_complexity)?;
    writeln!(f, "srtp = {}", word(&SrtpPolicy::WORDS, rtp.srtp))?;
    writeln!(f, "strict_source = {}", rtp.strict_source)?;
    writeln!(f, "initial_timeout = {}", time(rtp.initial_timeout))?;
    writeln!(f, "timeout = {}", time(rtp.timeout))?;
    writeln!(f, "hold_timeout = {}", time(rtp.hold_timeout))
}

fn twilio(f: &mut Formatter<'_>, twilio: &Twilio) -> std::fmt::Result {
    writeln!(f, "\n[twilio]")?;
    let state = match &twilio.auth_token {
        Some(token) => format!("{token:?}"),
        None => "not set".to_owned(),
    };
    let variable = quoted(&twilio.auth_token_env);
    writeln!(f, "auth_token_env = {variable}  # {state}")?;
    writeln!(f, "require_signature = {}", twilio.require_signature)?;
    writeln!(f, "parameters = {}", quoted_list(&twilio.parameters))
}

fn webrtc(f: &mut Formatter<'_>, webrtc: &Webrtc) -> std::fmt::Result {
    let codecs = webrtc.codecs.iter();
    let codecs: Vec<&str> = codecs
        .map(|codec| word_of(&Webrtc::CODECS, *codec))
        .collect();
    writeln!(f, "\n[webrtc]")?;
    writeln!(f, "listen = {}", quoted_list(&webrtc.listen))?;
    let advertised = quoted_list(&webrtc.advertised_addresses);
    writeln!(f, "advertised_addresses = {advertised}")?;
    writeln!(f, "tokens_env = {}", quoted(&webrtc.tokens_env))?;
    let tokens_file = webrtc.tokens_file.as_ref();
    optional(f, "tokens_file", tokens_file.map(|path| path.display()))?;
    match &webrtc.tokens[..] {
        [] => writeln!(f, "# no tokens")?,
        [first, ..] => {
            let count = webrtc.tokens.len();
            writeln!(f, "# tokens: {count}, each {:?}", first.token)?;
        }
    }
    // Without tokens it would be a mistake to write it.
    let comment = if webrtc.require_token && webrtc.tokens.is_empty() {
        "# "
    } else {
        ""
    };
    writeln!(f, "{comment}require_token = {}", webrtc.require_token)?;
    let origins = quoted_list(&webrtc.allowed_origins);
    writeln!(f, "allowed_origins = {origins}")?;
    writeln!(f, "parameters = {}", quoted_list(&webrtc.parameters))?;
    writeln!(f, "stun_servers = {}", quoted_list(&webrtc.stun_servers))?;
    writeln!(f, "turn_servers = {}", quoted_list(&webrtc.turn_servers))?;
    if let (Some(name), Some(secret)) = (&webrtc.turn_secret_env, &webrtc.turn_secret) {
        writeln!(f, "turn_secret_env = {}  # {secret:?}", quoted(name))?;
    }
    let life = time(webrtc.turn_credential_life);
    writeln!(f, "turn_credential_life = {life}")?;
    writeln!(f, "codecs = {}", quoted_list(&codecs))?;
    writeln!(f, "opus_complexity = {}", webrtc.opus_complexity)?;
    writeln!(f, "phone_page = {}", webrtc.phone_page)
}

fn turn(f: &mut Formatter<'_>, turn: &Turn) -> std::fmt::Result {
    writeln!(f, "\n[turn]")?;
    writeln!(f, "barge_in = {}", word(&BargeIn::WORDS, turn.barge_in))?;
    writeln!(f, "duck_db = {}", turn.duck_db)?;
    writeln!(f, "barge_in_voice = {}", time(turn.barge_in_voice))?;
    writeln!(f, "barge_in_restore = {}", time(turn.barge_in_restore))?;
    writeln!(f, "interrupt_partials = {}", turn.interrupt_partials)?;
    if !turn.back_channels.is_empty() {
        let lists = turn.back_channels.iter();
        let lists: Vec<String> = lists
            .map(|(language, phrases)| format!("{} = {}", quoted(language), quoted_list(phrases)))
            .collect();
        writeln!(f, "back_channels = {{ {} }}", lists.join(", "))?;
    }
    writeln!(f, "no_input_timeout = {}", time(turn.no_input_timeout))?;
    writeln!(f, "no_input_limit = {}", turn.no_input_limit)?;
    let event = turn.no_input_event.as_deref().unwrap_or_default();
    writeln!(f, "no_input_event = {}", quoted(&event))?;
    writeln!(f, "no_input_transfer = {}", turn.no_input_transfer)?;
    writeln!(f, "hold_after = {}", time(turn.hold_after))?;
    optional(f, "hold_prompt", path_of(turn.hold_prompt.as_ref()))?;
    writeln!(f, "endpoint_timeout = {}", time(turn.endpoint_timeout))?;
    writeln!(f, "stream_ceiling = {}", time(turn.stream_ceiling))?;
    writeln!(f, "interdigit_timeout = {}", time(turn.interdigit_timeout))?;
    writeln!(f, "max_digits = {}", turn.max_digits)?;
    let event = quoted(&turn.transfer_failed_event);
    writeln!(f, "transfer_failed_event = {event}")?;
    writeln!(f, "report_heard = {}", turn.report_heard)
}

fn fallback(f: &mut Formatter<'_>, fallback: &Fallback) -> std::fmt::Result {
    writeln!(f, "\n[fallback]")?;
    optional(f, "prompt", path_of(fallback.prompt.as_ref()))?;
    optional(f, "apology", path_of(fallback.apology.as_ref()))?;
    optional(f, "transfer", fallback.transfer.as_ref())?;
    writeln!(f, "give_up_after = {}", time(fallback.give_up_after))?;
    writeln!(f, "breaker_failures = {}", fallback.breaker_failures)?;
    writeln!(f, "breaker_open = {}", time(fallback.breaker_open))
}

fn path_of(file: Option<&WavFile>) -> Option<impl Display> {
    file.map(|file| file.path.display())
}

fn route(f: &mut Formatter<'_>, route: &Route) -> std::fmt::Result {
    writeln!(f, "\n[[routes]]")?;
    writeln!(f, "name = {}", quoted(&route.name))?;
    optional(f, "ingress", route.ingress.map(IngressKind::label))?;
    optional(f, "to", route.to.as_ref())?;
    optional(f, "from", route.from.as_ref())?;
    optional(f, "domain", route.domain.as_ref())?;
    table(f, "headers", &route.headers)?;
    optional(f, "handoff", route.handoff.as_ref())?;
    writeln!(f, "agent = {}", quoted(&route.agent))
}

fn agent(f: &mut Formatter<'_>, name: &str, agent: &Agent) -> std::fmt::Result {
    writeln!(f, "\n[agents.{}]", quoted(&name))?;
    writeln!(f, "kind = {}", word(&AgentKind::WORDS, agent.kind))?;
    writeln!(f, "name = {}", quoted(&agent.name))?;
    optional(f, "environment", agent.environment.as_ref())?;
    writeln!(f, "language = {}", quoted(&agent.language))?;
    match &agent.greeting {
        Greeting::Event(event) => writeln!(f, "greeting = {{ event = {} }}", quoted(event))?,
        Greeting::Text(text) => writeln!(f, "greeting = {{ text = {} }}", quoted(text))?,
        Greeting::Intent(intent) => writeln!(f, "greeting = {{ intent = {} }}", quoted(intent))?,
        Greeting::None => writeln!(f, "greeting = \"none\"")?,
    }
    optional(f, "endpoint", agent.endpoint.as_ref())?;
    optional(
        f,
        "credentials",
        agent.credentials.as_ref().map(|path| path.display()),
    )?;
    optional(f, "model", agent.model.as_ref())?;
    optional(f, "channel", agent.channel.as_ref())?;
    optional(
        f,
        "script",
        agent.script.as_ref().map(|path| path.display()),
    )?;
    table(f, "tools", &agent.tools)
}

/// A table of strings within another; nothing if it is empty.
fn table(f: &mut Formatter<'_>, key: &str, table: &BTreeMap<String, String>) -> std::fmt::Result {
    if table.is_empty() {
        return Ok(());
    }
    let entries: Vec<String> = table
        .iter()
        .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)))
        .collect();
    writeln!(f, "{key} = {{ {} }}", entries.join(", "))
}

fn optional(f: &mut Formatter<'_>, key: &str, value: Option<impl Display>) -> std::fmt::Result {
    match value {
        Some(value) => writeln!(f, "{key} = {}", quoted(&value)),
        None => Ok(()),
    }
}

/// A TOML string.
pub(super) fn quoted(text: &impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn quoted_list(texts: &[impl Display]) -> String {
    let texts: Vec<String> = texts.iter().map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

pub(super) fn time(duration: Duration) -> String {
    quoted(&humantime::format_duration(duration))
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> String {
    quoted(&word_of(words, value))
}

fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    let (word, _) = words
        .iter()
        .find(|(_, candidate)| *candidate == value)
        .expect("every variant has its word");
    word
}
