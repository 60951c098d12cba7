//! Where the caller listens: a far end which plays what it gets at once, as telephones and browsers do, or one which buffers
//! and says what it has played, as Twilio does.

use std::collections::VecDeque;

use tandem::engine::call::event::SegmentId;
use tandem::engine::media::frame::FRAME_DURATION;
use tandem::engine::media::frame::Frame;

use crate::dice::Dice;
use crate::history::At;
use crate::network::Way;

/// How long what was heard is remembered, for the echo.
const REMEMBERED: At = At::from_secs(1);
/// A pause that ends a prompt, for the caller.
const PAUSE: At = At::from_millis(250);

/// The caller's ear.
pub(crate) struct FarEnd {
    buffers: bool,
    /// Whether it says what it has played.
    confirms: bool,
    way: Way,
    back: Way,
    /// Until when there is something to play.
    busy_until: At,
    /// What is audible, by when it is heard.
    audible: VecDeque<(At, Frame)>,
    marks: VecDeque<Mark>,
    hearing: bool,
    last_heard: At,
}

struct Mark {
    /// When it is reached, or thrown away.
    due: At,
    /// When we learn of it.
    returned: At,
    segment: SegmentId,
    played: bool,
}

/// What the caller notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cue {
    /// The agent begins to speak.
    PromptBegan,
    /// The agent has fallen silent.
    PromptEnded,
    /// The agent has begun to think.
    Thinking,
}

impl FarEnd {
    /// A far end for a call of this length.
    pub(crate) fn new(seed: u64, buffers: bool, length: At) -> Self {
        let mut dice = Dice::new(seed, "far end");
        Self {
            buffers,
            confirms: buffers && !dice.chance(0.03),
            way: Way::new(Dice::new(seed, "downlink way"), length),
            back: Way::new(Dice::new(seed, "marks' way"), length),
            busy_until: At::ZERO,
            audible: VecDeque::new(),
            marks: VecDeque::new(),
            hearing: false,
            last_heard: At::ZERO,
        }
    }

    /// A frame is sent to it; only what is audible is kept.
    pub(crate) fn play(&mut self, frame: &Frame, audible: bool, now: At) {
        let arrival = self.way.arrival(now);
        let begin = if self.buffers {
            arrival.max(self.busy_until)
        } else {
            arrival
        };
        self.busy_until = begin + FRAME_DURATION;
        if audible {
            self.audible.push_back((begin, *frame));
        }
    }

    /// It is asked to say when it has played everything so far.
    pub(crate) fn mark(&mut self, segment: SegmentId, now: At) {
        let due = self.way.arrival(now).max(self.busy_until);
        if self.confirms {
            let returned = self.back.arrival(due);
            self.marks.push_back(Mark {
                due,
                returned,
                segment,
                played: true,
            });
        }
    }

    /// It is told to throw away what it has not played; it returns the marks of that at once.
    pub(crate) fn clear(&mut self, now: At) {
        if !self.buffers {
            return;
        }
        let arrival = self.way.arrival(now);
        self.audible.retain(|(begin, _)| *begin < arrival);
        self.busy_until = self.busy_until.min(arrival);
        for mark in &mut self.marks {
            if mark.due > arrival {
                mark.due = arrival;
                mark.played = false;
                mark.returned = self.back.arrival(arrival);
            }
        }
    }

    /// When the next mark is returned.
    pub(crate) fn next_mark(&self) -> Option<At> {
        self.marks.front().map(|mark| mark.returned)
    }

    /// The mark that is returned now, and whether everything before it was played.
    pub(crate) fn take_mark(&mut self, now: At) -> Option<(SegmentId, bool)> {
        let mark = self.marks.pop_front_if(|mark| mark.returned <= now)?;
        Some((mark.segment, mark.played))
    }

    /// What is heard at this moment.
    pub(crate) fn sound_at(&self, at: At) -> Option<&Frame> {
        let heard = self
            .audible
            .iter()
            .find(|(begin, _)| (*begin..*begin + FRAME_DURATION).contains(&at));
        heard.map(|(_, frame)| frame)
    }

    /// Lets time pass for the ear.
    pub(crate) fn listen(&mut self, now: At) -> Option<Cue> {
        while self
            .audible
            .pop_front_if(|(begin, _)| *begin + REMEMBERED < now)
            .is_some()
        {}
        if self.sound_at(now).is_some() {
            self.last_heard = now;
            if !self.hearing {
                self.hearing = true;
                return Some(Cue::PromptBegan);
            }
        } else if self.hearing && now > self.last_heard + PAUSE {
            self.hearing = false;
            return Some(Cue::PromptEnded);
        }
        None
    }
}
