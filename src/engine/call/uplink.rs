//! The caller's voice on its way to the agent: recorded from the first packet, sent to one stream after another.
//!
//! Places in it are *call-samples*: samples since the call began, at the uplink's rate. What the agent has not understood
//! yet is kept ([`History`]), so that what one stream did not finish the next can be given again (facts §8.3).
//!
//! Audio time keeps step with wall time (facts §4, §7.3): where the leg sends nothing, silence is put in; where audio
//! comes late after that, silent frames are left out until the two agree again.

use std::time::Duration;
use std::time::Instant;

use crate::engine::call::history;
use crate::engine::call::history::History;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::frame::FRAME_DURATION;
use crate::engine::media::frame::Frame;
use crate::engine::media::frame::MAX_FRAME_SAMPLES;
use crate::engine::media::frame::SampleRate;
use crate::engine::media::resample::Resampler;
use crate::engine::media::vad::Heard;
use crate::engine::media::vad::VoiceDetector;

/// How late audio may be before silence takes its place: ten packets, more than a usable network's jitter.
const LATE: Duration = Duration::from_millis(200);
/// How far audio may be ahead of wall time before silent frames are left out.
const AHEAD: Duration = Duration::from_millis(100);
/// Kept before the first voice of a stretch that is sent again: a soft beginning is found late.
const PRE_ROLL: Duration = Duration::from_millis(500);
/// Voice that goes on this long after the end of understood speech is still its tail.
const TAIL: Duration = Duration::from_millis(400);
/// For how long after their last voice a caller's audio is sent at once: longer than a recogniser waits for the end.
const PROMPTNESS: Duration = Duration::from_millis(1_500);
/// Kept when there was no voice at all: the syllable that is just beginning.
const FRESH: Duration = Duration::from_millis(200);

/// The caller's voice on its way to the agent.
pub(super) struct Uplink {
    format: AudioFormat,
    history: History,
    /// The call-sample up to which the agent has understood the caller.
    heard_to: u64,
    began: Instant,
    resampler: Option<Resampler>,
    voice: VoiceDetector,
    /// When there may have been voice, newest last.
    voiced: VoicedStretches,
    /// Where speech was last certain.
    last_voice: Option<u64>,
    /// Scratch for one message.
    chunk: Vec<u8>,
    chunk_samples: u64,
    feed: Option<Feed>,
    /// What the last stream was given.
    last_fed: Option<Fed>,
}

/// The stream that is being fed.
#[derive(Clone, Copy, Debug)]
struct Feed {
    /// Its first call-sample.
    begin: u64,
    /// The call-sample it gets next.
    next: u64,
    /// It may get call-samples up to this one at once, and from then on at twice their pace.
    free_to: u64,
    since: Instant,
}

impl Uplink {
    /// An uplink for a leg at `leg_rate`, sending chunks of `chunk` in `format`.
    pub(super) fn new(
        leg_rate: SampleRate,
        format: AudioFormat,
        chunk: Duration,
        now: Instant,
    ) -> Self {
        let chunk_samples = format.rate.samples_in(chunk).max(1);
        let resampler = (leg_rate != format.rate).then(|| Resampler::new(leg_rate, format.rate));
        Self {
            format,
            history: History::new(format),
            heard_to: 0,
            began: now,
            resampler,
            voice: VoiceDetector::new(leg_rate),
            voiced: VoicedStretches::default(),
            last_voice: None,
            chunk: Vec::with_capacity(chunk_samples as usize * format.encoding.bytes_per_sample()),
            chunk_samples,
            feed: None,
            last_fed: None,
        }
    }

    /// Records a frame from the leg; says what was found in it.
    pub(super) fn capture(&mut self, frame: &Frame, now: Instant) -> Heard {
        let heard = self.voice.hear(frame.samples());
        let ahead = self.captured().saturating_sub(self.due(now));
        if !heard.maybe_voice && ahead > self.format.rate.samples_in(AHEAD) {
            return heard;
        }
        let from = self.captured();
        self.record(frame.samples());
        if heard.maybe_voice {
            let (to, tail) = (self.captured(), self.tail());
            self.voiced.add(from, to, self.heard_to, tail);
        }
        if heard.voice {
            self.last_voice = Some(self.captured());
        }
        heard
    }

