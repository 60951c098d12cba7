//! What the agent hears of the caller, and when.

use std::time::Duration;

use serde_json::json;
use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::BackendEvent;
use tandem::engine::call::event::Cancellation;
use tandem::engine::call::event::Encoding;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::Fault;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::ToolCall;
use tandem::engine::call::event::ToolResult;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;
use tandem::engine::media::frame::SampleRate;

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
    /// facts §2.2, design §4.3
    the_end_of_an_utterance_is_half_closed_and_never_cancelled,
    /// facts §2.1
    nothing_is_sent_after_the_half_close,
    /// facts §2.3
    a_final_answer_in_mid_utterance_half_closes_at_once,
    /// facts §3.1
    several_finals_are_one_utterance,
    /// facts §8.3, design §4.1
    what_is_said_after_the_endpoint_is_heard_in_the_next_turn,
    /// facts §8.3
    the_tail_of_an_understood_word_is_not_sent_again,
    /// facts §8.3
    without_an_offset_speech_ended_a_little_before_its_transcript,
    /// facts §2.2, facts §8.3
    a_late_transcript_without_an_offset_says_nothing_of_what_came_after_its_stream,
    /// facts §4, facts §6.4
    the_recognisers_patience_ends_no_turn_under_a_prompt,
    /// facts §8.3, field notes 4
    the_silence_in_which_the_agent_thought_is_not_sent_again,
    /// design §4.1
    every_word_of_a_conversation_goes_to_exactly_one_stream,
    /// facts §8.3, field notes 38
    what_was_missed_is_caught_up_at_no_more_than_twice_real_time,
    /// facts §7.3, field notes 5
    silence_takes_the_place_of_packets_that_do_not_come,
    /// facts §7.1, facts §7.3
    audio_goes_up_as_the_leg_speaks_it_in_messages_of_20_to_100_ms,
    /// facts §8.1, design §4.3
    an_utterance_without_end_goes_on_in_a_new_stream_at_the_ceiling,
    /// facts §8.1
    a_stream_without_words_is_exchanged_at_the_ceiling_and_nobody_notices,
    /// design §4.1
    speech_too_old_to_be_kept_is_counted,
    /// facts §4
    the_window_is_as_long_as_the_prompt,
    /// facts §4, design §4.2
    protected_pieces_in_front_are_closed_to_speech,
    /// facts §4, facts §8.3
    replayed_audio_widens_the_window,
    /// facts §2.3
    words_that_nobody_ends_are_ended_by_us,
    /// facts §2.2
    a_transcript_that_comes_after_the_endpoint_counts_and_cuts_nothing,
    /// design §4.1, facts §13
    what_is_said_while_a_tool_runs_is_heard,
    /// design §4.1, facts §6.4
    what_is_said_while_the_agent_is_told_of_silence_is_heard,
    /// facts §2.3
    late_events_of_an_old_stream_change_nothing,
    /// facts §8.3, design §4.1
    what_a_stream_does_not_take_it_is_given_later,
    /// facts §8.3, design §4.1
    the_end_of_what_the_stream_ceiling_cuts_short_is_heard_in_the_next_turn,
}

fn the_end_of_an_utterance_is_half_closed_and_never_cancelled(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    call.speak(secs(1.0));
    call.understands("book a table");
    assert_eq!(call.half_closed(), [stream]);
    call.run(secs(2.0));
    call.answer(says("Done", 0.5));
    call.run(secs(1.0));
    assert_none(&call.cancelled());
}

fn nothing_is_sent_after_the_half_close(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(secs(1.0));
    call.endpoint();
    let sent = call.sent_to(call.stream());
    call.speak(secs(1.5));
    assert_eq!(call.sent_to(call.stream()), sent);
}

fn a_final_answer_in_mid_utterance_half_closes_at_once(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    call.speak(secs(1.0));
    call.interim("book");
    call.answer(says("I have heard enough", 1.0));
    assert_eq!(call.half_closed(), [stream]);
    let rest = call.speak(secs(1.0));
    call.run(secs(1.0));
    assert_ne!(call.stream(), stream);
    call.assert_heard(call.stream(), &rest);
}

fn several_finals_are_one_utterance(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    let first = call.speak(secs(1.0));
    call.run(ms(500));
    call.final_words("two pizzas");
    let second = call.speak(secs(1.0));
    call.run(ms(500));
    assert_eq!(call.stream(), stream, "a final transcript ends no turn");
    call.final_words("and a salad");
    call.endpoint();
    call.answer(says("Coming", 0.5));
    call.run(secs(2.0));
    call.assert_heard(stream, &first);
    call.assert_heard(stream, &second);
    call.assert_not_heard(call.stream(), &second);
}

