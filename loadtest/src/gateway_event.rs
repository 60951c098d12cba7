//! What the gateway tells of a call on `/v1/calls/{id}/events`: server-sent events, one JSON object each.
//!
//! Tolerant on purpose: a gateway may tell more than we know, and a field may be missing.

use std::time::Duration;

use serde_json::Value;

/// One event of the gateway's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GatewayEvent {
    /// Since the gateway's start of the call, if told.
    pub(crate) at: Option<Duration>,
    /// What happened.
    pub(crate) what: What,
    /// The same as it came.
    pub(crate) data: Value,
}

/// What can happen, as far as we print or check it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// The recogniser's guess while the caller speaks.
    Interim(String),
    /// What the agent understood.
    AgentHeard(String),
    /// What the agent says.
    AgentSays(String),
    /// The caller took the floor.
    BargeIn,
    /// A digit reached the gateway.
    Digit(String),
    /// Caller's end of speech to the agent's first audio on the wire.
    TurnLatency(Duration),
    /// The call is over.
    Ended(String),
    /// Anything else, as it came.
    Other(String),
}

/// Reads one `data:` payload; `None` if it is not a JSON object with a type.
pub(crate) fn parse(data: &str) -> Option<GatewayEvent> {
    let value: Value = serde_json::from_str(data).ok()?;
    let kind = value.get("type")?.as_str()?;
    let text = || {
        value
            .get("text")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let what = match kind {
        "interim" => What::Interim(text()),
        "final" => What::AgentHeard(text()),
        "agent_text" => What::AgentSays(text()),
        "barge_in" => What::BargeIn,
        "dtmf" => What::Digit(field(&value, "digit")),
        "turn_latency" => match value.get("latency_ms").and_then(milliseconds) {
            Some(latency) => What::TurnLatency(latency),
            None => What::Other(data.to_owned()),
        },
        "ended" => What::Ended(field(&value, "reason")),
        _ => What::Other(data.to_owned()),
    };
    Some(GatewayEvent {
        at: value.get("at_ms").and_then(milliseconds),
        what,
        data: value,
    })
}

fn field(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn milliseconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()? / 1000.0).ok()
}

/// Cuts a stream of server-sent events into its data payloads, whatever pieces it arrives in.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    line: Vec<u8>,
    data: String,
}

/// An event longer than this is skipped: it is not one of ours.
const LONGEST_EVENT: usize = 1 << 20;

impl EventReader {
    /// The payloads completed by these bytes.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut payloads = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() < LONGEST_EVENT {
                    self.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line)
                .trim_end_matches('\r')
                .to_owned();
            self.line.clear();
            // An empty line ends an event; comments and other fields do not matter here.
            if line.is_empty() && !self.data.is_empty() {
                payloads.push(std::mem::take(&mut self.data));
            } else if let Some(data) = line.strip_prefix("data:")
                && self.data.len() < LONGEST_EVENT
            {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        payloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_events_are_understood_and_others_kept() {
        let event = |data| parse(data).expect("an event").what;
        assert_eq!(
            event(r#"{"type":"final","text":"a table"}"#),
            What::AgentHeard("a table".into())
        );
        assert_eq!(
            event(r#"{"type":"turn_latency","latency_ms":412.5}"#),
            What::TurnLatency(Duration::from_micros(412_500))
        );
        assert_eq!(
            event(r#"{"type":"ended","reason":"agent_ended"}"#),
            What::Ended("agent_ended".into())
        );
        let odd = r#"{"type":"weather","sky":"blue"}"#;
        assert_eq!(event(odd), What::Other(odd.into()));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn the_time_is_the_gateways() {
        let event = parse(r#"{"at_ms":1250,"type":"barge_in"}"#).expect("an event");
        assert_eq!(event.at, Some(Duration::from_millis(1250)));
    }

    #[test]
    fn events_are_read_whatever_pieces_they_come_in() {
        let stream = b": hello\n\nevent: x\ndata: {\"a\":1}\n\ndata: one\r\ndata: two\r\n\r\n";
        for size in 1..stream.len() {
            let mut reader = EventReader::default();
            let payloads: Vec<String> = stream
                .chunks(size)
                .flat_map(|piece| reader.read(piece))
                .collect();
            assert_eq!(payloads, ["{\"a\":1}", "one\ntwo"], "in pieces of {size}");
        }
    }
}
