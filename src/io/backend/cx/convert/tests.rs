use serde_json::json;

use super::*;
use crate::engine::call::event::Digit;
use crate::engine::call::event::DtmfSettings;
use crate::engine::call::event::StreamId;

/// A caller who speaks German, with an agent that has no channels.
const GERMAN: Listener<'_> = Listener {
    language: "de-DE",
    channel: "",
    asked: AudioFormat {
        encoding: Encoding::Linear16,
        rate: SampleRate::HZ_16000,
    },
};

#[test]
fn speech_begins_with_its_audio_settings_and_the_barge_in_window() {
    let request = first_request(&conversation(), turn(speech(1500)), true);
    assert_eq!(
        request.session,
        "projects/p/locations/l/agents/a/sessions/s"
    );
    assert!(request.enable_partial_response);
    let input = request.query_input.expect("an input");
    assert_eq!(input.language_code, "de-DE");
    let Some(Input::Audio(audio)) = input.input else {
        panic!("speech is audio");
    };
    assert!(audio.audio.is_empty());
    let config = audio.config.expect("settings");
    assert_eq!(config.audio_encoding(), v3::AudioEncoding::Mulaw);
    assert_eq!(config.sample_rate_hertz, 8000);
    assert_eq!(config.model, "telephony");
    assert!(config.single_utterance);
    let window = config.barge_in_config.expect("a window");
    assert_eq!(
        window.no_barge_in_duration.expect("said").nanos,
        250_000_000
    );
    assert_eq!(window.total_duration.expect("said").seconds, 1);
    let output = request.output_audio_config.expect("said");
    assert_eq!(output.audio_encoding(), v3::OutputAudioEncoding::Linear16);
    assert_eq!(output.sample_rate_hertz, 16_000);
}

#[test]
fn without_a_prompt_there_is_no_barge_in_config() {
    let request = first_request(&conversation(), turn(speech(0)), true);
    let Some(Input::Audio(audio)) = request.query_input.and_then(|query| query.input) else {
        panic!("speech is audio");
    };
    assert_eq!(audio.config.and_then(|config| config.barge_in_config), None);
}

#[test]
fn text_event_intent_and_digits_are_whole_in_the_first_message() {
    for (input, expected) in [
        (
            TurnInput::Text("hi".to_owned()),
            Input::Text(v3::TextInput {
                text: "hi".to_owned(),
            }),
        ),
        (
            TurnInput::Event("WELCOME".to_owned()),
            Input::Event(v3::EventInput {
                event: "WELCOME".to_owned(),
            }),
        ),
        (
            TurnInput::Intent("i".to_owned()),
            Input::Intent(v3::IntentInput {
                intent: "i".to_owned(),
            }),
        ),
        (
            TurnInput::Dtmf {
                digits: "12".to_owned(),
                finish_digit: Digit::from_char('#'),
            },
            Input::Dtmf(v3::DtmfInput {
                digits: "12".to_owned(),
                finish_digit: "#".to_owned(),
            }),
        ),
    ] {
        let request = first_request(&conversation(), turn(input), true);
        let query = request.query_input.expect("an input");
        assert_eq!(query.input, Some(expected));
        assert_eq!(query.language_code, "de-DE");
    }
}

#[test]
fn the_caller_is_told_on_every_turn_and_the_session_parameters_only_when_asked() {
    for with_parameters in [true, false] {
        let request = first_request(&conversation(), turn(speech(0)), with_parameters);
        let params = request.query_params.expect("said");
        assert_eq!(
            json(params.payload.expect("said")),
            json!({
                "telephony": { "caller_id": "+15551234567" },
                "tandem": { "ingress": "sip", "dialled": "1000" },
            })
        );
        let expected = with_parameters.then(|| json!({ "tier": "gold" }));
        assert_eq!(params.parameters.map(json), expected);
    }
}

