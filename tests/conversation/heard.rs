//! What the caller heard, and what the agent is told of it.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;

use crate::agent::Piece;
use crate::agent::says;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::assert_about;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// design §4.6, facts §14
    the_next_turn_says_what_was_heard_of_a_cut_prompt,
    /// design §4.6, facts §14
    the_turn_after_that_takes_it_back,
    /// design §4.6
    of_a_prompt_that_was_heard_out_nothing_is_said,
    /// design §4.6
    the_hold_prompt_and_the_apology_are_no_prompts_of_the_agents,
    /// design §4.6
    the_agent_need_not_be_told,
    /// design §4.6, field notes 10
    what_was_heard_is_what_was_played_and_not_what_was_sent,
    /// design §4.5, design §4.6
    a_prompt_that_was_restored_and_then_cut_was_heard_as_far_as_it_came,
    /// design §4.6, facts §5.1
    digits_that_cut_a_prompt_say_what_was_heard,
    /// design §4.6, field notes 9
    what_comes_back_after_a_cut_counts_as_cut,
    /// design §4.6
    pieces_that_were_never_begun_are_dropped,
    /// design §4.6, field notes 9
    a_far_end_that_confirms_nothing_leaves_the_outcome_open_and_holds_nobody,
}

const PROMPT: &str = "You have four appointments this week and the first of them is on Monday";

/// A prompt of eight seconds that was cut after two, and the turn that follows.
fn interrupted(kind: Ingress) -> Conversation {
    let mut call = Conversation::greeted(kind, says(PROMPT, 8.0));
    call.run(secs(2.0));
    call.begin_to_speak(ms(800));
    call.run(ms(100));
    call.interim("cancel");
    call.run(ms(900));
    call.understands("cancel the first one");
    call.forget();
    call.answer(says("Cancelled", 0.5));
    call.run(secs(1.0));
    call
}

fn parameters(call: &Conversation) -> BTreeMap<&'static str, Value> {
    call.turns().pop().expect("a turn").parameters
}

fn the_next_turn_says_what_was_heard_of_a_cut_prompt(kind: Ingress) {
    let call = interrupted(kind);
    let parameters = parameters(&call);
    let at = parameters.get("cut_at_ms").and_then(Value::as_u64);
    assert_about(ms(at.expect("a number")), ms(2_100), ms(60));
    let text = parameters.get("heard_text").and_then(Value::as_str);
    let text = text.expect("words");
    assert!(
        !text.is_empty() && text.len() < PROMPT.len() / 2,
        "{text:?}"
    );
    assert!(
        PROMPT.starts_with(text.trim_end_matches(['…', ' '])),
        "{text:?}"
    );
}

fn the_turn_after_that_takes_it_back(kind: Ingress) {
    let mut call = interrupted(kind);
    for expected in [Some(&Value::Null), None] {
        call.forget();
        call.run(secs(1.0));
        call.understands("thank you");
        call.answer(says("With pleasure", 0.5));
        call.run(secs(1.0));
        let parameters = parameters(&call);
        assert_eq!(parameters.get("cut_at_ms"), expected);
        assert_eq!(parameters.get("heard_text"), expected);
    }
}

fn of_a_prompt_that_was_heard_out_nothing_is_said(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    for _ in 0..2 {
        call.understands("hello");
        call.answer(says(PROMPT, 0.5));
        call.run(secs(1.0));
    }
    assert!(call.turns().iter().all(|turn| turn.parameters.is_empty()));
}

fn the_hold_prompt_and_the_apology_are_no_prompts_of_the_agents(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says(PROMPT, 2.0));
    call.run(secs(3.0));
    call.speak(ms(800));
    call.understands("book a table");
    call.run_until(secs(6.0), |call| call.told(&Notice::Hold) == 1);
    call.run(ms(100));
    call.press('1');
    call.press('#');
    assert_eq!(call.barge_ins(), 0, "the hold prompt only passes the time");
    call.fail(FaultKind::DeadlineExceeded);
    call.run(ms(100));
    call.fail(FaultKind::DeadlineExceeded);
    call.run(ms(200));
    call.begin_to_speak(ms(800));
    call.interim("a table");
    for turn in call.turns() {
        assert_eq!(turn.parameters, BTreeMap::new());
    }
}