    /// Puts silence where the leg has sent nothing for too long.
    pub(super) fn fill_silence(&mut self, now: Instant) {
        let missing = self.due(now).saturating_sub(self.captured());
        if missing < self.format.rate.samples_in(LATE) {
            return;
        }
        // An upsampler's remainder belongs before the silence.
        if let Some(resampler) = &mut self.resampler {
            resampler.drop_remainder();
        }
        // A clock that jumps (a suspended machine) must not be filled for hours.
        let mut missing = missing.min(self.format.rate.samples_in(history::LONGEST)) as usize;
        while missing > 0 {
            let count = missing.min(MAX_FRAME_SAMPLES);
            self.write(&[0; MAX_FRAME_SAMPLES][..count]);
            missing -= count;
        }
    }

    /// The next moment at which something is due: a chunk to send that the pace forbids now, or silence to fill in.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let silence = self.began + self.format.rate.duration_of(self.captured()) + LATE;
        let chunk = self.next_chunk_samples();
        let paced = self
            .feed
            .filter(|feed| self.captured() >= feed.next + chunk)
            .map(|feed| {
                let ahead_by = (feed.next + chunk).saturating_sub(feed.free_to);
                feed.since + self.format.rate.duration_of(ahead_by) / 2
            });
        Some(paced.map_or(silence, |paced| paced.min(silence)))
    }

    /// Whether the caller is certainly speaking now.
    pub(super) const fn is_voice_active(&self) -> bool {
        self.voice.is_active()
    }

    /// Where the voice began that is being heard now, if any is; else here.
    pub(super) fn voice_under_way(&self) -> u64 {
        match self.voiced.last() {
            Some((from, to)) if self.captured() - to < self.format.rate.samples_in(FRESH) => {
                from.max(self.heard_to)
            }
            _ => self.captured(),
        }
    }

    /// Whether the caller may have spoken in the last 300 ms.
    pub(super) fn has_fresh_voice(&self) -> bool {
        let fresh = self.format.rate.samples_in(Duration::from_millis(300));
        let last = self.voiced.last();
        last.is_some_and(|(_, to)| self.captured() - to < fresh)
    }

    /// The call-sample up to which the agent has understood the caller.
    pub(super) const fn heard_to(&self) -> u64 {
        self.heard_to
    }

    /// Whether the caller may have spoken since then.
    pub(super) fn has_unheard_voice(&self) -> bool {
        self.unheard_voice().is_some()
    }

    /// Remembers up to where the agent has understood the caller: what was said before is never sent again.
    pub(super) const fn set_heard_to(&mut self, call_sample: u64) {
        self.heard_to = call_sample;
    }

    /// What was understood last was cut short: voice that goes on after it is no tail of it.
    pub(super) fn expect_more(&mut self) {
        self.voiced.split(self.heard_to);
    }

    /// Where a stream must begin that is to hear all voice since then, as far as it is kept.
    fn unheard_voice(&self) -> Option<u64> {
        let since = self.heard_to.max(self.history.oldest());
        let (voice, _) = self.voiced.after(since, self.tail()).next()?;
        let pre_roll = self.format.rate.samples_in(PRE_ROLL);
        Some(voice.saturating_sub(pre_roll).max(since))
    }

    /// How much voice the agent has not understood and is not kept any more.
    fn lost_voice(&self) -> u64 {
        let oldest = self.history.oldest();
        let unheard = self.voiced.after(self.heard_to, self.tail());
        unheard
            .map(|(from, to)| to.min(oldest).saturating_sub(from))
            .sum()
    }

    fn tail(&self) -> u64 {
        self.format.rate.samples_in(TAIL)
    }

    /// Begins to feed a new stream and says how much of its audio lies in the past.
    ///
    /// It begins at the first voice, if any, that the agent has not understood; without any, just before now. Voice that is
    /// no longer kept is returned as lost.
    pub(super) fn open_feed(&mut self, now: Instant) -> Opened {
        let rate = self.format.rate;
        let captured = self.captured();
        let fresh = captured
            .saturating_sub(rate.samples_in(FRESH))
            .max(self.heard_to.min(captured));
        let voice = self.unheard_voice();
        let begin = voice.map_or(fresh, |voice| voice.min(fresh));
        self.feed = Some(Feed {
            begin,
            next: begin,
            free_to: begin + 2 * self.chunk_samples,
            since: now,
        });
        Opened {
            replayed: rate.duration_of(captured - begin),
            has_voice: voice.is_some(),
            lost: rate.duration_of(self.lost_voice()),
        }
    }

    /// Stops feeding; what the stream was given stays known until the next one ends.
    pub(super) fn close_feed(&mut self) {
        self.last_fed = self.fed_or_last();
        self.feed = None;
    }

    /// Where the stream that is being fed, or else the last one, began and how far it got.
    pub(super) fn fed_or_last(&self) -> Option<Fed> {
        self.feed
            .map(|feed| Fed {
                begin: feed.begin,
                end: feed.next,
            })
            .or(self.last_fed)
    }

    /// The next message for the stream, if a whole chunk is there and the pace (at most twice real time) allows it.
    pub(super) fn next_chunk(&mut self, now: Instant) -> Option<&[u8]> {
        let chunk = self.next_chunk_samples();
        let feed = self.feed.as_mut()?;
        let end = feed.next + chunk;
        let elapsed = self
            .format
            .rate
            .samples_in(now.saturating_duration_since(feed.since));
        if end > self.history.captured() || end > feed.free_to + 2 * elapsed {
            return None;
        }
        let from = feed.next;
        feed.next = end;
        Some(self.read(from, end))
    }

    /// The stream did not take the last so many samples that it was given. It gets them again, and is caught up with.
    pub(super) fn take_back(&mut self, samples: u64, now: Instant) {
        if let Some(feed) = &mut self.feed {
            feed.next = feed.next.saturating_sub(samples).max(feed.begin);
            (feed.free_to, feed.since) = (feed.next, now);
        }
    }

    /// Whether the stream has still to be given what the caller said a while ago.
    pub(super) fn is_behind(&self) -> bool {
        let behind = |feed: Feed| self.captured().saturating_sub(feed.next);
        self.feed.map_or(0, behind) > 2 * self.chunk_samples
    }

    /// How much goes into the next message: little while the caller speaks and the agent is about to answer, when every
    /// millisecond counts; else, and when catching up, as much as is configured.
    fn next_chunk_samples(&self) -> u64 {
        let rate = self.format.rate;
        let speaks = self
            .last_voice
            .is_some_and(|at| self.captured() - at < rate.samples_in(PROMPTNESS));
        let is_behind = self
            .feed
            .is_some_and(|feed| self.captured() - feed.next >= self.chunk_samples);
        if speaks && !is_behind {
            self.chunk_samples.min(rate.samples_in(FRAME_DURATION))
        } else {
            self.chunk_samples
        }
    }

    /// Everything that is left for the stream, for a last message before it is half-closed.
    pub(super) fn rest(&mut self) -> Option<&[u8]> {
        let feed = self.feed.as_mut()?;
        let from = feed.next;
        let end = self.history.captured().min(from + self.chunk_samples);
        feed.next = end;
        (end > from).then(|| self.read(from, end))
    }

    /// The call-sample that comes next.
    pub(super) const fn captured(&self) -> u64 {
        self.history.captured()
    }

    /// The wall time of a call-sample.
    pub(super) fn wall_time(&self, call_sample: u64) -> Instant {
        self.began + self.format.rate.duration_of(call_sample)
    }

    /// How long so many samples last.
    pub(super) fn duration_of(&self, samples: u64) -> Duration {
        self.format.rate.duration_of(samples)
    }

    /// How many samples that is.
    pub(super) fn samples_in(&self, duration: Duration) -> u64 {
        self.format.rate.samples_in(duration)
    }

    /// Where speech was last certain.
    pub(super) const fn last_voice(&self) -> Option<u64> {
        self.last_voice
    }

    /// The call-sample that wall time has reached.
    fn due(&self, now: Instant) -> u64 {
        self.format
            .rate
            .samples_in(now.saturating_duration_since(self.began))
    }

    fn record(&mut self, samples: &[i16]) {
        let Some(mut resampler) = self.resampler.take() else {
            self.write(samples);
            return;
        };
        resampler.feed(samples, |resampled| self.write(resampled));
        self.resampler = Some(resampler);
    }

    fn write(&mut self, samples: &[i16]) {
        let voice = self.unheard_voice().unwrap_or(self.captured());
        let unsent = self.feed.map_or(voice, |feed| feed.next);
        self.history.add(samples, voice.min(unsent));
    }

    fn read(&mut self, from: u64, to: u64) -> &[u8] {
        self.chunk.clear();
        self.history.read(from, to, &mut self.chunk);
        &self.chunk
    }
}

