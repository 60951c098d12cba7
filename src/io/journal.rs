//! What happened in a call, as its watchers read it: one JSON object a line, kept for those who come late and sent live
//! to those who listen (`GET /v1/calls/{id}/events`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
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

/// One line: JSON, without a line break.
pub type Line = Arc<str>;

/// The journal of one call. Clones share it.
#[derive(Clone)]
pub struct Journal {
    began: Instant,
    shared: Arc<Shared>,
}

struct Shared {
    kept: Mutex<VecDeque<Line>>,
    live: broadcast::Sender<Line>,
}

#[derive(Serialize)]
struct Entry<T> {
    /// Milliseconds since the call began.
    at_ms: u64,
    #[serde(flatten)]
    what: T,
}

/// What the journal itself adds to the engine's notices.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Milestone {
    Ended { reason: &'static str },
}

impl Journal {
    /// The journal of a call that begins now.
    pub fn new() -> Self {
        let (live, _) = broadcast::channel(LIVE);
        Self {
            began: Instant::now(),
            shared: Arc::new(Shared {
                kept: Mutex::default(),
                live,
            }),
        }
    }

    /// Writes down what the engine tells.
    pub fn write(&self, notice: Notice) {
        log(&notice);
        self.append(notice);
    }

    /// Writes the last line.
    pub fn end(&self, reason: EndReason) {
        self.append(Milestone::Ended {
            reason: reason.label(),
        });
    }

    /// Everything kept so far, and what is still to come. No line is missing or twice between the two.
    pub fn read(&self) -> (Vec<Line>, broadcast::Receiver<Line>) {
        let kept = self
            .shared
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.shared.live.subscribe())
    }

    fn append(&self, what: impl Serialize) {
        let at_ms = self.began.elapsed().as_millis() as u64;
        let Ok(line) = serde_json::to_string(&Entry { at_ms, what }) else {
            return;
        };
        let line = Line::from(line);
        let mut kept = self
            .shared
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(line.clone());
        // Without a watcher there is nobody to tell.
        let _ = self.shared.live.send(line);
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
        Notice::BargeIn { heard_ms } => tracing::debug!(heard_ms, "barge-in"),
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
        | Notice::ConversationSuccess { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_watcher_reads_what_was_kept_and_then_what_comes() {
        let journal = Journal::new();
        journal.write(Notice::Final {
            text: "two \"big\" tables\n".to_owned(),
        });
        let (kept, mut live) = journal.read();
        journal.end(EndReason::CallerHungUp);
        let first: serde_json::Value = serde_json::from_str(&kept[0]).expect("JSON");
        assert_eq!(
            (&first["type"], &first["text"]),
            (&"final".into(), &"two \"big\" tables\n".into())
        );
        let last: serde_json::Value =
            serde_json::from_str(&live.try_recv().expect("one more")).expect("JSON");
        assert_eq!(
            (&last["type"], &last["reason"]),
            (&"ended".into(), &"caller_hung_up".into())
        );
        assert!(!kept[0].contains('\n'), "one line stays one line");
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
        assert!(kept[0].contains("\"digit\":\"3\""), "{}", kept[0]);
    }
}
