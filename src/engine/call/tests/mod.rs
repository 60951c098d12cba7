//! Whole conversations in virtual time: what happened on the left, what the call did about it on the right.

mod telephone;

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use crate::engine::call::Call;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Action;
use crate::engine::call::event::Answer;
use crate::engine::call::event::Audio;
use crate::engine::call::event::BackendEvent;
use crate::engine::call::event::BargeInWindow;
use crate::engine::call::event::Cancellation;
use crate::engine::call::event::ClipId;
use crate::engine::call::event::Digit;
use crate::engine::call::event::DigitSource;
use crate::engine::call::event::DtmfSettings;
use crate::engine::call::event::Event;
use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::engine::call::event::LegEnd;
use crate::engine::call::event::MatchKind;
use crate::engine::call::event::Message;
use crate::engine::call::event::OpenTurn;
use crate::engine::call::event::SegmentId;
use crate::engine::call::event::StreamId;
use crate::engine::call::event::ToolCall;
use crate::engine::call::event::Transfer;
use crate::engine::call::event::TurnInput;
use crate::engine::call::notice::Measure;
use crate::engine::call::notice::Notice;
use crate::engine::call::notice::SegmentOutcome;
use crate::engine::call::settings::BargeIn;
use crate::engine::call::settings::BargeInMode;
use crate::engine::call::settings::CallSettings;
use crate::engine::call::settings::LegTraits;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::codec::Encoding;
use crate::engine::media::codec::g711;
use crate::engine::media::frame::FRAME_DURATION;
use crate::engine::media::frame::Frame;
use crate::engine::media::frame::SampleRate;
use crate::engine::media::testing::tone;
use crate::engine::media::testing::tone_level;
use crate::engine::media::testing::voice;

#[test]
fn the_greeting_is_the_first_turn_and_listening_begins_with_its_first_sample() {
    let mut sim = Sim::new(settings());
    assert_eq!(sim.opened(), [TurnInput::Event("WELCOME".into())]);
    sim.answer(1, speaking("Welcome", secs(2.0), true));
    assert_eq!(sim.opened()[1..], [speech(0.0, 2.0)]);
    assert!(sim.at(ms(20)).played > 0);
}

#[test]
fn a_caller_who_speaks_first_is_listened_to_at_once() {
    let sim = Sim::new(CallSettings {
        greeting: None,
        ..settings()
    });
    assert_eq!(sim.opened(), [speech(0.0, 0.0)]);
}

#[test]
fn the_end_of_an_utterance_is_half_closed_and_never_cancelled() {
    let mut sim = Sim::listening();
    sim.run(secs(1.0));
    sim.backend(2, BackendEvent::EndOfUtterance);
    assert_eq!(sim.take_closed(), [StreamId(2)]);
    let sent = sim.sent_to(2);
    sim.run(secs(1.0));
    assert_eq!(sim.sent_to(2), sent, "nothing is sent after the half-close");
    assert!(sim.take_cancelled().is_empty());
}

#[test]
fn partial_answers_play_in_order_and_the_next_stream_opens_after_the_final_one() {
    let mut sim = Sim::listening();
    sim.hear_utterance(2, "book a table");
    sim.answer(2, partial(secs(1.0), Cancellation::Forbidden));
    sim.run(ms(200));
    assert!(
        sim.opened().is_empty(),
        "no new stream while the agent is still at work"
    );
    sim.answer(2, partial(secs(1.0), Cancellation::Forbidden));
    sim.answer(2, speaking("Done", secs(1.0), true));
    sim.run(secs(4.0));
    assert_eq!(sim.outcomes(), [SegmentOutcome::Played; 3]);
    assert_eq!(sim.opened().len(), 1);
}

#[test]
fn a_cancellable_partial_is_cut_when_the_final_answer_comes() {
    let mut sim = Sim::listening();
    sim.hear_utterance(2, "book a table");
    sim.answer(2, partial(secs(5.0), Cancellation::Allowed));
    sim.run(secs(1.0));
    sim.answer(2, speaking("Done", secs(1.0), true));
    assert_eq!(sim.outcomes(), [SegmentOutcome::Cut]);
    assert_eq!(sim.clears, 1);
    sim.run(secs(2.0));
    assert_eq!(sim.outcomes(), [SegmentOutcome::Played]);
}

#[test]
fn interim_words_cut_an_interruptible_prompt_and_nothing_of_it_is_sent_after() {
    let mut sim = Sim::new(settings());
    sim.answer(1, speaking("A long welcome", secs(8.0), true));
    sim.run(secs(2.0));
    let before = sim.frames;
    sim.backend(2, interim("book"));
    sim.run(secs(2.0));
    assert_eq!((sim.clears, sim.frames), (1, before));
    assert_eq!(sim.outcomes(), [SegmentOutcome::Cut]);
    let heard = sim.notices.iter().find_map(|notice| match notice {
        Notice::BargeIn { heard_ms } => Some(*heard_ms),
        _ => None,
    });
    assert_eq!(heard, Some(2000));
}

