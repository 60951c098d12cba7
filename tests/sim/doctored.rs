//! The properties can fail: each complains of a history that breaks it, and of no other.

use std::time::Duration;

use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::BargeInWindow;
use tandem::engine::call::event::ClipId;
use tandem::engine::call::event::DigitSource;
use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::SegmentId;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::notice::Measure;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;
use tandem::engine::call::notice::TurnKind;
use tandem::engine::media::frame::SampleRate;

use crate::history::History;
use crate::history::Sound;
use crate::history::Spoken;
use crate::history::What;
use crate::properties;
use crate::sound::Piece;

const FIRST: StreamId = StreamId(1);
const SECOND: StreamId = StreamId(2);
const THIRD: StreamId = StreamId(3);
/// The frames of the words that the caller of these histories says.
const WORDS: std::ops::Range<u32> = 0..20;
/// A sample of the stream is 1/8,000 s, a frame 160 of them.
const FRAME: u64 = 160;

#[test]
fn a_healthy_call_breaks_nothing() {
    assert_eq!(broken(healthy(), Vec::new()), Vec::<&str>::new());
}

#[test]
fn an_end_that_is_not_the_last_thing_or_does_not_come_is_seen() {
    let name = "the call ends once, and nothing follows";
    let again = (9_000, What::Ended(EndReason::CallerHungUp));
    assert_eq!(broken(healthy(), vec![again]), [name]);
    assert_eq!(broken(healthy(), vec![(9_000, What::Cleared)]), [name]);
    assert_eq!(broken(healthy(), vec![(9_000, What::Undead)]), [name]);
    let mut endless = healthy();
    endless.retain(|(_, what)| !matches!(what, What::Ended(_)));
    assert_eq!(broken(endless, Vec::new()), [name]);
}

#[test]
fn a_deadline_that_does_not_move_or_moves_in_tiny_steps_is_seen() {
    let name = "the deadline always advances";
    assert_eq!(broken(healthy(), vec![(100, What::Stuck)]), [name]);
    let busy = (0..500).map(|at| (at, What::Woke)).collect();
    assert_eq!(broken(healthy(), busy), [name]);
}

#[test]
fn too_much_at_once_is_seen() {
    let name = "queues are bounded";
    assert_eq!(broken(healthy(), vec![(100, What::Burst(5_000))]), [name]);
    let fetches = (0..100).map(|clip| (100, What::Fetches(ClipId(clip), String::new())));
    assert_eq!(broken(healthy(), fetches.collect()), [name]);
}

#[test]
fn silence_while_the_caller_waits_is_seen() {
    assert_eq!(broken(slow(), Vec::new()), ["nobody waits in silence"]);
}

#[test]
fn a_hold_prompt_is_no_silence() {
    let hold = vec![
        (7_000, played(0, 0)),
        (7_900, mark(2, true)),
        (8_000, over(2, SegmentOutcome::Played)),
    ];
    assert_eq!(broken(slow(), hold), Vec::<&str>::new());
}

#[test]
fn what_is_played_after_its_cut_is_seen() {
    let name = "nothing of a cut segment is played after the cut";
    assert_eq!(broken(healthy(), vec![(2_000, played(3, 2))]), [name]);
    let floor = (310, What::Told(Notice::BargeIn { heard_ms: 1 }));
    let spoken = (290, What::Pressed('1', DigitSource::Twilio));
    assert_eq!(broken(healthy(), vec![spoken, floor]), [name]);
}

#[test]
fn a_segment_without_an_outcome_or_with_two_is_seen() {
    let name = "every segment has exactly one outcome";
    let twice = (1_500, over(1, SegmentOutcome::Played));
    assert_eq!(broken(healthy(), vec![twice]), [name]);
    assert_eq!(broken(healthy(), vec![(1_500, played(9, 0))]), [name]);
    let later = (1_500, over(3, SegmentOutcome::Dropped));
    assert_eq!(broken(healthy(), vec![later]), [name]);
}

#[test]
fn a_mark_that_was_thrown_away_and_counts_is_seen() {
    let name = "a mark that was thrown away is not a played one";
    let mut thrown = healthy();
    for (_, what) in &mut thrown {
        if let What::MarkReturned { played, .. } = what {
            *played = false;
        }
    }
    assert_eq!(broken(thrown, Vec::new()), [name]);
}

#[test]
fn the_voice_of_a_dead_stream_is_seen() {
    let ghost = vec![
        (6_500, answer(SECOND, true, vec![9])),
        (6_600, played(9, 0)),
        (6_650, mark(2, true)),
        (6_700, over(2, SegmentOutcome::Played)),
    ];
    let name = "what a dead stream says is not heard";
    assert_eq!(broken(healthy(), ghost), [name]);
}

#[test]
fn a_prompt_that_is_cut_by_nobody_is_seen() {
    let mut cut = healthy();
    for (_, what) in &mut cut {
        if let What::Told(Notice::Playback { outcome, .. }) = what {
            *outcome = SegmentOutcome::Cut;
        }
    }
    let floor = (1_000, What::Told(Notice::BargeIn { heard_ms: 1 }));
    assert_eq!(broken(cut, vec![floor]), ["only a caller takes the floor"]);
}

#[test]
fn two_streams_at_once_are_seen() {
    let fourth = (4_200, opened(StreamId(4), TurnKind::Speech));
    assert_eq!(broken(healthy(), vec![fourth]), ["one stream at a time"]);
}

