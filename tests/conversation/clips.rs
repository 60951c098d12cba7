//! Clips that the agent names and we fetch.

use bytes::Bytes;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::Event;
use tandem::engine::call::event::Message;
use tandem::engine::call::notice::Notice;

use crate::agent::Piece;
use crate::agent::says;
use crate::agent::silent;
use crate::conversation::Conversation;
use crate::conversation::Did;
use crate::conversation::assert_about;
use crate::conversation::ms;
use crate::conversation::secs;
use crate::ingress::Ingress;

behaviours! {
    /// facts §13
    a_clip_is_fetched_at_once_and_follows_the_speech,
    /// facts §13
    several_clips_play_in_the_order_of_their_messages_however_they_arrive,
    /// facts §13
    a_clip_within_mixed_audio_plays_in_its_place,
    /// facts §13
    the_next_piece_waits_for_a_clip_that_is_late,
    /// facts §13
    a_clip_that_is_too_late_is_left_out,
    /// facts §13
    a_clip_that_cannot_be_had_is_left_out,
    /// facts §13
    a_clip_that_is_no_sound_is_left_out,
    /// facts §13, design §4.5
    a_clip_that_arrives_after_the_cut_is_not_heard,
    /// facts §13, design §4.9
    a_clip_behind_the_hold_prompt_is_heard_before_the_end,
}

const SONG: &str = "https://example.com/song.wav";
const JINGLE: &str = "gs://bucket/jingle.wav";
const SONG_HZ: f64 = 600.0;
const JINGLE_HZ: f64 = 1_000.0;
const SPEECH_HZ: f64 = 1_400.0;

fn play(uri: &str) -> Message {
    Message::PlayAudio {
        uri: uri.to_owned(),
        interruptible: true,
    }
}

fn asked(kind: Ingress) -> Conversation {
    let mut call = Conversation::listening(kind);
    call.understands("sing");
    call.forget();
    call
}

fn failed(call: &Conversation) -> usize {
    call.count(|did| matches!(did, Did::Told(Notice::ClipFailed { .. })))
}

fn a_clip_is_fetched_at_once_and_follows_the_speech(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(says("Listen", 1.0).hz(SPEECH_HZ).with(play(SONG)));
    let clips = call.clips();
    assert_eq!(clips.len(), 1, "while the speech is being played");
    assert_eq!(clips[0].1, SONG);
    call.run(ms(100));
    call.fetched(clips[0].0, SONG_HZ, 0.6);
    call.run(secs(2.5));
    let ear = call.ear();
    assert_about(ear.loud(SPEECH_HZ), secs(1.0), ms(40));
    assert_about(ear.loud(SONG_HZ), ms(600), ms(40));
    assert_about(
        ear.begins(SONG_HZ).expect("heard"),
        ear.ends(SPEECH_HZ).expect("heard"),
        ms(40),
    );
}

fn several_clips_play_in_the_order_of_their_messages_however_they_arrive(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(
        says("Listen", 0.5)
            .hz(SPEECH_HZ)
            .with(play(SONG))
            .with(play(JINGLE)),
    );
    let clips = call.clips();
    assert_eq!(clips.len(), 2);
    call.fetched(clips[1].0, JINGLE_HZ, 0.5);
    call.run(ms(300));
    call.fetched(clips[0].0, SONG_HZ, 0.5);
    call.run(secs(3.0));
    let ear = call.ear();
    assert_about(ear.loud(SONG_HZ), ms(500), ms(40));
    assert_about(ear.loud(JINGLE_HZ), ms(500), ms(40));
    assert!(
        ear.ends(SPEECH_HZ) <= ear.begins(SONG_HZ) && ear.ends(SONG_HZ) <= ear.begins(JINGLE_HZ)
    );
}

fn a_clip_within_mixed_audio_plays_in_its_place(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(says("Listen", 0.0).mixed(vec![
        Piece::Tone(SPEECH_HZ, 0.5),
        Piece::Uri(SONG),
        Piece::Tone(JINGLE_HZ, 0.5),
    ]));
    let clips = call.clips();
    assert_eq!(clips.len(), 1);
    call.fetched(clips[0].0, SONG_HZ, 0.5);
    call.run(secs(3.0));
    let ear = call.ear();
    for hz in [SPEECH_HZ, SONG_HZ, JINGLE_HZ] {
        assert_about(ear.loud(hz), ms(500), ms(40));
    }
    assert!(
        ear.ends(SPEECH_HZ) <= ear.begins(SONG_HZ) && ear.ends(SONG_HZ) <= ear.begins(JINGLE_HZ)
    );
}

