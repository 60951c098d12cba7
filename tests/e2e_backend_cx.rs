//! The Dialogflow CX client against a scripted server on a loopback port.
//!
//! The server is as awkward as Google's: it sends its response headers only with its first response.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt as _;
use prost::Message as _;
use prost_types::value::Kind;
use tandem::config;
use tandem::config::AgentKind;
use tandem::config::AgentName;
use tandem::config::Greeting;
use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::BargeInWindow;
use tandem::engine::call::event::Cancellation;
use tandem::engine::call::event::Encoding;
use tandem::engine::call::event::Fault;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::OpenTurn;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::event::TurnInput;
use tandem::engine::media::frame::SampleRate;
use tandem::engine::media::ring;
use tandem::io::backend::Backend as _;
use tandem::io::backend::Session;
use tandem::io::backend::SessionStart;
use tandem::io::backend::TurnStream;
use tandem::io::backend::cx::CxBackend;
use tandem::io::backend::cx::NO_FINAL_ANSWER;
use tandem::io::backend::endpoint::GoogleEnvironment;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::detect_intent_response::ResponseType;
use tandem_proto::cx::v3::query_input::Input;
use tandem_proto::cx::v3::streaming_detect_intent_response::Response as Said;
use tandem_proto::cx::v3::streaming_recognition_result::MessageType;
use tandem_proto::cx::v3beta1;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// What every wait of a test is limited by.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn audio_flows_before_any_response_header_and_arrives_whole_and_in_order_behind_its_settings()
{
    let (seen, mut requests) = mpsc::unbounded_channel();
    let server = serve(100, move |mut exchange| {
        let seen = seen.clone();
        async move {
            // Not a word back, not even headers, until the client has half-closed.
            while let Some(request) = exchange.request().await {
                seen.send(request).expect("the test listens");
            }
            exchange.answer(ResponseType::Final, "bye").await;
        }
    });
    let mut call = Call::to(server.address);
    let mut turn = call.open(1, speech());
    let sent: Vec<u8> = (0..300_000_u32).map(|index| index as u8).collect();
    push_all(turn.audio.as_mut().expect("a spoken turn"), &sent).await;
    drop(turn.audio.take());

    call.expect_final(1, "bye").await;
    call.expect_closed(1, None).await;

    let first = requests.recv().await.expect("the first message");
    assert_eq!(
        first.session,
        "projects/p/locations/global/agents/a/sessions/session-1"
    );
    let Some(Input::Audio(audio)) = first.query_input.and_then(|query| query.input) else {
        panic!("speech is audio");
    };
    assert!(audio.config.expect("settings").single_utterance);
    assert!(audio.audio.is_empty());
    let mut heard = Vec::new();
    while let Some(request) = requests.recv().await {
        let query = request.query_input.expect("an input");
        assert_eq!(
            (request.session.as_str(), query.language_code.as_str()),
            ("", "")
        );
        let Some(Input::Audio(audio)) = query.input else {
            panic!("nothing but audio follows");
        };
        assert_eq!(audio.config, None);
        assert!((1..=25_000).contains(&audio.audio.len()));
        heard.extend_from_slice(&audio.audio);
        if heard.len() >= sent.len() {
            break;
        }
    }
    assert!(heard == sent, "the audio is not what was sent");
}

#[tokio::test]
async fn recognition_partials_and_the_final_answer_arrive_in_order() {
    let server = serve(100, |mut exchange| async move {
        exchange.request().await.expect("the settings");
        exchange
            .recognised(MessageType::Transcript, "one", false)
            .await;
        exchange
            .recognised(MessageType::EndOfSingleUtterance, "", false)
            .await;
        exchange
            .recognised(MessageType::Transcript, "one two", true)
            .await;
        exchange.half_closed().await;
        exchange.answer(ResponseType::Partial, "first").await;
        exchange.answer(ResponseType::Partial, "second").await;
        exchange.answer(ResponseType::Final, "third").await;
    });
    let mut call = Call::to(server.address);
    let mut turn = call.open(7, speech());
    assert!(matches!(call.event(7).await, BackendEvent::Interim { text } if text == "one"));
    assert!(matches!(call.event(7).await, BackendEvent::EndOfUtterance));
    assert!(matches!(call.event(7).await, BackendEvent::Final { text, .. } if text == "one two"));
    drop(turn.audio.take());
    for words in ["first", "second"] {
        let BackendEvent::Answer(answer) = call.event(7).await else {
            panic!("a partial answer");
        };
        assert_eq!(answer.partial, Some(Cancellation::Allowed));
        assert_eq!(answer.query, words);
    }
    call.expect_final(7, "third").await;
    call.expect_closed(7, None).await;
}

#[tokio::test]
async fn a_turn_without_audio_is_whole_in_one_message_and_half_closed_at_once() {
    let server = serve(100, |mut exchange| async move {
        let request = exchange.request().await.expect("the turn");
        assert!(exchange.request().await.is_none(), "half-closed");
        let Some(Input::Event(event)) = request.query_input.and_then(|query| query.input) else {
            panic!("an event");
        };
        exchange.answer(ResponseType::Final, &event.event).await;
    });
    let mut call = Call::to(server.address);
    let turn = call.open(1, TurnInput::Event("WELCOME".to_owned()));
    assert!(turn.audio.is_none());
    call.expect_final(1, "WELCOME").await;
    call.expect_closed(1, None).await;
}

