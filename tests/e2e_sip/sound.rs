//! Tones, made and found by ear.

use std::f64::consts::TAU;

/// `count` samples of a tone, the first of them number `from`.
pub(crate) fn tone(rate: u32, hz: f64, from: usize, count: usize) -> Vec<i16> {
    tones(rate, &[hz], from, count)
}

/// The same with several at once.
pub(crate) fn tones(rate: u32, hz: &[f64], from: usize, count: usize) -> Vec<i16> {
    let sample = |at: usize| {
        let wave = |hz: &f64| (TAU * hz * at as f64 / f64::from(rate)).sin();
        (hz.iter().map(wave).sum::<f64>() * 8_000.0 / hz.len() as f64) as i16
    };
    (from..from + count).map(sample).collect()
}

/// How loud a tone is in a sound (Goertzel), as an amplitude in samples.
pub(crate) fn level(rate: u32, hz: f64, samples: &[i16]) -> f64 {
    let coefficient = 2.0 * (TAU * hz / f64::from(rate)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for &sample in samples {
        (last, before) = (f64::from(sample) + coefficient * last - before, last);
    }
    let power = last * last + before * before - coefficient * last * before;
    2.0 * power.max(0.0).sqrt() / samples.len() as f64
}

/// Asserts that one tone is in a sound and another is not.
pub(crate) fn assert_tone(rate: u32, hz: f64, samples: &[i16]) {
    let (wanted, other) = (level(rate, hz, samples), level(rate, hz * 1.7, samples));
    assert!(
        wanted > 5_000.0 && other < 500.0,
        "{wanted:.0} at {hz} Hz and {other:.0} beside it, in {} samples",
        samples.len()
    );
}

#[test]
fn a_tone_is_found_where_it_is_and_nowhere_else() {
    assert_tone(8_000, 440.0, &tone(8_000, 440.0, 77, 1_600));
    assert!(level(8_000, 440.0, &[0; 1_600]) < 1.0);
}
