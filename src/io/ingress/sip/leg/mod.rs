//! One call's leg: its dialog, its packets and its timers, in one task with one loop.
//!
//! ```text
//! Ringing ──call says Answer──▶ Answered (200 sent) ──ACK──▶ Talking ──BYE from either side──▶ over
//!    └──────── CANCEL, or the call ends: 4xx/5xx ──▶ over
//! ```
//!
//! The loop waits for everything and does everything that does not wait. Requests of our own (a refresh, REFER, BYE)
//! take as long as the peer likes, so each goes out in a task of its own and comes back as an [`Outcome`].

mod association;
mod bridge;
mod media;
mod negotiation;
mod requests;

use std::pin::Pin;
use std::time::Instant;

use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::dialog::DialogStateReceiver;
use rsipstack::dialog::dialog::TerminatedReason;
use rsipstack::dialog::dialog::TransactionHandle;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::CSeq;
use rsipstack::sip::Header;
use rsipstack::sip::HeadersExt as _;
use rsipstack::sip::Method;
use rsipstack::sip::Request;
use rsipstack::sip::StatusCode;
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio::time::sleep_until;
use tracing::debug;
use tracing::info;

pub(super) use self::media::Media;
pub(super) use self::negotiation::Negotiation;
use self::requests::Outcome;
use self::requests::Requests;
use super::info_dtmf;
use super::measure;
use super::message;
use super::message::field;
use super::refused::Refused;
use super::reliable;
use super::reliable::Reliable;
use super::session_timer;
use super::session_timer::Plan;
use super::session_timer::SessionTimer;
use super::switchboard::Connected;
use super::switchboard::Signal;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::LegEnd;
use crate::engine::sdp::agreement::Agreement;
use crate::io::clock::now;
use crate::io::leg::LegInput;
use crate::io::leg::LegOutput;
use crate::io::leg::LegPort;
use crate::io::metrics;
use crate::io::metrics::Alive;
use crate::io::metrics::Object;

/// After how many seconds a peer whose request crossed ours may try again.
const GLARE_RETRY_SECONDS: &str = "1";

/// What a leg is made of.
pub(super) struct Parts {
    /// Keeps the leg known.
    pub(super) connected: Connected,
    pub(super) dialog: InviteDialog,
    pub(super) states: DialogStateReceiver,
    pub(super) signals: mpsc::Receiver<Signal>,
    pub(super) port: LegPort,
    pub(super) media: Media,
    pub(super) negotiation: Negotiation,
    /// What was agreed; `None` if the caller has left the offer to us.
    pub(super) agreement: Option<Agreement>,
    /// How the session is kept alive.
    pub(super) plan: Plan,
    /// The body of the 200.
    pub(super) description: Vec<u8>,
    /// The provisional responses that the caller wants to confirm, if they want to.
    pub(super) provisional: Option<Reliable>,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No final response yet.
    Ringing,
    /// 200 has been sent; the ACK is awaited.
    Answered,
    /// The ACK is here.
    Talking,
}

/// How a leg ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// BYE, at whatever time, or CANCEL while it rang.
    HungUp,
    /// The peer is gone without a word: no ACK, no refresh, no packets, or it denies the dialog.
    Lost(&'static str),
    /// It answered our offer with something that cannot be used.
    BadAnswer,
    /// The call has ended it.
    ByUs(EndReason),
    /// The call's task is gone.
    CallGone,
}

impl Ending {
    const fn leg_end(self) -> LegEnd {
        match self {
            Self::HungUp | Self::ByUs(_) | Self::CallGone => LegEnd::HungUp,
            Self::Lost(_) => LegEnd::Lost,
            Self::BadAnswer => LegEnd::ProtocolError("the SDP answer cannot be used"),
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::HungUp => "hung_up",
            Self::Lost(why) => why,
            Self::BadAnswer => "bad_answer",
            Self::ByUs(reason) => reason.label(),
            Self::CallGone => "call_gone",
        }
    }

    /// What a caller who is still waiting is told.
    const fn status(self) -> StatusCode {
        match self {
            Self::ByUs(EndReason::BackendFailed | EndReason::Drained) => {
                StatusCode::ServiceUnavailable
            }
            Self::ByUs(EndReason::InternalError) | Self::CallGone => {
                StatusCode::ServerInternalError
            }
            Self::HungUp => StatusCode::RequestTerminated,
            Self::Lost(_) | Self::BadAnswer | Self::ByUs(_) => StatusCode::TemporarilyUnavailable,
        }
    }
}

