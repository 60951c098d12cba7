//! One call's leg: its connection, its call and its timers, in one task with one loop.
//!
//! ```text
//! Connecting ──keys──▶ Talking ──the call says HangUp──▶ Leaving ──last event told──▶ over
//!     └── 10 s, DELETE ──▶ over      └── the peer closes, or is lost ──▶ over
//! ```
//!
//! The call begins when the peer can be heard, so a peer that never comes costs no agent.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio::time::sleep_until;
use tracing::debug;
use tracing::info;

use super::Shared;
use super::events::Events;
use super::ignored;
use super::measure;
use super::mux::Arrival;
use super::mux::LegId;
use super::refused::Refused;
use super::session::Entry;
use super::session::Order;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::LegEnd;
use crate::engine::call::notice::Direction;
use crate::engine::media::ring;
use crate::engine::rtp::session::Heard;
use crate::engine::webrtc::ice::Credentials;
use crate::engine::webrtc::peer;
use crate::engine::webrtc::peer::End;
use crate::engine::webrtc::peer::Event;
use crate::engine::webrtc::peer::Peer;
use crate::io::clock::now;
use crate::io::ingress::Admission;
use crate::io::ingress::tally::Tally;
use crate::io::leg;
use crate::io::leg::LegInfo;
use crate::io::leg::LegInput;
use crate::io::leg::LegOutput;
use crate::io::leg::LegPort;
use crate::io::metrics;
use crate::io::metrics::Alive;
use crate::io::metrics::Object;

/// Datagrams taken in one turn, so that a flood does not keep our own audio waiting.
const READ_BOUND: usize = 16;
/// How long the end of a call is waited for, to be told to the peer: the journal writes it within microseconds.
const LAST_WORD_WITHIN: Duration = Duration::from_millis(250);
/// The same where the peer has not opened its channel yet, as in a call that is over as soon as it has begun: some wait for
/// us to begin, and then there are a few round trips.
const CHANNEL_WITHIN: Duration = Duration::from_secs(1);
/// How long a peer that has been told the end has until the connection is closed over it: to fetch what was lost, and to play what
/// its jitter buffer still holds of the agent's last word, for which the phone page takes 400 ms.
const LINGER: Duration = Duration::from_millis(500);

/// What a leg is made of.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    /// Keeps the session known.
    pub(super) entry: Entry,
    pub(super) id: LegId,
    pub(super) peer: Peer,
    /// Whether the peer may open data channels.
    pub(super) has_channels: bool,
    pub(super) datagrams: ring::Receiver<Arrival>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) admission: Box<dyn Admission>,
    pub(super) info: LegInfo,
}

/// How far a leg has come.
enum Stage {
    /// The place in the registry is kept for it.
    Connecting(Box<dyn Admission>, LegInfo),
    /// Joined to its call.
    Talking(LegPort),
    /// The call is over; until then, the peer may hear of it.
    Leaving(Instant),
}

/// How a leg ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By us: the call is over and the peer has been told.
    Left,
    /// The call's task is gone, or nobody wants the call any more.
    Gone,
    /// By the peer, or for want of it.
    Peer(End),
}

impl Ending {
    const fn label(self) -> &'static str {
        match self {
            Self::Left => "hung_up",
            Self::Gone => "call_gone",
            Self::Peer(End::Closed) => "closed",
            Self::Peer(End::NeverConnected) => "never_connected",
            Self::Peer(End::NoKeys(_)) => "no_keys",
            Self::Peer(End::ConsentLost) => "consent_lost",
        }
    }
}

struct Leg {
    shared: Arc<Shared>,
    entry: Entry,
    id: LegId,
    peer: Peer,
    datagrams: ring::Receiver<Arrival>,
    orders: mpsc::Receiver<Order>,
    stage: Stage,
    events: Events,
    tally: Tally,
    ignored: peer::Ignored,
}

