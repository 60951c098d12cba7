//! How calls end: for exactly one reason, which knows whose doing it was.

use crate::engine::call::event::LegEnd;

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The caller hung up.
    CallerHungUp,
    /// The agent said that the conversation is over, and the caller has heard it to its end.
    AgentEnded,
    /// The agent asked for a person or another number.
    Transferred,
    /// The caller said nothing, too many times in a row.
    NoInput,
    /// The agent's service failed.
    BackendFailed,
    /// The caller's media or signalling connection broke without a goodbye.
    LegLost,
    /// The caller's browser no longer answers or asks, so nothing may be sent to it (RFC 7675).
    ConsentLost,
    /// The caller's side broke its protocol.
    ProtocolError,
    /// The call reached `limits.call_duration`.
    DurationLimit,
    /// An operator ended it.
    Operator,
    /// The gateway stopped, and its drain ran out of time.
    Drained,
    /// The gateway broke one of its own rules; a bug.
    InternalError,
}

impl EndReason {
    /// Every reason, so that each is a series from the start.
    pub const ALL: [Self; 12] = [
        Self::CallerHungUp,
        Self::AgentEnded,
        Self::Transferred,
        Self::NoInput,
        Self::BackendFailed,
        Self::LegLost,
        Self::ConsentLost,
        Self::ProtocolError,
        Self::DurationLimit,
        Self::Operator,
        Self::Drained,
        Self::InternalError,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::CallerHungUp => "caller_hung_up",
            Self::AgentEnded => "agent_ended",
            Self::Transferred => "transferred",
            Self::NoInput => "no_input",
            Self::BackendFailed => "backend_failed",
            Self::LegLost => "leg_lost",
            Self::ConsentLost => "consent_lost",
            Self::ProtocolError => "protocol_error",
            Self::DurationLimit => "duration_limit",
            Self::Operator => "operator",
            Self::Drained => "drained",
            Self::InternalError => "internal_error",
        }
    }
}

impl From<LegEnd> for EndReason {
    fn from(end: LegEnd) -> Self {
        match end {
            LegEnd::HungUp => Self::CallerHungUp,
            LegEnd::Lost => Self::LegLost,
            LegEnd::ConsentLost => Self::ConsentLost,
            LegEnd::ProtocolError(_) => Self::ProtocolError,
        }
    }
}
