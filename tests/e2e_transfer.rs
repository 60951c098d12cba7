//! Callers who are sent elsewhere, over real sockets: the whole gateway behind its Twilio ingress and its operator's
//! listener, with an agent that does as its script says. Twilio's side is played by webhooks and a websocket client.

use std::collections::BTreeMap;
use std::future::IntoFuture as _;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::SinkExt as _;
use futures_util::StreamExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use serde_json::json;
use tandem::config;
use tandem::engine::call::event::Answer;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::OpenTurn;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::event::TurnInput;
use tandem::engine::media::ring;
use tandem::io::agents::ConfiguredAgent;
use tandem::io::backend::Backend;
use tandem::io::backend::Session;
use tandem::io::backend::SessionStart;
use tandem::io::backend::TurnStream;
use tandem::io::backend::auth::Auth;
use tandem::io::backend::endpoint::GoogleEnvironment;
use tandem::io::backend::endpoint::Trust;
use tandem::io::calls::Calls;
use tandem::io::clips::Account;
use tandem::io::clips::Clips;
use tandem::io::errands::Services;
use tandem::io::http::admin;
use tandem::io::http::admin::Admin;
use tandem::io::ingress::twilio;
use tandem::io::ingress::twilio::TwilioIngress;
use tandem::io::telemetry;
use tandem::io::telemetry::FilterHandle;
use tandem::io::tools::Tools;
use tandem::io::web::Web;
use tandem::io::web::WebSettings;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

const HANG_UP: &str = "<Response><Hangup/></Response>";

#[tokio::test]
async fn a_caller_whom_nobody_takes_comes_back_to_the_agent_in_the_same_session() {
    let mut world = World::open(Script::transferring("+15550100")).await;
    let twiml = world.voice("CA1").await;
    let mut first = world.stream("CA1", &twiml).await;
    let (session, opening) = world.turn().await;
    assert_eq!(opening, TurnInput::Event("WELCOME".to_owned()));
    closed(&mut first).await;

    let action = format!("{}/twilio/action", world.public);
    let dial = world.action("CA1", &[]).await;
    assert_eq!(
        dial,
        format!("<Response><Dial action=\"{action}\">+15550100</Dial></Response>")
    );
    let back = [("DialCallStatus", "busy"), ("CallStatus", "in-progress")];
    let twiml = world.action("CA1", &back).await;
    assert!(
        twiml.starts_with(&format!("<Response><Connect action=\"{action}\"><Stream ")),
        "{twiml}"
    );
    let mut second = world.stream("CA1", &twiml).await;
    let (again, opening) = world.turn().await;
    assert_eq!(again, session, "the agent has another session");
    assert_eq!(opening, TurnInput::Event("TRANSFER_FAILED".to_owned()));

    // It is a call like any other, with a name of its own, and tells why it is one.
    let call = world.only_call().await;
    assert_ne!(call["id"].as_str(), Some(&*session));
    assert_eq!(call["external_id"], "CA1");
    let told = world.event(&call, "transfer_failed").await;
    assert_eq!(told["reason"], "busy");
    world.hang_up(&call).await;
    closed(&mut second).await;
    assert_eq!(world.action("CA1", &[]).await, HANG_UP);
}

#[tokio::test]
async fn a_transfer_may_fail_more_than_once() {
    let mut script = Script::transferring("+15550100");
    script.transfers_again = true;
    let mut world = World::open(script).await;
    let mut twiml = world.voice("CA1").await;
    let mut sessions = Vec::new();
    for status in ["no-answer", "failed", "canceled"] {
        let mut stream = world.stream("CA1", &twiml).await;
        sessions.push(world.turn().await.0);
        closed(&mut stream).await;
        let dial = world.action("CA1", &[]).await;
        assert!(dial.ends_with(">+15550100</Dial></Response>"), "{dial}");
        twiml = world.action("CA1", &[("DialCallStatus", status)]).await;
        assert!(twiml.contains("<Stream "), "{status}: {twiml}");
    }
    sessions.dedup();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
}

