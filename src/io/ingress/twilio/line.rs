//! A leg on its websocket, from `start` to its end.
//!
//! Reading ends up in [`LegPort::push_audio`], writing begins at the leg's output ring; neither allocates per frame
//! beyond what the websocket itself does.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use axum::extract::ws::Message as Frame;
use axum::extract::ws::Utf8Bytes;
use axum::extract::ws::WebSocket;
use bytes::Bytes;
use futures_util::Sink;
use futures_util::Stream;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;
use tracing::debug;
use tracing::info;

use super::Timings;
use super::ending::Ending;
use super::ending::next_text;
use super::messages::Incoming;
use super::messages::Message;
use super::messages::Writer;
use super::refused::Refused;
use super::start::Started;
use super::uplink::Uplink;
use crate::engine::call::event::Digit;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::SegmentId;
use crate::engine::call::notice::Direction;
use crate::engine::media::codec::g711;
use crate::engine::media::frame::MAX_FRAME_SAMPLES;
use crate::io::leg::LegInput;
use crate::io::leg::LegOutput;
use crate::io::leg::LegPort;
use crate::io::metrics;
use crate::io::metrics::Alive;
use crate::io::metrics::Object;

/// Messages taken from the peer in one turn, so that a flood does not keep our own audio waiting.
const READ_BOUND: usize = 16;
/// Messages written in one turn: more than the lead, so that a burst after a pause leaves in one piece.
const WRITE_BOUND: usize = 16;

/// Carries a leg to its end and tells the call.
pub(super) async fn carry(socket: &mut WebSocket, started: Started, timings: Timings) -> Ending {
    let _alive = Alive::new(Object::Leg);
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
        cut_decided: None,
        alarm: Box::pin(sleep_until(now + timings.ping_after)),
    };
    let ending = poll_fn(|cx| line.poll_turn(cx)).await;
    info!(reason = ending.label(), "leg ended");
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
    /// When a cut was decided that waits to be written.
    cut_decided: Option<Instant>,
    /// Rings at the next moment at which something may be due; too early does no harm.
    alarm: Pin<Box<Sleep>>,
}

impl Line<'_> {
    /// Moves everything that can move, in this order, each by a bounded amount.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        // 1. The caller: what they say may make what we are about to write obsolete.
        let more_to_read = match self.poll_read(cx) {
            Ok(more) => more,
            Err(ending) => return Poll::Ready(ending),
        };
        // 2. The call's output, into the websocket's buffer and out. Not before the last lot has left: what has to wait
        //    waits in the ring, which is bounded and counts.
        let more_to_write = match self.poll_write(cx) {
            Ok(more) => more,
            Err(ending) => return Poll::Ready(ending),
        };
        // 3. The clock, last: after a stall of ours the peer's answer may have been waiting all the time, and is no
        //    silence. Since the steps before are bounded, no flood keeps the clock from being looked at.
        if let Poll::Ready(ending) = self.poll_alarm(cx) {
            return Poll::Ready(ending);
        }
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
                return Poll::Ready(Ending::Lost("write_timeout"));
            }
            if now >= self.last_heard + self.timings.lost_after {
                return Poll::Ready(Ending::Lost("silent"));
            }
            if now >= self.last_heard + self.timings.ping_after && !self.pinged {
                self.pinged = true;
                let asked = self.queue(Frame::Ping(Bytes::new()));
                if let Err(ending) = asked.and_then(|()| self.poll_flushed(cx)) {
                    return Poll::Ready(ending);
                }
            }
            let next = match self.pinged {
                // An answer puts the loss off; so look again soon, for the next question to be in time.
                true => {
                    (self.last_heard + self.timings.lost_after).min(now + self.timings.ping_after)
                }
                false => self.last_heard + self.timings.ping_after,
            };
            let next = next.min(self.write_deadline());
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
                        metrics::audio_dropped(Direction::Uplink, frame.duration());
                    }
                });
                taken.map_err(Ending::Refused)
            }
            Message::Dtmf { digit } => match only_char(digit.as_str()).and_then(Digit::from_char) {
                Some(digit) => self.control(LegInput::Digit(digit, DigitSource::Twilio)),
                // Not worth a call: there is no seventeenth key, so nothing is lost.
                None => {
                    debug!("a key that no telephone has");
                    Ok(())
                }
            },
            Message::Mark { name } => match name.as_str().parse() {
                Ok(segment) => self.control(LegInput::MarkReached(SegmentId(segment))),
                Err(_) => {
                    debug!("a mark that is not ours");
                    Ok(())
                }
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
                LegOutput::CutDecided(at) => {
                    self.cut_decided = Some(at.into());
                    continue;
                }
                // Twilio has answered the call before it connects the stream, and is asked to dial only after it.
                LegOutput::Answer | LegOutput::Transfer(_) => continue,
                // What is in the websocket's buffer leaves before the close frame does.
                LegOutput::HangUp(_) => return Err(Ending::HungUp),
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
        queued.map_err(|_| Ending::Lost("write_failed"))
    }

    /// Whether everything that was queued has left.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        match Pin::new(&mut *self.socket).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed_since = None;
                if let Some(at) = self.cut_decided.take() {
                    metrics::barge_in(at.elapsed());
                }
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Ending::Lost("write_failed")),
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

fn only_char(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}
