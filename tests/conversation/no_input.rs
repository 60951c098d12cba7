//! Callers who say nothing.

use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::AgentSettings;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::MatchKind;
use tandem::engine::call::notice::SegmentOutcome;

use crate::agent::AGENT_HZ;
use crate::agent::says;
use crate::agent::silent;
use crate::conversation::Conversation;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::event;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::conversation::transfer;
use crate::ingress::Ingress;

behaviours! {
    /// facts §6.4, design §4.8
    silence_is_counted_from_the_end_of_the_prompt,
    /// facts §6.4, facts §7.5
    the_agents_own_time_is_obeyed,
    /// facts §6.4
    a_caller_who_has_just_begun_to_speak_is_not_silent,
    /// facts §6.4
    an_agent_with_nothing_to_say_about_silence_gets_the_event_once,
    /// facts §6.4
    an_agent_with_words_about_silence_gets_no_event,
    /// facts §6.4
    the_event_may_be_switched_off,
    /// facts §6.4, design §4.8
    too_many_silent_turns_in_a_row_end_the_call_after_the_last_prompt,
    /// facts §6.4, design §4.8
    too_many_silent_turns_may_hand_the_caller_to_a_person,
    /// facts §6.4
    words_begin_the_count_anew,
    /// facts §6.4, facts §9
    a_recogniser_that_gives_up_is_not_a_silent_caller,
    /// facts §6.4, design §4.1
    a_caller_whose_words_are_still_to_be_sent_is_not_silent,
    /// facts §6.4
    a_caller_who_speaks_at_the_last_moment_is_not_let_go,
    /// facts §6.4, facts §9
    silence_counts_though_its_event_was_sent_twice,
}

fn silence_is_counted_from_the_end_of_the_prompt(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("Welcome", 4.0));
    call.run(secs(4.0) + secs(5.0));
    assert_none(&call.half_closed());
    call.run(secs(1.0));
    assert_eq!(call.half_closed(), [call.stream()]);
    assert_none(&call.cancelled());
}

fn the_agents_own_time_is_obeyed(kind: Ingress) {
    let patient = AgentSettings {
        no_speech_timeout: Some(secs(9.0)),
        ..AgentSettings::default()
    };
    let mut call = Conversation::greeted(kind, says("Welcome", 1.0).settings(patient));
    call.run(secs(10.0));
    assert_none(&call.half_closed());
    call.run(secs(1.0));
    assert_eq!(call.half_closed().len(), 1);
}

fn a_caller_who_has_just_begun_to_speak_is_not_silent(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.run(secs(4.5));
    let phrase = call.speak(secs(1.8));
    assert_none(&call.half_closed());
    call.interim("book a table");
    call.run(secs(1.0));
    assert_none(&call.half_closed());
    call.assert_heard(call.stream(), &phrase);
}

fn an_agent_with_nothing_to_say_about_silence_gets_the_event_once(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.run(secs(6.5));
    assert_eq!(call.half_closed().len(), 1);
    call.answer(silent());
    call.run(ms(100));
    assert_eq!(call.inputs(), [event("sys.no-input-default")]);
    call.answer(silent());
    call.run(ms(200));
    assert!(call.is_listening());
    assert_eq!(call.inputs_but_speech().len(), 1, "once for this silence");
    call.run(secs(6.5));
    call.answer(silent());
    call.run(ms(100));
    assert_eq!(
        call.inputs_but_speech().len(),
        2,
        "the next silence is another"
    );
}

fn an_agent_with_words_about_silence_gets_no_event(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.run(secs(6.5));
    call.answer(says("Are you there?", 0.5).matched(MatchKind::NoInput));
    call.run(secs(1.0));
    assert_none(&call.inputs_but_speech());
    assert!(call.is_listening());
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
}

fn the_event_may_be_switched_off(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| settings.no_input.event = None);
    call.run(secs(6.5));
    call.answer(silent());
    call.run(ms(200));
    assert_none(&call.inputs_but_speech());
    assert!(call.is_listening());
}