#[test]
fn words_over_a_prompt_that_forbids_it_change_nothing() {
    let mut sim = Sim::new(settings());
    sim.answer(1, speaking("The legal notice", secs(3.0), false));
    assert_eq!(sim.opened()[1..], [speech(3.0, 3.0)]);
    sim.run(secs(1.0));
    sim.backend(2, interim("stop"));
    sim.backend(2, interim("stop it"));
    sim.run(secs(3.0));
    assert_eq!(
        (sim.clears, sim.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
    let refused = sim
        .measures
        .iter()
        .filter(|measure| **measure == Measure::BargeInRefused)
        .count();
    assert_eq!(refused, 1, "one refusal is counted once");
}

#[test]
fn silence_in_the_words_cuts_nothing() {
    let mut sim = Sim::new(settings());
    sim.answer(1, speaking("Welcome", secs(3.0), true));
    sim.run(secs(1.0));
    sim.backend(2, interim("  "));
    sim.run(secs(3.0));
    assert_eq!(sim.outcomes(), [SegmentOutcome::Played]);
}

#[test]
fn with_barge_in_off_the_backend_is_told_and_words_do_not_cut() {
    let mut sim = Sim::new(CallSettings {
        barge_in: barge_in(BargeInMode::Off),
        ..settings()
    });
    sim.answer(1, speaking("Welcome", secs(3.0), true));
    assert_eq!(sim.opened()[1..], [speech(3.0, 3.0)]);
    sim.run(secs(1.0));
    sim.backend(2, interim("hello"));
    sim.run(secs(3.0));
    assert_eq!(sim.outcomes(), [SegmentOutcome::Played]);
}

#[test]
fn with_barge_in_by_voice_a_voice_that_lasts_cuts_before_any_words() {
    let mut sim = Sim::new(CallSettings {
        barge_in: barge_in(BargeInMode::Voice),
        ..settings()
    });
    sim.answer(1, speaking("Welcome", secs(8.0), true));
    sim.run(secs(1.0));
    sim.speak(secs(1.0));
    assert_eq!((sim.clears, sim.outcomes()), (1, vec![SegmentOutcome::Cut]));
}

#[test]
fn the_agents_goodbye_is_heard_to_its_end_before_the_hang_up() {
    let mut sim = Sim::listening();
    sim.hear_utterance(2, "bye");
    let mut goodbye = speaking("Goodbye", secs(2.0), true);
    goodbye.messages.push(Message::EndInteraction);
    sim.answer(2, goodbye);
    sim.run(secs(1.9));
    assert_eq!(sim.ended, None);
    assert!(sim.opened().is_empty(), "nobody listens any more");
    sim.run(secs(0.3));
    assert_eq!(
        (sim.outcomes(), sim.ended),
        (vec![SegmentOutcome::Played], Some(EndReason::AgentEnded))
    );
}

#[test]
fn a_far_end_that_never_confirms_does_not_hold_the_call_for_ever() {
    let mut sim = Sim::listening();
    sim.confirming = false;
    sim.hear_utterance(2, "bye");
    let mut goodbye = speaking("Goodbye", secs(1.0), true);
    goodbye.messages.push(Message::EndInteraction);
    sim.answer(2, goodbye);
    sim.run(secs(5.5));
    assert_eq!(sim.ended, None);
    sim.run(secs(1.0));
    assert_eq!(
        (sim.outcomes(), sim.ended),
        (vec![SegmentOutcome::Unknown], Some(EndReason::AgentEnded))
    );
}

#[test]
fn an_end_without_words_hangs_up_at_once() {
    let mut sim = Sim::listening();
    sim.hear_utterance(2, "bye");
    sim.answer(
        2,
        Answer {
            messages: vec![Message::EndInteraction],
            ..Answer::default()
        },
    );
    assert_eq!(sim.ended, Some(EndReason::AgentEnded));
}

#[test]
fn a_transfer_wins_over_a_hang_up_in_either_order() {
    for messages in [
        vec![
            Message::EndInteraction,
            Message::TransferCall("+15550123".into()),
        ],
        vec![
            Message::TransferCall("+15550123".into()),
            Message::EndInteraction,
        ],
    ] {
        let mut sim = Sim::listening();
        sim.hear_utterance(2, "somebody else please");
        sim.answer(
            2,
            Answer {
                messages,
                ..Answer::default()
            },
        );
        assert_eq!(sim.ended, Some(EndReason::Transferred));
    }
}

#[test]
fn what_the_caller_says_while_the_agent_thinks_is_heard_in_the_next_turn() {
    let mut sim = Sim::listening();
    sim.speak(secs(1.0));
    sim.run(ms(500));
    sim.backend(2, final_words("one pizza", secs(1.0)));
    sim.backend(2, BackendEvent::EndOfUtterance);
    sim.run(ms(300));
    sim.speak_marked(ms(800));
    sim.run(ms(900));
    sim.answer(2, speaking("One pizza it is", secs(2.0), true));
    sim.run(secs(4.0));
    let replayed = sim.audio_sent_to(3);
    assert!(
        sim.mark_is_in(&replayed),
        "the words after the endpoint reach the next stream"
    );
    assert!(!sim.unheard());
}

#[test]
fn the_tail_of_an_understood_word_is_not_sent_again() {
    let mut sim = Sim::listening();
    sim.speak_marked(secs(1.0));
    sim.run(ms(700));
    sim.backend(2, final_words("yes", ms(1_350)));
    sim.backend(2, BackendEvent::EndOfUtterance);
    sim.answer(2, speaking("Good", secs(1.0), true));
    sim.run(secs(2.0));
    let sent = sim.audio_sent_to(3);
    assert!(!sim.mark_is_in(&sent));
}

#[test]
fn replayed_audio_widens_the_barge_in_window_of_the_next_stream() {
    let mut sim = Sim::listening();
    sim.hear_utterance(2, "one pizza");
    sim.speak(ms(600));
    sim.run(ms(400));
    sim.answer(2, speaking("One pizza it is", secs(2.0), true));
    let opened = sim.opened();
    let [TurnInput::Speech { barge_in, .. }] = opened.as_slice() else {
        panic!("{opened:?}")
    };
    assert!(
        barge_in.total > secs(2.9),
        "the prompt and a second of the past: {barge_in:?}"
    );
    assert!(barge_in.total < secs(3.8), "{barge_in:?}");
}

#[test]
fn a_stream_that_breaks_in_mid_utterance_is_opened_again_with_the_whole_utterance() {
    let mut sim = Sim::listening();
    sim.speak_marked(secs(1.0));
    sim.fail(2, FaultKind::Unavailable);
    sim.speak(ms(500));
    sim.run(secs(2.0));
    assert_eq!(sim.opened().len(), 1);
    let again = sim.audio_sent_to(3);
    assert!(sim.mark_is_in(&again));
    assert!(!sim.unheard());
    assert_eq!(sim.ended, None);
}

#[test]
fn only_what_was_not_understood_is_sent_again() {
    let mut sim = Sim::listening();
    sim.speak_marked(secs(1.0));
    sim.run(secs(1.0));
    sim.backend(2, final_words("first sentence", secs(1.4)));
    sim.speak(ms(500));
    sim.fail(2, FaultKind::OutOfRange);
    sim.run(secs(2.0));
    let again = sim.audio_sent_to(3);
    assert!(!again.is_empty() && !sim.mark_is_in(&again));
}

#[test]
fn words_that_were_understood_before_their_stream_failed_reach_the_agent_with_those_that_follow() {
    let mut sim = Sim::listening();
    sim.speak(secs(1.0));
    sim.backend(2, final_words("two pizzas", secs(1.0)));
    sim.fail(2, FaultKind::Unavailable);
    sim.speak(secs(1.0));
    sim.backend(3, interim("and a"));
    sim.backend(3, BackendEvent::EndOfUtterance);
    assert_eq!(sim.opened().len(), 1, "the last words are not final yet");
    sim.backend(3, final_words("and a coke", secs(1.2)));
    assert_eq!(sim.take_cancelled(), [StreamId(3)]);
    let all = TurnInput::Text("two pizzas and a coke".into());
    assert_eq!(sim.opened()[1..], [all]);
}

#[test]
fn an_utterance_that_was_understood_whole_is_sent_as_text_when_its_stream_fails() {
    let mut sim = Sim::listening();
    sim.speak(secs(1.0));
    sim.backend(2, BackendEvent::EndOfUtterance);
    sim.backend(2, final_words("two pizzas", secs(1.0)));
    sim.fail(2, FaultKind::Unavailable);
    sim.run(ms(200));
    assert_eq!(sim.opened(), [TurnInput::Text("two pizzas".into())]);
}

#[test]
fn a_caller_who_says_no_more_after_a_fault_is_answered_soon() {
    let mut sim = Sim::listening();
    sim.speak(secs(1.0));
    sim.backend(2, final_words("two pizzas", secs(1.0)));
    sim.fail(2, FaultKind::OutOfRange);
    sim.run(secs(2.0));
    assert_eq!(sim.opened()[1..], [TurnInput::Text("two pizzas".into())]);
}

#[test]
fn what_is_said_while_the_agent_is_asked_about_silence_is_heard() {
    let mut sim = Sim::listening();
    sim.run(secs(6.0));
    assert_eq!(sim.take_closed(), [StreamId(2)]);
    sim.answer(2, Answer::default());
    let event = TurnInput::Event("sys.no-input-default".into());
    assert_eq!(sim.opened(), [event]);
    sim.speak_marked(secs(1.0));
    sim.answer(3, speaking("Are you there?", secs(1.0), true));
    sim.run(secs(2.0));
    let sent = sim.audio_sent_to(4);
    assert!(sim.mark_is_in(&sent));
}

#[test]
fn a_fault_that_would_come_again_ends_the_call_and_counts_what_nobody_heard() {
    let mut sim = Sim::listening();
    sim.speak(secs(1.0));
    sim.fail(2, FaultKind::PermissionDenied);
    assert_eq!(sim.ended, Some(EndReason::BackendFailed));
    assert!(sim.unheard(), "the counter counts");
}

#[test]
fn a_backend_that_stays_away_ends_the_call_after_some_tries() {
    let mut sim = Sim::new(settings());
    for _ in 0..20 {
        let Some(stream) = sim.last_stream.filter(|_| sim.ended.is_none()) else {
            break;
        };
        sim.fail(stream.0, FaultKind::Unavailable);
        sim.run(ms(500));
    }
    assert_eq!(sim.ended, Some(EndReason::BackendFailed));
    assert!(sim.opened().len() > 5, "it was tried again");
}

#[test]
fn a_turn_that_was_answered_in_part_is_never_sent_again() {
    let mut sim = Sim::listening();
    sim.hear_utterance(2, "book a table");
    sim.answer(2, partial(secs(1.0), Cancellation::Forbidden));
    sim.fail(2, FaultKind::Unavailable);
    sim.run(secs(3.0));
    assert_eq!(sim.opened().len(), 1, "the caller is listened to instead");
    assert!(
        sim.sent_to(3) <= 8_000 * 3 + 1_600,
        "from where they were understood"
    );
    assert_eq!(sim.ended, None);
}

#[test]
fn a_silent_caller_is_waited_for_from_the_end_of_the_prompt() {
    let mut sim = Sim::new(settings());
    sim.answer(1, speaking("Welcome", secs(4.0), true));
    sim.run(secs(4.0) + secs(5.0));
    assert!(sim.take_closed().is_empty());
    sim.run(secs(1.0));
    assert_eq!(sim.take_closed(), [StreamId(2)]);
}

#[test]
fn the_agents_own_silence_time_is_obeyed() {
    let mut sim = Sim::new(settings());
    let mut answer = speaking("Welcome", secs(1.0), true);
    answer.settings.no_speech_timeout = Some(secs(9.0));
    sim.answer(1, answer);
    sim.run(secs(10.0));
    assert!(sim.take_closed().is_empty());
    sim.run(secs(1.0));
    assert_eq!(sim.take_closed(), [StreamId(2)]);
}

#[test]
fn a_caller_who_is_silent_too_often_is_let_go_after_the_last_prompt() {
    let mut sim = Sim::listening();
    for stream in 2..5 {
        sim.backend(stream, BackendEvent::EndOfUtterance);
        let answer = Answer {
            match_kind: MatchKind::NoInput,
            ..speaking("Are you there?", secs(1.0), true)
        };
        sim.answer(stream, answer);
        sim.run(secs(1.5));
    }
    assert_eq!(sim.ended, Some(EndReason::NoInput));
}

#[test]
fn an_utterance_without_end_is_half_closed_at_the_ceiling() {
    let mut sim = Sim::listening();
    for _ in 0..54 {
        sim.backend(2, interim("and then"));
        sim.run(secs(1.0));
    }
    assert!(sim.take_closed().is_empty());
    sim.run(secs(2.0));
    assert_eq!(sim.take_closed(), [StreamId(2)]);
}

#[test]
fn digits_cut_the_prompt_cancel_the_stream_and_have_a_turn_of_their_own() {
    let mut sim = Sim::new(settings());
    let mut menu = speaking("Press one or two", secs(5.0), true);
    menu.settings.dtmf = Some(DtmfSettings {
        max_digits: Some(1),
        ..DtmfSettings::default()
    });
    sim.answer(1, menu);
    sim.run(secs(1.0));
    sim.press('2');
    assert_eq!(sim.take_cancelled(), [StreamId(2)]);
    assert_eq!(
        sim.opened().last(),
        Some(&TurnInput::Dtmf {
            digits: "2".into(),
            finish_digit: None
        })
    );
    assert_eq!(sim.outcomes(), [SegmentOutcome::Cut]);
}

#[test]
fn digits_pressed_while_the_agent_thinks_wait_for_their_turn() {
    let mut sim = Sim::listening();
    sim.hear_utterance(2, "my number is");
    sim.press('4');
    sim.press('2');
    sim.press('#');
    assert!(sim.opened().is_empty(), "two turns at once would race");
    sim.answer(2, Answer::default());
    let finish_digit = Digit::from_char('#');
    assert_eq!(
        sim.opened(),
        [TurnInput::Dtmf {
            digits: "42".into(),
            finish_digit
        }]
    );
}

#[test]
fn a_pause_ends_the_digits() {
    let mut sim = Sim::listening();
    sim.press('7');
    sim.run(secs(2.9));
    assert!(sim.opened().is_empty());
    sim.run(ms(200));
    assert_eq!(
        sim.opened(),
        [TurnInput::Dtmf {
            digits: "7".into(),
            finish_digit: None
        }]
    );
}

#[test]
fn a_leg_that_sends_nothing_is_silence_to_the_agent() {
    let mut sim = Sim::listening();
    let before = sim.sent_to(2);
    sim.muted = true;
    sim.run(secs(2.0));
    let gained = sim.sent_to(2) - before;
    assert!(
        (8 * 1_700..=8 * 2_000).contains(&gained),
        "audio time keeps step with wall time: {gained} samples"
    );
}

#[test]
fn the_latency_of_a_turn_runs_from_the_last_word_to_the_first_sample() {
    let mut sim = Sim::listening();
    sim.run(secs(1.0));
    sim.backend(2, interim("yes"));
    sim.run(secs(1.0));
    let end_offset = sim.now.duration_since(sim.stream_opened) - ms(700);
    sim.backend(2, final_words("yes", end_offset));
    sim.backend(2, BackendEvent::EndOfUtterance);
    sim.run(ms(300));
    sim.answer(2, speaking("Good", secs(1.0), true));
    let latency = sim.measures.iter().find_map(|measure| match measure {
        Measure::TurnLatency(latency) => Some(*latency),
        _ => None,
    });
    let latency = latency.expect("measured");
    assert!(latency >= ms(1_000) && latency <= ms(1_250), "{latency:?}");
}

#[test]
fn the_latency_of_a_turn_is_told_once_however_many_answers_it_has() {
    let mut sim = Sim::listening();
    sim.hear_utterance(2, "book a table");
    sim.answer(2, partial(ms(500), Cancellation::Allowed));
    sim.run(secs(1.0));
    sim.answer(2, speaking("Done", secs(1.0), true));
    sim.run(secs(2.0));
    let told = sim
        .measures
        .iter()
        .filter(|measure| matches!(measure, Measure::TurnLatency(_)));
    assert_eq!(told.count(), 1);
}

#[test]
fn the_silence_in_which_the_agent_thought_is_not_sent_again() {
    let mut sim = Sim::listening();
    sim.speak(secs(1.0));
    sim.run(ms(700));
    let end_offset = sim.now.duration_since(sim.stream_opened) - ms(700);
    sim.backend(2, final_words("yes", end_offset));
    sim.backend(2, BackendEvent::EndOfUtterance);
    sim.run(secs(3.0));
    sim.answer(2, speaking("The legal notice", secs(2.0), false));
    let opened = sim.opened();
    let [TurnInput::Speech { barge_in, .. }] = opened.as_slice() else {
        panic!("{opened:?}")
    };
    assert_eq!(
        (barge_in.no_barge_in, barge_in.total),
        (ms(2_200), ms(2_200)),
        "a prompt and a fifth of a second"
    );
}

#[test]
fn a_call_ends_once_and_says_nothing_after() {
    let mut sim = Sim::new(settings());
    sim.handle(Event::LegEnded(LegEnd::HungUp));
    sim.handle(Event::Stop(EndReason::Operator));
    sim.run(secs(1.0));
    assert_eq!(sim.ends, 1);
    assert_eq!(sim.ended, Some(EndReason::CallerHungUp));
    assert_eq!(sim.take_cancelled(), [StreamId(1)]);
    assert_eq!(sim.call.deadline(), None);
}

#[test]
fn a_call_is_no_longer_than_its_limit() {
    let mut sim = Sim::new(CallSettings {
        call_duration: secs(30.0),
        hand_off_to: None,
        transfer_failed_event: "TRANSFER_FAILED".into(),
        ..settings()
    });
    sim.run(secs(31.0));
    assert_eq!(sim.ended, Some(EndReason::DurationLimit));
}

#[test]
fn late_events_of_an_old_stream_change_nothing() {
    let mut sim = Sim::listening();
    sim.backend(1, BackendEvent::Closed(Some(fault(FaultKind::Internal))));
    sim.answer(1, speaking("Once more", secs(1.0), true));
    sim.run(ms(100));
    assert!(sim.opened().is_empty());
    assert_eq!(sim.outcomes(), []);
}

#[test]
fn frames_are_played_at_the_pace_of_speech_and_the_tone_is_heard() {
    for format in [
        AudioFormat {
            encoding: Encoding::Mulaw,
            rate: SampleRate::HZ_8000,
        },
        AudioFormat {
            encoding: Encoding::Alaw,
            rate: SampleRate::HZ_8000,
        },
        AudioFormat {
            encoding: Encoding::Linear16,
            rate: SampleRate::HZ_16000,
        },
    ] {
        let mut sim = Sim::new(settings());
        sim.answer(
            1,
            Answer {
                output_audio: tone_audio(format, secs(2.0)),
                ..Answer::default()
            },
        );
        sim.run(secs(1.0));
        let early = sim.playing.len() as f64 / 8_000.0;
        assert!(
            (1.0..1.2).contains(&early),
            "{format:?}: {early} s after one second"
        );
        sim.run(secs(1.5));
        assert!(
            (15_900..16_500).contains(&sim.playing.len()),
            "{format:?}: {} samples",
            sim.playing.len()
        );
        let level = tone_level(8_000, 800.0, &sim.playing[4_000..12_000]);
        assert!(
            (7_500.0..8_500.0).contains(&level),
            "{format:?}: level {level}"
        );
    }
}

#[test]
fn a_riff_header_in_a_mulaw_answer_is_not_heard_as_noise() {
    let mut wav =
        b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0\x07\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0\0\0data"
            .to_vec();
    wav.extend(1_600u32.to_le_bytes());
    wav.extend([g711::MULAW_SILENCE; 1_600]);
    let mut sim = Sim::new(settings());
    let format = Some(AudioFormat {
        encoding: Encoding::Mulaw,
        rate: SampleRate::HZ_8000,
    });
    sim.answer(
        1,
        Answer {
            output_audio: Audio {
                bytes: wav.into(),
                format,
            },
            ..Answer::default()
        },
    );
    sim.run(secs(1.0));
    assert_eq!(sim.playing.len(), 1_600);
    assert!(sim.playing.iter().all(|sample| *sample == 0));
}

// --- The simulation ---------------------------------------------------------------------------------------------------

/// A call in virtual time, with a caller who is silent unless told to speak and a far end that plays what it gets.
struct Sim {
    call: Call,
    now: Instant,
    next_frame: Instant,
    muted: bool,
    voice: VecDeque<Frame>,
    mark: Vec<i16>,
    confirming: bool,
    marks: VecDeque<(Instant, SegmentId)>,
    playing_until: Instant,
    playing: Vec<i16>,
    frames: u64,
    clears: u32,
    opened: Vec<OpenTurn>,
    last_stream: Option<StreamId>,
    stream_opened: Instant,
    sent: Vec<(StreamId, Vec<u8>)>,
    closed: Vec<StreamId>,
    cancelled: Vec<StreamId>,
    notices: Vec<Notice>,
    measures: Vec<Measure>,
    answers: u32,
    transfers: Vec<Transfer>,
    fetches: Vec<(ClipId, String)>,
    tools: Vec<ToolCall>,
    ends: u32,
    ended: Option<EndReason>,
}

/// What was played up to a moment.
struct Snapshot {
    played: usize,
}

impl Sim {
    fn new(settings: CallSettings) -> Self {
        let now = some_instant();
        let mut sim = Self {
            call: Call::new(settings, now),
            now,
            next_frame: now + FRAME_DURATION,
            muted: false,
            voice: VecDeque::new(),
            mark: Vec::new(),
            confirming: true,
            marks: VecDeque::new(),
            playing_until: now,
            playing: Vec::new(),
            frames: 0,
            clears: 0,
            opened: Vec::new(),
            last_stream: None,
            stream_opened: now,
            sent: Vec::new(),
            closed: Vec::new(),
            cancelled: Vec::new(),
            notices: Vec::new(),
            measures: Vec::new(),
            answers: 0,
            transfers: Vec::new(),
            fetches: Vec::new(),
            tools: Vec::new(),
            ends: 0,
            ended: None,
        };
        sim.act();
        sim
    }

    /// A call whose greeting has been played and whose caller is listened to on stream 2.
    fn listening() -> Self {
        let mut sim = Self::new(settings());
        sim.answer(1, speaking("Welcome", ms(200), true));
        sim.run(ms(400));
        sim.opened.clear();
        sim.notices.clear();
        sim.measures.clear();
        sim
    }

    fn handle(&mut self, event: Event) {
        self.call.handle(event, self.now);
        self.act();
    }

    fn backend(&mut self, stream: u32, event: BackendEvent) {
        self.handle(Event::Backend(StreamId(stream), event));
    }

    fn answer(&mut self, stream: u32, answer: Answer) {
        let last = answer.partial.is_none();
        self.backend(stream, BackendEvent::Answer(Box::new(answer)));
        if last {
            self.backend(stream, BackendEvent::Closed(None));
        }
    }

    fn fail(&mut self, stream: u32, kind: FaultKind) {
        self.backend(stream, BackendEvent::Closed(Some(fault(kind))));
    }

    fn press(&mut self, key: char) {
        self.press_by(key, DigitSource::Twilio);
    }

    fn press_by(&mut self, key: char, source: DigitSource) {
        self.handle(Event::Digit(Digit::from_char(key).expect("a key"), source));
    }

    /// The caller says something, which the backend understands at once.
    fn hear_utterance(&mut self, stream: u32, words: &str) {
        let end_offset = self.now.duration_since(self.stream_opened);
        self.backend(stream, interim(words));
        self.backend(stream, final_words(words, end_offset));
        self.backend(stream, BackendEvent::EndOfUtterance);
        self.closed.clear();
    }

    /// The caller speaks for so long: something that the voice detector takes for speech.
    fn speak(&mut self, duration: Duration) {
        let samples = voice(SampleRate::HZ_8000.samples_in(duration) as usize);
        self.say(&samples);
    }

    /// Like [`Sim::speak`], and [`Sim::mark_is_in`] finds it again.
    fn speak_marked(&mut self, duration: Duration) {
        let samples = voice(SampleRate::HZ_8000.samples_in(duration) as usize);
        self.mark = samples[samples.len() * 2 / 3..][..400].to_vec();
        self.say(&samples);
    }

    fn say(&mut self, samples: &[i16]) {
        let frames = samples
            .chunks(160)
            .map(|chunk| Frame::new(SampleRate::HZ_8000, chunk));
        self.voice.extend(frames);
        self.run(SampleRate::HZ_8000.duration_of(samples.len() as u64));
    }

    /// Whether a part of the last third of what was spoken by [`Sim::speak_marked`] is in `audio`.
    fn mark_is_in(&self, audio: &[u8]) -> bool {
        let mark: Vec<u8> = self
            .mark
            .iter()
            .map(|sample| g711::encode_mulaw(*sample))
            .collect();
        assert!(!mark.is_empty(), "nothing was marked");
        audio.windows(mark.len()).any(|window| window == mark)
    }

    /// Lets time pass: every frame, mark and deadline at its own moment.
    fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            let deadline = self.call.deadline().filter(|deadline| *deadline > self.now);
            let mark = self.marks.front().map(|(at, _)| *at);
            let next = [deadline, mark, Some(self.next_frame)]
                .into_iter()
                .flatten()
                .min()
                .expect("there is a frame");
            if next > until {
                break;
            }
            self.now = next;
            if let Some((_, segment)) = self.marks.pop_front_if(|(at, _)| *at <= next) {
                self.call.handle(Event::MarkReached(segment), next);
            }
            if self.next_frame <= next {
                self.next_frame += FRAME_DURATION;
                let frame = self
                    .voice
                    .pop_front()
                    .unwrap_or_else(|| Frame::silence(SampleRate::HZ_8000));
                if !self.muted {
                    self.call.hear(&frame, next);
                }
            }
            self.call.tick(next);
            self.act();
        }
        self.now = until;
    }

    fn at(&mut self, duration: Duration) -> Snapshot {
        self.run(duration);
        Snapshot {
            played: self.playing.len(),
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.call.poll() {
            assert_eq!(self.ends, 0, "an action after the end");
            match action {
                Action::Play(frame) => {
                    self.frames += 1;
                    self.playing.extend(frame.samples());
                    self.playing_until = self.playing_until.max(self.now) + FRAME_DURATION;
                }
                Action::Mark(segment) if self.confirming => {
                    self.marks.push_back((self.playing_until, segment));
                }
                Action::Mark(_) => {}
                Action::Clear => {
                    self.clears += 1;
                    self.playing_until = self.now;
                    // A far end returns the marks of what it threw away, at once.
                    for (at, _) in &mut self.marks {
                        *at = self.now;
                    }
                }
                Action::Open(turn) => {
                    self.last_stream = Some(turn.stream);
                    self.stream_opened = self.now;
                    self.opened.push(turn);
                }
                Action::SendAudio(stream, bytes) => {
                    assert!(!self.closed.contains(&stream), "audio after the half-close");
                    self.sent.push((stream, bytes.to_vec()));
                }
                Action::SendRest(stream, bytes) => self.sent.push((stream, bytes.to_vec())),
                Action::HalfClose(stream) => self.closed.push(stream),
                Action::Cancel(stream) => self.cancelled.push(stream),
                Action::Answer => self.answers += 1,
                Action::Transfer(transfer) => self.transfers.push(transfer),
                Action::Fetch(clip, uri) => self.fetches.push((clip, uri)),
                Action::RunTool(call) => self.tools.push(call),
                Action::Tell(notice) => self.notices.push(notice),
                Action::Measure(Measure::TickLateness(lateness)) => {
                    assert!(lateness.is_zero(), "late in virtual time");
                }
                Action::Measure(measure) => self.measures.push(measure),
                Action::End(reason) => {
                    self.ends += 1;
                    self.ended = Some(reason);
                }
            }
        }
    }

    fn opened(&self) -> Vec<TurnInput> {
        self.opened.iter().map(|turn| turn.input.clone()).collect()
    }

    fn take_closed(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.closed)
    }

    fn take_cancelled(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.cancelled)
    }

    /// How every segment has ended since this was last asked.
    fn outcomes(&mut self) -> Vec<SegmentOutcome> {
        let outcomes = self.measures.iter().filter_map(|measure| match measure {
            Measure::Segment(outcome) => Some(*outcome),
            _ => None,
        });
        let outcomes = outcomes.collect();
        self.measures
            .retain(|measure| !matches!(measure, Measure::Segment(_)));
        outcomes
    }

    fn audio_sent_to(&self, stream: u32) -> Vec<u8> {
        let sent = self.sent.iter().filter(|(id, _)| *id == StreamId(stream));
        sent.flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }

    fn sent_to(&self, stream: u32) -> usize {
        self.audio_sent_to(stream).len()
    }

    fn unheard(&self) -> bool {
        self.measures
            .iter()
            .any(|measure| matches!(measure, Measure::Unheard(_)))
    }
}

