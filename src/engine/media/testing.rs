//! What tests of sound need: tones and an ear for them, noise, and a voice.

use std::f64::consts::TAU;

use crate::codec::g711;

/// `seconds` of a sine at `hertz`, `peak` high, at `rate` samples per second.
pub fn tone(rate: u32, hertz: f64, peak: i16, seconds: f64) -> Vec<i16> {
    let count = (f64::from(rate) * seconds) as usize;
    (0..count)
        .map(|i| (f64::from(peak) * (TAU * hertz * i as f64 / f64::from(rate)).sin()) as i16)
        .collect()
}

/// The peak of the sine at `hertz` inside `samples`, by correlation.
pub fn tone_level(rate: u32, hertz: f64, samples: &[i16]) -> f64 {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (i, &sample) in samples.iter().enumerate() {
        let angle = TAU * hertz * i as f64 / f64::from(rate);
        sine += f64::from(sample) * angle.sin();
        cosine += f64::from(sample) * angle.cos();
    }
    2.0 * f64::hypot(sine, cosine) / samples.len().max(1) as f64
}

/// `count` samples of white noise, up to `peak`; always the same.
pub fn noise(peak: i16, count: usize) -> Vec<i16> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 23) - 1.0
    };
    (0..count)
        .map(|_| (next() * f64::from(peak)) as i16)
        .collect()
}

/// `count` samples at 8 kHz of speech: "I would like to book a table for two people tomorrow evening please", as flite says
/// it, again and again.
pub fn voice(count: usize) -> Vec<i16> {
    let speech = include_bytes!("../../../tests/data/speech.mulaw");
    speech
        .iter()
        .cycle()
        .take(count)
        .map(|byte| g711::decode_mulaw(*byte))
        .collect()
}