#[test]
fn a_turns_own_parameters_come_on_top_of_the_sessions_and_a_null_removes_one() {
    for (with_parameters, expected) in [
        (
            true,
            json!({ "tier": null, "cut_at_ms": 1200, "heard_text": "We have" }),
        ),
        (
            false,
            json!({ "tier": null, "cut_at_ms": 1200, "heard_text": "We have" }),
        ),
    ] {
        let turn = OpenTurn {
            parameters: [
                ("cut_at_ms", json!(1200)),
                ("heard_text", json!("We have")),
                ("tier", Value::Null),
            ]
            .into(),
            ..turn(speech(0))
        };
        let request = first_request(&conversation(), turn, with_parameters);
        let parameters = request.query_params.and_then(|params| params.parameters);
        let parameters = parameters.expect("said");
        let null = parameters.fields["tier"].kind.clone();
        assert_eq!(null, Some(Kind::NullValue(0)));
        assert_eq!(json(parameters), expected);
    }
    let one = OpenTurn {
        parameters: [("cut_at_ms", Value::Null)].into(),
        ..turn(speech(0))
    };
    let request = first_request(&conversation(), one, true);
    let parameters = request.query_params.and_then(|params| params.parameters);
    assert_eq!(
        parameters.map(json),
        Some(json!({ "tier": "gold", "cut_at_ms": null }))
    );
}

#[test]
fn a_turns_model_comes_before_the_configured_one() {
    for (of_turn, expected) in [
        (Some("telephony_short"), "telephony_short"),
        (None, "telephony"),
    ] {
        let turn = OpenTurn {
            model: of_turn.map(str::to_owned),
            ..turn(speech(0))
        };
        let request = first_request(&conversation(), turn, true);
        let Some(Input::Audio(audio)) = request.query_input.and_then(|query| query.input) else {
            panic!("speech is audio");
        };
        assert_eq!(audio.config.expect("settings").model, expected);
    }
}

#[test]
fn the_channel_is_asked_for_and_what_is_for_another_is_left_out_and_told_as_one() {
    let mut conversation = conversation();
    for channel in ["", "phone"] {
        conversation.channel = channel.to_owned();
        let request = first_request(&conversation, turn(speech(0)), true);
        assert_eq!(request.query_params.expect("said").channel, channel);
    }

    let sent = || {
        ["", "chat", "phone", "chat"].map(|channel| v3::ResponseMessage {
            message: Some(response_message::Message::Text(response_message::Text {
                text: vec![format!("for {channel}")],
                allow_playback_interruption: true,
            })),
            channel: channel.to_owned(),
            ..v3::ResponseMessage::default()
        })
    };
    assert_eq!(
        messages(sent().into(), "phone"),
        [text("for ", true), text("for phone", true), OTHER_CHANNEL]
    );
    assert_eq!(
        messages(sent().into(), ""),
        ["for ", "for chat", "for phone", "for chat"].map(|words| text(words, true))
    );
    assert_eq!(
        messages(sent()[..1].to_vec(), "phone"),
        [text("for ", true)]
    );
}

#[test]
fn a_tools_result_goes_back_as_what_came_out_or_as_the_error() {
    use v3::tool_call_result::Error;
    use v3::tool_call_result::Result as Outcome;

    for (outcome, expected) in [
        (
            Ok(json!({ "free": true })),
            Outcome::OutputParameters(object(json!({ "free": true }))),
        ),
        (
            Err("no such tool".to_owned()),
            Outcome::Error(Error {
                message: "no such tool".to_owned(),
            }),
        ),
    ] {
        let input = TurnInput::ToolResult(ToolResult {
            tool: "t".to_owned(),
            action: "a".to_owned(),
            outcome,
        });
        let request = first_request(&conversation(), turn(input), true);
        let Some(Input::ToolCallResult(result)) = request.query_input.and_then(|query| query.input)
        else {
            panic!("a tool's result");
        };
        assert_eq!((result.tool.as_str(), result.action.as_str()), ("t", "a"));
        assert_eq!(result.result, Some(expected));
    }
}

