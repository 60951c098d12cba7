//! The turn that is under way, and what to do when its stream fails (facts §9).

use std::time::Duration;

use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::engine::call::event::StreamId;
use crate::engine::call::event::TurnInput;
use crate::engine::call::notice::TurnKind;

/// Failures in a row after which a call gives its agent up. With the delays below that is about ten seconds.
const MAX_FAILURES: u32 = 8;
/// The first delay before a stream is opened again, and the factor between delays.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const DELAY_FACTOR: f64 = 1.7;
/// The first delay when the quota is used up (Google asks for a second, doubling).
const QUOTA_DELAY: Duration = Duration::from_secs(1);

/// The turn whose stream is open. There is at most one: two in flight race on the agent's session (facts §5.1).
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) stream: StreamId,
    pub(super) input: TurnInput,
    pub(super) phase: Phase,
    /// Whether the caller has been heard to say words.
    pub(super) words: bool,
    /// The call-sample at which the last final transcript ended.
    pub(super) final_end: Option<u64>,
    /// Whether a response has come: from then on the turn must never be sent again.
    pub(super) answered: bool,
    /// Whether any speech has been answered, of which the first counts for the delay.
    pub(super) spoken: bool,
    /// Whether a refused interruption has been counted.
    pub(super) refused: bool,
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
    pub(super) const fn new(stream: StreamId, input: TurnInput) -> Self {
        let phase = if matches!(input, TurnInput::Speech { .. }) {
            Phase::Listening
        } else {
            Phase::Answering
        };
        Self {
            stream,
            input,
            phase,
            words: false,
            final_end: None,
            answered: false,
            spoken: false,
            refused: false,
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

/// How many streams in a row have failed.
#[derive(Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// The agent has answered: all is well.
    pub(super) const fn clear(&mut self) {
        self.0 = 0;
    }

    /// Counts a failure of a turn that nothing had answered, and says how long to wait before trying again;
    /// `None`: not again.
    pub(super) fn retry_after(&mut self, fault: &Fault) -> Option<Duration> {
        self.0 += 1;
        if self.0 > MAX_FAILURES {
            return None;
        }
        let exponent = f64::from(self.0 - 1);
        match fault.kind {
            FaultKind::Unavailable
            | FaultKind::CircuitOpen
            | FaultKind::OutOfRange
            | FaultKind::Aborted
            | FaultKind::DeadlineExceeded
            | FaultKind::Other => Some(FIRST_DELAY.mul_f64(DELAY_FACTOR.powf(exponent))),
            FaultKind::ResourceExhausted => Some(QUOTA_DELAY.mul_f64(2_f64.powf(exponent))),
            FaultKind::Internal | FaultKind::Unauthenticated => {
                (self.0 == 1).then_some(FIRST_DELAY)
            }
            FaultKind::Cancelled
            | FaultKind::InvalidArgument
            | FaultKind::NotFound
            | FaultKind::PermissionDenied
            | FaultKind::FailedPrecondition => None,
        }
    }
}
