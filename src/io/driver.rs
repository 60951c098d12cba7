//! The one loop that turns a call: it moves frames and events into the engine and carries out what the engine decides.
//!
//! It decides nothing. Its branches are numbered by priority; after each wake-up it takes a bounded number of items from
//! the leg, so that neither a flood of audio nor a talkative backend keeps the clock waiting.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::engine::call::Call;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Action;
use crate::engine::call::event::BackendEvent;
use crate::engine::call::event::Event;
use crate::engine::call::event::LegEnd;
use crate::engine::call::event::StreamId;
use crate::engine::call::event::Transfer;
use crate::engine::call::notice::Direction;
use crate::engine::call::notice::Measure;
use crate::engine::call::notice::Notice;
use crate::engine::call::settings::CallSettings;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::frame::FRAME_DURATION;
use crate::io::backend::Session;
use crate::io::backend::TurnStream;
use crate::io::clock::now;
use crate::io::errands::Errands;
use crate::io::journal::Journal;
use crate::io::leg::CONTROL_RESERVE;
use crate::io::leg::Leg;
use crate::io::leg::LegInput;
use crate::io::leg::LegOutput;
use crate::io::metrics;

/// Leg items taken in one go: more than a whole ring of healthy audio, fewer than would make a frame late.
const LEG_BOUND: usize = 64;
/// Backend events that may wait; one turn's interim results at their fastest.
const BACKEND_EVENTS: usize = 64;
/// How long a call without any deadline sleeps; only an ended one has none.
const IDLE: Duration = Duration::from_secs(1);

/// Everything a driver holds for one call.
struct Driver {
    call: Call,
    leg: Leg,
    session: Box<dyn Session>,
    /// How the caller's audio is written.
    uplink: AudioFormat,
    streams: Vec<(StreamId, TurnStream)>,
    events: mpsc::Sender<(StreamId, BackendEvent)>,
    errands: Errands,
    journal: Journal,
    transfer: Option<Transfer>,
    has_agent: bool,
}

/// What an operator, or a drain, orders a call to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// End, for this reason.
    Stop(EndReason),
    /// Bring the caller elsewhere.
    Transfer(Transfer),
}

impl From<Order> for Event {
    fn from(order: Order) -> Self {
        match order {
            Order::Stop(reason) => Self::Stop(reason),
            Order::Transfer(transfer) => Self::Transfer(transfer),
        }
    }
}

/// How a call went.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// Why it ended.
    pub reason: EndReason,
    /// Where the caller is to be transferred.
    pub transfer: Option<Transfer>,
    /// Whether there is an agent to come back to from there: it has not been given up.
    pub has_agent: bool,
}

/// Runs a call to its end. `orders` come from outside.
pub async fn drive(
    leg: Leg,
    settings: CallSettings,
    session: Box<dyn Session>,
    errands: Errands,
    journal: Journal,
    mut orders: mpsc::Receiver<Order>,
) -> Outcome {
    let (events, mut backend) = mpsc::channel(BACKEND_EVENTS);
    let uplink = settings.uplink;
    // A line that does not ring is open.
    if leg.info.traits.rings.is_none() {
        metrics::call_set_up(now().saturating_duration_since(leg.info.began));
    }
    let call = Call::new(settings, now());
    let mut driver = Driver {
        call,
        leg,
        session,
        uplink,
        streams: Vec::new(),
        events,
        errands,
        journal,
        transfer: None,
        has_agent: true,
    };
    let mut timer = pin!(sleep_until(tokio::time::Instant::now()));
    loop {
        if let Some(reason) = driver.act() {
            let transfer = driver.transfer.filter(|_| reason == EndReason::Transferred);
            return Outcome {
                reason,
                transfer,
                has_agent: driver.has_agent,
            };
        }
        let deadline = driver.call.deadline().unwrap_or_else(|| now() + IDLE);
        // A timer that rings early does no harm, and to leave it alone is cheaper than to move it with every frame.
        if timer.is_elapsed() || deadline < timer.deadline().into_std() {
            timer.as_mut().reset(deadline.into());
        }
        tokio::select! {
            biased;
            // 1. Orders from outside are rare, and mostly final.
            Some(order) = orders.recv() => driver.call.handle(order.into(), now()),
            // 2. The clock: a frame that is due must not wait behind what arrives.
            () = timer.as_mut() => {}
            // 3. The backend: words cut prompts, and answers are waited for.
            Some((stream, event)) = backend.recv() => driver.on_backend(stream, event),
            // 4. Clips and what came of tools: rare, and waited for in silence.
            Some(event) = driver.errands.next() => driver.call.handle(event, now()),
            // 5. The caller's audio, which is buffered twice over.
            item = driver.leg.input.recv() => driver.on_leg(item),
        }
        // Audio that is here must be heard before the clock finds it missing.
        driver.take_waiting();
        driver.call.tick(now());
    }
}

impl Driver {
    fn on_backend(&mut self, stream: StreamId, event: BackendEvent) {
        if matches!(event, BackendEvent::Closed(_)) {
            self.streams.retain(|(id, _)| *id != stream);
        }
        self.call.handle(Event::Backend(stream, event), now());
    }