#[test]
fn a_hidden_caller_is_left_out() {
    let conversation = Conversation::new("a", "en", "", "", SessionStart::default());
    assert_eq!(json(conversation.payload), json!({}));
}

#[test]
fn transcripts_and_the_end_of_the_utterance_come_through_and_empty_ones_do_not() {
    use v3::streaming_recognition_result::MessageType;

    let event = |kind: MessageType, text: &str, is_final| {
        backend_event(
            v3::StreamingDetectIntentResponse {
                response: Some(Response::RecognitionResult(
                    v3::StreamingRecognitionResult {
                        message_type: kind.into(),
                        transcript: text.to_owned(),
                        is_final,
                        speech_end_offset: Some(prost_types::Duration {
                            seconds: 2,
                            nanos: 500_000_000,
                        }),
                        ..v3::StreamingRecognitionResult::default()
                    },
                )),
                ..v3::StreamingDetectIntentResponse::default()
            },
            GERMAN,
        )
    };
    assert!(matches!(
        event(MessageType::Transcript, "hel", false),
        Some(BackendEvent::Interim { text }) if text == "hel"
    ));
    assert!(matches!(
        event(MessageType::Transcript, "hello", true),
        Some(BackendEvent::Final { text, end_offset: Some(end) })
            if text == "hello" && end == Duration::from_millis(2500)
    ));
    assert!(matches!(
        event(MessageType::EndOfSingleUtterance, "", false),
        Some(BackendEvent::EndOfUtterance)
    ));
    assert!(event(MessageType::Transcript, "", false).is_none());
    assert!(event(MessageType::Unspecified, "x", false).is_none());
    assert!(backend_event(v3::StreamingDetectIntentResponse::default(), GERMAN).is_none());
}

#[test]
fn an_answer_says_whether_it_is_partial_and_may_be_cut() {
    use v3::detect_intent_response::ResponseType;

    for (kind, allow_cancellation, expected) in [
        (ResponseType::Partial, true, Some(Cancellation::Allowed)),
        (ResponseType::Partial, false, Some(Cancellation::Forbidden)),
        (ResponseType::Final, true, None),
        (ResponseType::Unspecified, false, None),
    ] {
        let response = v3::DetectIntentResponse {
            response_type: kind.into(),
            allow_cancellation,
            ..v3::DetectIntentResponse::default()
        };
        assert_eq!(answer(response, GERMAN).partial, expected);
    }
}

#[test]
fn an_answer_carries_query_match_intent_page_and_settings() {
    let response = v3::DetectIntentResponse {
        query_result: Some(v3::QueryResult {
            query: Some(Query::Transcript("my balance".to_owned())),
            r#match: Some(v3::Match {
                match_type: v3::r#match::MatchType::Intent.into(),
                intent: Some(v3::Intent {
                    display_name: "balance".to_owned(),
                    ..v3::Intent::default()
                }),
                ..v3::Match::default()
            }),
            current_page: Some(v3::Page {
                name: "…/pages/END_SESSION".to_owned(),
                ..v3::Page::default()
            }),
            advanced_settings: Some(v3::AdvancedSettings {
                speech_settings: Some(v3::advanced_settings::SpeechSettings {
                    no_speech_timeout: Some(prost_types::Duration {
                        seconds: 7,
                        nanos: 0,
                    }),
                    ..v3::advanced_settings::SpeechSettings::default()
                }),
                dtmf_settings: Some(v3::advanced_settings::DtmfSettings {
                    enabled: true,
                    max_digits: 4,
                    finish_digit: "#".to_owned(),
                    interdigit_timeout_duration: Some(prost_types::Duration::default()),
                    ..v3::advanced_settings::DtmfSettings::default()
                }),
                ..v3::AdvancedSettings::default()
            }),
            ..v3::QueryResult::default()
        }),
        ..v3::DetectIntentResponse::default()
    };
    let answer = answer(response, GERMAN);
    assert_eq!(answer.query, "my balance");
    assert_eq!(answer.match_kind, MatchKind::Intent);
    assert_eq!(answer.intent, "balance");
    assert_eq!(answer.page, "…/pages/END_SESSION");
    assert_eq!(
        answer.settings,
        AgentSettings {
            no_speech_timeout: Some(Duration::from_secs(7)),
            dtmf: Some(DtmfSettings {
                max_digits: Some(4),
                finish_digit: Digit::from_char('#'),
                interdigit_timeout: None,
            }),
            ..AgentSettings::default()
        }
    );
}

