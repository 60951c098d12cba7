//! 16 kHz to 8 kHz, for speech files made at the wider rate.
//!
//! A windowed-sinc low-pass before every second sample is dropped: without it the band from 4 to 8 kHz would fold onto the speech, and a
//! recogniser would suffer for our mistake rather than the gateway's.

use std::f64::consts::PI;

/// Taps of the filter; with a Blackman window the fall from pass to stop band takes about 5.5 / 95 of 16 kHz, some 900 Hz.
const TAPS: usize = 95;
/// Middle of the fall, so that 3.4 kHz passes and little above 4.2 kHz is left.
const CUT_OFF_HZ: f64 = 3800.0;
const INPUT_HZ: f64 = 16_000.0;

/// Half as many samples, without delay: the filter is centred on the sample it makes.
pub(crate) fn halve(samples: &[i16]) -> Vec<i16> {
    let taps = low_pass();
    let centre = (TAPS / 2) as isize;
    (0..samples.len())
        .step_by(2)
        .map(|position| {
            let sum: f64 = taps
                .iter()
                .zip(position as isize - centre..)
                .filter_map(|(tap, index)| {
                    Some(tap * f64::from(*samples.get(usize::try_from(index).ok()?)?))
                })
                .sum();
            sum.round().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
        })
        .collect()
}

fn low_pass() -> [f64; TAPS] {
    let cut_off = CUT_OFF_HZ / INPUT_HZ;
    let mut taps = std::array::from_fn(|index| {
        let offset = index as f64 - (TAPS / 2) as f64;
        let sinc = if offset == 0.0 {
            2.0 * cut_off
        } else {
            (2.0 * PI * cut_off * offset).sin() / (PI * offset)
        };
        let phase = 2.0 * PI * index as f64 / (TAPS - 1) as f64;
        sinc * (0.42 - 0.5 * phase.cos() + 0.08 * (2.0 * phase).cos())
    });
    let gain: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= gain);
    taps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_passes_unchanged() {
        for hz in [300.0, 1000.0, 3000.0] {
            let level = level_after_halving(hz);
            assert!((level - 1.0).abs() < 0.03, "{hz} Hz came out at {level}");
        }
    }

    #[test]
    fn what_would_fold_back_is_taken_out() {
        for hz in [4600.0, 6000.0, 7500.0] {
            let level = level_after_halving(hz);
            assert!(level < 0.003, "{hz} Hz came out at {level}");
        }
    }

    fn level_after_halving(hz: f64) -> f64 {
        let tone: Vec<i16> = (0..16_000)
            .map(|n| ((2.0 * PI * hz * f64::from(n) / INPUT_HZ).sin() * 10_000.0) as i16)
            .collect();
        let halved = halve(&tone);
        rms(&halved[200..7800]) / rms(&tone[400..15_600])
    }

    fn rms(samples: &[i16]) -> f64 {
        (samples
            .iter()
            .map(|&sample| f64::from(sample).powi(2))
            .sum::<f64>()
            / samples.len() as f64)
            .sqrt()
    }
}
