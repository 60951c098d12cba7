//! The program itself against a gateway of a few lines: what a user types, what they read, and the exit code.

mod support;

use std::process::Output;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Form;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::any;
use axum::routing::get;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use support::Scratch;
use support::command;
use support::right_channel;
use support::run;
use support::stderr;
use support::stdout;
use support::write_wav;

/// Loud mu-law: alternating signs, so that it is voice by its energy and no direct current.
const LOUD: [u8; 2] = [0x10, 0x90];
const FRAME: usize = 160;

#[test]
fn a_caller_hears_the_greeting_says_something_and_hangs_up() {
    let gateway = Gateway::start(Script::GreetAndEcho);
    let directory = Scratch::new("greeting");
    let (say, record) = (directory.path("hello.wav"), directory.path("call.wav"));
    write_wav(&say, 8000, 0.5);
    let output = call(
        &gateway,
        &["--say", &say, "--dtmf", "1#", "--record", &record],
    );
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    for line in [
        "agent speaks",
        "agent says  “Welcome”",
        "caller says  “hello.wav”",
        "caller presses #",
        "then: hang up",
    ] {
        assert!(text.contains(line), "no “{line}” in:\n{text}");
    }

    let seen = gateway.seen();
    let events: Vec<&str> = seen
        .iter()
        .filter_map(|message| message["event"].as_str())
        .collect();
    assert_eq!(events[..2], ["connected", "start"]);
    assert_eq!(
        seen[1]["start"]["customParameters"],
        json!({ "token": "a&b" })
    );
    assert_eq!(events.last(), Some(&"stop"));
    assert_eq!(events.iter().filter(|event| **event == "dtmf").count(), 2);
    let numbers: Vec<u64> = seen[1..]
        .iter()
        .filter_map(|message| message["sequenceNumber"].as_str()?.parse().ok())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "sequence numbers have a gap"
    );
    // The greeting is 500 ms long: its mark comes back after the 25 frames, give or take the ticks at both ends.
    let mark = seen
        .iter()
        .position(|message| message["event"] == "mark")
        .expect("a mark");
    let frames = seen[..mark]
        .iter()
        .filter(|message| message["event"] == "media")
        .count();
    assert!(
        (24..=28).contains(&frames),
        "the mark came after {frames} frames"
    );

    let recording = hound::WavReader::open(&record).expect("a recording");
    assert_eq!(
        (recording.spec().channels, recording.spec().sample_rate),
        (2, 8000)
    );
}