#[test]
fn audio_where_none_is_awaited_and_too_much_of_it_is_seen() {
    let name = "audio goes where it is awaited, at twice its pace at most";
    let sent = |stream, samples| What::Sent {
        stream,
        samples,
        rest: false,
    };
    assert_eq!(broken(healthy(), vec![(10, sent(FIRST, 800))]), [name]);
    assert_eq!(broken(healthy(), vec![(5_000, sent(SECOND, 800))]), [name]);
    assert_eq!(broken(healthy(), vec![(310, sent(SECOND, 8_000))]), [name]);
    assert_eq!(
        broken(healthy(), vec![(3_000, What::Starved(SECOND))]),
        [name]
    );
}

#[test]
fn words_that_no_stream_gets_are_seen_unless_they_are_counted() {
    let name = "no word is lost";
    let mut deaf = healthy();
    for (_, what) in &mut deaf {
        if let What::Final { understood, .. } = what {
            *understood = vec![19];
        }
    }
    assert_eq!(broken(deaf, Vec::new()), [name]);
    let mut counted = healthy();
    for (_, what) in &mut counted {
        if let What::Final { understood, .. } = what {
            *understood = vec![19];
        }
    }
    let unheard = Measure::Unheard(Duration::from_millis(400));
    assert_eq!(
        broken(counted, vec![(3_500, What::Measured(unheard))]),
        Vec::<&str>::new()
    );
}

#[test]
fn words_that_fail_with_their_stream_and_are_not_sent_again_are_seen() {
    let mut failed = healthy();
    failed
        .retain(|(_, what)| !matches!(what, What::AnswerCame { stream, .. } if *stream == SECOND));
    let next = vec![
        (4_000, What::Closed(SECOND, Some(FaultKind::Unavailable))),
        (7_000, What::HalfClosed(THIRD)),
        (7_500, answer(THIRD, true, Vec::new())),
    ];
    assert_eq!(broken(failed, next), ["no word is lost"]);
}

#[test]
fn words_that_two_streams_get_are_seen() {
    let next = WORDS.map(|frame| {
        let what = What::Delivered {
            stream: THIRD,
            frame,
            place: u64::from(frame) * FRAME,
        };
        (6_200, what)
    });
    let next = next.collect();
    assert_eq!(broken(healthy(), next), ["no word is understood twice"]);
}

/// The names of the properties that these entries break, others put in between them.
fn broken(mut entries: Vec<(u64, What)>, more: Vec<(u64, What)>) -> Vec<&'static str> {
    entries.extend(more);
    entries.sort_by_key(|(at, _)| *at);
    let spoken = Spoken {
        utterance: 0,
        sound: Sound::Words,
        loud: true,
    };
    let mut history = History {
        setting: String::new(),
        buffers: true,
        rings: false,
        rate: SampleRate::HZ_8000,
        chunk: Duration::from_millis(100),
        shared_tags: vec![0],
        traceable: true,
        frames: vec![spoken; WORDS.len()],
        entries: Vec::new(),
    };
    for (at, what) in entries {
        history.add(Duration::from_millis(at), what);
    }
    let complaints = properties::complaints(&history);
    complaints.into_iter().map(|(name, _)| name).collect()
}

/// The same with an agent that takes five seconds longer.
fn slow() -> Vec<(u64, What)> {
    let mut entries = healthy();
    for (at, _) in &mut entries {
        *at += if *at >= 4_000 { 5_000 } else { 0 };
    }
    entries
}

/// A greeting, words, their end, an answer without a sound, and a caller who says nothing more.
fn healthy() -> Vec<(u64, What)> {
    let mut entries = vec![
        (0, opened(FIRST, TurnKind::Event)),
        (200, answer(FIRST, true, vec![3])),
        (300, opened(SECOND, TurnKind::Speech)),
    ];
    entries.extend((0..3).map(|frame| (300 + 20 * u64::from(frame), played(3, frame))));
    entries.push((900, mark(1, true)));
    entries.push((1_000, over(1, SegmentOutcome::Played)));
    for frame in WORDS {
        let at = 2_000 + 20 * u64::from(frame);
        entries.push((at, What::Captured(frame)));
        let place = u64::from(frame) * FRAME;
        let sent = What::Sent {
            stream: SECOND,
            samples: FRAME,
            rest: false,
        };
        entries.push((at, sent));
        let delivered = What::Delivered {
            stream: SECOND,
            frame,
            place,
        };
        entries.push((at, delivered));
    }
    let words = What::Final {
        stream: SECOND,
        text: "two pizzas".to_owned(),
        end_offset: Some(Duration::from_secs(1)),
        understood: WORDS.collect(),
    };
    entries.push((3_200, words));
    entries.push((3_300, What::HalfClosed(SECOND)));
    entries.push((4_000, answer(SECOND, true, Vec::new())));
    entries.push((4_100, opened(THIRD, TurnKind::Speech)));
    entries.push((8_000, What::Ended(EndReason::CallerHungUp)));
    entries
}

fn opened(stream: StreamId, kind: TurnKind) -> What {
    What::Opened {
        stream,
        kind,
        input: String::new(),
        window: BargeInWindow::default(),
    }
}

fn answer(stream: StreamId, last: bool, tags: Vec<u32>) -> What {
    What::AnswerCame {
        stream,
        last,
        tags,
        pause: Duration::ZERO,
        ends: false,
        contents: String::new(),
    }
}

const fn played(tag: u32, frame: u32) -> What {
    What::Played {
        audible: true,
        piece: Some(Piece { tag, frame }),
    }
}

const fn mark(segment: u32, played: bool) -> What {
    What::MarkReturned {
        segment: SegmentId(segment),
        played,
    }
}

const fn over(segment: u32, outcome: SegmentOutcome) -> What {
    What::Told(Notice::Playback {
        segment,
        outcome,
        heard_ms: 60,
    })
}
