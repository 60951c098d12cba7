//! What the caller hears while they wait for the agent: nothing at first, then the hold prompt, again and again, until the
//! agent speaks. Nobody is left in silence for more than four seconds (design §4, rule 10).

use std::time::Duration;

use crate::engine::call::Call;
use crate::engine::call::answer;
use crate::engine::call::event::Action;
use crate::engine::call::event::Audio;
use crate::engine::call::hand_off::HandOff;
use crate::engine::call::line::Line;
use crate::engine::call::notice::Notice;
use crate::engine::call::playout::Speech;
use crate::engine::call::timers::Timer;
use crate::engine::call::turn::Phase;

impl Call {
    /// Looks whether the caller waits in silence, and since when. To be asked after everything that happens.
    pub(super) fn watch_for_waiting(&mut self) {
        if !self.is_kept_waiting() {
            self.timers.stop(Timer::Hold);
        } else if !self.timers.is_set(Timer::Hold) {
            let after = self.settings.hold.after;
            self.timers.set(Timer::Hold, self.now + after);
        }
    }

    /// Whether it is not the caller's turn and they hear nothing.
    fn is_kept_waiting(&self) -> bool {
        let thinks = self
            .turn
            .as_ref()
            .is_some_and(|turn| turn.phase == Phase::Answering);
        // A stream that lives is heard of soon; on one that is silent for longer nobody has said anything.
        const LIVES: Duration = Duration::from_secs(2);
        let is_alive = self
            .turn
            .as_ref()
            .is_some_and(|turn| self.now.saturating_duration_since(turn.opened) > LIVES);
        let is_owed = self.failures.owes && !is_alive && !self.uplink.is_voice_active();
        let waits = thinks
            || is_owed
            || self.timers.is_set(Timer::Retry)
            || self.tools.is_running()
            || self.clips.is_waiting()
            || self.hand_off == HandOff::UnderWay;
        waits && self.line == Line::Open && !self.playout.is_audible(self.now)
    }

    /// They have waited long enough.
    pub(super) fn hold(&mut self) {
        let Some(speech) = self.prompt(&self.settings.hold.prompt) else {
            return;
        };
        if self.playout.push_hold(speech, self.now).is_some() {
            self.tell(Notice::Hold);
        }
    }

    /// The agent is here: nothing has to be passed any more.
    pub(super) fn end_hold(&mut self) {
        if let Some(finished) = self.playout.cut_hold(self.now) {
            self.act(Action::Clear);
            self.report(finished);
        }
    }

    /// Says something of our own. Nothing if it is empty or cannot be read.
    pub(super) fn say(&mut self, audio: &Audio) {
        if let Some(speech) = self.prompt(audio) {
            self.end_hold();
            if !self.playout.is_playing() {
                self.heard.begin_ours();
            }
            self.playout.push(speech, self.now);
        }
    }

    fn prompt(&self, audio: &Audio) -> Option<Speech> {
        let told = audio.format.unwrap_or(self.settings.downlink);
        let (bytes, format) = answer::samples(&audio.bytes, told).ok()?;
        (!bytes.is_empty()).then_some(Speech {
            bytes,
            format,
            interruptible: true,
            cancellable: false,
        })
    }
}
