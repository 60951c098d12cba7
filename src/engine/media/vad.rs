//! Is there a voice? By `earshot`, a small neural detector (8 µs a frame) that knows speech from noise.
//!
//! It informs; it never gates: what the agent hears is not for a local detector to choose. Two answers are given.
//! *Voice* is confident and steady, for deciding on the turn. *Maybe voice* is generous, for deciding what is worth
//! sending again: a quiet syllable lost is worse than a breath repeated.

use crate::engine::media::frame::SampleRate;
use crate::engine::media::resample::Resampler;

/// The detector's own block: exactly 16 ms at 16 kHz.
const BLOCK: usize = 256;
/// The detector's probability above which a block is voice. Flite and espeak speech at −10 to −35 dBFS through mu-law
/// scores above 0.8 in its voiced parts, white noise and tones below 0.2 (see the tests).
const VOICE: f32 = 0.5;
/// The probability above which a block is worth keeping.
const MAYBE_VOICE: f32 = 0.1;
/// Voiced blocks in a row that begin an utterance: 48 ms, longer than a click.
const ONSET_BLOCKS: u32 = 3;
/// Unvoiced blocks in a row that end it: 240 ms, longer than the gap of a stop consonant.
const HANG_BLOCKS: u32 = 15;

/// Listens to one direction of one call.
pub struct VoiceDetector {
    detector: earshot::Detector,
    upsampler: Option<Resampler>,
    /// Input samples that do not yet fill a chunk of the upsampler.
    pending: Vec<i16>,
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
        let pending = upsampler.as_ref().map_or(0, Resampler::chunk_in);
        let block = BLOCK + upsampler.as_ref().map_or(0, Resampler::chunk_out);
        Self {
            detector: earshot::Detector::default(),
            upsampler,
            pending: Vec::with_capacity(pending),
            block: Vec::with_capacity(block),
            voiced: 0,
            unvoiced: 0,
            active: false,
        }
    }

    /// Whether the caller is speaking: three voiced blocks have begun it and no pause has ended it.
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// Listens to the next samples.
    pub fn hear(&mut self, samples: &[i16]) -> Heard {
        let mut heard = Heard::default();
        for &sample in samples {
            if self.upsampler.is_none() {
                self.take(sample, &mut heard);
                continue;
            }
            self.pending.push(sample);
            self.upsample_full_chunk(&mut heard);
        }
        heard
    }

    fn upsample_full_chunk(&mut self, heard: &mut Heard) {
        let Some(upsampler) = &mut self.upsampler else {
            return;
        };
        if self.pending.len() < upsampler.chunk_in() {
            return;
        }
        let block = &mut self.block;
        upsampler.process(self.pending.drain(..), |sample| block.push(sample));
        while self.block.len() >= BLOCK {
            self.judge(heard);
        }
    }

    fn take(&mut self, sample: i16, heard: &mut Heard) {
        self.block.push(sample);
        if self.block.len() == BLOCK {
            self.judge(heard);
        }
    }

    fn judge(&mut self, heard: &mut Heard) {
        let probability = self.detector.predict_i16(&self.block[..BLOCK]);
        self.block.drain(..BLOCK);
        heard.maybe_voice |= probability >= MAYBE_VOICE;
        if probability >= VOICE {
            heard.voice = true;
            self.voiced += 1;
            self.unvoiced = 0;
            self.active |= self.voiced >= ONSET_BLOCKS;
        } else {
            self.unvoiced += 1;
            self.voiced = 0;
            self.active &= self.unvoiced < HANG_BLOCKS;
        }
    }
}
