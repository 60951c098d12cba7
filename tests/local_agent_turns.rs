//! The local agent behaves like Dialogflow CX: turns over a real connection, with speech made by flite.
#![cfg(feature = "local-agent")]

mod local_agent_support;

use std::io::Cursor;
use std::time::Duration;

use tandem::local_agent::Script;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::OutputAudioEncoding;
use tandem_proto::cx::v3::detect_intent_response::ResponseType;
use tandem_proto::cx::v3::r#match::MatchType;
use tandem_proto::cx::v3::query_input::Input;
use tandem_proto::cx::v3::query_result::Query;
use tandem_proto::cx::v3::response_message::Message;
use tandem_proto::cx::v3::streaming_detect_intent_response::Response;
use tandem_proto::cx::v3::streaming_recognition_result::MessageType;
use tandem_proto::cx::v3beta1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use local_agent_support as caller;
use local_agent_support::event;
use local_agent_support::first;
use local_agent_support::first_audio;
use local_agent_support::listening;
use local_agent_support::say;
use local_agent_support::serve;
use local_agent_support::session;
use local_agent_support::silence;
use local_agent_support::take_turn;
use local_agent_support::text;
use local_agent_support::texts;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn sound(encoding: OutputAudioEncoding, rate: i32) -> Option<v3::OutputAudioConfig> {
    Some(v3::OutputAudioConfig {
        audio_encoding: encoding.into(),
        sample_rate_hertz: rate,
        ..v3::OutputAudioConfig::default()
    })
}

#[tokio::test]
async fn a_table_is_booked_by_text_event_and_digits() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let here = || session("text");

    let turn = take_turn(&mut client, first(here(), event("WELCOME")), &[]).await;
    assert_eq!(
        (turn.match_type(), turn.page()),
        (MatchType::Event, "start")
    );
    assert_eq!(
        turn.result().query,
        Some(Query::TriggerEvent("WELCOME".to_owned()))
    );
    assert!(texts(turn.result())[0].starts_with("Welcome to Tandem Bistro."));
    assert_eq!(
        turn.result()
            .advanced_settings
            .as_ref()
            .unwrap()
            .dtmf_settings
            .as_ref()
            .unwrap()
            .max_digits,
        1
    );

    let turn = take_turn(&mut client, first(here(), caller::dtmf("1")), &[]).await;
    assert_eq!(
        (turn.match_type(), turn.page()),
        (MatchType::Intent, "people")
    );
    let turn = take_turn(&mut client, first(here(), caller::dtmf("4")), &[]).await;
    assert_eq!(
        (turn.match_type(), turn.page()),
        (MatchType::ParameterFilling, "day")
    );
    assert!(matches!(&turn.result().query, Some(Query::Dtmf(dtmf)) if dtmf.digits == "4"));
    let turn = take_turn(&mut client, first(here(), text("Something else")), &[]).await;
    assert_eq!(
        (turn.match_type(), turn.page()),
        (MatchType::NoMatch, "day")
    );
    let turn = take_turn(&mut client, first(here(), text("On Friday, please.")), &[]).await;
    assert_eq!(
        texts(turn.result()),
        ["So that is a table for 4, friday. Is that correct?"]
    );

    // Without partial responses all is in the final one.
    let turn = take_turn(&mut client, first(here(), text("yes")), &[]).await;
    assert_eq!(turn.answers().len(), 1);
    assert_eq!(texts(turn.result()).len(), 3);
    assert!(
        turn.result()
            .response_messages
            .iter()
            .any(|message| matches!(message.message, Some(Message::ConversationSuccess(_))))
    );

    let turn = take_turn(&mut client, first(here(), text("that's all")), &[]).await;
    assert!(
        turn.result()
            .response_messages
            .iter()
            .any(|message| matches!(message.message, Some(Message::EndInteraction(_))))
    );
}