fn what_is_said_after_the_endpoint_is_heard_in_the_next_turn(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    call.speak(secs(1.0));
    call.run(ms(500));
    call.final_words("one pizza");
    call.endpoint();
    call.run(ms(200));
    let more = call.speak(ms(900));
    call.run(ms(800));
    call.answer(says("One pizza it is", 2.0));
    call.run(secs(4.0));
    assert_ne!(call.stream(), stream);
    call.assert_heard(call.stream(), &more);
    assert_eq!(call.unheard(), ms(0));
}

fn the_tail_of_an_understood_word_is_not_sent_again(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(500));
    let begin = call.audio_time();
    let phrase = call.speak(ms(700));
    call.run(ms(600));
    // The recogniser's offsets lie a little before the last breath.
    call.final_words_at("yes", Some(begin + ms(550)));
    call.endpoint();
    call.answer(says("Good", 1.0));
    call.run(secs(2.0));
    call.assert_not_heard(call.stream(), &phrase.end());
}

fn without_an_offset_speech_ended_a_little_before_its_transcript(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let understood = call.speak(secs(1.0));
    call.run(ms(600));
    call.final_words_at("one pizza", None);
    call.endpoint();
    let more = call.speak(ms(900));
    call.answer(says("One pizza it is", 2.0));
    call.run(secs(3.0));
    call.assert_heard(call.stream(), &more);
    call.assert_not_heard(call.stream(), &understood);
}

fn a_late_transcript_without_an_offset_says_nothing_of_what_came_after_its_stream(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(secs(1.0));
    call.run(ms(600));
    call.endpoint();
    let more = call.speak(ms(900));
    call.run(ms(200));
    call.final_words_at("one pizza", None);
    call.answer(says("One pizza it is", 2.0));
    call.run(secs(3.0));
    call.assert_heard(call.stream(), &more);
}

fn the_recognisers_patience_ends_no_turn_under_a_prompt(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 12.0));
    call.run(secs(6.0));
    let first = call.stream();
    call.endpoint();
    call.run(secs(8.0));
    assert_eq!(call.cancelled(), [first]);
    assert_none(&call.half_closed());
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert!(call.is_listening());
}

fn the_silence_in_which_the_agent_thought_is_not_sent_again(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(secs(1.0));
    call.run(ms(700));
    call.understands("yes");
    call.run(secs(2.5));
    call.answer(says("Good", 3.0));
    call.run(secs(1.0));
    let replayed = call.replayed();
    assert!(replayed <= ms(300), "{replayed:?} of the past");
}

fn every_word_of_a_conversation_goes_to_exactly_one_stream(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let mut spoken = Vec::new();
    for _ in 0..3 {
        let stream = call.stream();
        let phrase = call.speak(secs(1.0));
        call.run(ms(700));
        call.understands("words");
        spoken.push((stream, phrase));
        call.run(ms(400));
        call.answer(says("An answer", 1.0));
        call.run(secs(2.0));
    }
    for (stream, phrase) in &spoken {
        call.assert_heard(*stream, phrase);
        for (other, _) in spoken.iter().filter(|(other, _)| other != stream) {
            call.assert_not_heard(*other, phrase);
        }
    }
    assert_eq!(call.unheard(), ms(0));
}

fn what_was_missed_is_caught_up_at_no_more_than_twice_real_time(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(500));
    call.understands("a moment");
    let missed = call.speak(secs(4.0));
    call.answer(says("Yes?", 0.5));
    // The pace of every message is checked by the conversation itself; here, that it does catch up.
    call.run(secs(1.0));
    let stream = call.stream();
    let sent = call.sent_to(stream);
    assert!(
        sent > ms(1_500) && sent < ms(2_300),
        "{sent:?} after one second"
    );
    call.run(secs(5.0));
    call.assert_heard(stream, &missed);
    assert_about(call.replayed(), secs(4.0), ms(700));
}

fn silence_takes_the_place_of_packets_that_do_not_come(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.run(secs(1.0));
    let before = call.audio_time();
    call.muted = true;
    call.run(secs(3.0));
    assert_about(call.audio_time() - before, secs(3.0), ms(350));
    call.muted = false;
    call.run(secs(1.0));
    assert_about(call.audio_time() - before, secs(4.0), ms(200));
}