struct Leg {
    connected: Connected,
    dialog: InviteDialog,
    states: DialogStateReceiver,
    signals: mpsc::Receiver<Signal>,
    port: LegPort,
    media: Media,
    negotiation: Negotiation,
    /// What the 200 says of the session's timer.
    plan: Plan,
    /// Runs from the ACK on.
    timer: Option<SessionTimer>,
    description: Vec<u8>,
    provisional: Option<Reliable>,
    requests: Requests,
    outcomes: mpsc::Receiver<Outcome>,
    phase: Phase,
    /// Whether the call knows that the caller hears it.
    is_open: bool,
    is_held: bool,
    /// The CSeq number of the INVITE whose 200 carries our offer: its ACK brings the answer.
    offered_to: Option<u32>,
}

/// Carries a leg to its end and tells the call.
pub(super) async fn run(parts: Parts) {
    let _alive = Alive::new(Object::Leg);
    let (requests, outcomes) = Requests::new(parts.dialog.clone());
    let offered_to = match parts.agreement {
        Some(_) => None,
        None => sequence(&parts.dialog.initial_request()),
    };
    let mut leg = Leg {
        connected: parts.connected,
        dialog: parts.dialog,
        states: parts.states,
        signals: parts.signals,
        port: parts.port,
        media: parts.media,
        negotiation: parts.negotiation,
        plan: parts.plan,
        timer: None,
        description: parts.description,
        provisional: parts.provisional,
        requests,
        outcomes,
        phase: Phase::Ringing,
        is_open: false,
        is_held: false,
        offered_to,
    };
    if let Some(agreement) = &parts.agreement {
        leg.media.agree(agreement, now());
    }
    let mut alarm = Box::pin(sleep_until(tokio::time::Instant::now()));
    let ending = loop {
        if let Some(ending) = leg.turn(&mut alarm).await {
            break ending;
        }
    };
    info!(reason = ending.label(), "leg ended");
    leg.end(ending);
}

impl Leg {
    /// Waits for whatever comes first, and does what it asks for.
    async fn turn(&mut self, alarm: &mut Pin<Box<Sleep>>) -> Option<Ending> {
        let deadline = self.deadline();
        if alarm.is_elapsed() || deadline < alarm.deadline().into_std() {
            alarm.as_mut().reset(deadline.into());
        }
        tokio::select! {
            biased;
            // 1. Signalling is rare, and what it says decides what becomes of packets.
            state = self.states.recv() => match state {
                Some(state) => self.on_state(state).await,
                None => Some(Ending::Lost("dialog_gone")),
            },
            Some(signal) = self.signals.recv() => self.on_signal(signal),
            Some(outcome) = self.outcomes.recv() => self.on_outcome(outcome),
            // 2. The agent's voice: its frames are due now.
            output = self.port.output.recv() => match output {
                Some(output) => self.on_output(output),
                None => Some(Ending::CallGone),
            },
            // 3. The caller's voice, which the kernel keeps for us.
            () = self.media.sockets().readable() => {
                self.media.receive(&mut self.port, now());
                self.note_open();
                None
            }
            // 4. The clock, last: what has been waiting in a socket is no silence.
            () = alarm.as_mut() => self.on_alarm(),
        }
    }

