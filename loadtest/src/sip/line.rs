//! A call by SIP: placed, held, and ended by either side.

use std::collections::VecDeque;
use std::future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rsipstack::dialog::DialogId;
use rsipstack::dialog::authenticate::Credential;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::dialog::DialogStateReceiver;
use rsipstack::dialog::dialog::TerminatedReason;
use rsipstack::dialog::dialog::TransactionHandle;
use rsipstack::dialog::invitation::InviteAsyncResult;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::Header;
use rsipstack::sip::HeadersExt;
use rsipstack::sip::Method;
use rsipstack::sip::Request;
use rsipstack::sip::Response;
use rsipstack::sip::StatusCode;
use rsipstack::sip::StatusCodeKind;
use rsipstack::sip::Uri;
use rsipstack::sip::uri::Auth;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::phone::Phone;
use super::phone::Phones;
use super::phone::Place;
use super::rtp;
use super::rtp::Received;
use super::sdp;
use super::sdp::Codec;
use super::sdp::Remote;
use crate::bad_network::BadNetwork;
use crate::bad_network::Faults;
use crate::line::FromGateway;
use crate::line::Placing;
use crate::line::SetupError;
use crate::line::ToGateway;
use crate::mulaw;
use crate::rtp::Sender;
use crate::stats::ms;
use crate::twilio::twiml::Verb;

/// How long a gateway may take to answer our BYE: with a datagram lost twice, 1.5 s go by until it has it.
const BYE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller lets it ring. A gateway answers within seconds; without any response the stack gives up after 32 s.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long a gateway may take to end a call that we cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// The stack answers a BYE in a task of its own; the program must not end before it.
const PARTING: Duration = Duration::from_millis(50);
/// From a REFER's 202 to the first NOTIFY, so that they come in this order, and from that to the second: a real transfer takes longer.
const TRANSFER_STEP: Duration = Duration::from_millis(100);
/// More than any datagram that RTP over Ethernet has.
const DATAGRAM: usize = 2048;

/// A call in progress.
pub(crate) struct SipLine {
    phone: Arc<Phone>,
    dialog: InviteDialog,
    id: DialogId,
    states: DialogStateReceiver,
    socket: Arc<UdpSocket>,
    network: BadNetwork,
    local: SocketAddr,
    buffer: Box<[u8; DATAGRAM]>,
    remote: Remote,
    sender: Sender,
    /// For our session descriptions, whose version grows with each (RFC 3264 §8).
    session: u64,
    version: u32,
    /// We offered in a 200, and the answer is to come with its ACK.
    awaits_answer: bool,
    pending: VecDeque<FromGateway>,
    transfers: Vec<Verb>,
    over: bool,
}

/// How a call that was cancelled ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// As it should.
    InTime,
    /// The answer was faster than the CANCEL; the call was ended with BYE.
    AnsweredFirst,
}

/// An INVITE on its way.
struct Invitation {
    phone: Arc<Phone>,
    dialog: InviteDialog,
    ended: JoinHandle<InviteAsyncResult>,
    states: DialogStateReceiver,
    socket: UdpSocket,
    faults: Faults,
    local: SocketAddr,
    session: u64,
    sent: Instant,
}

