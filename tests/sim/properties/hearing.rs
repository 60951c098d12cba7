//! What becomes of the caller's words: each is understood once, or it is known why it was not.
//!
//! A frame is *understood* when a final transcript that covers it came on a stream that was then answered. Words that no
//! such stream got are not lost yet: a later one may get them. They are lost when the agent has understood, or found
//! nothing in, something later.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem::engine::call::event::FaultKind;
use tandem::engine::call::event::StreamId;
use tandem::engine::call::notice::Measure;
use tandem::engine::call::notice::TurnKind;
use tandem::engine::media::frame::FRAME_DURATION;

use super::Verdict;
use crate::history::At;
use crate::history::Entry;
use crate::history::History;
use crate::history::Sound;
use crate::history::What;

/// Frames at the edges of an utterance that may be missing: cut in two by the beginning of a stream, or judged late.
const EDGES: usize = 4;
/// Frames that may be understood twice, for the same reason.
const OVERLAP: usize = 1;
/// Digits send away the words before them so long after they were pressed: the pause that ends them.
const DIGITS: Duration = Duration::from_secs(5);
/// How long before a final without an offset its words are taken to have ended.
const FINAL_DELAY: Duration = Duration::from_millis(300);

/// What is known of a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    captured: Option<At>,
    /// By which answered stream it was understood.
    understood: Option<StreamId>,
    /// By which further one.
    again: Option<StreamId>,
    /// It need not be understood, since the agent could not be listening then.
    excused: bool,
    lost: bool,
}

/// A stream, as far as hearing goes.
#[derive(Debug)]
struct Hearing {
    kind: TurnKind,
    input: String,
    no_barge_in: u64,
    opened: At,
    /// Frames got, with their places.
    got: Vec<(u32, u64)>,
    /// Frames in finals so far, and how far the finals reach in samples if they say so.
    understood: Vec<u32>,
    reach: Option<u64>,
    vague: bool,
    over: bool,
    answered: bool,
    /// Whether any words were understood.
    words: bool,
}

/// The fates of all frames.
struct Ledger<'a> {
    history: &'a History,
    fates: Vec<Fate>,
    streams: BTreeMap<StreamId, Hearing>,
    pressed: Option<At>,
    echo_refused: bool,
    /// Whether the agent has answered anything.
    prompted: bool,
    unheard: Duration,
}

/// Every word is understood, or counted as unheard, or excused.
pub(crate) fn no_word_is_lost(history: &History) -> Verdict {
    let ledger = Ledger::keep(history);
    let mut lost: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (number, fate) in (0..).zip(&ledger.fates) {
        if fate.lost {
            let utterance = history.frames[number as usize].utterance;
            lost.entry(utterance).or_default().push(number);
        }
    }
    lost.retain(|_, frames| frames.len() > EDGES);
    let frames: usize = lost.values().map(Vec::len).sum();
    let lasting = FRAME_DURATION * frames as u32;
    let unheard = ledger.unheard;
    if lasting > unheard + EDGES as u32 * FRAME_DURATION {
        let lost: Vec<_> = lost
            .iter()
            .map(|(utterance, frames)| {
                let last = frames.last().copied().unwrap_or_default();
                let at = ledger.fates[last as usize].captured;
                format!(
                    "{} frames of utterance {utterance} from {} up to {last} at {at:?}",
                    frames.len(),
                    frames[0],
                )
            })
            .collect();
        return Err(format!("{lost:?}; counted as unheard: {unheard:?}"));
    }
    Ok(())
}

/// What an agent has understood no stream gets again.
pub(crate) fn no_word_is_understood_twice(history: &History) -> Verdict {
    let ledger = Ledger::keep(history);
    let twice = |fate: &&Fate| fate.again.is_some();
    let count = ledger.fates.iter().filter(twice).count();
    let Some((number, fate)) = (0..).zip(&ledger.fates).find(|(_, fate)| twice(fate)) else {
        return Ok(());
    };
    let number: u32 = number;
    if count > OVERLAP {
        return Err(format!("{count} frames, the first is {number}: {fate:?}"));
    }
    Ok(())
}

