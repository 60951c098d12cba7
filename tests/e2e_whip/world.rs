//! The gateway's side: an ingress on free ports, and an [`Exchange`] that gives its legs to the test.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;
use reqwest::Method;
use reqwest::Response;
use tandem::config::Webrtc;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::LegEnd;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;
use tandem::io::ingress::Admission;
use tandem::io::ingress::Exchange;
use tandem::io::ingress::Refusal;
use tandem::io::ingress::whip::WhipIngress;
use tandem::io::journal::Journal;
use tandem::io::leg::Leg;
use tandem::io::leg::LegInfo;
use tandem::io::leg::LegInput;
use tandem::io::leg::LegOutput;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

/// Longer than anything here takes that does not say how long it takes; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// The type of a change.
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// A gateway's WHIP ingress, until it is dropped.
pub(crate) struct World {
    pub(crate) base: String,
    pub(crate) fake: Arc<Fake>,
    legs: mpsc::UnboundedReceiver<CallSide>,
    http: reqwest::Client,
    metrics: PrometheusHandle,
    // Every task of a test runs on the test's own thread, and so counts here.
    _recorder: LocalRecorderGuard<'static>,
    _stopped: DropGuard,
}

/// The rest of the gateway.
pub(crate) struct Fake {
    legs: mpsc::UnboundedSender<CallSide>,
    refusal: Mutex<Option<Refusal>>,
    /// Places taken and not given back before their call began.
    places: Arc<AtomicUsize>,
}

struct Place {
    legs: mpsc::UnboundedSender<CallSide>,
    places: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission for Place {
    fn connect(self: Box<Self>, leg: Leg) -> Journal {
        let journal = Journal::new();
        let side = CallSide {
            leg,
            journal: journal.clone(),
        };
        self.legs.send(side).expect("the test still runs");
        journal
    }
}

impl Exchange for Fake {
    fn accepting(&self) -> bool {
        true
    }

    fn is_draining(&self) -> bool {
        false
    }

    fn admit(&self, _info: &LegInfo) -> Result<Box<dyn Admission>, Refusal> {
        match *self.refusal.lock().expect("no panic") {
            Some(refusal) => Err(refusal),
            None => {
                self.places.fetch_add(1, Ordering::Relaxed);
                Ok(Box::new(Place {
                    legs: self.legs.clone(),
                    places: self.places.clone(),
                }))
            }
        }
    }
}

impl Fake {
    pub(crate) fn refuse(&self, refusal: Option<Refusal>) {
        *self.refusal.lock().expect("no panic") = refusal;
    }

