//! Sounds, made and found by ear: tones for what the agent says, real speech for what the caller says.

use std::f64::consts::TAU;
use std::time::Duration;

use tandem::engine::media::codec::AudioFormat;
use tandem::engine::media::codec::Encoding;
use tandem::engine::media::codec::g711;
use tandem::engine::media::frame::SampleRate;

/// How high the agent's tones are: about as loud as a voice on the telephone (−21 dBFS).
pub(crate) const TONE_PEAK: i16 = 4_000;
/// From here on a tone is heard as it was made.
const LOUD: f64 = 2_500.0;
/// From here on it is heard at all.
const AUDIBLE: f64 = 350.0;
/// The real speech: "I would like to book a table for two people tomorrow evening please", 3.5 s.
const SPEECH: &[u8] = include_bytes!("../data/speech.mulaw");

/// A tone. Those that must be told apart lie at multiples of 50 Hz, which 20 ms hold whole.
pub(crate) fn tone(rate: SampleRate, hz: f64, duration: Duration) -> Vec<i16> {
    let step = TAU * hz / f64::from(rate.hz());
    (0..rate.samples_in(duration))
        .map(|at| (f64::from(TONE_PEAK) * (step * at as f64).sin()) as i16)
        .collect()
}

/// White noise, always the same.
pub(crate) fn noise(rate: SampleRate, peak: f64, duration: Duration) -> Vec<i16> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 23) - 1.0
    };
    (0..rate.samples_in(duration))
        .map(|_| (next() * peak) as i16)
        .collect()
}

/// Real speech from `from` on. It begins anew after 3.5 s, a little quieter each time, so that no stretch is there twice.
pub(crate) fn speech(rate: SampleRate, from: Duration, duration: Duration) -> Vec<i16> {
    let begin = rate.samples_in(from);
    (begin..begin + rate.samples_in(duration))
        .map(|at| speech_sample(rate, at))
        .collect()
}

fn speech_sample(rate: SampleRate, at: u64) -> i16 {
    let per_sample = u64::from(rate.hz() / 8_000);
    let sample = |at: u64| {
        let round = (at / SPEECH.len() as u64) as i32;
        let byte = SPEECH[(at % SPEECH.len() as u64) as usize];
        f64::from(g711::decode_mulaw(byte)) * 0.93_f64.powi(round % 12)
    };
    let (whole, part) = (at / per_sample, at % per_sample);
    let share = part as f64 / per_sample as f64;
    (sample(whole) * (1.0 - share) + sample(whole + 1) * share) as i16
}

/// Makes a sound quieter.
pub(crate) fn quieter(samples: &[i16], decibels: f64) -> Vec<i16> {
    let factor = 10_f64.powf(-decibels / 20.0);
    samples
        .iter()
        .map(|sample| (f64::from(*sample) * factor) as i16)
        .collect()
}

/// Writes samples as an agent does: LINEAR_16 with a RIFF header, the others bare (facts §7.2).
pub(crate) fn encode(format: AudioFormat, samples: &[i16]) -> Vec<u8> {
    match format.encoding {
        Encoding::Linear16 => wav(format, samples),
        Encoding::Mulaw | Encoding::Alaw => encode_bare(format, samples),
    }
}

/// Writes samples without any header.
pub(crate) fn encode_bare(format: AudioFormat, samples: &[i16]) -> Vec<u8> {
    let width = format.encoding.bytes_per_sample();
    let mut bytes = vec![0; samples.len() * width];
    format.encoding.encode(samples, &mut bytes);
    bytes
}

/// Writes samples as a file is stored: with a RIFF header, whatever the encoding.
pub(crate) fn wav(format: AudioFormat, samples: &[i16]) -> Vec<u8> {
    let mut bytes = riff_header(format, samples.len());
    bytes.extend(encode_bare(format, samples));
    bytes
}

fn riff_header(format: AudioFormat, samples: usize) -> Vec<u8> {
    let tag: u16 = match format.encoding {
        Encoding::Linear16 => 1,
        Encoding::Alaw => 6,
        Encoding::Mulaw => 7,
    };
    let width = format.encoding.bytes_per_sample() as u32;
    let size = width * samples as u32;
    let mut header = b"RIFF".to_vec();
    header.extend((36 + size).to_le_bytes());
    header.extend(b"WAVEfmt \x10\0\0\0");
    header.extend(tag.to_le_bytes());
    header.extend(1_u16.to_le_bytes());
    header.extend(format.rate.hz().to_le_bytes());
    header.extend((width * format.rate.hz()).to_le_bytes());
    header.extend((width as u16).to_le_bytes());
    header.extend((8 * width as u16).to_le_bytes());
    header.extend(b"data");
    header.extend(size.to_le_bytes());
    header
}

