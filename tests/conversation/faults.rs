//! The table of facts §9: what a broken stream means, and what the caller notices of it.

use std::time::Duration;

use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::Cancellation;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Notice;

use crate::agent::AGENT_HZ;
use crate::agent::says;
use crate::conversation::APOLOGY_HZ;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::FALLBACK_HZ;
use crate::conversation::Phrase;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::event;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::conversation::transfer;
use crate::ingress::Ingress;

behaviours! {
    /// facts §9
    unavailable_is_tried_again_after_100_ms_and_then_a_little_later_each_time,
    /// facts §9
    resource_exhausted_is_tried_again_after_one_second_two_and_four,
    /// facts §9
    out_of_range_is_opened_again_at_once_and_twice_in_a_row_is_given_up,
    /// facts §9
    aborted_is_opened_again_at_once_and_twice_in_a_row_is_given_up,
    /// facts §9
    internal_is_tried_again_once,
    /// facts §9
    unauthenticated_is_tried_again_once,
    /// facts §9
    a_stream_that_closes_without_an_answer_is_tried_again_once,
    /// facts §9
    deadline_exceeded_is_an_apology_and_another_chance_to_speak,
    /// facts §9
    what_would_fail_again_goes_to_the_fallback_at_once,
    /// facts §9
    an_open_circuit_on_the_first_turn_goes_to_the_fallback_at_once,
    /// facts §9, design §4.10
    the_fallback_is_heard_out_and_then_the_caller_is_transferred,
    /// design §4.10
    without_a_fallback_transfer_the_call_ends_after_the_prompt,
    /// facts §9
    a_turn_that_fails_for_ten_seconds_is_given_up,
    /// facts §1, facts §9
    a_turn_that_was_answered_in_part_is_never_sent_again,
    /// facts §8.3, design §4.10
    an_utterance_is_sent_again_whole_after_a_fault,
    /// facts §8.3
    only_what_was_not_understood_is_sent_again,
    /// facts §2, design §4.10
    what_was_understood_before_a_fault_reaches_the_agent_with_the_rest,
    /// design §4.1, design §4.10
    what_a_slow_recogniser_has_not_understood_yet_is_not_given_up_with_its_stream,
    /// facts §9, design §4.10
    a_backend_that_is_back_after_a_second_answers_the_utterance,
    /// facts §9
    an_event_turn_that_failed_is_sent_again_as_it_was,
    /// facts §9
    an_answer_begins_the_count_of_failures_anew,
    /// facts §9
    a_silent_stream_that_lived_long_begins_the_count_of_failures_anew,
    /// facts §9
    faults_far_apart_lose_no_utterance_but_one_that_never_ends_is_given_up,
    /// facts §9
    a_stream_that_the_server_cancels_is_tried_again_once,
    /// facts §9
    calls_that_fail_together_do_not_come_back_together,
    /// facts §9, design §4.10
    an_agent_that_never_answers_is_given_up_and_the_caller_asked_again,
    /// facts §4, facts §9
    a_stream_that_breaks_under_a_prompt_is_opened_again_with_what_is_left_of_it,
    /// design §4.10, design §4.11
    a_refused_fallback_transfer_ends_the_call,
}

/// How long the call waited after each of so many faults of the same kind.
fn delays(call: &mut Conversation, kind: FaultKind, count: usize) -> Vec<Duration> {
    (0..count)
        .map(|_| {
            call.forget();
            let failed = call.age();
            call.fail(kind);
            call.run_until(secs(40.0), |call| !call.turns().is_empty());
            call.opened_at()[0] - failed
        })
        .collect()
}

fn fallbacks(call: &Conversation) -> usize {
    call.told(&Notice::Fallback)
}

fn unavailable_is_tried_again_after_100_ms_and_then_a_little_later_each_time(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let waited = delays(&mut call, FaultKind::Unavailable, 4);
    for (waited, expected) in waited.into_iter().zip([100, 130, 169, 220]) {
        assert_about(waited, ms(expected), ms(15));
    }
}

fn resource_exhausted_is_tried_again_after_one_second_two_and_four(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let waited = delays(&mut call, FaultKind::ResourceExhausted, 3);
    // Calls that fail together must not come back together.
    for (waited, expected) in waited.into_iter().zip([1.0, 2.0, 4.0]) {
        let range = secs(expected)..=secs(expected * 1.25) + ms(20);
        assert!(range.contains(&waited), "{waited:?} instead of {range:?}");
    }
}

