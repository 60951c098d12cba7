//! Callers who say nothing (design §4, rule 8, facts §6.4).
//!
//! The clock starts when the playback ends, not with the stream. When it is over the stream is half-closed and the agent
//! answers to the silence; an agent that has nothing to say is sent an event. After some such turns in a row the caller is
//! let go, or handed to a person.

use std::time::Duration;

use crate::engine::call::Call;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Answer;
use crate::engine::call::event::MatchKind;
use crate::engine::call::event::TurnInput;
use crate::engine::call::line::Line;
use crate::engine::call::notice::TurnKind;
use crate::engine::call::timers::Timer;
use crate::engine::call::turn::Phase;
use crate::engine::call::turn::Turn;

/// Added to the no-input time, so that a backend which watches the silence itself goes first.
pub(super) const GRACE: Duration = Duration::from_millis(700);

impl Call {
    /// Starts the no-input timer if the caller is expected to speak and the prompt is over.
    pub(super) fn watch_for_silence(&mut self) {
        let expected = self.line == Line::Open
            && self
                .turn
                .as_ref()
                .is_some_and(|turn| turn.phase == Phase::Listening && !turn.words);
        if expected && !self.playout.is_playing() && !self.digits.is_pending() {
            self.timers
                .set(Timer::NoInput, self.now + self.no_input_timeout + GRACE);
        }
    }

    /// The caller has been silent for long enough.
    pub(super) fn on_silence(&mut self) {
        // Someone who has just begun to speak is not silent.
        let is_speaking = self.uplink.is_voice_active() || self.uplink.has_fresh_voice();
        // Nor is someone whose words the agent has still to be given.
        if is_speaking || self.uplink.is_behind() {
            self.timers.set(Timer::NoInput, self.now + GRACE);
        } else {
            self.cut_off_listening();
        }
    }

    /// Counts silent turns, of which `turn` may be one; `true` if an event now asks the agent about the silence.
    pub(super) fn count_silence(&mut self, turn: &Turn, answer: &Answer) -> bool {
        let is_silent = match turn.kind() {
            TurnKind::Speech => {
                answer.match_kind == MatchKind::NoInput
                    || (!turn.words
                        && answer.query.is_empty()
                        && answer.match_kind == MatchKind::Other)
            }
            TurnKind::Text | TurnKind::Dtmf => false,
            // Neither is a sign of the caller.
            TurnKind::Event | TurnKind::Intent | TurnKind::ToolResult => {
                self.limit_silence(self.is_about_silence(turn));
                return false;
            }
        };
        if !is_silent {
            self.no_input_turns = 0;
            return false;
        }
        // Whoever presses keys is not silent.
        if self.digits.is_pending() {
            return false;
        }
        self.no_input_turns += 1;
        let event = self.settings.no_input.event.clone();
        let is_due = !turn.spoken && self.ending.is_none() && !self.uplink.has_unheard_voice();
        if let Some(event) = event.filter(|_| is_due) {
            self.open(TurnInput::Event(event));
            return true;
        }
        self.limit_silence(true);
        false
    }

    /// Whether it asks the agent what to do about silence.
    fn is_about_silence(&self, turn: &Turn) -> bool {
        matches!(&turn.input, TurnInput::Event(event) if Some(event) == self.settings.no_input.event.as_ref())
    }

    /// After too many silent turns the call comes to its end, once what the agent says to the last one has been heard.
    fn limit_silence(&mut self, is_about_silence: bool) {
        let settings = &self.settings.no_input;
        if !is_about_silence || self.no_input_turns < settings.limit || self.ending.is_some() {
            return;
        }
        // They have begun to speak at the last moment, or it is a noise again.
        if self.no_input_turns == settings.limit && self.uplink.has_unheard_voice() {
            return;
        }
        if settings.transfers && self.settings.hand_off_to.is_some() {
            self.want_hand_off(None, serde_json::Value::Null);
            self.ending = Some(EndReason::Transferred);
        } else {
            self.ending = Some(EndReason::NoInput);
        }
    }
}
