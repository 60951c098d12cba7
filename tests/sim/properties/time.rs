//! Ends, deadlines, bounds, and silence.

use std::collections::BTreeSet;
use std::time::Duration;

use tandem::engine::call::event::StreamId;
use tandem::engine::call::notice::TurnKind;

use super::Verdict;
use crate::history::At;
use crate::history::History;
use crate::history::Sound;
use crate::history::What;

/// How often a call may be woken in a second: for every frame down, every message up at its shortest, and some timers.
const WAKES_PER_SECOND: usize = 400;
/// The most that is done at one moment: everything of a long replay at once, and a whole answer.
const BURST: usize = 1_000;
/// Clips that may be under way.
const CLIPS: usize = 64;
/// How long nobody hears nothing, and how far playout may run ahead on a leg that buffers.
const SILENCE: Duration = Duration::from_millis(4_000 + 200);
/// How long a stream that replaces a failed one must live before it counts as listening.
const RECOVERED: Duration = Duration::from_secs(2);

/// Exactly one end, and it is the last thing that the call does.
pub(crate) fn the_call_ends_once(history: &History) -> Verdict {
    let mut ended = None;
    for entry in &history.entries {
        let at = entry.at;
        match (&entry.what, ended) {
            (What::Ended(_), None) => ended = Some(at),
            (What::Ended(reason), Some(first)) => {
                return Err(format!(
                    "ended at {first:?}, and again at {at:?}: {reason:?}"
                ));
            }
            (What::Undead, _) => return Err(format!("over, but not done: at {at:?}")),
            (
                What::Told(_)
                | What::Measured(_)
                | What::Played { .. }
                | What::Opened { .. }
                | What::Sent { .. }
                | What::HalfClosed(_)
                | What::Cancelled(_)
                | What::Cleared,
                Some(first),
            ) => {
                let what = &entry.what;
                return Err(format!("ended at {first:?}, and yet at {at:?}: {what:?}"));
            }
            _ => {}
        }
    }
    ended.map(|_| ()).ok_or_else(|| "never ended".to_owned())
}

