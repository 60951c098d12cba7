//! How calls end: for exactly one reason, which knows whose doing it was.

use crate::engine::call::event::LegEnd;

labels! {
    /// Why a call ended.
    pub enum EndReason {
        /// The caller hung up.
        CallerHungUp => "caller_hung_up",
        /// The agent said that the conversation is over, and the caller has heard it to its end.
        AgentEnded => "agent_ended",
        /// The agent asked for a person or another number.
        Transferred => "transferred",
        /// The caller said nothing, too many times in a row.
        NoInput => "no_input",
        /// The agent's service failed.
        BackendFailed => "backend_failed",
        /// The caller's media or signalling connection broke without a goodbye.
        LegLost => "leg_lost",
        /// The caller's browser no longer answers or asks, so nothing may be sent to it (RFC 7675).
        ConsentLost => "consent_lost",
        /// The caller's side broke its protocol.
        ProtocolError => "protocol_error",
        /// The call reached `limits.call_duration`.
        DurationLimit => "duration_limit",
        /// An operator ended it.
        Operator => "operator",
        /// The gateway stopped, and its drain ran out of time.
        Drained => "drained",
        /// The gateway broke one of its own rules; a bug.
        InternalError => "internal_error",
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
