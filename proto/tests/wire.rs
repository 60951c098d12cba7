//! Messages against bytes worked out by hand from the protocol buffer encoding: a key is number × 8 + wire type, with
//! wire type 0 for a varint and 2 for anything with a length.
//!
//! Fields may be written in any order. prost writes by number, but a oneof as a whole where its lowest number belongs.

use bytes::Bytes;
use prost::Message;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3beta1;

#[test]
fn a_digit_turn_is_session_and_query_input_with_language_and_dtmf() {
    let request = v3::StreamingDetectIntentRequest {
        session: "s".into(),
        query_input: Some(v3::QueryInput {
            language_code: "en".into(),
            input: Some(v3::query_input::Input::Dtmf(v3::DtmfInput {
                digits: "42".into(),
                finish_digit: "#".into(),
            })),
        }),
        ..Default::default()
    };
    #[rustfmt::skip]
    let expected = [
        0x0a, 1, b's',                // session = 1
        0x1a, 13,                     // query_input = 3
            0x3a, 7,                  //   dtmf = 7
                0x0a, 2, b'4', b'2',  //     digits = 1
                0x12, 1, b'#',        //     finish_digit = 2
            0x22, 2, b'e', b'n',      //   language_code = 4
    ];
    assert_eq!(request.encode_to_vec(), expected);
}

#[test]
fn later_messages_of_a_stream_carry_nothing_but_audio() {
    let request = v3::StreamingDetectIntentRequest {
        query_input: Some(v3::QueryInput {
            input: Some(v3::query_input::Input::Audio(v3::AudioInput {
                config: None,
                audio: Bytes::from_static(&[0xff, 0x7f]),
            })),
            ..Default::default()
        }),
        ..Default::default()
    };
    #[rustfmt::skip]
    let expected = [
        0x1a, 6,                      // query_input = 3
            0x2a, 4,                  //   audio = 5
                0x12, 2, 0xff, 0x7f,  //     audio = 2
    ];
    assert_eq!(request.encode_to_vec(), expected);
}

#[test]
fn barge_in_durations_sit_in_the_audio_config() {
    let config = v3::InputAudioConfig {
        audio_encoding: v3::AudioEncoding::Mulaw.into(),
        sample_rate_hertz: 8000,
        single_utterance: true,
        barge_in_config: Some(v3::BargeInConfig {
            no_barge_in_duration: None,
            total_duration: Some(prost_types::Duration {
                seconds: 3,
                nanos: 0,
            }),
        }),
        ..Default::default()
    };
    #[rustfmt::skip]
    let expected = [
        0x08, 3,              // audio_encoding = 1: MULAW
        0x10, 0xc0, 0x3e,     // sample_rate_hertz = 2: 8000 = 62 × 128 + 64
        0x40, 1,              // single_utterance = 8
        0x7a, 4,              // barge_in_config = 15
            0x12, 2,          //   total_duration = 2
                0x08, 3,      //     seconds = 1
    ];
    assert_eq!(config.encode_to_vec(), expected);
}

#[test]
fn a_final_answer_is_read_and_fields_left_out_of_the_subset_are_skipped() {
    #[rustfmt::skip]
    let received: &[u8] = &[
        0x12, 20,                             // detect_intent_response = 2
            0x12, 12,                         //   query_result = 2
                0x22, 2,                      //     response_messages = 4
                    0x5a, 0,                  //       end_interaction = 11, empty
                0xaa, 0x02, 2, 0x0a, 0,       //     trace_blocks = 37, which v3 here does not have
                0x80, 0x02, 1,                //     allow_answer_feedback = 32
            0x22, 2, 0xff, 0xff,              //   output_audio = 4
            0x30, 2,                          //   response_type = 6: FINAL
    ];

    let response = v3::StreamingDetectIntentResponse::decode(received).expect("valid bytes");

    let Some(v3::streaming_detect_intent_response::Response::DetectIntentResponse(answer)) =
        response.response
    else {
        panic!("an answer was sent: {response:?}");
    };
    assert_eq!(
        answer.response_type(),
        v3::detect_intent_response::ResponseType::Final
    );
    assert_eq!(answer.output_audio, Bytes::from_static(&[0xff, 0xff]));
    let result = answer.query_result.expect("a result was sent");
    assert!(result.allow_answer_feedback);
    let end =
        v3::response_message::Message::EndInteraction(v3::response_message::EndInteraction {});
    assert_eq!(result.response_messages.len(), 1);
    assert_eq!(result.response_messages[0].message, Some(end));
}

#[test]
fn an_enum_value_of_the_future_passes_through() {
    let found = v3::Match::decode(&[0x20, 77][..]).expect("valid bytes");
    assert_eq!(found.match_type, 77);
    assert_eq!(found.match_type(), v3::r#match::MatchType::Unspecified);
}

#[test]
fn both_versions_read_each_others_turns() {
    let request = v3::DetectIntentRequest {
        session: "s".into(),
        query_input: Some(v3::QueryInput {
            language_code: "en".into(),
            input: Some(v3::query_input::Input::Event(v3::EventInput {
                event: "WELCOME".into(),
            })),
        }),
        response_view: v3::DetectIntentResponseView::Basic.into(),
        ..Default::default()
    };
    let beta =
        v3beta1::DetectIntentRequest::decode(&request.encode_to_vec()[..]).expect("valid bytes");
    assert_eq!(
        beta.response_view(),
        v3beta1::DetectIntentResponseView::Basic
    );
    assert_eq!(beta.encode_to_vec(), request.encode_to_vec());
}
