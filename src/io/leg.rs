//! The seam between an ingress and a call: what every protocol's leg looks like from inside.
//!
//! Two lock-free rings join them. Control items travel in the same ring as audio, so their order is the order in which
//! things happened; audio leaves [`CONTROL_RESERVE`] places free, so that a flood of audio never hides a hang-up.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::engine::call::end::EndReason;
use crate::engine::call::event::Digit;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::LegEnd;
use crate::engine::call::event::SegmentId;
use crate::engine::call::event::Transfer;
use crate::engine::call::settings::LegTraits;
use crate::engine::media::frame::Frame;
use crate::engine::media::ring;

/// Frames on the way to the call: 640 ms, far more than a healthy task ever lets wait.
pub const INPUT_CAPACITY: usize = 32 + CONTROL_RESERVE;
/// Frames on the way to the caller: the pace is the engine's, so these only bridge one busy moment of the socket.
pub const OUTPUT_CAPACITY: usize = 16 + CONTROL_RESERVE;
/// Places that audio leaves free.
pub const CONTROL_RESERVE: usize = 16;

labels! {
    /// Which kind of ingress a call came by.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum IngressKind {
        /// SIP and RTP: a PBX, a carrier's trunk, a softphone.
        Sip => "sip",
        /// A Twilio-style media websocket.
        Twilio => "twilio",
        /// WebRTC, signalled by WHIP: a browser.
        Whip => "whip",
    }
}

/// What an ingress knows of a call before the first sample.
#[derive(Clone, Debug)]
pub struct LegInfo {
    /// Which kind of ingress.
    pub ingress: IngressKind,
    /// The peer's own name for the call (Twilio: the CallSid), for finding it again.
    pub external_id: String,
    /// When its first sign came: an INVITE, an offer, a media websocket.
    pub began: Instant,
    /// Who calls, as the peer wrote it; may be empty.
    pub from: String,
    /// Who was dialled, as the peer wrote it; may be empty.
    pub to: String,
    /// The domain that was dialled (SIP); may be empty.
    pub domain: String,
    /// What the peer sent along and routes may ask for (SIP headers), in its order.
    pub headers: Vec<(String, String)>,
    /// Parameters that may reach the agent.
    pub parameters: BTreeMap<String, String>,
    /// How the leg behaves.
    pub traits: LegTraits,
}

#[cfg(test)]
impl LegInfo {
    /// A telephone whose line is open and of which nothing is known.
    pub(crate) fn of_telephone(rate: crate::engine::media::frame::SampleRate) -> Self {
        Self {
            ingress: IngressKind::Sip,
            external_id: String::new(),
            began: Instant::now(),
            from: String::new(),
            to: String::new(),
            domain: String::new(),
            headers: Vec::new(),
            parameters: BTreeMap::new(),
            traits: LegTraits {
                rate,
                lead: std::time::Duration::ZERO,
                confirms_playout: false,
                continuous: true,
                rings: None,
                transfers: true,
                dials: false,
            },
        }
    }
}

/// What a leg tells its call.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "frames lie in the ring itself: a box would allocate per frame"
)]
pub enum LegInput {
    /// Caller audio, decoded.
    Audio(Frame),
    /// The caller pressed a key.
    Digit(Digit, DigitSource),
    /// Everything before this mark has been played (or thrown away by [`LegOutput::Clear`]: the call knows which).
    MarkReached(SegmentId),
    /// The caller hears us from now on.
    Answered,
    /// The caller's side holds the call (`true`) or has come back to it.
    Held(bool),
    /// How the transfer went.
    TransferEnded(Result<(), String>),
    /// The leg is over; nothing follows.
    Ended(LegEnd),
}

/// What a call asks of its leg.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "frames lie in the ring itself: a box would allocate per frame"
)]
pub enum LegOutput {
    /// Agent audio, to be sent now.
    Audio(Frame),
    /// Ask the far end to say when everything sent so far has been played.
    Mark(SegmentId),
    /// Throw away what the far end has not played yet, and reset the encoder.
    Clear,
    /// What is before this, a [`LegOutput::Clear`], was decided at this moment: measure how long it took
    /// ([`crate::io::metrics::barge_in`]).
    CutDecided(Instant),
    /// Answer a ringing call.
    Answer,
    /// Transfer the caller, and say how that went.
    Transfer(Box<Transfer>),
    /// End the leg in the protocol's own way, once everything before this has been sent.
    HangUp(EndReason),
}

/// The call's side of a leg.
pub struct Leg {
    /// What is known of it.
    pub info: LegInfo,
    /// From the caller. The ring's end without [`LegInput::Ended`] means that the leg's task is gone.
    pub input: ring::Receiver<LegInput>,
    /// To the caller.
    pub output: ring::Sender<LegOutput>,
}

/// The ingress's side of a leg.
pub struct LegPort {
    /// To the call.
    pub input: ring::Sender<LegInput>,
    /// From the call. The ring's end without [`LegOutput::HangUp`] means that the call is gone: hang up too.
    pub output: ring::Receiver<LegOutput>,
}

impl LegPort {
    /// Hands caller audio over; `false` if there was no room and it is lost (to be counted by the caller).
    #[must_use]
    pub fn push_audio(&mut self, frame: Frame) -> bool {
        self.input.free() > CONTROL_RESERVE && self.input.push(LegInput::Audio(frame)).is_ok()
    }

    /// Hands a control item over; `false` if even the reserve is used up, which a flood alone can do.
    #[must_use]
    pub fn push_control(&mut self, item: LegInput) -> bool {
        self.input.push(item).is_ok()
    }
}

/// Both sides of a new leg.
pub fn leg(info: LegInfo) -> (Leg, LegPort) {
    let (input_sender, input_receiver) = ring::ring(INPUT_CAPACITY);
    let (output_sender, output_receiver) = ring::ring(OUTPUT_CAPACITY);
    let call_side = Leg {
        info,
        input: input_receiver,
        output: output_sender,
    };
    let ingress_side = LegPort {
        input: input_sender,
        output: output_receiver,
    };
    (call_side, ingress_side)
}
