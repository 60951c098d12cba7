//! The live timeline: one line per thing that happens, with seconds since the call's start.
//!
//! Lines from the gateway carry the gateway's own time, which begins at the same `start`; they may arrive a little after later lines.

use std::io::Write;
use std::time::Duration;

use crate::gateway_event::GatewayEvent;
use crate::gateway_event::What;
use crate::handset::Note;
use crate::stats::ms;

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timeline {
    /// Nothing: one call of many.
    Mute,
    /// What a person would want to follow.
    Normal,
    /// Marks, guesses and unknown events too.
    Verbose,
}

impl Timeline {
    /// Something that the caller's side noted at `at`.
    pub(crate) fn note(self, note: &Note, at: Duration) {
        if let Some(text) = describe_note(note, self) {
            let at = if let Note::AgentStops { end, .. } = note {
                *end
            } else {
                at
            };
            self.line(&text, at);
        }
    }

    /// Something that the gateway told.
    pub(crate) fn event(self, event: &GatewayEvent, at: Duration) {
        if let Some(text) = describe_event(&event.what, self) {
            self.line(&text, event.at.unwrap_or(at));
        }
    }

    /// Any other line.
    pub(crate) fn line(self, text: &str, at: Duration) {
        if self > Self::Mute {
            print(&format!("{:>8.3}  {text}", at.as_secs_f64()));
        }
    }
}

/// One line to standard output; a reader that has gone away is no reason to fail.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn describe_note(note: &Note, timeline: Timeline) -> Option<String> {
    Some(match note {
        Note::CallerSpeaks { what } => format!("caller says  “{what}”"),
        Note::CallerStops => "caller stops".to_owned(),
        Note::AgentSpeaks { waited: None } => "agent speaks".to_owned(),
        Note::AgentSpeaks {
            waited: Some(waited),
        } => format!(
            "agent speaks  {} after the caller's last sound",
            ms(*waited)
        ),
        Note::AgentStops {
            after_barge_in: None,
            ..
        } => "agent stops".to_owned(),
        Note::AgentStops {
            after_barge_in: Some(after),
            ..
        } => format!("agent stops  {} after the barge-in", ms(*after)),
        Note::Cleared {
            unheard,
            marks,
            after_barge_in,
        } => {
            let after = after_barge_in
                .map(|after| format!(" after {}", ms(after)))
                .unwrap_or_default();
            format!(
                "clear received{after}: {} unheard, {marks} marks returned",
                ms(*unheard)
            )
        }
        Note::MarkReturned { .. } if timeline < Timeline::Verbose => return None,
        Note::MarkReturned { name } => format!("mark “{name}” returned"),
    })
}

fn describe_event(what: &What, timeline: Timeline) -> Option<String> {
    Some(match what {
        What::Interim(_) | What::Other(_) if timeline < Timeline::Verbose => return None,
        What::Interim(text) => format!("agent guesses  “{text}”"),
        What::AgentHeard(text) => format!("agent heard  “{text}”"),
        What::AgentSays(text) => format!("agent says  “{text}”"),
        What::BargeIn => "barge-in".to_owned(),
        What::Digit(digit) => format!("agent got the key {digit}"),
        What::TurnLatency(latency) => format!("turn latency {}", ms(*latency)),
        What::Ended(reason) => format!("gateway ended the call: {reason}"),
        What::Other(data) => format!("gateway: {data}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_unknown_events_are_for_the_verbose() {
        let mark = Note::MarkReturned { name: "m1".into() };
        assert_eq!(describe_note(&mark, Timeline::Normal), None);
        assert_eq!(
            describe_note(&mark, Timeline::Verbose),
            Some("mark “m1” returned".into())
        );
        assert_eq!(
            describe_event(&What::Other("{}".into()), Timeline::Normal),
            None
        );
    }

    #[test]
    fn a_clear_tells_how_soon_it_came() {
        let note = Note::Cleared {
            unheard: Duration::from_millis(1600),
            marks: 2,
            after_barge_in: Some(Duration::from_millis(312)),
        };
        let text = describe_note(&note, Timeline::Normal);
        assert_eq!(
            text,
            Some("clear received after 312 ms: 1600 ms unheard, 2 marks returned".into())
        );
    }
}