impl SipLine {
    /// Calls; when this returns, the call was answered. With `interruptible`, Ctrl-C cancels it.
    pub(crate) async fn place(
        target: &Uri,
        placing: &Placing,
        call_id: String,
        phones: &Phones,
        interruptible: bool,
    ) -> Result<Self, SetupError> {
        let mut invitation = Invitation::send(target, placing, call_id, phones).await?;
        let mut notes = VecDeque::new();
        let mut interrupt = Box::pin(interruption(interruptible));
        let mut patience = Box::pin(sleep(PATIENCE));
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut invitation.ended => break ended,
                Some(state) = invitation.states.recv() => notes.extend(ringing(&state, invitation.sent)),
                () = &mut interrupt => {
                    invitation.cancel().await?;
                    return Err(SetupError::Cancelled);
                }
                () = &mut patience => {
                    // The silence is the fault; how the gateway takes the CANCEL adds nothing.
                    let _ = invitation.cancel().await;
                    return Err(SetupError::Unreachable {
                        what: "INVITE",
                        why: format!("it was not answered within {PATIENCE:?}"),
                    });
                }
            }
        };
        invitation.answered(outcome(ended)?, notes).await
    }

    /// Calls, and cancels at the first sign that the gateway is at work on it.
    pub(crate) async fn ring_and_cancel(
        target: &Uri,
        placing: &Placing,
        call_id: String,
        phones: &Phones,
    ) -> Result<Cancelled, SetupError> {
        let mut invitation = Invitation::send(target, placing, call_id, phones).await?;
        loop {
            tokio::select! {
                biased;
                ended = &mut invitation.ended => {
                    let answer = outcome(ended)?;
                    let mut line = invitation.answered(answer, VecDeque::new()).await?;
                    line.hang_up().await.map_err(|why| SetupError::Unreachable { what: "BYE", why })?;
                    return Ok(Cancelled::AnsweredFirst);
                }
                Some(state) = invitation.states.recv() => {
                    if matches!(state, DialogState::Trying(_) | DialogState::Early(..)) {
                        return invitation.cancel().await;
                    }
                }
            }
        }
    }

    /// Sends one packet for the frame, or what a key says in its place. An error is a socket that failed, in words.
    pub(crate) async fn send(&mut self, messages: Vec<ToGateway>) -> Result<(), String> {
        for message in messages {
            match message {
                ToGateway::Frame(frame) => self.send_frame(&frame).await?,
                ToGateway::Digit(key) => self.press(key),
                // RTP has none.
                ToGateway::Mark(_) => {}
            }
        }
        Ok(())
    }

    /// Waits for audio or a request of the gateway's. Cancel safe.
    pub(crate) async fn receive(&mut self) -> FromGateway {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return message;
            }
            if self.over {
                return future::pending().await;
            }
            tokio::select! {
                biased;
                Some(state) = self.states.recv() => self.learn(state).await,
                got = self.socket.recv_from(&mut self.buffer[..]) => match got {
                    Ok((length, _)) => {
                        if let Some(message) = self.read(length) {
                            return message;
                        }
                    }
                    Err(error) => return FromGateway::Lost(error.to_string()),
                },
            }
        }
    }

    /// What the socket holds already. Asked before each tick: a packet that came in time is not late because this program is.
    pub(crate) fn received(&mut self) -> Option<FromGateway> {
        while let Ok((length, _)) = self.socket.try_recv_from(&mut self.buffer[..]) {
            if let Some(message) = self.read(length) {
                return Some(message);
            }
        }
        None
    }

    /// BYE; why it was not answered as it should be, if so.
    pub(crate) async fn hang_up(&mut self) -> Result<(), String> {
        self.over = true;
        let dialog = self.dialog.clone();
        // A task of its own, which repeats the BYE as long as SIP wants even when we do not wait for it any more.
        let bye = tokio::spawn(async move { dialog.request(Method::Bye, None, None).await });
        match timeout(BYE_TIMEOUT, bye).await {
            Ok(Ok(Ok(Some(response))))
                if response.status_code.kind() != StatusCodeKind::Successful =>
            {
                Err(format!(
                    "our BYE was answered with {}",
                    response.status_code
                ))
            }
            // Without a response the gateway had hung up in the same moment.
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(error))) => Err(format!("our BYE did not leave: {error}")),
            Ok(Err(error)) => Err(format!("our BYE did not leave: {error}")),
            Err(_) => Err(format!("our BYE was not answered within {BYE_TIMEOUT:?}")),
        }
    }

    /// Goes without a word, as a telephone whose battery is empty: no BYE, no RTP, no answer to anything.
    pub(crate) fn vanish(&mut self) {
        self.over = true;
        self.phone.vanish(&self.id);
    }

    /// Where the gateway transferred the call.
    pub(crate) async fn after_call(&mut self) -> Vec<Verb> {
        sleep(PARTING).await;
        std::mem::take(&mut self.transfers)
    }

    fn read(&self, length: usize) -> Option<FromGateway> {
        match rtp::read(&self.buffer[..length], sdp::EVENTS) {
            Received::Audio(packet) => Some(FromGateway::Packet(packet)),
            Received::Other => None,
            Received::Improper(what) => Some(FromGateway::Improper(what.to_owned())),
        }
    }

    async fn send_frame(&mut self, frame: &[u8; mulaw::FRAME]) -> Result<(), String> {
        let Remote { codec, events, .. } = self.remote;
        if !self.remote.listens() {
            self.sender.pass();
            return Ok(());
        }
        let packet = self.sender.packet(codec.payload_type(), events, |packet| {
            rtp::append(codec, frame, packet);
        });
        let (network, to) = (&mut self.network, self.remote.address);
        let sent = network.send(&self.socket, &packet, to).await;
        sent.map_err(|error| error.to_string())
    }

    /// By RTP where the gateway takes events, else by INFO.
    fn press(&mut self, key: char) {
        if self.remote.events.is_some() {
            self.sender.press(key);
            return;
        }
        let dialog = self.dialog.clone();
        let body = format!("Signal={key}\r\nDuration=100\r\n").into_bytes();
        let kind = Header::ContentType("application/dtmf-relay".into());
        // What becomes of it is for the gateway to tell.
        tokio::spawn(async move { dialog.info(Some(vec![kind]), Some(body)).await });
    }

    /// What the stack tells of the dialog.
    async fn learn(&mut self, state: DialogState) {
        match state {
            DialogState::Updated(_, request, handle) => self.update(&request, &handle).await,
            DialogState::Refer(_, request, handle) => self.transfer(&request, &handle).await,
            DialogState::Options(_, _, handle) => {
                let description = self.description();
                respond(&handle, StatusCode::OK, Vec::new(), Some(description)).await;
            }
            DialogState::Info(_, _, handle)
            | DialogState::Notify(_, _, handle)
            | DialogState::Message(_, _, handle)
            | DialogState::Publish(_, _, handle) => {
                respond(&handle, StatusCode::OK, Vec::new(), None).await;
            }
            DialogState::Confirmed(..) if self.awaits_answer => {
                if let Some(ack) = self.dialog.last_remote_ack() {
                    self.awaits_answer = false;
                    self.take(&ack.body, "answer in the ACK");
                }
            }
            DialogState::Terminated(_, reason) => {
                self.over = true;
                self.pending.push_back(match reason {
                    TerminatedReason::UasBye => FromGateway::HungUp,
                    other => FromGateway::Lost(format!("the dialog ended: {other:?}")),
                });
            }
            DialogState::Calling(_)
            | DialogState::Trying(_)
            | DialogState::Early(..)
            | DialogState::WaitAck(..)
            | DialogState::Confirmed(..) => {}
        }
    }

    /// A re-INVITE or UPDATE: a session refresh, a hold, another address.
    async fn update(&mut self, request: &Request, handle: &TransactionHandle) {
        let method = request.method;
        let mut headers = Vec::new();
        // A refresh is answered as one who knows session timers does, so that the gateway's timer starts anew (RFC 4028 §9).
        if let Some(Header::SessionExpires(expires)) = request
            .headers
            .iter()
            .find(|header| matches!(header, Header::SessionExpires(_)))
        {
            headers.push(Header::SessionExpires(expires.clone()));
        }
        if request.body.is_empty() {
            self.note(format!("gateway sends {method}"));
            let offers = method == Method::Invite;
            self.awaits_answer = offers;
            let body = offers.then(|| self.description());
            respond(handle, StatusCode::OK, headers, body).await;
            return;
        }
        if !self.take(&request.body, &format!("{method}")) {
            respond(handle, StatusCode::NotAcceptableHere, headers, None).await;
            return;
        }
        self.version += 1;
        let answer = sdp::answer(self.local, self.session, self.version, &self.remote);
        respond(handle, StatusCode::OK, headers, Some(answer.into_bytes())).await;
    }

    /// Takes the other side's new description; `false` if it holds nothing for us.
    fn take(&mut self, body: &[u8], what: &str) -> bool {
        match sdp::read(body) {
            Ok(remote) => {
                let change = match (self.remote.listens(), remote.listens()) {
                    (true, false) => ": we are on hold",
                    (false, true) => ": we are off hold",
                    _ if remote == self.remote => ": nothing changes",
                    _ => ": another address or codec",
                };
                self.remote = remote;
                self.note(format!("gateway sends {what}{change}"));
                true
            }
            Err(why) => {
                self.pending.push_back(FromGateway::Improper(format!(
                    "{what} that we cannot accept: {why}"
                )));
                false
            }
        }
    }

    /// We do as a telephone does: agree, tell how it goes, and wait for the gateway to hang up (RFC 3515 §2.4). Nobody else is called.
    async fn transfer(&mut self, request: &Request, handle: &TransactionHandle) {
        let to = request
            .refer_to_header()
            .map(|header| bare_uri(header.value()).to_owned());
        let Some(to) = to else {
            self.pending
                .push_back(FromGateway::Improper("REFER without Refer-To".to_owned()));
            respond(handle, StatusCode::BadRequest, Vec::new(), None).await;
            return;
        };
        respond(handle, StatusCode::Accepted, Vec::new(), None).await;
        self.note(format!("transferred to {to}"));
        self.transfers.push(Verb::Dial(to));
        let dialog = self.dialog.clone();
        tokio::spawn(async move {
            for (state, status) in [
                ("active;expires=60", "SIP/2.0 100 Trying\r\n"),
                ("terminated;reason=noresource", "SIP/2.0 200 OK\r\n"),
            ] {
                sleep(TRANSFER_STEP).await;
                let headers = vec![
                    Header::Event("refer".into()),
                    Header::SubscriptionState(state.into()),
                    Header::ContentType("message/sipfrag;version=2.0".into()),
                ];
                // A gateway that has hung up by now needs no news.
                let _ = dialog
                    .notify(Some(headers), Some(status.as_bytes().to_vec()))
                    .await;
            }
        });
    }

    fn description(&mut self) -> Vec<u8> {
        self.version += 1;
        sdp::offer(self.local, self.session, self.version).into_bytes()
    }

    fn note(&mut self, text: String) {
        self.pending.push_back(FromGateway::Note(text));
    }
}

