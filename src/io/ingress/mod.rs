//! Ingresses: adapters that turn a protocol into legs.
//!
//! An ingress knows nothing of agents, routes or limits. It meets the rest of the gateway at the [`Exchange`]: it asks
//! whether a call may come in, and hands over its leg. One folder per protocol.

use crate::engine::call::event::Transfer;
use crate::io::journal::Journal;
use crate::io::leg::IngressKind;
use crate::io::leg::Leg;
use crate::io::leg::LegInfo;

pub mod handoff;
pub mod sip;
mod tally;
pub mod twilio;
mod udp;
pub mod whip;

/// Where ingresses bring their calls.
pub trait Exchange: Send + Sync {
    /// Whether a call that is only announced would be admitted at this moment. A hint: [`Exchange::admit`] decides.
    fn accepting(&self) -> bool;

    /// Whether the gateway is on its way out, so that those who ask whether it is there should look elsewhere.
    fn is_draining(&self) -> bool;

    /// Asks for a place for a call whose leg is ready to be made.
    ///
    /// # Errors
    /// Why there is none.
    fn admit(&self, info: &LegInfo) -> Result<Box<dyn Admission>, Refusal>;

    /// What becomes of the caller after the leg with this [`LegInfo::external_id`] has ended, where the protocol asks.
    fn after_call(&self, ingress: IngressKind, external_id: &str) -> AfterCall {
        let _ = (ingress, external_id);
        AfterCall::HangUp
    }

    /// What becomes of a caller whom the ingress was told to dial elsewhere, now that this is over: someone took the call,
    /// or nobody did, for this reason.
    fn after_dial(
        &self,
        ingress: IngressKind,
        external_id: &str,
        outcome: Result<(), &str>,
    ) -> AfterCall {
        let _ = (ingress, external_id, outcome);
        AfterCall::HangUp
    }
}

/// A place for one call. Dropping it gives the place back.
pub trait Admission: Send {
    /// Begins the call. What happens in it can be read in its journal.
    fn connect(self: Box<Self>, leg: Leg) -> Journal;
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `limits.calls` or `limits.calls_per_second` is reached.
    Busy,
    /// The gateway is on its way out.
    Draining,
    /// No route takes such a call.
    NoRoute,
}

/// What becomes of a caller when the call is over.
#[derive(Clone, Debug, PartialEq)]
pub enum AfterCall {
    /// Nothing more: hang up.
    HangUp,
    /// Connect to this number (E.164) or `sip:` address, and ask again how that went ([`Exchange::after_dial`]).
    Dial(Transfer),
    /// Back to the agent: begin a new call under the same [`LegInfo::external_id`].
    Return,
}
