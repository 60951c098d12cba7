//! What must hold in every run, whatever the caller, the networks and the agent do. Each property reads a history and
//! complains in words, with the moment.

mod hearing;
mod playing;
mod streams;
mod time;

use crate::history::History;

/// A complaint, or none.
pub(crate) type Verdict = Result<(), String>;

/// A property and its name.
pub(crate) type Property = (&'static str, fn(&History) -> Verdict);

/// All of them.
pub(crate) const ALL: [Property; 13] = [
    (
        "the call ends once, and nothing follows",
        time::the_call_ends_once,
    ),
    ("the deadline always advances", time::deadlines_advance),
    ("queues are bounded", time::queues_are_bounded),
    ("nobody waits in silence", time::nobody_waits_in_silence),
    (
        "nothing of a cut segment is played after the cut",
        playing::nothing_is_played_after_its_cut,
    ),
    (
        "every segment has exactly one outcome",
        playing::every_segment_has_one_outcome,
    ),
    (
        "a mark that was thrown away is not a played one",
        playing::only_what_was_played_is_played,
    ),
    (
        "what a dead stream says is not heard",
        playing::dead_streams_are_silent,
    ),
    (
        "only a caller takes the floor",
        playing::only_a_caller_takes_the_floor,
    ),
    ("one stream at a time", streams::one_stream_at_a_time),
    (
        "audio goes where it is awaited, at twice its pace at most",
        streams::audio_goes_where_it_is_awaited,
    ),
    ("no word is lost", hearing::no_word_is_lost),
    (
        "no word is understood twice",
        hearing::no_word_is_understood_twice,
    ),
];

/// What a history breaks: the names of properties and their complaints.
pub(crate) fn complaints(history: &History) -> Vec<(&'static str, String)> {
    let judged = ALL.iter().filter_map(|(name, property)| {
        let complaint = property(history).err()?;
        Some((*name, complaint))
    });
    judged.collect()
}