#[tokio::test]
async fn speech_gives_interim_words_the_end_signal_the_final_words_and_then_the_answer() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let turn = take_turn(
        &mut client,
        first_audio(session("speech"), listening()),
        &say("slt", "book a table for two"),
    )
    .await;

    assert!(!turn.interims().is_empty(), "no interim words in {turn:?}");
    assert_eq!(turn.finals(), ["book a table for two"]);
    assert_eq!((turn.match_type(), turn.page()), (MatchType::Intent, "day"));
    let position = |wanted: &dyn Fn(&Response) -> bool| {
        turn.responses.iter().position(wanted).expect("it came")
    };
    let result_is = |response: &Response, kind: MessageType, last: bool| match response {
        Response::RecognitionResult(result) => {
            result.message_type() == kind && result.is_final == last
        }
        Response::DetectIntentResponse(_) => false,
    };
    let interim = position(&|response| result_is(response, MessageType::Transcript, false));
    let signal =
        position(&|response| result_is(response, MessageType::EndOfSingleUtterance, false));
    let words = position(&|response| result_is(response, MessageType::Transcript, true));
    let answer = position(&|response| matches!(response, Response::DetectIntentResponse(_)));
    assert!(
        interim < signal && signal < words && words < answer && answer == turn.responses.len() - 1
    );
    let Response::RecognitionResult(last) = &turn.responses[words] else {
        panic!("{turn:?}")
    };
    let end = last.speech_end_offset.unwrap();
    assert!((1..3).contains(&end.seconds), "speech ended at {end:?}");
    assert!(last.confidence > 0.5);
}

#[tokio::test]
async fn without_single_utterance_the_client_ends_the_turn() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let config = v3::InputAudioConfig {
        single_utterance: false,
        ..listening()
    };
    let turn = take_turn(
        &mut client,
        first_audio(session("open"), config),
        &say("slt", "what are your opening hours"),
    )
    .await;
    assert!(!turn.signalled);
    assert_eq!(turn.finals(), ["what are your opening hours"]);
    assert_eq!(turn.match_type(), MatchType::Intent);
}

#[tokio::test]
async fn silence_is_no_input_only_after_the_prompt_and_the_timeout() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let window = v3::BargeInConfig {
        no_barge_in_duration: seconds(0),
        total_duration: seconds(4),
    };
    let config = v3::InputAudioConfig {
        barge_in_config: Some(window),
        ..listening()
    };

    let turn = take_turn(
        &mut client,
        first_audio(session("silence"), config.clone()),
        &silence(8.9),
    )
    .await;
    assert!(!turn.signalled, "the prompt's four seconds do not count");
    let turn = take_turn(
        &mut client,
        first_audio(session("silence"), config),
        &silence(9.1),
    )
    .await;
    assert!(turn.signalled);
    assert_eq!(
        (turn.match_type(), turn.finals().len()),
        (MatchType::NoInput, 0)
    );
    assert!(
        texts(turn.result())[0].contains("cannot hear"),
        "the second time in a row"
    );
}

#[tokio::test]
async fn nothing_is_heard_before_barge_in_is_allowed() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let spoken = say("slt", "when are you open");
    let window = |deaf| v3::BargeInConfig {
        no_barge_in_duration: seconds(deaf),
        total_duration: seconds(6),
    };
    let config = |deaf| v3::InputAudioConfig {
        barge_in_config: Some(window(deaf)),
        ..listening()
    };

    let turn = take_turn(
        &mut client,
        first_audio(session("deaf"), config(6)),
        &[spoken.clone(), silence(8.5)].concat(),
    )
    .await;
    assert_eq!(
        (
            turn.match_type(),
            turn.interims().len(),
            turn.finals().len()
        ),
        (MatchType::NoInput, 0, 0)
    );
    let turn = take_turn(
        &mut client,
        first_audio(session("ears"), config(0)),
        &spoken,
    )
    .await;
    assert_eq!(turn.finals(), ["when are you open"]);
}