#[test]
fn nobody_is_asked_to_be_silent_for_longer_than_agents_may_ask() {
    for (seconds, expected) in [
        (9, Some(9)),
        (3_600, Some(60)),
        (i64::MAX, Some(60)),
        (0, None),
        (-1, None),
    ] {
        let time = prost_types::Duration { seconds, nanos: 0 };
        let asked = v3::AdvancedSettings {
            speech_settings: Some(v3::advanced_settings::SpeechSettings {
                no_speech_timeout: Some(time),
                ..v3::advanced_settings::SpeechSettings::default()
            }),
            ..v3::AdvancedSettings::default()
        };
        let time = settings::settings(asked, "de").no_speech_timeout;
        assert_eq!(time, expected.map(Duration::from_secs), "{seconds} s");
    }
}

#[test]
fn the_model_is_that_of_the_callers_very_language_else_of_its_primary_one() {
    let models = [
        ("de", "telephony"),
        ("DE-at", "telephony_short"),
        ("en", ""),
        ("fr-FR", "latest_long"),
    ];
    let asked = v3::AdvancedSettings {
        speech_settings: Some(v3::advanced_settings::SpeechSettings {
            models: models
                .map(|(tag, model)| (tag.to_owned(), model.to_owned()))
                .into(),
            ..v3::advanced_settings::SpeechSettings::default()
        }),
        ..v3::AdvancedSettings::default()
    };
    for (language, expected) in [
        ("de-DE", Some("telephony")),
        ("de-AT", Some("telephony_short")),
        ("en-US", None),
        ("fr", None),
        ("nl", None),
    ] {
        let model = settings::settings(asked.clone(), language).model;
        assert_eq!(model.as_deref(), expected, "{language}");
    }
}

#[test]
fn transcripts_are_kept_as_the_agent_logs_them_and_where_it_says_nothing_nothing_is_said() {
    for (logging, expected) in [
        (None, None),
        (Some(true), Some(true)),
        (Some(false), Some(false)),
    ] {
        let asked = v3::AdvancedSettings {
            logging_settings: logging.map(|enable_interaction_logging| {
                v3::advanced_settings::LoggingSettings {
                    enable_interaction_logging,
                    ..v3::advanced_settings::LoggingSettings::default()
                }
            }),
            ..v3::AdvancedSettings::default()
        };
        assert_eq!(settings::settings(asked, "en").keeps_transcripts, expected);
    }
}

#[test]
fn where_some_text_is_for_the_voice_the_other_is_for_reading() {
    use v3::response_message as sent;
    use v3::response_message::Message as Sent;

    let message = |message| v3::ResponseMessage {
        message: Some(message),
        ..v3::ResponseMessage::default()
    };
    let written = message(Sent::Text(sent::Text {
        text: vec!["See https://example.com/hours".into()],
        allow_playback_interruption: false,
    }));
    let spoken = message(Sent::OutputAudioText(sent::OutputAudioText {
        source: Some(sent::output_audio_text::Source::Text(
            "We open at nine".into(),
        )),
        allow_playback_interruption: true,
    }));
    assert_eq!(
        messages(vec![written.clone(), spoken], ""),
        [Message::Text {
            text: "We open at nine".into(),
            interruptible: true,
        }]
    );
    assert_eq!(messages(vec![written], "").len(), 1);
}

