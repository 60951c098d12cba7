//! Sound as bytes: G.711, WAV, and changes of rate. Small and separate from the gateway's own codecs on purpose: this is the
//! other end of the wire, and shared mistakes would cancel out.

use rubato::Fft;
use rubato::FixedSync;
use rubato::Resampler as _;
use rubato::audioadapter_buffers::direct::SequentialSlice;

/// Mono samples at a rate in hertz.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pcm {
    pub(super) samples: Vec<i16>,
    pub(super) rate: u32,
}

impl Pcm {
    /// The same sound at another rate.
    pub(super) fn at(&self, rate: u32) -> Self {
        let mut resampler = Resampler::new(self.rate, rate);
        let mut samples = resampler.push(&self.samples);
        samples.extend(resampler.flush());
        let wanted =
            (self.samples.len() as u64 * u64::from(rate) / u64::from(self.rate.max(1))) as usize;
        samples.resize(wanted, 0);
        Self { samples, rate }
    }
}

/// G.711 mu-law, one byte to one sample.
pub(super) fn mulaw_decode(byte: u8) -> i16 {
    let bits = !byte;
    let magnitude = (((i32::from(bits & 0x0f) << 3) + 0x84) << (bits >> 4 & 7)) - 0x84;
    (if bits & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

/// G.711 mu-law, one sample to one byte.
pub(super) fn mulaw_encode(sample: i16) -> u8 {
    let biased = (i32::from(sample).abs()).min(32635) + 0x84;
    let exponent = 24 - biased.leading_zeros();
    let mantissa = biased >> (exponent + 3) & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (exponent as u8) << 4 | mantissa as u8)
}

/// G.711 A-law, one byte to one sample.
pub(super) fn alaw_decode(byte: u8) -> i16 {
    let bits = byte ^ 0x55;
    let (exponent, mantissa) = (bits >> 4 & 7, i32::from(bits & 0x0f) << 4);
    let magnitude = if exponent == 0 {
        mantissa + 8
    } else {
        (mantissa + 0x108) << (exponent - 1)
    };
    (if bits & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }) as i16
}

/// G.711 A-law, one sample to one byte.
pub(super) fn alaw_encode(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 {
        (0x80, i32::from(sample))
    } else {
        (0, -1 - i32::from(sample))
    };
    let bits = if magnitude < 256 {
        magnitude >> 4
    } else {
        let exponent = 24 - magnitude.leading_zeros() as i32;
        exponent << 4 | (magnitude >> (exponent + 3) & 0x0f)
    };
    (sign | bits as u8) ^ 0x55
}

