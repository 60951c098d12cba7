//! Everything a response can ask for.

use serde_json::Value;
use serde_json::json;
use tandem::engine::call::event::Encoding;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::ToolCall;
use tandem::engine::call::event::ToolResult;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;
use tandem::engine::media::frame::SampleRate;

use crate::agent::AGENT_HZ;
use crate::agent::Piece;
use crate::agent::says;
use crate::agent::silent;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::TELEPHONE;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// facts §13
    what_is_said_in_words_is_told_to_watchers,
    /// facts §13
    mixed_audio_is_played_instead_of_the_speech,
    /// facts §7.2
    speech_sounds_right_in_every_encoding_and_rate,
    /// facts §7.2
    a_header_where_none_belongs_is_not_heard,
    /// facts §13
    a_payload_goes_to_watchers_as_it_is,
    /// facts §13
    success_of_the_conversation_is_told,
    /// facts §13
    messages_of_no_use_here_are_counted_and_change_nothing,
    /// facts §13
    a_tool_that_is_not_configured_is_answered_with_an_error,
    /// facts §13
    a_tool_that_is_configured_is_run_and_its_result_is_a_turn,
    /// facts §13
    a_tool_that_never_ends_is_answered_for_it,
    /// facts §13, design §4.2
    an_answer_that_says_nothing_is_followed_by_listening,
}

/// A call whose agent may answer now.
fn asked(kind: Ingress) -> Conversation {
    let mut call = Conversation::listening(kind);
    call.understands("hello");
    call.forget();
    call
}

fn what_is_said_in_words_is_told_to_watchers(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.interim("hel");
    call.final_words("hello");
    call.endpoint();
    call.answer(says("Good morning", 0.5));
    let partial = false;
    let text = "Good morning".to_owned();
    assert_eq!(call.told(&Notice::AgentText { text, partial }), 1);
    assert_eq!(call.told(&Notice::Interim { text: "hel".into() }), 1);
    assert_eq!(
        call.told(&Notice::Final {
            text: "hello".into()
        }),
        1
    );
}

fn mixed_audio_is_played_instead_of_the_speech(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(says("Both", 2.0).mixed(vec![Piece::Tone(600.0, 0.5), Piece::Tone(1_000.0, 0.5)]));
    call.run(secs(3.0));
    let ear = call.ear();
    assert_about(ear.loud(600.0), ms(500), ms(40));
    assert_about(ear.loud(1_000.0), ms(500), ms(40));
    assert!(ear.ends(600.0) <= ear.begins(1_000.0));
    // The greeting, which was said in the agent's usual tone.
    assert!(ear.ends(AGENT_HZ) < ear.begins(600.0));
}

fn speech_sounds_right_in_every_encoding_and_rate(kind: Ingress) {
    for (encoding, hz) in [
        (Encoding::Mulaw, 8_000),
        (Encoding::Alaw, 8_000),
        (Encoding::Linear16, 8_000),
        (Encoding::Linear16, 16_000),
        (Encoding::Linear16, 24_000),
        (Encoding::Linear16, 48_000),
    ] {
        let mut call = asked(kind);
        let mut format = call.format();
        format.encoding = encoding;
        format.rate = SampleRate::from_hz(hz).expect("a rate");
        call.answer_exactly(says("Hello", 1.0).hz(1_200.0).answer(format));
        call.run(secs(2.0));
        let ear = call.ear();
        assert_about(ear.loud(1_200.0), secs(1.0), ms(60));
        let lasted = ear.ends(1_200.0).expect("heard") - ear.begins(1_200.0).expect("heard");
        assert_about(lasted, secs(1.0), ms(60));
    }
}

fn a_header_where_none_belongs_is_not_heard(kind: Ingress) {
    let mut call = asked(kind);
    let mut wav =
        b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0\x07\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0\0\0data"
            .to_vec();
    wav.extend(4_000_u32.to_le_bytes());
    wav.extend([0xff; 4_000]);
    let mut answer = says("", 0.0).answer(call.format());
    answer.output_audio.bytes = wav.into();
    answer.output_audio.format.as_mut().expect("told").encoding = Encoding::Mulaw;
    answer.output_audio.format.as_mut().expect("told").rate = TELEPHONE;
    let before = call.age();
    call.answer_exactly(answer);
    call.run(secs(1.0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert_eq!(call.ear().sound(before, call.age()), ms(0));
}

fn a_payload_goes_to_watchers_as_it_is(kind: Ingress) {
    let mut call = asked(kind);
    let payload = json!({"screen": {"show": ["calendar", 1]}, "pause": "10s"});
    call.answer(says("Look", 0.5).with(Message::Payload(payload.clone())));
    assert_eq!(call.told(&Notice::Payload { payload }), 1);
    call.run(secs(1.0));
    assert_eq!(
        call.count(|did| matches!(did, Did::Told(Notice::CommandRefused { .. }))),
        0
    );
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Played],
        "it is no command of ours"
    );
}

