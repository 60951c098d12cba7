//! A noise that a caller makes without a word: a cough, something that falls on the table.

use std::f64::consts::PI;
use std::time::Duration;

use crate::mulaw;

/// What the chest adds to it: noise alone is a detuned radio, to the ear and to detectors of voice.
const RESONANCE_HZ: f64 = 500.0;
const BANDWIDTH_HZ: f64 = 60.0;
/// How fast the throat flutters when it begins and when it ends, and how much that is of the whole.
const FLUTTER_HZ: [f64; 2] = [180.0, 105.0];
const FLUTTER: f64 = 16.0;
/// As loud as somebody who speaks up: about −18 dBFS.
const PEAK: f64 = 14_000.0;

/// So much noise, as mu-law; it is the same in every run.
pub(crate) fn burst(length: Duration) -> Vec<u8> {
    let rate = f64::from(mulaw::SAMPLE_RATE);
    let count = (length.as_secs_f64() * rate) as usize;
    let radius = (-PI * BANDWIDTH_HZ / rate).exp();
    let turn = 2.0 * PI * RESONANCE_HZ / rate;
    let (first, second) = (2.0 * radius * turn.cos(), -radius * radius);
    let (mut last, mut before, mut flutter) = (0.0, 0.0, 0.0);
    let mut state = 0x2545_f491_u32;
    let samples: Vec<f64> = (0..count)
        .map(|index| {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let mut source = f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0;
            let [begins, ends] = FLUTTER_HZ;
            flutter += (begins + (ends - begins) * index as f64 / count as f64) / rate;
            if flutter >= 1.0 {
                flutter -= 1.0;
                source += FLUTTER;
            }
            let sample = source + first * last + second * before;
            (before, last) = (last, sample);
            sample
        })
        .collect();
    let peak = samples
        .iter()
        .fold(f64::MIN_POSITIVE, |peak, sample| peak.max(sample.abs()));
    let loud = |sample: &f64| mulaw::encode((sample / peak * PEAK) as i16);
    samples.iter().map(loud).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voice;

    #[test]
    fn a_noise_is_as_long_as_it_was_asked_for_and_loud_throughout() {
        let noise = burst(Duration::from_millis(200));
        assert_eq!(noise.len(), 10 * mulaw::FRAME);
        assert!(noise.chunks(mulaw::FRAME).all(voice::is_voiced));
        assert!(burst(Duration::ZERO).is_empty());
    }
}
