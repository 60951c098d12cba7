//! Speakerphones: what comes back through the caller's microphone is our own voice.

use tandem::engine::call::notice::Measure;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;
use tandem::engine::call::settings::BargeInMode;

use crate::agent::says;
use crate::conversation::Conversation;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// design §4.5, field notes 15
    our_own_echo_cuts_no_prompt,
    /// design §4.5, field notes 15
    our_own_echo_cuts_no_prompt_in_the_voice_mode_either,
    /// design §4.5, field notes 15
    our_own_echo_cuts_no_prompt_however_late_it_comes,
    /// design §4.5, field notes 15
    words_that_are_our_own_echo_are_refused_and_counted_once,
    /// field notes 15, field notes 17
    a_caller_who_speaks_over_the_echo_is_heard,
    /// field notes 15, field notes 16
    words_of_echo_at_the_end_of_an_utterance_are_no_turn,
}

/// The speakerphone of the issue: 20 dB down, 150 ms late.
fn on_a_speakerphone(kind: Ingress, mode: BargeInMode, seconds: f64) -> Conversation {
    let greeting = says("A long story", 0.0).spoken(seconds);
    let mut call = Conversation::greeted_with(kind, greeting, |settings| {
        settings.barge_in.mode = mode;
    });
    call.echo = Some((20.0, ms(150)));
    call
}

fn our_own_echo_cuts_no_prompt(kind: Ingress) {
    let mut call = on_a_speakerphone(kind, BargeInMode::Words, 8.0);
    call.run(secs(14.0));
    assert_eq!(call.barge_ins(), 0);
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    assert_eq!(call.told(&Notice::Ducked), call.told(&Notice::Restored));
    assert!(
        call.told(&Notice::Ducked) <= 1,
        "once, until the echo is known"
    );
}

fn our_own_echo_cuts_no_prompt_in_the_voice_mode_either(kind: Ingress) {
    let mut call = on_a_speakerphone(kind, BargeInMode::Voice, 8.0);
    call.run(secs(14.0));
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
}

fn our_own_echo_cuts_no_prompt_however_late_it_comes(kind: Ingress) {
    for delay in [30, 90, 300, 560] {
        let mut call = on_a_speakerphone(kind, BargeInMode::Voice, 6.0);
        call.echo = Some((20.0, ms(delay)));
        call.run(secs(12.0));
        assert_eq!(call.barge_ins(), 0, "{delay} ms late");
        assert_eq!(call.outcomes()[0], SegmentOutcome::Played);
    }
}

fn words_that_are_our_own_echo_are_refused_and_counted_once(kind: Ingress) {
    let mut call = on_a_speakerphone(kind, BargeInMode::Words, 6.0);
    call.run(secs(2.0));
    call.interim("I would like to book");
    call.run(ms(500));
    call.interim("I would like to book a table");
    call.run(secs(10.0));
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (0, vec![SegmentOutcome::Played])
    );
    assert_eq!(call.measured(&Measure::BargeInEcho), 1);
}

fn a_caller_who_speaks_over_the_echo_is_heard(kind: Ingress) {
    let mut call = on_a_speakerphone(kind, BargeInMode::Words, 8.0);
    call.run(secs(3.0));
    call.begin_to_speak(secs(1.0));
    call.run(ms(600));
    call.interim("stop");
    assert_eq!(
        (call.barge_ins(), call.outcomes()),
        (1, vec![SegmentOutcome::Cut])
    );
}

fn words_of_echo_at_the_end_of_an_utterance_are_no_turn(kind: Ingress) {
    let mut call = on_a_speakerphone(kind, BargeInMode::Words, 8.0);
    call.run(secs(3.0));
    let stream = call.stream();
    call.forget();
    call.interim("book a table");
    call.final_words("book a table");
    call.endpoint();
    call.run(ms(200));
    assert_eq!(call.cancelled(), [stream]);
    assert!(call.half_closed().is_empty());
    assert!(call.is_listening() && call.stream() != stream);
    assert_eq!(call.barge_ins(), 0);
}
