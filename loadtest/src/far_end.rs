//! The far end of a media stream: the buffer that plays what the gateway sends, as Twilio's does.
//!
//! Audio arrives in pieces of any size and plays first in, first out, in real time. A mark comes back when the audio before it has been
//! played; a clear throws away all that has not been played and returns every mark still waiting. What the buffer plays is what the
//! caller hears. Time is the tick: one call of [`FarEnd::tick`] is 20 ms, so a test is as long as the number of its ticks.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::mulaw;
use crate::voice;

/// How long one tick plays.
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// A buffer that ran dry and was refilled within this time starved in the middle of a talk; a longer silence is a pause between talks.
pub(crate) const UNDERRUN_AT_MOST: usize = mulaw::SAMPLE_RATE as usize * 3 / 10;
/// Twilio ends a stream that buffers more than ten minutes (error 31931).
const CAPACITY: usize = mulaw::SAMPLE_RATE as usize * 600;

/// The buffer and what is known of its past.
#[derive(Debug, Default)]
pub(crate) struct FarEnd {
    queue: VecDeque<Item>,
    buffered: usize,
    /// Marks whose audio ends within the frame that is playing: they return with the next tick.
    reached: Vec<String>,
    dryness: Dryness,
    tally: FarEndTally,
}

/// What went through the buffer.
#[derive(Debug, Default, Clone)]
pub(crate) struct FarEndTally {
    /// `media` messages received.
    pub(crate) messages: u64,
    /// Audio received, in samples.
    pub(crate) received: u64,
    /// Audio played, in samples.
    pub(crate) played: u64,
    /// Audio thrown away by clears, in samples.
    pub(crate) cleared: u64,
    /// For each time the buffer starved in the middle of a talk: how late its next audio was.
    pub(crate) underruns: Vec<Duration>,
    /// The most that was ever buffered: how far the gateway ran ahead.
    pub(crate) deepest: usize,
}

/// One tick of playing.
#[derive(Debug)]
pub(crate) struct Played {
    /// What the caller hears, silence where there was nothing to play.
    pub(crate) frame: [u8; mulaw::FRAME],
    /// Marks whose audio had been played when this tick began.
    pub(crate) marks: Vec<String>,
}

/// What a clear threw away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cleared {
    /// Every mark that was waiting, in order.
    pub(crate) marks: Vec<String>,
    /// Length of the audio that nobody will hear.
    pub(crate) unheard: Duration,
}

/// The buffer would have overflowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

#[derive(Debug)]
enum Item {
    Audio { bytes: Vec<u8>, played: usize },
    Mark(String),
}

/// Whether the buffer is empty, and whether that may be a fault.
#[derive(Debug, Default, Clone, Copy)]
enum Dryness {
    /// Nothing is missing: nothing was ever played, the last talk ended with a mark, or it was cleared.
    #[default]
    Rest,
    /// Audio is playing.
    Playing,
    /// Audio stopped without a mark, this many samples ago.
    Starving(usize),
}

impl FarEnd {
    /// Audio from the gateway joins the end of the queue.
    pub(crate) fn receive(&mut self, bytes: Vec<u8>) -> Result<(), Overflow> {
        if self.buffered + bytes.len() > CAPACITY {
            return Err(Overflow);
        }
        self.tally.messages += 1;
        self.tally.received += bytes.len() as u64;
        self.buffered += bytes.len();
        self.tally.deepest = self.tally.deepest.max(self.buffered);
        self.queue.push_back(Item::Audio { bytes, played: 0 });
        Ok(())
    }

    /// A mark joins the end of the queue; on an idle line it returns with the next tick.
    pub(crate) fn mark(&mut self, name: String) {
        self.queue.push_back(Item::Mark(name));
    }

    /// Empties the queue. The frame that is playing has been heard whole.
    pub(crate) fn clear(&mut self) -> Cleared {
        let unheard = mem::take(&mut self.buffered);
        self.tally.cleared += unheard as u64;
        self.dryness = Dryness::Rest;
        let mut marks = mem::take(&mut self.reached);
        marks.extend(self.queue.drain(..).filter_map(|item| match item {
            Item::Audio { .. } => None,
            Item::Mark(name) => Some(name),
        }));
        Cleared {
            marks,
            unheard: length(unheard),
        }
    }

    /// Plays the next 20 ms.
    pub(crate) fn tick(&mut self) -> Played {
        let mut played = Played {
            frame: [mulaw::SILENCE; mulaw::FRAME],
            marks: mem::take(&mut self.reached),
        };
        let mut filled = 0;
        while let Some(item) = self.queue.front_mut() {
            match item {
                Item::Mark(_) if filled == mulaw::FRAME => break,
                Item::Mark(name) => {
                    let due = if filled == 0 {
                        &mut played.marks
                    } else {
                        &mut self.reached
                    };
                    due.push(mem::take(name));
                    self.queue.pop_front();
                    if self.buffered == 0 {
                        self.dryness = Dryness::Rest;
                    }
                }
                Item::Audio { .. } if filled == mulaw::FRAME => break,
                Item::Audio {
                    bytes,
                    played: position,
                } => {
                    let count = (bytes.len() - *position).min(mulaw::FRAME - filled);
                    played.frame[filled..filled + count]
                        .copy_from_slice(&bytes[*position..*position + count]);
                    *position += count;
                    let used_up = *position == bytes.len();
                    self.note_audio(filled);
                    filled += count;
                    self.buffered -= count;
                    if used_up {
                        self.queue.pop_front();
                    }
                }
            }
        }
        self.tally.played += filled as u64;
        self.note_silence(mulaw::FRAME - filled);
        played
    }

