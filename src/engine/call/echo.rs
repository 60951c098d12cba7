//! Whether what is heard is the caller, or the echo of our own prompt.
//!
//! What we play comes back on many lines: from a loudspeaker, from an analogue hybrid. It is quieter by some amount and
//! later by some time; both stay the same for most of a call (field notes 15 to 17). So what is heard while a prompt sounds
//! is searched for in what was played ([`alignment`]): where it is found, that tells the echo's delay and its level, and
//! what is louder than that is the caller. Where it is not found, somebody else made the sound, however quiet it is. Until
//! something has been heard, a line is taken to have an echo that is [`ASSUMED_DB`] quieter than the prompt.
//!
//! Levels are in dBFS of frames of 20 ms. Places in time are samples at [`RATE`] since the call began.

use std::time::Duration;

use crate::engine::media::alignment;
use crate::engine::media::alignment::FRAME;
use crate::engine::media::alignment::RATE;
use crate::engine::media::alignment::SEARCHED;
use crate::engine::media::alignment::SOUND;
use crate::engine::media::frame::Frame;

/// How much earlier than we think a prompt may be heard.
const EARLY: usize = 2 * FRAME;
/// Samples of our own that are remembered: what is searched, and what is sent ahead of its time.
const PLAYED: usize = 8_192;
/// Frames of our own whose levels are remembered.
const LEVELS: usize = PLAYED / FRAME;
/// How far back what we played may be heard, in frames.
const DELAYS: usize = 36;
/// Below this there is nothing to hear, neither of us nor of an echo of us.
const QUIET_DBFS: f32 = -50.0;
/// Levels are not looked at below this: how silent silence is tells nothing.
const FLOOR_DBFS: f32 = -65.0;
/// How many frames of a sound must be loud enough to be understood for it to be worth a search.
const LOUD_FRAMES: usize = 6;
/// How many must be for it to prove that somebody else made it; and in so many searches in a row, for a short sound of ours
/// may not stand out.
const LONG_FRAMES: usize = 10;
const STRANGE: u32 = 2;
/// Frames from one search to the next.
const SEARCH_EVERY: u32 = 8;

/// A place that stands out like this is the echo's.
const CLEAR: f32 = 12.0;
/// One like this, if the last search found it too.
const LIKELY: f32 = 7.0;
/// One like this, if it is known to be the echo's.
const CONFIRMED: f32 = 4.0;
/// Where nothing stands out like this, there is no echo in the sound.
const CHANCE: f32 = 6.0;
/// How far apart two places may be that are the same: clocks differ, and rooms have walls.
const NEAR: usize = 12;

/// How loud an echo may be until it is known.
const ASSUMED_DB: f32 = -16.0;
/// How loud an echo may be where there was none.
const NONE_DB: f32 = -30.0;
/// A line is this quiet, compared with the prompt, for [`QUIET_FRAMES`] where there is no echo.
const SILENT_DB: f32 = -36.0;
/// A second of prompt, and then the longest delay.
const QUIET_FRAMES: u32 = 50 + DELAYS as u32;
/// How much louder than it was an echo may be, compared with the loudest of what may come back.
const MARGIN_DB: f32 = 5.0;
/// How much quieter than [`QUIET_DBFS`] an echo may be and still be understood.
const UNDERSTOOD_DB: f32 = 9.0;
/// A sound of which this share is the echo has nobody else in it.
const ALONE: f32 = 0.25;
/// How much of a new level is believed.
const LEARNED: f32 = 0.3;
/// For how many of the last frames there must have been a prompt for a sound without it to prove that there is no echo.
const ENOUGH: usize = 25;

/// Compares what is played with what is heard.
pub(super) struct Echo {
    /// Our sample of place `n` at `n % PLAYED`, and the place after the last of them.
    played: Box<[i16; PLAYED]>,
    played_to: u64,
    /// The level of our frame `n` at `n % LEVELS`, and its `n`.
    levels: [(u64, f32); LEVELS],
    /// The last of what was heard, and the place after it.
    heard: Box<[i16; SOUND]>,
    heard_to: u64,
    /// The levels of its frames.
    loudness: [f32; SOUND / FRAME],
    since_search: u32,
    known: Option<Known>,
    /// Where it may be found.
    likely: Option<usize>,
    /// Searches in a row in which there was nothing of ours in a long sound.
    strange: u32,
    is_absent: bool,
    /// Frames of prompt in a row in which the line was silent.
    quiet: u32,
}

