//! The media websocket: from the handshake over `start` to the end of the leg.
//!
//! One task per websocket reads and writes. Reading ends up in [`LegPort::push_audio`], writing begins at the leg's
//! output ring; neither allocates per frame beyond what the websocket itself does.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use axum::extract::State;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message as Frame;
use axum::extract::ws::Utf8Bytes;
use axum::extract::ws::WebSocket;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Sink;
use futures_util::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tracing::Instrument;
use tracing::debug;
use tracing::info;

use super::LEAD;
use super::Shared;
use super::Timings;
use super::measure;
use super::messages::Incoming;
use super::messages::Message;
use super::messages::Start;
use super::messages::Writer;
use super::refused::Refused;
use super::signature;
use super::uplink::Uplink;
use super::webhook::TOKEN_PARAMETER;
use crate::engine::call::event::Digit;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::LegEnd;
use crate::engine::call::event::SegmentId;
use crate::engine::media::frame::MAX_FRAME_SAMPLES;
use crate::engine::media::frame::SampleRate;
use crate::engine::media::g711;
use crate::io::leg::IngressKind;
use crate::io::leg::Leg;
use crate::io::leg::LegInfo;
use crate::io::leg::LegInput;
use crate::io::leg::LegOutput;
use crate::io::leg::LegPort;
use crate::io::leg::leg;

/// The largest message. `media` has half a kilobyte and the largest `start` that Twilio allows (its parameters) some
/// tens.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// The longest ids. Twilio's have 34 characters; ours repeat the stream's in every message.
const MAX_ID_BYTES: usize = 128;
/// What the websocket reads at once: some ten media messages. The default of 128 KiB is a call's whole memory budget.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// What may collect before it is written. Everything is flushed after each turn anyway.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// Messages taken from the peer in one turn, so that a flood does not keep our own audio waiting.
const READ_BOUND: usize = 16;
/// Messages written in one turn: more than the lead, so that a burst after a pause leaves in one piece.
const WRITE_BOUND: usize = 16;

/// Going on is not possible for a reason of our own (RFC 6455 §7.4.1).
const INTERNAL_ERROR: u16 = 1011;
/// Everything was said.
const NORMAL: u16 = 1000;

/// How a websocket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Twilio said `stop`: the caller hung up, or the call went elsewhere.
    Stopped,
    /// The peer closed the websocket in order.
    Closed,
    /// The connection broke, or the peer does not read or answer any more.
    Lost(&'static str),
    /// The call asked for it: Twilio goes on with the `action`.
    HungUp,
    /// The call is gone without having asked for anything.
    CallGone,
    /// We turn the peer away.
    Refused(Refused),
}

impl Ending {
    const fn label(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Closed => "closed",
            Self::Lost(how) => how,
            Self::HungUp => "hung-up",
            Self::CallGone => "call-gone",
            Self::Refused(reason) => reason.label(),
        }
    }

    /// What the call is told.
    const fn leg_end(self) -> LegEnd {
        match self {
            Self::Stopped | Self::Closed | Self::HungUp | Self::CallGone => LegEnd::HungUp,
            Self::Lost(_) => LegEnd::Lost,
            Self::Refused(reason) => LegEnd::ProtocolError(reason.label()),
        }
    }

    /// What the peer is told; nothing if it cannot or need not hear.
    fn close_frame(self) -> Option<CloseFrame> {
        let code = match self {
            Self::Closed | Self::Lost(_) => return None,
            Self::Stopped | Self::HungUp => NORMAL,
            Self::CallGone => INTERNAL_ERROR,
            Self::Refused(reason) => reason.close_code(),
        };
        let reason = Utf8Bytes::from_static(self.label());
        Some(CloseFrame { code, reason })
    }
}

/// `GET /twilio/media`: the handshake.
pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    // A handshake has no form, and our URL no query: Twilio would strip it.
    let urls = signature::websocket_urls(&shared.media_url());
    if let Err(reason) = shared.check_signature(&headers, &urls, &[]) {
        measure::refused(reason);
        return (StatusCode::FORBIDDEN, reason.label()).into_response();
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let Ok(waiting) = shared.waiting.clone().try_acquire_owned() else {
        measure::refused(Refused::Busy);
        return (StatusCode::SERVICE_UNAVAILABLE, Refused::Busy.label()).into_response();
    };
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_MESSAGE_BYTES)
        .on_upgrade(|socket| serve(shared, socket, waiting))
}