#[test]
fn settings_for_digits_that_are_switched_off_say_nothing() {
    let asked = v3::AdvancedSettings {
        dtmf_settings: Some(v3::advanced_settings::DtmfSettings {
            enabled: false,
            max_digits: 4,
            ..v3::advanced_settings::DtmfSettings::default()
        }),
        ..v3::AdvancedSettings::default()
    };
    assert_eq!(settings::settings(asked, "en").dtmf, None);
}

#[test]
fn what_only_googles_own_lines_obey_is_named_when_it_is_set() {
    let asked = v3::AdvancedSettings {
        speech_settings: Some(v3::advanced_settings::SpeechSettings {
            endpointer_sensitivity: 90,
            use_timeout_based_endpointing: true,
            ..v3::advanced_settings::SpeechSettings::default()
        }),
        dtmf_settings: Some(v3::advanced_settings::DtmfSettings {
            endpointing_timeout_duration: Some(prost_types::Duration {
                seconds: 3,
                nanos: 0,
            }),
            ..v3::advanced_settings::DtmfSettings::default()
        }),
        logging_settings: Some(v3::advanced_settings::LoggingSettings {
            enable_stackdriver_logging: true,
            enable_interaction_logging: false,
            enable_consent_based_redaction: true,
        }),
        ..v3::AdvancedSettings::default()
    };
    assert_eq!(
        settings::settings(asked, "en").unsupported,
        [
            "endpointer_sensitivity",
            "use_timeout_based_endpointing",
            "endpointing_timeout_duration",
            "enable_stackdriver_logging",
            "enable_consent_based_redaction",
        ]
    );
    let unset = v3::AdvancedSettings {
        speech_settings: Some(v3::advanced_settings::SpeechSettings::default()),
        dtmf_settings: Some(v3::advanced_settings::DtmfSettings {
            endpointing_timeout_duration: Some(prost_types::Duration::default()),
            ..v3::advanced_settings::DtmfSettings::default()
        }),
        logging_settings: Some(v3::advanced_settings::LoggingSettings::default()),
        ..v3::AdvancedSettings::default()
    };
    assert!(settings::settings(unset, "en").unsupported.is_empty());
}

#[test]
fn match_types_of_the_future_are_of_no_concern() {
    let kinds: Vec<_> = (0..=10).map(match_kind).collect();
    use MatchKind::Event;
    use MatchKind::Intent;
    use MatchKind::NoInput;
    use MatchKind::NoMatch;
    use MatchKind::Other;
    assert_eq!(
        kinds,
        [
            Other, Intent, Intent, Other, NoMatch, NoInput, Event, Other, Other, Other, Other
        ]
    );
}

#[test]
fn audio_is_believed_to_be_what_the_agent_says_and_what_cannot_be_played_is_left_out() {
    let said = |encoding: i32, rate| {
        let mixed = response_message::MixedAudio {
            segments: vec![response_message::mixed_audio::Segment {
                content: Some(response_message::mixed_audio::segment::Content::Audio(
                    Bytes::from_static(b"y"),
                )),
                ..response_message::mixed_audio::Segment::default()
            }],
        };
        let response = v3::DetectIntentResponse {
            output_audio: Bytes::from_static(b"x"),
            output_audio_config: Some(v3::OutputAudioConfig {
                audio_encoding: encoding,
                sample_rate_hertz: rate,
                synthesize_speech_config: None,
            }),
            query_result: Some(v3::QueryResult {
                response_messages: vec![v3::ResponseMessage {
                    message: Some(response_message::Message::MixedAudio(mixed)),
                    ..v3::ResponseMessage::default()
                }],
                ..v3::QueryResult::default()
            }),
            ..v3::DetectIntentResponse::default()
        };
        answer(response, GERMAN)
    };
    let format = |encoding, hertz| {
        let rate = SampleRate::from_hz(hertz).expect("a rate");
        Some(AudioFormat { encoding, rate })
    };
    for (encoding, rate, expected) in [
        (5, 8_000, format(Encoding::Mulaw, 8_000)),
        (5, 0, format(Encoding::Mulaw, 8_000)),
        (6, 0, format(Encoding::Alaw, 8_000)),
        (1, 24_000, format(Encoding::Linear16, 24_000)),
        (1, 0, Some(GERMAN.asked)),
        (0, 8_000, Some(GERMAN.asked)),
    ] {
        let answer = said(encoding, rate);
        assert_eq!(answer.output_audio.format, expected, "{encoding} at {rate}");
        assert_eq!(answer.output_audio.bytes, "x");
        assert!(!answer.messages.contains(&Message::MixedAudio(Vec::new())));
    }
    for (encoding, rate) in [(2, 24_000), (3, 24_000), (99, 8000), (1, 1), (5, -1)] {
        let answer = said(encoding, rate);
        assert_eq!(
            answer.output_audio,
            Audio::default(),
            "{encoding} at {rate}"
        );
        let left = [
            Message::MixedAudio(Vec::new()),
            Message::Unsupported("output_audio_config"),
        ];
        assert_eq!(answer.messages, left);
    }
}

