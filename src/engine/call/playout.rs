//! The agent's voice on its way to the caller: a queue of segments, paced in frames of 20 ms.
//!
//! Every segment ends in exactly one [`SegmentOutcome`]. What was *heard* is never what was queued: on a leg that
//! confirms playout it is what a mark confirms, elsewhere what the clock says; and on a cut it is the time since the
//! segment's first frame, bounded by what was sent.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use crate::engine::call::event::SegmentId;
use crate::engine::call::notice::SegmentOutcome;
use crate::engine::call::settings::LegTraits;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::frame::FRAME_DURATION;
use crate::engine::media::frame::Frame;
use crate::engine::media::resample::Resampler;

/// How long after its nominal end a segment may go unconfirmed before its outcome is unknown: a far end that buffers
/// may stall for seconds, but a call must not hang on a mark that never comes.
const CONFIRMATION_GRACE: Duration = Duration::from_secs(5);
/// Segments that may wait; an agent that answers with more is broken.
const MAX_SEGMENTS: usize = 64;

/// A piece of the agent's speech, before it has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Speech {
    /// The samples, without any header.
    pub(super) bytes: Bytes,
    /// How they are written.
    pub(super) format: AudioFormat,
    /// Whether the caller may cut it.
    pub(super) interruptible: bool,
    /// Whether a later response of the same turn may cut it.
    pub(super) cancellable: bool,
}

impl Speech {
    pub(super) fn duration(&self) -> Duration {
        self.format
            .rate
            .duration_of((self.bytes.len() / self.format.encoding.bytes_per_sample()) as u64)
    }
}

/// The queue and its clock.
pub(super) struct Playout {
    leg: LegTraits,
    next_id: u32,
    /// Not yet begun, or being sent (the first), in order.
    queue: VecDeque<Segment>,
    /// Sent to their end, not yet confirmed.
    sent: VecDeque<Sent>,
    /// When the next frame is due at the far end; `None` when nothing plays, and while the playout is paused.
    due: Option<Instant>,
    /// Since when nothing may be played, because nobody would hear it.
    paused: Option<Instant>,
    /// When the clock was last started.
    restarted: Instant,
    resampler: Option<Resampler>,
    /// Samples at the leg's rate that do not yet fill a frame.
    ready: VecDeque<i16>,
    frame: Frame,
    /// The nominal end of the last frame that was sent.
    end: Option<Instant>,
}

/// A segment in the queue.
struct Segment {
    id: SegmentId,
    speech: Speech,
    /// Bytes taken so far.
    taken: usize,
    /// When its first frame is nominally heard.
    began: Option<Instant>,
}

/// A segment that has been sent to its end.
struct Sent {
    id: SegmentId,
    duration: Duration,
    began: Instant,
    /// When its last frame is nominally over.
    ends: Instant,
    interruptible: bool,
    cancellable: bool,
}

/// What the playout does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A segment begins; its first frame follows.
    Began(SegmentId),
    /// A frame is in [`Playout::frame`], this much later than it was due.
    Frame {
        /// Zero when it is on time.
        lateness: Duration,
    },
    /// A segment has been sent to its end.
    Sent(SegmentId),
    /// A segment is over.
    Over(Finished),
}

/// How a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) id: SegmentId,
    pub(super) outcome: SegmentOutcome,
    pub(super) heard: Duration,
}

impl Playout {
    pub(super) fn new(leg: LegTraits, now: Instant) -> Self {
        Self {
            leg,
            next_id: 1,
            queue: VecDeque::with_capacity(MAX_SEGMENTS),
            sent: VecDeque::with_capacity(MAX_SEGMENTS),
            due: leg.continuous.then_some(now),
            paused: None,
            restarted: now,
            resampler: None,
            // A chunk may be 40 ms at odd rates, and a frame may already wait.
            ready: VecDeque::with_capacity(4 * leg.rate.frame_samples()),
            frame: Frame::silence(leg.rate),
            end: None,
        }
    }

    /// Queues a piece of speech; `None` when it is empty or the queue is full.
    pub(super) fn push(&mut self, speech: Speech, now: Instant) -> Option<SegmentId> {
        if speech.bytes.is_empty() || self.queue.len() == MAX_SEGMENTS {
            return None;
        }
        let id = SegmentId(self.next_id);
        self.next_id += 1;
        if self.due.is_none() && self.paused.is_none() {
            // What is still being heard at the far end comes first.
            self.due = Some(self.end.map_or(now, |end| end.max(now)));
            self.restarted = now;
        }
        self.queue.push_back(Segment {
            id,
            speech,
            taken: 0,
            began: None,
        });
        Some(id)
    }

    /// Plays nothing from here on: the caller's line is not open, or they hold the call.
    pub(super) fn pause(&mut self, now: Instant) {
        self.due = None;
        self.paused.get_or_insert(now);
    }

