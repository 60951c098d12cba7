//! How calls end, and how callers are handed over.

use serde_json::json;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::LegEnd;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::Transfer;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;

use crate::agent::AGENT_HZ;
use crate::agent::Reply;
use crate::agent::says;
use crate::agent::silent;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::HOLD_HZ;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::event;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::conversation::transfer;
use crate::ingress::Ingress;

behaviours! {
    /// facts §13, design §4.9, field notes 30
    the_goodbye_is_heard_to_its_end_before_the_hang_up,
    /// facts §13
    an_end_without_words_hangs_up_at_once,
    /// facts §13, field notes 31
    a_transfer_wins_over_a_hang_up_in_either_order,
    /// facts §13, design §4.9
    a_transfer_follows_the_speech_by_the_legs_own_way,
    /// facts §13
    a_hand_off_goes_where_the_route_says_with_the_agents_metadata,
    /// facts §13
    a_hand_off_that_nobody_takes_ends_the_call,
    /// facts §13, field notes 32
    a_refused_transfer_returns_to_the_agent_by_an_event,
    /// facts §13
    a_place_that_cannot_be_dialled_returns_to_the_agent_by_an_event,
    /// field notes 32
    a_transfer_is_asked_for_once_and_the_caller_is_not_left_in_silence,
    /// field notes 32
    a_caller_who_leaves_while_being_transferred_was_transferred,
    /// design §4.9
    an_operator_transfers_at_once,
    /// design §4.9
    an_operator_need_not_wait_for_a_turn_that_is_tried_again,
    /// field notes 32
    another_request_while_a_transfer_is_under_way_asks_nothing_twice,
    /// design §4.11
    a_call_ends_once_and_its_stream_with_it,
    /// design §4.11
    every_way_to_end_has_its_reason,
    /// design §4.11
    a_call_is_no_longer_than_its_limit,
}

fn asked(kind: Ingress) -> Conversation {
    asked_with(Conversation::listening(kind))
}

fn asked_with(mut call: Conversation) -> Conversation {
    call.speak(ms(500));
    call.understands("somebody else please");
    call.forget();
    call
}

fn handing_over(message: Message) -> Reply {
    says("One moment please", 1.0).hz(1_400.0).with(message)
}

/// Asserts that the caller is handed over as the leg does it, to `target`.
#[track_caller]
fn assert_handed_over(call: &Conversation, target: &Transfer) {
    if call.kind == Ingress::Sip {
        assert_eq!(
            (call.transfers(), call.ended()),
            (vec![target.clone()], None)
        );
    } else {
        assert_eq!(call.ended(), Some(EndReason::Transferred));
    }
    let told = Notice::Transfer {
        to: Some(target.to.clone()),
        metadata: target.metadata.clone(),
    };
    assert_eq!(
        call.told(&told),
        1,
        "watchers and the ingress are told where to"
    );
}

fn the_goodbye_is_heard_to_its_end_before_the_hang_up(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(
        says("Goodbye", 2.0)
            .hz(1_400.0)
            .with(Message::EndInteraction),
    );
    call.run(ms(1_900));
    assert_eq!(call.ended(), None);
    assert_none(&call.turns());
    // Words over a goodbye come too late.
    call.speak(ms(50));
    call.run(ms(300));
    assert_eq!(
        (call.outcomes(), call.ended()),
        (vec![SegmentOutcome::Played], Some(EndReason::AgentEnded))
    );
    assert_about(call.ear().loud(1_400.0), secs(2.0), ms(40));
}

fn an_end_without_words_hangs_up_at_once(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(silent().with(Message::EndInteraction));
    call.run(ms(20));
    assert_eq!(call.ended(), Some(EndReason::AgentEnded));
}

fn a_transfer_wins_over_a_hang_up_in_either_order(kind: Ingress) {
    let end = Message::EndInteraction;
    let go = Message::TransferCall("+15550123".into());
    for (first, second) in [(end.clone(), go.clone()), (go, end)] {
        let mut call = asked(kind);
        call.answer(says("One moment please", 0.5).with(first).with(second));
        call.run(secs(1.0));
        assert_handed_over(&call, &transfer("+15550123"));
    }
}

fn a_transfer_follows_the_speech_by_the_legs_own_way(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(handing_over(Message::TransferCall("+15551234567".into())));
    call.run(ms(900));
    assert_eq!((call.transfers().len(), call.ended()), (0, None));
    call.run(ms(400));
    assert_about(call.ear().loud(1_400.0), secs(1.0), ms(40));
    assert_handed_over(&call, &transfer("+15551234567"));
    if kind == Ingress::Sip {
        call.handle(Event::TransferEnded(Ok(())));
        assert_eq!(call.ended(), Some(EndReason::Transferred));
    }
}

fn a_hand_off_goes_where_the_route_says_with_the_agents_metadata(kind: Ingress) {
    let mut call = asked_with(Conversation::listening_with(kind, |settings| {
        settings.hand_off_to = Some("sip:queue@pbx".into());
    }));
    let metadata = json!({"skill": "billing"});
    call.answer(handing_over(Message::LiveAgentHandoff(metadata.clone())));
    call.run(secs(2.0));
    let to = "sip:queue@pbx".to_owned();
    assert_handed_over(&call, &Transfer { to, metadata });
}

fn a_hand_off_that_nobody_takes_ends_the_call(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(handing_over(Message::LiveAgentHandoff(json!({}))));
    call.run(secs(2.0));
    assert_none(&call.transfers());
    assert_eq!(call.ended(), Some(EndReason::Transferred));
    assert_about(call.ear().loud(1_400.0), secs(1.0), ms(40));
}