/// A line's echo.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Where it is found: the earlier, the longer is its delay.
    place: usize,
    /// How much louder than the prompt; mostly negative.
    gain: f32,
}

/// Whose a sound is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Our own, come back.
    Ours,
    /// Somebody else's.
    Theirs,
}

/// How loud the caller is, and how loud our echo may be, in dBFS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loudness {
    level: f32,
    bar: f32,
    /// Whether the line has an echo for certain.
    pub is_echo_known: bool,
    /// Whose the last [`Echo::SOUND_FRAMES`] were, if that became known just now.
    pub source: Option<Source>,
}

impl Echo {
    /// Of how many frames it is known whose they are, once it is.
    pub(super) const SOUND_FRAMES: usize =
        SOUND / FRAME + (STRANGE - 1) as usize * SEARCH_EVERY as usize;

    pub(super) fn new() -> Self {
        Self {
            played: Box::new([0; PLAYED]),
            played_to: 0,
            levels: [(u64::MAX, FLOOR_DBFS); LEVELS],
            heard: Box::new([0; SOUND]),
            heard_to: 0,
            loudness: [FLOOR_DBFS; SOUND / FRAME],
            since_search: 0,
            known: None,
            likely: None,
            strange: 0,
            is_absent: false,
            quiet: 0,
        }
    }

    /// Our frame that is heard when the call is `at` old.
    pub(super) fn played(&mut self, frame: &Frame, at: Duration) {
        let place = place_of(at);
        // What was not played was silence; what was written beyond this was thrown away before it was heard.
        let gap = place.saturating_sub(self.played_to).min(PLAYED as u64);
        for place in place - gap..place {
            self.played[place as usize % PLAYED] = 0;
        }
        let (before, after) = self.played.split_at_mut(place as usize % PLAYED);
        for (to, sample) in after
            .iter_mut()
            .chain(before)
            .zip(alignment::reduced(frame))
        {
            *to = sample;
        }
        self.played_to = place + FRAME as u64;
        let index = place / FRAME as u64;
        self.levels[index as usize % LEVELS] = (index, level(frame));
    }

    /// The caller's frame that was spoken when the call was `at` old, and how loud it must be not to be our echo.
    pub(super) fn heard(&mut self, frame: &Frame, at: Duration) -> Loudness {
        let place = place_of(at);
        let level = level(frame);
        self.heard.copy_within(FRAME.., 0);
        self.heard[SOUND - FRAME..].copy_from_slice(&alignment::reduced(frame));
        self.heard_to = place + FRAME as u64;
        self.loudness.copy_within(1.., 0);
        self.loudness[SOUND / FRAME - 1] = level;

        let index = place / FRAME as u64;
        let loudest = (0..DELAYS).map(|delay| self.level_at(index, delay));
        let loudest = loudest.fold(FLOOR_DBFS, f32::max);
        if loudest < QUIET_DBFS {
            return Loudness {
                level,
                bar: FLOOR_DBFS,
                is_echo_known: self.known.is_some(),
                source: None,
            };
        }
        self.note_silence(level, loudest);
        let source = self.search();
        let gain = match self.known {
            Some(known) => known.gain + MARGIN_DB,
            None if self.is_absent => NONE_DB,
            None => ASSUMED_DB,
        };
        Loudness {
            level,
            bar: loudest + gain,
            is_echo_known: self.known.is_some(),
            source,
        }
    }

    /// A line on which a prompt leaves no trace has no echo, or none any more.
    fn note_silence(&mut self, level: f32, loudest: f32) {
        let is_silent = level < (loudest + SILENT_DB).max(FLOOR_DBFS + 1.0);
        self.quiet = if is_silent { self.quiet + 1 } else { 0 };
        if self.quiet >= QUIET_FRAMES {
            self.known = None;
            self.is_absent = true;
        }
    }