/// Carries a leg to its end and tells the call.
pub(super) async fn run(parts: Parts) {
    let _alive = Alive::new(Object::Leg);
    let mut leg = Leg {
        shared: parts.shared,
        entry: parts.entry,
        id: parts.id,
        peer: parts.peer,
        datagrams: parts.datagrams,
        orders: parts.orders,
        stage: Stage::Connecting(parts.admission, parts.info),
        events: Events::new(parts.has_channels),
        tally: Tally::new(now()),
        ignored: peer::Ignored::default(),
    };
    let mut alarm = Box::pin(sleep_until(tokio::time::Instant::now()));
    let ending = loop {
        if let Some(ending) = leg.turn(&mut alarm).await {
            break ending;
        }
    };
    leg.end(ending);
}

impl Leg {
    /// Waits for whatever comes first, and does what it asks for.
    async fn turn(&mut self, alarm: &mut Pin<Box<Sleep>>) -> Option<Ending> {
        let deadline = self.deadline();
        if alarm.is_elapsed() || deadline < alarm.deadline().into_std() {
            alarm.as_mut().reset(deadline.into());
        }
        let ending = tokio::select! {
            biased;
            // 1. Signalling is rare, and final for the most part.
            Some(order) = self.orders.recv() => self.obey(order),
            // 2. The agent's voice: its frames are due now.
            output = next_output(&mut self.stage) => self.on_output(output.as_ref()),
            // 3. The caller's voice, which waits in a ring.
            Some(arrival) = self.datagrams.recv() => {
                self.receive(&arrival);
                None
            }
            // 4. What there is to read of the call.
            Some(()) = self.events.ready() => None,
            // 5. The clock, last: what has been waiting in a ring is no silence.
            () = alarm.as_mut() => self.on_alarm(),
        };
        if ending.is_some() {
            return ending;
        }
        let now = now();
        let ending = self.follow(now);
        // What has just been opened is told at once.
        self.events.tell(&mut self.peer, now);
        self.send_due(now);
        ending
    }

    fn deadline(&self) -> Instant {
        let own = match self.stage {
            Stage::Connecting(..) => None,
            Stage::Talking(_) => Some(self.tally.deadline()),
            Stage::Leaving(until) => Some(until),
        };
        own.into_iter().fold(self.peer.deadline(), Instant::min)
    }

    fn obey(&mut self, order: Order) -> Option<Ending> {
        match order {
            Order::HangUp => match &self.stage {
                Stage::Connecting(..) => return Some(Ending::Gone),
                // The call says HangUp in turn.
                Stage::Talking(_) => self.tell(LegInput::Ended(LegEnd::HungUp)),
                Stage::Leaving(_) => {}
            },
            Order::Restart(credentials) => self.restart(credentials),
        }
        None
    }

    fn restart(&mut self, credentials: Credentials) {
        self.peer.restart(credentials);
        self.shared.mux.name(self.id, self.peer.names());
    }

    fn receive(&mut self, first: &Arrival) {
        let now = now();
        self.peer.receive(&first.bytes, first.path, now);
        for _ in 1..READ_BOUND {
            let Some(next) = self.datagrams.pop() else {
                return;
            };
            self.peer.receive(&next.bytes, next.path, now);
        }
    }

    /// Does what the connection asks for.
    fn follow(&mut self, now: Instant) -> Option<Ending> {
        while let Some(event) = self.peer.poll(now) {
            match event {
                Event::Learned(path) => self.shared.mux.learn(self.id, path),
                Event::Forgotten(path) => self.shared.mux.forget(self.id, path),
                Event::Connected => self.begin_call(),
                Event::Heard(heard) => self.hear(&heard),
                Event::Opened(channel) => self.events.open(channel),
                Event::Ended(end) => return Some(Ending::Peer(end)),
            }
        }
        None
    }

    /// The peer can be heard, so the call begins.
    fn begin_call(&mut self) {
        let until = now() + LAST_WORD_WITHIN;
        let before = std::mem::replace(&mut self.stage, Stage::Leaving(until));
        self.stage = match before {
            Stage::Connecting(admission, info) => {
                let (leg, port) = leg::leg(info);
                self.events.follow(admission.connect(leg));
                Stage::Talking(port)
            }
            other @ (Stage::Talking(_) | Stage::Leaving(_)) => other,
        };
    }

