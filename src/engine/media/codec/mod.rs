//! How samples are written as bytes: on the way to an agent and back (below), and in the packets of a leg ([`packet`]).
//!
//! Linear PCM is little endian towards Dialogflow and in WAV; RTP's L16 is big endian (RFC 3551 §4.5.11) and not meant.

mod concealment;
pub mod g711;
mod g722;
mod opus;
pub mod packet;

use std::time::Duration;

use crate::frame::SampleRate;

/// Encoding and rate of mono audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AudioFormat {
    /// How samples are written.
    pub encoding: Encoding,
    /// Samples per second.
    pub rate: SampleRate,
}

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// 16-bit signed, little endian.
    Linear16,
    /// G.711 mu-law.
    Mulaw,
    /// G.711 A-law.
    Alaw,
}

impl AudioFormat {
    /// How long so many bytes of samples last.
    pub fn duration_of_bytes(self, bytes: usize) -> Duration {
        let samples = bytes / self.encoding.bytes_per_sample();
        self.rate.duration_of(samples as u64)
    }

    /// How many bytes `duration` has, in whole samples.
    pub fn bytes_in(self, duration: Duration) -> usize {
        self.rate.samples_in(duration) as usize * self.encoding.bytes_per_sample()
    }
}

impl Encoding {
    /// The byte of which silence consists.
    pub const fn silence(self) -> u8 {
        match self {
            Self::Linear16 => 0,
            Self::Mulaw => g711::MULAW_SILENCE,
            Self::Alaw => g711::ALAW_SILENCE,
        }
    }

    /// Bytes of one sample.
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::Linear16 => 2,
            Self::Mulaw | Self::Alaw => 1,
        }
    }

    /// Appends samples to `out`; bytes that do not fill one are left out.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<i16>) {
        match self {
            Self::Linear16 => {
                let pairs = bytes.chunks_exact(2);
                out.extend(pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
            }
            Self::Mulaw => out.extend(bytes.iter().map(|byte| g711::decode_mulaw(*byte))),
            Self::Alaw => out.extend(bytes.iter().map(|byte| g711::decode_alaw(*byte))),
        }
    }

    /// Writes samples to `out`, as far as it goes.
    pub fn encode(self, samples: &[i16], out: &mut [u8]) {
        let each = out.chunks_exact_mut(self.bytes_per_sample()).zip(samples);
        match self {
            Self::Linear16 => each.for_each(|(out, s)| out.copy_from_slice(&s.to_le_bytes())),
            Self::Mulaw => each.for_each(|(out, s)| out[0] = g711::encode_mulaw(*s)),
            Self::Alaw => each.for_each(|(out, s)| out[0] = g711::encode_alaw(*s)),
        }
    }
}