#[test]
fn a_cleared_prompt_is_not_heard_and_its_mark_returns_at_once() {
    let gateway = Gateway::start(Script::LongPromptThenClear);
    let directory = Scratch::new("clear");
    let record = directory.path("call.wav");
    let output = call(&gateway, &["--seconds", "1.5", "--record", &record]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(text.contains("clear received"), "{text}");
    let seen = gateway.seen();
    let mark = seen
        .iter()
        .position(|message| message["event"] == "mark")
        .expect("a mark");
    let frames = seen[..mark]
        .iter()
        .filter(|message| message["event"] == "media")
        .count();
    assert!(
        (20..=28).contains(&frames),
        "the mark came after {frames} frames, the clear after 25"
    );
    let loud = right_channel(&record)
        .iter()
        .filter(|sample| **sample != 0)
        .count();
    assert!(
        (20 * FRAME..=30 * FRAME).contains(&loud),
        "{loud} samples were heard"
    );
}

#[test]
fn a_gateway_that_ends_the_call_is_asked_what_follows() {
    let gateway = Gateway::start(Script::EndAtOnce);
    let output = call(&gateway, &[]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(text.contains("gateway closes the line"), "{text}");
    assert!(
        text.contains("gateway ended the call: agent_ended"),
        "{text}"
    );
}

#[test]
fn a_close_with_an_error_is_told_and_fails() {
    let gateway = Gateway::start(Script::CloseWithError);
    let output = call(&gateway, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("1011 no agent"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_refused_webhook_is_told_and_fails() {
    let gateway = Gateway::start(Script::Refuse);
    let output = call(&gateway, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("refused the webhook with 503 Service Unavailable: full"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn requests_are_signed_when_there_is_a_token() {
    let gateway = Gateway::start(Script::NeedSignature);
    let unsigned = call(&gateway, &["--seconds", "0.2"]);
    assert!(stderr(&unsigned).contains("403"), "{}", stderr(&unsigned));
    let signed = command()
        .env("TEST_TOKEN", "12345")
        .args(["call", &gateway.target(), "--seconds", "0.2"])
        .args(["--auth-token-env", "TEST_TOKEN"])
        .output();
    let signed = signed.expect("the program runs");
    assert!(signed.status.success(), "{}", stderr(&signed));
}

#[test]
fn a_dialogue_meets_its_goals_or_says_which_it_missed() {
    let gateway = Gateway::start(Script::LongPromptThenClear);
    let directory = Scratch::new("dialogue");
    let say = directory.path("stop.wav");
    write_wav(&say, 16_000, 0.3);
    let scenario = |said: &str| {
        format!(
            "steps = [{{ hear = 'welcome' }}, {{ barge_in_after = '200ms', play = '{say}' }}, {{ wait = '500ms' }}]\n\
             [gateway]\ntarget = '{}'\nadmin = '{}'\n\
             [goal]\nagent_said = ['{said}']\nbarge_ins_at_least = 1\nunheard_seconds_at_most = 0\n",
            gateway.target(),
            gateway.base
        )
    };
    let met = run(&directory, &scenario("welcome"));
    assert!(met.status.success(), "{}\n{}", stdout(&met), stderr(&met));
    assert!(
        stdout(&met).contains("all goals were met"),
        "{}",
        stdout(&met)
    );
    let missed = run(&directory, &scenario("goodbye"));
    assert_eq!(missed.status.code(), Some(1));
    assert!(
        stderr(&missed).contains("the agent did not say “goodbye”"),
        "{}",
        stderr(&missed)
    );
}

#[test]
fn a_load_reports_calls_costs_and_round_trips() {
    let gateway = Gateway::start(Script::GreetAndEcho);
    let directory = Scratch::new("load");
    let scenario = format!(
        "calls = 10\nramp_per_second = 20\nhold = '4s'\naudio = 'tone'\n[gateway]\ntarget = '{}'\nadmin = '{}'\n\
         [goal]\nunheard_seconds_at_most = 0\ncpu_percent_per_call_at_most = 100\n",
        gateway.target(),
        gateway.base
    );
    let output = run(&directory, &scenario);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(text.contains("10 of 10 as they should be"), "{text}");
    assert!(text.contains("round trip of our tone"), "{text}");
    assert!(text.contains("% of a core"), "{text}");
}

/// What the fake does with a call.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// Speaks for 500 ms, marks it, then returns the caller's audio.
    GreetAndEcho,
    /// Sends a prompt of 10 s with a mark at its end, and clears it after 25 frames from the caller.
    LongPromptThenClear,
    /// Closes in order.
    EndAtOnce,
    /// Closes with 1011.
    CloseWithError,
    /// Answers 503.
    Refuse,
    /// Answers 403 without a signature.
    NeedSignature,
}

#[derive(Clone)]
struct Shared {
    script: Script,
    base: String,
    seen: Arc<Mutex<Vec<Value>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

struct Gateway {
    base: String,
    shared: Shared,
    _runtime: tokio::runtime::Runtime,
}

impl Gateway {
    fn start(script: Script) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Shared {
            script,
            base: base.clone(),
            seen: Arc::default(),
            calls: Arc::default(),
        };
        let router = Router::new()
            .route("/twilio/voice", post(voice))
            .route("/twilio/media", any(media))
            .route(
                "/twilio/action",
                post(async || "<Response><Hangup/></Response>"),
            )
            .route("/v1/calls", get(list))
            .route("/v1/calls/{id}/events", get(events))
            .route("/metrics", get(metrics))
            .with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            base,
            shared,
            _runtime: runtime,
        }
    }

    fn target(&self) -> String {
        format!("{}/twilio/media", self.base.replacen("http", "ws", 1))
    }

    fn seen(&self) -> Vec<Value> {
        self.shared.seen.lock().expect("no test panicked").clone()
    }
}

async fn voice(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<Vec<(String, String)>>,
) -> Response {
    match shared.script {
        Script::Refuse => return (StatusCode::SERVICE_UNAVAILABLE, "full").into_response(),
        Script::NeedSignature if !headers.contains_key("x-twilio-signature") => {
            return StatusCode::FORBIDDEN.into_response();
        }
        _ => {}
    }
    let sid = form
        .into_iter()
        .find(|(name, _)| name == "CallSid")
        .expect("a CallSid")
        .1;
    shared.calls.lock().expect("no test panicked").push(sid);
    let host = shared.base.replacen("http", "ws", 1);
    format!(
        r#"<?xml version="1.0"?><Response><Connect action="/twilio/action"><Stream url="{host}/twilio/media">
        <Parameter name="token" value="a&amp;b"/></Stream></Connect></Response>"#
    )
    .into_response()
}

async fn media(
    State(shared): State<Shared>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if shared.script == Script::NeedSignature && !headers.contains_key("x-twilio-signature") {
        return StatusCode::FORBIDDEN.into_response();
    }
    upgrade.on_upgrade(move |socket| async move {
        // A caller that has gone needs nothing more.
        let _ = serve(socket, shared).await;
    })
}

async fn serve(mut socket: WebSocket, shared: Shared) -> Result<(), axum::Error> {
    let (mut stream, mut frames) = (Value::Null, 0);
    while let Some(message) = socket.recv().await {
        let Message::Text(text) = message? else {
            continue;
        };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        shared
            .seen
            .lock()
            .expect("no test panicked")
            .push(message.clone());
        if message["event"] == "start" {
            stream = message["streamSid"].clone();
            match shared.script {
                Script::GreetAndEcho => speak(&mut socket, &stream, 25).await?,
                Script::LongPromptThenClear => speak(&mut socket, &stream, 500).await?,
                Script::EndAtOnce => return socket.send(close(1000, "")).await,
                Script::CloseWithError => return socket.send(close(1011, "no agent")).await,
                Script::Refuse | Script::NeedSignature => {}
            }
        }
        if message["event"] == "media" {
            frames += 1;
            if shared.script == Script::GreetAndEcho && frames > 30 {
                let echo = json!({ "event": "media", "streamSid": stream, "media": { "payload": message["media"]["payload"] } });
                socket.send(Message::text(echo.to_string())).await?;
            }
            if shared.script == Script::LongPromptThenClear && frames == 25 {
                socket
                    .send(Message::text(
                        json!({ "event": "clear", "streamSid": stream }).to_string(),
                    ))
                    .await?;
            }
        }
    }
    Ok(())
}

async fn speak(socket: &mut WebSocket, stream: &Value, frames: usize) -> Result<(), axum::Error> {
    let payload = STANDARD.encode(LOUD.repeat(frames * FRAME / 2));
    let media = json!({ "event": "media", "streamSid": stream, "media": { "payload": payload } });
    let mark = json!({ "event": "mark", "streamSid": stream, "mark": { "name": "end" } });
    socket.send(Message::text(media.to_string())).await?;
    socket.send(Message::text(mark.to_string())).await
}

fn close(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}

async fn list(State(shared): State<Shared>) -> Json<Value> {
    let calls = shared.calls.lock().expect("no test panicked");
    let calls: Vec<Value> = calls
        .iter()
        .map(|sid| json!({ "id": "1", "ingress": "twilio", "external_id": sid }))
        .collect();
    Json(json!({ "calls": calls }))
}

async fn events() -> impl IntoResponse {
    let event = |value: Value| format!("data: {value}\n\n");
    let told = event(json!({ "at_ms": 40, "type": "agent_text", "text": "Welcome" }))
        + &event(json!({ "at_ms": 60, "type": "weather" }))
        + &event(json!({ "at_ms": 80, "type": "ended", "reason": "agent_ended" }));
    ([("content-type", "text/event-stream")], told)
}

async fn metrics() -> &'static str {
    "process_cpu_seconds_total 1\nprocess_resident_memory_bytes 1000\ntandem_caller_audio_unheard_seconds_total 0\n"
}

fn call(gateway: &Gateway, more: &[&str]) -> Output {
    let fixed = ["--admin", &gateway.base, "--auth-token-env", "TEST_TOKEN"];
    support::call(&gateway.target(), &[&fixed, more].concat())
}