    fn hear(&mut self, heard: &Heard) {
        match heard {
            Heard::Audio(frame) => {
                if let Stage::Talking(port) = &mut self.stage
                    && !port.push_audio(*frame)
                {
                    metrics::audio_dropped(Direction::Uplink, frame.duration());
                }
            }
            Heard::Digit(digit) => self.tell(LegInput::Digit(*digit, DigitSource::Rtp)),
            // A new track may follow, and checks tell whether the peer is there.
            Heard::PeerLeft | Heard::PeerAbsent(_) => {}
        }
    }

    fn on_output(&mut self, output: Option<&LegOutput>) -> Option<Ending> {
        match output {
            Some(LegOutput::Audio(frame)) => self.peer.send(frame),
            Some(LegOutput::Clear) => self.peer.cut(),
            Some(LegOutput::CutDecided(at)) => {
                metrics::barge_in(now().saturating_duration_since(*at));
            }
            // Nothing is buffered beyond us, nothing rings, and a browser cannot be sent elsewhere.
            Some(LegOutput::Mark(_) | LegOutput::Answer | LegOutput::Transfer(_)) => {}
            Some(LegOutput::HangUp(reason)) => {
                debug!(reason = reason.label(), "the call is over");
                let patience = if self.events.are_awaited() {
                    CHANNEL_WITHIN
                } else {
                    LAST_WORD_WITHIN
                };
                self.stage = Stage::Leaving(now() + patience + LINGER);
            }
            None => return Some(Ending::Gone),
        }
        None
    }

    fn on_alarm(&mut self) -> Option<Ending> {
        let now = now();
        if let Stage::Leaving(until) = &mut self.stage
            && now >= *until
        {
            return Some(Ending::Left);
        }
        self.peer.tick(now);
        let peer = &self.peer;
        self.tally.tick(|| peer.statistics(), now);
        self.count_ignored();
        None
    }

    /// Sends whatever is due, and shortens the goodbye once the last word is told.
    fn send_due(&mut self, now: Instant) {
        while let Some(datagram) = self.peer.next_datagram(now) {
            self.shared.mux.send(datagram.bytes, datagram.path);
        }
        if let Stage::Leaving(until) = &mut self.stage
            && self.events.are_told()
        {
            *until = (*until).min(now + LINGER);
        }
    }

    /// Tells what the connection has ignored since this was last told.
    fn count_ignored(&mut self) {
        let now = self.peer.ignored();
        ignored::count_peer(now, std::mem::replace(&mut self.ignored, now));
    }

    fn tell(&mut self, input: LegInput) {
        if let Stage::Talking(port) = &mut self.stage
            && !port.push_control(input)
        {
            debug!("the call takes nothing more");
        }
    }

    /// Says goodbye to both sides.
    fn end(mut self, ending: Ending) {
        let now = now();
        if let Ending::Peer(End::NoKeys(error)) = ending {
            info!(%error, "no keys could be agreed on");
        }
        info!(reason = ending.label(), "leg ended");
        match (&self.stage, ending) {
            (Stage::Connecting(..), Ending::Peer(_)) => measure::refused(Refused::NeverConnected),
            (Stage::Connecting(..), Ending::Left | Ending::Gone)
            | (Stage::Talking(_) | Stage::Leaving(_), _) => {}
        }
        self.tell(LegInput::Ended(match ending {
            Ending::Peer(End::ConsentLost) => LegEnd::ConsentLost,
            Ending::Peer(End::NoKeys(_) | End::NeverConnected) => LegEnd::Lost,
            Ending::Peer(End::Closed) | Ending::Left | Ending::Gone => LegEnd::HungUp,
        }));
        self.tally.end(self.peer.statistics());
        self.count_ignored();
        self.peer.close(now);
        self.send_due(now);
        self.shared.mux.leave(self.id);
        drop(self.entry);
    }
}

/// The call's next wish; never, where there is no call.
async fn next_output(stage: &mut Stage) -> Option<LegOutput> {
    match stage {
        Stage::Talking(port) => port.output.recv().await,
        Stage::Connecting(..) | Stage::Leaving(_) => std::future::pending().await,
    }
}