fn the_next_piece_waits_for_a_clip_that_is_late(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(
        says("Listen", 0.5)
            .hz(SPEECH_HZ)
            .with(play(SONG))
            .with(play(JINGLE)),
    );
    let clips = call.clips();
    call.fetched(clips[1].0, JINGLE_HZ, 0.5);
    call.run(secs(2.5));
    assert_eq!(call.ear().begins(JINGLE_HZ), None);
    assert_eq!(failed(&call), 0);
    call.fetched(clips[0].0, SONG_HZ, 0.5);
    call.run(secs(2.0));
    assert_about(call.ear().loud(SONG_HZ), ms(500), ms(40));
    assert_about(call.ear().loud(JINGLE_HZ), ms(500), ms(40));
}

fn a_clip_that_is_too_late_is_left_out(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(
        says("Listen", 0.5)
            .hz(SPEECH_HZ)
            .with(play(SONG))
            .with(play(JINGLE)),
    );
    let clips = call.clips();
    call.fetched(clips[1].0, JINGLE_HZ, 0.5);
    call.run(secs(4.2));
    assert_eq!(failed(&call), 1);
    call.fetched(clips[0].0, SONG_HZ, 0.5);
    call.run(secs(2.0));
    assert_eq!(call.ear().begins(SONG_HZ), None, "its time has passed");
    assert_about(call.ear().loud(JINGLE_HZ), ms(500), ms(40));
    assert!(call.is_listening() && call.ended().is_none());
}

fn a_clip_that_cannot_be_had_is_left_out(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(
        says("Listen", 0.5)
            .hz(SPEECH_HZ)
            .with(play(SONG))
            .with(play(JINGLE)),
    );
    let clips = call.clips();
    call.handle(Event::Fetched(clips[0].0, Err("404 Not Found".into())));
    call.fetched(clips[1].0, JINGLE_HZ, 0.5);
    call.run(secs(2.0));
    let notice = Notice::ClipFailed {
        uri: SONG.into(),
        reason: "404 Not Found".into(),
    };
    assert_eq!(call.told(&notice), 1);
    let ear = call.ear();
    assert_about(
        ear.begins(JINGLE_HZ).expect("heard"),
        ear.ends(SPEECH_HZ).expect("heard"),
        ms(40),
    );
}

fn a_clip_that_is_no_sound_is_left_out(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(silent().with(play(SONG)));
    let clips = call.clips();
    let before = call.age();
    let page = Bytes::from_static(b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0<html>not found</html>");
    call.handle(Event::Fetched(clips[0].0, Ok(page)));
    call.run(secs(1.0));
    assert_eq!(failed(&call), 1);
    assert_eq!(call.ear().sound(before, call.age()), ms(0));
    assert!(call.is_listening());
}

fn a_clip_that_arrives_after_the_cut_is_not_heard(kind: Ingress) {
    let mut call = asked(kind);
    call.answer(says("Listen", 2.0).hz(SPEECH_HZ).with(play(SONG)));
    let clips = call.clips();
    call.run(secs(1.0));
    call.interim("no thank you");
    assert_eq!(call.barge_ins(), 1);
    call.fetched(clips[0].0, SONG_HZ, 0.5);
    call.run(secs(3.0));
    assert_eq!(call.ear().begins(SONG_HZ), None);
    assert!(call.is_listening());
}

fn a_clip_behind_the_hold_prompt_is_heard_before_the_end(kind: Ingress) {
    let mut call = asked(kind);
    call.run(secs(2.0));
    call.answer(
        silent()
            .with(play(SONG))
            .with(play(JINGLE))
            .with(Message::EndInteraction),
    );
    let clips = call.clips();
    call.run_until(secs(2.0), |call| call.told(&Notice::Hold) == 1);
    call.handle(Event::Fetched(clips[1].0, Err("404 Not Found".into())));
    call.run(ms(200));
    assert_eq!(call.ended(), None);
    call.fetched(clips[0].0, SONG_HZ, 0.5);
    call.run(secs(1.5));
    assert_about(call.ear().loud(SONG_HZ), ms(500), ms(40));
    assert_eq!(call.ended(), Some(EndReason::AgentEnded));
}