#[tokio::test]
async fn a_partial_response_comes_before_the_slow_step_and_one_final_response_after() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let mut request = first(session("partial"), text("yes"));
    request.enable_partial_response = true;
    request.output_audio_config = sound(OutputAudioEncoding::Mulaw, 8000);
    request.query_params = Some(v3::QueryParameters {
        current_page: "confirm".to_owned(),
        ..v3::QueryParameters::default()
    });
    let turn = take_turn(&mut client, request, &[]).await;

    let kinds: Vec<_> = turn
        .answers()
        .iter()
        .map(|answer| (answer.response_type(), answer.allow_cancellation))
        .collect();
    assert_eq!(
        kinds,
        [(ResponseType::Partial, true), (ResponseType::Final, false)]
    );
    assert!(
        turn.answers()
            .iter()
            .all(|answer| answer.output_audio.len() > 8000)
    );
    assert_eq!(
        texts(turn.answers()[0].query_result.as_ref().unwrap()),
        ["One moment please, while I check."]
    );
    assert_eq!(turn.page(), "more");
}

#[tokio::test]
async fn the_answer_sounds_the_same_in_every_encoding() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let mut lengths = Vec::new();
    for (encoding, rate) in [
        (OutputAudioEncoding::Linear16, 8000),
        (OutputAudioEncoding::Linear16, 24_000),
        (OutputAudioEncoding::Mulaw, 8000),
        (OutputAudioEncoding::Alaw, 8000),
    ] {
        let mut request = first(session("sound"), event("WELCOME"));
        request.output_audio_config = sound(encoding, rate);
        let turn = take_turn(&mut client, request, &[]).await;
        let answer = turn.answers()[0].clone();
        assert_eq!(answer.output_audio_config, sound(encoding, rate));
        let samples: Vec<i16> = match encoding {
            OutputAudioEncoding::Linear16 => {
                let mut wav =
                    hound::WavReader::new(Cursor::new(answer.output_audio)).expect("a RIFF header");
                assert_eq!(wav.spec().sample_rate, rate as u32);
                wav.samples::<i16>().map(Result::unwrap).collect()
            }
            // Both laws are judged by ear alone: the loudest codes have the highest magnitudes in either.
            OutputAudioEncoding::Mulaw => answer
                .output_audio
                .iter()
                .map(|byte| i16::from(!byte & 0x7f) << 7)
                .collect(),
            _ => answer
                .output_audio
                .iter()
                .map(|byte| i16::from((byte ^ 0x55) & 0x7f) << 7)
                .collect(),
        };
        let loud = samples
            .iter()
            .filter(|sample| sample.unsigned_abs() > 2000)
            .count();
        assert!(loud > samples.len() / 10, "{encoding:?} is silent");
        lengths.push(samples.len() as f32 / rate as f32);
    }
    assert!(
        lengths
            .iter()
            .all(|length| *length > 5.0 && (length - lengths[0]).abs() < 0.001),
        "{lengths:?}"
    );

    let mut request = first(session("sound"), event("WELCOME"));
    request.output_audio_config = sound(OutputAudioEncoding::OggOpus, 48_000);
    assert_eq!(
        take_turn(&mut client, request, &[])
            .await
            .status
            .unwrap()
            .code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_wrong_order_of_messages_is_an_invalid_argument() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let no_language = Some(v3::QueryInput {
        language_code: String::new(),
        ..text("hello").unwrap()
    });
    let no_config = caller::input(Input::Audio(v3::AudioInput::default()));
    let wrong_rate = v3::InputAudioConfig {
        sample_rate_hertz: 16_000,
        ..listening()
    };
    for (what, first, then) in [
        ("no session", first(String::new(), text("hello")), None),
        (
            "a session of the old API",
            first("projects/p/agent/sessions/1".to_owned(), text("hello")),
            None,
        ),
        (
            "a long session id",
            first(session(&"x".repeat(37)), text("hello")),
            None,
        ),
        ("no input", first(session("bad"), None), None),
        ("no language", first(session("bad"), no_language), None),
        ("an empty text", first(session("bad"), text("")), None),
        (
            "audio without config",
            first(session("bad"), no_config),
            None,
        ),
        (
            "mu-law at 16 kHz",
            first_audio(session("bad"), wrong_rate),
            None,
        ),
        (
            "audio after text",
            first(session("bad"), text("hello")),
            Some(caller::audio(&[0xff])),
        ),
        (
            "no audio",
            first_audio(session("bad"), listening()),
            Some(caller::audio(&[])),
        ),
        (
            "an event after audio",
            first_audio(session("bad"), listening()),
            Some(first(String::new(), event("WELCOME"))),
        ),
    ] {
        let (sender, requests) = mpsc::channel(4);
        sender.send(first).await.unwrap();
        if let Some(then) = then {
            sender.send(then).await.unwrap();
        }
        drop(sender);
        let status = match client
            .streaming_detect_intent(ReceiverStream::new(requests))
            .await
        {
            Ok(responses) => responses.into_inner().message().await.expect_err(what),
            Err(status) => status,
        };
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    }
}

