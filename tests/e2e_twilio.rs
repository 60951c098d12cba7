//! The Twilio ingress over real sockets: Twilio's side is played by a websocket client, the gateway's by a fake
//! [`Exchange`] that hands the legs to the test.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::SinkExt;
use futures_util::StreamExt;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use serde_json::json;
use tandem::config::Secret;
use tandem::config::Twilio;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::Digit;
use tandem::engine::call::event::DigitSource;
use tandem::engine::call::event::LegEnd;
use tandem::engine::call::event::SegmentId;
use tandem::engine::call::event::Transfer;
use tandem::engine::media::codec::g711;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;
use tandem::io::ingress::Admission;
use tandem::io::ingress::AfterCall;
use tandem::io::ingress::Exchange;
use tandem::io::ingress::Refusal;
use tandem::io::ingress::twilio::Timings;
use tandem::io::ingress::twilio::TwilioIngress;
use tandem::io::ingress::twilio::routes;
use tandem::io::ingress::twilio::signature::sign;
use tandem::io::journal::Journal;
use tandem::io::leg::IngressKind;
use tandem::io::leg::Leg;
use tandem::io::leg::LegInfo;
use tandem::io::leg::LegInput;
use tandem::io::leg::LegOutput;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const AUTH_TOKEN: &str = "12345";
/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

// ---- the webhooks

#[tokio::test]
async fn the_webhook_connects_the_call_to_the_websocket() {
    let world = World::open().await;
    let twiml = world.voice("CA1", &[]).await;
    let token = token_of(&twiml);
    let base = &world.base;
    let stream = base.replace("http://", "ws://");
    assert_eq!(
        twiml,
        format!(
            r#"<Response><Connect action="{base}/twilio/action"><Stream url="{stream}/twilio/media"><Parameter name="token" value="{token}"/></Stream></Connect></Response>"#
        )
    );
}

#[tokio::test]
async fn a_gateway_that_takes_no_calls_rejects_as_busy() {
    let world = World::open().await;
    world.fake.set(|state| state.accepting = false);
    assert_eq!(
        world.voice("CA1", &[]).await,
        r#"<Response><Reject reason="busy"/></Response>"#
    );
}

#[tokio::test]
async fn a_webhook_without_a_usable_call_is_a_bad_request() {
    let world = World::open().await;
    for form in [vec![], vec![("CallSid", "")], vec![("CallSid", "CA<1>")]] {
        let answer = world.post("/twilio/voice", &form, None).await;
        assert_eq!(answer, (400, "bad_webhook".to_owned()), "{form:?}");
    }
}

#[tokio::test]
async fn after_the_call_twilio_is_told_to_hang_up_or_to_dial() {
    let world = World::open().await;
    let form = [("CallSid", "CA1")];
    let (status, twiml) = world.post("/twilio/action", &form, None).await;
    assert_eq!((status, &*twiml), (200, "<Response><Hangup/></Response>"));
    let transfer = Transfer {
        to: "+18005551212".to_owned(),
        metadata: Value::Null,
    };
    world
        .fake
        .set(|state| state.after_call = AfterCall::Dial(transfer));
    let (_, twiml) = world.post("/twilio/action", &form, None).await;
    let action = format!("{}/twilio/action", world.base);
    assert_eq!(
        twiml,
        format!("<Response><Dial action=\"{action}\">+18005551212</Dial></Response>")
    );
}

// ---- signatures