/// The whole life of a websocket.
async fn serve(shared: Arc<Shared>, mut socket: WebSocket, waiting: OwnedSemaphorePermit) {
    let timings = shared.ingress.timings;
    let deadline = Instant::now() + timings.start_deadline;
    let started = match timeout_at(deadline, begin(&shared, &mut socket)).await {
        Ok(started) => started,
        Err(_) => Err(Ending::Refused(Refused::StartTimeout)),
    };
    drop(waiting);
    let ending = match started {
        Ok(started) => {
            let span = tracing::info_span!("leg", call_sid = started.call_sid);
            carry(&mut socket, started, timings).instrument(span).await
        }
        Err(ending) => {
            info!(
                reason = ending.label(),
                "a media websocket ended before its start"
            );
            ending
        }
    };
    if let Ending::Refused(reason) = ending {
        measure::refused(reason);
    }
    close(socket, ending, timings.write_timeout).await;
}

/// A stream that has said `start` and whose call was admitted.
struct Started {
    call_sid: String,
    stream_sid: String,
    sequence: Option<u64>,
    port: LegPort,
}

/// Reads up to `start` and begins the call.
async fn begin(shared: &Shared, socket: &mut WebSocket) -> Result<Started, Ending> {
    loop {
        let text = next_text(poll_fn(|cx| Pin::new(&mut *socket).poll_next(cx)).await)?;
        let Some(text) = text else { continue };
        let incoming = Incoming::parse(&text).map_err(Ending::Refused)?;
        match incoming.message {
            Message::Connected { version } if version.as_str().starts_with("1.") => {}
            Message::Connected { .. } => return Err(Ending::Refused(Refused::UnsupportedVersion)),
            Message::Start(start) => {
                let (leg, port, admission) = admit(shared, &start).map_err(Ending::Refused)?;
                let started = Started {
                    call_sid: start.call_sid.0.into_owned(),
                    stream_sid: start.stream_sid.0.into_owned(),
                    sequence: incoming.sequence,
                    port,
                };
                admission.connect(leg);
                return Ok(started);
            }
            Message::Stop => return Err(Ending::Stopped),
            Message::Media(_) | Message::Dtmf { .. } | Message::Mark { .. } => {
                return Err(Ending::Refused(Refused::MediaBeforeStart));
            }
        }
    }
}

type Admitted = (Leg, LegPort, Box<dyn crate::io::ingress::Admission>);

fn admit(shared: &Shared, start: &Start<'_>) -> Result<Admitted, Refused> {
    let ids = [start.stream_sid.as_str(), start.call_sid.as_str()];
    if ids
        .iter()
        .any(|id| id.is_empty() || id.len() > MAX_ID_BYTES)
    {
        return Err(Refused::BadStart);
    }
    // Some that speak this dialect leave the tracks out; `<Connect><Stream>` has no other than the caller's.
    if start.tracks.iter().any(|track| track.as_str() != "inbound") {
        info!("refused a <Start><Stream>: only <Connect><Stream> carries audio both ways");
        return Err(Refused::UnidirectionalStream);
    }
    let is_mulaw = |format: &super::messages::MediaFormat<'_>| format.is_mulaw_8000();
    if !start.media_format.as_ref().is_some_and(is_mulaw) {
        return Err(Refused::UnsupportedMediaFormat);
    }
    let call_sid = start.call_sid.as_str();
    let token = parameter(start, TOKEN_PARAMETER).ok_or_else(|| {
        info!("refused a stream without our token: only the TwiML of /twilio/voice starts streams here");
        Refused::MissingToken
    })?;
    let parties = shared
        .tokens
        .redeem(call_sid, token, std::time::Instant::now())
        .map_err(|why| {
            info!(call_sid, ?why, "refused a stream whose token is not good");
            Refused::WrongToken
        })?;
    let names = &shared.ingress.config.parameters;
    let parameters: BTreeMap<String, String> = names
        .iter()
        .filter(|name| *name != TOKEN_PARAMETER)
        .filter_map(|name| Some((name.clone(), parameter(start, name)?.to_owned())))
        .collect();
    let info = LegInfo {
        ingress: IngressKind::Twilio,
        external_id: call_sid.to_owned(),
        from: parties.from,
        to: parties.to,
        parameters,
        rate: SampleRate::HZ_8000,
        lead: LEAD,
        confirms_playout: true,
    };
    let admission = shared.ingress.exchange.admit(&info)?;
    let (leg, port) = leg(info);
    Ok((leg, port, admission))
}

fn parameter<'a>(start: &'a Start<'_>, name: &str) -> Option<&'a str> {
    let mut parameters = start.custom_parameters.iter();
    let (_, value) = parameters.find(|(key, _)| key.as_str() == name)?;
    Some(value.as_str())
}

