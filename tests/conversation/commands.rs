//! The gateway's own commands, in a payload under the key `tandem`.

use serde_json::json;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::Message;
use tandem::engine::call::event::TurnInput;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;

use crate::agent::says;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::assert_about;
use crate::conversation::assert_none;
use crate::conversation::digit;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::conversation::transfer;
use crate::ingress::Ingress;

behaviours! {
    /// facts §13
    a_pause_is_kept_before_what_follows,
    /// facts §13
    a_named_clip_is_played,
    /// facts §13, facts §5.1
    digits_are_collected_as_the_command_says,
    /// facts §13, design §4.5
    interruptions_may_be_switched_off_and_on,
    /// facts §13, design §4.8
    the_agent_may_set_the_no_input_time,
    /// facts §13, design §4.4
    a_partial_may_let_voice_cut_it,
    /// facts §13, design §4.9
    a_transfer_is_carried_out_after_the_speech,
    /// facts §13, design §4.9
    a_hang_up_comes_after_the_speech,
    /// facts §13
    what_cannot_be_done_is_refused_and_the_rest_is_obeyed,
}

const CLIP_HZ: f64 = 1_000.0;
const SPEECH_HZ: f64 = 1_400.0;

fn asked(kind: Ingress) -> Conversation {
    let mut call = Conversation::listening(kind);
    call.understands("hello");
    call.forget();
    call
}

fn refused(call: &Conversation) -> usize {
    call.count(|did| matches!(did, Did::Told(Notice::CommandRefused { .. })))
}

fn a_pause_is_kept_before_what_follows(kind: Ingress) {
    let mut call = asked(kind);
    let wait = says("One moment", 0.5).hz(SPEECH_HZ);
    call.answer(
        wait.commanding(&json!({"pause": "2s"}))
            .with(Message::PlayAudio {
                uri: "https://example.com/clip.wav".into(),
                interruptible: true,
            }),
    );
    for (clip, _) in call.clips() {
        call.fetched(clip, CLIP_HZ, 0.5);
    }
    call.run(secs(4.0));
    assert_eq!(refused(&call), 0);
    let ear = call.ear();
    let (begins, ends) = (
        ear.begins(SPEECH_HZ).expect("heard"),
        ear.ends(CLIP_HZ).expect("heard"),
    );
    assert_about(ends - begins, secs(3.0), ms(100));
    assert_about(ear.longest_silence(begins, ends), secs(2.0), ms(60));
}

fn a_named_clip_is_played(kind: Ingress) {
    let mut call = asked(kind);
    let hold = says("Listen", 0.5).hz(SPEECH_HZ);
    call.answer(hold.commanding(&json!({"play": "jingle.wav"})));
    let clips = call.clips();
    assert_eq!(clips.len(), 1);
    assert_eq!(clips[0].1, "jingle.wav");
    call.fetched(clips[0].0, CLIP_HZ, 0.5);
    call.run(secs(2.0));
    assert_about(call.ear().loud(CLIP_HZ), ms(500), ms(40));
    assert!(call.ear().ends(SPEECH_HZ) <= call.ear().begins(CLIP_HZ));
}

fn digits_are_collected_as_the_command_says(kind: Ingress) {
    let mut call = asked(kind);
    let command = json!({"collect_digits": {"max": 4, "finish": "*", "timeout": "5s"}});
    call.answer(says("Your number please", 0.3).commanding(&command));
    call.run(secs(1.0));
    for key in ['1', '2', '3', '4'] {
        call.press(key);
    }
    let digits = "1234".to_owned();
    let finish_digit = None;
    assert_eq!(
        call.inputs_but_speech(),
        [TurnInput::Dtmf {
            digits,
            finish_digit
        }]
    );

    call.forget();
    call.answer(says("And the other", 0.3).commanding(&command));
    call.run(secs(1.0));
    call.press('5');
    call.run(ms(4_500));
    assert_none(&call.inputs_but_speech());
    call.press('*');
    let digits = "5".to_owned();
    let finish_digit = Some(digit('*'));
    assert_eq!(
        call.inputs_but_speech(),
        [TurnInput::Dtmf {
            digits,
            finish_digit
        }]
    );
}

fn interruptions_may_be_switched_off_and_on(kind: Ingress) {
    let mut call = asked(kind);
    let closed = json!({"turn": {"barge_in": "off"}});
    call.answer(says("Hear me out", 2.0).commanding(&closed));
    call.run(secs(1.0));
    call.speak(ms(500));
    call.interim("but");
    call.run(secs(1.0));
    assert_eq!((call.barge_ins(), call.told(&Notice::Ducked)), (0, 0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Played]);
    call.understands("but I");
    let open = json!({"turn": {"barge_in": "words"}});
    call.answer(says("Yes?", 2.0).commanding(&open));
    call.run(secs(1.0));
    call.interim("at last");
    assert_eq!(call.barge_ins(), 1, "until the agent opens it again");
}

fn the_agent_may_set_the_no_input_time(kind: Ingress) {
    let mut call = asked(kind);
    let patient = json!({"turn": {"no_input_timeout": "10s"}});
    call.answer(says("Take your time", 0.5).commanding(&patient));
    call.run(secs(10.0));
    assert_none(&call.half_closed());
    call.run(secs(2.0));
    assert_eq!(call.half_closed().len(), 1);
}

fn a_partial_may_let_voice_cut_it(kind: Ingress) {
    let mut call = asked(kind);
    let partial =
        says("One moment", 4.0).partial(tandem::engine::call::event::Cancellation::Forbidden);
    call.answer(partial.commanding(&json!({"turn": {"interrupt_partials": true}})));
    call.run(ms(500));
    call.speak(secs(1.0));
    assert_eq!(call.outcomes(), [SegmentOutcome::Cut]);
}

fn a_transfer_is_carried_out_after_the_speech(kind: Ingress) {
    let mut call = asked(kind);
    let command = json!({"transfer": "+15550100"});
    call.answer(
        says("I connect you", 1.0)
            .hz(SPEECH_HZ)
            .commanding(&command),
    );
    call.run(ms(900));
    assert_eq!((call.transfers().len(), call.ended()), (0, None));
    call.run(ms(400));
    assert_about(call.ear().loud(SPEECH_HZ), secs(1.0), ms(40));
    if kind == Ingress::Sip {
        assert_eq!(
            (call.transfers(), call.ended()),
            (vec![transfer("+15550100")], None)
        );
    } else {
        assert_eq!(call.ended(), Some(EndReason::Transferred));
    }
}

fn a_hang_up_comes_after_the_speech(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(
        says("Goodbye", 1.0)
            .hz(SPEECH_HZ)
            .commanding(&json!({"hang_up": true})),
    );
    call.run(ms(900));
    assert_eq!(call.ended(), None);
    call.run(ms(400));
    assert_eq!(call.ended(), Some(EndReason::AgentEnded));
    assert_about(call.ear().loud(SPEECH_HZ), secs(1.0), ms(40));
}

fn what_cannot_be_done_is_refused_and_the_rest_is_obeyed(kind: Ingress) {
    let mut call = asked(kind);
    let commands = json!({"pause": "for ever", "fly": true, "play": "jingle.wav"});
    call.answer(says("Listen", 0.3).commanding(&commands));
    assert!(
        refused(&call) >= 2,
        "a duration that is none and a command that is none"
    );
    let clips = call.clips();
    assert_eq!(clips.len(), 1);
    call.fetched(clips[0].0, CLIP_HZ, 0.5);
    call.run(secs(2.0));
    assert_about(call.ear().loud(CLIP_HZ), ms(500), ms(40));
    assert_eq!(call.ended(), None);
}