fn audio_goes_up_as_the_leg_speaks_it_in_messages_of_20_to_100_ms(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let (encoding, rate) = match kind {
        Ingress::Sip | Ingress::Twilio => (Encoding::Mulaw, TELEPHONE),
        Ingress::Whip => (Encoding::Linear16, SampleRate::HZ_16000),
    };
    assert_eq!(call.format(), AudioFormat { encoding, rate });
    call.run(secs(1.0));
    call.speak(secs(1.0));
    call.run(secs(2.0));
    let messages = call.messages_to(call.stream());
    let sizes = messages.iter().copied();
    assert!(
        sizes.clone().all(|size| size >= ms(20) && size <= ms(100)),
        "{messages:?}"
    );
    let mean = sizes.sum::<Duration>() / messages.len() as u32;
    assert!(mean >= ms(25), "small ones only where they hurry: {mean:?}");
}

fn an_utterance_without_end_goes_on_in_a_new_stream_at_the_ceiling(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    let opened = call.audio_time();
    call.interim("and then");
    while call.half_closed().is_empty() {
        assert!(
            call.audio_time() - opened < secs(60.0),
            "it goes on for ever"
        );
        call.speak(secs(1.0));
        if call.half_closed().is_empty() {
            call.interim("and then");
        }
    }
    assert_eq!(call.half_closed(), [stream]);
    assert_about(call.audio_time(), secs(55.0), secs(1.5));
    call.final_words("and then");
    let after = call.speak(ms(800));
    call.answer(silent());
    call.run(secs(2.0));
    assert!(call.is_listening() && call.stream() != stream);
    call.assert_heard(call.stream(), &after);
    assert_none(&call.cancelled());
    assert_eq!(call.unheard(), ms(0));
}

fn a_stream_without_words_is_exchanged_at_the_ceiling_and_nobody_notices(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.no_input.timeout = secs(60.0);
    });
    let stream = call.stream();
    let before = call.age();
    call.run(secs(54.0));
    assert_none(&call.turns());
    call.run(secs(1.5));
    assert!(call.is_listening() && call.stream() != stream);
    assert_none(&call.half_closed());
    assert_eq!(call.ear().sound(before, call.age()), ms(0));
    call.run(secs(4.2));
    assert_none(&call.half_closed());
    call.run(secs(1.5));
    assert_eq!(call.half_closed(), [call.stream()], "silence is counted on");
}

fn speech_too_old_to_be_kept_is_counted(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(500));
    call.understands("let me tell you everything");
    call.speak(secs(40.0));
    call.answer(says("I see", 0.5));
    call.run(ms(100));
    assert_about(call.unheard(), secs(10.0), secs(1.0));
}

fn the_window_is_as_long_as_the_prompt(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("Welcome", 3.0));
    call.run(secs(1.0));
    let window = call.window();
    assert_eq!(window.no_barge_in, ms(0));
    assert_about(window.total, secs(3.0) + call.replayed(), ms(150));
}

fn protected_pieces_in_front_are_closed_to_speech(kind: Ingress) {
    let greeting = says("This call is recorded. How may I help?", 0.0).mixed(vec![
        Piece::Tone(600.0, 1.5),
        Piece::Tone(1_000.0, 2.0).interruptible(),
    ]);
    let mut call = Conversation::greeted(kind, greeting);
    call.run(secs(1.0));
    let window = call.window();
    let replayed = call.replayed();
    assert_about(window.no_barge_in, ms(1_500) + replayed, ms(150));
    assert_about(window.total, ms(3_500) + replayed, ms(150));
}

fn replayed_audio_widens_the_window(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(500));
    call.understands("one pizza");
    call.speak(ms(900));
    call.run(ms(300));
    call.answer(says("One pizza it is", 2.0));
    call.run(secs(3.0));
    let replayed = call.replayed();
    assert!(replayed >= ms(1_000), "{replayed:?}");
    assert_about(call.window().total, secs(2.0) + replayed, ms(150));
    assert_eq!(call.window().no_barge_in, ms(0));
}

fn words_that_nobody_ends_are_ended_by_us(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    call.speak(secs(1.0));
    call.interim("book a table");
    call.run(secs(3.5));
    assert_none(&call.half_closed());
    call.run(secs(1.0));
    assert_eq!(call.half_closed(), [stream]);
    assert_about(call.audio_time(), call.sent_to(stream), ms(0));
    assert_none(&call.cancelled());
}

