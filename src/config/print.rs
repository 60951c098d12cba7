//! Writing a configuration as TOML, without its secrets: what `tandem check` prints. It can be loaded again.

use std::fmt::Display;
use std::fmt::Formatter;
use std::time::Duration;

use super::Agent;
use super::AgentKind;
use super::BargeIn;
use super::Config;
use super::Greeting;
use super::Route;
use super::Twilio;
use super::Uplink;
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

        twilio(f, &self.twilio)?;

        writeln!(f, "\n[audio]")?;
        let uplink = word(&Uplink::WORDS, self.audio.uplink);
        writeln!(f, "uplink = {uplink}")?;
        writeln!(f, "chunk = {}", time(self.audio.chunk))?;

        let turn = &self.turn;
        writeln!(f, "\n[turn]")?;
        writeln!(f, "barge_in = {}", word(&BargeIn::WORDS, turn.barge_in))?;
        writeln!(f, "no_input_timeout = {}", time(turn.no_input_timeout))?;
        writeln!(f, "no_input_limit = {}", turn.no_input_limit)?;
        writeln!(f, "stream_ceiling = {}", time(turn.stream_ceiling))?;
        writeln!(f, "interdigit_timeout = {}", time(turn.interdigit_timeout))?;
        writeln!(f, "max_digits = {}", turn.max_digits)?;

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

fn twilio(f: &mut Formatter<'_>, twilio: &Twilio) -> std::fmt::Result {
    writeln!(f, "\n[twilio]")?;
    let state = match &twilio.auth_token {
        Some(token) => format!("{token:?}"),
        None => "not set".to_owned(),
    };
    let variable = quoted(&twilio.auth_token_env);
    writeln!(f, "auth_token_env = {variable}  # {state}")?;
    writeln!(f, "require_signature = {}", twilio.require_signature)?;
    let parameters: Vec<String> = twilio.parameters.iter().map(quoted).collect();
    writeln!(f, "parameters = [{}]", parameters.join(", "))
}

fn route(f: &mut Formatter<'_>, route: &Route) -> std::fmt::Result {
    writeln!(f, "\n[[routes]]")?;
    writeln!(f, "name = {}", quoted(&route.name))?;
    optional(f, "ingress", route.ingress.map(IngressKind::label))?;
    optional(f, "to", route.to.as_ref())?;
    optional(f, "from", route.from.as_ref())?;
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
    optional(
        f,
        "script",
        agent.script.as_ref().map(|path| path.display()),
    )
}

fn optional(f: &mut Formatter<'_>, key: &str, value: Option<impl Display>) -> std::fmt::Result {
    match value {
        Some(value) => writeln!(f, "{key} = {}", quoted(&value)),
        None => Ok(()),
    }
}

/// A TOML string.
fn quoted(text: &impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn time(duration: Duration) -> String {
    quoted(&humantime::format_duration(duration))
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> String {
    let (word, _) = words
        .iter()
        .find(|(_, candidate)| *candidate == value)
        .expect("every variant has its word");
    quoted(&word)
}