impl Drop for SipLine {
    fn drop(&mut self) {
        self.phone.forget(&self.id);
    }
}

impl Invitation {
    async fn send(
        target: &Uri,
        placing: &Placing,
        call_id: String,
        phones: &Phones,
    ) -> Result<Self, SetupError> {
        let unreachable = |why: String| SetupError::Unreachable {
            what: "INVITE",
            why,
        };
        let place = Place::find(target).await.map_err(unreachable)?;
        let phone = phones.towards(&place).await.map_err(unreachable)?;
        let socket = UdpSocket::bind((phone.address.ip(), 0)).await;
        let socket = socket.map_err(|error| unreachable(error.to_string()))?;
        let local = socket
            .local_addr()
            .map_err(|error| unreachable(error.to_string()))?;
        let ours = Uri {
            auth: Some(Auth {
                user: placing.from.clone(),
                password: None,
            }),
            host_with_port: phone.address.into(),
            scheme: Some(rsipstack::sip::Scheme::Sip),
            ..Uri::default()
        };
        // RFC 8866 §5.2 wants a number; half the bits keep it within what everybody reads.
        let session = crate::random() >> 32;
        let allow = super::phone::METHODS
            .map(|method| method.to_string())
            .join(", ");
        let option = InviteOption {
            caller: ours.clone(),
            callee: with_user(target, &placing.to),
            destination: Some(place.destination()),
            content_type: Some("application/sdp".to_owned()),
            offer: Some(sdp::offer(local, session, 1).into_bytes()),
            contact: ours,
            credential: placing
                .credentials
                .clone()
                .map(|(username, password)| Credential {
                    username,
                    password,
                    ..Credential::default()
                }),
            headers: Some(vec![Header::Allow(allow.into())]),
            call_id: Some(call_id),
            ..InviteOption::default()
        };
        let (sender, states) = phone.dialogs.new_dialog_state_channel();
        let sent = Instant::now();
        let (dialog, ended) = phone
            .dialogs
            .do_invite_async(option, sender)
            .map_err(|error| unreachable(error.to_string()))?;
        Ok(Self {
            phone,
            dialog,
            ended,
            states,
            socket,
            faults: placing.faults,
            local,
            session,
            sent,
        })
    }

