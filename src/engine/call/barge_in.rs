//! Who has the floor while the agent speaks (design §4, rule 5).
//!
//! It is decided in two steps. Voice over a prompt that may be interrupted *ducks* it at once; then the first words (or
//! voice that lasts, by policy) *cut* it, and where neither comes in time it is *restored*. A cough costs a moment of
//! loudness, never the prompt.
//!
//! Voice counts only where it is louder than our own echo can be ([`Echo`]), and so do words: a recogniser understands the
//! echo of the agent's own voice very well. Words that people say while they listen, the back-channel, may be named in the
//! settings and cut nothing either. An utterance of nothing but such words is no turn: its stream is given up.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use crate::engine::call::Call;
use crate::engine::call::echo::Echo;
use crate::engine::call::echo::Source;
use crate::engine::call::event::Action;
use crate::engine::call::notice::Measure;
use crate::engine::call::notice::Notice;
use crate::engine::call::notice::TakenFor;
use crate::engine::call::settings::BargeInMode;
use crate::engine::call::timers::Timer;
use crate::engine::call::turn::Phase;
use crate::engine::media::frame::Frame;
use crate::engine::media::vad::Heard;

/// How far back voice is evidence for words: a recogniser's delay, generously.
const EVIDENCE: usize = 125;
/// Frames of voice within [`EVIDENCE`] from which on words are the caller's: a short "no" has more.
const WORD: usize = 4;
/// Frames within [`EVIDENCE`] that our echo can explain, from which on words without a voice of the caller's are that echo.
/// With fewer the recogniser has better ears than we have.
const ECHO: usize = 10;
/// Frames of voice, or of a sudden noise, in a row that duck the prompt: a click has one.
const ONSET: u32 = 3;
/// How much louder than the line a noise must be to duck a prompt like a voice: coughs are, streets are not.
const SUDDEN_DB: f32 = 15.0;
/// How fast a line that has become louder is taken for a loud line, in dB per frame.
const NOISE_RISE_DB: f32 = 0.2;
/// The longest time for which a prompt stays ducked, whatever the caller does.
const LONGEST_DUCK: Duration = Duration::from_secs(4);
/// Frames without voice that part one utterance from the next: a stop consonant is shorter.
const WORD_GAP: u32 = 10;
/// Frames without voice after which a prompt that was restored may be ducked again.
const PAUSE: u32 = 25;

/// What is known of the caller's voice over the prompt.
pub(super) struct Floor {
    echo: Echo,
    began: Instant,
    /// Whether the line has an echo for certain.
    is_echo_known: bool,
    /// What the last [`EVIDENCE`] frames were, oldest first.
    recent: VecDeque<Evidence>,
    /// How loud the line is when nobody speaks, in dBFS.
    noise: f32,
    /// Frames in a row that are loud enough to duck the prompt, and frames that are not.
    loud: u32,
    quiet: u32,
    /// Frames of the caller's voice in a row.
    voiced: u32,
    /// Since when the caller has been speaking over the prompt.
    speaking_since: Option<Instant>,
    /// When the prompt must be restored at the latest.
    ducked_until: Option<Instant>,
    /// A ducked prompt was restored although the caller went on: not again before they pause.
    is_resigned: bool,
}

/// What one frame of the caller is evidence for.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    /// There was voice, whoever's.
    sounds: bool,
    /// There was voice that is not our echo.
    voice: bool,
    /// There was some sound that our echo can explain.
    echo: bool,
}

