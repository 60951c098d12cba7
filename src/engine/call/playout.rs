//! The agent's voice on its way to the caller: a queue of segments, paced in frames of 20 ms.
//!
//! Every segment ends in exactly one [`SegmentOutcome`]. What was *heard* is never what was queued: on a leg that
//! confirms playout it is what a mark confirms, elsewhere what the clock says; and on a cut it is the time since the
//! segment's first frame, bounded by what was sent.
//!
//! A segment may be *ducked*: it goes on more quietly, until it is cut or restored. Restored, it goes back to where the
//! duck began, so that the caller misses nothing; therefore none ends while it is ducked. A segment may also wait for its
//! clip, which is still being fetched; what follows it waits too.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use crate::engine::call::event::ClipId;
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
/// Segments that may wait; an agent that answers with more is broken. One that speaks as it thinks answers with a few each second.
const MAX_SEGMENTS: usize = 1_024;
/// How long those may last altogether that wait.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// For so many segments there is room from the beginning.
const USUAL_SEGMENTS: usize = 8;

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
        self.format.duration_of_bytes(self.bytes.len())
    }

    /// Where in the bytes the sample after `duration` is.
    fn bytes_in(&self, duration: Duration) -> usize {
        self.format.bytes_in(duration).min(self.bytes.len())
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
    duck: Option<Duck>,
    /// How loud the frames are played, of [`FULL_VOLUME`], and how loud they shall be.
    volume: i32,
    wanted_volume: i32,
    resampler: Option<Resampler>,
    /// Samples at the leg's rate that do not yet fill a frame.
    ready: Vec<i16>,
    /// A chunk on its way to the resampler.
    decoded: Vec<i16>,
    frame: Frame,
    /// The nominal end of the last frame that was sent.
    end: Option<Instant>,
}

/// Where the prompt was when it was ducked.
#[derive(Clone, Copy, Debug)]
struct Duck {
    /// How much of the segment had been heard.
    heard: Duration,
}

/// The volume at which nothing is changed.
const FULL_VOLUME: i32 = 1 << 15;

