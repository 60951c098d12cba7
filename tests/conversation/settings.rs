//! What the agent's page asks of the gateway, read with every final answer.

use tandem::engine::call::event::AgentSettings;
use tandem::engine::call::event::DtmfSettings;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Notice;

use crate::agent::says;
use crate::conversation::Conversation;
use crate::conversation::assert_none;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// facts §7.5
    the_pages_recogniser_model_goes_with_the_turns_that_follow,
    /// facts §7.5, facts §6.4
    a_page_without_a_silence_time_of_its_own_has_ours_again,
    /// facts §5.1
    digit_settings_go_with_the_page_that_had_them,
    /// facts §7.5
    whether_words_may_be_kept_is_told_when_it_changes,
    /// facts §7.5
    what_is_not_supported_is_told_once_per_call,
}

/// Another turn, whose answer has these settings, heard to its end.
fn turn(call: &mut Conversation, settings: AgentSettings) {
    call.understands("go on");
    call.answer(says("Yes", 0.3).settings(settings));
    call.run(ms(600));
}

fn model(name: &str) -> AgentSettings {
    AgentSettings {
        model: Some(name.to_owned()),
        ..AgentSettings::default()
    }
}

fn the_pages_recogniser_model_goes_with_the_turns_that_follow(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    turn(&mut call, model("telephony_short"));
    turn(&mut call, model("telephony"));
    turn(&mut call, AgentSettings::default());
    let models: Vec<_> = call.turns().into_iter().map(|turn| turn.model).collect();
    let expected = [
        Some("telephony_short".to_owned()),
        Some("telephony".to_owned()),
        None,
    ];
    assert_eq!(models, expected);
}

fn a_page_without_a_silence_time_of_its_own_has_ours_again(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let patient = AgentSettings {
        no_speech_timeout: Some(secs(20.0)),
        ..AgentSettings::default()
    };
    turn(&mut call, patient);
    call.forget();
    call.run(secs(10.0));
    assert_none(&call.half_closed());
    turn(&mut call, AgentSettings::default());
    call.forget();
    call.run(secs(6.0));
    assert_eq!(call.half_closed().len(), 1);
}

fn digit_settings_go_with_the_page_that_had_them(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let one_key = AgentSettings {
        dtmf: Some(DtmfSettings {
            max_digits: Some(1),
            ..DtmfSettings::default()
        }),
        ..AgentSettings::default()
    };
    turn(&mut call, one_key);
    turn(&mut call, AgentSettings::default());
    call.forget();
    call.press('1');
    call.press('2');
    assert_none(&call.inputs());
    call.press('#');
    let [TurnInput::Dtmf { digits, .. }] = &call.inputs()[..] else {
        panic!("{:?}", call.inputs())
    };
    assert_eq!(digits, "12");
}

fn whether_words_may_be_kept_is_told_when_it_changes(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let kept = |keeps_transcripts| AgentSettings {
        keeps_transcripts,
        ..AgentSettings::default()
    };
    for keeps in [Some(false), Some(false), Some(true)] {
        turn(&mut call, kept(keeps));
    }
    let told: Vec<bool> = call
        .notices()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::Transcripts { kept } => Some(kept),
            _ => None,
        })
        .collect();
    assert_eq!(told, [false, true]);
}

fn what_is_not_supported_is_told_once_per_call(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let asking = |unsupported: &[&'static str]| AgentSettings {
        unsupported: unsupported.to_vec(),
        ..AgentSettings::default()
    };
    turn(&mut call, asking(&["endpointer_sensitivity"]));
    turn(
        &mut call,
        asking(&["endpointer_sensitivity", "use_timeout_based_endpointing"]),
    );
    turn(&mut call, asking(&["use_timeout_based_endpointing"]));
    let told: Vec<String> = call
        .notices()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::Unsupported { message } => Some(message),
            _ => None,
        })
        .collect();
    let [first, second] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(first.ends_with("endpointer_sensitivity"), "{first}");
    assert!(
        second.ends_with("use_timeout_based_endpointing"),
        "{second}"
    );
}
