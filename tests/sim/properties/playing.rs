//! What the caller hears.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use tandem::engine::call::event::SegmentId;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::notice::Notice;
use tandem::engine::call::notice::SegmentOutcome;

use super::Verdict;
use crate::history::At;
use crate::history::Entry;
use crate::history::History;
use crate::history::Sound;
use crate::history::What;
use crate::sound::Piece;

/// How long after a caller's sound it may be taken for the reason of an interruption: a late recogniser's word.
const REASON: Duration = Duration::from_secs(8);

/// Segments that have begun, as they are told apart by what is in them.
#[derive(Default)]
struct Begun {
    /// In the order in which they began.
    tags: Vec<u32>,
    /// How far each has come; the last of a tag counts.
    latest: BTreeMap<u32, usize>,
}

impl Begun {
    /// The place of the segment that this is a piece of. A segment that may be played again begins anew at its first
    /// frame.
    fn place(&mut self, history: &History, piece: Piece) -> usize {
        let again = piece.frame == 0 && history.shared_tags.contains(&piece.tag);
        match self.latest.get(&piece.tag) {
            Some(place) if !again => *place,
            Some(_) | None => {
                self.tags.push(piece.tag);
                self.latest.insert(piece.tag, self.tags.len() - 1);
                self.tags.len() - 1
            }
        }
    }
}

/// Once a segment is over, nothing of it is played; once the caller has the floor, nothing of what came before is.
pub(crate) fn nothing_is_played_after_its_cut(history: &History) -> Verdict {
    let mut begun = Begun::default();
    let mut over = 0;
    // Answers' segments that were there before the caller took the floor.
    let mut known: Vec<(At, &[u32])> = Vec::new();
    let mut cut: BTreeSet<u32> = BTreeSet::new();
    for Entry { at, what } in &history.entries {
        match what {
            What::AnswerCame { tags, .. } => known.push((*at, tags)),
            // An answer to words that nobody had told before is what tells them: it is not what they cut.
            What::Told(Notice::BargeIn { .. }) => {
                let before = known.extract_if(.., |(came, _)| *came < *at);
                cut.extend(before.flat_map(|(_, tags)| tags));
            }
            What::Told(Notice::Playback { outcome, .. }) if *outcome != SegmentOutcome::Dropped => {
                over += 1;
            }
            What::Played {
                piece: Some(piece), ..
            } => {
                if cut.contains(&piece.tag) {
                    return Err(format!(
                        "{piece:?} at {at:?}, though the caller has the floor"
                    ));
                }
                let place = begun.place(history, *piece);
                if place < over && history.traceable {
                    return Err(format!("{piece:?} at {at:?}, though it is over"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every segment's end is told once, and what was played is what was told of.
pub(crate) fn every_segment_has_one_outcome(history: &History) -> Verdict {
    let mut begun = Begun::default();
    let mut outcomes: BTreeMap<u32, SegmentOutcome> = BTreeMap::new();
    for Entry { at, what } in &history.entries {
        match what {
            What::Told(Notice::Playback {
                segment, outcome, ..
            }) => {
                if let Some(first) = outcomes.insert(*segment, *outcome) {
                    return Err(format!(
                        "segment {segment} is {first:?}, and {outcome:?} at {at:?}"
                    ));
                }
            }
            What::Played {
                piece: Some(piece), ..
            } => {
                begun.place(history, *piece);
            }
            _ => {}
        }
    }
    let played = outcomes
        .values()
        .filter(|outcome| **outcome != SegmentOutcome::Dropped)
        .count();
    if history.traceable && played != begun.tags.len() {
        let tags = &begun.tags;
        return Err(format!(
            "{tags:?} were played, but {played} outcomes: {outcomes:?}"
        ));
    }
    if let Some((missing, _)) = (1..)
        .zip(outcomes.keys())
        .find(|(number, id)| number != *id)
    {
        return Err(format!("no outcome of segment {missing}: {outcomes:?}"));
    }
    Ok(())
}

/// A far end that confirms has confirmed what counts as played: a mark that comes back because its audio was thrown away
/// says the opposite.
pub(crate) fn only_what_was_played_is_played(history: &History) -> Verdict {
    let mut confirmed = None;
    for Entry { at, what } in &history.entries {
        match what {
            What::MarkReturned {
                segment,
                played: true,
            } => confirmed = confirmed.max(Some(*segment)),
            What::Told(Notice::Playback {
                segment,
                outcome: SegmentOutcome::Played,
                ..
            }) if history.buffers && confirmed < Some(SegmentId(*segment)) => {
                return Err(format!(
                    "segment {segment} is played at {at:?}, but {confirmed:?} was"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a stream says after it was given up, failed or has said its last changes nothing.
pub(crate) fn dead_streams_are_silent(history: &History) -> Verdict {
    let mut dead: BTreeSet<StreamId> = BTreeSet::new();
    let mut unheard: BTreeSet<u32> = BTreeSet::new();
    for Entry { at, what } in &history.entries {
        match what {
            What::Cancelled(stream) | What::Closed(stream, _) => {
                dead.insert(*stream);
            }
            What::AnswerCame {
                stream, last, tags, ..
            } => {
                if dead.contains(stream) {
                    unheard.extend(tags);
                } else if *last {
                    dead.insert(*stream);
                }
            }
            What::Played {
                piece: Some(piece), ..
            } if unheard.contains(&piece.tag) => {
                return Err(format!("{piece:?} of a dead stream is played at {at:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Our own echo, and silence, never cut a prompt.
pub(crate) fn only_a_caller_takes_the_floor(history: &History) -> Verdict {
    let mut reason: Option<At> = None;
    for Entry { at, what } in &history.entries {
        match what {
            What::Captured(frame) if history.frames[*frame as usize].sound != Sound::Echo => {
                reason = Some(*at);
            }
            What::Pressed(..) => reason = Some(*at),
            What::Told(Notice::BargeIn { .. })
                if reason.is_none_or(|reason| *at > reason + REASON) =>
            {
                return Err(format!("a prompt is cut at {at:?}; last sound {reason:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}
