//! What is at the other end of the leg, and what the caller hears there.
//!
//! - **SIP**: rings until the gateway answers and the ACK comes back; after that it hears every packet as it arrives.
//! - **Twilio**: keeps what it is sent and plays it at its own pace; a mark comes back when everything before it has been
//!   played, or thrown away by `clear`.
//! - **WHIP**: hears every packet as it arrives, from the beginning.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use tandem::engine::call::event::SegmentId;
use tandem::engine::call::settings::LegTraits;
use tandem::engine::media::frame::FRAME_DURATION;
use tandem::engine::media::frame::Frame;

use crate::ingress::Ingress;

/// From Twilio back to us.
const RETURN: Duration = Duration::from_millis(30);

/// The other end of the leg.
#[derive(Debug)]
pub(crate) struct FarEnd {
    kind: Ingress,
    traits: LegTraits,
    began: Instant,
    /// Whether packets are heard; before that, the caller hears ringing.
    open: bool,
    /// What is heard, sample by sample since the beginning; on Twilio it reaches into the future, as far as it is buffered.
    sound: Vec<i16>,
    last_frame: Option<Instant>,
    marks: VecDeque<(Instant, SegmentId)>,
    /// Whether marks come back.
    pub(crate) returns_marks: bool,
}

impl FarEnd {
    pub(crate) fn new(kind: Ingress, now: Instant) -> Self {
        let traits = kind.traits();
        Self {
            kind,
            traits,
            began: now,
            open: traits.rings.is_none(),
            sound: Vec::new(),
            last_frame: None,
            marks: VecDeque::new(),
            returns_marks: true,
        }
    }

    /// The ACK has arrived.
    pub(crate) fn open(&mut self) {
        self.open = true;
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    /// Takes a frame.
    pub(crate) fn play(&mut self, frame: &Frame, now: Instant) {
        assert!(self.open, "a frame before the line is open");
        assert_eq!(frame.rate(), self.traits.rate);
        let here = self.samples_until(now);
        if self.traits.continuous
            && let Some(last) = self.last_frame
        {
            assert!(now >= last + FRAME_DURATION, "two frames within 20 ms");
        }
        self.last_frame = Some(now);
        if self.sound.len() < here {
            self.sound.resize(here, 0);
        }
        self.sound.extend(frame.samples());
        let ahead = self
            .traits
            .rate
            .duration_of((self.sound.len() - here) as u64);
        // A continuous leg's packet is heard while it lasts.
        let most = self.traits.lead + 2 * FRAME_DURATION;
        assert!(ahead <= most, "{ahead:?} ahead of the caller's ear");
    }

    /// Takes a mark.
    pub(crate) fn mark(&mut self, segment: SegmentId, now: Instant) {
        assert!(self.traits.confirms_playout, "nobody here returns marks");
        if self.returns_marks {
            let played = self.moment_of(self.sound.len()).max(now);
            self.marks.push_back((played + RETURN, segment));
        }
    }

    /// Throws away what is not yet played; its marks come back.
    pub(crate) fn clear(&mut self, now: Instant) {
        let here = self.samples_until(now);
        if self.kind == Ingress::Twilio {
            self.sound.truncate(here);
        }
        for (at, _) in &mut self.marks {
            *at = (*at).min(now + RETURN);
        }
    }

    /// When the next mark comes back.
    pub(crate) fn next_mark(&self) -> Option<Instant> {
        self.marks.front().map(|(at, _)| *at)
    }

    /// Takes a mark that has come back.
    pub(crate) fn returned(&mut self, now: Instant) -> Option<SegmentId> {
        self.marks
            .pop_front_if(|(at, _)| *at <= now)
            .map(|(_, segment)| segment)
    }

    /// What was heard up to now.
    pub(crate) fn heard(&self, now: Instant) -> &[i16] {
        &self.sound[..self.samples_until(now).min(self.sound.len())]
    }

    fn samples_until(&self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.began);
        self.traits.rate.samples_in(elapsed) as usize
    }

    fn moment_of(&self, samples: usize) -> Instant {
        self.began + self.traits.rate.duration_of(samples as u64)
    }
}