/// A mono 16-bit RIFF file.
pub(super) fn wav(pcm: &Pcm) -> Vec<u8> {
    let bytes = u32::try_from(pcm.samples.len() * 2).unwrap_or(u32::MAX - 36);
    let mut file = Vec::with_capacity(44 + pcm.samples.len() * 2);
    file.extend(b"RIFF");
    file.extend((36 + bytes).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend([1_u16, 1].map(u16::to_le_bytes).as_flattened());
    file.extend(
        [pcm.rate, pcm.rate * 2]
            .map(u32::to_le_bytes)
            .as_flattened(),
    );
    file.extend([2_u16, 16].map(u16::to_le_bytes).as_flattened());
    file.extend(b"data");
    file.extend(bytes.to_le_bytes());
    file.extend(pcm.samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// Reads what a speech program writes: mono 16-bit RIFF. A length of the data that is absent or too long (a program that
/// writes to a pipe does not know it) means "to the end".
pub(super) fn read_wav(file: &[u8]) -> Option<Pcm> {
    let mut rest = file
        .strip_prefix(b"RIFF")?
        .get(4..)?
        .strip_prefix(b"WAVE")?;
    let mut rate = None;
    while let Some((header, body)) = rest.split_at_checked(8) {
        let (name, length) = header.split_at(4);
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        match name {
            b"fmt " => {
                let format = body.get(..16)?;
                let mono_16_bit = format[..4] == [1, 0, 1, 0] && format[14..16] == [16, 0];
                rate = mono_16_bit
                    .then(|| u32::from_le_bytes([format[4], format[5], format[6], format[7]]));
            }
            b"data" => {
                let data = body
                    .get(..length)
                    .filter(|data| !data.is_empty())
                    .unwrap_or(body);
                let samples = data
                    .chunks_exact(2)
                    .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                    .collect();
                return Some(Pcm {
                    samples,
                    rate: rate.filter(|rate| *rate > 0)?,
                });
            }
            _ => {}
        }
        rest = body.get(length + length % 2..)?;
    }
    None
}

/// Changes the rate of a stream of samples.
pub(super) struct Resampler {
    inner: Option<Fft<f32>>,
    waiting: Vec<f32>,
    /// Output samples that are the filter's delay, still to be left out.
    delay: usize,
}

impl Resampler {
    /// Rates in hertz; the same rate twice copies.
    pub(super) fn new(from: u32, to: u32) -> Self {
        // 20 ms at a time, as everywhere on a phone line.
        let chunk = (from / 50).max(1) as usize;
        let inner = (from != to)
            .then(|| Fft::new(from as usize, to as usize, chunk, 1, FixedSync::Both).ok())
            .flatten();
        let delay = inner.as_ref().map_or(0, rubato::Resampler::output_delay);
        Self {
            inner,
            waiting: Vec::new(),
            delay,
        }
    }

    /// Converts what is complete and keeps the rest.
    pub(super) fn push(&mut self, samples: &[i16]) -> Vec<i16> {
        let Some(inner) = &mut self.inner else {
            return samples.to_vec();
        };
        self.waiting
            .extend(samples.iter().map(|sample| f32::from(*sample)));
        let mut output = Vec::new();
        let mut done = 0;
        loop {
            let (take, give) = (inner.input_frames_next(), inner.output_frames_next());
            let Some(chunk) = self.waiting.get(done..done + take) else {
                break;
            };
            let mut converted = vec![0.0; give];
            let input =
                SequentialSlice::new(chunk, 1, take).expect("one channel of the length asked for");
            let mut into = SequentialSlice::new_mut(&mut converted, 1, give)
                .expect("one channel of the length asked for");
            inner
                .process_into_buffer(&input, &mut into, None)
                .expect("buffers of the lengths asked for");
            output.extend(converted.iter().map(|sample| sample.round() as i16));
            done += take;
        }
        self.waiting.drain(..done);
        let early = self.delay.min(output.len());
        self.delay -= early;
        output.split_off(early)
    }

    /// Converts what is left, with silence after it.
    pub(super) fn flush(&mut self) -> Vec<i16> {
        let Some(inner) = &self.inner else {
            return Vec::new();
        };
        let silence = vec![0; inner.input_frames_next() * 3];
        self.push(&silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_codes_survive_a_round_trip() {
        for byte in 0..=255_u8 {
            // Mu-law has two zeros; the negative one comes back as the positive one.
            assert!(
                mulaw_encode(mulaw_decode(byte)) == byte || byte == 0x7f,
                "mu-law {byte:#x}"
            );
            assert_eq!(alaw_encode(alaw_decode(byte)), byte, "A-law {byte:#x}");
        }
        assert_eq!((mulaw_encode(0), alaw_encode(0)), (0xff, 0xd5));
        assert_eq!(
            (
                mulaw_decode(0x00),
                mulaw_decode(0x80),
                alaw_decode(0x2a),
                alaw_decode(0xaa)
            ),
            (-32124, 32124, -32256, 32256)
        );
        for sample in [i16::MIN, -1, 0, 1, 1000, i16::MAX] {
            assert!(
                (i32::from(mulaw_decode(mulaw_encode(sample))) - i32::from(sample)).abs()
                    <= 1 + i32::from(sample).abs() / 16
            );
            assert!(
                (i32::from(alaw_decode(alaw_encode(sample))) - i32::from(sample)).abs()
                    <= 16 + i32::from(sample).abs() / 16
            );
        }
    }

    #[test]
    fn a_tone_keeps_its_length_and_pitch_through_a_change_of_rate() {
        let tone = Pcm {
            samples: (0..16_000)
                .map(|i| ((i as f32 * 0.3).sin() * 8000.0) as i16)
                .collect(),
            rate: 16_000,
        };
        for rate in [8000, 11_025, 24_000, 48_000] {
            let there = tone.at(rate);
            assert_eq!(there.samples.len(), rate as usize);
            let crossings = |pcm: &Pcm| {
                pcm.samples
                    .windows(2)
                    .filter(|pair| pair[0] < 0 && pair[1] >= 0)
                    .count() as i32
            };
            assert!(
                (crossings(&there) - crossings(&tone)).abs() <= 2,
                "at {rate}"
            );
        }
    }

    #[test]
    fn wav_is_read_as_it_was_written_and_from_a_pipe() {
        let pcm = Pcm {
            samples: vec![1, -2, 300],
            rate: 22_050,
        };
        let mut file = wav(&pcm);
        assert_eq!(read_wav(&file).as_ref(), Some(&pcm));
        file[40..44].copy_from_slice(&0x7fff_f000_u32.to_le_bytes());
        assert_eq!(read_wav(&file).as_ref(), Some(&pcm));
        assert_eq!(read_wav(&file[..30]), None);
        assert_eq!(read_wav(b"RIFF"), None);
    }
}
