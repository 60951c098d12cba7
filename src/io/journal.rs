//! What happened in a call, as its watchers read it: one JSON object a line, kept for those who come late and sent live
//! to those who listen: operators (`GET /v1/calls/{id}/events`) and callers with a screen (WHIP's data channel).
//!
//! An agent may say that what is said is not to be kept ([`Notice::Transcripts`]). From then on lines are kept and shown to
//! operators without words, digits and payloads; only the caller's own screen still gets them, as they come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::engine::call::end::EndReason;
use crate::engine::call::notice::Notice;

/// Lines kept of one call: some fifty turns. A watcher who comes later than that sees the rest.
const KEPT: usize = 500;
/// Lines that a live watcher may lag behind before it misses some.
const LIVE: usize = 128;

/// One line of a journal. What reads it turns it into JSON, without a line break; nobody reads most calls.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Milliseconds since the call began.
    at_ms: u64,
    #[serde(flatten)]
    what: What,
    /// Whether its words are for the caller alone.
    #[serde(skip)]
    is_private: bool,
}

/// A line as its readers share it.
pub type Line = Arc<Entry>;

/// The journal of one call. Clones share it.
#[derive(Clone)]
pub struct Journal {
    began: Instant,
    shared: Arc<Shared>,
}

struct Shared {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Line>,
}

struct Kept {
    lines: VecDeque<Line>,
    /// Whether words may be among them.
    with_words: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    Notice(Notice),
    Wordless(Wordless),
    Milestone(Milestone),
}

