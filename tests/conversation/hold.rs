//! What callers hear while they wait, and while they make us wait.

use tandem::engine::call::event::Cancellation;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;

use crate::agent::AGENT_HZ;
use crate::agent::says;
use crate::conversation::Conversation;
use crate::conversation::HOLD_HZ;
use crate::conversation::HOLD_PROMPT;
use crate::conversation::Phrase;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// design §4.10
    a_caller_who_waits_for_the_agent_hears_the_hold_prompt_after_three_seconds,
    /// design §4.10
    the_hold_prompt_is_repeated_and_nobody_hears_four_seconds_of_silence,
    /// design §4.10
    the_answer_cuts_the_hold_prompt,
    /// design §4.10
    a_caller_who_hears_a_partial_does_not_wait_yet,
    /// facts §9, design §4.10
    a_caller_hears_the_hold_prompt_while_a_turn_is_tried_again,
    /// facts §9, design §4.10
    many_quick_tries_are_no_reason_for_silence,
    /// design §4.10
    a_caller_who_is_listened_to_hears_no_hold_prompt,
    /// field notes 34
    while_the_callers_side_holds_the_call_nothing_is_played_or_sent,
    /// field notes 34
    after_the_hold_the_prompt_goes_on_and_the_caller_is_heard,
    /// facts §9, field notes 34
    what_was_said_before_the_hold_is_sent_again_if_its_answer_fails,
    /// facts §9, field notes 34
    what_was_said_before_the_hold_is_sent_again_if_its_answer_fails_during_it,
}

fn a_caller_who_waits_for_the_agent_hears_the_hold_prompt_after_three_seconds(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(500));
    call.understands("book a table");
    let asked = call.age();
    call.run(ms(2_900));
    assert_eq!(call.told(&Notice::Hold), 0);
    call.run(ms(800));
    assert_eq!(call.told(&Notice::Hold), 1);
    let begins = call.ear().begins(HOLD_HZ).expect("it is heard");
    assert_about(begins, asked + secs(3.0), ms(60));
    assert_about(call.ear().loud(HOLD_HZ), HOLD_PROMPT, ms(40));
}

fn the_hold_prompt_is_repeated_and_nobody_hears_four_seconds_of_silence(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.understands("book a table");
    let asked = call.age();
    call.run(secs(20.0));
    assert!(
        call.told(&Notice::Hold) >= 5,
        "{} times",
        call.told(&Notice::Hold)
    );
    let silence = call.ear().longest_silence(asked, call.age());
    assert!(silence <= secs(3.3), "{silence:?} of silence");
    call.answer(says("Done", 0.5));
    call.run(secs(1.0));
    assert!(call.is_listening());
}

fn the_answer_cuts_the_hold_prompt(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.understands("book a table");
    call.run_until(secs(4.0), |call| call.told(&Notice::Hold) == 1);
    call.run(ms(100));
    call.answer(says("Done", 1.0).hz(1_400.0));
    let answered = call.age();
    call.run(secs(2.0));
    assert!(call.ear().ends(HOLD_HZ).expect("heard") <= answered + ms(40));
    assert!(call.ear().loud(HOLD_HZ) < HOLD_PROMPT - ms(100));
    assert_about(call.ear().begins(1_400.0).expect("heard"), answered, ms(40));
    assert_about(call.ear().loud(1_400.0), secs(1.0), ms(40));
}

fn a_caller_who_hears_a_partial_does_not_wait_yet(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.understands("book a table");
    call.run(secs(1.0));
    call.answer(says("I am looking for one", 4.0).partial(Cancellation::Allowed));
    call.run(secs(6.5));
    assert_eq!(call.told(&Notice::Hold), 0);
    call.run(secs(1.0));
    assert_eq!(call.told(&Notice::Hold), 1, "three seconds after its end");
}

fn a_caller_hears_the_hold_prompt_while_a_turn_is_tried_again(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(500));
    call.understands("book a table");
    let asked = call.age();
    for _ in 0..3 {
        call.forget();
        call.fail(FaultKind::ResourceExhausted);
        call.run_until(secs(5.0), |call| !call.turns().is_empty());
    }
    let silence = call.ear().longest_silence(asked, call.age());
    assert!(silence <= secs(4.0), "{silence:?} of silence");
    assert!(call.ear().loud(HOLD_HZ) >= ms(300));
}

fn many_quick_tries_are_no_reason_for_silence(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(500));
    call.understands("book a table");
    let asked = call.age();
    while call.age() - asked < secs(8.0) {
        call.forget();
        call.fail(FaultKind::Unavailable);
        call.run_until(secs(5.0), |call| !call.turns().is_empty());
    }
    let silence = call.ear().longest_silence(asked, call.age());
    assert!(silence <= secs(4.0), "{silence:?} of silence");
}

fn a_caller_who_is_listened_to_hears_no_hold_prompt(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.no_input.timeout = secs(30.0);
    });
    call.run(secs(20.0));
    call.speak(secs(5.0));
    assert_eq!(call.told(&Notice::Hold), 0);
    assert_eq!(call.ear().begins(HOLD_HZ), None);
}

/// A call that its caller's side has put on hold in the middle of a prompt, a second ago.
fn held(kind: Ingress) -> Conversation {
    let mut call = Conversation::greeted(kind, says("Welcome", 2.0));
    call.run(secs(1.0));
    call.handle(Event::Held(true));
    // What is buffered at the far end is played out.
    call.run(secs(1.0));
    call
}

fn while_the_callers_side_holds_the_call_nothing_is_played_or_sent(kind: Ingress) {
    let mut call = held(kind);
    call.forget();
    let before = call.age();
    call.speak(secs(60.0));
    assert_eq!(call.ear().sound(before, call.age()), ms(0));
    assert_none(&call.turns());
    assert!(!call.is_listening());
    assert_eq!((call.told(&Notice::Hold), call.ended()), (0, None));
}

fn after_the_hold_the_prompt_goes_on_and_the_caller_is_heard(kind: Ingress) {
    let mut call = held(kind);
    call.run(secs(40.0));
    call.handle(Event::Held(false));
    call.run(ms(1_500));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert_about(call.ear().loud(AGENT_HZ), secs(2.0), ms(60));
    assert!(call.is_listening());
    let phrase = call.speak(secs(1.0));
    call.run(ms(300));
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(call.unheard(), ms(0));
}

fn what_was_said_before_the_hold_is_sent_again_if_its_answer_fails(kind: Ingress) {
    let (mut call, phrase) = held_while_waiting(kind);
    call.handle(Event::Held(false));
    call.run(secs(5.0));
    call.fail(FaultKind::Unavailable);
    call.run(secs(3.0));
    assert!(call.is_listening());
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(call.unheard(), ms(0));
}

fn what_was_said_before_the_hold_is_sent_again_if_its_answer_fails_during_it(kind: Ingress) {
    let (mut call, phrase) = held_while_waiting(kind);
    call.fail(FaultKind::Unavailable);
    call.run(secs(5.0));
    call.handle(Event::Held(false));
    call.run(secs(5.0));
    assert!(call.is_listening());
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(call.unheard(), ms(0));
}

/// A caller who puts us on hold while their words are answered. What is kept at least is over before they speak.
fn held_while_waiting(kind: Ingress) -> (Conversation, Phrase) {
    let mut call = Conversation::listening(kind);
    call.run(secs(5.0));
    let phrase = call.speak(secs(1.0));
    call.interim("two pizzas");
    call.handle(Event::Held(true));
    call.run(ms(1_500));
    (call, phrase)
}
