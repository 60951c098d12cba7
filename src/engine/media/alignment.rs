//! Finds a delayed copy of one sound in another, as an echo is one: by generalised cross-correlation, in which every
//! frequency counts alike (Knapp and Carter, "The generalized correlation method for estimation of time delay", 1976).
//! Speech is unlike itself a moment later when its loud frequencies do not drown the others, so one place stands out, in a
//! room with reverberation too.
//!
//! All sound here is at [`RATE`]; that is enough to tell one voice from another.

use std::cell::RefCell;
use std::f32::consts::PI;
use std::ops::Range;
use std::sync::Arc;

use realfft::ComplexToReal;
use realfft::RealFftPlanner;
use realfft::RealToComplex;
use realfft::num_complex::Complex;

use crate::frame::Frame;

/// Samples per second.
pub const RATE: u32 = 4_000;
/// Samples of a frame.
pub const FRAME: usize = RATE as usize / 50;
/// Samples of what is looked for: 320 ms.
pub const SOUND: usize = 16 * FRAME;
/// Samples of what is searched.
pub const SEARCHED: usize = 4_096;
/// Places at which the sound may be found.
pub const PLACES: usize = SEARCHED - SOUND;

/// The frequencies that are compared, as places in the spectrum: 200 to 1,800 Hz, which every telephone carries.
const BAND: Range<usize> = 205..1_843;
/// Samples in which the ends of a piece fade: where sound begins at once, it has all frequencies.
const RAMP: usize = 2 * FRAME;
/// What is this much weaker than the band on average counts less.
const WEAK: f32 = 0.03;
/// From this many frequencies on, a place can stand out. A tone has few.
const RICH: f32 = 300.0;

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Where in what was searched the sound most probably begins.
    pub place: usize,
    /// How much that place stands out: its correlation, in standard deviations of all of them. Chance reaches 5 or 6 at one
    /// place or another.
    pub clarity: f32,
    /// How much the best of the places stands out where the sound was expected; 0 where it was not.
    pub expected_clarity: f32,
    /// Whether the sound is rich enough for its copy to stand out.
    pub is_telling: bool,
}

/// The two transforms and their memory, which all calls of a thread share.
struct Transform {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    signal: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    other: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    ramp: [f32; RAMP],
}

thread_local! {
    static TRANSFORM: RefCell<Transform> = RefCell::new(Transform::new());
}

impl Transform {
    fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(SEARCHED);
        let inverse = planner.plan_fft_inverse(SEARCHED);
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Self {
            signal: forward.make_input_vec(),
            spectrum: forward.make_output_vec(),
            other: forward.make_output_vec(),
            scratch: vec![Complex::default(); scratch],
            ramp: std::array::from_fn(|place| {
                0.5 - 0.5 * (PI * (place as f32 + 0.5) / RAMP as f32).cos()
            }),
            forward,
            inverse,
        }
    }

    /// The spectrum of `samples` is in `spectrum` afterwards.
    fn transform(&mut self, samples: &[i16]) {
        let (signal, rest) = self.signal.split_at_mut(samples.len());
        for (to, sample) in signal.iter_mut().zip(samples) {
            *to = f32::from(*sample);
        }
        rest.fill(0.0);
        for (to, fade) in signal.iter_mut().zip(&self.ramp) {
            *to *= fade;
        }
        for (to, fade) in signal.iter_mut().rev().zip(&self.ramp) {
            *to *= fade;
        }
        let (signal, spectrum) = (&mut self.signal, &mut self.spectrum);
        let done = self
            .forward
            .process_with_scratch(signal, spectrum, &mut self.scratch);
        debug_assert!(done.is_ok(), "the lengths are the plan's own");
    }

    fn find(
        &mut self,
        sound: &[i16; SOUND],
        searched: &[i16; SEARCHED],
        expected: Range<usize>,
    ) -> Found {
        self.transform(sound);
        std::mem::swap(&mut self.spectrum, &mut self.other);
        self.transform(searched);
        for (both, sound) in self.spectrum.iter_mut().zip(&self.other) {
            *both *= sound.conj();
        }
        let band = &mut self.spectrum[BAND];
        let mean = band.iter().map(|both| both.norm()).sum::<f32>() / band.len() as f32;
        let weak = (WEAK * mean).max(f32::MIN_POSITIVE);
        let (mut weight, mut squares) = (0.0, 0.0);
        for both in band {
            let norm = both.norm();
            *both /= norm + weak;
            let share = norm / (norm + weak);
            weight += share;
            squares += share * share;
        }
        self.spectrum[..BAND.start].fill(Complex::default());
        self.spectrum[BAND.end..].fill(Complex::default());
        let (signal, spectrum) = (&mut self.signal, &mut self.spectrum);
        let done = self
            .inverse
            .process_with_scratch(spectrum, signal, &mut self.scratch);
        debug_assert!(done.is_ok(), "the lengths are the plan's own");

        let places = &self.signal[..PLACES];
        let power = places.iter().map(|value| value * value).sum::<f32>() / PLACES as f32;
        let deviation = power.sqrt().max(f32::MIN_POSITIVE);
        let expected = places.get(expected).unwrap_or_default();
        let best = places
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (place, peak) = best.map_or((0, 0.0), |(place, peak)| (place, *peak));
        Found {
            place,
            clarity: peak / deviation,
            expected_clarity: expected.iter().copied().fold(0.0, f32::max) / deviation,
            is_telling: weight * weight > RICH * squares,
        }
    }
}

