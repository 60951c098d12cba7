//! PARTIAL responses: what the agent says while it is still at work.

use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::Cancellation;
use tandem::engine::call::event::Message;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;

use crate::agent::Reply;
use crate::agent::says;
use crate::agent::silent;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// facts §3.2, design §4.4
    partials_play_at_once_and_in_order_before_the_final_answer,
    /// facts §3.1
    there_may_be_any_number_of_partials,
    /// facts §3.2, design §4.4
    neither_words_nor_voice_cut_a_partial,
    /// facts §3.2, design §4.4
    a_partial_that_may_be_cancelled_is_cut_by_the_next_response,
    /// facts §3.2
    a_partial_that_may_not_be_cancelled_is_heard_out_first,
    /// facts §3.2, design §4.4
    of_several_partials_only_those_that_may_be_cancelled_are_cut,
    /// design §4.4
    a_setting_lets_voice_cut_partials,
    /// facts §3.2
    a_partial_without_sound_is_obeyed_like_any_other,
    /// facts §3.2, design §4.1
    what_is_said_over_a_partial_is_heard_in_the_next_turn,
    /// facts §3.1, design §4.2
    nobody_listens_before_the_final_answer,
    /// facts §13
    a_hand_off_in_a_partial_waits_for_the_whole_turn,
    /// facts §3.2, design §4.1
    what_is_said_over_a_partial_of_the_greeting_is_heard_too,
}

fn partial(hz: f64, seconds: f64, cancellation: Cancellation) -> Reply {
    says("One moment", seconds).hz(hz).partial(cancellation)
}

/// A call whose agent is at work.
fn waiting(kind: Ingress) -> Conversation {
    waiting_with(Conversation::listening(kind))
}

fn waiting_with(mut call: Conversation) -> Conversation {
    call.understands("book a table");
    call.forget();
    call
}

fn partials_play_at_once_and_in_order_before_the_final_answer(kind: Ingress) {
    let mut call = waiting(kind);
    call.answer(partial(600.0, 1.0, Cancellation::Forbidden));
    call.run(ms(300));
    assert!(call.ear().begins(600.0).is_some(), "it is heard at once");
    call.answer(partial(1_000.0, 1.0, Cancellation::Forbidden));
    call.answer(says("Done", 1.0).hz(1_400.0));
    call.run(secs(4.0));
    let ear = call.ear();
    for hz in [600.0, 1_000.0, 1_400.0] {
        assert_about(ear.loud(hz), secs(1.0), ms(40));
    }
    assert!(ear.ends(600.0) <= ear.begins(1_000.0) && ear.ends(1_000.0) <= ear.begins(1_400.0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played; 3]);
}

fn there_may_be_any_number_of_partials(kind: Ingress) {
    let mut call = waiting(kind);
    for _ in 0..149 {
        call.answer(partial(600.0, 0.1, Cancellation::Forbidden));
    }
    call.answer(says("Done", 0.2));
    call.run(secs(17.0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played; 150]);
    assert!(call.is_listening());
}

fn neither_words_nor_voice_cut_a_partial(kind: Ingress) {
    let mut call = waiting(kind);
    call.answer(partial(600.0, 3.0, Cancellation::Allowed));
    call.run(ms(500));
    call.begin_to_speak(secs(2.0));
    call.interim("hurry up");
    call.run(secs(3.0));
    assert_eq!((call.barge_ins(), call.told(&Notice::Ducked)), (0, 0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert_about(call.ear().loud(600.0), secs(3.0), ms(40));
}

fn a_partial_that_may_be_cancelled_is_cut_by_the_next_response(kind: Ingress) {
    let mut call = waiting(kind);
    call.answer(partial(600.0, 5.0, Cancellation::Allowed));
    call.run(secs(1.0));
    call.answer(says("Done", 1.0).hz(1_400.0));
    let cut = call.age();
    call.run(secs(2.0));
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Cut, SegmentOutcome::Played]
    );
    assert!(call.ear().ends(600.0).expect("heard") <= cut + ms(20));
    assert_about(call.ear().loud(1_400.0), secs(1.0), ms(40));
    assert_eq!(call.barge_ins(), 0, "the caller did nothing");
}

fn a_partial_that_may_not_be_cancelled_is_heard_out_first(kind: Ingress) {
    let mut call = waiting(kind);
    call.answer(partial(600.0, 2.0, Cancellation::Forbidden));
    call.run(ms(500));
    call.answer(says("Done", 1.0).hz(1_400.0));
    call.run(secs(3.5));
    assert_eq!(call.count(|did| *did == Did::Cleared), 0);
    assert_about(call.ear().loud(600.0), secs(2.0), ms(40));
    assert!(call.ear().ends(600.0) <= call.ear().begins(1_400.0));
}