fn opened_again_at_once_but_not_twice(kind: Ingress, fault: FaultKind) {
    let mut call = Conversation::listening(kind);
    let phrase = call.speak(ms(800));
    call.forget();
    call.fail(fault);
    call.run(ms(50));
    assert_eq!(call.turns().len(), 1, "at once");
    call.run(secs(2.0));
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(fallbacks(&call), 0);
    call.fail(fault);
    call.run(ms(50));
    assert_eq!((call.turns().len(), fallbacks(&call)), (1, 1));
}

fn out_of_range_is_opened_again_at_once_and_twice_in_a_row_is_given_up(kind: Ingress) {
    opened_again_at_once_but_not_twice(kind, FaultKind::OutOfRange);
}

fn aborted_is_opened_again_at_once_and_twice_in_a_row_is_given_up(kind: Ingress) {
    opened_again_at_once_but_not_twice(kind, FaultKind::Aborted);
}

/// `fail` breaks the newest stream.
fn tried_again_once(kind: Ingress, fail: impl Fn(&mut Conversation)) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(500));
    call.understands("hello");
    call.forget();
    fail(&mut call);
    call.run(secs(1.0));
    assert_eq!((call.turns().len(), fallbacks(&call)), (1, 0));
    fail(&mut call);
    call.run(secs(1.0));
    assert_eq!((call.turns().len(), fallbacks(&call)), (1, 1));
}

fn internal_is_tried_again_once(kind: Ingress) {
    tried_again_once(kind, |call| call.fail(FaultKind::Internal));
}

fn a_stream_that_the_server_cancels_is_tried_again_once(kind: Ingress) {
    tried_again_once(kind, |call| call.fail(FaultKind::Cancelled));
}

fn calls_that_fail_together_do_not_come_back_together(kind: Ingress) {
    let waited = [1, 2, 3].map(|seed| {
        let mut call = Conversation::listening_with(kind, |settings| settings.seed = seed);
        delays(&mut call, FaultKind::ResourceExhausted, 1)[0]
    });
    let mut apart = waited;
    apart.sort();
    assert!(apart[0] + ms(20) < apart[1], "{waited:?}");
    assert!(apart[1] + ms(20) < apart[2], "{waited:?}");
}

fn unauthenticated_is_tried_again_once(kind: Ingress) {
    tried_again_once(kind, |call| call.fail(FaultKind::Unauthenticated));
}

fn a_stream_that_closes_without_an_answer_is_tried_again_once(kind: Ingress) {
    tried_again_once(kind, |call| call.backend(BackendEvent::Closed(None)));
}

fn deadline_exceeded_is_an_apology_and_another_chance_to_speak(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let phrase = call.speak(ms(800));
    call.run(ms(300));
    call.understands("book a table");
    call.run(secs(1.0));
    call.forget();
    call.fail(FaultKind::DeadlineExceeded);
    call.run(secs(2.0));
    assert_about(call.ear().loud(APOLOGY_HZ), ms(500), ms(40));
    assert!(call.is_listening());
    assert_none(&call.inputs_but_speech());
    call.assert_not_heard(call.stream(), &phrase);
    assert_eq!((fallbacks(&call), call.ended()), (0, None));
}

fn what_would_fail_again_goes_to_the_fallback_at_once(kind: Ingress) {
    for fault in [
        FaultKind::InvalidArgument,
        FaultKind::NotFound,
        FaultKind::PermissionDenied,
        FaultKind::FailedPrecondition,
    ] {
        let mut call = Conversation::listening(kind);
        call.speak(ms(500));
        call.understands("hello");
        call.forget();
        call.fail(fault);
        call.run(secs(2.0));
        assert_none(&call.turns());
        assert_eq!(fallbacks(&call), 1, "{fault:?}");
        assert_about(call.ear().loud(FALLBACK_HZ), secs(1.0), ms(40));
        assert_eq!(call.ended(), Some(EndReason::BackendFailed));
    }
}

fn an_open_circuit_on_the_first_turn_goes_to_the_fallback_at_once(kind: Ingress) {
    let mut call = Conversation::new(kind);
    call.forget();
    call.fail(FaultKind::CircuitOpen);
    call.run(secs(2.0));
    assert_none(&call.turns());
    assert_eq!(fallbacks(&call), 1);
    // On a telephone the line is opened for it.
    assert_about(call.ear().loud(FALLBACK_HZ), secs(1.0), ms(40));
    assert_eq!(call.ended(), Some(EndReason::BackendFailed));
}