impl<'a> Ledger<'a> {
    fn keep(history: &'a History) -> Self {
        let mut ledger = Self {
            history,
            fates: vec![Fate::default(); history.frames.len()],
            streams: BTreeMap::new(),
            pressed: None,
            echo_refused: false,
            prompted: false,
            unheard: Duration::ZERO,
        };
        for Entry { at, what } in &history.entries {
            ledger.see(what, *at);
        }
        ledger
    }

    fn see(&mut self, what: &What, at: At) {
        match what {
            What::Captured(frame) => self.on_captured(*frame, at),
            What::Pressed(..) => self.pressed = Some(at),
            // What is heard on hold is the music of the caller's side.
            What::Held(false) => self.excuse_all(),
            What::Opened {
                stream,
                kind,
                input,
                window,
            } => {
                let hearing = Hearing {
                    kind: *kind,
                    input: input.clone(),
                    no_barge_in: self.history.rate.samples_in(window.no_barge_in),
                    opened: at,
                    got: Vec::new(),
                    understood: Vec::new(),
                    reach: None,
                    vague: false,
                    over: false,
                    answered: false,
                    words: false,
                };
                self.streams.insert(*stream, hearing);
            }
            What::Delivered {
                stream,
                frame,
                place,
            } => self.on_delivered(*stream, *frame, *place),
            What::Final {
                stream,
                end_offset,
                understood,
                ..
            } => self.on_final(*stream, *end_offset, understood, at),
            What::AnswerCame {
                stream, last, tags, ..
            } => self.on_answer(*stream, *last, !tags.is_empty()),
            What::Cancelled(stream) => self.on_cancelled(*stream, at),
            What::Closed(stream, fault) => self.on_closed(*stream, *fault),
            What::Measured(Measure::Unheard(unheard)) => self.unheard += *unheard,
            What::Measured(Measure::BargeInEcho) => self.echo_refused = true,
            _ => {}
        }
    }

    fn on_captured(&mut self, frame: u32, at: At) {
        self.fates[frame as usize].captured = Some(at);
    }

    fn on_delivered(&mut self, stream: StreamId, frame: u32, place: u64) {
        let Some(hearing) = self.streams.get_mut(&stream) else {
            return;
        };
        hearing.got.push((frame, place));
        let opened_after = hearing.opened;
        let fate = &mut self.fates[frame as usize];
        // It was understood before this stream was opened, and is sent all the same.
        if fate.understood.is_some_and(|by| by != stream)
            && fate.captured.is_some_and(|at| at < opened_after)
        {
            fate.again = Some(stream);
        }
    }

    fn on_final(
        &mut self,
        stream: StreamId,
        end_offset: Option<Duration>,
        understood: &[u32],
        at: At,
    ) {
        let Some(hearing) = self.streams.get_mut(&stream).filter(|it| !it.over) else {
            return;
        };
        hearing.understood.extend(understood);
        hearing.words |= !understood.is_empty();
        if let Some(offset) = end_offset {
            hearing.reach = Some(self.history.rate.samples_in(offset));
        } else {
            // Where the words ended is guessed, so what was said between then and now may be missing.
            hearing.vague = true;
            let before = at.saturating_sub(FINAL_DELAY);
            let first = understood.first().copied().unwrap_or(u32::MAX);
            self.excuse(|number, fate| {
                number >= first && fate.captured.is_some_and(|captured| captured <= before)
            });
        }
    }