    fn on_leg(&mut self, item: Option<LegInput>) {
        let now = now();
        match item {
            Some(LegInput::Audio(frame)) => self.call.hear(&frame, now),
            Some(LegInput::Digit(digit, source)) => {
                self.call.handle(Event::Digit(digit, source), now);
            }
            Some(LegInput::MarkReached(segment)) => {
                self.call.handle(Event::MarkReached(segment), now);
            }
            Some(LegInput::Answered) => {
                metrics::call_set_up(now.saturating_duration_since(self.leg.info.began));
                self.call.handle(Event::Answered, now);
            }
            Some(LegInput::Held(held)) => self.call.handle(Event::Held(held), now),
            Some(LegInput::TransferEnded(outcome)) => {
                self.call.handle(Event::TransferEnded(outcome), now);
            }
            Some(LegInput::Ended(end)) => self.call.handle(Event::LegEnded(end), now),
            None => self.call.handle(Event::LegEnded(LegEnd::Lost), now),
        }
    }

    /// Takes what else the leg has brought.
    fn take_waiting(&mut self) {
        for _ in 0..LEG_BOUND {
            let Some(item) = self.leg.input.pop() else {
                return;
            };
            self.on_leg(Some(item));
        }
    }

    /// Carries out everything that the engine asks for; the reason if the call is over.
    fn act(&mut self) -> Option<EndReason> {
        while let Some(action) = self.call.poll() {
            match action {
                Action::Play(frame) => {
                    let fits = self.leg.output.free() > CONTROL_RESERVE;
                    if !fits || self.leg.output.push(LegOutput::Audio(*frame)).is_err() {
                        metrics::audio_dropped(Direction::Downlink, FRAME_DURATION);
                    }
                }
                Action::Mark(segment) => send(&mut self.leg, LegOutput::Mark(segment)),
                Action::Clear => send(&mut self.leg, LegOutput::Clear),
                Action::Open(turn) => {
                    let stream = turn.stream;
                    self.streams
                        .push((stream, self.session.open(turn, self.events.clone())));
                }
                Action::SendAudio(stream, bytes) => {
                    let length = bytes.len();
                    if !send_audio(&mut self.streams, stream, bytes) {
                        self.call.not_taken(stream, length, now());
                    }
                }
                Action::SendRest(stream, bytes) => {
                    if !send_audio(&mut self.streams, stream, &bytes) {
                        let lost = self.uplink.duration_of_bytes(bytes.len());
                        metrics::audio_dropped(Direction::Uplink, lost);
                    }
                }
                Action::HalfClose(stream) => {
                    if let Some((_, turn)) = self.streams.iter_mut().find(|(id, _)| *id == stream) {
                        turn.audio = None;
                    }
                }
                Action::Cancel(stream) => self.streams.retain(|(id, _)| *id != stream),
                Action::Answer => send(&mut self.leg, LegOutput::Answer),
                Action::Transfer(transfer) => {
                    send(&mut self.leg, LegOutput::Transfer(Box::new(transfer)));
                }
                Action::Fetch(clip, uri) => self.errands.fetch(clip, &uri),
                Action::RunTool(call) => self.errands.run_tool(call),
                Action::Tell(notice) => {
                    self.note_transfer(&notice);
                    self.journal.write(notice);
                }
                Action::Measure(measure) => {
                    if let Measure::BargeIn(decided) = measure {
                        send(&mut self.leg, LegOutput::CutDecided(decided));
                    }
                    metrics::record(&measure);
                }
                Action::End(reason) => {
                    send(&mut self.leg, LegOutput::HangUp(reason));
                    return Some(reason);
                }
            }
        }
        None
    }

    /// Remembers where the caller goes when the call is over, and whether the agent still waits for them.
    fn note_transfer(&mut self, notice: &Notice) {
        match notice {
            Notice::Transfer {
                to: Some(to),
                metadata,
            } => {
                self.transfer = Some(Transfer {
                    to: to.clone(),
                    metadata: metadata.clone(),
                });
            }
            Notice::TransferFailed { .. } => self.transfer = None,
            Notice::Fallback => self.has_agent = false,
            _ => {}
        }
    }
}

/// Hands a control item to the leg. The reserve is far larger than the items of one cut, so a ring without room means
/// a leg that has stopped, and its end is about to be seen.
fn send(leg: &mut Leg, item: LegOutput) {
    if leg.output.push(item).is_err() {
        tracing::debug!("the leg takes nothing more");
    }
}

/// Hands one message of caller audio to a stream; `false` if it has no room for all of it, and gets none. One that takes no
/// more at all misses nothing.
fn send_audio(streams: &mut [(StreamId, TurnStream)], stream: StreamId, bytes: &[u8]) -> bool {
    let audio = streams
        .iter_mut()
        .find(|(id, _)| *id == stream)
        .and_then(|(_, turn)| turn.audio.as_mut());
    let Some(audio) = audio else { return true };
    let fits = bytes.len() <= audio.free();
    if fits {
        audio.push_slice(bytes);
    } else {
        tracing::debug!(?stream, "the backend stream takes no more audio");
    }
    fits
}
