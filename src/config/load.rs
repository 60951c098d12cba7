//! Reading the configuration: what each key may be, and what must hold between keys.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use tracing_subscriber::EnvFilter;

use super::Admin;
use super::Agent;
use super::AgentKind;
use super::AgentName;
use super::Audio;
use super::BargeIn;
use super::Config;
use super::Drain;
use super::Greeting;
use super::Http;
use super::Limits;
use super::Log;
use super::Route;
use super::Secret;
use super::Turn;
use super::Twilio;
use super::Uplink;
use super::problem::Problems;
use super::problem::Report;
use super::section::Section;
use super::section::innermost;
use super::section::list;
use super::section::text_of;
use super::tree;
use super::tree::Content;
use super::tree::Fields;
use super::tree::Node;
use super::tree::Origin;
use crate::io::leg::IngressKind;

/// The file that is read when none is named, if it is there.
pub const DEFAULT_PATH: &str = "config/tandem.toml";
/// The largest file that is read: far more than a thousand routes, far less than a mistaken path to something huge.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Sections of the documented configuration that this version does not act on. To accept them in silence would make
/// people believe in them.
const NOT_YET: [&str; 4] = ["sip", "rtp", "webrtc", "fallback"];
/// Agent kinds of the documented configuration that this version cannot speak to.
const KINDS_NOT_YET: [&str; 3] = [
    "dialogflow-es",
    "dialogflow-es-v2beta1",
    "dialogflow-conversation",
];
/// Ingresses of the documented configuration that this version does not have.
const INGRESSES_NOT_YET: [&str; 2] = ["sip", "whip"];

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Config {
    /// Reads the file, lays the environment over it and checks the whole. Without a file: defaults and environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        path: Option<&Path>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Problems> {
        let source = path.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
        let mut report = Report::new(source);
        let mut fields = path
            .map(|path| read_file(path, &mut report))
            .unwrap_or_default();
        lower_agent_names(&mut fields, &mut report);
        tree::lay_over(&mut fields, environment);
        let config = config(fields, environment, &mut report);
        if report.problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(report.problems))
        }
    }

    /// The file to read: the one that was named, else [`DEFAULT_PATH`] if it is there.
    pub fn find(named: Option<PathBuf>) -> Option<PathBuf> {
        named.or_else(|| {
            let default = Path::new(DEFAULT_PATH);
            default.is_file().then(|| default.to_owned())
        })
    }

    /// The process's environment, for [`Config::load`]. What is not Unicode cannot be meant for us and is left out.
    pub fn environment() -> BTreeMap<String, String> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

fn read_file(path: &Path, report: &mut Report) -> Fields {
    let text = std::fs::metadata(path).and_then(|metadata| {
        if metadata.len() > MAX_FILE_BYTES {
            return Err(std::io::Error::other("larger than 1 MiB"));
        }
        std::fs::read_to_string(path)
    });
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            report.tell(&Origin::File, "file", format!("cannot be read: {error}"));
            return Fields::new();
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => tree::from_file(table),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let line = text[..start].matches('\n').count() + 1;
            let message = error.message().replace('\n', ", ");
            report.tell(&Origin::File, &format!("line {line}"), message);
            Fields::new()
        }
    }
}

/// Agent names are lower-case inside, so that a variable, which has no case, can reach every one.
fn lower_agent_names(fields: &mut Fields, report: &mut Report) {
    let Some(Node {
        content: Content::Table(agents),
        ..
    }) = fields.get_mut("agents")
    else {
        return;
    };
    for (name, node) in std::mem::take(agents) {
        let lower = name.to_lowercase();
        if agents.contains_key(&lower) {
            let reason = "there is another agent of this name (case does not count)";
            report.tell(&node.origin, &format!("agents.{name}"), reason);
        }
        agents.insert(lower, node);
    }
}

fn config(
    mut fields: Fields,
    environment: &BTreeMap<String, String>,
    report: &mut Report,
) -> Config {
    for name in NOT_YET {
        if let Some(node) = fields.remove(name) {
            report.tell(&innermost(&node), name, "not supported yet by this version");
        }
    }
    let http = http(Section::new("http".into(), fields.remove("http"), report));
    let admin_node = fields.remove("admin");
    let admin = admin(Section::new("admin".into(), admin_node, report), &http);
    let limits = limits(Section::new(
        "limits".into(),
        fields.remove("limits"),
        report,
    ));
    let drain = drain(Section::new("drain".into(), fields.remove("drain"), report));
    let twilio_section = Section::new("twilio".into(), fields.remove("twilio"), report);
    let twilio = twilio(twilio_section, environment, &http);
    let audio = audio(Section::new("audio".into(), fields.remove("audio"), report));
    let turn = turn(Section::new("turn".into(), fields.remove("turn"), report));
    let log = log(Section::new("log".into(), fields.remove("log"), report));
    let agents = agents(fields.remove("agents"), report);
    let routes = routes(fields.remove("routes"), &agents, report);
    for (name, node) in fields {
        let reason = "unknown section; known: http, admin, limits, drain, twilio, audio, turn, log, routes, agents";
        report.tell(&innermost(&node), &name, reason);
    }
    Config {
        http,
        admin,
        limits,
        drain,
        twilio,
        audio,
        turn,
        log,
        routes,
        agents,
    }
}

