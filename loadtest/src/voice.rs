//! Who is speaking: a frame's energy, and a tracker that turns frames into "starts" and "stops".
//!
//! An energy threshold is enough here: the agent is synthetic speech over digital silence, and the caller is a file that we chose.
//! A playing buffer alone would not do, since a gateway may send silence to keep its pace.

use std::ops::Range;
use std::time::Duration;

use crate::mulaw;

/// Root mean square above which audio counts as voice: about −44 dBFS, well over line noise and well under quiet speech.
const VOICED_RMS: f64 = 200.0;
/// A pause no longer than this is part of what the agent is saying: synthetic speech pauses 200 to 400 ms between sentences.
const HANGOVER: Duration = Duration::from_millis(500);
/// Resolution of [`voiced_range`]: 10 ms.
const WINDOW: usize = mulaw::FRAME / 2;

/// Whether a piece of mu-law audio holds voice.
pub(crate) fn is_voiced(audio: &[u8]) -> bool {
    let energy: f64 = audio
        .iter()
        .map(|&byte| f64::from(mulaw::decode(byte)).powi(2))
        .sum();
    !audio.is_empty() && energy / audio.len() as f64 >= VOICED_RMS * VOICED_RMS
}

/// From the first voiced sample to the last, to 10 ms; empty when there is no voice.
pub(crate) fn voiced_range(audio: &[u8]) -> Range<usize> {
    let voiced = || audio.chunks(WINDOW).map(is_voiced);
    let windows = audio.len().div_ceil(WINDOW);
    match (
        voiced().position(|voiced| voiced),
        voiced().rev().position(|voiced| voiced),
    ) {
        (Some(first), Some(last)) => first * WINDOW..((windows - last) * WINDOW).min(audio.len()),
        _ => 0..0,
    }
}

/// What a tracker noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Voice began with this frame.
    Started,
    /// Voice had ended at this moment, noticed now that the pause is too long to be a pause.
    Stopped(Duration),
}

/// Follows the frames that one party is heard saying.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    speaking_since: Option<Duration>,
    last_voiced: Duration,
}

impl Tracker {
    /// When the present talk began.
    pub(crate) fn speaking_since(&self) -> Option<Duration> {
        self.speaking_since
    }

    /// The end of the last voiced frame, zero before any.
    pub(crate) fn last_voiced(&self) -> Duration {
        self.last_voiced
    }

    /// One frame heard at `at`; `frame_end` is when it will have been heard.
    pub(crate) fn hear(
        &mut self,
        frame: &[u8],
        frame_end: Duration,
        at: Duration,
    ) -> Option<Change> {
        if is_voiced(frame) {
            self.last_voiced = frame_end;
            if self.speaking_since.is_none() {
                self.speaking_since = Some(at);
                return Some(Change::Started);
            }
            return None;
        }
        let pausing = at.saturating_sub(self.last_voiced);
        if pausing >= HANGOVER {
            self.stop(self.last_voiced)
        } else {
            None
        }
    }

    /// Nothing more can come: the talk is over at `at` without waiting for a pause.
    pub(crate) fn cut(&mut self, at: Duration) -> Option<Change> {
        let end = self.last_voiced.min(at);
        self.stop(end)
    }

    fn stop(&mut self, end: Duration) -> Option<Change> {
        self.speaking_since.take().map(|_| Change::Stopped(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_TIME: Duration = Duration::from_millis(20);

    #[test]
    fn a_pause_between_sentences_is_not_the_end() {
        let mut tracker = Tracker::default();
        let changes = hear(
            &mut tracker,
            &[(true, 10), (false, 15), (true, 10), (false, 30)],
        );
        assert_eq!(changes, [Change::Started, Change::Stopped(ms(700))]);
    }

    #[test]
    fn a_cut_ends_the_talk_at_once() {
        let mut tracker = Tracker::default();
        hear(&mut tracker, &[(true, 10)]);
        assert_eq!(tracker.cut(ms(190)), Some(Change::Stopped(ms(190))));
        assert_eq!(tracker.cut(ms(190)), None);
    }

    #[test]
    fn the_voiced_range_leaves_out_the_silence_around() {
        let mut audio = vec![mulaw::SILENCE; 1600];
        audio[400..960].fill(mulaw::encode(5000));
        assert_eq!(voiced_range(&audio), 400..960);
        assert_eq!(voiced_range(&[mulaw::SILENCE; 500]), 0..0);
    }

    fn hear(tracker: &mut Tracker, parts: &[(bool, u32)]) -> Vec<Change> {
        let frames = parts
            .iter()
            .flat_map(|&(voiced, frames)| (0..frames).map(move |_| voiced));
        (0u32..)
            .zip(frames)
            .filter_map(|(index, voiced)| {
                let frame = [if voiced {
                    mulaw::encode(5000)
                } else {
                    mulaw::SILENCE
                }; mulaw::FRAME];
                tracker.hear(&frame, FRAME_TIME * (index + 1), FRAME_TIME * index)
            })
            .collect()
    }

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }
}