/// What opening a feed found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// How much of the stream's audio lies before now.
    pub(super) replayed: Duration,
    /// Whether there may be voice in it.
    pub(super) has_voice: bool,
    /// How much voice was too old to be kept.
    pub(super) lost: Duration,
}

/// What a stream was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// Its first call-sample.
    pub(super) begin: u64,
    /// The call-sample after its last.
    pub(super) end: u64,
}

/// The stretches of the last half minute in which there may have been voice.
#[derive(Debug, Default)]
struct VoicedStretches {
    /// Oldest first, from a call-sample up to another; a few syllables apart, so that sixteen span half a minute.
    stretches: [(u64, u64); 16],
    len: usize,
}

impl VoicedStretches {
    /// Adds a stretch; close ones (within two frames) are joined. When all places are taken the oldest makes room if it was
    /// understood, up to `heard_to`, and else is joined with the next.
    fn add(&mut self, from: u64, to: u64, heard_to: u64, tail: u64) {
        const CLOSE: u64 = 640;
        if let Some(last) = self
            .len
            .checked_sub(1)
            .map(|last| &mut self.stretches[last])
            && from <= last.1 + CLOSE
        {
            last.1 = to;
            return;
        }
        if self.len == self.stretches.len() {
            if goes_on_after(self.stretches[0], heard_to, tail) {
                self.stretches[1].0 = self.stretches[0].0;
            }
            self.stretches.copy_within(1.., 0);
            self.len -= 1;
        }
        self.stretches[self.len] = (from, to);
        self.len += 1;
    }

