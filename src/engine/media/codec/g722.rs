//! G.722, wideband telephony in the bits of narrowband: 64 kb/s in two bands (ITU-T G.722, mode 1), by `ezk-g722`.
//!
//! The crate returns a fresh `Vec` for every payload, so this is the one codec here that allocates per frame.

use ezk_g722::libg722::Bitrate;
use ezk_g722::libg722::decoder;
use ezk_g722::libg722::encoder;

/// Samples that the band-splitting filter remembers.
const FILTER_MEMORY: usize = 24;

/// One direction's decoder.
pub(super) struct Decoder(decoder::Decoder);

impl Decoder {
    /// A decoder at its beginning.
    pub(super) fn new() -> Self {
        // The two flags stand in another order than in the encoder's constructor: whole bytes, 16 kHz.
        let (packed, eight_k) = (false, false);
        Self(decoder::Decoder::new(Bitrate::Mode1_64000, packed, eight_k))
    }

    /// Appends two samples for each byte of `payload`.
    pub(super) fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) {
        pcm.extend_from_slice(&self.0.decode(payload));
    }
}

/// One direction's encoder.
pub(super) struct Encoder(encoder::Encoder);

impl Encoder {
    /// An encoder at its beginning.
    pub(super) fn new() -> Self {
        let (eight_k, packed) = (false, false);
        Self(encoder::Encoder::new(Bitrate::Mode1_64000, eight_k, packed))
    }

    /// Writes a byte for each two of `samples` to the front of `out`, and says how many. An odd last sample is left out.
    pub(super) fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> usize {
        let (pairs, _) = samples.as_chunks::<2>();
        let payload = self.0.encode(pairs.as_flattened());
        out[..payload.len()].copy_from_slice(&payload);
        payload.len()
    }

    /// Empties the filter of what was said.
    ///
    /// The predictor and the step sizes stay: the decoder at the far end has the same and is not reset with us. With a new
    /// encoder the first loud sound after a cut would be read there with steps that are far too large: a crack.
    pub(super) fn reset(&mut self) {
        self.0.encode(&[0; FILTER_MEMORY]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tone;
    use crate::testing::tone_level;

    #[test]
    fn a_tone_comes_through_in_both_bands() {
        // 1 kHz travels in the lower band, 6 kHz in the upper, coarser one.
        for (hertz, lowest) in [(1_000.0, 9_500.0), (6_000.0, 8_500.0)] {
            let decoded = through(&tone(16_000, hertz, 10_000, 1.0));
            assert_eq!(decoded.len(), 16_000);
            let level = tone_level(16_000, hertz, &decoded[1_600..]);
            assert!((lowest..10_500.0).contains(&level), "{hertz} Hz at {level}");
        }
    }

    #[test]
    fn an_odd_sample_is_left_out() {
        let mut out = [0; 320];
        assert_eq!(Encoder::new().encode(&[1; 319], &mut out), 159);
    }

    fn through(samples: &[i16]) -> Vec<i16> {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let mut pcm = Vec::new();
        for frame in samples.chunks(320) {
            let mut out = [0; 160];
            let bytes = encoder.encode(frame, &mut out);
            decoder.decode(&out[..bytes], &mut pcm);
        }
        pcm
    }
}
