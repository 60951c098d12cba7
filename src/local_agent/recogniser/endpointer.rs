//! Where an utterance begins and ends: by level against a noise floor that follows the line.
//!
//! A phone line is quiet between words, and what is judged here is one caller, not a room. A level is enough, costs nothing on
//! a silent stream, and takes a test tone for speech too, which load generators are glad of.

use std::time::Duration;

/// The endpointer judges audio in steps of this.
pub(in crate::local_agent) const FRAME: Duration = Duration::from_millis(20);

/// Quieter than this is never voice: speech on a phone line lies 10 to 35 dB above, the noise of mu-law 20 dB below.
const VOICE_AT_LEAST_DBFS: f32 = -50.0;
/// Voice stands this far above the noise of the line.
const VOICE_OVER_FLOOR_DB: f32 = 12.0;
/// A floor above this is a loud caller without pauses, not a noisy line.
const FLOOR_AT_MOST_DBFS: f32 = -32.0;
/// How fast the floor rises: 5 dB a second, slower than any word.
const FLOOR_RISE_DB: f32 = 0.1;
/// Voiced frames out of the last eight that begin an utterance: a click has one or two, "no" has eight.
const ONSET_FRAMES: u32 = 4;
/// A silence that may be the end: the recogniser then weighs what it heard, so that the verdict is ready at the end.
const PAUSE_FRAMES: u32 = 15;

/// What happened at this frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::local_agent) enum Edge {
    /// An utterance began up to 160 ms ago.
    Onset,
    /// The caller has been silent for 300 ms.
    Pause,
    /// The caller goes on.
    Resume,
    /// The caller has been silent for the set time.
    End,
}

/// Follows one stream of audio.
pub(in crate::local_agent) struct Endpointer {
    end_frames: u32,
    floor_dbfs: f32,
    /// One bit per frame, the newest lowest: was it voiced?
    recent: u8,
    speaking: bool,
    silent_frames: u32,
}

impl Endpointer {
    /// An utterance ends after `end_of_speech` of silence.
    pub(in crate::local_agent) fn new(end_of_speech: Duration) -> Self {
        let end_frames = u32::try_from(end_of_speech.as_millis() / FRAME.as_millis())
            .unwrap_or(u32::MAX)
            .max(1);
        Self {
            end_frames,
            floor_dbfs: -70.0,
            recent: 0,
            speaking: false,
            silent_frames: 0,
        }
    }

    /// Judges the next frame.
    pub(in crate::local_agent) fn hear(&mut self, frame: &[i16]) -> Option<Edge> {
        let level = level_dbfs(frame);
        let voiced = level > VOICE_AT_LEAST_DBFS.max(self.floor_dbfs + VOICE_OVER_FLOOR_DB);
        self.floor_dbfs = level
            .clamp(-90.0, self.floor_dbfs + FLOOR_RISE_DB)
            .min(FLOOR_AT_MOST_DBFS);
        self.recent = self.recent << 1 | u8::from(voiced);
        if self.speaking {
            self.while_speaking(voiced)
        } else {
            self.while_silent()
        }
    }

    fn while_silent(&mut self) -> Option<Edge> {
        if self.recent.count_ones() < ONSET_FRAMES {
            return None;
        }
        self.speaking = true;
        self.silent_frames = 0;
        Some(Edge::Onset)
    }

    fn while_speaking(&mut self, voiced: bool) -> Option<Edge> {
        if voiced {
            let paused = std::mem::take(&mut self.silent_frames) >= PAUSE_FRAMES;
            return paused.then_some(Edge::Resume);
        }
        self.silent_frames += 1;
        if self.silent_frames >= self.end_frames {
            self.speaking = false;
            self.recent = 0;
            return Some(Edge::End);
        }
        (self.silent_frames == PAUSE_FRAMES).then_some(Edge::Pause)
    }

    /// Whether an utterance is under way.
    pub(in crate::local_agent) fn speaking(&self) -> bool {
        self.speaking
    }

    /// How long the caller has been silent within the utterance.
    pub(in crate::local_agent) fn silence(&self) -> Duration {
        FRAME * self.silent_frames
    }
}

/// Root mean square against full scale, DC removed: a telephone adapter's offset is not voice.
fn level_dbfs(frame: &[i16]) -> f32 {
    let count = frame.len().max(1) as f32;
    let mean = frame.iter().map(|sample| f32::from(*sample)).sum::<f32>() / count;
    let power = frame
        .iter()
        .map(|sample| (f32::from(*sample) - mean).powi(2))
        .sum::<f32>()
        / count;
    10.0 * (power / 32768.0_f32.powi(2) + 1e-12).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(levels: &[(u32, f32)]) -> Vec<(u32, Edge)> {
        let mut endpointer = Endpointer::new(Duration::from_millis(700));
        let mut edges = Vec::new();
        let mut time = 0;
        for (frames, amplitude) in levels {
            for _ in 0..*frames {
                let frame: Vec<i16> = (0..160)
                    .map(|i| ((i as f32 * 0.7).sin() * amplitude) as i16)
                    .collect();
                time += 20;
                edges.extend(endpointer.hear(&frame).map(|edge| (time, edge)));
            }
        }
        edges
    }

    #[test]
    fn an_utterance_has_an_onset_a_pause_and_an_end() {
        let edges = edges(&[(50, 20.0), (30, 5000.0), (60, 20.0)]);
        assert_eq!(
            edges,
            [(1080, Edge::Onset), (1900, Edge::Pause), (2300, Edge::End)]
        );
    }

    #[test]
    fn a_short_pause_does_not_end_an_utterance() {
        let edges = edges(&[(20, 0.0), (10, 3000.0), (20, 0.0), (10, 3000.0), (35, 0.0)]);
        assert_eq!(
            edges.iter().map(|(_, edge)| *edge).collect::<Vec<_>>(),
            [
                Edge::Onset,
                Edge::Pause,
                Edge::Resume,
                Edge::Pause,
                Edge::End
            ]
        );
    }

    #[test]
    fn clicks_and_a_steady_hum_are_not_voice() {
        assert_eq!(
            edges(&[(20, 20.0), (2, 9000.0), (30, 20.0), (1, 9000.0), (30, 20.0)]),
            []
        );
        assert_eq!(edges(&[(200, 60.0), (100, 90.0)]), []);
    }
}
