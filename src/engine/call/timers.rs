//! Everything a call waits for, in one table.

use std::time::Instant;

/// What a call may wait for, playout and uplink pacing aside (those know their own next moment).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The caller has heard the ringing tone long enough.
    Ringing,
    /// The longest call.
    CallDuration,
    /// The caller says nothing.
    NoInput,
    /// No further digit comes.
    Interdigit,
    /// A speech stream has lasted long enough.
    StreamCeiling,
    /// The agent does not answer a finished input.
    Answer,
    /// The pause before a failed stream is opened again.
    Retry,
    /// A ducked prompt is ducked long enough.
    Restore,
    /// The caller has said words and is silent now, and the recogniser does not end the utterance.
    Endpoint,
    /// The caller has waited for the agent in silence for long enough.
    Hold,
    /// A clip does not come.
    Clip,
    /// A tool does not end.
    Tool,
}

const COUNT: usize = 12;

/// When each timer fires; at most one instance of each runs.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; COUNT]);

impl Timers {
    pub(super) const fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) const fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) const fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// When a timer fires, if it runs.
    pub(super) const fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// The earliest moment at which a timer fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes one timer that has fired by `now`, the earliest first.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Timer> {
        const ALL: [Timer; COUNT] = [
            Timer::Ringing,
            Timer::CallDuration,
            Timer::NoInput,
            Timer::Interdigit,
            Timer::StreamCeiling,
            Timer::Answer,
            Timer::Retry,
            Timer::Restore,
            Timer::Endpoint,
            Timer::Hold,
            Timer::Clip,
            Timer::Tool,
        ];
        let fired = ALL
            .into_iter()
            .filter_map(|timer| self.0[timer as usize].map(|at| (at, timer)))
            .filter(|(at, _)| *at <= now)
            .min_by_key(|(at, _)| *at)?;
        self.stop(fired.1);
        Some(fired.1)
    }
}
