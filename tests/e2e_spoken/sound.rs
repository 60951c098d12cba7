//! Listening to recordings: how loud a prompt's own samples are found in what a caller heard.
//!
//! All is compared below 1 kHz, where every codec keeps the shape of speech; a quarter of the samples is enough for that.

use std::ops::Range;
use std::path::Path;

/// Samples per second of recordings and prompts.
pub(crate) const RATE: usize = 8000;
/// One of so many samples is looked at, each the mean of all.
const EVERY: usize = 4;
/// A piece of a prompt that is looked for: 150 ms, in which no two places of a sentence are alike.
const PIECE: usize = RATE * 15 / 100 / EVERY;
/// From one piece to the next: 50 ms.
const HOP: usize = RATE / 20 / EVERY;
/// Root mean square below which a piece is a pause.
const PAUSE: f32 = 300.0;
/// Correlation from which on a piece is found.
const FOUND: f32 = 0.85;

/// A prompt that was looked for in what a caller heard.
pub(crate) struct Traced {
    /// For each piece of it that is no pause, at which levels it was found, in decibels.
    pieces: Vec<Vec<f32>>,
}

impl Traced {
    /// Looks for `prompt` in `heard`.
    pub(crate) fn new(prompt: &[i16], heard: &[i16]) -> Self {
        let (prompt, heard) = (coarse(prompt), coarse(heard));
        let power = powers(&heard);
        let pieces = (0..prompt.len().saturating_sub(PIECE))
            .step_by(HOP)
            .map(|at| &prompt[at..at + PIECE])
            .filter(|piece| rms(piece) > PAUSE);
        Self {
            pieces: pieces.map(|piece| find(piece, &heard, &power)).collect(),
        }
    }

    /// The share of the prompt that was heard at a level in this range.
    pub(crate) fn share(&self, levels: Range<f32>) -> f32 {
        let heard = |found: &&Vec<f32>| found.iter().any(|level| levels.contains(level));
        self.pieces.iter().filter(heard).count() as f32 / self.pieces.len().max(1) as f32
    }
}

/// What the caller heard: the right channel of a recording.
pub(crate) fn heard(path: &Path) -> Vec<i16> {
    let mut reader = hound::WavReader::open(path).expect("a recording");
    let samples: Vec<i16> = reader
        .samples()
        .map(|sample| sample.expect("16 bits"))
        .collect();
    samples.chunks_exact(2).map(|both| both[1]).collect()
}

/// What flite says, as `tandem-load` does, ended where its last loud 20 ms end, and a whole number of frames long.
pub(crate) fn say(text: &str, path: &Path) {
    let spoken = path.with_extension("flite.wav");
    let done = std::process::Command::new("flite")
        .args(["-voice", "kal16", "-t", text, "-o"])
        .arg(&spoken)
        .status()
        .expect("flite runs");
    assert!(done.success());
    let mut reader = hound::WavReader::open(&spoken).expect("a WAV file");
    let spec = reader.spec();
    let mut samples: Vec<i16> = reader
        .samples()
        .map(|sample| sample.expect("16 bits"))
        .collect();
    let frame = spec.sample_rate as usize / 50;
    let loud = |frame: &[i16]| {
        let power: f32 = frame.iter().map(|s| f32::from(*s).powi(2)).sum();
        (power / frame.len() as f32).sqrt() > LOUD
    };
    let frames = samples.chunks_exact(frame).rposition(loud);
    samples.truncate((frames.expect("it says something") + 1) * frame);
    let before = vec![0; 10 * frame];
    let mut writer = hound::WavWriter::create(path, spec).expect("a file");
    for sample in before.into_iter().chain(samples) {
        writer.write_sample(sample).expect("it is written");
    }
    writer.finalize().expect("it is written");
}

/// Well above what any listener here takes for voice.
const LOUD: f32 = 600.0;

fn coarse(samples: &[i16]) -> Vec<f32> {
    let chunks = samples.chunks_exact(EVERY);
    chunks
        .map(|chunk| chunk.iter().map(|s| f32::from(*s)).sum::<f32>() / EVERY as f32)
        .collect()
}

fn rms(piece: &[f32]) -> f32 {
    (power(piece) / piece.len() as f32).sqrt()
}

fn power(piece: &[f32]) -> f32 {
    piece.iter().map(|sample| sample * sample).sum()
}

/// The power of the piece that begins at each place.
fn powers(heard: &[f32]) -> Vec<f32> {
    heard.windows(PIECE).map(power).collect()
}

/// The levels at which the piece is found; places of one finding beside another are one.
fn find(piece: &[f32], heard: &[f32], powers: &[f32]) -> Vec<f32> {
    let own = power(piece);
    let mut found: Vec<(usize, f32, f32)> = Vec::new();
    for (at, (window, &theirs)) in heard.windows(PIECE).zip(powers).enumerate() {
        // Nothing that is 40 dB quieter than the piece can be it.
        if theirs < own * 1e-4 {
            continue;
        }
        let product: f32 = piece.iter().zip(window).map(|(a, b)| a * b).sum();
        let likeness = product / (own * theirs).sqrt();
        if likeness < FOUND {
            continue;
        }
        let level = 20.0 * (product / own).log10();
        match found.last_mut().filter(|(before, ..)| at - *before < PIECE) {
            Some(best) if best.1 < likeness => *best = (at, likeness, level),
            Some(_) => {}
            None => found.push((at, likeness, level)),
        }
    }
    found.into_iter().map(|(_, _, level)| level).collect()
}
