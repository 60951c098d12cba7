//! Words that were understood on a stream which failed before anything was answered.
//!
//! One stream is one turn: what was recognised on it dies with it (facts §2). The audio behind the last final transcript is
//! sent again; the words before it are carried over, and when the utterance is over the agent gets all of them as text.

use std::time::Duration;

use crate::engine::call::Call;
use crate::engine::call::event::TurnInput;
use crate::engine::call::timers::Timer;
use crate::engine::call::turn::Phase;
use crate::engine::call::turn::Turn;

/// The longest text that an agent takes (facts §8.1), in bytes.
const LONGEST_TEXT: usize = 256;
/// How long a caller whose words were carried over may be silent before the agent gets them: longer than a pause between
/// two words.
pub(super) const MORE_WITHIN: Duration = Duration::from_millis(1_500);
/// How long after the end of an utterance its last final transcript may come (facts §2.2).
const FINAL_WITHIN: Duration = Duration::from_millis(600);

impl Call {
    /// A speech stream has failed unanswered: keeps its words. The turn to try instead, if they are all there was.
    pub(super) fn carry_words(&mut self, turn: &Turn) -> Option<TurnInput> {
        append(&mut self.carried, &turn.final_words);
        let is_over = turn.phase == Phase::Answering && turn.interim_words.is_empty();
        (is_over && !turn.final_words.is_empty()).then(|| self.take_carried(""))
    }

    /// The utterance is over. If words were carried over, the agent gets them all as text, and this stream is given up;
    /// `false` if there were none.
    pub(super) fn end_carried_utterance(&mut self, is_final_awaited: bool) -> bool {
        if self.carried.is_empty() {
            return false;
        }
        let Some(turn) = self
            .turn
            .as_ref()
            .filter(|turn| turn.phase == Phase::Listening)
        else {
            return false;
        };
        if is_final_awaited && !turn.interim_words.is_empty() {
            self.timers.set(Timer::Endpoint, self.now + FINAL_WITHIN);
            return true;
        }
        let mut words = turn.final_words.clone();
        append(&mut words, &turn.interim_words);
        let begin = self.uplink.fed_or_last().map(|fed| fed.begin);
        self.uplink.set_heard_to(match turn.final_end {
            Some(end) if turn.interim_words.is_empty() => end,
            // What the recogniser has not understood yet is for the next stream.
            None if !turn.words => begin.unwrap_or(self.uplink.heard_to()),
            Some(_) | None => self.uplink.captured(),
        });
        self.give_turn_up();
        let input = self.take_carried(&words);
        self.open(input);
        true
    }

    fn take_carried(&mut self, more: &str) -> TurnInput {
        let mut words = std::mem::take(&mut self.carried);
        append(&mut words, more);
        // Too long is refused as a whole, and what was said last counts most.
        let from = words.ceil_char_boundary(words.len().saturating_sub(LONGEST_TEXT));
        TurnInput::Text(words.split_off(from))
    }
}

/// Adds words behind others.
pub(super) fn append(words: &mut String, more: &str) {
    let more = more.trim();
    if !words.is_empty() && !more.is_empty() {
        words.push(' ');
    }
    words.push_str(more);
}
