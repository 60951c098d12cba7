//! The gateway's side: an ingress on free ports, and an [`Exchange`] that gives its legs to the test.

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tandem::config::Rtp;
use tandem::config::Sip;
use tandem::config::SipListen;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::LegEnd;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;
use tandem::io::ingress::Admission;
use tandem::io::ingress::Exchange;
use tandem::io::ingress::Refusal;
use tandem::io::ingress::sip::SipIngress;
use tandem::io::journal::Journal;
use tandem::io::leg::Leg;
use tandem::io::leg::LegInfo;
use tandem::io::leg::LegInput;
use tandem::io::leg::LegOutput;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

/// Longer than anything here takes that does not say how long it takes; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway's SIP ingress, until it is dropped.
pub(crate) struct World {
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    legs: mpsc::UnboundedReceiver<Leg>,
    _stopped: DropGuard,
}

/// The rest of the gateway.
pub(crate) struct Fake {
    legs: mpsc::UnboundedSender<Leg>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_draining: bool,
    refusal: Option<Refusal>,
}

struct Place(mpsc::UnboundedSender<Leg>);

impl Admission for Place {
    fn connect(self: Box<Self>, leg: Leg) -> Journal {
        self.0.send(leg).expect("the test still runs");
        Journal::new()
    }
}

impl Exchange for Fake {
    fn accepting(&self) -> bool {
        true
    }

    fn is_draining(&self) -> bool {
        self.state.lock().expect("no panic").is_draining
    }

    fn admit(&self, _info: &LegInfo) -> Result<Box<dyn Admission>, Refusal> {
        match self.state.lock().expect("no panic").refusal {
            Some(refusal) => Err(refusal),
            None => Ok(Box::new(Place(self.legs.clone()))),
        }
    }
}

impl Fake {
    pub(crate) fn refuse(&self, refusal: Option<Refusal>) {
        self.state.lock().expect("no panic").refusal = refusal;
    }

    pub(crate) fn drain(&self) {
        self.state.lock().expect("no panic").is_draining = true;
    }
}

impl World {
    /// With the default configuration.
    pub(crate) async fn open() -> Self {
        Self::with(|_, _| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Sip, &mut Rtp)) -> Self {
        let listen = |text| SipListen::parse(text).expect("a listener");
        let mut sip = Sip {
            listen: vec![listen("udp:127.0.0.1:0"), listen("tcp:127.0.0.1:0")],
            ..Sip::default()
        };
        let mut rtp = Rtp::default();
        change(&mut sip, &mut rtp);
        let (sender, legs) = mpsc::unbounded_channel();
        let fake = Arc::new(Fake {
            legs: sender,
            state: Mutex::default(),
        });
        let stopped = CancellationToken::new();
        let ingress = SipIngress {
            sip,
            rtp,
            calls_per_second: 100,
            exchange: fake.clone(),
        };
        let listeners = ingress.start(&stopped).await.expect("it listens");
        let address = |transport: &str| {
            let mut addresses = listeners
                .iter()
                .filter_map(|listener| listener.strip_prefix(transport));
            addresses.next().and_then(|text| text.parse().ok())
        };
        Self {
            udp: address("udp:").expect("an address"),
            tcp: address("tcp:").expect("an address"),
            fake,
            legs,
            _stopped: stopped.drop_guard(),
        }
    }

    /// The next call.
    pub(crate) async fn leg(&mut self) -> CallSide {
        let leg = timeout(PATIENCE, self.legs.recv()).await;
        CallSide(leg.expect("a call in time").expect("the gateway lives"))
    }

    /// Asserts that no call has come that the test has not taken.
    pub(crate) fn no_leg(&mut self) {
        assert!(self.legs.try_recv().is_err(), "there is a call");
    }
}

/// A call as the rest of the gateway sees it.
pub(crate) struct CallSide(pub(crate) Leg);

impl CallSide {
    pub(crate) fn rate(&self) -> SampleRate {
        self.0.info.traits.rate
    }

    pub(crate) fn say(&mut self, output: LegOutput) {
        assert!(self.0.output.push(output).is_ok(), "there is room");
    }

    pub(crate) fn answer(&mut self) {
        self.say(LegOutput::Answer);
    }

    pub(crate) fn hang_up(&mut self) {
        self.say(LegOutput::HangUp(EndReason::AgentEnded));
    }

    /// Lets the caller hear samples, at most 20 ms of them.
    pub(crate) fn play(&mut self, samples: &[i16]) {
        let frame = Frame::new(self.rate(), samples);
        self.say(LegOutput::Audio(frame));
    }

    /// Whatever comes next.
    pub(crate) async fn next(&mut self) -> LegInput {
        let input = timeout(PATIENCE, self.0.input.recv()).await;
        input.expect("in time").expect("the leg lives")
    }

    /// The next that is no sound.
    pub(crate) async fn event(&mut self) -> LegInput {
        loop {
            let input = self.next().await;
            if !matches!(input, LegInput::Audio(_)) {
                return input;
            }
        }
    }

    pub(crate) async fn answered(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, LegInput::Answered), "{event:?}");
    }

    pub(crate) async fn held(&mut self) -> bool {
        match self.event().await {
            LegInput::Held(is_held) => is_held,
            other => panic!("{other:?}"),
        }
    }

    /// How the leg ends; nothing but sound may come before.
    pub(crate) async fn ended(&mut self) -> LegEnd {
        match self.event().await {
            LegInput::Ended(end) => end,
            other => panic!("{other:?}"),
        }
    }

    /// Asserts that the leg's task lets go of its side after its end.
    pub(crate) async fn gone(&mut self) {
        let input = timeout(PATIENCE, self.0.input.recv()).await;
        assert!(input.expect("in time").is_none(), "something follows");
    }

    /// What has come and was not yet taken.
    pub(crate) fn waiting(&mut self) -> Vec<LegInput> {
        std::iter::from_fn(|| self.0.input.pop()).collect()
    }
}

/// Ports for so many calls that nobody has at this moment.
pub(crate) fn free_ports(calls: u16) -> RangeInclusive<u16> {
    // Below the kernel's own choice, above the ports of the other tests.
    let candidates = (0..100).map(|_| 20_000 + 2 * rand::random_range(0..6_000_u16));
    let is_free = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let mut ranges = candidates.map(|first| first..=first + 2 * calls - 1);
    ranges
        .find(|range| range.clone().all(is_free))
        .expect("some ports are free")
}