    /// Calls that have been admitted and have not begun.
    pub(crate) fn places(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }
}

impl World {
    /// On a free port of 127.0.0.1.
    pub(crate) async fn open() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Webrtc)) -> Self {
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let metrics = recorder.handle();
        let recorder = metrics::set_default_local_recorder(recorder);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let mut config = Webrtc {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            parameters: vec!["customer".to_owned()],
            ..Webrtc::default()
        };
        change(&mut config);
        let (sender, legs) = mpsc::unbounded_channel();
        let fake = Arc::new(Fake {
            legs: sender,
            refusal: Mutex::default(),
            places: Arc::default(),
        });
        let stopped = CancellationToken::new();
        let ingress = WhipIngress {
            public_url: base.clone(),
            config,
            exchange: fake.clone(),
        };
        let router = ingress.start(&stopped).expect("it listens");
        let router = router.expect("there is something to listen on");
        tokio::spawn(axum::serve(listener, router).into_future());
        Self {
            base,
            fake,
            legs,
            http: reqwest::Client::new(),
            metrics,
            _recorder: recorder,
            _stopped: stopped.drop_guard(),
        }
    }

    /// Sends an offer, whatever becomes of it.
    pub(crate) async fn offer(&self, path: &str, offer: String) -> Response {
        let request = self.http.post(format!("{}{path}", self.base)).body(offer);
        let request = request.header("Content-Type", "application/sdp");
        request.send().await.expect("an answer")
    }

    /// Sends an offer that is taken.
    pub(crate) async fn begin(&self, offer: String) -> Begun {
        let response = self.offer("/whip/support?customer=17", offer).await;
        assert_eq!(response.status(), 201);
        let header = |name| {
            let value = response.headers().get(name).expect(name);
            value.to_str().expect("text").to_owned()
        };
        Begun {
            url: format!("{}{}", self.base, header("Location")),
            etag: header("ETag"),
            answer: response.text().await.expect("a body"),
        }
    }

    /// Asks something of a session; `If-Match` and a body only with PATCH.
    pub(crate) async fn ask(&self, method: Method, url: &str) -> u16 {
        let response = self.http.request(method, url).send().await;
        response.expect("an answer").status().as_u16()
    }

    /// Asks for an ICE restart.
    pub(crate) async fn restart(&self, url: &str, fragment: String) -> Response {
        let request = self.http.patch(url).body(fragment);
        let request = request.header("Content-Type", FRAGMENT);
        let response = request.header("If-Match", "*").send().await;
        response.expect("an answer")
    }

    /// Whether a session can still be found. Nothing is asked of it: the fragment has no credentials.
    pub(crate) async fn knows(&self, begun: &Begun) -> bool {
        let request = self.http.patch(&begun.url).body("a=end-of-candidates\r\n");
        let request = request.header("Content-Type", FRAGMENT);
        let response = request.header("If-Match", &begun.etag).send().await;
        match response.expect("an answer").status().as_u16() {
            204 | 412 => true,
            404 => false,
            other => panic!("{other}"),
        }
    }

    /// The next call.
    pub(crate) async fn call(&mut self) -> CallSide {
        let side = timeout(PATIENCE, self.legs.recv()).await;
        side.expect("a call in time").expect("the gateway lives")
    }

    /// Asserts that no call has come that the test has not taken.
    pub(crate) fn no_call(&mut self) {
        assert!(self.legs.try_recv().is_err(), "there is a call");
    }

    /// The value of a series, if there is one.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.render();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(series));
        lines.next().and_then(|value| value.trim().parse().ok())
    }

    /// Waits until no leg is left.
    pub(crate) async fn released(&self) {
        const LEGS: &str = r#"tandem_objects_alive{type="leg"}"#;
        let since = Instant::now();
        while self.metric(LEGS).expect("there was one") > 0.0 {
            assert!(since.elapsed() < PATIENCE, "a leg is left");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A session as HTTP tells of it.
#[derive(Clone)]
pub(crate) struct Begun {
    pub(crate) url: String,
    pub(crate) etag: String,
    pub(crate) answer: String,
}

impl Begun {
    /// The value of an attribute's first line.
    pub(crate) fn attribute(&self, name: &str) -> &str {
        attribute(&self.answer, name).expect(name)
    }

    /// Where the gateway says it is.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        candidates(&self.answer)
    }
}

/// The value of an attribute's first line in a description or fragment.
pub(crate) fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("a="));
    let mut attributes = lines.filter_map(|line| line.split_once(':'));
    attributes
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

/// The addresses of all candidates, each once, the preferred first.
pub(crate) fn candidates(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("a=candidate:")) {
        let words: Vec<&str> = line.split(' ').collect();
        let ip = words[4].parse().expect("an address");
        let address = SocketAddr::new(ip, words[5].parse().expect("a port"));
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// A call as the rest of the gateway sees it.
pub(crate) struct CallSide {
    pub(crate) leg: Leg,
    pub(crate) journal: Journal,
}

impl CallSide {
    pub(crate) fn rate(&self) -> SampleRate {
        self.leg.info.traits.rate
    }

    pub(crate) fn say(&mut self, output: LegOutput) {
        assert!(self.leg.output.push(output).is_ok(), "there is room");
    }

    pub(crate) fn hang_up(&mut self) {
        self.say(LegOutput::HangUp(EndReason::AgentEnded));
    }

    /// Lets the caller hear samples, at most 20 ms of them.
    pub(crate) fn play(&mut self, samples: &[i16]) {
        let frame = Frame::new(self.rate(), samples);
        self.say(LegOutput::Audio(frame));
    }

    /// What has come and was not yet taken.
    pub(crate) fn waiting(&mut self) -> Vec<LegInput> {
        std::iter::from_fn(|| self.leg.input.pop()).collect()
    }

    /// The next that is no sound.
    pub(crate) async fn event(&mut self) -> LegInput {
        self.event_within(PATIENCE).await
    }

    async fn event_within(&mut self, patience: Duration) -> LegInput {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let input = tokio::time::timeout_at(until, self.leg.input.recv()).await;
            let input = input.expect("in time").expect("the leg lives");
            if !matches!(input, LegInput::Audio(_)) {
                return input;
            }
        }
    }

    /// How the leg ends; nothing but sound may come before.
    pub(crate) async fn ended(&mut self) -> LegEnd {
        self.ended_within(PATIENCE).await
    }

    pub(crate) async fn ended_within(&mut self, patience: Duration) -> LegEnd {
        match self.event_within(patience).await {
            LegInput::Ended(end) => end,
            other => panic!("{other:?}"),
        }
    }

    /// Asserts that the leg's task lets go of its side.
    pub(crate) async fn gone(&mut self) {
        let input = timeout(PATIENCE, self.leg.input.recv()).await;
        assert!(input.expect("in time").is_none(), "something follows");
    }
}