#[tokio::test]
async fn who_was_taken_or_has_gone_does_not_come_back() {
    let mut world = World::open(Script::transferring("sip:people@pbx.example.com")).await;
    for (call_sid, form) in [
        ("CA1", &[("DialCallStatus", "completed")] as &[_]),
        ("CA2", &[("DialCallStatus", "answered")]),
        (
            "CA3",
            &[("DialCallStatus", "no-answer"), ("CallStatus", "completed")],
        ),
    ] {
        let twiml = world.voice(call_sid).await;
        let mut stream = world.stream(call_sid, &twiml).await;
        world.turn().await;
        closed(&mut stream).await;
        let dial = world.action(call_sid, &[]).await;
        assert!(dial.contains("<Sip>sip:people@pbx.example.com"), "{dial}");
        assert_eq!(world.action(call_sid, form).await, HANG_UP, "{form:?}");
        // Nor does a webhook that comes late bring them back.
        let late = world.action(call_sid, &[("DialCallStatus", "busy")]).await;
        assert_eq!(late, HANG_UP);
    }
    // Who was never sent anywhere does not come back from there.
    let stranger = world.action("CA4", &[("DialCallStatus", "busy")]).await;
    assert_eq!(stranger, HANG_UP);
}

#[tokio::test]
async fn who_comes_back_to_a_gateway_without_room_is_hung_up_on() {
    let mut world = World::open(Script::transferring("+15550100")).await;
    let twiml = world.voice("CA1").await;
    let mut first = world.stream("CA1", &twiml).await;
    world.turn().await;
    closed(&mut first).await;
    world.action("CA1", &[]).await;
    world.calls.start_draining();
    let twiml = world.action("CA1", &[("DialCallStatus", "busy")]).await;
    assert_eq!(twiml, HANG_UP);
}

#[tokio::test]
async fn an_operator_transfers_a_caller_and_what_goes_along_reaches_the_sip_address() {
    let mut world = World::open(Script::listening()).await;
    let twiml = world.voice("CA1").await;
    let mut stream = world.stream("CA1", &twiml).await;
    world.turn().await;
    let call = world.only_call().await;
    let order = json!({"to": "sip:people@pbx.example.com", "metadata": {"account_id": "42"}});
    let (status, body) = world
        .transfer(call["id"].as_str(), &order.to_string())
        .await;
    assert_eq!((status, &*body), (202, ""));
    closed(&mut stream).await;
    let dial = world.action("CA1", &[]).await;
    assert!(
        dial.contains("<Sip>sip:people@pbx.example.com?X-Tandem-Account-Id=42&amp;User-to-User=7b"),
        "{dial}"
    );
    let done = world
        .action("CA1", &[("DialCallStatus", "completed")])
        .await;
    assert_eq!(done, HANG_UP);
}

