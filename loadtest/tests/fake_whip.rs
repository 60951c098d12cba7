//! The program as a browser against a WHIP gateway of a few lines: set-up, sound in both directions, keys, events, ends and refusals.
//!
//! The far end is `rtc` too, the answering side of it; what it finds in the caller's packets is looked at here, not there.

mod support;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use audiopus::Application;
use audiopus::Channels;
use audiopus::SampleRate;
use audiopus::coder;
use axum::Router;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::delete;
use axum::routing::get;
use axum::routing::post;
use bytes::Bytes;
use bytes::BytesMut;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCDataChannelEvent;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtp::Packet;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::sansio::Protocol;
use rtc::shared::TaggedBytesMut;
use rtc::shared::TransportContext;
use rtc::shared::TransportProtocol;
use serde_json::json;
use tokio::net::UdpSocket;

use support::Scratch;
use support::call;
use support::command;
use support::right_channel;
use support::run;
use support::stderr;
use support::stdout;
use support::write_wav;

/// Loud mu-law: alternating signs, so that it is voice by its energy and no direct current.
const LOUD: [u8; 2] = [0x10, 0x90];
/// As loud in A-law.
const LOUD_ALAW: [u8; 2] = [0x3a, 0xba];
/// Samples of 20 ms at 8 kHz.
const FRAME: usize = 160;
/// The gateway's source, and what tells its packets from the caller's.
const SSRC: u32 = 0x7a4d_0001;

#[test]
fn a_caller_hears_the_far_end_says_something_presses_keys_and_hangs_up() {
    greet_and_listen("opus");
}

#[test]
fn a_caller_does_so_in_mu_law() {
    greet_and_listen("pcmu");
}

#[test]
fn a_caller_does_so_in_a_law() {
    greet_and_listen("pcma");
}

fn greet_and_listen(codec: &str) {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let directory = Scratch::new(&format!("whip-{codec}"));
    let (say, record) = (directory.path("hello.wav"), directory.path("call.wav"));
    write_wav(&say, 8000, 0.5);
    let target = format!("{}?customer=17", far_end.target("demo"));
    let output = call(
        &target,
        &[
            "--codec", codec, "--say", &say, "--dtmf", "1#", "--record", &record,
        ],
    );
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    for line in [
        "answered after",
        "(ICE, DTLS)",
        "agent says  “Welcome”",
        "agent speaks",
        "caller says  “hello.wav”",
        "caller presses #",
        "caller hangs up",
        "gateway ended the call: caller_hung_up",
    ] {
        assert!(text.contains(line), "{codec}: no “{line}” in:\n{text}");
    }
    let seen = far_end.wait_until(|seen| seen.ended == 1);
    assert_eq!(seen.posted, ["demo?customer=17"]);
    assert_eq!(seen.deleted, 1);
    assert_eq!(seen.key_ends(), [1, 1, 1, 11, 11, 11], "{codec}");
    let numbers = seen
        .packets
        .iter()
        .map(|packet| packet.header.sequence_number);
    let numbers: Vec<u16> = numbers.collect();
    assert!(
        numbers
            .windows(2)
            .all(|pair| pair[1] == pair[0].wrapping_add(1)),
        "{codec}: sequence numbers have a gap"
    );
    // Half a second of a tone of 398 Hz has 398 crossings of zero; what is below the level is none.
    let (loud, crossings) = seen.speech(codec);
    assert!((0.4..0.6).contains(&loud), "{codec}: {loud} s are loud");
    assert!(
        (370..430).contains(&crossings),
        "{codec}: {crossings} crossings"
    );
    // The greeting is 500 ms of what the recording has in its right channel.
    let heard = loud_seconds(&right_channel(&record), 8000);
    assert!(
        (0.48..0.54).contains(&heard),
        "{codec}: {heard} s were heard"
    );
}

#[test]
fn a_far_end_that_hangs_up_ends_the_call_properly() {
    for script in [Script::HangUp, Script::HangUpByChannel] {
        let far_end = FarEnd::start(script);
        let output = call(&far_end.target("demo"), &[]);
        let text = stdout(&output);
        assert!(output.status.success(), "{text}\n{}", stderr(&output));
        assert!(
            text.contains("gateway ended the call: agent_ended"),
            "{text}"
        );
        assert!(text.contains("far end hung up"), "{text}");
        assert!(!text.contains("left open"), "{text}");
        assert_eq!(far_end.seen().deleted, 0);
    }
}