    /// Whether anything still to be played is voice.
    pub(crate) fn holds_voice(&self) -> bool {
        self.queue.iter().any(|item| match item {
            Item::Audio { bytes, played } => {
                bytes[*played..].chunks(mulaw::FRAME).any(voice::is_voiced)
            }
            Item::Mark(_) => false,
        })
    }

    /// What went through so far.
    pub(crate) fn tally(&self) -> &FarEndTally {
        &self.tally
    }

    fn note_audio(&mut self, filled: usize) {
        if let Dryness::Starving(silent) = self.dryness
            && filled == 0
            && silent <= UNDERRUN_AT_MOST
        {
            self.tally.underruns.push(length(silent));
        }
        self.dryness = Dryness::Playing;
    }

    fn note_silence(&mut self, silent: usize) {
        self.dryness = match self.dryness {
            // The last sample was played to its end and the next tick will tell whether more was there in time.
            Dryness::Playing if silent > 0 => Dryness::Starving(silent),
            Dryness::Starving(before) => Dryness::Starving(before + silent),
            unchanged => unchanged,
        };
    }
}

/// How long this many samples last.
pub(crate) fn length(samples: usize) -> Duration {
    Duration::from_micros(samples as u64 * 1_000_000 / u64::from(mulaw::SAMPLE_RATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_returns_when_the_audio_before_it_has_been_played() {
        let mut far_end = FarEnd::default();
        receive(&mut far_end, 3);
        far_end.mark("greeting".into());
        // Three frames play during ticks 0 to 2; their audio is over when tick 3 begins.
        assert_eq!(
            marks_of_ticks(&mut far_end, 5),
            [(3, "greeting".to_owned())]
        );
    }

    #[test]
    fn a_mark_on_an_idle_line_returns_with_the_next_tick() {
        let mut far_end = FarEnd::default();
        far_end.mark("now".into());
        assert_eq!(marks_of_ticks(&mut far_end, 2), [(0, "now".to_owned())]);
    }

    #[test]
    fn a_mark_in_the_middle_of_a_frame_waits_for_the_frame_to_end() {
        let mut far_end = FarEnd::default();
        far_end.receive(vec![0x10; 200]).expect("room");
        far_end.mark("half".into());
        far_end.receive(vec![0x10; 200]).expect("room");
        assert_eq!(marks_of_ticks(&mut far_end, 4), [(2, "half".to_owned())]);
    }

    #[test]
    fn a_clear_returns_all_marks_at_once_and_in_order() {
        let mut far_end = FarEnd::default();
        for name in ["one", "two", "three"] {
            receive(&mut far_end, 10);
            far_end.mark(name.into());
        }
        marks_of_ticks(&mut far_end, 12);
        let cleared = far_end.clear();
        assert_eq!(cleared.marks, ["two", "three"]);
        assert_eq!(cleared.unheard, TICK * 18);
        assert_eq!(marks_of_ticks(&mut far_end, 50), []);
    }

    #[test]
    fn cleared_audio_is_never_heard() {
        let mut far_end = FarEnd::default();
        receive(&mut far_end, 10);
        far_end.tick();
        far_end.clear();
        assert!(
            far_end
                .tick()
                .frame
                .iter()
                .all(|&byte| byte == mulaw::SILENCE)
        );
        assert_eq!(far_end.tally().played, mulaw::FRAME as u64);
        assert_eq!(far_end.tally().cleared, 9 * mulaw::FRAME as u64);
    }

    #[test]
    fn audio_that_comes_late_within_a_talk_is_an_underrun() {
        let mut far_end = FarEnd::default();
        receive(&mut far_end, 2);
        marks_of_ticks(&mut far_end, 5);
        receive(&mut far_end, 1);
        marks_of_ticks(&mut far_end, 1);
        assert_eq!(far_end.tally().underruns, [TICK * 3]);
    }

    #[test]
    fn a_pause_a_mark_or_a_clear_is_no_underrun() {
        let mut far_end = FarEnd::default();
        receive(&mut far_end, 2);
        marks_of_ticks(&mut far_end, 40);
        receive(&mut far_end, 2);
        far_end.mark("end of segment".into());
        marks_of_ticks(&mut far_end, 6);
        receive(&mut far_end, 2);
        marks_of_ticks(&mut far_end, 1);
        far_end.clear();
        marks_of_ticks(&mut far_end, 2);
        receive(&mut far_end, 1);
        marks_of_ticks(&mut far_end, 1);
        assert_eq!(far_end.tally().underruns, [Duration::ZERO; 0]);
    }

    #[test]
    fn more_than_ten_minutes_is_refused() {
        let mut far_end = FarEnd::default();
        far_end.receive(vec![0; CAPACITY]).expect("exactly full");
        assert_eq!(far_end.receive(vec![0]), Err(Overflow));
    }

    fn receive(far_end: &mut FarEnd, frames: usize) {
        far_end
            .receive(vec![0x10; frames * mulaw::FRAME])
            .expect("room");
    }

    fn marks_of_ticks(far_end: &mut FarEnd, ticks: usize) -> Vec<(usize, String)> {
        (0..ticks)
            .flat_map(|tick| {
                far_end
                    .tick()
                    .marks
                    .into_iter()
                    .map(move |name| (tick, name))
            })
            .collect()
    }
}