/// No busy loop: obeying a deadline moves it on, and not in tiny steps.
pub(crate) fn deadlines_advance(history: &History) -> Verdict {
    let mut woken: Vec<At> = Vec::new();
    for entry in &history.entries {
        match entry.what {
            What::Stuck => {
                return Err(format!("the deadline does not move at {:?}", entry.at));
            }
            What::Woke => {
                woken.push(entry.at);
                let second_ago = woken.len().checked_sub(WAKES_PER_SECOND);
                if let Some(first) = second_ago.map(|place| woken[place])
                    && entry.at < first + Duration::from_secs(1)
                {
                    let at = entry.at;
                    return Err(format!(
                        "woken {WAKES_PER_SECOND} times from {first:?} to {at:?}"
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is done at once, and what is under way, stays small.
pub(crate) fn queues_are_bounded(history: &History) -> Verdict {
    let mut clips = BTreeSet::new();
    for entry in &history.entries {
        match &entry.what {
            What::Burst(actions) if *actions > BURST => {
                return Err(format!("{actions} actions at {:?}", entry.at));
            }
            What::Fetches(clip, _) => {
                if !clips.insert(*clip) {
                    return Err(format!("{clip:?} is fetched twice at {:?}", entry.at));
                }
                if clips.len() > CLIPS {
                    return Err(format!("{} clips under way at {:?}", clips.len(), entry.at));
                }
            }
            What::Fetched(clip, _) => {
                clips.remove(clip);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Who waits for the agent on an open line hears something at least every four seconds.
pub(crate) fn nobody_waits_in_silence(history: &History) -> Verdict {
    let mut wait = Wait::new(history.rings);
    for entry in &history.entries {
        if let Some(silence) = wait.silence(entry.at)
            && silence > SILENCE + wait.pause
        {
            return Err(format!("{silence:?} of silence up to {:?}", entry.at));
        }
        wait.see(history, &entry.what, entry.at);
    }
    Ok(())
}

/// Does the caller wait, and since when in silence? Judged from outside.
struct Wait {
    open: bool,
    held: bool,
    /// Since when the caller has waited for an answer.
    since: Option<At>,
    /// When there was last something to hear, or the line was not theirs.
    last_sound: At,
    /// The pause that the agent asked for.
    pause: Duration,
    speech: Option<Listening>,
    other: Option<StreamId>,
    answered: bool,
}

/// A stream that takes the caller's voice.
struct Listening {
    stream: StreamId,
    since: At,
    half_closed: bool,
    /// Whether the caller has said something on it.
    words: bool,
}

impl Wait {
    const fn new(rings: bool) -> Self {
        Self {
            open: !rings,
            held: false,
            since: None,
            last_sound: At::ZERO,
            pause: Duration::ZERO,
            speech: None,
            other: None,
            answered: false,
        }
    }

    /// How long the caller has waited in silence, if they wait.
    fn silence(&self, at: At) -> Option<Duration> {
        let since = self.since.filter(|_| self.open && !self.held)?;
        Some(at.saturating_sub(since.max(self.last_sound)))
    }

    fn see(&mut self, history: &History, what: &What, at: At) {
        if let Some(listening) = &self.speech
            && !listening.half_closed
            && at >= listening.since + RECOVERED
        {
            self.since = None;
        }
        match what {
            What::Played { audible: true, .. } => {
                self.last_sound = at;
                self.pause = Duration::ZERO;
            }
            // Who speaks hears themselves.
            What::Captured(frame) if history.frames[*frame as usize].sound == Sound::Words => {
                self.last_sound = at;
            }
            What::Answered => {
                self.open = true;
                self.last_sound = at;
            }
            What::Held(held) => {
                self.held = *held;
                self.last_sound = at;
            }
            What::Opened { stream, kind, .. } => self.on_opened(*stream, *kind, at),
            What::Delivered { stream, frame, .. } => {
                let words = history.frames[*frame as usize].sound == Sound::Words;
                if let Some(listening) = self.speech.as_mut().filter(|it| it.stream == *stream) {
                    listening.words |= words;
                }
            }
            What::HalfClosed(stream) => {
                if let Some(listening) = self.speech.as_mut().filter(|it| it.stream == *stream) {
                    listening.half_closed = true;
                    self.since.get_or_insert(at);
                }
            }
            What::Interim(stream, _) | What::EndOfUtterance(stream) if self.listens(*stream) => {
                self.since = None;
            }
            What::AnswerCame {
                stream,
                last,
                pause,
                ends,
                ..
            } if self.is_open(*stream) => {
                self.pause += *pause;
                self.answered |= *last;
                if *ends {
                    // They have been told goodbye, and wait for nothing.
                    self.since = None;
                } else if *last {
                    self.since.get_or_insert(at);
                }
            }
            What::Closed(stream, _) if self.is_open(*stream) => self.on_closed(at),
            What::Cancelled(stream) if self.is_open(*stream) => {
                self.speech = None;
                self.other = None;
            }
            What::Transfers(_) => {
                self.since = Some(at);
            }
            What::Ended(_) => self.since = None,
            _ => {}
        }
    }

    fn on_opened(&mut self, stream: StreamId, kind: TurnKind, at: At) {
        let recovering = self.since.is_some() && !self.answered;
        self.answered = false;
        if kind == TurnKind::Speech {
            if !recovering {
                self.since = None;
            }
            self.other = None;
            self.speech = Some(Listening {
                stream,
                since: at,
                half_closed: false,
                words: false,
            });
        } else {
            self.since.get_or_insert(at);
            self.speech = None;
            self.other = Some(stream);
        }
    }

    fn on_closed(&mut self, at: At) {
        let idle = self
            .speech
            .as_ref()
            .is_some_and(|listening| !listening.half_closed && !listening.words);
        if !self.answered && !idle {
            self.since.get_or_insert(at);
        }
        self.speech = None;
        self.other = None;
    }

    fn listens(&self, stream: StreamId) -> bool {
        self.speech
            .as_ref()
            .is_some_and(|listening| listening.stream == stream && !listening.half_closed)
    }

    fn is_open(&self, stream: StreamId) -> bool {
        self.other == Some(stream)
            || self
                .speech
                .as_ref()
                .is_some_and(|listening| listening.stream == stream)
    }
}