#[test]
fn every_message_has_its_word_and_those_without_use_are_named() {
    use response_message as sent;
    use response_message::Message as Sent;

    let metadata = strings([("queue", "sales".to_owned())]);
    for (from, expected) in [
        (
            Sent::Text(sent::Text {
                text: vec!["a".to_owned(), "b".to_owned()],
                allow_playback_interruption: true,
            }),
            text("a", true),
        ),
        (
            Sent::OutputAudioText(sent::OutputAudioText {
                source: Some(sent::output_audio_text::Source::Ssml(
                    "<speak>You &amp; <break time=\"1s\"/> me</speak>".to_owned(),
                )),
                allow_playback_interruption: false,
            }),
            text("You & me", false),
        ),
        (
            Sent::PlayAudio(sent::PlayAudio {
                audio_uri: "gs://b/o.wav".to_owned(),
                allow_playback_interruption: true,
            }),
            Message::PlayAudio {
                uri: "gs://b/o.wav".to_owned(),
                interruptible: true,
            },
        ),
        (
            Sent::MixedAudio(sent::MixedAudio {
                segments: vec![
                    mixed(Some(sent::mixed_audio::segment::Content::Audio(
                        Bytes::from_static(b"pcm"),
                    ))),
                    mixed(None),
                    mixed(Some(sent::mixed_audio::segment::Content::Uri(
                        "https://h/x".to_owned(),
                    ))),
                ],
            }),
            Message::MixedAudio(vec![
                MixedSegment {
                    content: MixedContent::Audio(Bytes::from_static(b"pcm")),
                    interruptible: true,
                },
                MixedSegment {
                    content: MixedContent::Uri("https://h/x".to_owned()),
                    interruptible: true,
                },
            ]),
        ),
        (
            Sent::Payload(metadata.clone()),
            Message::Payload(json!({ "queue": "sales" })),
        ),
        (
            Sent::LiveAgentHandoff(sent::LiveAgentHandoff {
                metadata: Some(metadata),
            }),
            Message::LiveAgentHandoff(json!({ "queue": "sales" })),
        ),
        (
            Sent::ConversationSuccess(sent::ConversationSuccess { metadata: None }),
            Message::ConversationSuccess(json!({})),
        ),
        (
            Sent::TelephonyTransferCall(sent::TelephonyTransferCall {
                endpoint: Some(sent::telephony_transfer_call::Endpoint::PhoneNumber(
                    "+4930123".to_owned(),
                )),
            }),
            Message::TransferCall("+4930123".to_owned()),
        ),
        (
            Sent::TelephonyTransferCall(sent::TelephonyTransferCall { endpoint: None }),
            Message::Unsupported("telephony_transfer_call"),
        ),
        (
            Sent::EndInteraction(sent::EndInteraction {}),
            Message::EndInteraction,
        ),
        (
            Sent::KnowledgeInfoCard(sent::KnowledgeInfoCard {}),
            Message::Unsupported("knowledge_info_card"),
        ),
        (
            Sent::ToolCall(v3::ToolCall {
                tool: "t".to_owned(),
                action: "a".to_owned(),
                input_parameters: Some(strings([("city", "Ulm".to_owned())])),
            }),
            Message::ToolCall(ToolCall {
                tool: "t".to_owned(),
                action: "a".to_owned(),
                parameters: json!({ "city": "Ulm" }),
            }),
        ),
    ] {
        let converted = message(v3::ResponseMessage {
            message: Some(from),
            ..v3::ResponseMessage::default()
        });
        assert_eq!(converted, expected);
    }
    assert_eq!(
        message(v3::ResponseMessage::default()),
        Message::Unsupported("unknown")
    );
}

