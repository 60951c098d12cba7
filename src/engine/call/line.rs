//! The caller's line: ringing, open, or held by the caller's side.
//!
//! While it rings, the agent is already at work: the line is opened when its first words are ready, or when the caller
//! has waited long enough, so that nobody is answered by silence. While it is held, nothing is played, nobody listens
//! and silence is nobody's fault (field notes 3 and 34).

use crate::engine::call::Call;
use crate::engine::call::event::Action;
use crate::engine::call::timers::Timer;
use crate::engine::call::turn::Phase;

/// Whether the caller hears us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// They hear a ringing tone.
    Ringing,
    /// We have asked for the line to be opened.
    Answering,
    /// They hear us.
    Open,
    /// Their side holds the call.
    Held,
}

impl Call {
    /// Begins with a ringing line, where the leg rings.
    pub(super) fn ring(&mut self) {
        let Some(longest) = self.settings.leg.rings else {
            return;
        };
        self.line = Line::Ringing;
        self.playout.pause(self.now);
        self.timers.set(Timer::Ringing, self.now + longest);
    }

    /// There is something to hear, or the caller has waited long enough: asks for the line, once.
    pub(super) fn open_line(&mut self) {
        if self.line == Line::Ringing {
            self.line = Line::Answering;
            self.timers.stop(Timer::Ringing);
            self.act(Action::Answer);
        }
    }

    pub(super) fn on_answered(&mut self) {
        if matches!(self.line, Line::Ringing | Line::Answering) {
            self.line = Line::Open;
            self.timers.stop(Timer::Ringing);
            self.began = self.now;
            self.playout.resume(self.now);
            self.watch_for_silence();
            self.proceed();
        }
    }

    pub(super) fn on_held(&mut self, held: bool) {
        match (self.line, held) {
            (Line::Open, true) => {
                self.line = Line::Held;
                self.restore_prompt();
                self.playout.pause(self.now);
                self.stop_waiting_for_words();
            }
            (Line::Held, false) => {
                self.line = Line::Open;
                self.playout.resume(self.now);
                // What was heard meanwhile is the music of the caller's side, or nothing. What was said before may still be
                // on its way to the agent, and is due again if it does not arrive.
                let is_due = self.turn.is_some() || self.failures.owes;
                if !is_due {
                    self.uplink.set_heard_to(self.uplink.captured());
                }
                self.watch_for_silence();
                self.proceed();
            }
            (Line::Ringing | Line::Answering | Line::Open | Line::Held, _) => {}
        }
    }

    /// Gives up a stream on which the caller has said nothing yet. One with words on it is brought to its end: the
    /// agent answers, and the answer waits.
    fn stop_waiting_for_words(&mut self) {
        self.timers.stop(Timer::NoInput);
        let is_idle = self
            .turn
            .as_ref()
            .is_some_and(|turn| turn.phase == Phase::Listening && !turn.words);
        if is_idle {
            self.give_turn_up();
        } else {
            self.cut_off_listening();
        }
    }
}
