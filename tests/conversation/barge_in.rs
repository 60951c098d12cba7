//! Who may interrupt what, and how.

use tandem::engine::call::event::AudioFormat;
use tandem::engine::call::event::Cancellation;
use tandem::engine::call::event::Encoding;
use tandem::engine::call::event::MatchKind;
use tandem::engine::call::notice::Measure;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;
use tandem::engine::call::settings::BargeInMode;
use tandem::engine::media::frame::SampleRate;

use crate::agent::AGENT_HZ;
use crate::agent::Piece;
use crate::agent::says;
use crate::agent::silent;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;
use crate::sound;

behaviours! {
    /// facts §4, design §4.5
    words_cut_an_interruptible_prompt,
    /// facts §4
    the_stream_that_heard_the_interruption_goes_on_listening,
    /// design §4.5
    voice_ducks_the_prompt_at_once,
    /// design §4.5
    words_after_the_duck_cut,
    /// design §4.5, field notes 11
    a_cough_ducks_and_then_nothing_of_the_prompt_is_missed,
    /// design §4.5, field notes 11
    several_coughs_cost_nothing_either,
    /// design §4.5, field notes 11
    a_cough_at_the_very_end_gives_the_end_back,
    /// design §4.5, field notes 8
    a_burst_of_noise_cuts_nothing,
    /// design §4.5
    voice_without_words_gives_the_prompt_back_after_four_seconds,
    /// design §4.5
    words_that_no_local_voice_announced_cut_all_the_same,
    /// facts §2.2, design §4.5
    words_that_come_after_the_end_of_the_utterance_cut_if_the_agent_understands_them,
    /// facts §2.2, field notes 11
    late_words_of_which_the_agent_makes_nothing_cut_nothing,
    /// facts §3.1, design §4.5
    words_that_come_with_the_answer_cut_too,
    /// facts §3.2
    words_that_come_after_a_partial_answer_do_not_cut_it,
    /// facts §4
    blank_words_cut_nothing,
    /// design §4.5
    in_the_voice_mode_voice_that_lasts_cuts_without_words,
    /// design §4.5
    in_the_voice_mode_a_short_sound_cuts_nothing,
    /// design §4.5, facts §4
    with_barge_in_off_neither_voice_nor_words_have_any_effect,
    /// facts §4, field notes 8, field notes 14
    over_a_protected_prompt_nothing_changes_and_the_refusal_is_counted_once,
    /// facts §4, field notes 14
    a_protected_piece_is_heard_out_and_the_next_one_may_be_cut,
    /// facts §4
    once_a_piece_may_be_interrupted_those_after_it_may_be_too,
    /// field notes 12
    back_channels_cut_nothing,
    /// field notes 12
    real_words_after_a_back_channel_cut,
    /// field notes 12, design §4.3
    an_utterance_of_back_channels_alone_is_no_turn,
    /// facts §5.1, design §4.7
    digits_barge_in,
    /// facts §5.1, facts §4
    digits_over_a_protected_prompt_are_collected_and_cut_nothing,
    /// field notes 6, field notes 7, field notes 20
    nothing_of_a_cut_prompt_is_heard_in_the_next_one,
    /// design §4.5
    a_prompt_that_is_not_to_be_ducked_goes_on_as_it_was,
}

fn words_cut_an_interruptible_prompt(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(2.0));
    call.begin_to_speak(secs(1.0));
    call.run(ms(300));
    call.interim("book");
    let cut = call.age();
    assert_eq!(call.count(|did| *did == Did::Cleared), 1);
    assert_eq!(call.outcomes(), [SegmentOutcome::Cut]);
    assert_eq!(call.barge_ins(), 1);
    assert_eq!(
        call.count(|did| matches!(did, Did::Measured(Measure::BargeIn(_)))),
        1
    );
    call.run(secs(3.0));
    let last = call.ear().ends(AGENT_HZ).expect("it was heard");
    assert!(last <= cut + ms(20), "heard until {last:?}, cut at {cut:?}");
}