fn the_fallback_is_heard_out_and_then_the_caller_is_transferred(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.fallback.transfer = Some("sip:people@pbx".into());
    });
    call.fail(FaultKind::PermissionDenied);
    call.run(ms(900));
    assert_eq!((call.transfers().len(), call.ended()), (0, None));
    call.run(ms(400));
    assert_about(call.ear().loud(FALLBACK_HZ), secs(1.0), ms(40));
    if kind == Ingress::Sip {
        assert_eq!(
            (call.transfers(), call.ended()),
            (vec![transfer("sip:people@pbx")], None)
        );
    } else {
        assert_eq!(call.ended(), Some(EndReason::Transferred));
    }
    let told = call.count(|did| {
        matches!(did, Did::Told(Notice::Transfer { to: Some(to), .. }) if to == "sip:people@pbx")
    });
    assert_eq!(told, 1, "the ingress reads from it where to");
}

fn without_a_fallback_transfer_the_call_ends_after_the_prompt(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.fail(FaultKind::PermissionDenied);
    call.run(ms(900));
    assert_eq!(call.ended(), None);
    call.run(ms(400));
    assert_eq!(call.ended(), Some(EndReason::BackendFailed));
    assert_about(call.ear().loud(FALLBACK_HZ), secs(1.0), ms(40));
}

fn a_turn_that_fails_for_ten_seconds_is_given_up(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.forget();
    let began = call.age();
    call.fail(FaultKind::Unavailable);
    while fallbacks(&call) == 0 {
        assert!(call.age() - began < secs(20.0), "it never gives up");
        let turns = call.turns().len();
        call.run(ms(10));
        if call.turns().len() > turns {
            call.fail(FaultKind::Unavailable);
        }
    }
    let took = call.age() - began;
    assert!(took > secs(6.0) && took <= secs(10.1), "{took:?}");
    assert!(call.turns().len() >= 8, "{} tries", call.turns().len());
}

fn a_turn_that_was_answered_in_part_is_never_sent_again(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let phrase = call.speak(ms(800));
    call.run(ms(300));
    call.understands("book a table");
    call.answer(says("One moment", 1.0).partial(Cancellation::Forbidden));
    call.fail(FaultKind::Unavailable);
    call.run(secs(3.0));
    assert!(call.is_listening(), "the caller is listened to instead");
    assert_eq!(call.turns().len(), 1);
    call.assert_not_heard(call.stream(), &phrase);
    assert_eq!(call.ended(), None);
}

fn an_utterance_is_sent_again_whole_after_a_fault(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let first = call.speak(secs(1.0));
    call.fail(FaultKind::Unavailable);
    let second = call.speak(ms(500));
    call.run(secs(3.0));
    call.assert_heard(call.stream(), &first);
    call.assert_heard(call.stream(), &second);
    assert_eq!(call.unheard(), ms(0));
}

/// A caller who has said two sentences, of which the stream understood the first before it broke; the next is open.
fn half_understood(kind: Ingress) -> (Conversation, Phrase, Phrase) {
    let mut call = Conversation::listening(kind);
    let first = call.speak(secs(1.0));
    call.run(ms(600));
    call.final_words("first sentence");
    let second = call.speak(secs(1.0));
    call.forget();
    call.fail(FaultKind::OutOfRange);
    call.run(ms(1_200));
    (call, first, second)
}

fn only_what_was_not_understood_is_sent_again(kind: Ingress) {
    let (call, first, second) = half_understood(kind);
    assert!(call.is_listening());
    call.assert_not_heard(call.stream(), &first);
    call.assert_heard(call.stream(), &second);
}

fn what_was_understood_before_a_fault_reaches_the_agent_with_the_rest(kind: Ingress) {
    let (mut call, ..) = half_understood(kind);
    call.understands("second sentence");
    call.run(ms(700));
    let words = "first sentence second sentence".to_owned();
    assert_eq!(call.inputs_but_speech(), [TurnInput::Text(words)]);
    call.answer(says("Both", 0.5));
    call.run(secs(1.0));
    assert!(call.is_listening());
}

fn what_a_slow_recogniser_has_not_understood_yet_is_not_given_up_with_its_stream(kind: Ingress) {
    let (mut call, _, second) = half_understood(kind);
    let stream = call.stream();
    call.run(secs(2.0));
    if call.cancelled().contains(&stream) {
        call.answer(says("The first", 0.5));
        call.run(secs(3.0));
        assert_ne!(call.stream(), stream);
    }
    call.assert_heard(call.stream(), &second);
}

