//! What `[turn]` and `[fallback]` become.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::media::codec::AudioFormat;

/// `[turn]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What lets a caller interrupt. Default `words`.
    pub barge_in: BargeIn,
    /// How much quieter a prompt becomes while it is open whether the caller takes the floor, in decibels. Default 15
    /// (0–60).
    pub duck_db: u8,
    /// How long voice must last to cut, where voice does. Default 300 ms (100 ms–2 s).
    pub barge_in_voice: Duration,
    /// How long after the last voice a prompt stays ducked when no words come. Default 1 s (200 ms–5 s).
    pub barge_in_restore: Duration,
    /// Whether voice may cut partial answers too. Default no.
    pub interrupt_partials: bool,
    /// What people say while they listen, which cuts nothing: for a language tag in lower case, words and phrases in
    /// lower case with single blanks between words. Default none.
    pub back_channels: BTreeMap<String, Vec<String>>,
    /// How long a caller may be silent after a prompt, unless the agent says otherwise. Default 5 s.
    pub no_input_timeout: Duration,
    /// Silent turns in a row that end the call. Default 3.
    pub no_input_limit: u32,
    /// The event that is sent when the agent itself has nothing to say about silence. Default `sys.no-input-default`.
    pub no_input_event: Option<String>,
    /// Whether a caller who was silent too often is handed to a person rather than let go. Default no.
    pub no_input_transfer: bool,
    /// How long a caller who waits for the agent hears nothing before the hold prompt. Default 3 s (500 ms–3.5 s).
    pub hold_after: Duration,
    /// The hold prompt. Default: the built-in chime.
    pub hold_prompt: Option<WavFile>,
    /// How long a caller who has said words may be silent before we end the utterance. Default 4 s (1–30 s).
    pub endpoint_timeout: Duration,
    /// The longest speech stream before we half-close it. Default 55 s.
    pub stream_ceiling: Duration,
    /// The longest pause between two digits, unless the agent says otherwise. Default 3 s.
    pub interdigit_timeout: Duration,
    /// The most digits of one input, unless the agent says otherwise. Default 20.
    pub max_digits: u32,
    /// The event by which an agent learns that a transfer was refused. Default `TRANSFER_FAILED`.
    pub transfer_failed_event: String,
    /// Whether the agent is told what the caller heard of a prompt that was cut. Default yes.
    pub report_heard: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            barge_in: BargeIn::Words,
            duck_db: 15,
            barge_in_voice: Duration::from_millis(300),
            barge_in_restore: Duration::from_secs(1),
            interrupt_partials: false,
            back_channels: BTreeMap::new(),
            no_input_timeout: Duration::from_secs(5),
            no_input_limit: 3,
            no_input_event: Some("sys.no-input-default".to_owned()),
            no_input_transfer: false,
            hold_after: Duration::from_secs(3),
            hold_prompt: None,
            endpoint_timeout: Duration::from_secs(4),
            stream_ceiling: Duration::from_secs(55),
            interdigit_timeout: Duration::from_secs(3),
            max_digits: 20,
            transfer_failed_event: "TRANSFER_FAILED".to_owned(),
            report_heard: true,
        }
    }
}

impl Turn {
    /// What people say while they listen, in this language: the list of the very tag, else that of its primary subtag
    /// (RFC 5646 §2.2.1), else none. Case does not count.
    pub fn back_channels_in(&self, language: &str) -> &[String] {
        let tag = language.to_lowercase();
        let primary = tag.split('-').next().unwrap_or_default();
        let list = self
            .back_channels
            .get(&tag)
            .or_else(|| self.back_channels.get(primary));
        list.map_or(&[], Vec::as_slice)
    }
}

/// `turn.barge_in`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BargeIn {
    /// Recognised words cut the prompt.
    Words,
    /// Voice that lasts cuts the prompt.
    Voice,
    /// Nothing cuts the prompt.
    Off,
}

impl BargeIn {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("words", Self::Words),
        ("voice", Self::Voice),
        ("off", Self::Off),
    ];
}

/// `[fallback]`: what happens when an agent cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Played before the caller is transferred or the call ends. Default nothing.
    pub prompt: Option<WavFile>,
    /// Played when a caller must say something again. Default nothing.
    pub apology: Option<WavFile>,
    /// Where the caller then goes: a telephone number (`+` and digits, or digits) or a `sip:` URI. Default nowhere.
    pub transfer: Option<String>,
    /// How long a turn is tried again. Default 10 s (0–60 s).
    pub give_up_after: Duration,
    /// Failures in a row after which an agent's endpoint is left alone; 0: never. Default 20: more than one call alone brings about.
    pub breaker_failures: u32,
    /// For how long it then is. Default 2 s (1 s–10 min).
    pub breaker_open: Duration,
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            prompt: None,
            apology: None,
            transfer: None,
            give_up_after: Duration::from_secs(10),
            breaker_failures: 20,
            breaker_open: Duration::from_secs(2),
        }
    }
}

/// A WAV file that was read when the configuration was. Clones share its samples.
#[derive(Clone, PartialEq, Eq)]
pub struct WavFile {
    /// Where it was, seen from the working directory.
    pub path: PathBuf,
    /// Its samples, without the header.
    pub samples: Bytes,
    /// How they are written: one channel, 8 or 16 kHz.
    pub format: AudioFormat,
}

impl std::fmt::Debug for WavFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WavFile")
            .field("path", &self.path)
            .field("bytes", &self.samples.len())
            .field("format", &self.format)
            .finish()
    }
}