impl Floor {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            echo: Echo::new(),
            began: now,
            is_echo_known: false,
            recent: VecDeque::with_capacity(EVIDENCE + 1),
            noise: 0.0,
            loud: 0,
            quiet: 0,
            voiced: 0,
            speaking_since: None,
            ducked_until: None,
            is_resigned: false,
        }
    }

    /// A frame of ours is on its way; it is heard at `at`.
    pub(super) fn played(&mut self, frame: &Frame, at: Instant) {
        self.echo
            .played(frame, at.saturating_duration_since(self.began));
    }

    /// The caller's frame, what the detector found in it, and how much audio came before it: that is a steadier clock than
    /// the one on the wall, by which frames come in bursts.
    pub(super) fn heard(&mut self, frame: &Frame, found: Heard, before: Duration) {
        let loudness = self.echo.heard(frame, before);
        let evidence = Evidence {
            sounds: found.maybe_voice,
            voice: found.maybe_voice && loudness.is_above_echo(),
            echo: loudness.may_be_echo(),
        };
        self.recent.push_back(evidence);
        if self.recent.len() > EVIDENCE {
            self.recent.pop_front();
        }
        if let Some(source) = loudness.source {
            self.reconsider(source, loudness.is_echo_known);
        }
        self.is_echo_known = loudness.is_echo_known;
        let is_sudden = found.maybe_voice
            && loudness.is_above_echo()
            && loudness.level() > self.noise + SUDDEN_DB;
        self.noise = loudness.level().min(self.noise + NOISE_RISE_DB);
        let is_voice = found.voice && loudness.is_above_echo();
        if is_voice || is_sudden {
            self.loud += 1;
            self.quiet = 0;
        } else {
            self.loud = 0;
            self.quiet = self.quiet.saturating_add(1);
        }
        self.voiced = if is_voice { self.voiced + 1 } else { 0 };
        self.is_resigned &= self.quiet < PAUSE;
    }

    /// It is known now whose the last sound was; until then, only how loud it was.
    fn reconsider(&mut self, source: Source, is_echo_known: bool) {
        let is_news = is_echo_known && !self.is_echo_known;
        for evidence in self.recent.iter_mut().rev().take(Echo::SOUND_FRAMES) {
            match source {
                Source::Theirs if evidence.echo => {
                    evidence.echo = false;
                    evidence.voice = evidence.sounds;
                }
                Source::Ours if is_news && evidence.voice => {
                    evidence.echo = true;
                    evidence.voice = false;
                }
                Source::Theirs | Source::Ours => {}
            }
        }
    }

    /// In how many of the last frames there was the caller's voice.
    fn voice_frames(&self) -> usize {
        self.recent.iter().filter(|evidence| evidence.voice).count()
    }

    /// Whether words are our own as far as can be told yet.
    fn is_echo(&self) -> bool {
        let echo_frames = self.recent.iter().filter(|evidence| evidence.echo).count();
        self.voice_frames() < WORD && echo_frames >= ECHO
    }

    /// Whether words are our own for certain, so that nobody need hear them.
    pub(super) fn is_certainly_echo(&self) -> bool {
        self.is_echo() && self.is_echo_known
    }
}

impl Call {
    /// The caller's next frame may be voice over the prompt.
    pub(super) fn on_voice(&mut self) {
        if self.settings.barge_in.mode == BargeInMode::Off || !self.is_floor_open() {
            self.floor.speaking_since = None;
            return;
        }
        if self.floor.loud >= ONSET {
            self.duck();
        }
        if self.floor.voiced >= ONSET {
            let since = *self.floor.speaking_since.get_or_insert(self.now);
            if self.is_cut_by_voice()
                && self.now.saturating_duration_since(since) >= self.settings.barge_in.voice
            {
                self.barge_in();
            }
        } else if self.floor.quiet >= WORD_GAP {
            self.floor.speaking_since = None;
        }
    }

    /// Whether the caller could take the floor now: the prompt sounds, and may be cut.
    fn is_floor_open(&self) -> bool {
        let listens = self.listening().is_some();
        let thinks = self
            .turn
            .as_ref()
            .is_some_and(|turn| turn.phase == Phase::Answering);
        (listens || (thinks && self.settings.barge_in.cuts_partials))
            && self.ending.is_none()
            && self.playout.is_sounding()
            && self.playout.is_interruptible(self.now)
    }

    /// Where nobody recognises words, voice must do.
    fn is_cut_by_voice(&self) -> bool {
        self.settings.barge_in.mode == BargeInMode::Voice || self.listening().is_none()
    }

    fn duck(&mut self) {
        let longest = match self.floor.ducked_until {
            Some(longest) => longest,
            None if self.floor.is_resigned || self.settings.barge_in.duck_db == 0 => return,
            None => {
                if !self.playout.duck(self.settings.barge_in.duck_db, self.now) {
                    return;
                }
                self.tell(Notice::Ducked);
                let longest = self.now + LONGEST_DUCK;
                *self.floor.ducked_until.insert(longest)
            }
        };
        let restore = self.now + self.settings.barge_in.restore_after;
        self.timers.set(Timer::Restore, restore.min(longest));
    }

