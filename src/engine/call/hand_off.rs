//! Handing the caller over: to a number that the agent names, or to people, wherever the route says those are.
//!
//! Where the leg can transfer while the call goes on, the call outlives the attempt: a transfer that is refused brings
//! the caller back to the agent, who is told by an event (field notes 32). Elsewhere the call ends as *transferred* and
//! its ingress does the rest.

use crate::engine::call::Call;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Action;
use crate::engine::call::event::Transfer;
use crate::engine::call::event::TurnInput;
use crate::engine::call::line::Line;
use crate::engine::call::notice::Notice;
use crate::engine::call::timers::Timer;

/// Where a transfer stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum HandOff {
    /// Nobody asked for one.
    #[default]
    None,
    /// To be carried out once everything has been heard.
    Wanted(Transfer),
    /// The leg is at it.
    UnderWay,
}

impl Call {
    /// The agent wants the caller elsewhere. Without a target there is nothing to try, and the call merely ends.
    pub(super) fn want_hand_off(&mut self, to: Option<String>, metadata: serde_json::Value) {
        let to = to.or_else(|| self.settings.hand_off_to.clone());
        self.tell(Notice::Transfer {
            to: to.clone(),
            metadata: metadata.clone(),
        });
        // The last of several wins: the agent has thought better of the others.
        if let Some(to) = to {
            self.hand_off = HandOff::Wanted(Transfer { to, metadata });
        }
    }

    /// An operator wants the caller elsewhere: at once, whatever is being said.
    pub(super) fn on_transfer_ordered(&mut self, transfer: Transfer) {
        if self.hand_off == HandOff::UnderWay {
            return;
        }
        if self.playout.is_playing() {
            self.cut_playout();
        }
        self.give_turn_up();
        self.retry = None;
        self.timers.stop(Timer::Retry);
        self.tools.clear();
        self.want_hand_off(Some(transfer.to), transfer.metadata);
        self.ending = Some(EndReason::Transferred);
        self.leave(EndReason::Transferred);
    }

    /// Everything has been heard, and the call is to end as `reason`; or the leg is asked to transfer it first.
    pub(super) fn leave(&mut self, reason: EndReason) {
        if let HandOff::Wanted(transfer) = &self.hand_off
            && reason == EndReason::Transferred
            && self.settings.leg.dials
            && transfer.dialled().is_none()
        {
            self.hand_off = HandOff::None;
            self.on_transfer_failed("it is no number and no address".to_owned());
            return;
        }
        if reason != EndReason::Transferred || !self.settings.leg.transfers {
            self.end(reason);
            return;
        }
        match std::mem::take(&mut self.hand_off) {
            // Nobody can be transferred who has not been answered.
            HandOff::Wanted(transfer) if matches!(self.line, Line::Ringing | Line::Answering) => {
                self.hand_off = HandOff::Wanted(transfer);
                self.open_line();
            }
            HandOff::Wanted(transfer) => {
                self.hand_off = HandOff::UnderWay;
                self.act(Action::Transfer(transfer));
            }
            HandOff::UnderWay => self.hand_off = HandOff::UnderWay,
            HandOff::None => self.end(reason),
        }
    }

    pub(super) fn on_transfer_ended(&mut self, outcome: Result<(), String>) {
        if self.hand_off != HandOff::UnderWay {
            return;
        }
        self.hand_off = HandOff::None;
        match outcome {
            Ok(()) => self.end(EndReason::Transferred),
            Err(reason) => self.on_transfer_failed(reason),
        }
    }

    /// The caller is still here.
    fn on_transfer_failed(&mut self, reason: String) {
        self.tell(Notice::TransferFailed { reason });
        self.end_hold();
        self.ending = None;
        // There is no agent to come back to.
        if self.failures.is_hopeless {
            self.end(EndReason::BackendFailed);
            return;
        }
        self.uplink.set_heard_to(self.uplink.voice_under_way());
        let event = self.settings.transfer_failed_event.clone();
        self.open(TurnInput::Event(event));
    }

    /// A caller who leaves while being transferred has been transferred: their side took them away from us.
    pub(super) fn leg_ended_as(&self, reason: EndReason) -> EndReason {
        if self.hand_off == HandOff::UnderWay && reason == EndReason::CallerHungUp {
            EndReason::Transferred
        } else {
            reason
        }
    }
}