/// A notice whose words are withheld: it looks the same, but is empty where they were.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Wordless {
    Interim { text: &'static str },
    Final { text: &'static str },
    AgentText { text: &'static str, partial: bool },
    Dtmf { digit: &'static str },
    Payload { payload: () },
}

/// What the journal itself adds to the engine's notices.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Milestone {
    Ended { reason: &'static str },
}

impl Entry {
    /// Everything, as operators read it; but no words that are not to be kept.
    pub fn for_operator(&self) -> String {
        match self.without_words() {
            Some(wordless) if self.is_private => json(&wordless),
            Some(_) | None => json(self),
        }
    }

    /// What callers may read of it: their own words and the agent's, what the agent sends to the application, and how
    /// things went; but not what a server said to us, nor what is meant for whoever takes the call over.
    pub fn for_caller(&self) -> Option<String> {
        let what = match &self.what {
            What::Milestone(_) | What::Wordless(_) => return Some(json(self)),
            What::Notice(notice) => match notice {
                Notice::Unsupported { .. }
                | Notice::CommandRefused { .. }
                | Notice::ClipFailed { .. }
                | Notice::Tool { .. }
                | Notice::Transcripts { .. } => return None,
                Notice::ConversationSuccess { .. } => Notice::ConversationSuccess {
                    metadata: serde_json::Value::Null,
                },
                Notice::BackendFault { fault, .. } => Notice::BackendFault {
                    fault: *fault,
                    message: String::new(),
                },
                Notice::Transfer { to, .. } => Notice::Transfer {
                    to: to.clone(),
                    metadata: serde_json::Value::Null,
                },
                Notice::TransferFailed { .. } => Notice::TransferFailed {
                    reason: String::new(),
                },
                Notice::TurnStarted { .. }
                | Notice::Interim { .. }
                | Notice::Final { .. }
                | Notice::AgentText { .. }
                | Notice::Playback { .. }
                | Notice::BargeIn { .. }
                | Notice::WordsIgnored { .. }
                | Notice::Ducked
                | Notice::Restored
                | Notice::Hold
                | Notice::Fallback
                | Notice::Dtmf { .. }
                | Notice::TurnLatency { .. }
                | Notice::Payload { .. } => return Some(json(self)),
            },
        };
        Some(json(&Self {
            at_ms: self.at_ms,
            what: What::Notice(what),
            is_private: self.is_private,
        }))
    }

    /// The same line without what was said, typed or sent to the application; `None` if nothing of that is in it.
    fn without_words(&self) -> Option<Self> {
        let What::Notice(notice) = &self.what else {
            return None;
        };
        let wordless = match notice {
            Notice::Interim { .. } => Wordless::Interim { text: "" },
            Notice::Final { .. } => Wordless::Final { text: "" },
            Notice::AgentText { partial, .. } => Wordless::AgentText {
                text: "",
                partial: *partial,
            },
            Notice::Dtmf { .. } => Wordless::Dtmf { digit: "" },
            Notice::Payload { .. } => Wordless::Payload { payload: () },
            Notice::TurnStarted { .. }
            | Notice::Playback { .. }
            | Notice::BargeIn { .. }
            | Notice::WordsIgnored { .. }
            | Notice::Ducked
            | Notice::Restored
            | Notice::Hold
            | Notice::Fallback
            | Notice::TurnLatency { .. }
            | Notice::Transfer { .. }
            | Notice::TransferFailed { .. }
            | Notice::ConversationSuccess { .. }
            | Notice::Unsupported { .. }
            | Notice::CommandRefused { .. }
            | Notice::ClipFailed { .. }
            | Notice::Tool { .. }
            | Notice::Transcripts { .. }
            | Notice::BackendFault { .. } => return None,
        };
        Some(Self {
            at_ms: self.at_ms,
            what: What::Wordless(wordless),
            is_private: true,
        })
    }

    /// Whether nothing follows.
    pub const fn is_last(&self) -> bool {
        matches!(self.what, What::Milestone(Milestone::Ended { .. }))
    }
}

/// Numbers and words can always be written.
fn json(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap_or_default()
}

impl Journal {
    /// The journal of a call that begins now.
    pub fn new() -> Self {
        let (live, _) = broadcast::channel(LIVE);
        Self {
            began: Instant::now(),
            shared: Arc::new(Shared {
                kept: Mutex::new(Kept {
                    lines: VecDeque::new(),
                    with_words: true,
                }),
                live,
            }),
        }
    }

    /// Writes down what the engine tells.
    pub fn write(&self, notice: Notice) {
        log(&notice);
        self.append(What::Notice(notice));
    }

    /// Writes the last line.
    pub fn end(&self, reason: EndReason) {
        self.append(What::Milestone(Milestone::Ended {
            reason: reason.label(),
        }));
    }

    /// Everything kept so far, and what is still to come. No line is missing or twice between the two.
    pub fn read(&self) -> (Vec<Line>, broadcast::Receiver<Line>) {
        let kept = self.kept();
        let lines = kept.lines.iter().cloned().collect();
        (lines, self.shared.live.subscribe())
    }

    fn append(&self, what: What) {
        let at_ms = self.began.elapsed().as_millis() as u64;
        let mut kept = self.kept();
        if let What::Notice(Notice::Transcripts { kept: with_words }) = &what {
            kept.with_words = *with_words;
        }
        let line = Line::new(Entry {
            at_ms,
            what,
            is_private: !kept.with_words,
        });
        let lasting = match line.without_words() {
            Some(wordless) if line.is_private => Line::new(wordless),
            Some(_) | None => line.clone(),
        };
        if kept.lines.len() == KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back(lasting);
        // Without a watcher there is nobody to tell.
        let _ = self.shared.live.send(line);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// What operators find in the log: decisions at debug, faults at warn. Words stay out of it: they are the caller's.
fn log(notice: &Notice) {
    match notice {
        Notice::BackendFault { fault, message } => {
            tracing::warn!(fault = fault.label(), message, "the backend failed");
        }
        Notice::Unsupported { message } => {
            tracing::warn!(message, "the agent asked for something unsupported");
        }
        Notice::CommandRefused { reason } => {
            tracing::warn!(
                reason,
                "the agent sent a command that cannot be carried out"
            );
        }
        Notice::ClipFailed { uri, reason } => {
            tracing::warn!(uri, reason, "a clip could not be played");
        }
        Notice::Tool { tool, error } => tracing::info!(tool, error, "the agent wants a tool run"),
        Notice::Fallback => tracing::warn!("the agent cannot be reached; falling back"),
        Notice::Hold => tracing::info!("the agent is slow; the caller hears the hold prompt"),
        Notice::BargeIn { heard_ms } => tracing::debug!(heard_ms, "barge-in"),
        Notice::WordsIgnored { taken_for } => tracing::debug!(?taken_for, "words are ignored"),
        Notice::Ducked => tracing::debug!("the prompt is ducked"),
        Notice::Restored => tracing::debug!("the prompt is restored"),
        Notice::TurnLatency { latency_ms } => tracing::debug!(latency_ms, "the agent answers"),
        Notice::TurnStarted { input } => tracing::debug!(input = input.label(), "a turn begins"),
        Notice::Playback {
            segment,
            outcome,
            heard_ms,
        } => tracing::debug!(segment, ?outcome, heard_ms, "a segment is over"),
        Notice::TransferFailed { reason } => {
            tracing::warn!(reason, "a transfer was refused; the caller is back");
        }
        Notice::Transfer { .. } => tracing::info!("the agent asks for a transfer"),
        Notice::Interim { .. }
        | Notice::Final { .. }
        | Notice::AgentText { .. }
        | Notice::Dtmf { .. }
        | Notice::Payload { .. }
        | Notice::Transcripts { .. }
        | Notice::ConversationSuccess { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::call::event::FaultKind;

    #[test]
    fn a_late_watcher_reads_what_was_kept_and_then_what_comes() {
        let journal = Journal::new();
        journal.write(Notice::Final {
            text: "two \"big\" tables\n".to_owned(),
        });
        let (kept, mut live) = journal.read();
        journal.end(EndReason::CallerHungUp);
        let first: serde_json::Value = serde_json::from_str(&kept[0].for_operator()).expect("JSON");
        assert_eq!(
            (&first["type"], &first["text"]),
            (&"final".into(), &"two \"big\" tables\n".into())
        );
        let last: serde_json::Value =
            serde_json::from_str(&live.try_recv().expect("one more").for_operator()).expect("JSON");
        assert_eq!(
            (&last["type"], &last["reason"]),
            (&"ended".into(), &"caller_hung_up".into())
        );
        assert!(
            !kept[0].for_operator().contains('\n'),
            "one line stays one line"
        );
    }

    #[test]
    fn the_oldest_lines_go_when_there_are_too_many() {
        let journal = Journal::new();
        for i in 0..KEPT + 3 {
            journal.write(Notice::Dtmf {
                digit: char::from_digit(i as u32 % 10, 10).expect("a digit"),
            });
        }
        let (kept, _) = journal.read();
        assert_eq!(kept.len(), KEPT);
        let first = kept[0].for_operator();
        assert!(first.contains("\"digit\":\"3\""), "{first}");
    }

    #[test]
    fn words_that_are_not_to_be_kept_reach_nobody_but_the_caller_who_listens() {
        let journal = Journal::new();
        let (_, mut live) = journal.read();
        let say = |journal: &Journal| {
            journal.write(Notice::Interim {
                text: "secret".to_owned(),
            });
            journal.write(Notice::Final {
                text: "secret".to_owned(),
            });
            journal.write(Notice::AgentText {
                text: "secret".to_owned(),
                partial: true,
            });
            journal.write(Notice::Payload {
                payload: serde_json::json!({ "word": "secret" }),
            });
            journal.write(Notice::Dtmf { digit: '7' });
        };
        journal.write(Notice::Transcripts { kept: false });
        say(&journal);
        journal.write(Notice::Transcripts { kept: true });
        say(&journal);

        let live: Vec<Line> = std::iter::from_fn(|| live.try_recv().ok()).collect();
        let (kept, _) = journal.read();
        assert_eq!((live.len(), kept.len()), (12, 12));
        let is_told = |line: &str| line.contains("secret") || line.contains("\"digit\":\"7\"");
        for (line, stored) in live.iter().zip(&kept).skip(1).take(5) {
            let operator = line.for_operator();
            assert!(!is_told(&operator), "{operator}");
            assert_eq!(stored.for_operator(), operator);
            assert_eq!(stored.for_caller(), Some(operator));
            assert!(!format!("{stored:?}").contains("secret"));
            assert!(line.for_caller().is_some_and(|line| is_told(&line)));
        }
        for (line, stored) in live.iter().zip(&kept).skip(7) {
            assert!(is_told(&line.for_operator()) && is_told(&stored.for_operator()));
            assert!(line.for_caller().is_some_and(|line| is_told(&line)));
        }
        let withheld: Vec<serde_json::Value> = kept[1..6]
            .iter()
            .map(|line| {
                let mut line: serde_json::Value =
                    serde_json::from_str(&line.for_operator()).expect("JSON");
                line.as_object_mut().expect("an object").remove("at_ms");
                line
            })
            .collect();
        assert_eq!(
            serde_json::Value::from(withheld),
            serde_json::json!([
                { "type": "interim", "text": "" },
                { "type": "final", "text": "" },
                { "type": "agent_text", "text": "", "partial": true },
                { "type": "payload", "payload": null },
                { "type": "dtmf", "digit": "" },
            ])
        );
    }

    #[test]
    fn callers_do_not_read_what_servers_say() {
        let journal = Journal::new();
        journal.write(Notice::BackendFault {
            fault: FaultKind::Unavailable,
            message: "10.0.0.7 refused".to_owned(),
        });
        journal.write(Notice::Unsupported {
            message: "mixed_audio".to_owned(),
        });
        journal.end(EndReason::BackendFailed);
        let (kept, _) = journal.read();
        let read: Vec<_> = kept.iter().filter_map(|line| line.for_caller()).collect();
        assert_eq!(read.len(), 2, "{read:?}");
        assert!(read[0].contains("\"type\":\"backend_fault\"") && !read[0].contains("10.0.0.7"));
        assert!(kept[0].for_operator().contains("10.0.0.7"));
        assert!(kept[2].is_last() && !kept[0].is_last());
    }
}