#[tokio::test]
async fn webhooks_need_the_right_signature() {
    let world = World::signed().await;
    let form = [("CallSid", "CA1"), ("From", "+1"), ("To", "+2")];
    for path in [
        "/twilio/voice",
        "/twilio/action",
        "/twilio/voice?campaign=a%20b",
    ] {
        let right = sign(
            AUTH_TOKEN,
            &format!("{}{path}", world.base),
            &owned_pairs(&form),
        );
        assert_eq!(world.post(path, &form, Some(&right)).await.0, 200, "{path}");
        let of_another = sign("other", &world.base, &owned_pairs(&form));
        for wrong in [None, Some(""), Some("AAAA"), Some(&*of_another)] {
            let answer = world.post(path, &form, wrong).await;
            assert_eq!(
                answer,
                (403, "bad_signature".to_owned()),
                "{path} {wrong:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_handshake_needs_the_right_signature_for_the_public_url() {
    let world = World::signed().await;
    let public = world.media_url();
    for signed in [
        public.clone(),
        format!("{public}/"),
        public.replace("ws:", "http:"),
    ] {
        let signature = sign(AUTH_TOKEN, &signed, &[]);
        let handshake = world.handshake(Some(&signature)).await;
        assert!(handshake.is_ok(), "signed as {signed}");
    }
    let elsewhere = sign(AUTH_TOKEN, "wss://elsewhere.example/twilio/media", &[]);
    for wrong in [None, Some(elsewhere.as_str())] {
        match world.handshake(wrong).await {
            Err(WebSocketError::Http(response)) => assert_eq!(response.status(), 403),
            other => panic!("{other:?}"),
        }
    }
}

// ---- a call that goes well

#[tokio::test]
async fn a_leg_knows_who_calls_and_only_the_allowed_parameters() {
    let mut world = World::open().await;
    let query = "?campaign=spring&secret=1";
    let form = [
        ("CallSid", "CA1"),
        ("From", "+14158675309"),
        ("To", "+18005551212"),
        ("CallerName", "Jane & Co"),
    ];
    let (_, twiml) = world
        .post(&format!("/twilio/voice{query}"), &form, None)
        .await;
    assert!(
        twiml.contains(r#"name="CallerName" value="Jane &amp; Co""#),
        "{twiml}"
    );
    assert!(
        twiml.contains(r#"name="campaign" value="spring""#),
        "{twiml}"
    );
    assert!(!twiml.contains("secret"), "{twiml}");

    let mut start = start("CA1", &token_of(&twiml));
    start["start"]["customParameters"]["campaign"] = "spring".into();
    start["start"]["customParameters"]["other"] = "no".into();
    let mut peer = world.peer().await;
    peer.say(start).await;
    let info = world.leg().await.info;
    assert_eq!(info.external_id, "CA1");
    assert_eq!((&*info.from, &*info.to), ("+14158675309", "+18005551212"));
    assert_eq!(info.ingress, IngressKind::Twilio);
    assert_eq!(info.traits.rate, SampleRate::HZ_8000);
    assert!(info.traits.confirms_playout && info.traits.lead > Duration::ZERO);
    let parameters: Vec<_> = info.parameters.into_iter().collect();
    assert_eq!(parameters, owned_pairs(&[("campaign", "spring")]));
}

#[tokio::test]
async fn audio_digits_and_marks_reach_the_call_in_order() {
    let mut world = World::open().await;
    let (mut peer, mut leg) = world.call("CA1").await;
    // 100 bytes and 300 bytes are two frames and a half.
    peer.say(media(&[0x10; 100])).await;
    peer.say(media(&[0x90; 300])).await;
    peer.say(json!({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": "#"}}))
        .await;
    peer.say(json!({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": "no key"}}))
        .await;
    peer.say(json!({"event": "mark", "streamSid": "MZ1", "mark": {"name": "7"}}))
        .await;
    peer.say(json!({"event": "mark", "streamSid": "MZ1", "mark": {"name": "not ours"}}))
        .await;
    peer.say(media(&[0x90; 80])).await;
    peer.say(json!({"event": "stop", "streamSid": "MZ1"})).await;

    let (low, high) = (g711::decode_mulaw(0x10), g711::decode_mulaw(0x90));
    let first = audio(next(&mut leg).await);
    assert_eq!(
        first.samples(),
        [[low; 100].as_slice(), &[high; 60]].concat()
    );
    assert_eq!(audio(next(&mut leg).await).samples(), [high; 160]);
    let hash = Digit::from_char('#').expect("a key");
    assert!(matches!(
        next(&mut leg).await,
        LegInput::Digit(digit, DigitSource::Twilio) if digit == hash
    ));
    assert!(matches!(
        next(&mut leg).await,
        LegInput::MarkReached(SegmentId(7))
    ));
    assert_eq!(audio(next(&mut leg).await).samples(), [high; 160]);
    assert_eq!(ended(&mut leg).await, LegEnd::HungUp);
    assert_eq!(peer.closed().await, (1000, "stopped".to_owned()));
}

#[tokio::test]
async fn audio_marks_clear_and_hang_up_reach_twilio_in_order() {
    let mut world = World::open().await;
    let (mut peer, mut leg) = world.call("CA1").await;
    for output in [
        LegOutput::Audio(Frame::new(SampleRate::HZ_8000, &[1_000; 160])),
        LegOutput::Mark(SegmentId(3)),
        LegOutput::Clear,
        LegOutput::CutDecided(Instant::now()),
        LegOutput::HangUp(EndReason::AgentEnded),
    ] {
        assert!(leg.output.push(output).is_ok());
    }
    let payload = STANDARD.encode([g711::encode_mulaw(1_000); 160]);
    assert_eq!(
        peer.heard().await,
        json!({"event": "media", "streamSid": "MZ1", "media": {"payload": payload}})
    );
    assert_eq!(
        peer.heard().await,
        json!({"event": "mark", "streamSid": "MZ1", "mark": {"name": "3"}})
    );
    assert_eq!(
        peer.heard().await,
        json!({"event": "clear", "streamSid": "MZ1"})
    );
    assert_eq!(peer.closed().await, (1000, "hung_up".to_owned()));
    assert_eq!(ended(&mut leg).await, LegEnd::HungUp);
}

#[tokio::test]
async fn gaps_in_the_numbering_end_nothing() {
    let mut world = World::open().await;
    let (mut peer, mut leg) = world.call("CA1").await;
    for (sequence, chunk) in [(2, 1), (9, 8), (3, 2)] {
        let mut message = media(&[0xFF; 160]);
        message["sequenceNumber"] = sequence.to_string().into();
        message["media"]["chunk"] = chunk.to_string().into();
        peer.say(message).await;
        audio(next(&mut leg).await);
    }
    lives(&mut peer, &mut leg).await;
}

#[tokio::test]
async fn a_call_that_takes_no_audio_loses_audio_but_not_the_hang_up() {
    let mut world = World::open().await;
    let (mut peer, mut leg) = world.call("CA1").await;
    for _ in 0..200 {
        peer.say(media(&[0xFF; 160])).await;
    }
    peer.say(json!({"event": "stop", "streamSid": "MZ1"})).await;
    assert_eq!(peer.closed().await, (1000, "stopped".to_owned()));
    let mut frames = 0;
    let end = loop {
        match next(&mut leg).await {
            LegInput::Audio(_) => frames += 1,
            LegInput::Ended(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end, LegEnd::HungUp);
    assert!((1..200).contains(&frames), "{frames}");
}

// ---- refusals, each by its name

#[tokio::test]
async fn what_breaks_the_protocol_in_a_call_ends_that_call_by_name_and_no_other() {
    let mut world = World::open().await;
    let (mut witness, mut witness_leg) = world.call("CAwitness").await;
    let text = |value: Value| Message::text(value.to_string());
    let mut outbound = media(&[0xFF; 160]);
    outbound["media"]["track"] = "outbound".into();
    let mut foreign = media(&[0xFF; 160]);
    foreign["streamSid"] = "MZ2".into();
    let mut no_base64 = media(&[]);
    no_base64["media"]["payload"] = "no base64".into();
    for (bad, code, name) in [
        (Message::text("hello"), 1002, "bad_json"),
        (Message::text(""), 1002, "bad_json"),
        (text(json!({"event": "media"})), 1002, "bad_json"),
        (text(json!({"event": "sing"})), 1002, "unknown_event"),
        (Message::binary(vec![1, 2, 3]), 1002, "binary_message"),
        (text(start("CA1", "x")), 1002, "second_start"),
        (text(outbound), 1002, "wrong_track"),
        (text(foreign), 1002, "wrong_stream"),
        (text(no_base64), 1002, "bad_payload"),
        (text(media(&[0; 5_000])), 1009, "payload_too_large"),
        (
            Message::text("x".repeat(65 * 1024)),
            1009,
            "message_too_large",
        ),
    ] {
        let (mut peer, mut leg) = world.call("CA1").await;
        peer.send(bad).await;
        assert_eq!(peer.closed().await, (code, name.to_owned()));
        assert_eq!(ended(&mut leg).await, LegEnd::ProtocolError(name));
        lives(&mut witness, &mut witness_leg).await;
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_before_a_call_ends_the_websocket_by_name() {
    let mut world = World::open().await;
    let (mut witness, mut witness_leg) = world.call("CAwitness").await;
    let edited = |edit: fn(&mut Value)| {
        let mut start = start("CA1", "some token");
        edit(&mut start["start"]);
        start
    };
    let version = |version: &str| json!({"event": "connected", "version": version});
    for (bad, code, name) in [
        (version("2.0.0"), 1002, "unsupported_version"),
        (version(""), 1002, "unsupported_version"),
        (media(&[0xFF; 160]), 1002, "media_before_start"),
        (
            json!({"event": "dtmf", "dtmf": {"digit": "1"}}),
            1002,
            "media_before_start",
        ),
        (json!({"event": "start"}), 1002, "bad_json"),
        (
            edited(|start| start["streamSid"] = "".into()),
            1002,
            "bad_start",
        ),
        (
            edited(|start| start["callSid"] = "x".repeat(200).into()),
            1002,
            "bad_start",
        ),
        (
            edited(|start| start["tracks"] = json!(["inbound", "outbound"])),
            1008,
            "unidirectional_stream",
        ),
        (
            edited(|start| start["tracks"] = json!(["outbound"])),
            1008,
            "unidirectional_stream",
        ),
        (
            edited(|start| start["mediaFormat"]["sampleRate"] = 16_000.into()),
            1008,
            "unsupported_media_format",
        ),
        (
            edited(|start| start["mediaFormat"]["encoding"] = "audio/opus".into()),
            1008,
            "unsupported_media_format",
        ),
        (
            edited(|start| start["mediaFormat"] = Value::Null),
            1008,
            "unsupported_media_format",
        ),
        (
            edited(|start| start["customParameters"] = json!({})),
            1008,
            "missing_token",
        ),
        (edited(|_| ()), 1008, "wrong_token"),
    ] {
        let mut peer = world.peer().await;
        peer.say(bad.clone()).await;
        assert_eq!(peer.closed().await, (code, name.to_owned()), "{bad}");
        assert!(world.legs.try_recv().is_err(), "{bad}");
        lives(&mut witness, &mut witness_leg).await;
    }
}

#[tokio::test]
async fn a_token_is_good_once_for_its_own_call_and_not_for_long() {
    let mut world = World::open().await;
    let token = token_of(&world.voice("CA1", &[]).await);
    world.voice("CA2", &[]).await;
    let wrong = (1008, "wrong_token".to_owned());

    let mut thief = world.peer().await;
    thief.say(start("CA2", &token)).await;
    assert_eq!(thief.closed().await, wrong);
    let mut owner = world.peer().await;
    owner.say(start("CA1", &token)).await;
    world.leg().await;
    let mut again = world.peer().await;
    again.say(start("CA1", &token)).await;
    assert_eq!(again.closed().await, wrong);

    let mut world = World::with(|_, timings| timings.token_life = Duration::ZERO).await;
    let expired = token_of(&world.voice("CA1", &[]).await);
    let mut late = world.peer().await;
    late.say(start("CA1", &expired)).await;
    assert_eq!(late.closed().await, wrong);
    assert!(world.legs.try_recv().is_err());
}

#[tokio::test]
async fn the_exchange_may_refuse_at_the_last_moment() {
    let mut world = World::open().await;
    for (refusal, expected) in [
        (Refusal::Busy, (1013, "busy")),
        (Refusal::Draining, (1013, "draining")),
        (Refusal::NoRoute, (1008, "no_route")),
    ] {
        let token = token_of(&world.voice("CA1", &[]).await);
        world.fake.set(|state| state.refusal = Some(refusal));
        let mut peer = world.peer().await;
        peer.say(start("CA1", &token)).await;
        let (code, name) = peer.closed().await;
        assert_eq!((code, name.as_str()), expected);
        world.fake.set(|state| state.refusal = None);
    }
    assert!(world.legs.try_recv().is_err());
}

#[tokio::test]
async fn digits_faster_than_any_finger_end_the_call() {
    let mut world = World::open().await;
    let (mut peer, mut leg) = world.call("CA1").await;
    for _ in 0..200 {
        let digit = json!({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": "1"}});
        peer.feed(digit).await;
    }
    assert_eq!(peer.closed().await, (1008, "flood".to_owned()));
    // There was no room left to say so: the ring just ends.
    while let Some(input) = leg.input.recv().await {
        assert!(matches!(input, LegInput::Digit(..)));
    }
}

// ---- time

#[tokio::test]
async fn a_websocket_that_never_starts_is_closed() {
    let world = World::with(|_, timings| timings.start_deadline = Duration::from_millis(50)).await;
    let mut peer = world.peer().await;
    peer.say(json!({"event": "connected", "version": "1.0.0"}))
        .await;
    assert_eq!(peer.closed().await, (1008, "start_timeout".to_owned()));
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut() {
    let mut world = World::with(|_, timings| {
        timings.write_timeout = Duration::from_millis(100);
    })
    .await;
    let (mut witness, mut witness_leg) = world.call("CAwitness").await;
    let (peer, mut leg) = world.call("CAdeaf").await;
    // The peer says nothing and reads nothing; its receive buffer and our send buffer are small (see `World`).
    let frame = Frame::silence(SampleRate::HZ_8000);
    let cut = timeout(PATIENCE, async {
        loop {
            let _ = leg.output.push(LegOutput::Audio(frame));
            if let Some(LegInput::Ended(end)) = leg.input.pop() {
                break end;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(cut.await.expect("it is cut"), LegEnd::Lost);
    lives(&mut witness, &mut witness_leg).await;
    drop(peer);
}

#[tokio::test]
async fn a_silent_peer_is_asked_and_then_lost() {
    let mut world = World::with(|_, timings| {
        timings.ping_after = Duration::from_millis(20);
        timings.lost_after = Duration::from_secs(1);
    })
    .await;
    // This one does not even answer pings, since nobody reads its socket.
    let (silent, mut leg) = world.call("CA1").await;
    let (mut quiet, mut quiet_leg) = world.call("CA2").await;
    let answering = tokio::spawn(async move {
        let mut pings = 0;
        // More than fit into the time after which it would be lost.
        while pings < 60 {
            let message = timeout(PATIENCE, quiet.socket.next()).await;
            let message = message.expect("in time").expect("open").expect("no error");
            if message.is_ping() {
                pings += 1;
                // Reading a ping queues the pong; this sends it.
                quiet.socket.flush().await.expect("sent");
            }
        }
        quiet
    });
    assert_eq!(ended(&mut leg).await, LegEnd::Lost);
    let mut quiet = answering.await.expect("it was asked again and again");
    lives(&mut quiet, &mut quiet_leg).await;
    drop(silent);
}

// ---- ends

#[tokio::test]
async fn a_connection_that_breaks_is_lost_and_one_that_is_closed_is_hung_up() {
    let mut world = World::open().await;
    let (peer, mut leg) = world.call("CA1").await;
    drop(peer);
    assert_eq!(ended(&mut leg).await, LegEnd::Lost);

    let (mut peer, mut leg) = world.call("CA2").await;
    peer.socket.close(None).await.expect("sent");
    assert_eq!(ended(&mut leg).await, LegEnd::HungUp);
}

#[tokio::test]
async fn a_call_that_is_gone_closes_the_websocket() {
    let mut world = World::open().await;
    let (mut peer, leg) = world.call("CA1").await;
    drop(leg);
    assert_eq!(peer.closed().await, (1011, "call_gone".to_owned()));
}

// ---- anything

/// Whatever is sent, a websocket either goes on or ends by name, and its neighbour hears nothing of it. A panic would
/// end it without a name.
#[test]
fn no_message_makes_a_websocket_end_without_a_name() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut world = runtime.block_on(World::open());
    let (mut witness, mut witness_leg) = runtime.block_on(world.call("CAwitness"));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(96));
    let strategy = (any::<bool>(), prop::collection::vec(any_message(), 1..8));
    let world = Mutex::new((world, &mut witness, &mut witness_leg));
    let result = runner.run(&strategy, |(started, messages)| {
        let mut locked = world.lock().expect("no panic so far");
        let (world, witness, witness_leg) = &mut *locked;
        let name = runtime.block_on(async {
            let (mut peer, leg) = if started {
                let (peer, leg) = world.call("CA1").await;
                (peer, Some(leg))
            } else {
                (world.peer().await, None)
            };
            for message in messages {
                let _ = peer.socket.feed(message).await;
            }
            let _ = peer.socket.feed(stop()).await;
            let _ = peer.socket.flush().await;
            let (_, name) = peer.closed().await;
            lives(witness, witness_leg).await;
            drop(leg);
            name
        });
        prop_assert!(!name.is_empty());
        Ok(())
    });
    result.expect("every message is survived");
}

fn any_message() -> impl Strategy<Value = Message> {
    let event = "connected|start|media|dtmf|mark|stop|clear";
    let json = (event, ".{0,40}", any::<u32>()).prop_map(|(event, text, number)| {
        Message::text(
            json!({
                "event": event, "streamSid": "MZ1", "version": "1.0", "sequenceNumber": number,
                "media": {"payload": text, "chunk": number}, "dtmf": {"digit": text},
                "mark": {"name": number.to_string()}, "start": {"callSid": text, "streamSid": "MZ1"}
            })
            .to_string(),
        )
    });
    prop_oneof![
        3 => json,
        1 => ".{0,200}".prop_map(Message::text),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Message::binary),
        1 => prop::collection::vec(any::<u8>(), 0..125).prop_map(|bytes| Message::Ping(bytes.into())),
        1 => prop::collection::vec(any::<u8>(), 0..125).prop_map(|bytes| Message::Pong(bytes.into())),
    ]
}

// ---- helpers

/// A gateway's Twilio ingress on a port of its own.
struct World {
    base: String,
    fake: Arc<Fake>,
    legs: mpsc::UnboundedReceiver<Leg>,
    http: reqwest::Client,
}

/// The gateway behind the ingress: admits what it is told to and hands the legs to the test.
struct Fake {
    legs: mpsc::UnboundedSender<Leg>,
    state: Mutex<FakeState>,
}

struct FakeState {
    accepting: bool,
    refusal: Option<Refusal>,
    after_call: AfterCall,
}

impl Fake {
    fn set(&self, change: impl FnOnce(&mut FakeState)) {
        change(&mut self.state.lock().expect("no panic"));
    }
}

impl Exchange for Fake {
    fn accepting(&self) -> bool {
        self.state.lock().expect("no panic").accepting
    }

    fn is_draining(&self) -> bool {
        false
    }

    fn admit(&self, _info: &LegInfo) -> Result<Box<dyn Admission>, Refusal> {
        match self.state.lock().expect("no panic").refusal {
            Some(refusal) => Err(refusal),
            None => Ok(Box::new(Place(self.legs.clone()))),
        }
    }

    fn after_call(&self, _ingress: IngressKind, _external_id: &str) -> AfterCall {
        self.state.lock().expect("no panic").after_call.clone()
    }
}

struct Place(mpsc::UnboundedSender<Leg>);

impl Admission for Place {
    fn connect(self: Box<Self>, leg: Leg) -> Journal {
        self.0.send(leg).expect("the test still runs");
        Journal::new()
    }
}

impl World {
    /// Without signatures.
    async fn open() -> Self {
        Self::with(|_, _| ()).await
    }

    /// With signatures.
    async fn signed() -> Self {
        Self::with(|config, _| config.require_signature = true).await
    }

    async fn with(change: impl FnOnce(&mut Twilio, &mut Timings)) -> Self {
        // Small buffers, so that a peer that does not read is noticed after kilobytes rather than megabytes.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(8 * 1024).expect("it is set");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("a free port");
        let listener = socket.listen(64).expect("it listens");
        let base = format!("http://{}", listener.local_addr().expect("an address"));

        let mut config = Twilio {
            auth_token: Some(Secret::new(AUTH_TOKEN.to_owned())),
            parameters: vec!["CallerName".to_owned(), "campaign".to_owned()],
            ..Twilio::default()
        };
        let mut timings = Timings::default();
        change(&mut config, &mut timings);
        let (sender, legs) = mpsc::unbounded_channel();
        let fake = Arc::new(Fake {
            legs: sender,
            state: Mutex::new(FakeState {
                accepting: true,
                refusal: None,
                after_call: AfterCall::HangUp,
            }),
        });
        let router = routes(TwilioIngress {
            public_url: base.clone(),
            config,
            exchange: fake.clone(),
            timings,
        });
        tokio::spawn(axum::serve(listener, router).into_future());
        Self {
            base,
            fake,
            legs,
            http: reqwest::Client::new(),
        }
    }

    fn media_url(&self) -> String {
        format!("{}/twilio/media", self.base.replace("http://", "ws://"))
    }

    async fn post(
        &self,
        path: &str,
        form: &[(&str, &str)],
        signature: Option<&str>,
    ) -> (u16, String) {
        let mut request = self.http.post(format!("{}{path}", self.base)).form(form);
        if let Some(signature) = signature {
            request = request.header("X-Twilio-Signature", signature);
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.text().await.expect("a body"))
    }

    /// The TwiML for a new call.
    async fn voice(&self, call_sid: &str, more: &[(&str, &str)]) -> String {
        let form = [&[("CallSid", call_sid)], more].concat();
        let (status, twiml) = self.post("/twilio/voice", &form, None).await;
        assert_eq!(status, 200, "{twiml}");
        twiml
    }

    async fn handshake(
        &self,
        signature: Option<&str>,
    ) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, WebSocketError> {
        let mut request = self.media_url().into_client_request()?;
        if let Some(signature) = signature {
            let value = signature.parse().expect("a header value");
            request.headers_mut().insert("X-Twilio-Signature", value);
        }
        connect_async(request).await.map(|(socket, _)| socket)
    }

    /// A websocket that has said nothing yet.
    async fn peer(&self) -> Peer {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4 * 1024).expect("it is set");
        let address = self.base.trim_start_matches("http://");
        let stream = socket.connect(address.parse().expect("an address")).await;
        let stream = stream.expect("connected");
        let handshake = client_async(self.media_url(), stream).await;
        Peer {
            socket: handshake.expect("upgraded").0,
        }
    }

    /// A call that is under way, seen from both sides.
    async fn call(&mut self, call_sid: &str) -> (Peer, Leg) {
        let token = token_of(&self.voice(call_sid, &[]).await);
        let mut peer = self.peer().await;
        peer.say(json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
            .await;
        peer.say(start(call_sid, &token)).await;
        (peer, self.leg().await)
    }

    async fn leg(&mut self) -> Leg {
        let leg = timeout(PATIENCE, self.legs.recv()).await;
        leg.expect("in time").expect("the gateway lives")
    }
}

/// Twilio's end of a websocket.
struct Peer {
    socket: WebSocketStream<TcpStream>,
}

impl Peer {
    async fn say(&mut self, message: Value) {
        self.send(Message::text(message.to_string())).await;
    }

    async fn send(&mut self, message: Message) {
        self.socket.send(message).await.expect("sent");
    }

    /// Says it, whether or not anyone still listens.
    async fn feed(&mut self, message: Value) {
        let _ = self.socket.send(Message::text(message.to_string())).await;
    }

    /// The next text message; pings pass unseen.
    async fn heard(&mut self) -> Value {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await;
            let message = message.expect("in time").expect("open").expect("no error");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("JSON");
            }
            assert!(message.is_ping(), "{message:?}");
        }
    }

    /// The close frame's code and reason, once it comes.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await;
            match message.expect("in time") {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Close(None))) => panic!("closed without a reason"),
                Some(Ok(_)) => {}
                other => panic!("no close frame but {other:?}"),
            }
        }
    }
}

/// Asserts that a call still carries audio both ways.
async fn lives(peer: &mut Peer, leg: &mut Leg) {
    peer.say(media(&[0x20; 160])).await;
    let expected = [g711::decode_mulaw(0x20); 160];
    assert_eq!(audio(next(leg).await).samples(), expected);
    let frame = Frame::silence(SampleRate::HZ_8000);
    assert!(leg.output.push(LegOutput::Audio(frame)).is_ok());
    assert_eq!(peer.heard().await["event"], "media");
}

async fn next(leg: &mut Leg) -> LegInput {
    let input = timeout(PATIENCE, leg.input.recv()).await;
    input.expect("in time").expect("the leg lives")
}

async fn ended(leg: &mut Leg) -> LegEnd {
    match next(leg).await {
        LegInput::Ended(end) => end,
        other => panic!("{other:?}"),
    }
}

fn audio(input: LegInput) -> Frame {
    match input {
        LegInput::Audio(frame) => frame,
        other => panic!("{other:?}"),
    }
}

fn start(call_sid: &str, token: &str) -> Value {
    json!({
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": "MZ1",
        "start": {
            "accountSid": "AC1",
            "streamSid": "MZ1",
            "callSid": call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"token": token},
        },
    })
}

fn media(mulaw: &[u8]) -> Value {
    let payload = STANDARD.encode(mulaw);
    json!({"event": "media", "streamSid": "MZ1", "media": {"track": "inbound", "payload": payload}})
}

fn stop() -> Message {
    Message::text(r#"{"event":"stop"}"#)
}

fn token_of(twiml: &str) -> String {
    let (_, rest) = twiml
        .split_once(r#"<Parameter name="token" value=""#)
        .expect("a token");
    let (token, _) = rest.split_once('"').expect("its end");
    token.to_owned()
}

fn owned_pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