    fn on_answer(&mut self, stream: StreamId, last: bool, speaks: bool) {
        let frame = self.history.rate.samples_in(FRAME_DURATION);
        let Some(hearing) = self.streams.get_mut(&stream).filter(|it| !it.over) else {
            return;
        };
        hearing.over = last;
        if hearing.kind != TurnKind::Speech {
            // Listening becomes due with the first prompt; voice before it answered nothing. Not so where the turn is one that
            // the gateway makes of its own accord after the caller has spoken. A text is what a failed stream understood.
            hearing.answered = true;
            let own = hearing.kind == TurnKind::ToolResult || hearing.input.starts_with("sys.");
            let is_first = (last || speaks) && !own && !self.prompted;
            if is_first || last && hearing.kind == TurnKind::Text {
                self.prompted = true;
                self.excuse_all();
            }
            return;
        }
        hearing.answered = true;
        let understood = std::mem::take(&mut hearing.understood);
        let (vague, reach) = (hearing.vague, hearing.reach);
        let places: BTreeMap<u32, u64> = hearing.got.iter().copied().collect();
        let unheard_part: Vec<u32> = hearing
            .got
            .iter()
            .filter(|(_, place)| *place < hearing.no_barge_in)
            .map(|(frame, _)| *frame)
            .collect();
        for number in unheard_part {
            self.fates[number as usize].excused = true;
        }
        for number in &understood {
            let fate = &mut self.fates[*number as usize];
            let place = places.get(number).copied().unwrap_or_default();
            if vague || reach.is_none_or(|reach| place + frame > reach) {
                // Understood, but the engine cannot know it exactly.
                fate.excused = true;
            } else if fate.understood.is_some() {
                fate.again = Some(stream);
            } else {
                fate.understood = Some(stream);
            }
        }
        self.find_lost(stream, &understood, last);
    }

    /// Something was understood, or nothing in a whole stream: what lies before it and was not is lost.
    fn find_lost(&mut self, stream: StreamId, understood: &[u32], last: bool) {
        let hearing = &self.streams[&stream];
        let opened = hearing.opened;
        let nothing = last && !hearing.words;
        let got: Vec<u32> = hearing.got.iter().map(|(frame, _)| *frame).collect();
        let Some(first) = understood.first().copied() else {
            if nothing {
                self.lose(|number, fate| {
                    fate.captured.is_some_and(|at| at < opened) && !got.contains(&number)
                });
            }
            return;
        };
        self.lose(|number, _| number < first);
    }

    fn lose(&mut self, which: impl Fn(u32, &Fate) -> bool) {
        let frames = &self.history.frames;
        for (number, fate) in (0..).zip(&mut self.fates) {
            let place = number as usize;
            // A frame counts if it and its neighbours are loud: at the edges the detector may be late.
            let certain = (place.saturating_sub(1)..=place + 1)
                .all(|near| frames.get(near).is_none_or(|near| near.loud));
            let words = frames[place].sound == Sound::Words && certain;
            if words
                && fate.captured.is_some()
                && fate.understood.is_none()
                && !fate.excused
                && which(number, fate)
            {
                fate.lost = true;
            }
        }
    }

    fn on_cancelled(&mut self, stream: StreamId, at: At) {
        let Some(hearing) = self.streams.get_mut(&stream).filter(|it| !it.over) else {
            return;
        };
        hearing.over = true;
        if self.pressed.is_some_and(|pressed| at <= pressed + DIGITS) {
            self.excuse_all();
        } else if std::mem::take(&mut self.echo_refused) {
            let got = std::mem::take(&mut hearing.got);
            for (number, _) in got {
                self.fates[number as usize].excused = true;
            }
        }
    }

    fn on_closed(&mut self, stream: StreamId, fault: Option<FaultKind>) {
        let Some(hearing) = self.streams.get_mut(&stream).filter(|it| !it.over) else {
            return;
        };
        hearing.over = true;
        // The caller is asked to say it again; or the agent may have acted upon it.
        if fault == Some(FaultKind::DeadlineExceeded) || hearing.answered {
            self.excuse_all();
        }
    }

    fn excuse_all(&mut self) {
        self.excuse(|_, _| true);
    }

    /// Excuses what has been heard so far and fits.
    fn excuse(&mut self, which: impl Fn(u32, &Fate) -> bool) {
        for (number, fate) in (0..).zip(&mut self.fates) {
            if fate.captured.is_some() && which(number, fate) {
                fate.excused = true;
            }
        }
    }
}
