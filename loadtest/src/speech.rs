//! What a caller can say: a WAV file, or a text spoken by flite.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::mulaw;
use crate::resample;
use crate::voice;

/// Silence put before and after synthesised speech: recognisers want some of the room before the first word, and 300 ms is what a
/// person leaves. Files are spoken as they are.
const AROUND: usize = mulaw::SAMPLE_RATE as usize * 3 / 10;
/// A longer file is refused: half an hour is 14 MB, and more is surely a mistake.
const LONGEST_SECONDS: u32 = 1800;

/// Something to say, ready for the wire.
#[derive(Debug)]
pub(crate) struct Speech {
    /// What the timeline calls it: the text or the file's name.
    pub(crate) label: String,
    /// Mu-law at 8 kHz.
    pub(crate) audio: Vec<u8>,
    /// From the first voiced sample to the last.
    pub(crate) voiced: Range<usize>,
}

impl Speech {
    /// Speech from mu-law audio.
    pub(crate) fn new(label: String, audio: Vec<u8>) -> Self {
        let voiced = voice::voiced_range(&audio);
        Self {
            label,
            audio,
            voiced,
        }
    }

    /// A mono WAV file, 16 bits, at 8 or 16 kHz.
    pub(crate) fn from_file(path: &Path) -> Result<Self> {
        let label = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let audio = read(path).with_context(|| format!("{} cannot be spoken", path.display()))?;
        Ok(Self::new(label, audio))
    }
}

/// Speaks texts with flite, each text once.
#[derive(Debug, Default)]
pub(crate) struct Synthesiser {
    spoken: HashMap<String, Arc<Speech>>,
}

impl Synthesiser {
    /// The text as speech, with silence around it.
    pub(crate) fn say(&mut self, text: &str) -> Result<Arc<Speech>> {
        if let Some(speech) = self.spoken.get(text) {
            return Ok(Arc::clone(speech));
        }
        let mut audio = vec![mulaw::SILENCE; AROUND];
        audio.extend(synthesise(text).with_context(|| format!("“{text}” cannot be spoken"))?);
        audio.extend([mulaw::SILENCE; AROUND]);
        let speech = Arc::new(Speech::new(text.to_owned(), audio));
        self.spoken.insert(text.to_owned(), Arc::clone(&speech));
        Ok(speech)
    }
}

/// Runs flite into a file of its own, which is removed again.
fn synthesise(text: &str) -> Result<Vec<u8>> {
    let file = Scratch(std::env::temp_dir().join(format!(
        "tandem-load-{}-{:x}.wav",
        process::id(),
        crate::random()
    )));
    let output = Command::new("flite")
        .args(["-voice", "kal16", "-t", text, "-o"])
        .arg(&file.0)
        .output()
        .context("flite does not start; on Debian it is in the package “flite”")?;
    ensure!(
        output.status.success(),
        "flite failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    read(&file.0)
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is lost when the file was never made.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut reader = hound::WavReader::open(path)?;
    let spec = reader.spec();
    ensure!(
        spec.channels == 1,
        "it has {} channels; one is needed",
        spec.channels
    );
    ensure!(
        spec.bits_per_sample == 16 && spec.sample_format == hound::SampleFormat::Int,
        "its samples have {} bits; 16-bit integers are needed",
        spec.bits_per_sample
    );
    ensure!(
        reader.duration() / spec.sample_rate.max(1) <= LONGEST_SECONDS,
        "it is longer than half an hour"
    );
    let samples = reader.samples().collect::<Result<Vec<i16>, _>>()?;
    let samples = match spec.sample_rate {
        8_000 => samples,
        16_000 => resample::halve(&samples),
        other => bail!("its rate is {other} Hz; 8000 or 16000 is needed"),
    };
    Ok(samples.into_iter().map(mulaw::encode).collect())
}