    /// Looks for what was heard in what was played, where that is due.
    fn search(&mut self) -> Option<Source> {
        self.since_search += 1;
        let loud = self
            .loudness
            .iter()
            .filter(|level| **level > QUIET_DBFS - UNDERSTOOD_DB)
            .count();
        if self.since_search < SEARCH_EVERY || loud < LOUD_FRAMES {
            return None;
        }
        self.since_search = 0;
        let searched = self.played_before(self.heard_to + EARLY as u64);
        let expected = self.known.map(|known| known.place);
        let near = expected.map_or(0..0, |place| {
            place.saturating_sub(NEAR)..(place + NEAR).min(alignment::PLACES)
        });
        let found = alignment::find(&self.heard, &searched, near);
        if !found.is_telling {
            return None;
        }
        let was_likely = self
            .likely
            .is_some_and(|place| place.abs_diff(found.place) <= NEAR);
        self.likely = (found.clarity >= LIKELY).then_some(found.place);
        let is_clear = found.clarity >= CLEAR || (found.clarity >= LIKELY && was_likely);
        let place = if is_clear {
            Some(found.place)
        } else {
            expected.filter(|_| found.expected_clarity >= CONFIRMED)
        };
        if let Some(place) = place {
            let likeness = Likeness::of(&*self.heard, &searched[place..place + SOUND]);
            self.learn(place, likeness);
            return Some(Source::Ours);
        }
        let is_strange = found.clarity < CHANCE && loud >= LONG_FRAMES;
        self.strange = if is_strange { self.strange + 1 } else { 0 };
        if self.strange < STRANGE {
            return None;
        }
        self.is_absent |= self.known.is_none() && self.prompt_frames() >= ENOUGH;
        Some(Source::Theirs)
    }

    /// What was heard is our echo, and was found at `place`.
    fn learn(&mut self, place: usize, likeness: Likeness) {
        self.is_absent = false;
        self.quiet = 0;
        self.strange = 0;
        let measured = likeness.gain.clamp(-45.0, 0.0);
        let is_alone = likeness.share >= ALONE;
        let gain = match self.known {
            Some(known) if !is_alone => known.gain,
            Some(known) => known.gain + LEARNED * (measured - known.gain),
            // Somebody speaks over it, or a room blurs it.
            None if !is_alone => measured.min(ASSUMED_DB - MARGIN_DB),
            None => measured,
        };
        self.known = Some(Known { place, gain });
    }

    /// How loud we were `delay` frames before frame `index`.
    fn level_at(&self, index: u64, delay: usize) -> f32 {
        let then = index.checked_sub(delay as u64);
        then.filter(|then| then * (FRAME as u64) < self.played_to)
            .map(|then| (then, self.levels[then as usize % LEVELS]))
            .filter(|(then, (index, _))| then == index)
            .map_or(FLOOR_DBFS, |(_, (_, level))| level)
    }

    /// In how many frames of what is searched there was a prompt.
    fn prompt_frames(&self) -> usize {
        let index = self.heard_to / FRAME as u64;
        let levels = (1..=SEARCHED / FRAME).map(|back| self.level_at(index, back));
        levels.filter(|level| *level > QUIET_DBFS).count()
    }

    /// What was played before place `to`; silence where nothing was, or nothing is known.
    fn played_before(&self, to: u64) -> [i16; SEARCHED] {
        let mut played = [0; SEARCHED];
        let oldest = self.played_to.saturating_sub(PLAYED as u64);
        let mut place = to.saturating_sub(SEARCHED as u64).max(oldest);
        let end = to.min(self.played_to);
        while place < end {
            let at = place as usize % PLAYED;
            let count = (PLAYED - at).min((end - place) as usize);
            let into = SEARCHED - (to - place) as usize;
            played[into..into + count].copy_from_slice(&self.played[at..at + count]);
            place += count as u64;
        }
        played
    }
}

impl Loudness {
    /// How loud the caller is, in dBFS.
    pub(super) const fn level(self) -> f32 {
        self.level
    }

    /// Whether this is more than our echo can be.
    pub(super) fn is_above_echo(self) -> bool {
        self.level > self.bar
    }

    /// Whether this may be our echo: there is something, and we were to be heard a moment ago.
    pub(super) fn may_be_echo(self) -> bool {
        self.bar > FLOOR_DBFS && self.level > QUIET_DBFS - UNDERSTOOD_DB && !self.is_above_echo()
    }
}

fn place_of(at: Duration) -> u64 {
    (at.as_nanos() * u128::from(RATE) / 1_000_000_000) as u64
}

/// How one sound resembles another.
#[derive(Clone, Copy, Debug)]
struct Likeness {
    /// What share of its power is the other, made louder or quieter.
    share: f32,
    /// How much louder it is, in dB.
    gain: f32,
}