fn of_several_partials_only_those_that_may_be_cancelled_are_cut(kind: Ingress) {
    let mut call = waiting(kind);
    call.answer(partial(600.0, 1.5, Cancellation::Forbidden));
    call.run(ms(500));
    call.answer(partial(1_000.0, 3.0, Cancellation::Allowed));
    call.run(ms(300));
    call.answer(says("Done", 1.0).hz(1_400.0));
    call.run(secs(4.0));
    assert_about(call.ear().loud(600.0), ms(1_500), ms(40));
    assert!(call.ear().loud(1_000.0) <= ms(20), "it had not even begun");
    assert_about(call.ear().loud(1_400.0), secs(1.0), ms(40));
}

fn a_setting_lets_voice_cut_partials(kind: Ingress) {
    let mut call = waiting_with(Conversation::listening_with(kind, |settings| {
        settings.barge_in.cuts_partials = true;
    }));
    call.answer(partial(600.0, 5.0, Cancellation::Forbidden));
    call.run(ms(500));
    let began = call.age();
    let phrase = call.begin_to_speak(secs(1.0));
    call.run(secs(1.2));
    let ends = call.ear().ends(600.0).expect("heard");
    assert!(
        ends >= began + ms(300) && ends <= began + ms(700),
        "{:?} after",
        ends - began
    );
    assert_eq!(call.outcomes(), [SegmentOutcome::Cut]);
    assert_none(&call.cancelled());
    call.answer(says("Done", 1.0));
    call.run(secs(2.0));
    call.assert_heard(call.stream(), &phrase);
}

fn a_partial_without_sound_is_obeyed_like_any_other(kind: Ingress) {
    let mut call = waiting(kind);
    let payload = serde_json::json!({"screen": "calendar"});
    let quiet = silent().partial(Cancellation::Allowed);
    call.answer(quiet.with(Message::Payload(payload.clone())));
    assert_eq!(call.told(&Notice::Payload { payload }), 1);
    call.answer(says("Done", 0.5));
    call.run(secs(1.0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
}

fn what_is_said_over_a_partial_is_heard_in_the_next_turn(kind: Ingress) {
    let mut call = waiting(kind);
    call.answer(partial(600.0, 3.0, Cancellation::Forbidden));
    call.run(ms(500));
    let phrase = call.speak(secs(1.0));
    call.run(ms(200));
    call.answer(says("Done", 2.0));
    call.run(secs(5.0));
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(call.unheard(), ms(0));
}

fn nobody_listens_before_the_final_answer(kind: Ingress) {
    let mut call = waiting(kind);
    call.answer(partial(600.0, 1.0, Cancellation::Forbidden));
    call.run(secs(2.5));
    assert_none(&call.turns());
    call.answer(says("Done", 1.0));
    call.run(ms(100));
    assert!(call.is_listening());
}

fn a_hand_off_in_a_partial_waits_for_the_whole_turn(kind: Ingress) {
    let mut call = waiting_with(Conversation::listening_with(kind, |settings| {
        settings.hand_off_to = Some("sip:people@pbx".into());
    }));
    let handing = partial(600.0, 0.5, Cancellation::Forbidden);
    call.answer(handing.with(Message::LiveAgentHandoff(serde_json::json!({}))));
    call.run(secs(1.5));
    assert_eq!((call.transfers().len(), call.ended()), (0, None));
    call.answer(says("I connect you", 1.0).hz(1_400.0));
    call.run(secs(2.0));
    assert_about(call.ear().loud(1_400.0), secs(1.0), ms(40));
    if kind == Ingress::Sip {
        assert_eq!(call.transfers().len(), 1);
    } else {
        assert_eq!(call.ended(), Some(EndReason::Transferred));
    }
}

fn what_is_said_over_a_partial_of_the_greeting_is_heard_too(kind: Ingress) {
    let mut call = Conversation::greeted(kind, partial(600.0, 4.0, Cancellation::Forbidden));
    call.run(secs(1.0));
    let phrase = call.speak(ms(800));
    call.run(secs(3.0));
    call.answer(says("How can I help?", 0.5));
    call.run(secs(2.0));
    assert!(call.is_listening());
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(call.unheard(), ms(0));
}