fn the_stream_that_heard_the_interruption_goes_on_listening(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(1.0));
    let stream = call.stream();
    let phrase = call.begin_to_speak(ms(1_500));
    call.run(ms(400));
    call.interim("book");
    call.run(secs(1.5));
    assert_eq!(call.stream(), stream);
    assert!(call.is_listening());
    assert_none(&call.half_closed());
    call.assert_heard(stream, &phrase);
}

fn voice_ducks_the_prompt_at_once(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(1.0));
    let began = call.age();
    call.begin_to_speak(ms(600));
    call.run(ms(700));
    assert_eq!(call.told(&Notice::Ducked), 1);
    let ducked = call
        .when(|did| *did == Did::Told(Notice::Ducked))
        .expect("ducked");
    assert!(
        ducked <= began + ms(250),
        "{:?} after the voice began",
        ducked - began
    );
    assert_eq!(call.barge_ins(), 0, "nothing is cut yet");
    let quiet = call.ear().ducked(AGENT_HZ);
    assert!(quiet >= ms(200), "heard quietly for {quiet:?}");
}

fn words_after_the_duck_cut(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(1.0));
    call.speak(ms(600));
    assert_eq!((call.told(&Notice::Ducked), call.barge_ins()), (1, 0));
    call.interim("book a table");
    assert_eq!(call.barge_ins(), 1);
    call.run(secs(6.0));
    assert_eq!(call.told(&Notice::Restored), 0);
    assert_eq!(call.outcomes(), [SegmentOutcome::Cut]);
}

fn a_cough_ducks_and_then_nothing_of_the_prompt_is_missed(kind: Ingress) {
    let steps = [600.0, 800.0, 1_000.0, 1_200.0, 1_400.0, 1_600.0];
    let prompt = says("A welcome in six parts", 0.0).tones(&steps, 0.5);
    let mut call = Conversation::greeted(kind, prompt);
    call.run(ms(700));
    call.speak(ms(350));
    call.run(secs(8.0));
    assert_eq!(call.told(&Notice::Ducked), 1);
    assert_eq!((call.told(&Notice::Restored), call.barge_ins()), (1, 0));
    assert_eq!(call.measured(&Measure::BargeInRestored), 1);
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    for hz in steps {
        let loud = call.ear().loud(hz);
        assert!(loud >= ms(440), "{hz} Hz was heard for {loud:?}");
    }
}

fn several_coughs_cost_nothing_either(kind: Ingress) {
    let steps = [
        600.0, 800.0, 1_000.0, 1_200.0, 1_400.0, 1_600.0, 1_800.0, 2_000.0,
    ];
    let prompt = says("A welcome in eight parts", 0.0).tones(&steps, 0.5);
    let mut call = Conversation::greeted(kind, prompt);
    call.run(ms(700));
    call.speak(ms(350));
    call.run(secs(2.5));
    call.speak(ms(350));
    call.run(secs(8.0));
    assert_eq!(
        (call.told(&Notice::Ducked), call.told(&Notice::Restored)),
        (2, 2)
    );
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
    for hz in steps {
        let loud = call.ear().loud(hz);
        assert!(loud >= ms(440), "{hz} Hz was heard for {loud:?}");
    }
}

fn a_cough_at_the_very_end_gives_the_end_back(kind: Ingress) {
    let steps = [600.0, 800.0, 1_000.0, 1_200.0];
    let prompt = says("A welcome in four parts", 0.0).tones(&steps, 0.5);
    let mut call = Conversation::greeted(kind, prompt);
    // Early enough that Twilio has not got all of it yet: what is buffered there can no longer be ducked.
    call.run(ms(1_450));
    call.speak(ms(300));
    call.run(secs(5.0));
    assert_eq!(
        (call.told(&Notice::Ducked), call.told(&Notice::Restored)),
        (1, 1)
    );
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    let last = call.ear().loud(1_200.0);
    assert!(last >= ms(440), "the end was heard for {last:?}");
    assert!(call.is_listening());
}