fn the_agent_need_not_be_told(kind: Ingress) {
    let mut call = Conversation::greeted_with(kind, says(PROMPT, 8.0), |settings| {
        settings.reports_heard = false;
    });
    call.run(secs(2.0));
    call.interim("cancel");
    call.understands("cancel");
    call.answer(says("Cancelled", 0.5));
    call.run(secs(1.0));
    assert_eq!(call.turns().len(), 2);
    assert!(call.turns().iter().all(|turn| turn.parameters.is_empty()));
}

fn what_was_heard_is_what_was_played_and_not_what_was_sent(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says(PROMPT, 8.0));
    let began = call.age();
    call.run(ms(1_500));
    call.interim("stop");
    let heard = call.notices().into_iter().find_map(|notice| match notice {
        Notice::BargeIn { heard_ms } => Some(ms(heard_ms)),
        _ => None,
    });
    let by_ear = call.ear().loud(crate::agent::AGENT_HZ);
    assert_about(heard.expect("told"), by_ear, ms(40));
    assert_about(by_ear, call.age() - began, ms(40));
}

fn a_prompt_that_was_restored_and_then_cut_was_heard_as_far_as_it_came(kind: Ingress) {
    let steps: Vec<f64> = (3..18).map(|step| f64::from(step) * 200.0).collect();
    let prompt = says(PROMPT, 0.0).tones(&steps, 0.5);
    let mut call = Conversation::greeted(kind, prompt);
    call.run(secs(1.0));
    call.speak(ms(350));
    call.run_until(secs(4.0), |call| call.told(&Notice::Restored) == 1);
    call.run(secs(2.2));
    call.interim("stop");
    let heard = call.all(|did| match did {
        Did::Told(Notice::BargeIn { heard_ms }) => Some(ms(*heard_ms)),
        _ => None,
    });
    let ear = call.ear();
    let begun = steps.iter().filter(|hz| ear.loud(**hz) >= ms(40)).count() as u32;
    let last = ear.loud(steps[begun as usize - 1]);
    let expected = ms(500) * (begun - 1) + last.min(ms(500));
    assert!(expected < secs(4.0), "{expected:?}: the duck cost time");
    assert_about(heard[0], expected, ms(120));
}

fn digits_that_cut_a_prompt_say_what_was_heard(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says(PROMPT, 8.0));
    call.run(secs(2.0));
    call.press('1');
    call.press('#');
    call.run(ms(20));
    let turn = call.turns().pop().expect("a turn");
    assert!(
        matches!(turn.input, TurnInput::Dtmf { .. }),
        "{:?}",
        turn.input
    );
    let at = turn.parameters.get("cut_at_ms").and_then(Value::as_u64);
    assert_about(ms(at.expect("a number")), secs(2.0), ms(60));
}

fn what_comes_back_after_a_cut_counts_as_cut(kind: Ingress) {
    let goodbye = says("Goodbye, and thank you for calling", 4.0);
    let mut call = Conversation::greeted(kind, goodbye);
    // Twilio has the whole of a short prompt before it is heard, and returns its mark because of `clear`.
    call.run(ms(3_900));
    call.interim("wait");
    call.run(secs(1.0));
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Cut],
        "one outcome, and no other"
    );
    assert_eq!(call.ended(), None);
}

fn pieces_that_were_never_begun_are_dropped(kind: Ingress) {
    let greeting = says("Two parts", 0.0).mixed(vec![
        Piece::Tone(600.0, 3.0).interruptible(),
        Piece::Tone(1_000.0, 3.0),
    ]);
    let mut call = Conversation::greeted(kind, greeting);
    call.run(secs(1.0));
    call.interim("yes");
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Cut, SegmentOutcome::Dropped]
    );
    call.run(secs(4.0));
    assert_eq!(call.ear().begins(1_000.0), None);
}

fn a_far_end_that_confirms_nothing_leaves_the_outcome_open_and_holds_nobody(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.far_end().returns_marks = false;
    call.understands("bye");
    call.answer(says("Goodbye", 1.0).with(Message::EndInteraction));
    call.run(secs(7.0));
    let outcome = if kind == Ingress::Twilio {
        SegmentOutcome::Unknown
    } else {
        SegmentOutcome::Played
    };
    assert_eq!(call.outcomes(), [outcome]);
    assert_eq!(call.ended(), Some(EndReason::AgentEnded));
    let told = call.notices().into_iter().any(|notice| {
        serde_json::to_value(&notice).is_ok_and(|told| told["type"] == json!("playback"))
    });
    assert!(told, "watchers are told");
}