impl Likeness {
    fn of(sound: &[i16], other: &[i16]) -> Self {
        let (mut product, mut power, mut other_power) = (0.0, 0.0, 0.0);
        for (a, b) in sound.iter().zip(other) {
            let (a, b) = (f32::from(*a), f32::from(*b));
            product += a * b;
            power += a * a;
            other_power += b * b;
        }
        Self {
            share: product * product / (power * other_power).max(1.0),
            gain: 10.0 * (power.max(1.0) / other_power.max(1.0)).log10(),
        }
    }
}

/// The level of a frame, against a full-scale square wave.
fn level(frame: &Frame) -> f32 {
    let samples = frame.samples();
    let power: i64 = samples.iter().map(|sample| i64::from(*sample).pow(2)).sum();
    let mean = power as f32 / samples.len().max(1) as f32 / 32_768_f32.powi(2);
    (10.0 * mean.max(1e-10).log10()).max(FLOOR_DBFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::media::frame::FRAME_DURATION;
    use crate::engine::media::frame::SampleRate;
    use crate::engine::media::testing::voice;

    /// Samples of a frame.
    const LENGTH: usize = 160;

    /// Speech in frames, `gain_db` louder, beginning somewhere in the middle of it.
    fn speech(from: usize, frames: usize, gain_db: f32) -> Vec<Frame> {
        let gain = 10_f32.powf(gain_db / 20.0);
        let samples = voice((from + frames) * LENGTH);
        let pieces = samples[from * LENGTH..].chunks(LENGTH);
        let louder = pieces.map(|piece| {
            let piece: Vec<i16> = piece
                .iter()
                .map(|s| (f32::from(*s) * gain) as i16)
                .collect();
            Frame::new(SampleRate::HZ_8000, &piece)
        });
        louder.collect()
    }

    fn silence() -> Frame {
        Frame::silence(SampleRate::HZ_8000)
    }

    /// Plays `ours` and hears `theirs`; which of the frames with speech were above the bar, of those from `from` on.
    fn above(echo: &mut Echo, ours: &[Frame], theirs: &[Frame], from: usize) -> (usize, usize) {
        let (mut above, mut loud) = (0, 0);
        for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            let at_time = FRAME_DURATION * at as u32;
            echo.played(ours, at_time);
            let loudness = echo.heard(theirs, at_time);
            if at >= from && level(theirs) > -45.0 {
                loud += 1;
                above += usize::from(loudness.is_above_echo());
            }
        }
        (above, loud)
    }

    fn delayed(frames: &[Frame], by: usize) -> Vec<Frame> {
        let mut delayed = vec![silence(); by];
        delayed.extend_from_slice(frames);
        delayed
    }

    #[test]
    fn an_echo_is_below_the_bar_from_the_first_word_whatever_its_delay() {
        for delay in [2, 7, 15, 30] {
            for gain in [-18.0, -20.0, -30.0] {
                let ours = speech(0, 500, 0.0);
                let echo_of_ours = delayed(&speech(0, 500, gain), delay);
                let (above, _) = above(&mut Echo::new(), &ours, &echo_of_ours, 0);
                assert!(above <= 3, "delay {delay}, gain {gain}: {above} frames");
            }
        }
    }

    #[test]
    fn a_caller_is_above_the_bar_with_and_without_an_echo() {
        for (gain, caller) in [(-20.0, -6.0), (-60.0, -6.0), (-60.0, -16.0), (-30.0, -10.0)] {
            let ours = speech(0, 600, 0.0);
            // First the echo alone, then the caller in its place, who says something else.
            let mut theirs = delayed(&speech(0, 400, gain), 8);
            theirs.extend(speech(730, 192, caller));
            let (above, loud) = above(&mut Echo::new(), &ours, &theirs, 408);
            assert!(
                2 * above > loud,
                "echo {gain}, caller {caller}: {above} of {loud}"
            );
        }
    }

    #[test]
    fn a_strong_echo_is_learned() {
        let ours = speech(0, 1_000, -6.0);
        let theirs = delayed(&speech(0, 1_000, -13.0), 10);
        let (above, loud) = above(&mut Echo::new(), &ours, &theirs, 200);
        assert!(above * 50 < loud, "{above} of {loud}");
    }

    #[test]
    fn nothing_is_an_echo_where_nothing_was_played() {
        let theirs = speech(0, 300, -10.0);
        let ours = vec![silence(); 300];
        let (above, loud) = above(&mut Echo::new(), &ours, &theirs, 0);
        assert_eq!(above, loud);
        assert!(loud > 20);
    }
}