/// Where in `searched` there is a copy of `sound`, louder or quieter, alone or among others. `expected` are the places that
/// are likely, if any.
pub fn find(sound: &[i16; SOUND], searched: &[i16; SEARCHED], expected: Range<usize>) -> Found {
    TRANSFORM.with_borrow_mut(|transform| transform.find(sound, searched, expected))
}

/// A frame at [`RATE`], as far as it goes; the rest is silence. Its upper half is lost by averaging, which is good enough
/// for being compared with what was treated in the same way.
pub fn reduced(frame: &Frame) -> [i16; FRAME] {
    let mut reduced = [0; FRAME];
    let each = (frame.rate().hz() / RATE).max(1) as usize;
    for (to, from) in reduced.iter_mut().zip(frame.samples().chunks(each)) {
        let sum: i32 = from.iter().map(|sample| i32::from(*sample)).sum();
        *to = (sum / from.len() as i32) as i16;
    }
    reduced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::SampleRate;
    use crate::testing::noise;
    use crate::testing::tone;
    use crate::testing::voice;

    fn speech(count: usize) -> Vec<i16> {
        let samples = voice(2 * count);
        let frames = samples
            .chunks(160)
            .map(|piece| reduced(&Frame::new(SampleRate::HZ_8000, piece)));
        frames.flatten().take(count).collect()
    }

    fn at<const N: usize>(samples: &[i16], from: usize) -> [i16; N] {
        samples[from..from + N].try_into().unwrap()
    }

    fn quieter(samples: &[i16], decibels: f32) -> Vec<i16> {
        let factor = 10_f32.powf(-decibels / 20.0);
        samples
            .iter()
            .map(|s| (f32::from(*s) * factor) as i16)
            .collect()
    }

    /// Whether a sound is more than the pause between two words.
    fn is_loud<const N: usize>(samples: &[i16; N]) -> bool {
        let loud = samples.chunks(FRAME).filter(|frame| {
            let power: f64 = frame.iter().map(|s| f64::from(*s).powi(2)).sum();
            power / FRAME as f64 > 80.0 * 80.0
        });
        3 * loud.count() > N / FRAME
    }

    /// Looks for many a sound of `theirs` in `ours`, where it began 600 samples after what is searched.
    fn found_at_600(theirs: &[i16], ours: &[i16]) -> Vec<Found> {
        let places = (4_096..14_000).step_by(200);
        let sounds = places.map(|from| (from, at::<SOUND>(theirs, from + 600)));
        let found: Vec<Found> = sounds
            .filter(|(_, sound)| is_loud(sound))
            .map(|(from, sound)| find(&sound, &at(ours, from), 590..610))
            .collect();
        assert!(found.len() > 20, "{}", found.len());
        found
    }

    #[test]
    fn a_quiet_copy_is_found_to_the_sample() {
        let ours = speech(20_000);
        let echo = quieter(&ours, 20.0);
        for found in found_at_600(&echo, &ours) {
            assert_eq!(found.place, 600, "{found:?}");
            assert!(found.clarity > 7.0, "{found:?}");
            assert_eq!(found.clarity, found.expected_clarity);
        }
    }

    #[test]
    fn a_copy_from_a_room_is_found_among_noise() {
        let ours = speech(20_000);
        // Sound that has come straight, and what the walls make of it for a tenth of a second.
        let walls = noise(3_000, 400);
        let fading = walls.iter().enumerate().map(|(i, wall)| {
            let straight = if i == 0 { 1.0 } else { 0.0 };
            straight + f32::from(*wall) / 10_000.0 * (-(i as f32) / 80.0).exp()
        });
        let room: Vec<f32> = fading.collect();
        let hiss = noise(30, 20_000);
        let echo: Vec<i16> = (0..ours.len())
            .map(|i| {
                let taps = room.iter().enumerate().take(i + 1);
                let sum: f32 = taps.map(|(k, tap)| tap * f32::from(ours[i - k])).sum();
                (sum * 0.1) as i16 + hiss[i]
            })
            .collect();
        let found = found_at_600(&echo, &ours);
        // A voiceless sound has little below 1,800 Hz.
        let clear = found.iter().filter(|found| found.expected_clarity > 7.0);
        assert!(3 * clear.count() > 2 * found.len(), "{found:?}");
    }

    #[test]
    fn nothing_stands_out_where_there_is_no_copy() {
        let ours = speech(20_000);
        let theirs: Vec<i16> = ours.iter().rev().copied().collect();
        for from in (0..10_000).step_by(200) {
            let found = find(&at(&theirs, from + 2_000), &at(&ours, from), 0..0);
            assert!(found.clarity < 8.0, "{from}: {found:?}");
        }
    }

    #[test]
    fn a_tone_tells_nothing() {
        let tone: Vec<i16> = tone(RATE, 440.0, 8_000, 3.0);
        let found = find(&at(&tone, 3_000), &at(&tone, 0), 0..0);
        assert!(!found.is_telling, "{found:?}");
        assert!(!find(&[0; SOUND], &[0; SEARCHED], 0..0).is_telling);
    }
}