#[tokio::test]
async fn text_in_the_middle_of_audio_replaces_it() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let (sender, requests) = mpsc::channel(8);
    sender
        .send(first_audio(session("switch"), listening()))
        .await
        .unwrap();
    sender.send(caller::audio(&silence(0.5))).await.unwrap();
    sender
        .send(first(String::new(), text("operator")))
        .await
        .unwrap();
    drop(sender);
    let mut responses = client
        .streaming_detect_intent(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    let Some(Response::DetectIntentResponse(answer)) =
        responses.message().await.unwrap().unwrap().response
    else {
        panic!("no answer")
    };
    let result = answer.query_result.unwrap();
    assert_eq!(result.query, Some(Query::Text("operator".to_owned())));
    let hand_off = result
        .response_messages
        .iter()
        .find_map(|message| match &message.message {
            Some(Message::LiveAgentHandoff(hand_off)) => hand_off.metadata.clone(),
            _ => None,
        });
    assert!(hand_off.unwrap().fields.contains_key("queue"));
}

#[tokio::test]
async fn the_echo_page_plays_the_utterance_back() {
    let mut client = caller::client(serve(Script::embedded()).await).await;
    let tone: Vec<u8> = (0..8000)
        .map(|i| caller::mulaw(((i as f32 * 0.35).sin() * 8000.0) as i16))
        .collect();
    let call = [silence(0.5), tone, silence(1.0)].concat();
    let mut request = first_audio(
        "projects/p/locations/global/agents/echo/sessions/1".to_owned(),
        listening(),
    );
    request.output_audio_config = sound(OutputAudioEncoding::Mulaw, 8000);
    let turn = take_turn(&mut client, request, &call).await;

    assert!(turn.signalled && !turn.interims().is_empty());
    let answer = turn.answers()[0];
    let loud = answer
        .output_audio
        .iter()
        .filter(|byte| !*byte & 0x70 > 0x30)
        .count();
    assert!((6000..9000).contains(&loud), "{loud} loud samples of 8000");
}