    fn deadline(&self) -> Instant {
        /// How long a leg without any deadline sleeps.
        const IDLE: std::time::Duration = std::time::Duration::from_secs(1);
        let provisional = self.provisional.as_ref().and_then(Reliable::deadline);
        let timer = self.timer.as_ref().and_then(SessionTimer::deadline);
        [
            Some(now() + IDLE),
            self.media.deadline(),
            self.requests.deadline(),
            provisional,
            timer,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or_else(now)
    }

    async fn on_state(&mut self, state: DialogState) -> Option<Ending> {
        match state {
            // The stack sends 100, and tells us that it is about to.
            DialogState::Calling(_) => self.ring(),
            DialogState::Confirmed(..) => return self.on_ack(),
            DialogState::Updated(_, request, handle) => self.on_offer(&request, &handle).await,
            DialogState::Info(_, request, handle) => {
                let body_type = message::body_type(&request);
                if let Some(digit) = info_dtmf::digit(&body_type, &request.body) {
                    self.tell(LegInput::Digit(digit, DigitSource::Info));
                }
                respond(&handle, StatusCode::OK, Vec::new()).await;
            }
            DialogState::Notify(_, request, handle) => {
                respond(&handle, StatusCode::OK, Vec::new()).await;
                self.requests.on_notify(&request);
            }
            DialogState::Options(_, _, handle) => {
                let allow = field("Allow", message::ALLOW);
                respond(&handle, StatusCode::OK, vec![allow]).await;
            }
            DialogState::Refer(_, _, handle)
            | DialogState::Message(_, _, handle)
            | DialogState::Publish(_, _, handle) => {
                respond(&handle, StatusCode::MethodNotAllowed, Vec::new()).await;
            }
            DialogState::Terminated(_, reason) => return Some(ending(&reason)),
            DialogState::Trying(_) | DialogState::Early(..) | DialogState::WaitAck(..) => {}
        }
        None
    }

    /// Lets the caller hear that it rings.
    fn ring(&mut self) {
        let number = self
            .provisional
            .as_mut()
            .and_then(|provisional| provisional.send(now()).ok());
        self.send_ringing(number);
    }

    /// 180, with a number if its arrival is to be confirmed.
    fn send_ringing(&self, number: Option<u32>) {
        let headers = number.map(|number| {
            vec![
                field("Require", "100rel"),
                field("RSeq", number.to_string()),
            ]
        });
        if let Err(error) = self.dialog.ringing(headers, None) {
            debug!(%error, "180 could not be sent");
        }
    }

    /// 200 with our description. The stack repeats it until the ACK is here.
    fn answer(&mut self) {
        self.provisional = None;
        self.phase = Phase::Answered;
        let mut headers = timer_fields(&self.plan);
        headers.push(field("Allow", message::ALLOW));
        headers.push(field("Supported", message::SUPPORTED));
        headers.push(field("Content-Type", message::SDP));
        let description = std::mem::take(&mut self.description);
        if let Err(error) = self.dialog.accept(Some(headers), Some(description)) {
            debug!(%error, "200 could not be sent");
        }
        self.media.open(now());
    }

    /// An ACK: of the call, or of a re-INVITE. The stack says the same of every request within the call, so an answer is
    /// only taken from the ACK that must bring it.
    fn on_ack(&mut self) -> Option<Ending> {
        if self.offered_to.is_some()
            && let Some(ack) = self.dialog.last_remote_ack()
            && sequence(&ack) == self.offered_to
        {
            self.offered_to = None;
            match self.negotiation.accept(&ack.body) {
                Ok(agreement) => self.media.agree(&agreement, now()),
                Err(reason) => {
                    measure::refused(reason);
                    return Some(Ending::BadAnswer);
                }
            }
        }
        if self.phase == Phase::Answered {
            self.phase = Phase::Talking;
            self.timer = Some(SessionTimer::new(self.plan, now()));
        }
        self.note_open();
        self.note_hold();
        None
    }

    /// Tells the call that the caller hears it: once the ACK is here, and the keys are where there must be keys. What was
    /// said before would be lost.
    fn note_open(&mut self) {
        if !self.is_open && self.phase == Phase::Talking && self.media.is_ready() {
            self.is_open = true;
            self.tell(LegInput::Answered);
        }
    }

    /// A re-INVITE or an UPDATE.
    async fn on_offer(&mut self, request: &Request, handle: &TransactionHandle) {
        let is_invite = request.method == Method::Invite;
        let asks = is_invite || !request.body.is_empty();
        let is_ours_open = self.requests.is_refreshing() || self.offered_to.is_some();
        let refusal = if is_invite && self.offered_to.is_some() {
            Some((
                StatusCode::ServerInternalError,
                field("Retry-After", GLARE_RETRY_SECONDS),
            ))
        } else if asks && is_ours_open {
            // Both sides have asked at once: they try again, each after a time of its own (RFC 3261 §14.1, RFC 3311 §5.2).
            Some((
                StatusCode::RequestPending,
                field("Retry-After", GLARE_RETRY_SECONDS),
            ))
        } else if !request.body.is_empty() && message::body_type(request) != message::SDP {
            measure::refused(Refused::MediaType);
            Some((
                StatusCode::UnsupportedMediaType,
                field("Accept", message::SDP),
            ))
        } else {
            self.renew_timer(request)
        };
        if let Some((status, header)) = refusal {
            respond(handle, status, vec![header]).await;
            return;
        }
        let description = if !request.body.is_empty() {
            match self.negotiation.answer(&request.body) {
                Ok((description, agreement)) => {
                    self.media.agree(&agreement, now());
                    description
                }
                Err(reason) => {
                    measure::refused(reason);
                    let status = super::invite::media_status(reason);
                    respond(handle, status, Vec::new()).await;
                    return;
                }
            }
        } else if is_invite {
            self.offered_to = sequence(request);
            self.negotiation.offer()
        } else {
            Vec::new()
        };
        self.requests.refresh_target(request);
        let mut headers = timer_fields(&self.plan);
        let body = (!description.is_empty()).then_some(description);
        if body.is_some() {
            headers.push(field("Content-Type", message::SDP));
        }
        if let Err(error) = handle.respond(StatusCode::OK, Some(headers), body).await {
            debug!(%error, "an offer could not be answered");
        }
        self.note_hold();
    }

    /// Every request that may refresh the session says anew how it is kept alive (RFC 4028 §9).
    fn renew_timer(&mut self, request: &Request) -> Option<(StatusCode, Header)> {
        let settings = self.connected.board.shared.timer_settings();
        match session_timer::negotiate(settings, &super::invite::asked(request)) {
            Ok(plan) => {
                self.plan = plan;
                if let Some(timer) = &mut self.timer {
                    timer.renegotiated(plan, now());
                }
                None
            }
            Err(refusal) => {
                measure::refused(Refused::Interval);
                let min_se = refusal.min_se.as_secs().to_string();
                Some((StatusCode::SessionIntervalTooSmall, field("Min-SE", min_se)))
            }
        }
    }

    /// Tells the call when the caller's side has begun or ended to hold it.
    fn note_hold(&mut self) {
        let is_held = self.media.is_held();
        if is_held != self.is_held && self.is_open {
            self.is_held = is_held;
            self.tell(LegInput::Held(is_held));
        }
    }

    fn on_signal(&mut self, signal: Signal) -> Option<Ending> {
        match signal {
            Signal::Prack { rack, verdict } => {
                let provisional = self.provisional.as_mut();
                let judged = provisional.map_or(reliable::Prack::Unknown, |provisional| {
                    provisional.acknowledged(&rack)
                });
                // Whoever asked may be gone.
                let _ = verdict.send(judged);
            }
            Signal::Digit(digit) => self.tell(LegInput::Digit(digit, DigitSource::Info)),
            Signal::Bye => return Some(Ending::HungUp),
        }
        None
    }

    fn on_outcome(&mut self, outcome: Outcome) -> Option<Ending> {
        match outcome {
            Outcome::Refreshed(answer) => self.on_refreshed(answer),
            Outcome::ReferRefused(refer, reason) if self.requests.awaits(refer) => {
                self.on_outcome(Outcome::Transferred(Err(reason)))
            }
            Outcome::ReferRefused(..) => None,
            Outcome::Transferred(result) => {
                self.requests.transfer_ended();
                measure::transfer(match result {
                    Ok(()) => measure::Transfer::Done,
                    Err(_) => measure::Transfer::Refused,
                });
                self.tell(LegInput::TransferEnded(result));
                None
            }
        }
    }

    /// The peer has answered our refresh, or has not.
    fn on_refreshed(&mut self, answer: Option<requests::Refreshed>) -> Option<Ending> {
        /// Stands for no answer at all (RFC 3261 §8.1.3.1).
        const NO_ANSWER: u16 = 408;
        let now = now();
        self.requests.refresh_ended();
        let timer = self.timer.as_mut()?;
        let Some(answer) = answer else {
            self.negotiation.withdraw();
            return refresh_failed(timer, NO_ANSWER, None, now);
        };
        if !(200..300).contains(&answer.status) {
            self.negotiation.withdraw();
            return refresh_failed(timer, answer.status, answer.min_se, now);
        }
        timer.refreshed(answer.session_expires, now);
        if !answer.description.is_empty()
            && let Ok(agreement) = self.negotiation.accept(&answer.description)
        {
            self.media.agree(&agreement, now);
            self.note_hold();
        }
        None
    }

    fn on_output(&mut self, output: LegOutput) -> Option<Ending> {
        match output {
            LegOutput::Audio(frame) => self.media.send(&frame, now()),
            LegOutput::Clear => self.media.clear(),
            LegOutput::CutDecided(at) => metrics::barge_in(now().saturating_duration_since(at)),
            // Nothing is buffered beyond us, so marks are not asked for.
            LegOutput::Mark(_) => {}
            LegOutput::Answer => self.answer(),
            LegOutput::Transfer(transfer) => {
                let shared = &self.connected.board.shared;
                self.requests
                    .transfer(&transfer, now() + shared.sip.transfer_timeout);
            }
            LegOutput::HangUp(reason) => return Some(Ending::ByUs(reason)),
        }
        None
    }

    fn on_alarm(&mut self) -> Option<Ending> {
        let now = now();
        if let Some(why) = self.media.tick(&mut self.port, now) {
            return Some(Ending::Lost(why));
        }
        match self.provisional.as_mut().and_then(|sent| sent.poll(now)) {
            Some(reliable::Due::Again { rseq }) => self.send_ringing(Some(rseq)),
            Some(reliable::Due::GiveUp) => return Some(Ending::Lost("no_prack")),
            None => {}
        }
        if let Some(outcome) = self.requests.tick(now)
            && let Some(ending) = self.on_outcome(outcome)
        {
            return Some(ending);
        }
        match self.timer.as_mut()?.poll(now)? {
            session_timer::Due::Refresh(refresh) => self.refresh(&refresh),
            session_timer::Due::End => return Some(Ending::Lost("session_expired")),
        }
        None
    }

    /// Shows the peer that we are there, and finds out whether it is.
    fn refresh(&mut self, refresh: &session_timer::Refresh) {
        let mut headers = vec![
            field("Session-Expires", refresh.session_expires.write()),
            field("Supported", message::SUPPORTED),
            field("Allow", message::ALLOW),
        ];
        if let Some(min_se) = refresh.min_se {
            headers.push(field("Min-SE", min_se.as_secs().to_string()));
        }
        if refresh.by_update {
            self.requests.refresh(Method::Update, headers, Vec::new());
        } else {
            let description = self.negotiation.offer();
            self.requests.refresh(Method::Invite, headers, description);
        }
    }

    fn tell(&mut self, input: LegInput) {
        if !self.port.push_control(input) {
            debug!("the call takes nothing more");
        }
    }

    /// Says goodbye to both sides. The caller's may take its time to answer, in a task of its own.
    fn end(mut self, ending: Ending) {
        self.tell(LegInput::Ended(ending.leg_end()));
        self.media.end(now());
        let dialog = self.dialog;
        let connected = self.connected;
        if dialog.state().is_terminated() {
            return;
        }
        if self.phase == Phase::Ringing {
            let reason = format!("tandem;text=\"{}\"", ending.label());
            if let Err(error) = dialog.reject(Some(ending.status()), Some(reason)) {
                debug!(%error, "a call could not be refused");
            }
            return;
        }
        tokio::spawn(async move {
            if let Err(error) = dialog.bye().await {
                debug!(%error, "BYE was not answered");
            }
            drop(connected);
        });
    }
}

/// What a 2xx says of the session's timer.
fn timer_fields(plan: &Plan) -> Vec<Header> {
    let mut headers = Vec::new();
    if let Some(answer) = plan.answer() {
        headers.push(field("Session-Expires", answer.write()));
    }
    if plan.require_timer {
        headers.push(field("Require", "timer"));
    }
    headers
}

fn refresh_failed(
    timer: &mut SessionTimer,
    status: u16,
    min_se: Option<std::time::Duration>,
    now: Instant,
) -> Option<Ending> {
    let due = timer.refresh_failed(status, min_se, rand::random(), now);
    due.map(|_| Ending::Lost("refresh_denied"))
}

/// The number in CSeq.
fn sequence(request: &Request) -> Option<u32> {
    request.cseq_header().and_then(CSeq::seq).ok()
}

async fn respond(handle: &TransactionHandle, status: StatusCode, headers: Vec<Header>) {
    if let Err(error) = handle.respond(status, Some(headers), None).await {
        debug!(%error, "a request within a call could not be answered");
    }
}

/// What the end of a dialog means.
fn ending(reason: &TerminatedReason) -> Ending {
    match reason {
        TerminatedReason::UacBye | TerminatedReason::UacCancel => Ending::HungUp,
        TerminatedReason::Timeout => Ending::Lost("no_ack"),
        TerminatedReason::ProxyAuthRequired => Ending::Lost("challenged"),
        TerminatedReason::UasBye
        | TerminatedReason::UacBusy
        | TerminatedReason::UasBusy
        | TerminatedReason::UasDecline
        | TerminatedReason::ProxyError(_)
        | TerminatedReason::UacOther(_)
        | TerminatedReason::UasOther(_) => Ending::Lost("dialog_ended"),
    }
}
