//! What a caller hears while nobody has anything to say yet: two soft notes, in no language.

use std::f64::consts::TAU;

use bytes::Bytes;

use crate::codec::g711;

/// The rate of [`chime`], in hertz.
const RATE: f64 = 8_000.0;
/// The notes, in hertz (E5, then C5: falling, so that nobody takes it for a question), and when each begins, in seconds.
const NOTES: [(f64, f64); 2] = [(659.3, 0.0), (523.3, 0.25)];
/// How loud each note begins: about −20 dB below full scale, quieter than the agent's voice.
const PEAK: f64 = 3_200.0;
/// The time in which a note falls to a third, in seconds.
const DECAY: f64 = 0.15;
/// How long a note takes to swell, in seconds: without it there is a click.
const ATTACK: f64 = 0.008;
/// How long it all lasts, in seconds.
const LENGTH: f64 = 0.9;

/// The chime, in mu-law at 8 kHz.
pub fn chime() -> Bytes {
    let samples = (0..(RATE * LENGTH) as u32).map(|i| {
        let at = f64::from(i) / RATE;
        let level: f64 = NOTES
            .iter()
            .map(|(hertz, begin)| note(*hertz, at - begin))
            .sum();
        g711::encode_mulaw((PEAK * level) as i16)
    });
    samples.collect()
}

/// A note `since` seconds after its beginning, between −1 and 1.
fn note(hertz: f64, since: f64) -> f64 {
    if since < 0.0 {
        return 0.0;
    }
    let swell = (since / ATTACK).min(1.0);
    swell * (-since / DECAY).exp() * (TAU * hertz * since).sin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tone_level;

    #[test]
    fn both_notes_are_heard_and_it_ends_in_silence() {
        let samples: Vec<i16> = chime()
            .iter()
            .map(|byte| g711::decode_mulaw(*byte))
            .collect();
        assert!(tone_level(8_000, 659.3, &samples[..2_000]) > 800.0);
        assert!(tone_level(8_000, 523.3, &samples[2_000..4_000]) > 800.0);
        assert!(
            samples[samples.len() - 80..]
                .iter()
                .all(|sample| sample.abs() < 100)
        );
    }
}