#[tokio::test]
async fn faults_limits_and_late_headers_are_set_in_the_script() {
    let script = caller::script(
        r#"
        server = { late_headers = true, audio_stall = "300ms", stream_audio_limit = "2s" }
        agents.default.start = "start"
        [pages.start]
        enter = ["Hello."]
        [[pages.start.rules]]
        event = "WELCOME"
        go = "start"
        [[pages.start.rules]]
        event = "slow"
        answer = [{ wait = "700ms" }, "Done."]
        [[faults]]
        stream = 2
        status = "RESOURCE_EXHAUSTED"
        "#,
    );
    let address = serve(script).await;
    let mut client = caller::client(address).await;

    assert_eq!(
        texts(
            take_turn(&mut client, first(session("f"), event("WELCOME")), &[])
                .await
                .result()
        ),
        ["Hello."]
    );
    let turn = take_turn(&mut client, first(session("f"), event("WELCOME")), &[]).await;
    assert_eq!(
        turn.status.map(|status| status.code()),
        Some(Code::ResourceExhausted)
    );

    // Too much audio, and too little.
    let turn = take_turn(
        &mut client,
        first_audio(session("long"), listening()),
        &silence(2.2),
    )
    .await;
    assert_eq!(
        turn.status.map(|status| status.code()),
        Some(Code::OutOfRange)
    );
    let (sender, requests) = mpsc::channel(2);
    sender
        .send(first_audio(session("stall"), listening()))
        .await
        .unwrap();
    let status = client
        .streaming_detect_intent(ReceiverStream::new(requests))
        .await
        .expect_err("headers come with the first message");
    assert_eq!(status.code(), Code::OutOfRange);

    // Two turns at once.
    let mut other = client.clone();
    let slow = tokio::spawn(async move {
        take_turn(&mut other, first(session("busy"), event("slow")), &[]).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let turn = take_turn(&mut client, first(session("busy"), event("WELCOME")), &[]).await;
    assert_eq!(turn.status.map(|status| status.code()), Some(Code::Aborted));
    assert_eq!(texts(slow.await.unwrap().result()), ["Done."]);
}

#[tokio::test]
async fn v3beta1_and_the_unary_calls_answer_the_same() {
    let address = serve(Script::embedded()).await;
    let mut beta = v3beta1::sessions_client::SessionsClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    let input = |words: &str| {
        let text = v3beta1::TextInput {
            text: words.to_owned(),
        };
        Some(v3beta1::QueryInput {
            input: Some(v3beta1::query_input::Input::Text(text)),
            language_code: "en-US".to_owned(),
        })
    };
    let request = v3beta1::StreamingDetectIntentRequest {
        session: session("beta"),
        query_input: input("book a table for 3"),
        ..Default::default()
    };
    let mut responses = beta
        .streaming_detect_intent(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let response = responses
        .message()
        .await
        .unwrap()
        .unwrap()
        .response
        .unwrap();
    let v3beta1::streaming_detect_intent_response::Response::DetectIntentResponse(answer) =
        response
    else {
        panic!("{response:?}")
    };
    assert_eq!(
        answer
            .query_result
            .unwrap()
            .current_page
            .unwrap()
            .display_name,
        "day"
    );

    // Matching does not move the conversation; fulfilling does.
    let matching = v3beta1::MatchIntentRequest {
        session: session("beta"),
        query_input: input("friday"),
        ..Default::default()
    };
    let matched = beta
        .match_intent(matching.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(matched.current_page.unwrap().display_name, "day");
    let fulfil = v3beta1::FulfillIntentRequest {
        match_intent_request: Some(matching),
        r#match: matched.matches.first().cloned(),
        ..Default::default()
    };
    let fulfilled = beta
        .fulfill_intent(fulfil)
        .await
        .unwrap()
        .into_inner()
        .query_result
        .unwrap();
    assert_eq!(fulfilled.current_page.unwrap().display_name, "confirm");

    let mut client = caller::client(address).await;
    let detect = v3::DetectIntentRequest {
        session: session("beta"),
        query_input: text("no"),
        ..v3::DetectIntentRequest::default()
    };
    let detected = client
        .detect_intent(detect)
        .await
        .unwrap()
        .into_inner()
        .query_result
        .unwrap();
    assert_eq!(detected.current_page.unwrap().display_name, "people");
    let unknown = v3::IntentInput {
        intent: "projects/p/locations/global/agents/bistro/intents/fly".to_owned(),
    };
    let detect = v3::DetectIntentRequest {
        session: session("beta"),
        query_input: caller::input(Input::Intent(unknown)),
        ..Default::default()
    };
    assert_eq!(
        client.detect_intent(detect).await.unwrap_err().code(),
        Code::NotFound
    );
}