    /// A provisional response has come; now the caller does not want to wait. The CANCEL leaves at once or with the first response.
    async fn cancel(self) -> Result<Cancelled, SetupError> {
        let dialog = self.dialog.clone();
        let cancel = tokio::spawn(async move { dialog.cancel().await });
        let ended = timeout(CANCEL_TIMEOUT, self.ended).await.map_err(|_| {
            SetupError::NotCancelled(format!(
                "the INVITE had no final response {CANCEL_TIMEOUT:?} later"
            ))
        })?;
        // The stack follows a 200 that crossed the CANCEL with a BYE.
        let result = match outcome(ended) {
            Ok((id, _)) => {
                self.phone.forget(&id);
                Ok(Cancelled::AnsweredFirst)
            }
            Err(SetupError::Declined { status: 487, .. }) => Ok(Cancelled::InTime),
            Err(other) => Err(other),
        };
        if result.as_ref().ok() != Some(&Cancelled::InTime) {
            // Of a CANCEL that came too late nothing is expected.
            return result;
        }
        match timeout(CANCEL_TIMEOUT, cancel).await {
            Ok(Ok(Ok(()))) => result,
            Ok(Ok(Err(error))) => Err(SetupError::NotCancelled(error.to_string())),
            Ok(Err(error)) => Err(SetupError::NotCancelled(error.to_string())),
            Err(_) => Err(SetupError::NotCancelled(
                "the CANCEL was not answered".to_owned(),
            )),
        }
    }

