//! What a caller has to tell of a call: the file that `tandem-load run --account` writes.

use serde::Deserialize;
use serde_json::Value;

/// Times are in seconds since `began_at`, which is in seconds of the Unix epoch.
#[derive(Debug, Deserialize)]
pub(crate) struct Account {
    pub(crate) began_at: f64,
    pub(crate) answers: Vec<Answer>,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) clears: u32,
    pub(crate) agent_heard: Vec<String>,
    pub(crate) agent_said: Vec<String>,
    events: Vec<Told>,
}

/// A turn on the wire: the caller's last voiced frame left, the first sound of the answer arrived.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) asked: f64,
    pub(crate) answered: f64,
}

/// The gateway told that it had cut a prompt; the prompt was last heard.
#[derive(Debug, Deserialize)]
pub(crate) struct Cut {
    pub(crate) told: f64,
    pub(crate) silent: f64,
}

#[derive(Debug, Deserialize)]
struct Told {
    event: Value,
}

impl Account {
    /// The events of these kinds, in order.
    pub(crate) fn events(&self, kinds: &[&str]) -> Vec<&Value> {
        let events = self.events.iter().map(|told| &told.event);
        events
            .filter(|event| kinds.iter().any(|kind| event["type"] == *kind))
            .collect()
    }

    /// The kinds of these events, in order.
    pub(crate) fn order(&self, kinds: &[&str]) -> Vec<&str> {
        let events = self.events(kinds);
        events
            .iter()
            .filter_map(|event| event["type"].as_str())
            .collect()
    }

    /// How each piece of the agent's speech ended, in order.
    pub(crate) fn outcomes(&self) -> Vec<&str> {
        let events = self.events(&["playback"]);
        events
            .iter()
            .filter_map(|event| event["outcome"].as_str())
            .collect()
    }
}
