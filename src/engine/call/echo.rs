//! How loud a caller must be to be told from the echo of our own prompt.
//!
//! What we play comes back on many lines: from a loudspeaker, from an analogue hybrid. It is quieter by some amount and
//! later by some time; both stay the same for most of a call. So the levels of what is played and of what is heard are
//! compared, frame by frame, at every delay that a line may have: where the two rise and fall together, that delay and the
//! difference in level are the echo's (field notes 15 to 17). Until that is known, a line is taken to have an echo that is
//! [`ASSUMED_DB`] quieter than the prompt.
//!
//! All levels are in dBFS of frames of 20 ms; places in time are frames since the call began.

use crate::engine::media::frame::Frame;

/// Delays that are looked at, in frames: up to 0.8 s, of which a mobile call over a packet network needs half.
const DELAYS: usize = 40;
/// Frames of our own that are remembered.
const PLAYED: usize = 64;
/// Below this there is nothing to hear, neither of us nor of an echo of us.
const QUIET_DBFS: f32 = -50.0;
/// Levels are not looked at below this: how silent silence is tells nothing.
const FLOOR_DBFS: f32 = -65.0;
/// How much of what was learned is kept from one frame to the next: it is half forgotten after about six seconds of prompt.
const MEMORY: f32 = 0.9977;
/// Frames of prompt after which there is an opinion: a second and a half.
const ENOUGH: f32 = 70.0;
/// From this correlation on, what comes back is an echo.
const ECHO: f32 = 0.8;
/// Up to this one it is none: chance reaches it at one delay or another.
const NO_ECHO: f32 = 0.6;
/// A level that changes less than this, in dB² of variance, cannot be compared.
const STEADY: f32 = 4.0;
/// How loud an echo may be until it is known.
const ASSUMED_DB: f32 = -16.0;
/// How loud an echo may be where none has been found.
const NOT_FOUND_DB: f32 = -30.0;
/// How much louder than its usual level an echo may be in a frame.
const MARGIN_DB: f32 = 9.0;
/// How fast what was played fades from a room, in dB per frame.
const DECAY_DB: f32 = 1.0;
/// Frames of our own that may still be in the room, or late, when the delay is known.
const REVERBERATION: usize = 12;

/// Compares what is played with what is heard.
pub(super) struct Echo {
    /// The level of our frame `n` at `n % PLAYED`, and its `n`.
    played: [(u64, f32); PLAYED],
    lags: [Lag; DELAYS],
}

/// What is known of one delay, in leaky sums over frames of prompt.
#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    count: f32,
    ours: f32,
    theirs: f32,
    ours_squared: f32,
    theirs_squared: f32,
    product: f32,
    /// The frames in which there was something to come back, and by how much louder it came.
    loud: f32,
    gain: f32,
}

impl Echo {
    pub(super) const fn new() -> Self {
        Self {
            played: [(u64::MAX, FLOOR_DBFS); PLAYED],
            lags: [Lag {
                count: 0.0,
                ours: 0.0,
                theirs: 0.0,
                ours_squared: 0.0,
                theirs_squared: 0.0,
                product: 0.0,
                loud: 0.0,
                gain: 0.0,
            }; DELAYS],
        }
    }

    /// Our frame that is heard at `at`.
    pub(super) fn played(&mut self, frame: &Frame, at: u64) {
        self.played[at as usize % PLAYED] = (at, level(frame));
    }

    /// The caller's frame that arrived at `at`, and how loud it must be not to be our echo.
    pub(super) fn heard(&mut self, frame: &Frame, at: u64) -> Loudness {
        let level = level(frame);
        let recent = (0..DELAYS).map(|delay| self.ours(at, delay));
        let loudest = recent.fold(FLOOR_DBFS, f32::max);
        if loudest < QUIET_DBFS {
            return Loudness {
                level,
                bar: FLOOR_DBFS,
                is_known: false,
            };
        }
        let (bar, is_known) = self.bar(at);
        // What is louder than a known echo is the caller, of whom nothing can be learned.
        if !is_known || level <= bar {
            for delay in 0..DELAYS {
                let ours = self.ours(at, delay);
                self.lags[delay].learn(ours, level);
            }
        }
        Loudness {
            level,
            bar,
            is_known,
        }
    }