fn http(mut section: Section<'_>) -> Http {
    let default = Http::default();
    let http = Http {
        listen: section.address("listen").unwrap_or(default.listen),
        public_url: section.parsed("public_url", |text| {
            let url = base_url(text)?;
            Ok(url.trim_end_matches('/').to_owned())
        }),
    };
    section.finish();
    http
}

fn admin(mut section: Section<'_>, http: &Http) -> Admin {
    let origin = section.origin("listen");
    let listen = section.address("listen").unwrap_or(Admin::default().listen);
    if listen == http.listen && listen.port() != 0 {
        section.tell(&origin, "listen", "must not be the same as http.listen");
    }
    section.finish();
    Admin { listen }
}

fn limits(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        calls: section
            .number("calls", 1..=100_000)
            .unwrap_or(default.calls),
        calls_per_second: section
            .number("calls_per_second", 1..=10_000)
            .unwrap_or(default.calls_per_second),
        call_duration: section
            .duration("call_duration", Duration::from_secs(1)..=DAY)
            .unwrap_or(default.call_duration),
    };
    section.finish();
    limits
}

fn drain(mut section: Section<'_>) -> Drain {
    let drain = Drain {
        timeout: section
            .duration("timeout", Duration::ZERO..=DAY)
            .unwrap_or(Drain::default().timeout),
    };
    section.finish();
    drain
}

fn twilio(mut section: Section<'_>, environment: &BTreeMap<String, String>, http: &Http) -> Twilio {
    let default = Twilio::default();
    let env_origin = section.origin("auth_token_env");
    let auth_token_env = section
        .text("auth_token_env")
        .unwrap_or(default.auth_token_env.clone());
    // An empty variable is how an optional Kubernetes secret looks when it is not there.
    let auth_token = environment
        .get(&auth_token_env)
        .filter(|token| !token.is_empty())
        .map(|token| Secret::new(token.clone()));
    if auth_token.is_none() && auth_token_env != default.auth_token_env {
        // Only the default name may stand for "if there is one": who names another means it.
        let reason = format!("the environment variable {auth_token_env} is not set");
        section.tell(&env_origin, "auth_token_env", reason);
    }
    let signature_origin = section.origin("require_signature");
    let require_signature = match section.flag("require_signature") {
        Some(true) if auth_token.is_none() => {
            let reason = format!("needs the auth token: set {auth_token_env}");
            section.tell(&signature_origin, "require_signature", reason);
            true
        }
        Some(required) => required,
        None if auth_token.is_some() => true,
        None if only_this_machine_calls(http) => false,
        None => {
            let reason = format!("set {auth_token_env} or require_signature = false");
            section.missing("require_signature", reason);
            true
        }
    };
    let twilio = Twilio {
        auth_token_env,
        auth_token,
        require_signature,
        parameters: section.texts("parameters").unwrap_or_default(),
    };
    section.finish();
    twilio
}

/// A loopback listener is still open to the world when a tunnel or a proxy stands before it, which `public_url` tells.
fn only_this_machine_calls(http: &Http) -> bool {
    let published = http.public_url.as_ref().is_some_and(|url| {
        let uri: Option<Uri> = url.parse().ok();
        !uri.as_ref().and_then(Uri::host).is_some_and(is_loopback)
    });
    http.listen.ip().is_loopback() && !published
}

fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn audio(mut section: Section<'_>) -> Audio {
    let default = Audio::default();
    // One frame at least; beyond 200 ms the recogniser's answers come late enough to be heard.
    let chunk = Duration::from_millis(20)..=Duration::from_millis(200);
    let audio = Audio {
        uplink: section
            .word("uplink", &Uplink::WORDS)
            .unwrap_or(default.uplink),
        chunk: section.duration("chunk", chunk).unwrap_or(default.chunk),
    };
    section.finish();
    audio
}