fn a_burst_of_noise_cuts_nothing(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A welcome", 4.0));
    call.run(secs(1.0));
    let burst = sound::noise(call.format().rate, 6_000.0, ms(300));
    call.utter(&burst);
    call.run(secs(9.0));
    assert_eq!(call.barge_ins(), 0);
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert_eq!(call.told(&Notice::Ducked), call.told(&Notice::Restored));
    let loud = call.ear().loud(AGENT_HZ);
    assert!(loud >= ms(3_900), "heard for {loud:?}");
}

fn voice_without_words_gives_the_prompt_back_after_four_seconds(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A welcome", 6.0));
    call.run(secs(1.0));
    call.begin_to_speak(secs(7.0));
    call.run_until(secs(1.0), |call| call.told(&Notice::Ducked) == 1);
    let ducked = call.age();
    call.run_until(secs(5.0), |call| call.told(&Notice::Restored) == 1);
    assert_about(call.age() - ducked, secs(4.0), ms(100));
    call.run(secs(12.0));
    assert_eq!(call.barge_ins(), 0);
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
}

fn words_that_no_local_voice_announced_cut_all_the_same(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(3.0));
    call.interim("book");
    assert_eq!((call.told(&Notice::Ducked), call.barge_ins()), (0, 1));
    assert_eq!(call.outcomes(), [SegmentOutcome::Cut]);
}

fn late_words_of_which_the_agent_makes_nothing_cut_nothing(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 4.0));
    call.run(secs(1.0));
    call.speak(ms(600));
    call.endpoint();
    call.final_words("hm");
    call.answer(silent().matched(MatchKind::NoMatch));
    call.run(secs(5.0));
    assert_eq!(call.barge_ins(), 0);
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
}

fn words_that_come_after_the_end_of_the_utterance_cut_if_the_agent_understands_them(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(1.0));
    call.speak(ms(600));
    call.endpoint();
    assert_eq!(call.barge_ins(), 0, "it may have been a cough");
    call.final_words("book a table");
    assert_eq!(call.barge_ins(), 0, "the agent may not understand it");
    call.answer(says("For which day?", 1.0));
    assert_eq!(call.barge_ins(), 1);
    call.run(secs(2.0));
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Cut, SegmentOutcome::Played]
    );
}

fn words_that_come_with_the_answer_cut_too(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("A long welcome", 8.0));
    call.run(secs(1.0));
    call.speak(ms(600));
    call.endpoint();
    call.answer(says("For which day?", 1.0).to("book a table"));
    assert_eq!(call.barge_ins(), 1);
    call.run(secs(2.0));
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Cut, SegmentOutcome::Played]
    );
}

fn words_that_come_after_a_partial_answer_do_not_cut_it(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.speak(ms(600));
    call.endpoint();
    call.answer(says("One moment", 1.0).partial(Cancellation::Forbidden));
    call.run(ms(300));
    call.final_words("book a table");
    call.run(secs(1.0));
    assert_eq!(call.barge_ins(), 0);
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
}

fn blank_words_cut_nothing(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("Welcome", 3.0));
    call.run(secs(1.0));
    call.interim("  ");
    call.run(secs(3.0));
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
}

fn in_the_voice_mode_voice_that_lasts_cuts_without_words(kind: Ingress) {
    let mut call = Conversation::greeted_with(kind, says("A long welcome", 8.0), |settings| {
        settings.barge_in.mode = BargeInMode::Voice;
    });
    call.run(secs(1.0));
    let began = call.age();
    call.begin_to_speak(secs(1.0));
    call.run_until(secs(1.0), |call| call.barge_ins() == 1);
    let took = call.age() - began;
    assert!(took >= ms(300) && took <= ms(700), "{took:?}");
    assert_eq!(call.outcomes(), [SegmentOutcome::Cut]);
}

