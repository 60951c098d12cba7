//! What is heard in the simulation: one real voice, cut into pieces, and the noise of a cough. Made once, shared by all runs.

use std::sync::LazyLock;
use std::sync::OnceLock;

use bytes::Bytes;
use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::Encoding;
use tandem::engine::media::codec::g711;
use tandem::engine::media::frame::SampleRate;

use crate::watermark;
use crate::watermark::Side;

/// What a frame must reach to count as speech for certain: the detector keeps everything from −35 dBFS on.
const LOUD_DBFS: f64 = -31.0;
/// Frames of one segment that can be told apart.
pub(crate) const MAX_FRAMES: u32 = 1 << FRAME_BITS;
/// Segments of one run that can be told apart.
pub(crate) const MAX_TAGS: u32 = 1 << 11;

const FRAME_BITS: u32 = 9;

/// A frame of a segment of the agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which segment.
    pub(crate) tag: u32,
    /// Which frame of it, from 0.
    pub(crate) frame: u32,
}

impl Piece {
    /// The piece with this name.
    pub(crate) const fn from_number(number: u32) -> Self {
        Self {
            tag: number >> FRAME_BITS,
            frame: number & (MAX_FRAMES - 1),
        }
    }

    const fn number(self) -> u32 {
        self.tag << FRAME_BITS | self.frame
    }
}

static SPEECH: LazyLock<Vec<i16>> = LazyLock::new(|| {
    let speech = include_bytes!("../data/speech.mulaw");
    speech
        .iter()
        .map(|byte| g711::decode_mulaw(*byte))
        .collect()
});

/// The same at twice the rate; between two samples lies their mean.
static WIDE_SPEECH: LazyLock<Vec<i16>> = LazyLock::new(|| {
    let next = SPEECH.iter().skip(1).chain([&0]);
    SPEECH
        .iter()
        .zip(next)
        .flat_map(|(this, next)| [*this, ((i32::from(*this) + i32::from(*next)) / 2) as i16])
        .collect()
});

/// Frame `number` of the voice at `rate`, going round when it is over.
pub(crate) fn speech(rate: SampleRate, number: usize) -> &'static [i16] {
    let track: &[i16] = if rate == SampleRate::HZ_8000 {
        &SPEECH
    } else {
        &WIDE_SPEECH
    };
    let frames = track.chunks_exact(rate.frame_samples());
    let count = frames.len();
    let length = rate.frame_samples();
    &track[number % count * length..][..length]
}

/// How loud samples are against a full-scale square wave, in decibels.
pub(crate) fn level_dbfs(samples: &[i16]) -> f64 {
    let power: f64 = samples
        .iter()
        .map(|sample| (f64::from(*sample) / 32_768.0).powi(2))
        .sum();
    10.0 * (power / samples.len().max(1) as f64).max(1e-12).log10()
}

/// Whether these samples count as speech for certain.
pub(crate) fn is_loud(samples: &[i16]) -> bool {
    level_dbfs(samples) > LOUD_DBFS
}

/// The agent's voice without names, in a format: encoding it anew for each segment would cost more than a call does.
struct Template {
    format: AudioFormat,
    voice: Vec<u8>,
    /// The two samples of which names are made, above zero and below.
    above: Vec<u8>,
    below: Vec<u8>,
    kept: [OnceLock<Bytes>; KEPT_TAGS],
}

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let formats = [
        (Encoding::Mulaw, SampleRate::HZ_8000),
        (Encoding::Linear16, SampleRate::HZ_16000),
    ];
    let template = |(encoding, rate)| {
        let format = AudioFormat { encoding, rate };
        let frames = (0..TEMPLATE_FRAMES).map(|number| speech(rate, number));
        let halves: Vec<i16> = frames.flatten().map(|sample| sample / 2).collect();
        Template {
            format,
            voice: encode(format, &halves),
            above: encode(format, &[watermark::AMPLITUDE]),
            below: encode(format, &[-watermark::AMPLITUDE]),
            kept: [const { OnceLock::new() }; KEPT_TAGS],
        }
    };
    formats.into_iter().map(template).collect()
});

/// Frames of the voice that the agent goes round in.
const TEMPLATE_FRAMES: usize = 170;

fn encode(format: AudioFormat, samples: &[i16]) -> Vec<u8> {
    let mut bytes = vec![0; samples.len() * format.encoding.bytes_per_sample()];
    format.encoding.encode(samples, &mut bytes);
    bytes
}

/// Tags whose audio is kept once it has been made: every run begins with the same ones.
const KEPT_TAGS: usize = 64;
/// Frames of them that are made: more than any prompt has.
const KEPT_FRAMES: u32 = 400;

/// The agent's voice: so many frames, each with its name, as bytes in `format`.
pub(crate) fn prompt(format: AudioFormat, tag: u32, frames: u32) -> Bytes {
    assert!(
        tag < MAX_TAGS && frames <= MAX_FRAMES,
        "{tag}, {frames} frames"
    );
    let template = TEMPLATES
        .iter()
        .find(|template| template.format == format)
        .expect("an agent speaks as the leg does");
    match template.kept.get(tag as usize) {
        Some(kept) if frames <= KEPT_FRAMES => {
            let length = format.rate.frame_samples() * format.encoding.bytes_per_sample();
            let all = kept.get_or_init(|| make(template, tag, KEPT_FRAMES));
            all.slice(..frames as usize * length)
        }
        Some(_) | None => make(template, tag, frames),
    }
}

fn make(template: &Template, tag: u32, frames: u32) -> Bytes {
    let format = template.format;
    let length = format.rate.frame_samples() * format.encoding.bytes_per_sample();
    let mut bytes = Vec::with_capacity(frames as usize * length);
    for frame in 0..frames {
        let name = watermark::signs(Side::Agent, Piece { tag, frame }.number());
        let begin = bytes.len();
        for negative in name {
            bytes.extend_from_slice(if negative {
                &template.below
            } else {
                &template.above
            });
        }
        let from = (frame + 7 * tag) as usize % TEMPLATE_FRAMES * length;
        let named = bytes.len() - begin;
        bytes.extend_from_slice(&template.voice[from + named..from + length]);
    }
    bytes.into()
}

/// The same as a file, with a header.
pub(crate) fn clip(format: AudioFormat, tag: u32, frames: u32) -> Bytes {
    let audio = prompt(format, tag, frames);
    let width = format.encoding.bytes_per_sample() as u32;
    let code: u16 = match format.encoding {
        Encoding::Linear16 => 1,
        Encoding::Alaw => 6,
        Encoding::Mulaw => 7,
    };
    let mut wav = Vec::with_capacity(audio.len() + 44);
    wav.extend(b"RIFF");
    wav.extend((36 + audio.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend(code.to_le_bytes());
    wav.extend(1_u16.to_le_bytes());
    wav.extend(format.rate.hz().to_le_bytes());
    wav.extend((format.rate.hz() * width).to_le_bytes());
    wav.extend((width as u16).to_le_bytes());
    wav.extend((8 * width as u16).to_le_bytes());
    wav.extend(b"data");
    wav.extend((audio.len() as u32).to_le_bytes());
    wav.extend(&audio);
    wav.into()
}