    async fn answered(
        mut self,
        (id, response): (DialogId, Response),
        mut notes: VecDeque<FromGateway>,
    ) -> Result<SipLine, SetupError> {
        while let Ok(state) = self.states.try_recv() {
            notes.extend(ringing(&state, self.sent));
        }
        let remote = sdp::read(&response.body);
        let mut line = SipLine {
            phone: self.phone,
            dialog: self.dialog,
            id,
            states: self.states,
            local: self.local,
            buffer: Box::new([0; DATAGRAM]),
            remote: remote.clone().unwrap_or(Remote {
                address: self.local,
                codec: Codec::Pcmu,
                events: None,
                direction: sdp::Direction::Inactive,
            }),
            sender: Sender::new(crate::random(), mulaw::FRAME as u16),
            session: self.session,
            version: 1,
            awaits_answer: false,
            pending: notes,
            transfers: Vec::new(),
            over: false,
            socket: Arc::new(self.socket),
            network: BadNetwork::new(self.faults, crate::random()),
        };
        match remote {
            Ok(_) => {
                line.forget_early_media();
                Ok(line)
            }
            Err(why) => {
                // The answer is the fault; a BYE that fails too adds nothing.
                let _ = line.hang_up().await;
                Err(SetupError::NoMedia(why))
            }
        }
    }
}

