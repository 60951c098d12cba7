//! What a telephone's leg adds: ringing, a steady pace, hold, transfers that may fail, keys that arrive by two ways.

use super::*;

#[test]
fn a_ringing_caller_is_answered_when_the_agents_first_words_are_ready_and_hears_them_all() {
    let mut sim = Sim::new(telephone());
    sim.run(ms(400));
    assert_eq!((sim.answers, sim.frames), (0, 0));
    sim.answer(1, speaking("Welcome", secs(1.0), true));
    assert_eq!(
        (sim.answers, sim.frames),
        (1, 0),
        "nothing before the line is open"
    );
    sim.run(ms(300));
    assert_eq!(sim.frames, 0);
    sim.handle(Event::Answered);
    sim.run(secs(1.1));
    assert_eq!(sim.outcomes(), [SegmentOutcome::Played]);
    assert!(sim.tone_seconds() > 0.97, "{} s", sim.tone_seconds());
    let first_audio = sim.measures.iter().find_map(|measure| match measure {
        Measure::AnswerToFirstAudio(delay) => Some(*delay),
        _ => None,
    });
    assert!(first_audio.is_some_and(|delay| delay <= ms(20)));
}

#[test]
fn a_caller_does_not_ring_longer_than_the_limit_however_slow_the_agent_is() {
    let mut sim = Sim::new(telephone());
    sim.run(ms(2_900));
    assert_eq!(sim.answers, 0);
    sim.run(ms(200));
    assert_eq!(sim.answers, 1);
    sim.handle(Event::Answered);
    sim.answer(1, speaking("Welcome", secs(1.0), true));
    sim.run(secs(2.0));
    assert_eq!(
        (sim.answers, sim.outcomes()),
        (1, vec![SegmentOutcome::Played])
    );
}

#[test]
fn a_call_whose_agent_fails_while_it_rings_ends_unanswered() {
    let mut sim = Sim::new(telephone());
    sim.fail(1, FaultKind::PermissionDenied);
    assert_eq!(
        (sim.answers, sim.ended),
        (0, Some(EndReason::BackendFailed))
    );
}

#[test]
fn an_open_line_gets_a_frame_every_20_ms_whether_the_agent_speaks_or_not() {
    let mut sim = Sim::talking();
    let before = sim.frames;
    sim.run(secs(2.0));
    assert_eq!(sim.frames - before, 100);
    sim.hear_utterance(2, "hello");
    sim.answer(2, speaking("Hello", secs(1.0), true));
    sim.run(secs(2.0));
    assert_eq!(sim.frames - before, 200);
    sim.backend(3, interim("stop"));
    sim.run(secs(1.0));
    assert_eq!(
        sim.frames - before,
        250,
        "a cut changes nothing of the pace"
    );
}

#[test]
fn while_the_call_is_held_nothing_is_played_and_nobody_is_missed() {
    let mut sim = Sim::talking();
    sim.hear_utterance(2, "book a table");
    sim.answer(2, speaking("For how many?", secs(2.0), true));
    sim.run(secs(1.0));
    sim.handle(Event::Held(true));
    assert_eq!(sim.take_cancelled(), [StreamId(3)]);
    let before = sim.frames;
    sim.run(secs(60.0));
    assert_eq!((sim.frames, sim.ended), (before, None));
    assert_eq!(sim.opened().len(), 3, "nobody listens to the music on hold");
    sim.handle(Event::Held(false));
    sim.run(secs(1.5));
    assert_eq!(
        sim.outcomes(),
        [SegmentOutcome::Played],
        "the prompt goes on where it was"
    );
    assert_eq!(sim.opened().len(), 4);
    assert!(sim.tone_seconds() > 1.9, "{} s", sim.tone_seconds());
}

#[test]
fn an_answer_that_arrives_while_the_call_is_held_waits_for_the_caller() {
    let mut sim = Sim::talking();
    sim.backend(2, interim("book a table"));
    sim.handle(Event::Held(true));
    assert_eq!(
        sim.take_closed(),
        [StreamId(2)],
        "what was said is brought to its end"
    );
    let before = sim.frames;
    sim.answer(2, speaking("For how many?", secs(1.0), true));
    sim.run(secs(5.0));
    assert_eq!(sim.frames, before);
    sim.handle(Event::Held(false));
    sim.run(secs(1.5));
    assert_eq!(sim.outcomes(), [SegmentOutcome::Played]);
}

#[test]
fn a_transfer_is_asked_for_once_everything_has_been_said_and_ends_the_call_when_it_is_done() {
    let mut sim = Sim::talking();
    sim.hear_utterance(2, "a person please");
    sim.answer(
        2,
        transferring(Message::TransferCall("+15551234567".into())),
    );
    sim.run(ms(900));
    assert!(sim.transfers.is_empty());
    sim.run(ms(300));
    let wanted = Transfer {
        to: "+15551234567".into(),
        metadata: serde_json::Value::Null,
    };
    assert_eq!((&sim.transfers[..], sim.ended), (&[wanted][..], None));
    sim.run(secs(5.0));
    assert_eq!(sim.transfers.len(), 1, "asked for once");
    sim.handle(Event::TransferEnded(Ok(())));
    assert_eq!(sim.ended, Some(EndReason::Transferred));
}

