//! The unit of audio between a leg and its call: up to 20 ms of linear PCM in place, so that moving it allocates nothing.

use std::time::Duration;

/// How long one frame lasts when it is full. Telephony is packetised in 20 ms nearly everywhere (RFC 3551 §4.2).
pub const FRAME_DURATION: Duration = Duration::from_millis(20);

/// The most samples one frame holds: 20 ms at 16 kHz, the highest rate at which a leg speaks to the engine.
pub const MAX_FRAME_SAMPLES: usize = 320;

/// Samples per second of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleRate(u32);

impl SampleRate {
    /// The telephone's rate.
    pub const HZ_8000: Self = Self(8_000);
    /// The rate at which recognisers are trained.
    pub const HZ_16000: Self = Self(16_000);
    /// The range that a voice may sensibly have; anything else is a damaged header.
    const RANGE_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;

    /// A rate from a header or a setting; `None` outside 4–192 kHz.
    pub fn from_hz(hz: u32) -> Option<Self> {
        Self::RANGE_HZ.contains(&hz).then_some(Self(hz))
    }

    /// Samples per second.
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// How many whole samples fit into `duration`; as many as there can be, if more.
    pub fn samples_in(self, duration: Duration) -> u64 {
        let samples = duration.as_nanos() * u128::from(self.0) / 1_000_000_000;
        samples.try_into().unwrap_or(u64::MAX)
    }

    /// How long `samples` last.
    pub fn duration_of(self, samples: u64) -> Duration {
        Duration::from_nanos((u128::from(samples) * 1_000_000_000 / u128::from(self.0)) as u64)
    }

    /// Samples in a full frame.
    pub const fn frame_samples(self) -> usize {
        (self.0 / 50) as usize
    }
}

/// Up to 20 ms of mono linear PCM.
#[derive(Clone, Copy)]
pub struct Frame {
    rate: SampleRate,
    len: u16,
    samples: [i16; MAX_FRAME_SAMPLES],
}

impl Frame {
    /// A full frame of silence.
    ///
    /// # Panics
    /// If `rate` is above 16 kHz: no leg may be configured so.
    pub fn silence(rate: SampleRate) -> Self {
        let len = rate.frame_samples();
        assert!(
            len <= MAX_FRAME_SAMPLES,
            "a leg speaks to the engine at 16 kHz at most"
        );
        Self {
            rate,
            len: len as u16,
            samples: [0; MAX_FRAME_SAMPLES],
        }
    }

    /// A frame with the first [`MAX_FRAME_SAMPLES`] of `samples`.
    pub fn new(rate: SampleRate, samples: &[i16]) -> Self {
        let len = samples.len().min(MAX_FRAME_SAMPLES);
        let mut frame = Self {
            rate,
            len: len as u16,
            samples: [0; MAX_FRAME_SAMPLES],
        };
        frame.samples[..len].copy_from_slice(&samples[..len]);
        frame
    }

    /// Samples per second.
    pub const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> &[i16] {
        &self.samples[..usize::from(self.len)]
    }

    /// The samples, to be written in place.
    pub fn samples_mut(&mut self) -> &mut [i16] {
        &mut self.samples[..usize::from(self.len)]
    }

    /// How long the frame lasts.
    pub fn duration(&self) -> Duration {
        self.rate.duration_of(u64::from(self.len))
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} samples at {} Hz)", self.len, self.rate.hz())
    }
}