fn a_refused_transfer_returns_to_the_agent_by_an_event(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(handing_over(Message::TransferCall("1000".into())));
    call.run(secs(2.0));
    if kind != Ingress::Sip {
        // The leg is over, and its ingress dials: what it could tell is told to nobody any more.
        call.handle(Event::TransferEnded(Err("busy".into())));
        assert_eq!(call.ended(), Some(EndReason::Transferred));
        assert_eq!(call.count(|did| matches!(did, Did::Ended(_))), 1);
        return;
    }
    call.handle(Event::TransferEnded(Err("603 Decline".into())));
    call.run(ms(20));
    assert_eq!(call.inputs(), [event("TRANSFER_FAILED")]);
    let reason = "603 Decline".to_owned();
    assert_eq!(call.told(&Notice::TransferFailed { reason }), 1);
    call.answer(says("Nobody is free", 1.0));
    call.run(secs(2.0));
    assert!(call.is_listening() && call.ended().is_none());
    let phrase = call.speak(secs(1.0));
    call.run(ms(300));
    call.assert_heard(call.stream(), &phrase);
}

fn a_place_that_cannot_be_dialled_returns_to_the_agent_by_an_event(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(handing_over(Message::TransferCall("the front desk".into())));
    call.run(secs(2.0));
    if kind != Ingress::Twilio {
        // A telephone's side judges for itself, and a browser is merely told.
        assert_handed_over(&call, &transfer("the front desk"));
        return;
    }
    assert_eq!(call.inputs(), [event("TRANSFER_FAILED")]);
    call.answer(says("Nobody is there", 1.0));
    call.run(secs(2.0));
    assert!(call.is_listening() && call.ended().is_none());
}

fn a_transfer_is_asked_for_once_and_the_caller_is_not_left_in_silence(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(handing_over(Message::TransferCall("1000".into())));
    call.run(ms(1_300));
    let asked_at = call.age();
    call.run(secs(10.0));
    assert_handed_over(&call, &transfer("1000"));
    if kind == Ingress::Sip {
        let silence = call.ear().longest_silence(asked_at, call.age());
        assert!(silence <= secs(4.0), "{silence:?} of silence");
        assert!(call.ear().loud(HOLD_HZ) > ms(0));
    } else {
        assert_eq!(call.count(|did| matches!(did, Did::Ended(_))), 1);
    }
}

fn a_caller_who_leaves_while_being_transferred_was_transferred(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(handing_over(Message::TransferCall("1000".into())));
    call.run(secs(2.0));
    call.handle(Event::LegEnded(LegEnd::HungUp));
    assert_eq!(call.ended(), Some(EndReason::Transferred));
    assert_eq!(call.count(|did| matches!(did, Did::Ended(_))), 1);
}

fn an_operator_transfers_at_once(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(1.0));
    let stream = call.stream();
    call.handle(Event::Transfer(transfer("+15550199")));
    let asked_at = call.age();
    call.run(ms(100));
    assert_handed_over(&call, &transfer("+15550199"));
    assert_eq!(call.cancelled(), [stream]);
    call.run(secs(2.0));
    assert!(call.ear().ends(AGENT_HZ).expect("heard") <= asked_at + ms(20));
}

fn an_operator_need_not_wait_for_a_turn_that_is_tried_again(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.press('7');
    call.press('#');
    call.run(ms(500));
    call.fail(FaultKind::ResourceExhausted);
    call.run(ms(100));
    call.forget();
    call.handle(Event::Transfer(transfer("+15550199")));
    call.run(ms(100));
    assert_handed_over(&call, &transfer("+15550199"));
    call.run(secs(3.0));
    assert_none(&call.turns());
}

fn another_request_while_a_transfer_is_under_way_asks_nothing_twice(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(handing_over(Message::TransferCall("1000".into())));
    call.run(secs(2.0));
    call.handle(Event::Transfer(transfer("2000")));
    call.handle(Event::Transfer(transfer("1000")));
    call.run(secs(1.0));
    assert_handed_over(&call, &transfer("1000"));
    assert!(call.count(|did| matches!(did, Did::Ended(_))) <= 1);
}

fn a_call_ends_once_and_its_stream_with_it(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(1.0));
    let stream = call.stream();
    call.handle(Event::LegEnded(LegEnd::HungUp));
    call.handle(Event::Stop(EndReason::Operator));
    call.interim("hello");
    call.run(secs(2.0));
    assert_eq!(call.ended(), Some(EndReason::CallerHungUp));
    assert_eq!(call.count(|did| matches!(did, Did::Ended(_))), 1);
    assert_eq!(call.cancelled(), [stream]);
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Cut],
        "the prompt has its outcome"
    );
}

fn every_way_to_end_has_its_reason(kind: Ingress) {
    for (end, reason) in [
        (Event::LegEnded(LegEnd::HungUp), EndReason::CallerHungUp),
        (Event::LegEnded(LegEnd::Lost), EndReason::LegLost),
        (Event::LegEnded(LegEnd::ConsentLost), EndReason::ConsentLost),
        (
            Event::LegEnded(LegEnd::ProtocolError("a rule")),
            EndReason::ProtocolError,
        ),
        (Event::Stop(EndReason::Operator), EndReason::Operator),
        (Event::Stop(EndReason::Drained), EndReason::Drained),
    ] {
        let mut call = Conversation::listening(kind);
        call.handle(end);
        assert_eq!(call.ended(), Some(reason));
    }
}

fn a_call_is_no_longer_than_its_limit(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.call_duration = secs(30.0);
        settings.no_input.timeout = secs(60.0);
    });
    call.run(secs(28.0) - call.age());
    assert_eq!(call.ended(), None);
    call.run(secs(4.0));
    assert_eq!(call.ended(), Some(EndReason::DurationLimit));
}