fn a_backend_that_is_back_after_a_second_answers_the_utterance(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let first = call.speak(secs(1.0));
    call.forget();
    let killed = call.age();
    call.fail(FaultKind::Unavailable);
    let rest = call.begin_to_speak(ms(800));
    while call.age() - killed < secs(1.0) {
        call.run(ms(10));
        if call.is_listening() {
            call.fail(FaultKind::Unavailable);
        }
    }
    call.run(secs(3.0));
    assert!(call.is_listening());
    call.assert_heard(call.stream(), &first);
    call.assert_heard(call.stream(), &rest);
    call.understands("book a table for two");
    call.answer(says("For two", 0.5));
    call.run(secs(1.0));
    assert_eq!((fallbacks(&call), call.ended()), (0, None));
    assert_eq!(call.unheard(), ms(0));
}

fn an_event_turn_that_failed_is_sent_again_as_it_was(kind: Ingress) {
    let mut call = Conversation::new(kind);
    call.fail(FaultKind::Unavailable);
    call.run(ms(300));
    assert_eq!(call.inputs(), [event("WELCOME"), event("WELCOME")]);
    call.answer(says("Welcome", 0.5));
    call.run(secs(1.0));
    assert!(call.is_listening());
    assert!(matches!(
        call.inputs()[..],
        [_, _, TurnInput::Speech { .. }]
    ));
}

fn an_answer_begins_the_count_of_failures_anew(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    for _ in 0..3 {
        call.speak(ms(500));
        call.fail(FaultKind::OutOfRange);
        call.run(secs(1.0));
        assert_eq!(fallbacks(&call), 0);
        call.understands("hello");
        call.answer(says("Hello", 0.5));
        call.run(secs(1.0));
    }
    assert!(call.is_listening());
}

fn a_silent_stream_that_lived_long_begins_the_count_of_failures_anew(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A very long welcome", 60.0));
    for kind in [
        FaultKind::Unavailable,
        FaultKind::Unavailable,
        FaultKind::Internal,
        FaultKind::Internal,
    ] {
        call.run(secs(11.0));
        call.fail(kind);
    }
    call.run(secs(1.0));
    assert_eq!(fallbacks(&call), 0);
    assert!(call.is_listening());
}

fn faults_far_apart_lose_no_utterance_but_one_that_never_ends_is_given_up(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A very long welcome", 90.0));
    let mut faults = 0;
    while fallbacks(&call) == 0 {
        call.run(secs(12.0));
        call.interim("book a");
        call.fail(FaultKind::Unavailable);
        faults += 1;
        assert!(faults < 6, "it never gives up");
        call.run(ms(200));
    }
    assert!(faults > 3, "{faults}");
}

fn an_agent_that_never_answers_is_given_up_and_the_caller_asked_again(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    call.speak(ms(500));
    call.understands("book a table");
    call.run(secs(62.0));
    assert_eq!(call.cancelled(), [stream]);
    assert_about(call.ear().loud(APOLOGY_HZ), ms(500), ms(40));
    assert!(call.is_listening() && call.ended().is_none());
    let phrase = call.speak(ms(800));
    call.run(ms(200));
    call.assert_heard(call.stream(), &phrase);
}

fn a_stream_that_breaks_under_a_prompt_is_opened_again_with_what_is_left_of_it(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 4.0));
    call.run(secs(1.0));
    call.forget();
    call.fail(FaultKind::Unavailable);
    call.run(secs(1.5));
    assert_eq!(call.turns().len(), 1);
    assert_about(call.window().total, ms(2_900) + call.replayed(), ms(150));
    call.interim("stop");
    assert_eq!(call.barge_ins(), 1, "the new stream may cut it");
    call.run(secs(1.0));
    assert_about(call.ear().loud(AGENT_HZ), ms(2_500), ms(60));
}

fn a_refused_fallback_transfer_ends_the_call(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.fallback.transfer = Some("sip:people@pbx".into());
    });
    call.fail(FaultKind::PermissionDenied);
    call.run(secs(2.0));
    call.handle(Event::TransferEnded(Err("486 Busy Here".into())));
    call.run(secs(1.0));
    let reason = if kind == Ingress::Sip {
        EndReason::BackendFailed
    } else {
        EndReason::Transferred
    };
    assert_eq!(call.ended(), Some(reason));
    assert_eq!(call.count(|did| matches!(did, Did::Ended(_))), 1);
}
