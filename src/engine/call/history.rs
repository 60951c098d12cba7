//! The caller's voice of late, in the encoding in which it is sent.
//!
//! It is as long as it must be: half a minute if nothing that the caller says is understood, a few seconds as a rule.

use std::time::Duration;

use crate::engine::media::codec::AudioFormat;

/// How much is kept at most: the longest answer of an agent during which a caller may have gone on talking.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// How much there is room for at first: more than an utterance of a few words and the answer's delay.
const SHORTEST: Duration = Duration::from_secs(4);

/// The last seconds of call-samples.
pub(super) struct History {
    format: AudioFormat,
    /// A circle: call-sample `n` is at `n % capacity`.
    bytes: Vec<u8>,
    /// In samples.
    capacity: u64,
    /// The oldest call-sample that is kept.
    oldest: u64,
    /// The call-sample that comes next.
    captured: u64,
}

impl History {
    /// Nothing yet.
    pub(super) fn new(format: AudioFormat) -> Self {
        Self {
            format,
            bytes: vec![0; format.bytes_in(SHORTEST)],
            capacity: format.rate.samples_in(SHORTEST),
            oldest: 0,
            captured: 0,
        }
    }

    /// The call-sample that comes next.
    pub(super) const fn captured(&self) -> u64 {
        self.captured
    }

    /// The oldest call-sample that is kept.
    pub(super) const fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Adds samples, and makes room for them if what they would take the place of is needed: everything from `needed` on.
    pub(super) fn add(&mut self, samples: &[i16], needed: u64) {
        // What is gone needs no room.
        let needed = needed.max(self.oldest);
        let most = self.format.rate.samples_in(LONGEST);
        let end = self.captured + samples.len() as u64;
        while self.capacity < most && end.saturating_sub(self.capacity) > needed {
            self.grow(most);
        }
        self.oldest = self.oldest.max(end.saturating_sub(self.capacity));
        let mut rest = samples;
        while !rest.is_empty() {
            let (place, run) = self.run(self.captured, rest.len());
            let (now, later) = rest.split_at(run);
            self.format.encoding.encode(now, &mut self.bytes[place]);
            self.captured += run as u64;
            rest = later;
        }
    }

    /// Appends call-samples to `out`; those no longer kept become silence.
    ///
    /// # Panics
    /// If they are still to come.
    pub(super) fn read(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        assert!(to <= self.captured, "nobody hears what is not said yet");
        let kept = from.max(self.oldest).min(to);
        let lost = (kept - from) as usize * self.format.encoding.bytes_per_sample();
        out.resize(out.len() + lost, self.format.encoding.silence());
        let mut at = kept;
        while at < to {
            let (place, run) = self.run(at, (to - at) as usize);
            out.extend_from_slice(&self.bytes[place]);
            at += run as u64;
        }
    }

    /// The bytes of so many call-samples from `at` on, or of as many as are in one piece, and how many those are.
    fn run(&self, at: u64, count: usize) -> (std::ops::Range<usize>, usize) {
        let width = self.format.encoding.bytes_per_sample();
        let place = at % self.capacity;
        let run = count.min((self.capacity - place) as usize);
        let begin = place as usize * width;
        (begin..begin + run * width, run)
    }

    /// Doubles the room, up to `most`: three times in a call, at most.
    fn grow(&mut self, most: u64) {
        let capacity = most.min(2 * self.capacity);
        let width = self.format.encoding.bytes_per_sample();
        let mut larger = Self {
            format: self.format,
            bytes: vec![0; capacity as usize * width],
            capacity,
            oldest: self.oldest,
            captured: self.captured,
        };
        let mut at = self.oldest;
        while at < self.captured {
            let (from, ours) = self.run(at, (self.captured - at) as usize);
            let (to, run) = larger.run(at, ours);
            larger.bytes[to].copy_from_slice(&self.bytes[from.start..from.start + run * width]);
            at += run as u64;
        }
        *self = larger;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::media::codec::Encoding;
    use crate::engine::media::frame::SampleRate;

    const FORMAT: AudioFormat = AudioFormat {
        encoding: Encoding::Linear16,
        rate: SampleRate::HZ_8000,
    };

    /// Every sample tells its place.
    fn said(from: u64, to: u64) -> Vec<i16> {
        (from..to).map(|n| (n % 31_991) as i16).collect()
    }

    fn read(history: &History, from: u64, to: u64) -> Vec<i16> {
        let mut out = Vec::new();
        history.read(from, to, &mut out);
        let mut samples = Vec::new();
        FORMAT.encoding.decode(&out, &mut samples);
        samples
    }

    proptest! {
        #[test]
        fn what_is_needed_is_kept_for_half_a_minute(
            steps in prop::collection::vec((1..9_000_u64, 0..300_000_u64), 1..80),
        ) {
            let mut history = History::new(FORMAT);
            for (count, back) in steps {
                let (oldest, captured) = (history.oldest(), history.captured());
                // What is gone is gone, whoever needs it.
                let needed = captured.saturating_sub(back);
                history.add(&said(captured, captured + count), needed);
                let captured = captured + count;
                prop_assert_eq!(history.captured(), captured);
                let most = needed.max(captured.saturating_sub(240_000)).max(oldest);
                prop_assert!(history.oldest() <= most);
                prop_assert_eq!(read(&history, history.oldest(), captured), said(history.oldest(), captured));
                prop_assert!(history.bytes.len() <= 2 * 240_000);
            }
        }
    }

    #[test]
    fn what_nobody_needs_takes_no_room_and_reads_as_silence() {
        let mut history = History::new(FORMAT);
        for n in 0..3_000 {
            history.add(&said(160 * n, 160 * (n + 1)), 160 * n);
        }
        assert_eq!(history.bytes.len(), 2 * 4 * 8_000);
        let (oldest, captured) = (history.oldest(), history.captured());
        assert_eq!(captured - oldest, 4 * 8_000);
        let heard = read(&history, oldest - 10, oldest + 10);
        assert_eq!(heard, [vec![0; 10], said(oldest, oldest + 10)].concat());
        assert_eq!(read(&history, 0, 5), [0; 5]);
    }
}