fn turn(mut section: Section<'_>) -> Turn {
    let default = Turn::default();
    let tenth = Duration::from_millis(100);
    let minute = Duration::from_secs(60);
    let turn = Turn {
        barge_in: section
            .word("barge_in", &BargeIn::WORDS)
            .unwrap_or(default.barge_in),
        no_input_timeout: section
            .duration("no_input_timeout", tenth..=minute)
            .unwrap_or(default.no_input_timeout),
        no_input_limit: section
            .number("no_input_limit", 1..=100)
            .unwrap_or(default.no_input_limit),
        // The service itself ends a stream after about a minute.
        stream_ceiling: section
            .duration("stream_ceiling", Duration::from_secs(1)..=minute)
            .unwrap_or(default.stream_ceiling),
        interdigit_timeout: section
            .duration("interdigit_timeout", tenth..=minute)
            .unwrap_or(default.interdigit_timeout),
        // The service takes 256 characters of input at most.
        max_digits: section
            .number("max_digits", 1..=256)
            .unwrap_or(default.max_digits),
    };
    section.finish();
    turn
}

fn log(mut section: Section<'_>) -> Log {
    let default = Log::default();
    let log = Log {
        filter: section
            .parsed("filter", |text| {
                let wrong = "must be a log filter such as \"info\" or \"warn,tandem=debug\"";
                EnvFilter::try_new(text).map_err(|_| wrong.to_owned())?;
                Ok(text.to_owned())
            })
            .unwrap_or(default.filter),
        json: section.flag("json").unwrap_or(default.json),
        redact_numbers: section
            .flag("redact_numbers")
            .unwrap_or(default.redact_numbers),
    };
    section.finish();
    log
}

fn agents(node: Option<Node>, report: &mut Report) -> BTreeMap<String, Agent> {
    let fields = match node {
        None => Fields::new(),
        Some(Node {
            content: Content::Table(fields),
            ..
        }) => fields,
        Some(node) => {
            report.tell(&node.origin, "agents", "must be tables: [agents.NAME]");
            Fields::new()
        }
    };
    if fields.is_empty() {
        if !cfg!(feature = "local-agent") {
            let reason = "none given, and this build has no local agent";
            report.tell(&Origin::Nowhere, "agents", reason);
        }
        return BTreeMap::from([("local".to_owned(), Agent::local())]);
    }
    fields
        .into_iter()
        .map(|(name, node)| {
            let section = Section::new(format!("agents.{name}"), Some(node), report);
            (name, agent(section))
        })
        .collect()
}

fn agent(mut section: Section<'_>) -> Agent {
    let default = Agent::local();
    let kind_given = section.origin("kind") != Origin::Nowhere;
    let kind = section.parsed("kind", agent_kind);
    if !kind_given {
        let reason = format!(
            "missing; one of {}",
            list(AgentKind::WORDS.iter().map(|w| w.0))
        );
        section.missing("kind", reason);
    }
    let is_local = kind == Some(AgentKind::Local);
    let name_given = section.origin("name") != Origin::Nowhere;
    let name = section.parsed("name", |text| {
        AgentName::parse(text).ok_or_else(|| "must be projects/P/locations/L/agents/A".to_owned())
    });
    if !name_given && kind.is_some() && !is_local {
        section.missing("name", "missing; projects/P/locations/L/agents/A");
    }
    for key in ["endpoint", "credentials"] {
        let origin = section.origin(key);
        if is_local && origin != Origin::Nowhere {
            section.tell(&origin, key, "means nothing to the local agent");
        }
    }
    let script_origin = section.origin("script");
    if kind.is_some() && !is_local && script_origin != Origin::Nowhere {
        section.tell(
            &script_origin,
            "script",
            "only the local agent has a script",
        );
    }
    let endpoint = section.parsed("endpoint", |text| {
        let url = base_url(text)?;
        match url.parse::<Uri>() {
            Ok(uri) if uri.path() == "/" => Ok(url.trim_end_matches('/').to_owned()),
            _ => Err("must have no path".to_owned()),
        }
    });
    let credentials_origin = section.origin("credentials");
    let credentials = section.parsed("credentials", existing_file);
    let plain_text = endpoint
        .as_ref()
        .is_some_and(|url| url.starts_with("http:"));
    if credentials.is_some() && plain_text {
        let reason = "an http:// endpoint is plain text: credentials are never sent to it";
        section.tell(&credentials_origin, "credentials", reason);
    }
    let agent = Agent {
        kind: kind.unwrap_or(AgentKind::Local),
        name: name.unwrap_or_else(AgentName::local),
        environment: section.text("environment"),
        language: section
            .parsed("language", language)
            .unwrap_or(default.language),
        greeting: greeting(&mut section).unwrap_or_default(),
        endpoint,
        credentials,
        model: section.text("model"),
        script: section.parsed("script", existing_file),
    };
    section.finish();
    agent
}

fn agent_kind(text: &str) -> Result<AgentKind, String> {
    if KINDS_NOT_YET.contains(&text) {
        return Err(format!("{text:?} is not supported yet by this version"));
    }
    let known = AgentKind::WORDS.iter().find(|(word, _)| *word == text);
    match known {
        Some((_, AgentKind::Local)) if !cfg!(feature = "local-agent") => {
            Err("this build has no local agent".to_owned())
        }
        Some((_, kind)) => Ok(*kind),
        None => Err(format!(
            "{text:?} is none of {}",
            list(AgentKind::WORDS.iter().map(|w| w.0))
        )),
    }
}

