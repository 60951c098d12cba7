//! Tone bursts that a load's callers send, and a detector that finds them in what comes back.
//!
//! A page that echoes, or an agent that plays the caller's audio back, returns the burst; the time between is the round trip through
//! the gateway. Agents that only speak return none, and then nothing is reported.

use std::collections::VecDeque;
use std::f64::consts::PI;
use std::time::Duration;

use crate::far_end;
use crate::mulaw;

/// Not a DTMF frequency, nor a harmonic of the 8 kHz rate.
const HZ: f64 = 1130.0;
const AMPLITUDE: f64 = 8000.0;
/// Length of one burst: 100 ms.
const BURST: usize = mulaw::SAMPLE_RATE as usize / 10;
/// From one burst to the next, and thus the longest round trip that can be told: 2 s.
pub(crate) const PERIOD: usize = mulaw::SAMPLE_RATE as usize * 2;
/// Detector's resolution: 5 ms.
const WINDOW: usize = mulaw::SAMPLE_RATE as usize / 200;
/// Windows of pure tone in a row that make a burst; 60 ms of one pure frequency does not happen in speech.
const WINDOWS: u32 = 12;
/// Share of a window's energy that must be in the tone.
const PURITY: f64 = 0.85;

/// One period: a burst, then silence. Callers repeat it.
pub(crate) fn period() -> Vec<u8> {
    let mut audio = vec![mulaw::SILENCE; PERIOD];
    for (index, byte) in audio[..BURST].iter_mut().enumerate() {
        *byte = mulaw::encode(
            (AMPLITUDE * (2.0 * PI * HZ * index as f64 / f64::from(mulaw::SAMPLE_RATE)).sin())
                as i16,
        );
    }
    audio
}

/// Finds bursts in the frames that are heard.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    sent: VecDeque<Duration>,
    run: u32,
    run_began: Duration,
}

impl Detector {
    /// A burst's first sample left at `at`.
    pub(crate) fn sent(&mut self, at: Duration) {
        self.sent.push_back(at);
        // Older bursts than the last two cannot come back any more.
        if self.sent.len() > 2 {
            self.sent.pop_front();
        }
    }

    /// One frame that begins to play at `at`; the round trip when a burst is recognised in it.
    pub(crate) fn hear(&mut self, frame: &[u8], at: Duration) -> Option<Duration> {
        let mut found = None;
        for (index, window) in frame.chunks_exact(WINDOW).enumerate() {
            if !is_tone(window) {
                self.run = 0;
                continue;
            }
            if self.run == 0 {
                self.run_began = at + far_end::length(index * WINDOW);
            }
            self.run += 1;
            if self.run == WINDOWS {
                found = self.match_up();
            }
        }
        found
    }

    fn match_up(&mut self) -> Option<Duration> {
        let longest = far_end::length(PERIOD);
        while let Some(sent) = self.sent.pop_front() {
            match self.run_began.checked_sub(sent) {
                Some(round_trip) if round_trip < longest => return Some(round_trip),
                _ => {}
            }
        }
        None
    }
}

/// Goertzel's algorithm: the share of the window's energy at one frequency.
fn is_tone(window: &[u8]) -> bool {
    let coefficient = 2.0 * (2.0 * PI * HZ / f64::from(mulaw::SAMPLE_RATE)).cos();
    let (mut last, mut before, mut energy) = (0.0, 0.0, 0.0);
    for &byte in window {
        let sample = f64::from(mulaw::decode(byte));
        energy += sample * sample;
        (last, before) = (sample + coefficient * last - before, last);
    }
    let power = last * last + before * before - coefficient * last * before;
    let loud = energy / window.len() as f64 > 400.0 * 400.0;
    loud && 2.0 * power / (window.len() as f64 * energy) > PURITY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_burst_tells_the_round_trip() {
        let mut heard = vec![mulaw::SILENCE; 1000];
        heard.extend(period());
        let mut detector = Detector::default();
        detector.sent(Duration::ZERO);
        let found = hear_all(&mut detector, &heard);
        assert_eq!(found.len(), 1);
        let delay = found[0].as_millis();
        assert!(
            (120..=130).contains(&delay),
            "sent 125 ms ago, found {delay} ms"
        );
    }

    #[test]
    fn another_tone_is_not_ours() {
        let other: Vec<u8> = (0..8000)
            .map(|n| mulaw::encode((8000.0 * (f64::from(n) * 0.6).sin()) as i16))
            .collect();
        let mut detector = Detector::default();
        detector.sent(Duration::ZERO);
        assert_eq!(hear_all(&mut detector, &other), [Duration::ZERO; 0]);
    }

    fn hear_all(detector: &mut Detector, heard: &[u8]) -> Vec<Duration> {
        heard
            .chunks_exact(mulaw::FRAME)
            .enumerate()
            .filter_map(|(index, frame)| detector.hear(frame, far_end::TICK * index as u32))
            .collect()
    }
}