    /// How loud an echo may be in frame `at`, and whether there is one for certain.
    fn bar(&self, at: u64) -> (f32, bool) {
        let recent = (0..DELAYS).map(|delay| self.ours(at, delay));
        let loudest = recent.fold(FLOOR_DBFS, f32::max);
        let lags = self.lags.iter().enumerate();
        let best = lags
            .map(|(delay, lag)| (delay, lag.correlation()))
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .filter(|_| self.lags[0].is_telling());
        match best {
            Some((delay, correlation)) if correlation >= ECHO => {
                let from = delay.saturating_sub(2);
                let later = (from..delay + REVERBERATION).map(|later| {
                    let fading = later.saturating_sub(delay) as f32 * DECAY_DB;
                    self.ours(at, later) - fading
                });
                let expected = later.fold(FLOOR_DBFS, f32::max) + self.lags[delay].gain();
                (expected + MARGIN_DB, true)
            }
            Some((_, correlation)) if correlation < NO_ECHO => (loudest + NOT_FOUND_DB, false),
            _ => (loudest + ASSUMED_DB, false),
        }
    }

    /// How loud we were `delay` frames before `at`.
    fn ours(&self, at: u64, delay: usize) -> f32 {
        let Some(then) = at.checked_sub(delay as u64) else {
            return FLOOR_DBFS;
        };
        match self.played[then as usize % PLAYED] {
            (place, level) if place == then => level,
            _ => FLOOR_DBFS,
        }
    }
}

/// How loud the caller is, and how loud our echo may be, in dBFS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loudness {
    level: f32,
    bar: f32,
    is_known: bool,
}

impl Loudness {
    /// Whether the line has an echo for certain.
    pub(super) const fn is_echo_known(self) -> bool {
        self.is_known
    }

    /// How loud the caller is, in dBFS.
    pub(super) const fn level(self) -> f32 {
        self.level
    }

    /// Whether this is more than our echo can be.
    pub(super) fn is_above_echo(self) -> bool {
        self.level > self.bar
    }

    /// Whether this may be our echo: there is something, and we were to be heard a moment ago.
    pub(super) fn may_be_echo(self) -> bool {
        self.bar > FLOOR_DBFS && self.level > QUIET_DBFS - MARGIN_DB && !self.is_above_echo()
    }
}

impl Lag {
    fn learn(&mut self, ours: f32, theirs: f32) {
        let keep = |sum: &mut f32, value: f32| *sum = *sum * MEMORY + value;
        keep(&mut self.count, 1.0);
        keep(&mut self.ours, ours);
        keep(&mut self.theirs, theirs);
        keep(&mut self.ours_squared, ours * ours);
        keep(&mut self.theirs_squared, theirs * theirs);
        keep(&mut self.product, ours * theirs);
        if ours > QUIET_DBFS {
            keep(&mut self.loud, 1.0);
            keep(&mut self.gain, theirs - ours);
        }
    }

    /// Whether our own level has changed enough to be found again.
    fn is_telling(&self) -> bool {
        self.count >= ENOUGH && self.variance(self.ours, self.ours_squared) >= STEADY
    }

    fn variance(&self, sum: f32, squares: f32) -> f32 {
        let count = self.count.max(1.0);
        squares / count - (sum / count).powi(2)
    }

    /// How much the two rise and fall together, from −1 to 1; 0 where one of them does neither.
    fn correlation(&self) -> f32 {
        let count = self.count.max(1.0);
        let ours = self.variance(self.ours, self.ours_squared);
        let theirs = self.variance(self.theirs, self.theirs_squared);
        if ours < STEADY || theirs < STEADY {
            return 0.0;
        }
        let both = self.product / count - self.ours / count * (self.theirs / count);
        both / (ours * theirs).sqrt()
    }

