//! What tests of sound need: tones, and an ear for them.

use std::f64::consts::TAU;

/// `seconds` of a sine at `hertz`, `peak` high, at `rate` samples per second.
pub(crate) fn tone(rate: u32, hertz: f64, peak: i16, seconds: f64) -> Vec<i16> {
    let count = (f64::from(rate) * seconds) as usize;
    (0..count)
        .map(|i| (f64::from(peak) * (TAU * hertz * i as f64 / f64::from(rate)).sin()) as i16)
        .collect()
}

/// The peak of the sine at `hertz` inside `samples`, by correlation.
pub(crate) fn tone_level(rate: u32, hertz: f64, samples: &[i16]) -> f64 {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (i, &sample) in samples.iter().enumerate() {
        let angle = TAU * hertz * i as f64 / f64::from(rate);
        sine += f64::from(sample) * angle.sin();
        cosine += f64::from(sample) * angle.cos();
    }
    2.0 * f64::hypot(sine, cosine) / samples.len().max(1) as f64
}
