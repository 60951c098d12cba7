//! Keys of the telephone.

use tandem::engine::call::event::AgentSettings;
use tandem::engine::call::event::DtmfSettings;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Measure;
use tandem::engine::call::notice::Notice;

use crate::agent::says;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::assert_none;
use crate::conversation::digit;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// facts §5.1, design §4.7
    digits_cancel_the_stream_and_have_a_turn_of_their_own,
    /// facts §5.1
    the_finish_digit_ends_the_input_and_is_no_part_of_it,
    /// facts §5.1
    the_most_digits_of_the_page_end_the_input,
    /// facts §5.1
    the_longest_pause_of_the_page_ends_the_input,
    /// facts §5.1
    without_settings_of_the_page_our_own_hold,
    /// design §4.7, field notes 28
    one_press_is_one_digit_by_however_many_ways_it_comes,
    /// facts §5.1
    digits_pressed_while_the_agent_thinks_wait_for_their_turn,
    /// facts §5.1, facts §6.4
    whoever_presses_keys_is_not_silent,
    /// facts §5.1, facts §6.4
    the_recognisers_patience_ends_no_turn_in_the_middle_of_a_number,
    /// facts §5.1
    a_key_that_cuts_a_prompt_begins_no_wait_for_words,
    /// design §4.7
    speech_after_the_digits_is_heard_in_the_next_turn,
}

fn dtmf(digits: &str, finish: Option<char>) -> TurnInput {
    TurnInput::Dtmf {
        digits: digits.to_owned(),
        finish_digit: finish.map(digit),
    }
}

/// A caller who is asked for digits, by these settings.
fn asked_for_digits(kind: Ingress, settings: &DtmfSettings) -> Conversation {
    let page = AgentSettings {
        dtmf: Some(settings.clone()),
        ..AgentSettings::default()
    };
    let mut call = Conversation::greeted(kind, says("Your number please", 0.3).settings(page));
    call.run(secs(1.0));
    call.forget();
    call
}

fn digits_cancel_the_stream_and_have_a_turn_of_their_own(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    let stream = call.stream();
    for key in ['4', '2', '#'] {
        call.press(key);
        call.run(ms(300));
    }
    assert_eq!(
        call.cancelled(),
        [stream],
        "a half-close would make the agent answer nothing"
    );
    assert_none(&call.half_closed());
    assert_eq!(call.inputs(), [dtmf("42", Some('#'))]);
    call.answer(says("Forty-two", 0.5));
    call.run(secs(1.0));
    assert!(call.is_listening());
}

fn the_finish_digit_ends_the_input_and_is_no_part_of_it(kind: Ingress) {
    let finish_digit = Some(digit('*'));
    let mut call = asked_for_digits(
        kind,
        &DtmfSettings {
            finish_digit,
            ..DtmfSettings::default()
        },
    );
    for key in ['1', '#', '2'] {
        call.press(key);
    }
    assert_none(&call.inputs());
    call.press('*');
    assert_eq!(call.inputs(), [dtmf("1#2", Some('*'))]);
}

fn the_most_digits_of_the_page_end_the_input(kind: Ingress) {
    let mut call = asked_for_digits(
        kind,
        &DtmfSettings {
            max_digits: Some(3),
            ..DtmfSettings::default()
        },
    );
    for key in ['1', '2'] {
        call.press(key);
    }
    assert_none(&call.inputs());
    call.press('3');
    assert_eq!(call.inputs(), [dtmf("123", None)]);
}

fn the_longest_pause_of_the_page_ends_the_input(kind: Ingress) {
    let mut call = asked_for_digits(
        kind,
        &DtmfSettings {
            interdigit_timeout: Some(ms(1_200)),
            ..DtmfSettings::default()
        },
    );
    call.press('7');
    call.run(ms(1_000));
    call.press('8');
    call.run(ms(1_100));
    assert_none(&call.inputs());
    call.run(ms(200));
    assert_eq!(call.inputs(), [dtmf("78", None)]);
}

