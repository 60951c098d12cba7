//! Reading `[agents.NAME]` and `[[routes]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::Uri;

use super::Agent;
use super::AgentKind;
use super::AgentName;
use super::Clips;
use super::Greeting;
use super::Route;
use super::Twilio;
use super::address::handoff;
use super::address::host;
use super::clips::tools;
use super::load::base_url;
use super::load_sip::headers;
use super::problem::Report;
use super::section::Section;
use super::section::innermost;
use super::section::list;
use super::section::text_of;
use super::tree::Content;
use super::tree::Fields;
use super::tree::Node;
use super::tree::Origin;
use crate::io::leg::IngressKind;

/// Agent kinds of the documented configuration that this version cannot speak to.
const KINDS_NOT_YET: [&str; 3] = [
    "dialogflow-es",
    "dialogflow-es-v2beta1",
    "dialogflow-conversation",
];

/// The agents; without any, the local one.
pub(super) fn agents(
    node: Option<Node>,
    clips: &Clips,
    report: &mut Report,
) -> BTreeMap<String, Agent> {
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
            (name, agent(section, clips))
        })
        .collect()
}

fn agent(mut section: Section<'_>, clips: &Clips) -> Agent {
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
        channel: section.text("channel"),
        script: section.parsed("script", existing_file),
        tools: tools(section.table("tools"), clips.allow_private),
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
pub(super) fn language(text: &str) -> Result<String, String> {
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

/// The routes; without any, one to the only agent.
pub(super) fn routes(
    node: Option<Node>,
    agents: &BTreeMap<String, Agent>,
    twilio: &Twilio,
    report: &mut Report,
) -> Vec<Route> {
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
            route(section, position, agents, twilio)
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
    vec![Route::every_call(agent, agent)]
}

fn route(
    mut section: Section<'_>,
    position: usize,
    agents: &BTreeMap<String, Agent>,
    twilio: &Twilio,
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
    if ingress.is_some_and(|kind| kind != IngressKind::Sip) {
        for key in ["domain", "headers"] {
            let origin = section.origin(key);
            if origin != Origin::Nowhere {
                section.tell(&origin, key, "only SIP calls can be told by it");
            }
        }
    }
    let domain = section.parsed("domain", host);
    let headers = headers(section.table("headers"));
    let by_twilio = match ingress {
        Some(kind) => kind == IngressKind::Twilio,
        None => twilio.is_set_up(),
    };
    let handoff = section.parsed("handoff", |text| handoff(text, by_twilio));
    section.finish();
    Some(Route {
        name,
        ingress,
        to,
        from,
        domain,
        headers,
        handoff,
        agent: agent?,
    })
}

/// The path of a file that is there.
pub(super) fn existing_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no file {text:?}"))
    }
}
