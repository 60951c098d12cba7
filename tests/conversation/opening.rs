//! How a conversation begins.

use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Measure;
use tandem::engine::call::notice::SegmentOutcome;

use crate::agent::AGENT_HZ;
use crate::agent::says;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::HOLD_HZ;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::event;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// facts §6.3
    the_call_begins_with_an_event_turn_of_its_own,
    /// facts §6.3
    the_opening_may_be_words_or_an_intent_instead,
    /// facts §6.3
    a_caller_who_is_to_speak_first_is_listened_to_at_once,
    /// field notes 1, field notes 3
    the_first_words_are_heard_whole_and_at_once,
    /// design §3, field notes 3
    a_caller_who_rings_is_answered_by_the_first_words_or_after_a_limit,
    /// design §4.2
    listening_opens_with_the_first_sample_of_the_prompt,
    /// design §4.1, field notes 2
    what_is_said_as_the_greeting_begins_is_heard,
}

fn the_call_begins_with_an_event_turn_of_its_own(kind: Ingress) {
    let mut call = Conversation::new(kind);
    assert_eq!(call.inputs(), [event("WELCOME")]);
    call.run(secs(1.0));
    assert_eq!(call.inputs().len(), 1, "nothing else until it is answered");
    call.answer(says("Welcome", 1.0));
    call.run(ms(500));
    assert!(matches!(call.inputs()[..], [_, TurnInput::Speech { .. }]));
}

fn the_opening_may_be_words_or_an_intent_instead(kind: Ingress) {
    for opening in [
        TurnInput::Text("hi".into()),
        TurnInput::Intent("projects/p/locations/l/agents/a/intents/i".into()),
    ] {
        let call = Conversation::with(kind, |settings| settings.greeting = Some(opening.clone()));
        assert_eq!(call.inputs(), [opening]);
    }
}

fn a_caller_who_is_to_speak_first_is_listened_to_at_once(kind: Ingress) {
    let mut call = Conversation::with(kind, |settings| settings.greeting = None);
    call.run(ms(200));
    assert!(call.is_listening());
    let phrase = call.speak(secs(1.0));
    call.run(ms(200));
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(call.inputs().len(), 1);
}

fn the_first_words_are_heard_whole_and_at_once(kind: Ingress) {
    let mut call = Conversation::new(kind);
    call.run(ms(700));
    assert_eq!(call.ear().sound(ms(0), call.age()), ms(0));
    call.answer(says("Welcome", 1.0));
    call.run(secs(1.5));
    assert_about(call.ear().loud(AGENT_HZ), secs(1.0), ms(40));
    let begins = call.ear().begins(AGENT_HZ).expect("it is heard");
    // A telephone's line has to be opened first.
    assert!(begins <= ms(820), "{begins:?}");
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    let delay = call.all(|did| match did {
        Did::Measured(Measure::AnswerToFirstAudio(delay)) => Some(*delay),
        _ => None,
    });
    let [delay] = delay[..] else {
        panic!("{delay:?}")
    };
    let due = if kind == Ingress::Sip { ms(0) } else { ms(700) };
    assert_about(delay, due, ms(40));
}

fn a_caller_who_rings_is_answered_by_the_first_words_or_after_a_limit(kind: Ingress) {
    let answered = |call: &Conversation| call.count(|did| *did == Did::Answered);
    let rings = usize::from(kind == Ingress::Sip);
    let mut prompt_agent = Conversation::new(kind);
    prompt_agent.run(ms(500));
    assert_eq!(answered(&prompt_agent), 0);
    prompt_agent.answer(says("Welcome", 1.0));
    prompt_agent.run(secs(5.0));
    assert_eq!(answered(&prompt_agent), rings);

    let mut slow_agent = Conversation::new(kind);
    slow_agent.run(ms(2_900));
    assert_eq!(answered(&slow_agent), 0);
    slow_agent.run(secs(3.5));
    assert_eq!(answered(&slow_agent), rings, "rung for long enough");
    assert!(
        slow_agent.ear().loud(HOLD_HZ) > ms(0),
        "and then not left in silence"
    );
}

fn listening_opens_with_the_first_sample_of_the_prompt(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("Welcome", 2.0));
    call.run(ms(20));
    let opened = call.when(
        |did| matches!(did, Did::Opened(turn) if matches!(turn.input, TurnInput::Speech { .. })),
    );
    call.run(secs(1.0));
    let heard = call.ear().begins(AGENT_HZ).expect("it is heard");
    assert_about(opened.expect("opened"), heard, ms(25));
}

fn what_is_said_as_the_greeting_begins_is_heard(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("Welcome", 3.0));
    let phrase = call.speak(secs(1.0));
    call.run(secs(1.0));
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(call.unheard(), ms(0));
    assert_none(&call.cancelled());
}
