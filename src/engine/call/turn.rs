//! The turn that is under way.

use std::time::Instant;

use crate::engine::call::event::StreamId;
use crate::engine::call::event::TurnInput;
use crate::engine::call::notice::TakenFor;
use crate::engine::call::notice::TurnKind;

/// The turn whose stream is open. There is at most one: two in flight race on the agent's session (facts §5.1).
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) stream: StreamId,
    pub(super) input: TurnInput,
    pub(super) phase: Phase,
    pub(super) opened: Instant,
    /// Whether the caller has been heard to say words.
    pub(super) words: bool,
    /// Why words that were heard were not taken for the caller's wish to speak, if no others were.
    pub(super) dismissed: Option<TakenFor>,
    /// What was understood for good, and what since then, as far as it is known.
    pub(super) final_words: String,
    pub(super) interim_words: String,
    /// Whether the recogniser has said that the utterance is over.
    pub(super) is_spoken_out: bool,
    /// Whether we ended the utterance while the caller went on speaking.
    pub(super) is_cut_short: bool,
    /// The call-sample at which the last final transcript ended.
    pub(super) final_end: Option<u64>,
    /// Whether a response has come: from then on the turn must never be sent again.
    pub(super) answered: bool,
    /// Whether any speech has been answered, of which the first counts for the delay.
    pub(super) spoken: bool,
    /// Whether a refused interruption has been counted.
    pub(super) refused: bool,
    /// Which report of what the caller heard went with it.
    pub(super) report: Option<u32>,
}

/// Where a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Input goes on.
    Listening,
    /// Input is complete, the answer is awaited.
    Answering,
}

impl Turn {
    pub(super) const fn new(stream: StreamId, input: TurnInput, now: Instant) -> Self {
        let phase = if matches!(input, TurnInput::Speech { .. }) {
            Phase::Listening
        } else {
            Phase::Answering
        };
        Self {
            stream,
            input,
            phase,
            opened: now,
            words: false,
            dismissed: None,
            final_words: String::new(),
            interim_words: String::new(),
            is_spoken_out: false,
            is_cut_short: false,
            final_end: None,
            answered: false,
            spoken: false,
            refused: false,
            report: None,
        }
    }

    pub(super) const fn kind(&self) -> TurnKind {
        self.input.kind()
    }
}

impl TurnInput {
    /// What kind of input it is.
    pub const fn kind(&self) -> TurnKind {
        match self {
            Self::Speech { .. } => TurnKind::Speech,
            Self::Text(_) => TurnKind::Text,
            Self::Event(_) => TurnKind::Event,
            Self::Intent(_) => TurnKind::Intent,
            Self::Dtmf { .. } => TurnKind::Dtmf,
            Self::ToolResult(_) => TurnKind::ToolResult,
        }
    }
}
