//! Changing the sample rate, by `rubato`'s FFT resampler.
//!
//! It works in chunks of 20 ms: measured, shorter chunks lose the top of the telephone band (10 ms at 8 kHz is −10 dB
//! at 3.4 kHz), and the price of the length is a delay of half a chunk. Everything is allocated when it is made.

use dasp::Sample;
use rubato::Fft;
use rubato::FixedSync;
use rubato::Resampler as _;
use rubato::audioadapter_buffers::direct::SequentialSlice;

use crate::frame::MAX_FRAME_SAMPLES;
use crate::frame::SampleRate;

/// Chunks per second.
const CHUNKS_PER_SECOND: u32 = 50;

/// Changes mono PCM from one rate to another, a chunk at a time.
pub struct Resampler {
    fft: Fft<f32>,
    from: SampleRate,
    input: Vec<f32>,
    output: Vec<f32>,
    resampled: Vec<i16>,
    /// Samples of a stream that do not yet fill a chunk.
    pending: Vec<i16>,
}

impl Resampler {
    /// A resampler between two different rates.
    ///
    /// # Panics
    /// If rubato refuses the rates, which it does only for zero and [`SampleRate`] cannot be.
    pub fn new(from: SampleRate, to: SampleRate) -> Self {
        let chunk = (from.hz() / CHUNKS_PER_SECOND) as usize;
        let fft = Fft::<f32>::new(
            from.hz() as usize,
            to.hz() as usize,
            chunk,
            1,
            FixedSync::Both,
        )
        .expect("rates between 4 and 192 kHz can be resampled");
        let input = vec![0.0; fft.input_frames_max()];
        let output = vec![0.0; fft.output_frames_max()];
        Self {
            pending: Vec::with_capacity(input.len() + MAX_FRAME_SAMPLES),
            fft,
            from,
            input,
            resampled: Vec::with_capacity(output.len()),
            output,
        }
    }

    /// The rate that goes in.
    pub const fn from_rate(&self) -> SampleRate {
        self.from
    }

    /// Samples that one chunk takes; 20 ms, or the next length that comes out even at both rates.
    pub fn chunk_in(&self) -> usize {
        self.fft.input_frames_next()
    }

    /// Samples that one chunk gives.
    pub fn chunk_out(&self) -> usize {
        self.fft.output_frames_next()
    }

    /// Forgets the past, so that nothing of what went in before is heard after.
    pub fn reset(&mut self) {
        self.fft.reset();
        self.drop_remainder();
    }

    /// Forgets the samples of a stream that wait for the rest of their chunk.
    pub fn drop_remainder(&mut self) {
        self.pending.clear();
    }

    /// Takes the next samples of a stream, a frame's at a time, and gives `each` what comes of every chunk they complete.
    pub fn feed(&mut self, samples: &[i16], mut each: impl FnMut(&[i16])) {
        let chunk = self.chunk_in();
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(samples);
        while pending.len() >= chunk {
            each(self.process(&pending[..chunk]));
            pending.drain(..chunk);
        }
        self.pending = pending;
    }

    /// Takes one chunk of samples (missing ones count as silence) and gives the resampled chunk.
    pub fn process(&mut self, samples: &[i16]) -> &[i16] {
        let chunk_in = self.chunk_in();
        let chunk_out = self.chunk_out();
        let missing = std::iter::repeat(&0);
        for (slot, sample) in self.input[..chunk_in]
            .iter_mut()
            .zip(samples.iter().chain(missing))
        {
            *slot = sample.to_sample::<f32>();
        }
        let input = SequentialSlice::new(&self.input[..chunk_in], 1, chunk_in)
            .expect("the slice has the chunk's length");
        let mut output = SequentialSlice::new_mut(&mut self.output[..chunk_out], 1, chunk_out)
            .expect("the slice has the chunk's length");
        self.fft
            .process_into_buffer(&input, &mut output, None)
            .expect("both buffers have the chunk's length");
        self.resampled.clear();
        // An FFT filter rings beyond full scale at hard edges; a wrapped sample would be a loud click.
        let bounded = self.output[..chunk_out]
            .iter()
            .map(|s| s.clamp(-1.0, 0.999_97));
        self.resampled.extend(bounded.map(Sample::to_sample::<i16>));
        &self.resampled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tone;
    use crate::testing::tone_level;

    fn resampled(from: u32, to: u32, samples: &[i16]) -> Vec<i16> {
        let rate = |hz| SampleRate::from_hz(hz).expect("a rate in range");
        let mut resampler = Resampler::new(rate(from), rate(to));
        let mut out = Vec::new();
        for chunk in samples.chunks(resampler.chunk_in()) {
            out.extend_from_slice(resampler.process(chunk));
        }
        out
    }

    #[test]
    fn a_tone_keeps_its_pitch_its_level_and_its_length() {
        for (from, to) in [
            (8_000, 16_000),
            (16_000, 8_000),
            (24_000, 8_000),
            (22_050, 8_000),
            (11_025, 8_000),
            (48_000, 16_000),
        ] {
            let out = resampled(from, to, &tone(from, 1_000.0, 10_000, 1.0));
            assert!(
                out.len().abs_diff(to as usize) <= to as usize / 20,
                "{from} to {to}: {} samples",
                out.len()
            );
            let level = tone_level(to, 1_000.0, &out[out.len() / 4..out.len() * 3 / 4]);
            assert!(
                (level - 10_000.0).abs() < 500.0,
                "{from} to {to}: level {level}"
            );
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_removed_rather_than_folded() {
        let out = resampled(16_000, 8_000, &tone(16_000, 5_200.0, 10_000, 1.0));
        let middle = &out[out.len() / 4..out.len() * 3 / 4];
        assert!(
            middle.iter().all(|sample| sample.abs() < 20),
            "an alias is heard"
        );
    }

    #[test]
    fn the_top_of_the_telephone_band_survives() {
        let out = resampled(8_000, 16_000, &tone(8_000, 3_400.0, 10_000, 1.0));
        let level = tone_level(16_000, 3_400.0, &out[out.len() / 4..out.len() * 3 / 4]);
        assert!(level > 9_000.0, "level {level}");
    }

    #[test]
    fn after_a_reset_nothing_of_the_past_is_heard() {
        let mut resampler = Resampler::new(SampleRate::HZ_16000, SampleRate::HZ_8000);
        resampler.process(&tone(16_000, 1_000.0, 30_000, 0.02));
        resampler.reset();
        assert!(resampler.process(&[]).iter().all(|sample| *sample == 0));
    }
}