#[tokio::test]
async fn events_carry_the_id_of_their_stream() {
    let server = serve(100, |mut exchange| async move {
        let request = exchange.request().await.expect("the turn");
        let Some(Input::Text(text)) = request.query_input.and_then(|query| query.input) else {
            panic!("text");
        };
        exchange.answer(ResponseType::Final, &text.text).await;
    });
    let mut call = Call::to(server.address);
    let turns: Vec<_> = (0..20)
        .map(|id| call.open(id, TurnInput::Text(id.to_string())))
        .collect();
    let mut words = BTreeMap::new();
    let mut closed = 0;
    while closed < turns.len() {
        match call.any_event().await {
            (StreamId(id), BackendEvent::Answer(answer)) => {
                assert!(words.insert(id, answer.query).is_none());
            }
            (_, BackendEvent::Closed(None)) => closed += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(words.iter().all(|(id, words)| id.to_string() == *words));
    assert_eq!(words.len(), 20);
}

#[tokio::test]
async fn the_end_of_a_stream_without_a_final_answer_is_a_fault_of_its_own() {
    let server = serve(100, |mut exchange| async move {
        exchange.request().await.expect("the turn");
        exchange.answer(ResponseType::Partial, "wait").await;
    });
    let mut call = Call::to(server.address);
    let _turn = call.open(1, TurnInput::Text("hi".to_owned()));
    assert!(matches!(call.event(1).await, BackendEvent::Answer(_)));
    let fault = Fault {
        kind: FaultKind::Internal,
        message: NO_FINAL_ANSWER.to_owned(),
    };
    call.expect_closed(1, Some(fault)).await;
}

#[tokio::test]
async fn a_status_of_the_server_keeps_its_kind_and_its_words_before_and_after_the_first_response() {
    for after_response in [false, true] {
        let server = serve(100, move |mut exchange| async move {
            exchange.request().await.expect("the turn");
            if after_response {
                exchange
                    .recognised(MessageType::Transcript, "x", false)
                    .await;
            }
            exchange
                .fail(Status::out_of_range("Audio Timeout Error"))
                .await;
        });
        let mut call = Call::to(server.address);
        let _turn = call.open(1, speech());
        if after_response {
            assert!(matches!(call.event(1).await, BackendEvent::Interim { .. }));
        }
        let fault = Fault {
            kind: FaultKind::OutOfRange,
            message: "Audio Timeout Error".to_owned(),
        };
        call.expect_closed(1, Some(fault)).await;
    }
}

#[tokio::test]
async fn a_killed_server_is_unavailable_and_the_next_turn_finds_it_when_it_is_back() {
    let script = |mut exchange: Exchange| async move {
        exchange.request().await.expect("the turn");
        exchange
            .recognised(MessageType::Transcript, "x", false)
            .await;
        exchange.half_closed().await;
        exchange.answer(ResponseType::Final, "again").await;
    };
    let server = serve(100, script);
    let address = server.address;
    let mut call = Call::to(address);
    let _turn = call.open(1, speech());
    assert!(matches!(call.event(1).await, BackendEvent::Interim { .. }));
    drop(server);
    call.expect_fault(1, FaultKind::Unavailable).await;

    let _turn = call.open(2, TurnInput::Text("hi".to_owned()));
    call.expect_fault(2, FaultKind::Unavailable).await;

    let _server = serve_on(address, 100, script);
    let _turn = call.open(3, TurnInput::Text("hi".to_owned()));
    assert!(matches!(call.event(3).await, BackendEvent::Interim { .. }));
    call.expect_final(3, "again").await;
    call.expect_closed(3, None).await;
}

#[tokio::test]
async fn two_hundred_streams_open_at_once_on_a_server_that_takes_a_hundred_per_connection() {
    const STREAMS: u32 = 200;
    let server = serve(100, |mut exchange| async move {
        exchange.request().await.expect("the settings");
        exchange
            .recognised(MessageType::Transcript, "listening", false)
            .await;
        exchange.half_closed().await;
        exchange.answer(ResponseType::Final, "done").await;
    });
    let mut call = Call::to(server.address);
    let mut turns: Vec<_> = (0..STREAMS).map(|id| call.open(id, speech())).collect();
    for _ in 0..STREAMS {
        // None has half-closed, so all are open when the last of these has come.
        let (_, event) = call.any_event().await;
        assert!(matches!(event, BackendEvent::Interim { .. }), "{event:?}");
    }
    for turn in &mut turns {
        drop(turn.audio.take());
    }
    let mut closed = 0;
    while closed < STREAMS {
        match call.any_event().await {
            (_, BackendEvent::Answer(answer)) => assert_eq!(answer.query, "done"),
            (_, BackendEvent::Closed(None)) => closed += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_finds_no_place_is_unavailable_in_time_and_a_silent_one_that_has_it_lives_on()
{
    let server = serve(1, |mut exchange| async move {
        exchange.request().await.expect("the settings");
        exchange.half_closed().await;
        exchange.answer(ResponseType::Final, "at last").await;
    });
    let mut call = Call::to(server.address);
    let warm_up = call.open(
        0,
        TurnInput::Text("so that the client knows the limit".to_owned()),
    );
    call.expect_final(0, "at last").await;
    call.expect_closed(0, None).await;
    drop(warm_up);

    let began = Instant::now();
    let mut silent = call.open(1, speech());
    // The first stream takes the place before the second asks for it.
    let audio = silent.audio.as_mut().expect("a spoken turn");
    let room = audio.free();
    push_all(audio, &[0xff; 800]).await;
    while audio.free() < room {
        tokio::task::yield_now().await;
    }
    let _crowded_out = call.open(2, speech());
    call.expect_fault(2, FaultKind::Unavailable).await;
    assert!(began.elapsed() < Duration::from_secs(8));
    // By now the silent stream is older than the open timeout, too, and has seen no response.
    drop(silent.audio.take());
    call.expect_final(1, "at last").await;
    call.expect_closed(1, None).await;
}

#[tokio::test]
async fn an_answer_of_ten_mebibytes_is_taken() {
    const SIZE: usize = 10 * 1024 * 1024;
    let server = serve(100, |mut exchange| async move {
        exchange.request().await.expect("the turn");
        let mut response = response(ResponseType::Final, "long");
        response.output_audio = Bytes::from(vec![0x55; SIZE]);
        exchange.say(Said::DetectIntentResponse(response)).await;
    });
    let mut call = Call::to(server.address);
    let _turn = call.open(1, TurnInput::Text("hi".to_owned()));
    let BackendEvent::Answer(answer) = call.event(1).await else {
        panic!("an answer");
    };
    assert_eq!(answer.output_audio.bytes.len(), SIZE);
    call.expect_closed(1, None).await;
}

// Several threads, and many turns: the end of the audio and the end of the task race each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn dropping_a_turn_cancels_it_at_the_server_and_does_not_half_close_it() {
    for has_responded in [false, true] {
        let (told, mut gone) = mpsc::unbounded_channel();
        let server = serve(100, move |mut exchange| {
            let told = told.clone();
            async move {
                exchange.request().await.expect("the settings");
                exchange.request().await.expect("audio");
                if has_responded {
                    exchange
                        .recognised(MessageType::Transcript, "x", false)
                        .await;
                } else {
                    told.send(()).expect("the test listens");
                }
                exchange.responses.closed().await;
                told.send(()).expect("the test listens");
            }
        });
        let (address, mut frames) = eavesdrop(server.address).await;
        let mut call = Call::to(address);
        for id in 0..200 {
            let mut turn = call.open(id, speech());
            push_all(turn.audio.as_mut().expect("a spoken turn"), &[0xff; 800]).await;
            if has_responded {
                assert!(matches!(call.event(id).await, BackendEvent::Interim { .. }));
            } else {
                patiently(gone.recv()).await.expect("the server listens");
            }
            drop(turn);
            patiently(gone.recv())
                .await
                .expect("the server learns of it");
            // RST_STREAM with CANCEL, and no END_STREAM before it.
            let end = patiently(frames.recv()).await.expect("the stream ends");
            assert_eq!(end, StreamEnd::Reset(8), "has_responded: {has_responded}");
        }
    }
}

#[tokio::test]
async fn version_environment_and_caller_reach_the_server_and_plain_text_carries_no_credentials() {
    for (kind, version) in [
        (AgentKind::DialogflowCx, "v3"),
        (AgentKind::DialogflowCxV3beta1, "v3beta1"),
    ] {
        let (seen, mut heads) = mpsc::unbounded_channel();
        let server = serve(100, move |mut exchange| {
            let seen = seen.clone();
            async move {
                let request = exchange.request().await.expect("the turn");
                exchange.answer(ResponseType::Final, "ok").await;
                let head = (exchange.version, exchange.metadata.clone(), request);
                seen.send(head).expect("the test listens");
            }
        });
        let mut agent = agent(server.address);
        agent.kind = kind;
        agent.environment = Some("prod".to_owned());
        let mut call = Call::with(&agent);
        for turn in 0..2 {
            let _turn = call.open(turn, TurnInput::Text("hi".to_owned()));
            call.expect_final(turn, "ok").await;
            call.expect_closed(turn, None).await;

            let (spoken, metadata, request) = patiently(heads.recv()).await.expect("a turn");
            assert_eq!(spoken, version);
            assert_eq!(
                request.session,
                "projects/p/locations/global/agents/a/environments/prod/sessions/session-1"
            );
            assert!(metadata.get("x-goog-api-client").is_some());
            assert!(metadata.get("authorization").is_none());
            assert!(metadata.get("x-goog-request-params").is_none());
            let params = request.query_params.expect("said");
            assert!(
                params
                    .payload
                    .expect("said")
                    .fields
                    .contains_key("telephony")
            );
            // Only until the agent is known to have them.
            assert_eq!(params.parameters.is_some(), turn == 0);
        }
    }
}

#[tokio::test]
async fn a_turns_parameters_and_model_and_the_agents_channel_reach_the_server() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let server = serve(100, move |mut exchange| {
        let seen = seen.clone();
        async move {
            let request = exchange.request().await.expect("the settings");
            seen.send(request).expect("the test listens");
            exchange.half_closed().await;
            exchange.answer(ResponseType::Final, "ok").await;
        }
    });
    let mut agent = agent(server.address);
    agent.model = Some("telephony".to_owned());
    agent.channel = Some("phone".to_owned());
    let mut call = Call::with(&agent);
    for (turn, model) in [(0, None), (1, Some("telephony_short"))] {
        let mut stream = call.open_turn(OpenTurn {
            stream: StreamId(turn),
            input: speech(),
            parameters: [
                ("heard_text", serde_json::json!("We have")),
                ("cut_at_ms", serde_json::Value::Null),
            ]
            .into(),
            model: model.map(str::to_owned),
        });
        drop(stream.audio.take());
        call.expect_final(turn, "ok").await;
        call.expect_closed(turn, None).await;

        let request = patiently(requests.recv()).await.expect("a turn");
        let params = request.query_params.expect("said");
        assert_eq!(params.channel, "phone");
        let parameters = params.parameters.expect("said").fields;
        let kind = |name: &str| parameters.get(name).and_then(|value| value.kind.clone());
        assert_eq!(
            kind("heard_text"),
            Some(Kind::StringValue("We have".into()))
        );
        assert_eq!(kind("cut_at_ms"), Some(Kind::NullValue(0)));
        assert_eq!(parameters.contains_key("tier"), turn == 0);
        let Some(Input::Audio(audio)) = request.query_input.and_then(|query| query.input) else {
            panic!("speech is audio");
        };
        let asked = audio.config.expect("settings").model;
        assert_eq!(asked, model.unwrap_or("telephony"));
    }
}

#[tokio::test]
async fn messages_for_another_channel_are_left_out_and_that_is_told_once_in_a_call() {
    let server = serve(100, |mut exchange| async move {
        exchange.request().await.expect("the turn");
        let mut response = response(ResponseType::Final, "both");
        let result = response.query_result.as_mut().expect("there");
        result.response_messages = ["phone", "chat", "chat"].map(to_channel).into();
        exchange.say(Said::DetectIntentResponse(response)).await;
    });
    let text = |channel: &str| Message::Text {
        text: format!("for {channel}"),
        interruptible: false,
    };
    let left_out = Message::Unsupported("channel");
    for (channel, expected) in [
        (
            Some("phone"),
            [vec![text("phone"), left_out], vec![text("phone")]],
        ),
        (
            None,
            [(); 2].map(|()| vec![text("phone"), text("chat"), text("chat")]),
        ),
    ] {
        let mut agent = agent(server.address);
        agent.channel = channel.map(str::to_owned);
        let mut call = Call::with(&agent);
        for (turn, expected) in (0..).zip(expected) {
            let _turn = call.open(turn, TurnInput::Text("hi".to_owned()));
            let BackendEvent::Answer(answer) = call.event(turn).await else {
                panic!("an answer");
            };
            assert_eq!(answer.messages, expected);
            call.expect_closed(turn, None).await;
        }
    }
}

#[tokio::test]
async fn what_breaks_a_stream_below_grpc_is_unavailable_and_not_the_agents_fault() {
    const REFUSED_STREAM: u32 = 7;
    const INTERNAL_ERROR: u32 = 2;
    const CANCEL: u32 = 8;
    let reset = |code: u32| frame(3, 0, 1, &code.to_be_bytes());
    // The last stream that was taken is none.
    let go_away = |code: u32| frame(7, 0, 0, &[[0; 4], code.to_be_bytes()].concat());
    for (name, end) in [
        ("refused", reset(REFUSED_STREAM)),
        ("internal", reset(INTERNAL_ERROR)),
        ("cancelled", reset(CANCEL)),
        ("gone", go_away(0)),
        ("gone with an error", go_away(INTERNAL_ERROR)),
        ("closed", Vec::new()),
    ] {
        let mut call = Call::to(breaking(end).await);
        // Twice: the next turn finds a connection that works.
        for turn in 0..2 {
            let _turn = call.open(turn, speech());
            let event = call.event(turn).await;
            assert!(
                matches!(event, BackendEvent::Interim { .. }),
                "{name}: {event:?}"
            );
            match call.event(turn).await {
                BackendEvent::Closed(Some(fault)) => {
                    assert_eq!(fault.kind, FaultKind::Unavailable, "{name}: {fault:?}");
                }
                other => panic!("{name}: no fault: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_alone_until_a_probe_succeeds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (dialled, mut dials) = mpsc::unbounded_channel();
    let refuser = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket);
            dialled.send(()).expect("the test listens");
        }
    });
    let open = Duration::from_millis(500);
    let mut call = Call::under(&agent(address), &breaker(3, open));
    for id in 0..3 {
        let _turn = call.open(id, TurnInput::Text("hi".to_owned()));
        call.expect_fault(id, FaultKind::Unavailable).await;
    }
    let opened = Instant::now();
    while dials.try_recv().is_ok() {}
    for id in 3..100 {
        let _turn = call.open(id, TurnInput::Text("hi".to_owned()));
        call.expect_fault(id, FaultKind::CircuitOpen).await;
    }
    assert!(opened.elapsed() < open, "too slow a machine for this test");
    assert!(dials.try_recv().is_err(), "nothing is dialled");

    // The probe fails, and it is open for as long again.
    tokio::time::sleep_until((opened + open).into()).await;
    let _turn = call.open(100, TurnInput::Text("hi".to_owned()));
    call.expect_fault(100, FaultKind::Unavailable).await;
    let opened = Instant::now();
    patiently(dials.recv()).await.expect("a dial");
    let _turn = call.open(101, TurnInput::Text("hi".to_owned()));
    call.expect_fault(101, FaultKind::CircuitOpen).await;

    refuser.abort();
    let _ = refuser.await;
    let _server = serve_on(address, 100, |mut exchange| async move {
        exchange.half_closed().await;
        exchange.answer(ResponseType::Final, "back").await;
    });
    tokio::time::sleep_until((opened + open).into()).await;
    let mut probe = call.open(102, speech());
    let _second = call.open(103, speech());
    call.expect_fault(103, FaultKind::CircuitOpen).await;
    drop(probe.audio.take());
    call.expect_final(102, "back").await;
    call.expect_closed(102, None).await;
    for id in 104..106 {
        let _turn = call.open(id, TurnInput::Text("hi".to_owned()));
        call.expect_final(id, "back").await;
        call.expect_closed(id, None).await;
    }
}

#[tokio::test]
async fn quota_leaves_an_endpoint_alone_and_errors_of_the_application_do_not() {
    for (status, kind, opens) in [
        (
            Status::resource_exhausted("quota"),
            FaultKind::ResourceExhausted,
            true,
        ),
        (
            Status::deadline_exceeded("slow"),
            FaultKind::DeadlineExceeded,
            true,
        ),
        (Status::unavailable("restart"), FaultKind::Unavailable, true),
        (
            Status::invalid_argument("wrong region"),
            FaultKind::InvalidArgument,
            false,
        ),
        (Status::internal("bug"), FaultKind::Internal, false),
        (
            Status::unauthenticated("old token"),
            FaultKind::Unauthenticated,
            false,
        ),
    ] {
        let server = serve(100, move |mut exchange| {
            let status = status.clone();
            async move {
                exchange.request().await.expect("the turn");
                exchange.fail(status).await;
            }
        });
        let fallback = breaker(2, Duration::from_secs(600));
        let mut call = Call::under(&agent(server.address), &fallback);
        for id in 0..2 {
            let _turn = call.open(id, TurnInput::Text("hi".to_owned()));
            call.expect_fault(id, kind).await;
        }
        let _turn = call.open(2, TurnInput::Text("hi".to_owned()));
        let expected = if opens { FaultKind::CircuitOpen } else { kind };
        call.expect_fault(2, expected).await;
    }
}

#[tokio::test]
async fn the_streams_of_one_broken_connection_do_not_leave_the_endpoint_alone() {
    const STREAMS: u32 = 20;
    let (told, mut taken) = mpsc::unbounded_channel();
    let server = serve(100, move |mut exchange| {
        let told = told.clone();
        async move {
            exchange.request().await.expect("the settings");
            told.send(()).expect("the test listens");
            exchange.half_closed().await;
        }
    });
    let address = server.address;
    let mut call = Call::under(&agent(address), &breaker(2, Duration::from_secs(600)));
    let turns: Vec<_> = (0..STREAMS).map(|id| call.open(id, speech())).collect();
    for _ in &turns {
        patiently(taken.recv()).await.expect("the server listens");
    }
    drop(server);
    for _ in &turns {
        let (_, event) = call.any_event().await;
        let BackendEvent::Closed(Some(fault)) = event else {
            panic!("closed by a fault: {event:?}");
        };
        assert_eq!(fault.kind, FaultKind::Unavailable);
    }
    let _server = serve_on(address, 100, |mut exchange| async move {
        exchange.half_closed().await;
        exchange.answer(ResponseType::Final, "back").await;
    });
    let _turn = call.open(STREAMS, TurnInput::Text("hi".to_owned()));
    call.expect_final(STREAMS, "back").await;
}

#[tokio::test]
async fn a_foreign_location_and_a_missing_credentials_file_are_refused_before_any_call() {
    let mut agent = agent(([127, 0, 0, 1], 1).into());
    agent.endpoint = Some("https://eu-dialogflow.googleapis.com".to_owned());
    let refusal = refused(&agent);
    assert!(refusal.contains("agents.support"), "{refusal}");
    assert!(refusal.contains("serves location `eu`"), "{refusal}");

    agent.endpoint = None;
    agent.credentials = Some("does-not-exist.json".into());
    let refusal = refused(&agent);
    assert!(refusal.contains("does-not-exist.json"), "{refusal}");
}

/// One conversation of a test.
struct Call {
    session: Box<dyn Session>,
    sender: mpsc::Sender<(StreamId, BackendEvent)>,
    events: mpsc::Receiver<(StreamId, BackendEvent)>,
}

impl Call {
    fn to(address: SocketAddr) -> Self {
        Self::with(&agent(address))
    }

    fn with(agent: &config::Agent) -> Self {
        Self::under(agent, &config::Fallback::default())
    }

    /// A call whose agent is left alone as this says.
    fn under(agent: &config::Agent, fallback: &config::Fallback) -> Self {
        let backend = CxBackend::new("support", agent, fallback, &GoogleEnvironment::default())
            .expect("a good configuration");
        let (sender, events) = mpsc::channel(8);
        Self {
            session: backend.session(SessionStart {
                id: "session-1".to_owned(),
                caller: "+15551234567".to_owned(),
                parameters: [("tier".to_owned(), "gold".to_owned())].into(),
                ..SessionStart::default()
            }),
            sender,
            events,
        }
    }

    fn open(&mut self, stream: u32, input: TurnInput) -> TurnStream {
        let turn = OpenTurn {
            stream: StreamId(stream),
            input,
            parameters: BTreeMap::new(),
            model: None,
        };
        self.open_turn(turn)
    }

    fn open_turn(&mut self, turn: OpenTurn) -> TurnStream {
        self.session.open(turn, self.sender.clone())
    }

    async fn any_event(&mut self) -> (StreamId, BackendEvent) {
        patiently(self.events.recv()).await.expect("an event")
    }

    async fn event(&mut self, stream: u32) -> BackendEvent {
        let (id, event) = self.any_event().await;
        assert_eq!(id, StreamId(stream), "{event:?}");
        event
    }

    async fn expect_final(&mut self, stream: u32, words: &str) {
        match self.event(stream).await {
            BackendEvent::Answer(answer) => {
                assert_eq!((answer.partial, answer.query.as_str()), (None, words));
            }
            other => panic!("not the final answer: {other:?}"),
        }
    }

    async fn expect_closed(&mut self, stream: u32, expected: Option<Fault>) {
        match self.event(stream).await {
            BackendEvent::Closed(fault) => assert_eq!(fault, expected),
            other => panic!("not closed: {other:?}"),
        }
        assert!(self.events.try_recv().is_err(), "nothing follows");
    }

    async fn expect_fault(&mut self, stream: u32, kind: FaultKind) {
        match self.event(stream).await {
            BackendEvent::Closed(Some(fault)) => assert_eq!(fault.kind, kind, "{fault:?}"),
            other => panic!("no fault: {other:?}"),
        }
    }
}

/// One stream as the server sees it.
struct Exchange {
    version: &'static str,
    metadata: MetadataMap,
    requests: Pin<Box<dyn Stream<Item = v3::StreamingDetectIntentRequest> + Send>>,
    responses: mpsc::Sender<Result<v3::StreamingDetectIntentResponse, Status>>,
}

impl Exchange {
    /// The next request; `None` once half-closed.
    async fn request(&mut self) -> Option<v3::StreamingDetectIntentRequest> {
        self.requests.next().await
    }

    async fn half_closed(&mut self) {
        while self.request().await.is_some() {}
    }

    async fn say(&mut self, said: Said) {
        let response = v3::StreamingDetectIntentResponse {
            response: Some(said),
            ..v3::StreamingDetectIntentResponse::default()
        };
        // The client may be gone; then the test does not care.
        let _ = self.responses.send(Ok(response)).await;
    }

    async fn fail(&mut self, status: Status) {
        let _ = self.responses.send(Err(status)).await;
    }

    async fn recognised(&mut self, kind: MessageType, transcript: &str, is_final: bool) {
        self.say(Said::RecognitionResult(v3::StreamingRecognitionResult {
            message_type: kind.into(),
            transcript: transcript.to_owned(),
            is_final,
            ..v3::StreamingRecognitionResult::default()
        }))
        .await;
    }

    async fn answer(&mut self, kind: ResponseType, query: &str) {
        self.say(Said::DetectIntentResponse(response(kind, query)))
            .await;
    }
}

fn response(kind: ResponseType, query: &str) -> v3::DetectIntentResponse {
    v3::DetectIntentResponse {
        response_type: kind.into(),
        allow_cancellation: kind == ResponseType::Partial,
        query_result: Some(v3::QueryResult {
            query: Some(v3::query_result::Query::Text(query.to_owned())),
            ..v3::QueryResult::default()
        }),
        ..v3::DetectIntentResponse::default()
    }
}

fn to_channel(channel: &str) -> v3::ResponseMessage {
    v3::ResponseMessage {
        message: Some(v3::response_message::Message::Text(
            v3::response_message::Text {
                text: vec![format!("for {channel}")],
                allow_playback_interruption: false,
            },
        )),
        channel: channel.to_owned(),
        ..v3::ResponseMessage::default()
    }
}

/// A server of bare HTTP/2 that says one word on the first stream of each connection, writes `end` and hangs up.
async fn breaking(end: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let word = v3::StreamingDetectIntentResponse {
        response: Some(Said::RecognitionResult(v3::StreamingRecognitionResult {
            message_type: MessageType::Transcript.into(),
            transcript: "x".to_owned(),
            ..v3::StreamingRecognitionResult::default()
        })),
        ..v3::StreamingDetectIntentResponse::default()
    }
    .encode_to_vec();
    // gRPC: not compressed, the length, the message.
    let word = [&[0][..], &(word.len() as u32).to_be_bytes(), &word].concat();
    // HPACK (RFC 7541): the indexed `:status: 200`, and `content-type` by its index with a literal value.
    let head = [&[0x88, 0x0f, 0x10, 16][..], b"application/grpc"].concat();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = [frame(1, 4, 1, &head), frame(0, 0, 1, &word)].concat();
            let end = end.clone();
            tokio::spawn(async move {
                let mut preface = [0; 24];
                socket.read_exact(&mut preface).await.expect("a preface");
                socket
                    .write_all(&frame(4, 0, 0, &[]))
                    .await
                    .expect("settings");
                loop {
                    let mut frame_head = [0; 9];
                    socket
                        .read_exact(&mut frame_head)
                        .await
                        .expect("the head of a frame");
                    let [a, b, c, kind, flags, ..] = frame_head;
                    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                    socket.read_exact(&mut payload).await.expect("its payload");
                    match kind {
                        4 if flags & 1 == 0 => {
                            socket
                                .write_all(&frame(4, 1, 0, &[]))
                                .await
                                .expect("taken note of");
                        }
                        1 => break,
                        _ => {}
                    }
                }
                socket.write_all(&answer).await.expect("an answer");
                // Apart, so that what follows cannot overtake the word inside the client.
                tokio::time::sleep(Duration::from_millis(50)).await;
                socket.write_all(&end).await.expect("an end");
            });
        }
    });
    address
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let head = [&length[..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// An endpoint is left alone after so many failures, for so long.
fn breaker(failures: u32, open: Duration) -> config::Fallback {
    config::Fallback {
        breaker_failures: failures,
        breaker_open: open,
        ..config::Fallback::default()
    }
}

/// A server in a runtime of its own, so that dropping it closes its sockets as a crash would.
struct Scripted {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Script = Arc<dyn Fn(Exchange) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[derive(Clone)]
struct Scriptable(Script);

fn serve<F, R>(max_streams: u32, script: F) -> Scripted
where
    F: Fn(Exchange) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    serve_on(([127, 0, 0, 1], 0).into(), max_streams, script)
}

fn serve_on<F, R>(address: SocketAddr, max_streams: u32, script: F) -> Scripted
where
    F: Fn(Exchange) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let script = Scriptable(Arc::new(move |exchange| Box::pin(script(exchange))));
    let incoming = {
        let _in_runtime = runtime.enter();
        bind_patiently(address).with_nodelay(Some(true))
    };
    let address = incoming.local_addr().expect("bound");
    runtime.spawn(
        Server::builder()
            .max_concurrent_streams(max_streams)
            .add_service(v3::sessions_server::SessionsServer::new(script.clone()))
            .add_service(v3beta1::sessions_server::SessionsServer::new(script))
            .serve_with_incoming(incoming),
    );
    Scripted {
        address,
        runtime: Some(runtime),
    }
}

/// Binds a port that a server may just have left: its connections are closed before its listener is.
fn bind_patiently(address: SocketAddr) -> TcpIncoming {
    let mut attempts = 0;
    loop {
        match TcpIncoming::bind(address) {
            Ok(incoming) => return incoming,
            Err(error) if attempts == 500 => panic!("{address}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        attempts += 1;
    }
}

/// Runs the script, and lets the headers go out when it says its first word.
async fn exchange<Q, A>(
    script: Script,
    version: &'static str,
    request: Request<Streaming<Q>>,
) -> Result<Response<Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>>, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default,
{
    let (metadata, _, requests) = request.into_parts();
    let (sender, mut responses) = mpsc::channel(8);
    tokio::spawn(script(Exchange {
        version,
        metadata,
        requests: Box::pin(
            requests.filter_map(|sent| std::future::ready(sent.ok().map(|sent| recode(&sent)))),
        ),
        responses: sender,
    }));
    let first = responses.recv().await.transpose()?;
    let rest = futures_util::stream::poll_fn(move |cx| responses.poll_recv(cx));
    let all = futures_util::stream::iter(first.map(Ok)).chain(rest);
    Ok(Response::new(Box::pin(
        all.map(|said| said.map(|said| recode(&said))),
    )))
}

/// The same message in the types of another version.
fn recode<A: prost::Message, B: prost::Message + Default>(message: &A) -> B {
    B::decode(message.encode_to_vec().as_slice()).expect("the versions agree on the wire")
}

macro_rules! sessions {
    ($version:ident) => {
        #[tonic::async_trait]
        impl $version::sessions_server::Sessions for Scriptable {
            type ServerStreamingDetectIntentStream =
                futures_util::stream::Empty<Result<$version::DetectIntentResponse, Status>>;
            type StreamingDetectIntentStream = Pin<
                Box<
                    dyn Stream<Item = Result<$version::StreamingDetectIntentResponse, Status>>
                        + Send,
                >,
            >;

            async fn streaming_detect_intent(
                &self,
                request: Request<Streaming<$version::StreamingDetectIntentRequest>>,
            ) -> Result<Response<Self::StreamingDetectIntentStream>, Status> {
                exchange(self.0.clone(), stringify!($version), request).await
            }

            async fn detect_intent(
                &self,
                _: Request<$version::DetectIntentRequest>,
            ) -> Result<Response<$version::DetectIntentResponse>, Status> {
                Err(Status::unimplemented("not in the script"))
            }

            async fn server_streaming_detect_intent(
                &self,
                _: Request<$version::DetectIntentRequest>,
            ) -> Result<Response<Self::ServerStreamingDetectIntentStream>, Status> {
                Err(Status::unimplemented("not in the script"))
            }

            async fn match_intent(
                &self,
                _: Request<$version::MatchIntentRequest>,
            ) -> Result<Response<$version::MatchIntentResponse>, Status> {
                Err(Status::unimplemented("not in the script"))
            }

            async fn fulfill_intent(
                &self,
                _: Request<$version::FulfillIntentRequest>,
            ) -> Result<Response<$version::FulfillIntentResponse>, Status> {
                Err(Status::unimplemented("not in the script"))
            }

            async fn submit_answer_feedback(
                &self,
                _: Request<$version::SubmitAnswerFeedbackRequest>,
            ) -> Result<Response<$version::AnswerFeedback>, Status> {
                Err(Status::unimplemented("not in the script"))
            }
        }
    };
}

sessions!(v3);
sessions!(v3beta1);

/// How a client ended its half of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    /// A DATA frame with END_STREAM: half-closed.
    Ended,
    /// RST_STREAM with this code (RFC 9113 §7).
    Reset(u32),
}

/// A proxy in front of `server`, and the first sign of an end for each stream that a client opens through it.
async fn eavesdrop(server: SocketAddr) -> (SocketAddr, mpsc::UnboundedReceiver<StreamEnd>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (seen, ends) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("one client");
        let upstream = TcpStream::connect(server).await.expect("the server is up");
        for socket in [&client, &upstream] {
            socket.set_nodelay(true).expect("a live socket");
        }
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = upstream.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut ended = std::collections::BTreeSet::new();
        let mut preface = [0; 24];
        from_client
            .read_exact(&mut preface)
            .await
            .expect("a preface");
        to_server.write_all(&preface).await.expect("forwarded");
        loop {
            let mut head = [0; 9];
            if from_client.read_exact(&mut head).await.is_err() {
                break;
            }
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            from_client
                .read_exact(&mut payload)
                .await
                .expect("a whole frame");
            let end = match kind {
                0 if flags & 1 != 0 => Some(StreamEnd::Ended),
                3 => payload
                    .first_chunk()
                    .map(|code| StreamEnd::Reset(u32::from_be_bytes(*code))),
                _ => None,
            };
            if let Some(end) = end
                && ended.insert(u32::from_be_bytes(stream))
            {
                let _ = seen.send(end);
            }
            to_server.write_all(&head).await.expect("forwarded");
            to_server.write_all(&payload).await.expect("forwarded");
        }
    });
    (address, ends)
}

fn agent(address: SocketAddr) -> config::Agent {
    config::Agent {
        kind: AgentKind::DialogflowCx,
        name: AgentName {
            project: "p".to_owned(),
            location: "global".to_owned(),
            agent: "a".to_owned(),
        },
        environment: None,
        language: "en-US".to_owned(),
        greeting: Greeting::None,
        endpoint: Some(format!("http://{address}")),
        credentials: None,
        model: None,
        channel: None,
        tools: BTreeMap::new(),
        script: None,
    }
}

fn refused(agent: &config::Agent) -> String {
    let fallback = config::Fallback::default();
    match CxBackend::new("support", agent, &fallback, &GoogleEnvironment::default()) {
        Ok(_) => panic!("accepted"),
        Err(error) => format!("{error:#}"),
    }
}

fn speech() -> TurnInput {
    TurnInput::Speech {
        format: AudioFormat {
            encoding: Encoding::Mulaw,
            rate: SampleRate::HZ_8000,
        },
        barge_in: BargeInWindow::default(),
    }
}

/// Pushes as the ring empties, so that nothing is lost.
async fn push_all(audio: &mut ring::Sender<u8>, mut bytes: &[u8]) {
    patiently(async {
        while !bytes.is_empty() {
            bytes = &bytes[audio.push_slice(bytes)..];
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}