/// Carries a leg to its end and tells the call.
async fn carry(socket: &mut WebSocket, started: Started, timings: Timings) -> Ending {
    info!(stream_sid = started.stream_sid, "stream started");
    let now = Instant::now();
    let mut line = Line {
        uplink: Uplink::new(started.sequence),
        writer: Writer::new(&started.stream_sid),
        stream_sid: started.stream_sid,
        socket,
        port: started.port,
        timings,
        last_heard: now,
        pinged: false,
        unflushed_since: None,
        alarm: Box::pin(sleep_until(now + timings.ping_after)),
    };
    let ending = poll_fn(|cx| line.poll_turn(cx)).await;
    info!(reason = ending.label(), "stream ended");
    // If there is no room for it, the ring's own end tells the call.
    let _ = line.port.push_control(LegInput::Ended(ending.leg_end()));
    ending
}

/// A leg on its websocket.
struct Line<'a> {
    socket: &'a mut WebSocket,
    port: LegPort,
    stream_sid: String,
    uplink: Uplink,
    writer: Writer,
    timings: Timings,
    /// When the peer last said anything, a pong included.
    last_heard: Instant,
    /// Whether we have asked since then.
    pinged: bool,
    /// Since when something waits to be written; `None` when all is gone.
    unflushed_since: Option<Instant>,
    /// Rings at the next moment at which something may be due; too early does no harm.
    alarm: Pin<Box<Sleep>>,
}

impl Line<'_> {
    /// Moves everything that can move, in this order, each by a bounded amount.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        // 1. The clock, first: nothing that a peer sends may put off the moment at which it counts as dead.
        if let Poll::Ready(ending) = self.poll_alarm(cx) {
            return Poll::Ready(ending);
        }
        // 2. The caller: what they say may make what we are about to write obsolete.
        let more_to_read = match self.poll_read(cx) {
            Ok(more) => more,
            Err(ending) => return Poll::Ready(ending),
        };
        // 3. The call's output, into the websocket's buffer and out. Not before the last lot has left: what has to wait
        //    waits in the ring, which is bounded and counts.
        let more_to_write = match self.poll_write(cx) {
            Ok(more) => more,
            Err(ending) => return Poll::Ready(ending),
        };
        if more_to_read || more_to_write {
            // A bound was reached: let other tasks run, then go on.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= self.write_deadline() {
                return Poll::Ready(Ending::Lost("write-timeout"));
            }
            if now >= self.last_heard + self.timings.lost_after {
                return Poll::Ready(Ending::Lost("silent"));
            }
            if now >= self.last_heard + self.timings.ping_after && !self.pinged {
                self.pinged = true;
                if let Err(ending) = self.queue(Frame::Ping(Bytes::new())) {
                    return Poll::Ready(ending);
                }
            }
            let patience = match self.pinged {
                true => self.timings.lost_after,
                false => self.timings.ping_after,
            };
            let next = self.write_deadline().min(self.last_heard + patience);
            self.alarm.as_mut().reset(next);
        }
        Poll::Pending
    }

    fn write_deadline(&self) -> Instant {
        // Far enough to stand for never, near enough not to overflow.
        const NEVER: Duration = Duration::from_secs(24 * 3_600);
        match self.unflushed_since {
            Some(since) => since + self.timings.write_timeout,
            None => Instant::now() + NEVER,
        }
    }

    /// Takes what the peer has sent; `true` if there may be more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        for position in 0..READ_BOUND {
            let Poll::Ready(received) = Pin::new(&mut *self.socket).poll_next(cx) else {
                return Ok(false);
            };
            if position == 0 {
                self.last_heard = Instant::now();
                self.pinged = false;
            }
            if let Some(text) = next_text(received)? {
                self.take(&text)?;
            }
        }
        Ok(true)
    }

    fn take(&mut self, text: &str) -> Result<(), Ending> {
        let incoming = Incoming::parse(text).map_err(Ending::Refused)?;
        if let Some(stream_sid) = &incoming.stream_sid
            && stream_sid.as_str() != self.stream_sid
        {
            return Err(Ending::Refused(Refused::WrongStream));
        }
        self.uplink.count(incoming.sequence);
        match incoming.message {
            Message::Media(media) => {
                let port = &mut self.port;
                let taken = self.uplink.media(&media, |frame| {
                    if !port.push_audio(frame) {
                        measure::uplink_dropped(frame.duration());
                    }
                });
                taken.map_err(Ending::Refused)
            }
            Message::Dtmf { digit } => match only_char(digit.as_str()).and_then(Digit::from_char) {
                Some(digit) => self.control(LegInput::Digit(digit, DigitSource::Twilio)),
                // Not worth a call: there is no seventeenth key, so nothing is lost.
                None => Ok(debug!("a key that no telephone has")),
            },
            Message::Mark { name } => match name.as_str().parse() {
                Ok(segment) => self.control(LegInput::MarkReached(SegmentId(segment))),
                Err(_) => Ok(debug!("a mark that is not ours")),
            },
            Message::Stop => Err(Ending::Stopped),
            Message::Start(_) => Err(Ending::Refused(Refused::SecondStart)),
            // Late, and without consequence.
            Message::Connected { .. } => Ok(()),
        }
    }

    fn control(&mut self, item: LegInput) -> Result<(), Ending> {
        if self.port.push_control(item) {
            return Ok(());
        }
        // A call that is gone takes nothing either, and is no fault of the peer.
        if self.port.input.is_closed() {
            return Err(Ending::CallGone);
        }
        Err(Ending::Refused(Refused::Flood))
    }

    /// Writes what the call has for the peer; `true` if there may be more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if !self.poll_flushed(cx)? {
            return Ok(false);
        }
        let mut queued = 0;
        while queued < WRITE_BOUND {
            let Poll::Ready(output) = self.port.output.poll_recv(cx) else {
                break;
            };
            let message = match output.ok_or(Ending::CallGone)? {
                LegOutput::Audio(frame) => {
                    let mut mulaw = [g711::MULAW_SILENCE; MAX_FRAME_SAMPLES];
                    let samples = frame.samples();
                    for (byte, sample) in mulaw.iter_mut().zip(samples) {
                        *byte = g711::encode_mulaw(*sample);
                    }
                    self.writer.media(&mulaw[..samples.len()])
                }
                LegOutput::Mark(segment) => self.writer.mark(segment.0),
                LegOutput::Clear => self.writer.clear(),
                // What is in the websocket's buffer leaves before the close frame does.
                LegOutput::HangUp => return Err(Ending::HungUp),
            };
            let text = Utf8Bytes::try_from(message).expect("JSON of ours is UTF-8");
            self.queue(Frame::Text(text))?;
            queued += 1;
        }
        Ok(self.poll_flushed(cx)? && queued == WRITE_BOUND)
    }

    /// Puts a message into the websocket's buffer.
    fn queue(&mut self, frame: Frame) -> Result<(), Ending> {
        let queued = Pin::new(&mut *self.socket).start_send(frame);
        queued.map_err(|_| Ending::Lost("write-failed"))
    }

    /// Whether everything that was queued has left.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        match Pin::new(&mut *self.socket).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed_since = None;
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Ending::Lost("write-failed")),
            Poll::Pending => {
                if self.unflushed_since.is_none() {
                    let now = Instant::now();
                    self.unflushed_since = Some(now);
                    self.alarm.as_mut().reset(now + self.timings.write_timeout);
                    // Armed anew, it has to learn of this task again.
                    cx.waker().wake_by_ref();
                }
                Ok(false)
            }
        }
    }
}