#[test]
fn a_far_end_that_forgets_to_close_is_left_after_a_while() {
    let far_end = FarEnd::start(Script::ForgetToClose);
    let output = call(&far_end.target("demo"), &[]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(text.contains("the connection was left open"), "{text}");
    assert!(text.contains("far end hung up"), "{text}");
}

#[test]
fn a_far_end_that_is_gone_is_noticed() {
    let far_end = FarEnd::start(Script::Vanish);
    let output = call(&far_end.target("demo"), &["--seconds", "7"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("the gateway answers no checks (ICE)"),
        "{text}"
    );
    assert!(
        stderr(&output).contains("no event “ended” and no end of the connection"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_refusal_is_told_in_one_sentence() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    for (route, sentence) in [
        (
            "secret",
            "the gateway refused the offer with 401 Unauthorized: a token is wanted (no_token)\n",
        ),
        (
            "nobody",
            "the gateway refused the offer with 404 Not Found: there is no such route (no_route)\n",
        ),
        (
            "full",
            "the gateway refused the offer with 503 Service Unavailable: all places are taken (busy); try again after 7 s\n",
        ),
        (
            "plain",
            "the gateway refused the offer with 406 Not Acceptable: no audio\n",
        ),
    ] {
        let output = call(&far_end.target(route), &[]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), sentence);
    }
}

#[test]
fn an_answer_of_no_use_is_told_and_the_session_deleted() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let output = call(&far_end.target("silent"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("it refuses the audio"),
        "{}",
        stderr(&output)
    );
    assert_eq!(far_end.seen().deleted, 1);
}

#[test]
fn nobody_there_is_told() {
    let output = call("http://127.0.0.1:9/whip/demo", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the offer did not reach the gateway"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_token_goes_with_offer_and_delete() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let target = far_end.target("secret");
    let by_argument = call(&target, &["--seconds", "0.3", "--token", "opensesame"]);
    assert!(by_argument.status.success(), "{}", stderr(&by_argument));
    let by_environment = command()
        .env("TEST_TOKEN", "opensesame")
        .args([
            "call",
            &target,
            "--seconds",
            "0.3",
            "--token-env",
            "TEST_TOKEN",
        ])
        .output()
        .expect("the program runs");
    assert!(
        by_environment.status.success(),
        "{}",
        stderr(&by_environment)
    );
    assert_eq!(far_end.seen().deleted, 2);
    let guessed = call(&target, &["--token", "guess"]);
    assert!(stderr(&guessed).contains("401"), "{}", stderr(&guessed));
}

#[test]
fn a_delete_that_is_refused_is_a_fault() {
    let far_end = FarEnd::start(Script::GreetAndListen);
    let output = call(&far_end.target("sticky"), &["--seconds", "0.3"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("our DELETE was answered with 500"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_dialogue_hears_the_agent_by_the_data_channel_and_its_barge_in_is_measured() {
    let far_end = FarEnd::start(Script::CutPrompt);
    let directory = Scratch::new("whip-barge-in");
    let say = directory.path("stop.wav");
    write_wav(&say, 8000, 0.5);
    let output = run(
        &directory,
        &format!(
            "steps = [{{ hear = 'welcome' }}, {{ barge_in_after = '500ms', play = '{say}' }}, {{ wait = '1500ms' }}]\n\
             [gateway]\ntarget = '{}'\n\
             [goal]\nagent_said = ['welcome']\nbarge_ins_at_least = 1\nsilence_after_barge_in_at_most = '1s'\n",
            far_end.target("demo")
        ),
    );
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    assert!(text.contains("after the barge-in"), "{text}");
    assert!(text.contains("turn latency 321 ms"), "{text}");
    assert!(text.contains("barge-in\n"), "{text}");
}

#[test]
fn a_bad_network_loses_and_repeats_what_the_caller_says() {
    let far_end = FarEnd::start(Script::Listen);
    let directory = Scratch::new("whip-network");
    let output = run(
        &directory,
        &format!(
            "steps = [{{ wait = '3s' }}]\n[gateway]\ntarget = '{}'\ncodec = 'pcmu'\nloss = 0.2\nduplicates = 0.2\njitter = '30ms'\n",
            far_end.target("demo")
        ),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let seen = far_end.seen();
    let numbers = seen
        .packets
        .iter()
        .map(|packet| packet.header.sequence_number);
    let numbers: Vec<u16> = numbers.collect();
    // SRTP lets no packet through twice, so that only what was lost shows; 150 were sent.
    assert!((100..140).contains(&numbers.len()), "{}", numbers.len());
    assert!(!numbers.is_sorted(), "some are overtaken");
}

#[test]
fn a_load_of_every_kind_is_told_by_kind_and_leaves_nothing() {
    let far_end = FarEnd::start(Script::Echo);
    let directory = Scratch::new("whip-load");
    let scenario = |refused: &str, goal: &str| {
        format!(
            "calls = 20\nramp_per_second = 20\nhold = '3s'\naudio = 'tone'\nat_most = 10\nsettle = '10s'\n\
             [mix]\nanswered = 2\nrefused = 1\ncancelled = 1\nvanished = 1\nrefused_user = '{refused}'\nvanish_after = '300ms'\n\
             [gateway]\ntarget = '{}'\nadmin = '{}'\n{goal}",
            far_end.target("demo"),
            far_end.base
        )
    };
    let output = run(&directory, &scenario("nobody", ""));
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    for line in [
        "20 of 20 as they should be",
        "answered                  8 attempted, 8 as expected, 0 otherwise",
        "refused                   4 attempted, 4 as expected, 0 otherwise",
        "cancelled                 4 attempted, 4 as expected, 0 otherwise",
        "vanished                  4 attempted, 4 as expected, 0 otherwise",
        "round trip of our tone",
        "agents' RTP",
        "left at the end           0 objects",
    ] {
        assert!(text.contains(line), "no “{line}” in:\n{text}");
    }
    let seen = far_end.seen();
    // The vanished say nothing: neither DELETE nor goodbye, and are missed only by their silence.
    assert_eq!((seen.deleted, seen.lost), (12, 4));

    let output = run(&directory, &scenario("demo", ""));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("4 × answered rather than refused"),
        "{}",
        stdout(&output)
    );
}

/// What the far end does with a call that it takes. Whether it takes it depends on the route: secret, nobody, full, plain, silent, sticky.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// Tells something; speaks for 500 ms from 200 ms on, then sends silence.
    GreetAndListen,
    /// Sends silence.
    Listen,
    /// Returns the caller's packets.
    Echo,
    /// Speaks until 300 ms after the caller does, and tells of it.
    CutPrompt,
    /// After 300 ms tells that the call is over, and closes the connection.
    HangUp,
    /// Likewise, but closes the data channel only.
    HangUpByChannel,
    /// Likewise, and closes nothing.
    ForgetToClose,
    /// Is gone after 300 ms, and answers nothing any more.
    Vanish,
}

#[derive(Default, Clone)]
struct Seen {
    /// Routes, with their queries.
    posted: Vec<String>,
    deleted: usize,
    packets: Vec<Packet>,
    /// Calls that are held.
    alive: usize,
    /// Calls that came to an end by either side's word.
    ended: usize,
    /// Calls whose caller was missed.
    lost: usize,
}

impl Seen {
    /// The keys, once for each packet that tells a key's end.
    fn key_ends(&self) -> Vec<u8> {
        let events = self
            .packets
            .iter()
            .filter(|packet| matches!(packet.header.payload_type, 110 | 126));
        let ends = events.filter(|packet| packet.payload[1] & 0x80 != 0);
        ends.map(|packet| packet.payload[0]).collect()
    }

    /// Seconds of what the caller said that are loud, and the crossings of zero in them.
    fn speech(&self, codec: &str) -> (f64, usize) {
        let mut decoder =
            coder::Decoder::new(SampleRate::Hz48000, Channels::Mono).expect("a decoder");
        let mut heard = Vec::new();
        for packet in &self.packets {
            let mut pcm = [0; 960];
            match packet.header.payload_type {
                111 => {
                    let length = decoder
                        .decode(Some(&packet.payload[..]), &mut pcm[..], false)
                        .expect("Opus");
                    heard.extend(&pcm[..length]);
                }
                0 => heard.extend(packet.payload.iter().map(|&byte| from_mulaw(byte))),
                8 => heard.extend(packet.payload.iter().map(|&byte| from_alaw(byte))),
                _ => {}
            }
        }
        let rate = if codec == "opus" { 48_000 } else { 8000 };
        let crossings = heard
            .chunks(rate / 100)
            .filter(is_loud)
            .collect::<Vec<_>>()
            .concat()
            .windows(2)
            .filter(|pair| (pair[0] < 0) != (pair[1] < 0))
            .count();
        (loud_seconds(&heard, rate), crossings)
    }
}

fn is_loud(samples: &&[i16]) -> bool {
    samples.iter().any(|sample| sample.unsigned_abs() > 3000)
}

/// To 10 ms.
fn loud_seconds(samples: &[i16], rate: usize) -> f64 {
    samples.chunks(rate / 100).filter(is_loud).count() as f64 / 100.0
}

#[derive(Clone)]
struct Shared {
    script: Script,
    seen: Arc<Mutex<Seen>>,
    calls: Arc<Mutex<Vec<tokio::sync::oneshot::Sender<()>>>>,
}

struct FarEnd {
    base: String,
    seen: Arc<Mutex<Seen>>,
    _runtime: tokio::runtime::Runtime,
}

impl FarEnd {
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
            seen: Arc::default(),
            calls: Arc::default(),
        };
        let seen = Arc::clone(&shared.seen);
        let router = Router::new()
            .route("/voice/whip/{route}", post(offered))
            .route("/voice/whip/{route}/{id}", delete(deleted))
            .route("/metrics", get(metrics))
            .with_state(shared);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            base,
            seen,
            _runtime: runtime,
        }
    }

    fn target(&self, route: &str) -> String {
        format!("{}/voice/whip/{route}", self.base)
    }

    fn seen(&self) -> Seen {
        self.seen.lock().expect("no test panicked").clone()
    }

    /// What was seen once this is so.
    fn wait_until(&self, is_so: impl Fn(&Seen) -> bool) -> Seen {
        for _ in 0..200 {
            let seen = self.seen();
            if is_so(&seen) {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let seen = self.seen();
        panic!(
            "{} deleted, {} ended, {} lost, {} alive",
            seen.deleted, seen.ended, seen.lost, seen.alive
        );
    }
}

fn note<T>(shared: &Shared, change: impl FnOnce(&mut Seen) -> T) -> T {
    change(&mut shared.seen.lock().expect("no test panicked"))
}

fn problem(status: StatusCode, reason: &str, detail: &str) -> Response {
    let body = json!({ "type": "about:blank", "status": status.as_u16(), "reason": reason, "detail": detail });
    let kind = [("content-type", "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

fn has_token(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|value| value == "Bearer opensesame")
}

async fn offered(
    State(shared): State<Shared>,
    Path(route): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    offer: String,
) -> Response {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    note(&shared, |seen| seen.posted.push(format!("{route}{query}")));
    assert_eq!(headers["content-type"], "application/sdp");
    let (answer, id) = match route.as_str() {
        "secret" if !has_token(&headers) => {
            return problem(StatusCode::UNAUTHORIZED, "no_token", "a token is wanted");
        }
        "nobody" => {
            return problem(StatusCode::NOT_FOUND, "no_route", "there is no such route");
        }
        "full" => {
            let refusal = problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "all places are taken",
            );
            return ([("retry-after", "7")], refusal).into_response();
        }
        "plain" => return (StatusCode::NOT_ACCEPTABLE, "no audio").into_response(),
        "silent" => ("v=0\r\nm=audio 0 UDP/TLS/RTP/SAVPF 111\r\n".to_owned(), 0),
        _ => {
            let (call, answer) = Call::new(shared.clone(), &offer).await;
            let (hang_up, hung_up) = tokio::sync::oneshot::channel();
            let mut calls = shared.calls.lock().expect("no test panicked");
            calls.push(hang_up);
            tokio::spawn(call.hold(hung_up));
            (answer, calls.len() - 1)
        }
    };
    let location = format!("/voice/whip/{route}/{id}");
    let headers = [("content-type", "application/sdp"), ("location", &location)];
    (StatusCode::CREATED, headers, answer).into_response()
}

async fn deleted(
    State(shared): State<Shared>,
    Path((route, id)): Path<(String, usize)>,
    headers: HeaderMap,
) -> StatusCode {
    note(&shared, |seen| seen.deleted += 1);
    if route == "secret" && !has_token(&headers) {
        return StatusCode::UNAUTHORIZED;
    }
    if route == "sticky" {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    // Each sender is used once: a second DELETE finds one that is closed already.
    let mut calls = shared.calls.lock().expect("no test panicked");
    if let Some(call) = calls.get_mut(id) {
        let (spent, _) = tokio::sync::oneshot::channel();
        let _ = std::mem::replace(call, spent).send(());
    }
    StatusCode::OK
}

async fn metrics(State(shared): State<Shared>) -> String {
    let alive = note(&shared, |seen| seen.alive);
    format!(
        "tandem_objects_alive{{type=\"call\"}} {alive}\nprocess_resident_memory_bytes 1000000\n"
    )
}

/// A call of the far end's.
struct Call {
    shared: Shared,
    core: RTCPeerConnection,
    sender: RTCRtpSenderId,
    socket: UdpSocket,
    local: SocketAddr,
    payload_type: u8,
    encoder: coder::Encoder,
    channel: Option<usize>,
    to_tell: VecDeque<String>,
    is_up: bool,
    /// The tick in which the caller was first heard.
    heard: Option<u32>,
    /// The tick, from the moment that media may flow.
    tick: u32,
    sent: u16,
}

impl Call {
    /// The answer to an offer.
    async fn new(shared: Shared, offer: &str) -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let local = socket.local_addr().expect("an address");
        let payload_type: u8 = offer
            .split("UDP/TLS/RTP/SAVPF ")
            .nth(1)
            .and_then(|rest| rest.split([' ', '\r']).next())
            .and_then(|number| number.parse().ok())
            .expect("a codec");
        let (name, clock, channels, events) = match payload_type {
            111 => ("opus", 48_000, 2, 110),
            0 => ("PCMU", 8000, 0, 126),
            _ => ("PCMA", 8000, 0, 126),
        };
        let codec = |name: &str, channels, payload_type| RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: format!("audio/{name}"),
                clock_rate: clock,
                channels,
                sdp_fmtp_line: String::new(),
                rtcp_feedback: Vec::new(),
            },
            payload_type,
        };
        let codecs = [
            codec(name, channels, payload_type),
            codec("telephone-event", 0, events),
        ];
        let track = MediaStreamTrack::new(
            "agent".to_owned(),
            "agent-audio".to_owned(),
            "agent-audio".to_owned(),
            RtpCodecKind::Audio,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(SSRC),
                    ..RTCRtpCodingParameters::default()
                },
                codec: codecs[0].rtp_codec.clone(),
                ..RTCRtpEncodingParameters::default()
            }],
        );
        let mut media = MediaEngine::default();
        for codec in codecs {
            media
                .register_codec(codec, RtpCodecKind::Audio)
                .expect("a codec");
        }
        // Who is silent for three seconds is lost.
        let second = Some(Duration::from_secs(1));
        let settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_ice_timeouts(Some(Duration::from_secs(2)), second, second)
            .build();
        let mut core = RTCPeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_setting_engine(settings)
            .build(Instant::now())
            .expect("a connection");
        let answer = (|| {
            let offer = RTCSessionDescription::offer(offer.to_owned())?;
            core.set_remote_description(Instant::now(), offer)?;
            let sender = core.add_track(track)?;
            core.add_local_candidate(RTCIceCandidateInit {
                candidate: format!(
                    "candidate:1 1 udp 2130706431 127.0.0.1 {} typ host",
                    local.port()
                ),
                ..RTCIceCandidateInit::default()
            })?;
            let answer = core.create_answer(None)?;
            core.set_local_description(Instant::now(), answer)?;
            let answer = core.local_description().expect("it was just set");
            Ok::<_, rtc::shared::error::Error>((sender, answer.sdp))
        })();
        let (sender, answer) = answer.expect("an answer");
        note(&shared, |seen| seen.alive += 1);
        let encoder = coder::Encoder::new(SampleRate::Hz48000, Channels::Mono, Application::Voip);
        let call = Self {
            shared,
            core,
            sender,
            socket,
            local,
            payload_type,
            encoder: encoder.expect("an encoder"),
            channel: None,
            to_tell: VecDeque::new(),
            is_up: false,
            heard: None,
            tick: 0,
            sent: 0,
        };
        (call, answer)
    }

    /// Until either side ends it.
    async fn hold(mut self, mut hung_up: tokio::sync::oneshot::Receiver<()>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let mut buffer = [0; 2048];
        let mut leaving = None;
        loop {
            self.flush().await;
            if self.collect() {
                break;
            }
            self.flush().await;
            let soon = Duration::from_millis(5);
            tokio::select! {
                biased;
                got = self.socket.recv_from(&mut buffer) => {
                    let (length, from) = got.expect("a datagram");
                    let _ = self.core.handle_read(TaggedBytesMut {
                        now: Instant::now(),
                        transport: TransportContext {
                            local_addr: self.local,
                            peer_addr: from,
                            transport_protocol: TransportProtocol::UDP,
                            ecn: None,
                        },
                        message: BytesMut::from(&buffer[..length]),
                    });
                }
                _ = &mut hung_up, if leaving.is_none() => {
                    self.tell(&json!({ "type": "ended", "reason": "caller_hung_up" }));
                    leaving = Some(Instant::now() + Duration::from_millis(100));
                }
                _ = ticks.tick(), if self.is_up => self.tick(),
                () = tokio::time::sleep(soon) => {
                    let _ = self.core.handle_timeout(Instant::now());
                }
            }
            if self.shared.script == Script::Vanish && self.tick > 15 {
                return;
            }
            if leaving.is_some_and(|at| Instant::now() >= at) {
                note(&self.shared, |seen| seen.ended += 1);
                break;
            }
        }
        let _ = self.core.close();
        self.flush().await;
        note(&self.shared, |seen| seen.alive -= 1);
    }

    async fn flush(&mut self) {
        while let Some(datagram) = self.core.poll_write() {
            let to = datagram.transport.peer_addr;
            let _ = self.socket.send_to(&datagram.message, to).await;
        }
    }

    /// What the caller did; `true` if the call is over by that.
    fn collect(&mut self) -> bool {
        while let Some(event) = self.core.poll_event() {
            match event {
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => match state {
                    RTCPeerConnectionState::Connected => self.is_up = true,
                    RTCPeerConnectionState::Failed => {
                        note(&self.shared, |seen| seen.lost += 1);
                        return true;
                    }
                    RTCPeerConnectionState::Closed => {
                        note(&self.shared, |seen| seen.ended += 1);
                        return true;
                    }
                    _ => {}
                },
                RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) => {
                    let label = self
                        .core
                        .data_channel(id)
                        .map(|channel| channel.label().to_owned());
                    assert_eq!(label.as_deref(), Some("events"));
                    self.channel = Some(id);
                }
                _ => {}
            }
        }
        while let Some(message) = self.core.poll_read() {
            if let RTCMessage::RtpPacket(_, packet) = message.message {
                self.hear(packet);
            }
        }
        if let Some(mut channel) = self.channel.and_then(|id| self.core.data_channel(id)) {
            for text in self.to_tell.drain(..) {
                let _ = channel.send_text(Instant::now(), text);
            }
        }
        false
    }

    fn hear(&mut self, packet: Packet) {
        // Silence is short in Opus, and one byte again and again elsewhere.
        let is_loud = match self.payload_type {
            111 => packet.payload.len() > 20,
            _ => packet.payload.iter().any(|&byte| byte != packet.payload[0]),
        };
        if is_loud && self.heard.is_none() && packet.header.payload_type == self.payload_type {
            self.heard = Some(self.tick);
            self.tell(&json!({ "at_ms": 1, "type": "barge_in", "heard_ms": 5 }));
            self.tell(&json!({ "at_ms": 2, "type": "turn_latency", "latency_ms": 321 }));
        }
        if self.shared.script == Script::Echo {
            let mut echo = packet.clone();
            echo.header.ssrc = SSRC;
            self.write(echo);
        }
        note(&self.shared, |seen| seen.packets.push(packet));
    }

    fn tell(&mut self, event: &serde_json::Value) {
        self.to_tell.push_back(event.to_string());
    }

    fn tick(&mut self) {
        let speaks = match self.shared.script {
            Script::GreetAndListen => (10..35).contains(&self.tick),
            Script::CutPrompt => {
                self.tick >= 10 && self.heard.is_none_or(|heard| self.tick < heard + 15)
            }
            Script::Listen
            | Script::Echo
            | Script::HangUp
            | Script::HangUpByChannel
            | Script::ForgetToClose
            | Script::Vanish => false,
        };
        if self.tick == 5 {
            self.tell(&json!({ "at_ms": 100, "type": "turn_started", "input": "event" }));
            self.tell(
                &json!({ "at_ms": 100, "type": "agent_text", "text": "Welcome", "partial": false }),
            );
        }
        match (self.shared.script, self.tick) {
            (Script::HangUp | Script::HangUpByChannel | Script::ForgetToClose, 15) => {
                self.tell(&json!({ "at_ms": 300, "type": "ended", "reason": "agent_ended" }));
            }
            (Script::HangUp, 17) => {
                let _ = self.core.close();
            }
            (Script::HangUpByChannel, 17) => {
                if let Some(mut channel) = self.channel.and_then(|id| self.core.data_channel(id)) {
                    channel.close().expect("an open channel");
                }
            }
            _ => {}
        }
        if self.shared.script != Script::Echo {
            let step = if self.payload_type == 111 { 960 } else { FRAME };
            let mut packet = Packet::default();
            packet.header.version = 2;
            packet.header.payload_type = self.payload_type;
            packet.header.sequence_number = self.sent;
            packet.header.timestamp = self.tick * step as u32;
            packet.header.ssrc = SSRC;
            packet.payload = self.sound(speaks);
            self.sent += 1;
            self.write(packet);
        }
        self.tick += 1;
    }

    /// 20 ms of a tone of 800 Hz or more, or of silence.
    fn sound(&mut self, speaks: bool) -> Bytes {
        if self.payload_type != 111 {
            let (loud, silence) = match self.payload_type {
                0 => (LOUD, [0xff; 2]),
                _ => (LOUD_ALAW, [0xd5; 2]),
            };
            return Bytes::from(if speaks { loud } else { silence }.repeat(FRAME / 2));
        }
        let first = self.tick * 960;
        let pcm: [i16; 960] = std::array::from_fn(|index| {
            let seconds = f64::from(first + index as u32) / 48_000.0;
            let tone = (seconds * 800.0 * 2.0 * std::f64::consts::PI).sin() * 16_000.0;
            if speaks { tone as i16 } else { 0 }
        });
        let mut packet = vec![0; 400];
        let length = self.encoder.encode(&pcm, &mut packet).expect("Opus");
        packet.truncate(length);
        Bytes::from(packet)
    }

    fn write(&mut self, packet: Packet) {
        if let Some(mut sender) = self.core.rtp_sender(self.sender) {
            let _ = sender.write_rtp(Instant::now(), packet);
        }
    }
}

/// G.711 §3.
fn from_mulaw(byte: u8) -> i16 {
    let code = i32::from(!byte);
    let magnitude = ((((code & 0x0f) << 3) + 132) << ((code & 0x70) >> 4)) - 132;
    (if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

/// G.711 §2.
fn from_alaw(byte: u8) -> i16 {
    let code = i32::from(byte ^ 0x55);
    let step = ((code & 0x0f) << 4) + 8;
    let magnitude = match (code & 0x70) >> 4 {
        0 => step,
        segment => (step + 0x100) << (segment - 1),
    };
    (if code & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }) as i16
}