#[test]
fn json_keeps_whole_numbers_whole_and_ends_at_its_depth() {
    assert_eq!(json_number(7.0), json!(7));
    assert_eq!(json_number(-0.5), json!(-0.5));
    assert_eq!(json_number(f64::NAN), Value::Null);
    assert_eq!(json_number(1e300), json!(1e300));

    let mut deep = Kind::BoolValue(true);
    for _ in 0..1000 {
        deep = Kind::ListValue(prost_types::ListValue {
            values: vec![value(deep)],
        });
    }
    let mut levels = 0;
    let mut found = &json_of(deep, MAX_JSON_DEPTH);
    while let Some(inner) = found.get(0) {
        levels += 1;
        found = inner;
    }
    assert_eq!((levels, found), (MAX_JSON_DEPTH, &Value::Null));
}

#[test]
fn a_servers_status_keeps_its_kind_and_a_broken_connection_is_unavailable() {
    let status = Status::internal("their fault");
    assert_eq!(fault(&status).kind, FaultKind::Internal);
    assert_eq!(fault(&status).message, "their fault");
    assert_eq!(fault(&Status::unknown("?")).kind, FaultKind::Other);
    assert_eq!(
        fault(&Status::out_of_range("too long")).kind,
        FaultKind::OutOfRange
    );
    let broken = Status::from_error(Box::new(std::io::Error::from(
        std::io::ErrorKind::BrokenPipe,
    )));
    assert_eq!(broken.code(), Code::Unknown);
    assert_eq!(fault(&broken).kind, FaultKind::Unavailable);
}

fn conversation() -> Conversation {
    let start = SessionStart {
        id: "s".to_owned(),
        caller: "+15551234567".to_owned(),
        dialled: "1000".to_owned(),
        ingress: "sip",
        parameters: [("tier".to_owned(), "gold".to_owned())].into(),
        output: AudioFormat {
            encoding: Encoding::Linear16,
            rate: SampleRate::HZ_16000,
        },
    };
    Conversation::new(
        "projects/p/locations/l/agents/a",
        "de-DE",
        "telephony",
        "",
        start,
    )
}

fn turn(input: TurnInput) -> OpenTurn {
    OpenTurn {
        stream: StreamId(1),
        input,
        parameters: BTreeMap::new(),
        model: None,
    }
}

fn speech(prompt_ms: u64) -> TurnInput {
    TurnInput::Speech {
        format: AudioFormat {
            encoding: Encoding::Mulaw,
            rate: SampleRate::HZ_8000,
        },
        barge_in: BargeInWindow {
            no_barge_in: Duration::from_millis(prompt_ms.min(250)),
            total: Duration::from_millis(prompt_ms),
        },
    }
}

fn text(text: &str, interruptible: bool) -> Message {
    Message::Text {
        text: text.to_owned(),
        interruptible,
    }
}

fn mixed(
    content: Option<response_message::mixed_audio::segment::Content>,
) -> response_message::mixed_audio::Segment {
    response_message::mixed_audio::Segment {
        content,
        allow_playback_interruption: true,
    }
}