fn without_settings_of_the_page_our_own_hold(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.max_digits = 5;
        settings.interdigit_timeout = secs(2.0);
    });
    call.press('7');
    call.run(ms(1_900));
    assert_none(&call.inputs());
    call.run(ms(200));
    assert_eq!(call.inputs(), [dtmf("7", None)]);
    call.answer(says("And now", 0.3));
    call.run(secs(1.0));
    call.forget();
    for key in ['1', '2', '3', '4', '5'] {
        call.press(key);
    }
    assert_eq!(call.inputs(), [dtmf("12345", None)]);
}

fn one_press_is_one_digit_by_however_many_ways_it_comes(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    for key in ['1', '1', '2'] {
        for source in kind.digit_sources() {
            call.press_by(key, *source);
            call.run(ms(70));
        }
        call.run(ms(200));
    }
    call.run(secs(4.0));
    assert_eq!(call.inputs_but_speech(), [dtmf("112", None)]);
    assert_eq!(
        call.count(|did| matches!(did, Did::Measured(Measure::Digit(_)))),
        3
    );
    assert_eq!(
        call.count(|did| matches!(did, Did::Told(Notice::Dtmf { .. }))),
        3
    );
}

fn digits_pressed_while_the_agent_thinks_wait_for_their_turn(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.understands("my number is");
    for key in ['4', '2', '#'] {
        call.press(key);
    }
    call.run(ms(500));
    assert_none(&call.turns());
    assert_none(&call.cancelled());
    call.answer(says("I am listening", 2.0));
    call.run(ms(100));
    assert_eq!(call.inputs_but_speech(), [dtmf("42", Some('#'))]);
}

fn whoever_presses_keys_is_not_silent(kind: Ingress) {
    let mut call = Conversation::listening_with(kind, |settings| {
        settings.interdigit_timeout = secs(4.0);
    });
    call.run(secs(4.0));
    for key in ['1', '2', '3'] {
        call.press(key);
        call.run(secs(3.0));
    }
    assert_none(&call.half_closed());
    call.press('#');
    assert_eq!(call.inputs_but_speech(), [dtmf("123", Some('#'))]);
}

fn the_recognisers_patience_ends_no_turn_in_the_middle_of_a_number(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.run(secs(4.0));
    call.press('1');
    call.run(secs(1.0));
    call.endpoint();
    call.run(secs(1.0));
    assert_none(&call.half_closed());
    assert!(call.is_listening());
    call.press('2');
    call.press('#');
    assert_eq!(call.inputs_but_speech(), [dtmf("12", Some('#'))]);
}

fn a_key_that_cuts_a_prompt_begins_no_wait_for_words(kind: Ingress) {
    let page = AgentSettings {
        dtmf: Some(DtmfSettings {
            interdigit_timeout: Some(secs(10.0)),
            ..DtmfSettings::default()
        }),
        no_speech_timeout: Some(secs(2.0)),
        ..AgentSettings::default()
    };
    let mut call = Conversation::greeted(kind, says("Your number please", 8.0).settings(page));
    call.run(secs(1.0));
    call.press('1');
    assert_eq!(call.barge_ins(), 1);
    call.run(secs(8.0));
    assert_none(&call.half_closed());
    call.press('#');
    assert_eq!(call.inputs_but_speech().last(), Some(&dtmf("1", Some('#'))));
}

fn speech_after_the_digits_is_heard_in_the_next_turn(kind: Ingress) {
    let mut call = Conversation::listening(kind);
    call.press('7');
    call.press('#');
    assert_eq!(call.inputs(), [dtmf("7", Some('#'))]);
    call.run(ms(300));
    call.answer(says("Seven. And your name?", 1.0));
    call.run(ms(600));
    let phrase = call.speak(secs(1.0));
    call.run(ms(500));
    call.assert_heard(call.stream(), &phrase);
    assert_eq!(call.unheard(), ms(0));
}