/// The text of what the websocket received; `None` for what needs no answer of ours (a ping has had one already).
fn next_text(received: Option<Result<Frame, axum::Error>>) -> Result<Option<Utf8Bytes>, Ending> {
    match received {
        Some(Ok(Frame::Text(text))) => Ok(Some(text)),
        Some(Ok(Frame::Binary(_))) => Err(Ending::Refused(Refused::BinaryMessage)),
        Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => Ok(None),
        Some(Ok(Frame::Close(_))) => Err(Ending::Closed),
        Some(Err(error)) => Err(of_error(error)),
        None => Err(Ending::Lost("lost")),
    }
}

fn of_error(error: axum::Error) -> Ending {
    use tungstenite::Error as Fault;
    use tungstenite::error::ProtocolError;

    let inner = error.into_inner();
    match inner.downcast_ref::<Fault>() {
        Some(Fault::Capacity(_)) => Ending::Refused(Refused::MessageTooLarge),
        Some(Fault::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ending::Lost("lost"),
        Some(Fault::Protocol(_) | Fault::Utf8(_)) => Ending::Refused(Refused::BadFrame),
        _ => Ending::Lost("lost"),
    }
}

fn only_char(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

/// Says goodbye and waits, not for long, until the peer has heard it: closing at once, with bytes of the peer unread,
/// would reset the connection and could take the goodbye with it.
async fn close(mut socket: WebSocket, ending: Ending, patience: Duration) {
    if matches!(ending, Ending::Lost(_)) {
        return;
    }
    let goodbye = async {
        if let Some(frame) = ending.close_frame() {
            socket.send(Frame::Close(Some(frame))).await?;
        }
        poll_fn(|cx| {
            loop {
                if !matches!(ready!(Pin::new(&mut socket).poll_next(cx)), Some(Ok(_))) {
                    return Poll::Ready(Ok::<(), axum::Error>(()));
                }
            }
        })
        .await
    };
    // Whether it was heard makes no difference any more.
    let _ = timeout(patience, goodbye).await;
}