fn a_transcript_that_comes_after_the_endpoint_counts_and_cuts_nothing(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(800));
    call.run(ms(500));
    let spoken_to = call.audio_time();
    let understood = call.speak(ms(800));
    call.run(ms(400));
    call.interim("book a");
    call.endpoint();
    call.answer(says("One moment", 1.0).partial(Cancellation::Allowed));
    call.run(ms(200));
    call.final_words_at("book a table", Some(spoken_to + ms(850)));
    call.run(secs(1.0));
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
    let text = "book a table".to_owned();
    assert_eq!(call.told(&Notice::Final { text }), 1);
    call.answer(says("Done", 0.5));
    call.run(secs(1.0));
    call.assert_not_heard(call.stream(), &understood);
}

fn what_is_said_while_a_tool_runs_is_heard(kind: Ingress) {
    let tool = "projects/p/locations/l/agents/a/tools/t".to_owned();
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.tools = vec![tool.clone()];
    });
    call.speak(ms(800));
    call.run(ms(500));
    call.understands("when are you open");
    let wanted = ToolCall {
        tool: tool.clone(),
        ..ToolCall::default()
    };
    call.answer(silent().with(Message::ToolCall(wanted)));
    call.run(ms(300));
    let more = call.speak(ms(800));
    call.handle(Event::ToolEnded(ToolResult {
        tool,
        action: String::new(),
        outcome: Ok(json!({})),
    }));
    call.run(ms(300));
    call.answer(says("At nine", 1.0));
    call.run(secs(3.0));
    call.assert_heard(call.stream(), &more);
}

fn what_is_said_while_the_agent_is_told_of_silence_is_heard(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.run(secs(6.5));
    call.answer(silent());
    call.run(ms(50));
    assert_eq!(
        call.inputs(),
        [TurnInput::Event("sys.no-input-default".into())]
    );
    let phrase = call.begin_to_speak(secs(1.0));
    call.run(ms(700));
    call.answer(says("Are you there?", 1.0));
    call.run(secs(3.0));
    call.assert_heard(call.stream(), &phrase);
}

fn late_events_of_an_old_stream_change_nothing(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let old = call.stream();
    call.understands("hello");
    call.answer(says("Hello", 0.5));
    call.run(secs(1.0));
    call.forget();
    let text = "hello".to_owned();
    call.backend_on(old, BackendEvent::Interim { text });
    call.backend_on(old, BackendEvent::EndOfUtterance);
    let (kind_of_fault, message) = (FaultKind::Internal, String::new());
    let fault = Fault {
        kind: kind_of_fault,
        message,
    };
    call.backend_on(old, BackendEvent::Closed(Some(fault)));
    let answer = says("Once more", 1.0).answer(call.format());
    call.backend_on(old, BackendEvent::Answer(Box::new(answer)));
    call.run(ms(500));
    let decisions = call.count(|did| {
        matches!(
            did,
            Did::HalfClosed(_) | Did::Cancelled(_) | Did::Cleared | Did::Opened(_) | Did::Ended(_)
        )
    });
    assert_eq!(decisions, 0);
    assert!(call.is_listening() && matches!(call.inputs()[..], []));
    assert!(
        !call
            .inputs()
            .iter()
            .any(|input| matches!(input, TurnInput::Event(_)))
    );
}

fn what_a_stream_does_not_take_it_is_given_later(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    call.stalled = true;
    let phrase = call.speak(secs(1.5));
    call.run(secs(4.0));
    call.stalled = false;
    let before = call.sent_to(stream);
    call.run(secs(1.0));
    // Not all at once.
    let caught_up = call.sent_to(stream) - before;
    assert_about(caught_up, secs(2.0), ms(250));
    call.run(secs(5.0));
    call.assert_heard(stream, &phrase);
    assert_eq!((call.cancelled().len(), call.unheard()), (0, ms(0)));
}

fn the_end_of_what_the_stream_ceiling_cuts_short_is_heard_in_the_next_turn(kind: Ingress) {
    let ceiling = secs(4.0);
    let mut call = Conversation::greeted_with(kind, says("Welcome", 0.3), |settings| {
        settings.stream_ceiling = ceiling;
    });
    call.run(ms(600));
    let stream = call.stream();
    let opened = *call.opened_at().last().expect("a stream");
    call.run(opened + ceiling - ms(700) - call.age());
    call.begin_to_speak(ms(680));
    let end = call.begin_to_speak(ms(340));
    call.run(ms(400));
    call.interim("I would like");
    call.run_until(ms(400), |call| call.half_closed() == [stream]);
    call.final_words_at("I would like", Some(call.sent_to(stream)));
    call.run(ms(600));
    call.answer(says("What?", 0.5));
    call.run(secs(1.0));
    assert_ne!(call.stream(), stream);
    // A frame may be cut in two.
    let share = call.share_in(call.stream(), &end);
    assert!(share > 0.8, "{share:.2} of it");
}