fn in_the_voice_mode_a_short_sound_cuts_nothing(kind: Ingress) {
    let mut call = Conversation::greeted_with(kind, says("A welcome", 3.0), |settings| {
        settings.barge_in.mode = BargeInMode::Voice;
    });
    call.run(secs(1.0));
    call.speak(ms(100));
    call.run(secs(6.0));
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
}

fn with_barge_in_off_neither_voice_nor_words_have_any_effect(kind: Ingress) {
    let mut call = Conversation::greeted_with(kind, says("A welcome", 3.0), |settings| {
        settings.barge_in.mode = BargeInMode::Off;
    });
    call.run(ms(100));
    assert!(
        call.window().no_barge_in >= secs(3.0),
        "the agent is told: {:?}",
        call.window()
    );
    call.run(ms(400));
    call.speak(secs(1.0));
    call.interim("hello");
    call.run(secs(3.0));
    assert_eq!((call.barge_ins(), call.told(&Notice::Ducked)), (0, 0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert_about(call.ear().loud(AGENT_HZ), secs(3.0), ms(40));
}

fn over_a_protected_prompt_nothing_changes_and_the_refusal_is_counted_once(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("The legal notice", 3.0).protected());
    call.run(secs(1.0));
    let stream = call.stream();
    call.speak(ms(600));
    call.interim("stop");
    call.interim("stop it");
    call.run(secs(2.0));
    assert_eq!(call.count(|did| *did == Did::Cleared), 0);
    assert_eq!((call.barge_ins(), call.told(&Notice::Ducked)), (0, 0));
    assert_eq!(call.measured(&Measure::BargeInRefused), 1);
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert_about(call.ear().loud(AGENT_HZ), secs(3.0), ms(40));
    assert!(call.is_listening() && call.stream() == stream);
}

fn a_protected_piece_is_heard_out_and_the_next_one_may_be_cut(kind: Ingress) {
    let greeting = says("This call is recorded. How may I help?", 0.0).mixed(vec![
        Piece::Tone(600.0, 2.0),
        Piece::Tone(1_000.0, 3.0).interruptible(),
    ]);
    let mut call = Conversation::greeted(kind, greeting);
    call.run(secs(1.0));
    call.interim("yes");
    assert_eq!(call.barge_ins(), 0);
    call.run(secs(2.0));
    call.interim("yes yes");
    assert_eq!(call.barge_ins(), 1);
    call.run(secs(3.0));
    assert_about(call.ear().loud(600.0), secs(2.0), ms(40));
    assert_about(call.ear().loud(1_000.0), secs(1.0), ms(60));
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Played, SegmentOutcome::Cut]
    );
}

fn once_a_piece_may_be_interrupted_those_after_it_may_be_too(kind: Ingress) {
    let greeting = says("A welcome in two parts", 0.0).mixed(vec![
        Piece::Tone(600.0, 1.0).interruptible(),
        Piece::Tone(1_000.0, 3.0),
    ]);
    let mut call = Conversation::greeted(kind, greeting);
    call.run(secs(2.0));
    call.interim("yes");
    assert_eq!(call.barge_ins(), 1);
    assert_eq!(
        call.outcomes(),
        [SegmentOutcome::Played, SegmentOutcome::Cut]
    );
}

/// A prompt of four seconds, over which people may hum.
fn with_back_channels(kind: Ingress) -> Conversation {
    let mut call = Conversation::greeted_with(kind, says("A long story", 5.0), |settings| {
        settings.barge_in.back_channels = vec!["uh-huh".into(), "okay".into(), "i see".into()];
    });
    call.run(secs(1.0));
    call.speak(ms(400));
    call
}

fn back_channels_cut_nothing(kind: Ingress) {
    let mut call = with_back_channels(kind);
    call.interim("Uh-huh");
    call.interim("Uh-huh, okay.");
    call.run(secs(8.0));
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
    let loud = call.ear().loud(AGENT_HZ);
    assert!(loud >= ms(4_900), "heard for {loud:?}");
}