/// Any moment will do: the engine only ever compares.
#[expect(
    clippy::disallowed_methods,
    reason = "a simulation has to begin somewhere"
)]
fn some_instant() -> Instant {
    Instant::now()
}

fn settings() -> CallSettings {
    CallSettings::new(LegTraits {
        rate: SampleRate::HZ_8000,
        lead: ms(100),
        confirms_playout: true,
        continuous: false,
        rings: None,
        transfers: false,
        dials: false,
    })
}

fn barge_in(mode: BargeInMode) -> BargeIn {
    BargeIn {
        mode,
        ..BargeIn::default()
    }
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A listening turn whose windows are this many seconds long; what the stream replays of the past is left out.
fn speech(no_barge_in: f64, total: f64) -> TurnInput {
    let window = |seconds: f64| {
        if seconds == 0.0 {
            Duration::ZERO
        } else {
            secs(seconds)
        }
    };
    TurnInput::Speech {
        format: settings().uplink,
        barge_in: BargeInWindow {
            no_barge_in: window(no_barge_in),
            total: window(total),
        },
    }
}

fn interim(text: &str) -> BackendEvent {
    BackendEvent::Interim {
        text: text.to_owned(),
    }
}

fn final_words(text: &str, end_offset: Duration) -> BackendEvent {
    BackendEvent::Final {
        text: text.to_owned(),
        end_offset: Some(end_offset),
    }
}

fn fault(kind: FaultKind) -> Fault {
    Fault {
        kind,
        message: "as the test asked".to_owned(),
    }
}

/// A final answer that speaks for so long.
fn speaking(text: &str, duration: Duration, interruptible: bool) -> Answer {
    Answer {
        output_audio: tone_audio(settings().downlink, duration),
        messages: vec![Message::Text {
            text: text.to_owned(),
            interruptible,
        }],
        ..Answer::default()
    }
}

fn partial(duration: Duration, cancellation: Cancellation) -> Answer {
    Answer {
        partial: Some(cancellation),
        ..speaking("One moment", duration, true)
    }
}

fn tone_audio(format: AudioFormat, duration: Duration) -> Audio {
    let width = format.encoding.bytes_per_sample();
    let samples = tone(format.rate.hz(), 800.0, 8_000, duration.as_secs_f64());
    let mut bytes = vec![0; samples.len() * width];
    format.encoding.encode(&samples, &mut bytes);
    Audio {
        bytes: Bytes::from(bytes),
        format: Some(format),
    }
}