impl SipLine {
    /// What came before the answer would be heard late, and all after it too.
    fn forget_early_media(&mut self) {
        while self.socket.try_recv_from(&mut self.buffer[..]).is_ok() {}
    }
}

/// The dialog and the 200, or why there is none.
fn outcome(
    ended: Result<InviteAsyncResult, tokio::task::JoinError>,
) -> Result<(DialogId, Response), SetupError> {
    let unreachable = |why: String| SetupError::Unreachable {
        what: "INVITE",
        why,
    };
    let (id, response) = ended
        .map_err(|error| unreachable(error.to_string()))?
        .map_err(|error| unreachable(error.to_string()))?;
    let response = response.ok_or_else(|| unreachable("no answer".to_owned()))?;
    if response.status_code.kind() == StatusCodeKind::Successful {
        return Ok((id, response));
    }
    let tagged = response
        .to_header()
        .ok()
        .and_then(|to| to.tag().ok().flatten())
        .is_some();
    // The stack's own word for a silence; a gateway's would have a tag.
    if response.status_code == StatusCode::RequestTimeout && !tagged {
        return Err(unreachable("no answer within 32 s".to_owned()));
    }
    let retry_after = response.headers.iter().find_map(|header| match header {
        Header::RetryAfter(after) => Some(after.value().to_owned()),
        _ => None,
    });
    Err(SetupError::Declined {
        status: response.status_code.code(),
        reason: response
            .reason_phrase()
            .unwrap_or(response.status_code.text())
            .to_owned(),
        retry_after,
    })
}

/// A provisional response, for the timeline.
fn ringing(state: &DialogState, sent: Instant) -> Option<FromGateway> {
    match state {
        DialogState::Early(_, response) => Some(FromGateway::Note(format!(
            "{} came {} after dialling",
            response.status_code,
            ms(sent.elapsed())
        ))),
        _ => None,
    }
}

async fn respond(
    handle: &TransactionHandle,
    status: StatusCode,
    mut headers: Vec<Header>,
    body: Option<Vec<u8>>,
) {
    if body.is_some() {
        headers.push(Header::ContentType("application/sdp".into()));
    }
    // The transaction may be over; then nobody waits for it.
    let _ = handle.respond(status, Some(headers), body).await;
}

async fn interruption(interruptible: bool) {
    let interrupted = interruptible && tokio::signal::ctrl_c().await.is_ok();
    if !interrupted {
        future::pending::<()>().await;
    }
}

/// The target, with this user if it names none.
fn with_user(target: &Uri, user: &str) -> Uri {
    let mut uri = target.clone();
    uri.auth.get_or_insert_with(|| Auth {
        user: user.to_owned(),
        password: None,
    });
    uri
}

/// The URI of a name-addr, or what stands there.
fn bare_uri(value: &str) -> &str {
    value
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or(value.trim(), |(uri, _)| uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refer_to_is_read_with_and_without_a_name() {
        assert_eq!(
            bare_uri("\"Desk\" <sip:desk@example.com>;x=1"),
            "sip:desk@example.com"
        );
        assert_eq!(bare_uri(" sip:desk@example.com"), "sip:desk@example.com");
    }

    #[test]
    fn the_dialled_number_is_the_targets_or_the_other_one() {
        let uri = |text: &str| Uri::try_from(text).expect("a URI");
        assert_eq!(
            with_user(&uri("sip:1000@192.0.2.1:5080;transport=tcp"), "2").to_string(),
            "sip:1000@192.0.2.1:5080;transport=TCP"
        );
        assert_eq!(
            with_user(&uri("sip:192.0.2.1"), "2").to_string(),
            "sip:2@192.0.2.1"
        );
    }
}