#[test]
fn a_refused_transfer_returns_the_caller_to_the_agent_with_an_event() {
    let mut sim = Sim::talking();
    sim.hear_utterance(2, "a person please");
    sim.answer(
        2,
        transferring(Message::TransferCall("+15551234567".into())),
    );
    sim.run(secs(2.0));
    sim.handle(Event::TransferEnded(Err("603 Decline".into())));
    assert_eq!(
        sim.opened().last(),
        Some(&TurnInput::Event("TRANSFER_FAILED".into()))
    );
    let last = sim.last_stream.expect("a stream").0;
    sim.answer(last, speaking("Nobody is free", secs(1.0), true));
    sim.run(secs(2.0));
    assert_eq!(sim.ended, None);
    assert!(
        matches!(sim.opened().last(), Some(TurnInput::Speech { .. })),
        "the caller is listened to again"
    );
}

#[test]
fn a_hand_off_without_a_target_goes_where_the_route_says_and_ends_the_call_where_it_says_nothing() {
    let people = serde_json::json!({"skill": "billing"});
    let mut sim = Sim::talking_with(CallSettings {
        hand_off_to: Some("sip:queue@pbx".into()),
        ..telephone()
    });
    sim.hear_utterance(2, "a person please");
    sim.answer(2, transferring(Message::LiveAgentHandoff(people.clone())));
    sim.run(secs(2.0));
    let wanted = Transfer {
        to: "sip:queue@pbx".into(),
        metadata: people.clone(),
    };
    assert_eq!(sim.transfers, [wanted]);

    let mut sim = Sim::talking();
    sim.hear_utterance(2, "a person please");
    sim.answer(2, transferring(Message::LiveAgentHandoff(people)));
    sim.run(secs(2.0));
    assert_eq!(
        (sim.transfers.len(), sim.ended),
        (0, Some(EndReason::Transferred))
    );
}

#[test]
fn a_caller_whose_side_hangs_up_while_being_transferred_was_transferred() {
    let mut sim = Sim::talking();
    sim.hear_utterance(2, "a person please");
    sim.answer(2, transferring(Message::TransferCall("1000".into())));
    sim.run(secs(2.0));
    sim.handle(Event::LegEnded(LegEnd::HungUp));
    assert_eq!(sim.ended, Some(EndReason::Transferred));
}

#[test]
fn one_press_is_one_digit_by_however_many_ways_it_comes() {
    let mut sim = Sim::talking();
    // 1 1 2, each as an event and as tones; the INFO of each follows when the key is released.
    for (key, source) in [
        ('1', DigitSource::Rtp),
        ('1', DigitSource::InBand),
        ('1', DigitSource::Rtp),
        ('1', DigitSource::Info),
        ('1', DigitSource::InBand),
        ('2', DigitSource::InBand),
        ('1', DigitSource::Info),
        ('2', DigitSource::Rtp),
        ('2', DigitSource::Info),
    ] {
        sim.press_by(key, source);
        sim.run(ms(80));
    }
    sim.run(secs(4.0));
    let digits = sim.opened().into_iter().find_map(|input| match input {
        TurnInput::Dtmf { digits, .. } => Some(digits),
        _ => None,
    });
    assert_eq!(digits.as_deref(), Some("112"));
}

#[test]
fn the_same_key_by_another_way_much_later_is_another_press() {
    let mut sim = Sim::talking();
    sim.press_by('5', DigitSource::Rtp);
    sim.run(secs(2.5));
    sim.press_by('5', DigitSource::InBand);
    sim.run(secs(4.0));
    let pressed = sim
        .notices
        .iter()
        .filter(|notice| matches!(notice, Notice::Dtmf { digit: '5' }))
        .count();
    assert_eq!(pressed, 2);
}

/// A telephone's leg: it rings, wants a steady pace, buffers nothing and confirms nothing.
fn telephone() -> CallSettings {
    CallSettings {
        leg: LegTraits {
            rate: SampleRate::HZ_8000,
            lead: Duration::ZERO,
            confirms_playout: false,
            continuous: true,
            rings: Some(secs(3.0)),
            transfers: true,
            dials: false,
        },
        ..settings()
    }
}

fn transferring(message: Message) -> Answer {
    let mut answer = speaking("One moment please", secs(1.0), true);
    answer.messages.push(message);
    answer
}

impl Sim {
    /// An answered call whose greeting has been heard, with the caller listened to on stream 2.
    fn talking() -> Self {
        Self::talking_with(telephone())
    }

    fn talking_with(settings: CallSettings) -> Self {
        let mut sim = Self::new(settings);
        sim.answer(1, speaking("Welcome", ms(100), true));
        sim.handle(Event::Answered);
        sim.run(ms(200));
        assert_eq!(sim.outcomes(), [SegmentOutcome::Played]);
        sim.playing.clear();
        sim
    }

    /// How many seconds of the agent's tone were played.
    fn tone_seconds(&self) -> f64 {
        let loud = self
            .playing
            .chunks(160)
            .filter(|frame| frame.iter().any(|sample| sample.abs() > 4_000));
        loud.count() as f64 * 0.02
    }
}