    /// Goes on from where it was paused.
    pub(super) fn resume(&mut self, now: Instant) {
        let Some(since) = self.paused.take() else {
            return;
        };
        let paused_for = now.saturating_duration_since(since);
        if let Some(began) = self
            .queue
            .front_mut()
            .and_then(|segment| segment.began.as_mut())
        {
            *began += paused_for;
        }
        if self.leg.continuous || !self.queue.is_empty() {
            self.due = Some(now);
            self.restarted = now;
        }
    }

    /// Whether anything is queued, being sent or not yet confirmed.
    pub(super) fn is_playing(&self) -> bool {
        !self.queue.is_empty() || !self.sent.is_empty()
    }

    /// How much is still to be heard.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        let queued: Duration = self
            .queue
            .iter()
            .map(|segment| segment.speech.duration())
            .sum();
        let begun = self
            .queue
            .front()
            .and_then(|segment| segment.began)
            .map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let unconfirmed = self.sent.back().map_or(Duration::ZERO, |sent| {
            sent.ends.saturating_duration_since(now)
        });
        queued.saturating_sub(begun).max(unconfirmed)
    }

    /// How much is still to be heard before the first moment at which the caller may interrupt.
    pub(super) fn uninterruptible(&self, now: Instant) -> Duration {
        let mut total = Duration::ZERO;
        for sent in &self.sent {
            if sent.interruptible {
                return total;
            }
            total = sent.ends.saturating_duration_since(now);
        }
        for segment in &self.queue {
            if segment.speech.interruptible {
                return total;
            }
            let heard = segment
                .began
                .map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
            total += segment.speech.duration().saturating_sub(heard);
        }
        total
    }

    /// Whether something is queued and nothing has begun: the moment to listen is when it begins.
    pub(super) fn is_waiting(&self) -> bool {
        self.sent.is_empty()
            && self
                .queue
                .front()
                .is_some_and(|segment| segment.began.is_none())
    }

    /// Whether anything is being heard or about to be.
    pub(super) fn is_audible(&self, now: Instant) -> bool {
        !self.queue.is_empty() || self.sent.iter().any(|sent| sent.ends > now)
    }

    /// Whether the caller may cut what is being heard now.
    pub(super) fn is_interruptible(&self, now: Instant) -> bool {
        let current = self
            .sent
            .iter()
            .find(|sent| sent.ends > now)
            .map(|sent| sent.interruptible);
        current
            .or_else(|| {
                self.queue
                    .front()
                    .map(|segment| segment.speech.interruptible)
            })
            .unwrap_or(true)
    }

    /// The moment at which [`Playout::step`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let send = self
            .due
            .map(|due| due.checked_sub(self.leg.lead).unwrap_or(due));
        let confirm = self
            .sent
            .front()
            .map(|sent| sent.ends + self.confirmation_grace());
        match (send, confirm) {
            (Some(send), Some(confirm)) => Some(send.min(confirm)),
            (send, confirm) => send.or(confirm),
        }
    }

    /// How long after its nominal end a segment is over without a mark.
    const fn confirmation_grace(&self) -> Duration {
        if self.leg.confirms_playout {
            CONFIRMATION_GRACE
        } else {
            Duration::ZERO
        }
    }

    /// Does the next thing that is due.
    pub(super) fn step(&mut self, now: Instant) -> Option<Step> {
        let grace = self.confirmation_grace();
        if let Some(sent) = self.sent.pop_front_if(|sent| sent.ends + grace <= now) {
            let outcome = if self.leg.confirms_playout {
                SegmentOutcome::Unknown
            } else {
                SegmentOutcome::Played
            };
            return Some(Step::Over(Finished {
                id: sent.id,
                outcome,
                heard: sent.duration,
            }));
        }
        let due = self.due?;
        if due > now + self.leg.lead {
            return None;
        }
        let Some(segment) = self.queue.front_mut() else {
            return self.keep_time(due, now);
        };
        if segment.began.is_none() {
            segment.began = Some(due);
            let id = segment.id;
            self.prepare_resampler();
            return Some(Step::Began(id));
        }
        if self.is_exhausted() {
            return Some(self.finish_sending(due));
        }
        self.render();
        self.due = Some(due + FRAME_DURATION);
        self.end = Some(due + FRAME_DURATION);
        let lateness = self.lateness(due, now);
        Some(Step::Frame { lateness })
    }

    /// Nothing is queued: silence on a leg that wants a frame all the time, else the clock stops.
    fn keep_time(&mut self, due: Instant, now: Instant) -> Option<Step> {
        if !self.leg.continuous {
            self.due = None;
            return None;
        }
        let lateness = self.lateness(due, now);
        // After a stall silence is left out rather than sent in a burst.
        let next = due + FRAME_DURATION;
        self.due = Some(if next < now {
            now + FRAME_DURATION
        } else {
            next
        });
        self.frame = Frame::silence(self.leg.rate);
        Some(Step::Frame { lateness })
    }

    fn lateness(&self, due: Instant, now: Instant) -> Duration {
        // What runs ahead at the start of a burst is not late, however far its place in time lies behind.
        let wanted = due
            .checked_sub(self.leg.lead)
            .unwrap_or(due)
            .max(self.restarted);
        now.saturating_duration_since(wanted)
    }

    /// The frame that [`Step::Frame`] speaks of.
    pub(super) const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The far end has played everything up to the end of segment `id`.
    pub(super) fn mark_reached(&mut self, id: SegmentId) -> Option<Finished> {
        let sent = self.sent.pop_front_if(|sent| sent.id <= id)?;
        Some(Finished {
            id: sent.id,
            outcome: SegmentOutcome::Played,
            heard: sent.duration,
        })
    }

    /// Cuts everything at once: the queue, what the resampler holds, and what the far end has not played.
    /// The outcomes come one by one; after `None` the playout is empty.
    pub(super) fn cut(&mut self, now: Instant) -> Option<Finished> {
        self.ready.clear();
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
        if !self.leg.continuous {
            self.due = None;
        }
        self.end = None;
        self.pop_cut(now)
    }

    /// Whether every segment that is queued or unconfirmed may be cut by a later response.
    pub(super) fn is_all_cancellable(&self) -> bool {
        self.sent.iter().all(|sent| sent.cancellable)
            && self.queue.iter().all(|segment| segment.speech.cancellable)
    }

    fn pop_cut(&mut self, now: Instant) -> Option<Finished> {
        if let Some(sent) = self.sent.pop_front() {
            let heard = now.saturating_duration_since(sent.began).min(sent.duration);
            return Some(Finished {
                id: sent.id,
                outcome: SegmentOutcome::Cut,
                heard,
            });
        }
        let segment = self.queue.pop_front()?;
        let Some(began) = segment.began else {
            return Some(Finished {
                id: segment.id,
                outcome: SegmentOutcome::Dropped,
                heard: Duration::ZERO,
            });
        };
        let heard = now
            .saturating_duration_since(began)
            .min(segment.sent_duration());
        Some(Finished {
            id: segment.id,
            outcome: SegmentOutcome::Cut,
            heard,
        })
    }

    /// Everything of the first segment has been rendered.
    fn is_exhausted(&self) -> bool {
        self.ready.is_empty()
            && self
                .queue
                .front()
                .is_some_and(|segment| segment.taken >= segment.speech.bytes.len())
    }

    fn finish_sending(&mut self, ends: Instant) -> Step {
        let segment = self.queue.pop_front().expect("a segment is being sent");
        let began = segment.began.expect("it has begun");
        if self.queue.is_empty() && !self.leg.continuous {
            self.due = None;
        }
        self.sent.push_back(Sent {
            id: segment.id,
            duration: segment.speech.duration(),
            began,
            ends,
            interruptible: segment.speech.interruptible,
            cancellable: segment.speech.cancellable,
        });
        Step::Sent(segment.id)
    }

    fn prepare_resampler(&mut self) {
        let Some(segment) = self.queue.front() else {
            return;
        };
        let from = segment.speech.format.rate;
        if from == self.leg.rate {
            self.resampler = None;
        } else if self
            .resampler
            .as_ref()
            .is_none_or(|resampler| resampler.from_rate() != from)
        {
            self.resampler = Some(Resampler::new(from, self.leg.rate));
        }
    }

    /// Fills the frame from the first segment; what is missing at its end is silence.
    fn render(&mut self) {
        let wanted = self.leg.rate.frame_samples();
        let Some(segment) = self.queue.front_mut() else {
            return;
        };
        while self.ready.len() < wanted && segment.taken < segment.speech.bytes.len() {
            let ready = &mut self.ready;
            match &mut self.resampler {
                None => ready.extend(segment.take(wanted)),
                Some(resampler) => {
                    let samples = segment.take(resampler.chunk_in());
                    resampler.process(samples, |sample| ready.push_back(sample));
                    // The filter still holds half a chunk: push it out with silence.
                    if segment.taken >= segment.speech.bytes.len() {
                        resampler.process([], |sample| ready.push_back(sample));
                        resampler.reset();
                    }
                }
            }
        }
        self.frame = Frame::silence(self.leg.rate);
        for slot in self.frame.samples_mut() {
            *slot = self.ready.pop_front().unwrap_or(0);
        }
    }
}

impl Segment {
    /// Takes up to `count` samples.
    fn take(&mut self, count: usize) -> impl Iterator<Item = i16> + '_ {
        let encoding = self.speech.format.encoding;
        let from = self.taken;
        let to = (from + count * encoding.bytes_per_sample()).min(self.speech.bytes.len());
        self.taken = to;
        encoding.decode(&self.speech.bytes[from..to])
    }

    /// How long what has been taken lasts.
    fn sent_duration(&self) -> Duration {
        let format = self.speech.format;
        format
            .rate
            .duration_of((self.taken / format.encoding.bytes_per_sample()) as u64)
    }
}
