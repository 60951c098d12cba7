//! Is there a voice? By `earshot`, a small neural detector (8 µs a frame) that knows speech from noise.
//!
//! It informs; it never gates: what the agent hears is not for a local detector to choose. Two answers are given.
//! *Voice* is confident and steady, for deciding on the turn. *Maybe voice* is generous, for deciding what is worth
//! sending again: a quiet syllable lost is worse than a breath repeated.

use dasp::Sample;

use crate::frame::MAX_FRAME_SAMPLES;
use crate::frame::SampleRate;
use crate::resample::Resampler;

/// The detector's own block: exactly 16 ms at 16 kHz.
const BLOCK: usize = 256;
/// The detector's probability from which a block is voice. Measured through mu-law at 8 kHz: speech 0.65 to 0.9 in its
/// voiced parts, even at −50 dBFS; white noise at −27 dBFS 0.6; a quiet line 0.15 to 0.3, which is why there is a bar at
/// all for digital silence.
const VOICE: f32 = 0.65;
/// The probability from which a block is worth keeping: reached in every syllable; line noise at −45 dBFS settles at 0.3.
const MAYBE_VOICE: f32 = 0.42;
/// Below this level nothing is worth keeping, whatever the detector thinks of it.
const AUDIBLE_DBFS: f32 = -60.0;
/// Above this level everything is: a voice that the detector does not know must not be lost.
const LOUD_DBFS: f32 = -35.0;
/// Voiced blocks in a row that begin an utterance: 48 ms, longer than a click.
const ONSET_BLOCKS: u32 = 3;
/// Unvoiced blocks in a row that end it: 240 ms, longer than the gap of a stop consonant.
const HANG_BLOCKS: u32 = 15;

/// Listens to one direction of one call.
pub struct VoiceDetector {
    detector: earshot::Detector,
    upsampler: Option<Resampler>,
    block: Vec<i16>,
    voiced: u32,
    unvoiced: u32,
    active: bool,
}

/// What was found in the samples of one call to [`VoiceDetector::hear`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// There was certainly voice.
    pub voice: bool,
    /// There may have been voice.
    pub maybe_voice: bool,
}

impl VoiceDetector {
    /// A detector for samples at `rate`.
    pub fn new(rate: SampleRate) -> Self {
        let upsampler =
            (rate != SampleRate::HZ_16000).then(|| Resampler::new(rate, SampleRate::HZ_16000));
        let block = upsampler
            .as_ref()
            .map_or(MAX_FRAME_SAMPLES, Resampler::chunk_out);
        Self {
            detector: earshot::Detector::default(),
            upsampler,
            block: Vec::with_capacity(BLOCK + block),
            voiced: 0,
            unvoiced: 0,
            active: false,
        }
    }

    /// Whether the caller is speaking: three voiced blocks have begun it and no pause has ended it.
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// Listens to the next samples, best a frame at a time.
    pub fn hear(&mut self, samples: &[i16]) -> Heard {
        let mut heard = Heard::default();
        // Most of a call is silence, and the detector costs more than all the rest of a frame together.
        if level_dbfs(samples) <= AUDIBLE_DBFS {
            if let Some(upsampler) = &mut self.upsampler {
                upsampler.drop_remainder();
            }
            self.block.clear();
            self.count(false);
            return heard;
        }
        let Some(mut upsampler) = self.upsampler.take() else {
            self.take(samples, &mut heard);
            return heard;
        };
        upsampler.feed(samples, |upsampled| self.take(upsampled, &mut heard));
        self.upsampler = Some(upsampler);
        heard
    }

    fn take(&mut self, samples: &[i16], heard: &mut Heard) {
        self.block.extend_from_slice(samples);
        while self.block.len() >= BLOCK {
            self.judge(heard);
        }
    }

    fn judge(&mut self, heard: &mut Heard) {
        let probability = self.detector.predict_i16(&self.block[..BLOCK]);
        let level = level_dbfs(&self.block[..BLOCK]);
        self.block.drain(..BLOCK);
        heard.maybe_voice |=
            level > LOUD_DBFS || (probability >= MAYBE_VOICE && level > AUDIBLE_DBFS);
        heard.voice |= probability >= VOICE;
        self.count(probability >= VOICE);
    }

    fn count(&mut self, voiced: bool) {
        if voiced {
            self.voiced += 1;
            self.unvoiced = 0;
            self.active |= self.voiced >= ONSET_BLOCKS;
        } else {
            self.unvoiced = self.unvoiced.saturating_add(1);
            self.voiced = 0;
            self.active &= self.unvoiced < HANG_BLOCKS;
        }
    }
}

/// The level of a block against a full-scale square wave.
fn level_dbfs(block: &[i16]) -> f32 {
    let power: f32 = block
        .iter()
        .map(|sample| sample.to_sample::<f32>().powi(2))
        .sum();
    10.0 * (power / block.len().max(1) as f32).max(1e-10).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use crate::testing::voice;

    /// The share of frames with what may be voice, and whether the caller was ever found to be speaking.
    fn listen(samples: &[i16]) -> (f64, bool) {
        let mut detector = VoiceDetector::new(SampleRate::HZ_8000);
        let (mut maybe, mut active) = (0, false);
        for frame in samples.chunks(160) {
            maybe += u32::from(detector.hear(frame).maybe_voice);
            active |= detector.is_active();
        }
        (f64::from(maybe) / (samples.len() as f64 / 160.0), active)
    }

    #[test]
    fn silence_and_the_noise_of_a_line_are_not_worth_keeping() {
        assert_eq!(listen(&[0; 16_000]), (0.0, false));
        assert_eq!(listen(&noise(30, 16_000)), (0.0, false));
        let (maybe, active) = listen(&noise(200, 32_000));
        assert!(maybe < 0.1 && !active, "{maybe}");
    }

    #[test]
    fn a_voice_is_found_loud_or_quiet() {
        for divisor in [1, 8, 16] {
            let samples: Vec<i16> = voice(16_000)
                .iter()
                .map(|sample| sample / divisor)
                .collect();
            let (maybe, active) = listen(&samples);
            assert!(maybe > 0.3 && active, "one {divisor}th: {maybe}");
        }
    }

    #[test]
    fn a_voice_of_usual_level_is_found_in_time_for_what_is_kept_before_it() {
        // What is sent again begins 500 ms before the first find.
        for divisor in [1, 4] {
            let samples: Vec<i16> = voice(8 * 500)
                .iter()
                .map(|sample| sample / divisor)
                .collect();
            let (maybe, _) = listen(&samples);
            assert!(maybe > 0.0, "one {divisor}th: not in the first 500 ms");
        }
    }

    #[test]
    fn the_end_of_a_voice_is_found() {
        let mut detector = VoiceDetector::new(SampleRate::HZ_8000);
        detector.hear(&voice(8_000));
        assert!(detector.is_active());
        for _ in 0..25 {
            detector.hear(&[0; 160]);
        }
        assert!(!detector.is_active());
        assert_eq!(detector.hear(&[0; 8_000]), Heard::default());
    }

    #[test]
    fn loud_noise_is_no_voice_but_is_kept() {
        let (maybe, active) = listen(&noise(3_000, 16_000));
        assert!(maybe > 0.9 && !active);
    }
}