#[tokio::test]
async fn an_order_that_cannot_be_carried_out_is_refused_with_its_reason() {
    let mut world = World::open(Script::listening()).await;
    let twiml = world.voice("CA1").await;
    let _stream = world.stream("CA1", &twiml).await;
    world.turn().await;
    let call = world.only_call().await;
    let id = call["id"].as_str();
    for (order, reason) in [
        ("", "EOF"),
        ("{}", "missing field `to`"),
        (r#"{"to": 5}"#, "invalid type"),
        (r#"{"to": "+15550100", "metadata": [1]}"#, "invalid type"),
        (r#"{"to": "+15550100", "when": "now"}"#, "unknown field"),
        (r#"{"to": "people"}"#, "`to` must be a telephone number"),
        (r#"{"to": "</Dial>"}"#, "`to` must be a telephone number"),
        (
            r#"{"to": "sip:a@b\r\nX: y"}"#,
            "`to` must be a telephone number",
        ),
        // A REFER reaches it, a <Dial> does not.
        (r#"{"to": "sip:pbx"}"#, "Twilio dials nothing else"),
    ] {
        let (status, body) = world.transfer(id, order).await;
        assert_eq!(status, 400, "{order}: {body}");
        assert!(body.contains(reason), "{order}: {body}");
    }
    let order = json!({"to": "+15550100"}).to_string();
    let nobody = "00000000-0000-4000-8000-000000000000";
    assert_eq!(world.transfer(Some(nobody), &order).await.0, 404);
    assert_eq!(
        world.only_call().await["id"],
        call["id"],
        "the call goes on"
    );
    world.hang_up(&call).await;
    assert!(world.turns.try_recv().is_err(), "something else was said");
}

// ---- helpers

/// What the agent does.
#[derive(Clone)]
struct Script {
    /// Where the welcome sends the caller, if anywhere.
    welcome: Option<String>,
    /// Whether the agent sends a caller there again who comes back.
    transfers_again: bool,
}

impl Script {
    fn listening() -> Self {
        Self {
            welcome: None,
            transfers_again: false,
        }
    }

    fn transferring(to: &str) -> Self {
        Self {
            welcome: Some(to.to_owned()),
            ..Self::listening()
        }
    }

    fn answer(&self, event: &str) -> Answer {
        let is_sent = event == "WELCOME" || self.transfers_again;
        let to = self.welcome.clone().filter(|_| is_sent);
        Answer {
            messages: to.map(Message::TransferCall).into_iter().collect(),
            ..Answer::default()
        }
    }
}

/// An agent that tells the test of each turn but the spoken ones: the session and the input.
struct Agent {
    script: Script,
    turns: mpsc::UnboundedSender<(String, TurnInput)>,
}

struct AgentSession {
    id: String,
    script: Script,
    turns: mpsc::UnboundedSender<(String, TurnInput)>,
    /// The ends of spoken turns that nobody answers.
    heard: Vec<ring::Receiver<u8>>,
}

impl Backend for Agent {
    fn session(&self, start: SessionStart) -> Box<dyn Session> {
        Box::new(AgentSession {
            id: start.id,
            script: self.script.clone(),
            turns: self.turns.clone(),
            heard: Vec::new(),
        })
    }
}

impl Session for AgentSession {
    fn open(
        &mut self,
        turn: OpenTurn,
        events: mpsc::Sender<(StreamId, BackendEvent)>,
    ) -> TurnStream {
        let stream = turn.stream;
        if let TurnInput::Event(event) = &turn.input {
            let answer = self.script.answer(event);
            self.turns
                .send((self.id.clone(), turn.input))
                .expect("the test still runs");
            let task = tokio::spawn(async move {
                for event in [
                    BackendEvent::Answer(Box::new(answer)),
                    BackendEvent::Closed(None),
                ] {
                    let _ = events.send((stream, event)).await;
                }
            });
            return TurnStream::new(None, task.abort_handle());
        }
        let (audio, heard) = ring::ring(64 * 1024);
        self.heard.push(heard);
        let task = tokio::spawn(async move {
            // Listens for as long as it is let.
            let _events = events;
            std::future::pending::<()>().await;
        });
        TurnStream::new(Some(audio), task.abort_handle())
    }
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A gateway with one agent, on free ports.
struct World {
    calls: Calls,
    public: String,
    admin: String,
    http: reqwest::Client,
    turns: mpsc::UnboundedReceiver<(String, TurnInput)>,
}

impl World {
    async fn open(script: Script) -> Self {
        let (sender, turns) = mpsc::unbounded_channel();
        let agent = Agent {
            script,
            turns: sender,
        };
        let configured = ConfiguredAgent::new(
            Arc::new(agent),
            &config::Agent::local(),
            &config::Config::load(None, &[].into()).expect("the defaults are valid"),
            services(),
        );
        let route = config::Route::every_call("all", "local");
        let agents = BTreeMap::from([("local".to_owned(), configured)]);
        let calls = Calls::new(config::Limits::default(), vec![route], agents);

        let (socket, public) = listener().await;
        let routes = twilio::routes(TwilioIngress {
            public_url: public.clone(),
            config: config::Twilio::default(),
            exchange: Arc::new(calls.clone()),
            timings: twilio::Timings::default(),
        });
        tokio::spawn(axum::serve(socket, routes).into_future());
        let (socket, admin) = listener().await;
        let operator = Admin {
            calls: calls.clone(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            filter: filter(),
            started: Arc::new(AtomicBool::new(true)),
        };
        tokio::spawn(axum::serve(socket, admin::routes(operator)).into_future());
        Self {
            calls,
            public,
            admin,
            http: reqwest::Client::new(),
            turns,
        }
    }

    /// Twilio asks what to do with a new call.
    async fn voice(&self, call_sid: &str) -> String {
        self.webhook("voice", call_sid, &[]).await
    }

    /// Twilio asks what comes next.
    async fn action(&self, call_sid: &str, more: &[(&str, &str)]) -> String {
        self.webhook("action", call_sid, more).await
    }

    async fn webhook(&self, which: &str, call_sid: &str, more: &[(&str, &str)]) -> String {
        let form = [
            &[
                ("CallSid", call_sid),
                ("From", "+15550111"),
                ("To", "+15550199"),
            ],
            more,
        ]
        .concat();
        let url = format!("{}/twilio/{which}", self.public);
        let response = self.http.post(url).form(&form).send().await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 200);
        response.text().await.expect("TwiML")
    }

    /// Twilio does as it is told, and connects the stream.
    async fn stream(&self, call_sid: &str, twiml: &str) -> Stream {
        let url = between(twiml, "<Stream url=\"", "\"");
        let token = between(twiml, "<Parameter name=\"token\" value=\"", "\"");
        let (mut stream, _) = connect_async(url).await.expect("it is taken");
        let start = json!({
            "event": "start", "sequenceNumber": "1", "streamSid": "MZ1",
            "start": {
                "accountSid": "AC1", "streamSid": "MZ1", "callSid": call_sid, "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {"token": token},
            },
        });
        let start = tungstenite::Message::text(start.to_string());
        stream.send(start).await.expect("sent");
        stream
    }

    /// The next turn that the agent sees: its session and its input.
    async fn turn(&mut self) -> (String, TurnInput) {
        let turn = timeout(PATIENCE, self.turns.recv()).await;
        turn.expect("in time").expect("the gateway lives")
    }

    /// The one call in progress.
    async fn only_call(&self) -> Value {
        let url = format!("{}/v1/calls", self.admin);
        let page = self.http.get(url).send().await.expect("an answer");
        let page: Value = page.json().await.expect("JSON");
        let calls = page["calls"].as_array().expect("a list");
        assert_eq!(calls.len(), 1, "{page}");
        calls[0].clone()
    }

    /// The first event of this type in a call.
    async fn event(&self, call: &Value, kind: &str) -> Value {
        let id = call["id"].as_str().expect("an id");
        let url = format!("{}/v1/calls/{id}/events", self.admin);
        let mut response = self.http.get(url).send().await.expect("an answer");
        let found = timeout(PATIENCE, async {
            let mut text = String::new();
            loop {
                let chunk = response.chunk().await.expect("no error");
                text.push_str(&String::from_utf8_lossy(&chunk.expect("more")));
                let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
                let mut events = lines.filter_map(|line| serde_json::from_str(line).ok());
                if let Some(found) = events.find(|event: &Value| event["type"] == kind) {
                    return found;
                }
            }
        });
        found.await.expect("in time")
    }

    async fn transfer(&self, id: Option<&str>, order: &str) -> (u16, String) {
        let id = id.expect("an id");
        let url = format!("{}/v1/calls/{id}/transfer", self.admin);
        let response = self.http.post(url).body(order.to_owned()).send().await;
        let response = response.expect("an answer");
        let status = response.status().as_u16();
        (status, response.text().await.expect("a body"))
    }

    /// An operator ends a call.
    async fn hang_up(&self, call: &Value) {
        let id = call["id"].as_str().expect("an id");
        let url = format!("{}/v1/calls/{id}", self.admin);
        let response = self.http.delete(url).send().await.expect("an answer");
        assert_eq!(response.status(), 202);
        while !self.calls.list().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn services() -> Services {
    let web = Arc::new(Web::new(&WebSettings::new(false)));
    let auth = Auth::new(
        "local",
        None,
        &GoogleEnvironment::default(),
        Trust::PlainText,
    );
    Services {
        clips: Clips::new(config::Clips::default(), web.clone()),
        tools: Tools::new(web, &BTreeMap::new()).expect("no tools"),
        account: Account {
            agent: "local".to_owned(),
            auth: Arc::new(auth.expect("no credentials")),
        },
    }
}

/// Logging can be set up once in a process, whichever way the tests are run.
fn filter() -> FilterHandle {
    static FILTER: OnceLock<FilterHandle> = OnceLock::new();
    let install = || telemetry::install(&config::Log::default()).expect("nobody else has");
    FILTER.get_or_init(install).clone()
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, format!("http://{address}"))
}

/// Waits until the gateway has closed the stream in order.
async fn closed(stream: &mut Stream) {
    loop {
        let message = timeout(PATIENCE, stream.next()).await.expect("in time");
        match message.expect("a close frame").expect("no error") {
            tungstenite::Message::Close(frame) => {
                assert_eq!(u16::from(frame.expect("a reason").code), 1000);
                return;
            }
            tungstenite::Message::Text(_) | tungstenite::Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).expect(before);
    rest.split_once(after).expect(after).0
}