    /// Forgets of a stretch what is before `at`.
    fn split(&mut self, at: u64) {
        for (from, to) in &mut self.stretches[..self.len] {
            if (*from..*to).contains(&at) {
                *from = at;
            }
        }
    }

    /// The newest stretch.
    fn last(&self) -> Option<(u64, u64)> {
        self.stretches[..self.len].last().copied()
    }

    /// What lies at or after `at`, oldest first.
    fn after(&self, at: u64, tail: u64) -> impl Iterator<Item = (u64, u64)> {
        let stretches = self.stretches[..self.len].iter();
        stretches
            .filter(move |stretch| goes_on_after(**stretch, at, tail))
            .map(move |(from, to)| ((*from).max(at), *to))
    }
}

/// Whether there is voice in a stretch at or after `at`. One that began before must go on for more than `tail`: recognisers end
/// words a little before the last breath.
fn goes_on_after((from, to): (u64, u64), at: u64, tail: u64) -> bool {
    to > if from < at { at + tail } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: u64 = 3_200;

    fn first_after(voiced: &VoicedStretches, at: u64) -> Option<u64> {
        voiced.after(at, TAIL).next().map(|(from, _)| from)
    }

    #[test]
    fn when_there_is_no_room_for_stretches_an_understood_one_makes_it() {
        let mut voiced = VoicedStretches::default();
        for n in 0..16 {
            voiced.add(10_000 * n, 10_000 * n + 4_000, 0, TAIL);
        }
        // The second goes on for less than a tail.
        let heard_to = 12_000;
        assert_eq!(first_after(&voiced, heard_to), Some(20_000));
        for from in [160_000, 170_000] {
            voiced.add(from, from + 4_000, heard_to, TAIL);
            assert_eq!(first_after(&voiced, heard_to), Some(20_000));
        }
        // Nothing more is understood: the two oldest are taken for one.
        voiced.add(180_000, 184_000, heard_to, TAIL);
        assert_eq!(first_after(&voiced, heard_to), Some(20_000));
        assert_eq!(first_after(&voiced, 24_000), Some(24_000));
        assert_eq!(voiced.last(), Some((180_000, 184_000)));
    }
}