/// A caller who has been silent so many times; the last answer is being heard.
fn silent_turns(call: &mut Conversation, count: usize) {
    for turn in 0..count {
        call.run_until(secs(8.0), |call| call.half_closed().len() == turn + 1);
        call.run(ms(200));
        call.answer(says("Are you there?", 1.0).matched(MatchKind::NoInput));
        call.run(ms(900));
    }
}

fn too_many_silent_turns_in_a_row_end_the_call_after_the_last_prompt(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    silent_turns(&mut call, 3);
    assert_eq!(call.ended(), None);
    call.run(ms(500));
    assert_eq!(call.ended(), Some(EndReason::NoInput));
    // The greeting and three prompts.
    assert_about(call.ear().loud(AGENT_HZ), ms(3_300), ms(80));
}

fn too_many_silent_turns_may_hand_the_caller_to_a_person(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.no_input.limit = 2;
        settings.no_input.transfers = true;
        settings.hand_off_to = Some("sip:people@pbx".into());
    });
    silent_turns(&mut call, 2);
    assert_eq!((call.transfers().len(), call.ended()), (0, None));
    call.run(ms(500));
    if kind == Ingress::Sip {
        assert_eq!(call.transfers(), [transfer("sip:people@pbx")]);
    } else {
        assert_eq!(call.ended(), Some(EndReason::Transferred));
    }
}

fn words_begin_the_count_anew(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    silent_turns(&mut call, 2);
    call.run(secs(1.0));
    call.understands("I am here");
    call.answer(says("Good", 0.5));
    call.run(secs(1.0));
    call.forget();
    silent_turns(&mut call, 2);
    call.run(secs(1.0));
    assert_eq!(call.ended(), None);
}

fn a_recogniser_that_gives_up_is_not_a_silent_caller(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| settings.no_input.limit = 1);
    call.run(secs(2.0));
    call.fail(FaultKind::OutOfRange);
    call.run(ms(500));
    assert!(call.is_listening());
    assert_eq!(call.ended(), None);
    assert_none(&call.inputs_but_speech());
}

fn a_caller_whose_words_are_still_to_be_sent_is_not_silent(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.no_input.timeout = secs(2.0);
    });
    call.speak(ms(800));
    call.understands("book a table");
    call.run(ms(500));
    call.forget();
    // A cough, which the next stream gets, and all the silence after it.
    call.speak(ms(400));
    call.run(secs(8.0));
    call.answer(says("For how many?", 1.0));
    call.run(secs(2.0));
    let phrase = call.speak(ms(600));
    call.run(secs(3.0));
    assert_none(&call.half_closed());
    call.run(secs(5.0));
    assert_eq!(call.half_closed(), [call.stream()]);
    call.assert_heard(call.stream(), &phrase);
}

fn a_caller_who_speaks_at_the_last_moment_is_not_let_go(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    silent_turns(&mut call, 2);
    call.run_until(secs(8.0), |call| call.half_closed().len() == 3);
    let phrase = call.speak(ms(800));
    call.answer(says("Goodbye", 1.0).matched(MatchKind::NoInput));
    call.run(secs(2.5));
    assert_eq!(call.ended(), None);
    call.assert_heard(call.stream(), &phrase);
    // It was a noise.
    call.forget();
    silent_turns(&mut call, 1);
    call.run(ms(500));
    assert_eq!(call.ended(), Some(EndReason::NoInput));
}

fn silence_counts_though_its_event_was_sent_twice(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| settings.no_input.limit = 1);
    call.run(secs(6.5));
    call.answer(silent());
    call.run(ms(100));
    call.fail(FaultKind::Unavailable);
    call.run(ms(300));
    let asked = event("sys.no-input-default");
    assert_eq!(call.inputs(), [asked.clone(), asked]);
    call.answer(says("Goodbye", 0.5));
    call.run(secs(1.0));
    assert_eq!(call.ended(), Some(EndReason::NoInput));
}