fn success_of_the_conversation_is_told(kind: Ingress) {
    let mut call = asked(kind);
    let metadata = json!({"order": 17});
    call.answer(says("Done", 0.5).with(Message::ConversationSuccess(metadata.clone())));
    assert_eq!(call.told(&Notice::ConversationSuccess { metadata }), 1);
    call.run(secs(1.0));
    assert!(
        call.is_listening() && call.ended().is_none(),
        "it ends nothing"
    );
}

fn messages_of_no_use_here_are_counted_and_change_nothing(kind: Ingress) {
    let mut call = asked(kind);
    let card = Message::Unsupported("knowledge_info_card");
    call.answer(says("Here you are", 0.5).with(card));
    let message = "knowledge_info_card".to_owned();
    assert_eq!(call.told(&Notice::Unsupported { message }), 1);
    call.run(secs(1.0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert!(call.is_listening());
}

const TOOL: &str = "projects/p/locations/l/agents/a/tools/opening-hours";

fn tool_call() -> ToolCall {
    ToolCall {
        tool: TOOL.into(),
        action: "look_up".into(),
        parameters: json!({"day": "Monday"}),
    }
}

/// The result of the only turn that carries one.
fn tool_result(call: &Conversation) -> ToolResult {
    match &call.inputs_but_speech()[..] {
        [TurnInput::ToolResult(result)] => result.clone(),
        other => panic!("{other:?}"),
    }
}

fn a_tool_that_is_not_configured_is_answered_with_an_error(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(silent().with(Message::ToolCall(tool_call())));
    call.run(ms(100));
    let result = tool_result(&call);
    assert_eq!(
        (result.tool.as_str(), result.action.as_str()),
        (TOOL, "look_up")
    );
    assert!(result.outcome.is_err(), "the agent does not wait for ever");
    assert_eq!(call.count(|did| matches!(did, Did::RanTool(_))), 0);
    let told = call.count(
        |did| matches!(did, Did::Told(Notice::Tool { tool, error: Some(_) }) if tool == TOOL),
    );
    assert_eq!(told, 1);
}

/// A call whose agent may use the tool, and has asked for it.
fn with_tool(kind: Ingress) -> Conversation {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.tools = vec![TOOL.into()];
    });
    call.understands("when are you open?");
    call.forget();
    call.answer(silent().with(Message::ToolCall(tool_call())));
    assert_eq!(call.count(|did| *did == Did::RanTool(tool_call())), 1);
    call
}

fn a_tool_that_is_configured_is_run_and_its_result_is_a_turn(kind: Ingress) {
    let mut call = with_tool(kind);
    call.run(secs(1.0));
    assert_none(&call.inputs_but_speech());
    let result = ToolResult {
        tool: TOOL.into(),
        action: "look_up".into(),
        outcome: Ok(json!({"opens": 9})),
    };
    call.handle(Event::ToolEnded(result.clone()));
    call.run(ms(100));
    assert_eq!(tool_result(&call), result);
    call.answer(says("At nine", 0.5));
    call.run(secs(1.0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert!(call.is_listening());
}

fn a_tool_that_never_ends_is_answered_for_it(kind: Ingress) {
    let mut call = with_tool(kind);
    call.run(ms(9_900));
    assert_none(&call.inputs_but_speech());
    call.run(ms(300));
    assert!(tool_result(&call).outcome.is_err());
    let late = ToolResult {
        tool: TOOL.into(),
        action: "look_up".into(),
        outcome: Ok(Value::Null),
    };
    call.handle(Event::ToolEnded(late));
    call.run(ms(100));
    assert_eq!(call.inputs_but_speech().len(), 1, "it is answered once");
}

fn an_answer_that_says_nothing_is_followed_by_listening(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(silent());
    call.run(ms(50));
    assert!(call.is_listening());
    let phrase = call.speak(ms(800));
    call.run(ms(200));
    call.assert_heard(call.stream(), &phrase);
}