/// A segment in the queue.
struct Segment {
    id: SegmentId,
    speech: Speech,
    /// The clip that it still waits for, of which `speech` is to become the sound.
    awaits: Option<ClipId>,
    /// Whether it only passes the time until the agent speaks.
    is_hold: bool,
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
        /// When it is nominally heard.
        at: Instant,
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
            queue: VecDeque::with_capacity(USUAL_SEGMENTS),
            sent: VecDeque::with_capacity(USUAL_SEGMENTS),
            due: leg.continuous.then_some(now),
            paused: None,
            restarted: now,
            duck: None,
            volume: FULL_VOLUME,
            wanted_volume: FULL_VOLUME,
            resampler: None,
            // A chunk may be 40 ms at odd rates, and a frame may already wait.
            ready: Vec::with_capacity(4 * leg.rate.frame_samples()),
            decoded: Vec::new(),
            frame: Frame::silence(leg.rate),
            end: None,
        }
    }

    /// Queues a piece of speech; `None` when it is empty or the queue is full.
    pub(super) fn push(&mut self, speech: Speech, now: Instant) -> Option<SegmentId> {
        if speech.bytes.is_empty() || self.is_full(now) {
            return None;
        }
        let segment = self.segment(speech);
        let id = segment.id;
        self.queue.push_back(segment);
        self.start_clock(now);
        Some(id)
    }

    /// Queues a clip that is still being fetched: `speech` without its sound. `None` when the queue is full.
    pub(super) fn push_awaited(
        &mut self,
        clip: ClipId,
        speech: Speech,
        now: Instant,
    ) -> Option<SegmentId> {
        if self.is_full(now) {
            return None;
        }
        let mut segment = self.segment(speech);
        segment.awaits = Some(clip);
        let id = segment.id;
        self.queue.push_back(segment);
        Some(id)
    }

    /// A clip is here: how it sounds and how that is written.
    pub(super) fn fill(&mut self, clip: ClipId, bytes: Bytes, format: AudioFormat, now: Instant) {
        let mut waiting = self.queue.iter_mut();
        if let Some(segment) = waiting.find(|segment| segment.awaits == Some(clip)) {
            segment.awaits = None;
            segment.speech.bytes = bytes;
            segment.speech.format = format;
            self.start_clock(now);
        }
    }

    /// A clip will not come.
    pub(super) fn drop_clip(&mut self, clip: ClipId, now: Instant) -> Option<Finished> {
        let mut queue = self.queue.iter();
        let at = queue.position(|segment| segment.awaits == Some(clip))?;
        let segment = self.queue.remove(at)?;
        if !self.queue.is_empty() {
            self.start_clock(now);
        }
        Some(segment.dropped())
    }

    /// Plays this before everything else, while nothing is heard; it gives way by [`Self::cut_hold`].
    pub(super) fn push_hold(&mut self, speech: Speech, now: Instant) -> Option<SegmentId> {
        if speech.bytes.is_empty() || self.is_audible(now) {
            return None;
        }
        let mut segment = self.segment(speech);
        segment.is_hold = true;
        let id = segment.id;
        self.queue.push_front(segment);
        self.start_clock(now);
        Some(id)
    }

    /// Whether what is heard only passes the time.
    pub(super) fn is_holding(&self) -> bool {
        self.queue.front().is_some_and(|segment| segment.is_hold)
    }

    /// Whether nothing is to be heard but what passes the time.
    pub(super) fn is_only_holding(&self) -> bool {
        self.is_holding() && self.queue.len() == 1 && self.sent.is_empty()
    }

    /// Ends what only passes the time; nothing else is touched.
    pub(super) fn cut_hold(&mut self, now: Instant) -> Option<Finished> {
        if !self.is_holding() {
            return None;
        }
        self.flush();
        let segment = self.queue.pop_front()?;
        if self.due.is_some() && self.queue.is_empty() && !self.leg.continuous {
            self.due = None;
        }
        // What the far end still had of it has been thrown away.
        self.end = None;
        Some(segment.cut(now))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.queue.len() >= MAX_SEGMENTS || self.remaining(now) > LONGEST
    }

    fn segment(&mut self, speech: Speech) -> Segment {
        let id = SegmentId(self.next_id);
        self.next_id += 1;
        Segment {
            id,
            speech,
            awaits: None,
            is_hold: false,
            taken: 0,
            began: None,
        }
    }

    fn start_clock(&mut self, now: Instant) {
        if self.due.is_none() && self.paused.is_none() {
            // What is still being heard at the far end comes first.
            self.due = Some(self.end.map_or(now, |end| end.max(now)));
            self.restarted = now;
        }
    }

    /// Makes what is being heard `decibels` quieter; `false` if there is nothing that could be.
    pub(super) fn duck(&mut self, decibels: u8, now: Instant) -> bool {
        let heard = self.queue.front().and_then(|segment| {
            let began = segment.began?;
            let heard = now.saturating_duration_since(began);
            Some(heard.min(segment.sent_duration()))
        });
        let Some(heard) = heard.filter(|_| self.duck.is_none()) else {
            return false;
        };
        self.duck = Some(Duck { heard });
        let factor = 10_f32.powf(-f32::from(decibels) / 20.0);
        self.wanted_volume = (factor * FULL_VOLUME as f32) as i32;
        true
    }

    /// Whether the prompt is ducked.
    pub(super) const fn is_ducked(&self) -> bool {
        self.duck.is_some()
    }

    /// Lets a ducked prompt go on as loud as before, from where it was when it was ducked.
    pub(super) fn restore(&mut self, now: Instant) {
        let Some(duck) = self.duck.take() else { return };
        self.wanted_volume = FULL_VOLUME;
        self.forget_rendered();
        let next = self.due.unwrap_or(now);
        if let Some(segment) = self.queue.front_mut() {
            segment.taken = segment.speech.bytes_in(duck.heard);
            segment.began = next.checked_sub(duck.heard).or(segment.began);
        }
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
        self.sent.iter().any(|sent| sent.ends > now)
            || self
                .queue
                .front()
                .is_some_and(|segment| segment.awaits.is_none())
    }

    /// Whether a segment is being heard: not silence, not what is only about to come, nor what has all been sent.
    pub(super) fn is_sounding(&self) -> bool {
        let began = |segment: &Segment| segment.began.is_some();
        self.queue.front().is_some_and(began) && !self.is_exhausted()
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
        let Some(segment) = self
            .queue
            .front_mut()
            .filter(|segment| segment.awaits.is_none())
        else {
            return self.keep_time(due, now);
        };
        if segment.began.is_none() {
            segment.began = Some(due);
            let id = segment.id;
            self.prepare_resampler();
            return Some(Step::Began(id));
        }
        if self.is_exhausted() && self.duck.is_none() {
            return Some(self.finish_sending(due));
        }
        self.render();
        self.due = Some(due + FRAME_DURATION);
        self.end = Some(due + FRAME_DURATION);
        let lateness = self.lateness(due, now);
        Some(Step::Frame { lateness, at: due })
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
        Some(Step::Frame { lateness, at: due })
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
        self.flush();
        if !self.leg.continuous {
            self.due = None;
        }
        self.end = None;
        self.pop_cut(now)
    }

    /// Forgets what lies between the queue and the leg.
    fn flush(&mut self) {
        self.forget_rendered();
        self.duck = None;
        self.volume = FULL_VOLUME;
        self.wanted_volume = FULL_VOLUME;
    }

    fn forget_rendered(&mut self) {
        self.ready.clear();
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
    }

    /// Whether every segment that is queued or unconfirmed may be cut by a later response.
    pub(super) fn is_all_cancellable(&self) -> bool {
        self.sent.iter().all(|sent| sent.cancellable)
            && self.queue.iter().all(|segment| segment.speech.cancellable)
    }

    /// Drops the next segment that may be cut by a later response and has not begun.
    pub(super) fn drop_cancellable(&mut self) -> Option<Finished> {
        let mut queue = self.queue.iter();
        let at = queue.position(|segment| segment.speech.cancellable && segment.began.is_none())?;
        self.queue.remove(at).map(|segment| segment.dropped())
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
        Some(segment.cut(now))
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
            let resampler = Resampler::new(from, self.leg.rate);
            self.decoded.reserve(resampler.chunk_in());
            self.resampler = Some(resampler);
        }
    }

    /// Fills the frame from the first segment; what is missing at its end is silence.
    fn render(&mut self) {
        let wanted = self.leg.rate.frame_samples();
        let Some(segment) = self.queue.front_mut() else {
            return;
        };
        while self.ready.len() < wanted && segment.taken < segment.speech.bytes.len() {
            match &mut self.resampler {
                None => segment.take(wanted, &mut self.ready),
                Some(resampler) => {
                    self.decoded.clear();
                    segment.take(resampler.chunk_in(), &mut self.decoded);
                    self.ready
                        .extend_from_slice(resampler.process(&self.decoded));
                    // The filter still holds half a chunk: push it out with silence.
                    if segment.taken >= segment.speech.bytes.len() {
                        self.ready.extend_from_slice(resampler.process(&[]));
                        resampler.reset();
                    }
                }
            }
        }
        self.frame = Frame::silence(self.leg.rate);
        let count = self.ready.len().min(wanted);
        self.frame.samples_mut()[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        self.apply_volume();
    }

    /// A step in volume clicks, so it is taken over one frame.
    fn apply_volume(&mut self) {
        let (from, to) = (self.volume, self.wanted_volume);
        if from == FULL_VOLUME && to == FULL_VOLUME {
            return;
        }
        let samples = self.frame.samples_mut();
        let count = samples.len().max(1) as i32;
        for (i, sample) in samples.iter_mut().enumerate() {
            let volume = from + (to - from) * i as i32 / count;
            *sample = (i32::from(*sample) * volume / FULL_VOLUME) as i16;
        }
        self.volume = to;
    }
}

impl Segment {
    /// How it ends when it is cut now.
    fn cut(self, now: Instant) -> Finished {
        let Some(began) = self.began else {
            return self.dropped();
        };
        let heard = now.saturating_duration_since(began);
        Finished {
            id: self.id,
            outcome: SegmentOutcome::Cut,
            heard: heard.min(self.sent_duration()),
        }
    }

    /// How it ends when it has never begun.
    const fn dropped(&self) -> Finished {
        Finished {
            id: self.id,
            outcome: SegmentOutcome::Dropped,
            heard: Duration::ZERO,
        }
    }

    /// Takes up to `count` samples and appends them to `out`.
    fn take(&mut self, count: usize, out: &mut Vec<i16>) {
        let encoding = self.speech.format.encoding;
        let from = self.taken;
        let to = (from + count * encoding.bytes_per_sample()).min(self.speech.bytes.len());
        self.taken = to;
        encoding.decode(&self.speech.bytes[from..to], out);
    }

    /// How long what has been taken lasts.
    fn sent_duration(&self) -> Duration {
        self.speech.format.duration_of_bytes(self.taken)
    }
}