fn real_words_after_a_back_channel_cut(kind: Ingress) {
    let mut call = with_back_channels(kind);
    call.interim("okay");
    assert_eq!(call.barge_ins(), 0);
    call.interim("okay but wait");
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (1, vec![SegmentOutcome::Cut])
    );
}

fn an_utterance_of_back_channels_alone_is_no_turn(kind: Ingress) {
    let mut call = with_back_channels(kind);
    let stream = call.stream();
    call.forget();
    call.interim("okay");
    call.final_words("okay");
    call.endpoint();
    call.run(ms(200));
    assert_eq!(call.cancelled(), [stream], "the agent must not answer it");
    assert_none(&call.half_closed());
    assert!(call.is_listening() && call.stream() != stream);
    call.speak(ms(500));
    call.interim("stop");
    assert_eq!(call.barge_ins(), 1, "the new stream is listened to");
}

fn digits_barge_in(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("Press one or two", 5.0));
    call.run(secs(1.0));
    call.press('2');
    let cut = call.age();
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (1, vec![SegmentOutcome::Cut])
    );
    call.run(secs(2.0));
    assert!(call.ear().ends(AGENT_HZ).expect("heard") <= cut + ms(20));
}

fn digits_over_a_protected_prompt_are_collected_and_cut_nothing(kind: Ingress) {
    let mut call = Conversation::greeted(kind, says("The legal notice", 4.0).protected());
    call.run(secs(1.0));
    call.press('2');
    call.run(ms(3_500));
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
    assert_about(call.ear().loud(AGENT_HZ), secs(4.0), ms(40));
    assert_eq!(call.inputs_but_speech().len(), 1, "the digit has its turn");
}

fn nothing_of_a_cut_prompt_is_heard_in_the_next_one(kind: Ingress) {
    // At a rate that is not the leg's, so that a resampler holds some of it, and at odd moments, so that a frame does.
    let format = AudioFormat {
        encoding: Encoding::Linear16,
        rate: SampleRate::from_hz(24_000).expect("a rate"),
    };
    for cut_after in [1_003, 1_011, 1_018, 1_026] {
        let mut call = Conversation::listening(kind);
        call.understands("the menu");
        call.answer_exactly(says("The menu", 6.0).hz(600.0).answer(format));
        call.run(ms(cut_after));
        call.interim("a pizza");
        let cut = call.age();
        call.understands("a pizza");
        let mut hushed = says("", 0.0).answer(format);
        let silence = vec![0; format.rate.samples_in(secs(1.0)) as usize];
        hushed.output_audio.bytes = sound::encode(format, &silence).into();
        call.answer_exactly(hushed);
        call.run(secs(2.0));
        // A packet that was on its way is heard to its end; what Twilio had of it is cleared.
        let last_packet = if kind == Ingress::Twilio { 0 } else { 20 };
        let leaked = call.ear().loudest(cut + ms(last_packet), call.age());
        assert!(leaked <= 8, "{leaked} high, cut after {cut_after} ms");
        assert_eq!(call.outcomes().last(), Some(&SegmentOutcome::Played));
    }
}

fn a_prompt_that_is_not_to_be_ducked_goes_on_as_it_was(kind: Ingress) {
    let steps = [600.0, 800.0, 1_000.0, 1_200.0];
    let prompt = says("A welcome in four parts", 0.0).tones(&steps, 0.5);
    let mut call = Conversation::greeted_with(kind, prompt, |settings| {
        settings.barge_in.duck_db = 0;
    });
    call.run(ms(700));
    call.speak(ms(350));
    call.run(secs(6.0));
    assert_eq!(
        (call.told(&Notice::Ducked), call.told(&Notice::Restored)),
        (0, 0)
    );
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    for hz in steps {
        assert_about(call.ear().loud(hz), ms(500), ms(60));
    }
}