    /// How much louder what comes back is, in dB; mostly negative.
    fn gain(&self) -> f32 {
        (self.gain / self.loud.max(1.0)).clamp(-45.0, 0.0)
    }
}

/// The level of a frame, against a full-scale square wave.
fn level(frame: &Frame) -> f32 {
    let samples = frame.samples();
    let power: i64 = samples.iter().map(|sample| i64::from(*sample).pow(2)).sum();
    let mean = power as f32 / samples.len().max(1) as f32 / 32_768_f32.powi(2);
    (10.0 * mean.max(1e-10).log10()).max(FLOOR_DBFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::media::frame::SampleRate;
    use crate::engine::media::testing::voice;

    const FRAME: usize = 160;

    /// Speech in frames, `gain_db` louder, beginning somewhere in the middle of it.
    fn speech(from: usize, frames: usize, gain_db: f32) -> Vec<Frame> {
        let gain = 10_f32.powf(gain_db / 20.0);
        let samples = voice((from + frames) * FRAME);
        let pieces = samples[from * FRAME..].chunks(FRAME);
        let louder = pieces.map(|piece| {
            let piece: Vec<i16> = piece
                .iter()
                .map(|s| (f32::from(*s) * gain) as i16)
                .collect();
            Frame::new(SampleRate::HZ_8000, &piece)
        });
        louder.collect()
    }

    fn silence() -> Frame {
        Frame::silence(SampleRate::HZ_8000)
    }

    /// Plays `ours` and hears `theirs`; which of the frames with speech were above the bar, of those from `from` on.
    fn above(echo: &mut Echo, ours: &[Frame], theirs: &[Frame], from: usize) -> (usize, usize) {
        let (mut above, mut loud) = (0, 0);
        for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            echo.played(ours, at as u64);
            let loudness = echo.heard(theirs, at as u64);
            if at >= from && level(theirs) > -45.0 {
                loud += 1;
                above += usize::from(loudness.is_above_echo());
            }
        }
        (above, loud)
    }

    fn delayed(frames: &[Frame], by: usize) -> Vec<Frame> {
        let mut delayed = vec![silence(); by];
        delayed.extend_from_slice(frames);
        delayed
    }

    #[test]
    fn an_echo_is_below_the_bar_from_the_first_word_whatever_its_delay() {
        for delay in [2, 7, 15, 30] {
            for gain in [-18.0, -20.0, -30.0] {
                let ours = speech(0, 500, 0.0);
                let echo_of_ours = delayed(&speech(0, 500, gain), delay);
                let (above, _) = above(&mut Echo::new(), &ours, &echo_of_ours, 0);
                assert!(above <= 3, "delay {delay}, gain {gain}: {above} frames");
            }
        }
    }

    #[test]
    fn a_caller_is_above_the_bar_with_and_without_an_echo() {
        for (gain, caller) in [(-20.0, -6.0), (-60.0, -6.0), (-60.0, -16.0), (-30.0, -10.0)] {
            let ours = speech(0, 600, 0.0);
            // First the echo alone, then the caller in its place, who says something else.
            let mut theirs = delayed(&speech(0, 400, gain), 8);
            theirs.extend(speech(730, 192, caller));
            let (above, loud) = above(&mut Echo::new(), &ours, &theirs, 408);
            assert!(
                2 * above > loud,
                "echo {gain}, caller {caller}: {above} of {loud}"
            );
        }
    }

    #[test]
    fn a_strong_echo_is_learned() {
        let ours = speech(0, 1_000, -6.0);
        let theirs = delayed(&speech(0, 1_000, -13.0), 10);
        let (above, loud) = above(&mut Echo::new(), &ours, &theirs, 200);
        assert!(above * 50 < loud, "{above} of {loud}");
    }

    #[test]
    fn nothing_is_an_echo_where_nothing_was_played() {
        let theirs = speech(0, 300, -10.0);
        let ours = vec![silence(); 300];
        let (above, loud) = above(&mut Echo::new(), &ours, &theirs, 0);
        assert_eq!(above, loud);
        assert!(loud > 20);
    }
}
