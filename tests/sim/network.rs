//! The way between the caller and us, as far as the engine sees it.
//!
//! The receivers of each ingress have put packets in order and taken duplicates out before a frame is heard; what is left
//! of a bad network is frames that come late and in bursts, and frames that never come.

use std::collections::VecDeque;

use tandem::engine::media::frame::Frame;

use crate::dice::Dice;
use crate::history::At;

/// When sound that is sent arrives.
#[derive(Debug)]
pub(crate) struct Way {
    dice: Dice,
    delay_ms: u64,
    jitter_ms: u64,
    /// Nothing arrives from the first of these moments up to the second; then everything does.
    stalls: Vec<(At, At)>,
    last: At,
}

impl Way {
    /// A way that behaves as the dice say, for a call of this length.
    pub(crate) fn new(mut dice: Dice, length: At) -> Self {
        let bad = dice.chance(0.35);
        let mut stalls = Vec::new();
        while bad && stalls.len() < 3 && dice.chance(0.5) {
            let from = dice.ms(0, length.as_millis() as u64);
            stalls.push((from, from + dice.ms(50, 1_000)));
        }
        let jitter_ms = if bad { dice.pick(&[5, 20, 60, 150]) } else { 0 };
        Self {
            delay_ms: dice.between(5, 60),
            jitter_ms,
            stalls,
            last: At::ZERO,
            dice,
        }
    }

    /// When what is sent now arrives: never before what was sent before it.
    pub(crate) fn arrival(&mut self, now: At) -> At {
        let delay = self.dice.ms(self.delay_ms, self.delay_ms + self.jitter_ms);
        let mut arrival = now + delay;
        for (from, to) in &self.stalls {
            if (*from..*to).contains(&arrival) {
                arrival = *to;
            }
        }
        self.last = self.last.max(arrival);
        self.last
    }
}

/// The caller's frames on their way to us.
pub(crate) struct Uplink {
    way: Way,
    dice: Dice,
    loss: f64,
    /// When the caller's side sends nothing at all.
    muted: Vec<(At, At)>,
    under_way: VecDeque<(At, Frame, Option<u32>)>,
}

impl Uplink {
    /// A way on which frames are lost if `lossy`, and the dice want it.
    pub(crate) fn new(seed: u64, length: At, lossy: bool) -> Self {
        let mut dice = Dice::new(seed, "uplink");
        let loss = if lossy {
            dice.pick(&[0.0, 0.0, 0.01, 0.05])
        } else {
            0.0
        };
        let muted = if dice.chance(0.15) {
            let from = dice.ms(0, length.as_millis() as u64);
            vec![(from, from + dice.ms(200, 4_000))]
        } else {
            Vec::new()
        };
        Self {
            way: Way::new(Dice::new(seed, "uplink way"), length),
            dice,
            loss,
            muted,
            under_way: VecDeque::new(),
        }
    }

    /// The caller's side sends a frame, with the number of what is in it.
    pub(crate) fn send(&mut self, frame: Frame, number: Option<u32>, now: At) {
        let muted = self
            .muted
            .iter()
            .any(|(from, to)| (*from..*to).contains(&now));
        if !muted && !self.dice.chance(self.loss) {
            let arrival = self.way.arrival(now);
            self.under_way.push_back((arrival, frame, number));
        }
    }

    /// When the next frame arrives.
    pub(crate) fn next(&self) -> Option<At> {
        self.under_way.front().map(|(at, ..)| *at)
    }

    /// The frame that has arrived.
    pub(crate) fn take(&mut self, now: At) -> Option<(Frame, Option<u32>)> {
        let (_, frame, number) = self.under_way.pop_front_if(|(at, ..)| *at <= now)?;
        Some((frame, number))
    }
}