/// The letters, digits and dashes of a BCP 47 tag; whether the agent speaks it is the service's to say.
fn language(text: &str) -> Result<String, String> {
    let mut subtags = text.split('-');
    let primary = subtags.next().unwrap_or_default();
    let is_tag = (2..=3).contains(&primary.len())
        && primary.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags.all(|subtag| {
            (1..=8).contains(&subtag.len())
                && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
    is_tag
        .then(|| text.to_owned())
        .ok_or_else(|| "must be a language tag such as \"en-US\"".to_owned())
}

fn greeting(section: &mut Section<'_>) -> Option<Greeting> {
    let wrong = "must be \"none\" or exactly one of { event = … }, { text = … }, { intent = … }";
    section.read("greeting", |node| {
        let fields = match &node.content {
            Content::Value(_) if text_of(node) == Ok("none") => return Ok(Greeting::None),
            Content::Table(fields) => fields,
            Content::Value(_) | Content::List(_) => return Err(wrong.to_owned()),
        };
        // A variable is meant to replace the file's greeting, not to stand beside it.
        let of_environment = |node: &Node| matches!(node.origin, Origin::Environment(_));
        let overridden = fields.values().any(of_environment);
        let mut given = fields
            .iter()
            .filter(|(_, value)| !overridden || of_environment(value));
        let (Some((key, value)), None) = (given.next(), given.next()) else {
            return Err(wrong.to_owned());
        };
        let make = match key.as_str() {
            "event" => Greeting::Event,
            "text" => Greeting::Text,
            "intent" => Greeting::Intent,
            _ => return Err(wrong.to_owned()),
        };
        Ok(make(text_of(value)?.to_owned()))
    })
}

fn routes(node: Option<Node>, agents: &BTreeMap<String, Agent>, report: &mut Report) -> Vec<Route> {
    let items = match node {
        None => Vec::new(),
        Some(Node {
            content: Content::List(items),
            ..
        }) => items,
        Some(node) => {
            let reason = "must be tables in a file: [[routes]]";
            report.tell(&innermost(&node), "routes", reason);
            return Vec::new();
        }
    };
    if items.is_empty() {
        return route_to_only_agent(agents, report);
    }
    items
        .into_iter()
        .enumerate()
        .filter_map(|(position, node)| {
            let section = Section::new(format!("routes[{position}]"), Some(node), report);
            route(section, position, agents)
        })
        .collect()
}

fn route_to_only_agent(agents: &BTreeMap<String, Agent>, report: &mut Report) -> Vec<Route> {
    let mut names = agents.keys();
    let (Some(agent), None) = (names.next(), names.next()) else {
        let reason = "missing: with more than one agent, [[routes]] must say which takes a call";
        report.tell(&Origin::Nowhere, "routes", reason);
        return Vec::new();
    };
    vec![Route {
        name: agent.clone(),
        ingress: None,
        to: None,
        from: None,
        agent: agent.clone(),
    }]
}

fn route(
    mut section: Section<'_>,
    position: usize,
    agents: &BTreeMap<String, Agent>,
) -> Option<Route> {
    let agent_given = section.origin("agent") != Origin::Nowhere;
    let agent = section.parsed("agent", |text| {
        let name = text.to_lowercase();
        if agents.contains_key(&name) {
            return Ok(name);
        }
        Err(format!(
            "there is no agent {text:?}; known: {}",
            list(agents.keys())
        ))
    });
    if !agent_given {
        section.missing("agent", "missing");
    }
    let name = section
        .text("name")
        .unwrap_or_else(|| format!("route-{}", position + 1));
    let ingress = section.parsed("ingress", |text| {
        if INGRESSES_NOT_YET.contains(&text) {
            return Err(format!("{text:?} is not supported yet by this version"));
        }
        let known = IngressKind::ALL
            .into_iter()
            .find(|kind| kind.label() == text);
        known.ok_or_else(|| {
            let labels = IngressKind::ALL.into_iter().map(IngressKind::label);
            format!("{text:?} is none of {}", list(labels))
        })
    });
    let to = section.text("to");
    let from = section.text("from");
    section.finish();
    Some(Route {
        name,
        ingress,
        to,
        from,
        agent: agent?,
    })
}

/// An `http://` or `https://` URL to which a path can be appended.
fn base_url(text: &str) -> Result<&str, String> {
    let wrong = || "must be a URL such as \"https://voice.example.com\"".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if !is_web || !has_host {
        return Err(wrong());
    }
    if text.contains(['?', '#', '@']) {
        return Err("must have no user, query or fragment".to_owned());
    }
    Ok(text)
}

fn existing_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no file {text:?}"))
    }
}