/// What the caller heard since the call began, sample by sample.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    rate: SampleRate,
    samples: Vec<i16>,
}

impl Recording {
    pub(crate) const fn new(rate: SampleRate, samples: Vec<i16>) -> Self {
        Self { rate, samples }
    }

    /// For how long a tone was heard as loud as it was made.
    pub(crate) fn loud(&self, hz: f64) -> Duration {
        self.time_of(|level| level >= LOUD, hz)
    }

    /// For how long it was heard, but ducked.
    pub(crate) fn ducked(&self, hz: f64) -> Duration {
        self.time_of(|level| (AUDIBLE..LOUD / 2.0).contains(&level), hz)
    }

    /// When a tone was first heard.
    pub(crate) fn begins(&self, hz: f64) -> Option<Duration> {
        let first = self.levels(hz).position(|level| level >= AUDIBLE)?;
        Some(WINDOW * first as u32)
    }

    /// When it was last heard.
    pub(crate) fn ends(&self, hz: f64) -> Option<Duration> {
        let levels: Vec<f64> = self.levels(hz).collect();
        let last = levels.iter().rposition(|level| *level >= AUDIBLE)?;
        Some(WINDOW * (last as u32 + 1))
    }

    /// The longest time without any sound between two moments.
    pub(crate) fn longest_silence(&self, from: Duration, to: Duration) -> Duration {
        let range = self.rate.samples_in(from) as usize..self.rate.samples_in(to) as usize;
        let mut longest = 0;
        let mut run = 0;
        for at in range {
            let is_silent = self
                .samples
                .get(at)
                .is_none_or(|sample| sample.unsigned_abs() < 100);
            run = if is_silent { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        self.rate.duration_of(longest)
    }

    /// For how long there was any sound between two moments.
    pub(crate) fn sound(&self, from: Duration, to: Duration) -> Duration {
        let begin = (self.rate.samples_in(from) as usize).min(self.samples.len());
        let end = (self.rate.samples_in(to) as usize).clamp(begin, self.samples.len());
        let windows = self.samples[begin..end].chunks(self.rate.frame_samples());
        let sounding =
            windows.filter(|window| window.iter().any(|sample| sample.unsigned_abs() >= 100));
        WINDOW * sounding.count() as u32
    }

    /// How high the highest sample between two moments is.
    pub(crate) fn loudest(&self, from: Duration, to: Duration) -> u16 {
        let begin = (self.rate.samples_in(from) as usize).min(self.samples.len());
        let end = (self.rate.samples_in(to) as usize).clamp(begin, self.samples.len());
        let heights = self.samples[begin..end]
            .iter()
            .map(|sample| sample.unsigned_abs());
        heights.max().unwrap_or_default()
    }

    fn time_of(&self, fits: impl Fn(f64) -> bool, hz: f64) -> Duration {
        WINDOW * self.levels(hz).filter(|level| fits(*level)).count() as u32
    }

    /// How high the tone is in each window, one after another.
    fn levels(&self, hz: f64) -> impl Iterator<Item = f64> + '_ {
        let step = TAU * hz / f64::from(self.rate.hz());
        self.samples
            .chunks(self.rate.frame_samples())
            .map(move |window| {
                let (mut sine, mut cosine) = (0.0, 0.0);
                for (at, sample) in window.iter().enumerate() {
                    let (s, c) = (step * at as f64).sin_cos();
                    sine += f64::from(*sample) * s;
                    cosine += f64::from(*sample) * c;
                }
                2.0 * f64::hypot(sine, cosine) / window.len() as f64
            })
    }
}

/// In such pieces a recording is listened to.
const WINDOW: Duration = Duration::from_millis(20);

#[test]
fn a_tone_is_found_for_as_long_as_it_lasts_and_no_other_is() {
    let rate = SampleRate::HZ_8000;
    let recording = Recording::new(rate, tone(rate, 800.0, Duration::from_millis(500)));
    assert_eq!(recording.loud(800.0), Duration::from_millis(500));
    assert_eq!(
        recording.loud(1_000.0) + recording.ducked(1_000.0),
        Duration::ZERO
    );
}

#[test]
fn a_tone_that_is_15_decibels_quieter_is_heard_as_ducked() {
    let rate = SampleRate::HZ_16000;
    let samples = quieter(&tone(rate, 800.0, Duration::from_millis(500)), 15.0);
    let recording = Recording::new(rate, samples);
    assert_eq!(recording.ducked(800.0), Duration::from_millis(500));
}