    /// No words came: it was no interruption.
    pub(super) fn restore_prompt(&mut self) {
        self.timers.stop(Timer::Restore);
        if self.floor.ducked_until.take().is_none() {
            return;
        }
        self.floor.is_resigned = true;
        if self.playout.is_ducked() {
            self.playout.restore(self.now);
            self.tell(Notice::Restored);
            self.measure(Measure::BargeInRestored);
        }
    }

    /// Words were heard just now; `None` if the caller wants to speak.
    pub(super) fn judge_words(&self, text: &str) -> Option<TakenFor> {
        let back_channels = &self.settings.barge_in.back_channels;
        if self.floor.is_echo() {
            Some(TakenFor::Echo)
        } else if self.playout.is_audible(self.now) && is_back_channel(text, back_channels) {
            Some(TakenFor::BackChannel)
        } else {
            None
        }
    }

    /// The caller takes the floor, if the prompt lets them. A refusal has no side effect but being counted.
    pub(super) fn barge_in(&mut self) {
        let is_prompting = self.playout.is_audible(self.now) || self.clips.is_waiting();
        if !is_prompting || self.ending.is_some() {
            return;
        }
        if !self.playout.is_interruptible(self.now) {
            if let Some(turn) = self.turn.as_mut().filter(|turn| !turn.refused) {
                turn.refused = true;
                self.measure(Measure::BargeInRefused);
            }
            return;
        }
        if self.playout.is_holding() {
            // It only passes the time: there is nothing to interrupt.
            self.end_hold();
            self.watch_for_silence();
            self.proceed();
            return;
        }
        let heard = self.cut_playout();
        self.heard.cut();
        self.tell(Notice::BargeIn {
            heard_ms: heard.as_millis() as u64,
        });
        self.measure(Measure::BargeIn(self.now));
        self.watch_for_silence();
        self.proceed();
    }

    /// The utterance whose words were taken for our echo is over, and was the caller's after all.
    pub(super) fn barge_in_late(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.words = true;
            turn.dismissed = None;
        }
        if self.floor.voice_frames() >= WORD {
            self.barge_in();
        }
    }

    /// Empties every queue between the agent and the caller's ear; returns how much of what is cut was heard.
    pub(super) fn cut_playout(&mut self) -> Duration {
        self.timers.stop(Timer::Restore);
        self.floor.ducked_until = None;
        self.floor.speaking_since = None;
        self.forget_clips();
        self.act(Action::Clear);
        let mut heard = Duration::ZERO;
        while let Some(finished) = self.playout.cut(self.now) {
            heard += finished.heard;
            self.report(finished);
        }
        heard
    }
}

/// Whether a text is made of words and phrases of the back-channel alone. Case and punctuation do not count.
fn is_back_channel(text: &str, back_channels: &[String]) -> bool {
    let words: Vec<String> = words(text);
    if words.is_empty() || back_channels.is_empty() {
        return false;
    }
    let phrases: Vec<Vec<String>> = back_channels
        .iter()
        .map(|phrase| self::words(phrase))
        .collect();
    let mut rest = words.as_slice();
    while !rest.is_empty() {
        let fitting = phrases
            .iter()
            .filter(|phrase| !phrase.is_empty() && rest.starts_with(phrase))
            .map(Vec::len)
            .max();
        match fitting {
            Some(length) => rest = &rest[length..],
            None => return false,
        }
    }
    true
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_channel_is_told_from_words_that_begin_with_it() {
        let list: Vec<String> = ["mm-hmm", "uh huh", "okay", "yes", "i see"]
            .map(String::from)
            .to_vec();
        for text in ["Mm-hmm.", "uh-huh", "Okay, okay!", "Yes, I see."] {
            assert!(is_back_channel(text, &list), "{text}");
        }
        for text in ["", "okay stop", "i", "see", "yesterday", "uh"] {
            assert!(!is_back_channel(text, &list), "{text}");
        }
        assert!(!is_back_channel("okay", &[]));
    }
}
