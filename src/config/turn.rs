//! What `[turn]` becomes.

use std::time::Duration;

/// `[turn]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What lets a caller interrupt. Default `words`.
    pub barge_in: BargeIn,
    /// How long a caller may be silent after a prompt, unless the agent says otherwise. Default 5 s.
    pub no_input_timeout: Duration,
    /// Silent turns in a row that end the call. Default 3.
    pub no_input_limit: u32,
    /// The longest speech stream before we half-close it. Default 55 s.
    pub stream_ceiling: Duration,
    /// The longest pause between two digits, unless the agent says otherwise. Default 3 s.
    pub interdigit_timeout: Duration,
    /// The most digits of one input, unless the agent says otherwise. Default 20.
    pub max_digits: u32,
    /// The event by which an agent learns that a transfer was refused. Default `TRANSFER_FAILED`.
    pub transfer_failed_event: String,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            barge_in: BargeIn::Words,
            no_input_timeout: Duration::from_secs(5),
            no_input_limit: 3,
            stream_ceiling: Duration::from_secs(55),
            interdigit_timeout: Duration::from_secs(3),
            max_digits: 20,
            transfer_failed_event: "TRANSFER_FAILED".to_owned(),
        }
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
