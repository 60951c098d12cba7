//! Telephone keys heard in the audio itself (DTMF, ITU-T Q.23), for legs that send no telephone-events.
//!
//! Every 5 ms the eight frequencies are measured by Goertzel's algorithm; the last four such blocks, put together in
//! phase, make a window of 20 ms. A window *hits* a key if its two tones are loud enough, level with each other and nearly
//! all there is. Four hits in a row whose frequencies are right are a key press, which is told once, at its beginning; it
//! lasts until as many as eight windows miss. The limits are those of ITU-T Q.24, where they differ the North American
//! ones.
//!
//! Speech and music often have two strong tones, but rarely nothing else, on these frequencies, so steadily.

use std::f32::consts::PI;
use std::f32::consts::TAU;

use crate::digit::Digit;
use crate::frame::SampleRate;

/// Tones of the rows of the keypad, then of its columns, in hertz (Q.23 §6).
const FREQUENCIES: [f32; 8] = [
    697.0, 770.0, 852.0, 941.0, 1_209.0, 1_336.0, 1_477.0, 1_633.0,
];
/// The keypad, row by row.
const KEYPAD: [[char; 4]; 4] = [
    ['1', '2', '3', 'A'],
    ['4', '5', '6', 'B'],
    ['7', '8', '9', 'C'],
    ['*', '0', '#', 'D'],
];
/// Blocks in a second.
const BLOCK_HZ: u32 = 200;
/// Blocks of a window: 20 ms tell 697 Hz from 770.
const WINDOW: usize = 4;
/// Windows that must hit in a row. They span 35 ms, so a press of 40 ms has as many wherever the blocks happen to begin.
const HITS: usize = 4;
/// Blocks kept: those of the windows that hit.
const KEPT: usize = WINDOW + HITS - 1;
/// Windows in a row without the key that end a press. A pause of 40 ms has 9; a gap of 20 ms, which is a lost packet, 6.
const MISSES: usize = 8;

/// The peak of a sine of 0 dBm0 on the scale of 16-bit samples: 3.17 dB under the loudest of mu-law (ITU-T G.711 §5).
const PEAK_AT_0_DBM0: f32 = 22_300.0;
/// Below this neither tone may be, in dBm0; Q.24 asks for −25, lines may take away more.
const QUIETEST_DBM0: f32 = -38.0;
/// By how many decibels the column may be the stronger one. Q.24: 4; the rest is for noise.
const COLUMN_OVER_ROW_DB: f32 = 5.5;
/// By how many decibels the row may be the stronger one. Q.24: 8.
const ROW_OVER_COLUMN_DB: f32 = 9.5;
/// The part of a window's energy that must lie in its two tones: 5 dB over all the rest, harmonics and noise.
const PURITY: f32 = 0.76;
/// How far off a tone may be. Q.24: 1.5 % must be taken, 3.5 % must not. At 2.5 % a pitch of 680 Hz with its octave is a 2;
/// at 2.2 % ten hours of synthetic speech, of four voices at five pitches and three levels, held no key.
const FREQUENCY_TOLERANCE: f32 = 0.022;

/// Listens for keys in one direction of one call.
pub struct ToneDetector {
    /// Per frequency, twice the cosine of its step from sample to sample.
    coefficients: [f32; 8],
    /// Per frequency, its turn from sample to sample.
    steps: [Complex; 8],
    /// Per frequency, its turn from block to block.
    turns: [Complex; 8],
    block_samples: usize,
    /// The energy of a block that holds the quietest key.
    quietest_energy: f32,
    /// The power of the quietest tone in a window.
    quietest_power: f32,

    /// The block that is being filled: samples, energy, and the two last values of each filter.
    filled: usize,
    energy: f32,
    last: [f32; 8],
    before_last: [f32; 8],

    /// The last blocks, newest first.
    blocks: [Block; KEPT],
    /// The key that the last windows hit, and how many of them.
    candidate: Option<Digit>,
    hits: usize,
    /// The key that is down.
    pressed: Option<Digit>,
    misses: usize,
}

/// What 5 ms hold.
#[derive(Clone, Copy)]
struct Block {
    energy: f32,
    /// Amplitude and phase at each frequency.
    tones: [Complex; 8],
}

impl Block {
    const SILENCE: Self = Self {
        energy: 0.0,
        tones: [Complex::ZERO; 8],
    };
}

impl ToneDetector {
    /// A detector for samples at `rate`.
    pub fn new(rate: SampleRate) -> Self {
        let block_samples = rate.hz() / BLOCK_HZ;
        let turn = |hertz: f32, samples: u32| {
            Complex::at_angle(TAU * hertz * samples as f32 / rate.hz() as f32)
        };
        let amplitude = PEAK_AT_0_DBM0 * 10_f32.powf(QUIETEST_DBM0 / 20.0);
        // A sine of amplitude a in n samples has the energy n·a²/2, and a correlation of n·a/2.
        let window_samples = (WINDOW as u32 * block_samples) as f32;
        Self {
            coefficients: FREQUENCIES.map(|hertz| 2.0 * turn(hertz, 1).re),
            steps: FREQUENCIES.map(|hertz| turn(hertz, 1)),
            turns: FREQUENCIES.map(|hertz| turn(hertz, block_samples)),
            block_samples: block_samples as usize,
            quietest_energy: block_samples as f32 * amplitude * amplitude / 2.0,
            quietest_power: (window_samples * amplitude / 2.0).powi(2),
            filled: 0,
            energy: 0.0,
            last: [0.0; 8],
            before_last: [0.0; 8],
            blocks: [Block::SILENCE; KEPT],
            candidate: None,
            hits: 0,
            pressed: None,
            misses: 0,
        }
    }

    /// Listens to the next samples, of which there may be any number up to 100 ms, and tells a key if its press began
    /// some 40 ms before the end of them. Two presses never begin within 75 ms, so one answer is enough.
    pub fn hear(&mut self, samples: &[i16]) -> Option<Digit> {
        let mut heard = None;
        let mut rest = samples;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.block_samples - self.filled));
            rest = later;
            self.fill(now);
            if self.filled == self.block_samples {
                self.keep_block();
                let hit = self.hit();
                heard = self.follow(hit).or(heard);
            }
        }
        heard
    }

    fn fill(&mut self, samples: &[i16]) {
        for &sample in samples {
            let sample = f32::from(sample);
            self.energy += sample * sample;
            for i in 0..8 {
                let value = sample + self.coefficients[i] * self.last[i] - self.before_last[i];
                self.before_last[i] = self.last[i];
                self.last[i] = value;
            }
        }
        self.filled += samples.len();
    }

    fn keep_block(&mut self) {
        self.blocks.copy_within(..KEPT - 1, 1);
        let mut tones = [Complex::ZERO; 8];
        for (i, tone) in tones.iter_mut().enumerate() {
            *tone = Complex {
                re: self.last[i] - self.steps[i].re * self.before_last[i],
                im: self.steps[i].im * self.before_last[i],
            };
        }
        self.blocks[0] = Block {
            energy: self.energy,
            tones,
        };
        self.filled = 0;
        self.energy = 0.0;
        self.last = [0.0; 8];
        self.before_last = [0.0; 8];
    }

    /// The key whose tones fill the last window.
    fn hit(&self) -> Option<(usize, usize)> {
        let energy: f32 = self.blocks[..WINDOW].iter().map(|block| block.energy).sum();
        // Most windows of a call end here.
        if energy < self.quietest_energy {
            return None;
        }
        let row = self.loudest(0..4);
        let column = self.loudest(4..8);
        let (row_power, column_power) = (self.power(row), self.power(column));
        let is_loud = row_power.min(column_power) > self.quietest_power;
        let twist_db = 10.0 * (column_power / row_power).log10();
        let is_level = (-ROW_OVER_COLUMN_DB..COLUMN_OVER_ROW_DB).contains(&twist_db);
        let window_samples = (WINDOW * self.block_samples) as f32;
        let is_pure = (row_power + column_power) * 2.0 / window_samples > PURITY * energy;
        (is_loud && is_level && is_pure).then_some((row, column))
    }

    fn loudest(&self, range: std::ops::Range<usize>) -> usize {
        let power = |tone: usize| self.window(tone, 0).power();
        range
            .max_by(|a, b| power(*a).total_cmp(&power(*b)))
            .expect("there are four rows and four columns")
    }

    /// The last window but `age` at one frequency: its blocks put together in phase.
    fn window(&self, tone: usize, age: usize) -> Complex {
        let blocks = self.blocks[age..age + WINDOW].iter();
        blocks.rev().fold(Complex::ZERO, |sum, block| {
            sum * self.turns[tone] + block.tones[tone]
        })
    }

    /// The power of the last window near one frequency. A tone 1.5 % off drifts out of phase from block to block, and
    /// of 1633 Hz half would be lost: so the drift is measured and undone.
    fn power(&self, tone: usize) -> f32 {
        let turn = self.turns[tone];
        let block = |age: usize| self.blocks[age].tones[tone];
        // Blocks in pairs: one alone is too short to hold off the other tone of the key.
        let pair = |age: usize| block(age + 1) * turn + block(age);
        let drift = pair(0) * (pair(1) * turn).conjugate() + pair(1) * (pair(2) * turn).conjugate();
        let turn = turn * drift.direction();
        (0..WINDOW)
            .rev()
            .fold(Complex::ZERO, |sum, age| sum * turn + block(age))
            .power()
    }

    /// Notes what the last window hit; tells a press once.
    fn follow(&mut self, hit: Option<(usize, usize)>) -> Option<Digit> {
        let digit = hit.and_then(|(row, column)| Digit::from_char(KEYPAD[row][column - 4]));
        self.hits = if digit.is_some() && digit == self.candidate {
            self.hits + 1
        } else {
            usize::from(digit.is_some())
        };
        self.candidate = digit;
        if self.pressed.is_some() && digit == self.pressed {
            self.misses = 0;
            return None;
        }
        self.misses += 1;
        if self.misses >= MISSES {
            self.pressed = None;
        }
        let (row, column) = hit?;
        if self.hits < HITS || !self.is_in_tune(row) || !self.is_in_tune(column) {
            return None;
        }
        self.pressed = digit;
        self.misses = 0;
        digit
    }

    /// Whether a tone has its frequency, by how far its phase moved through the windows that hit.
    fn is_in_tune(&self, tone: usize) -> bool {
        let moved: f32 = (0..HITS - 1)
            .map(|age| {
                let before = self.window(tone, age + 1) * self.turns[tone];
                (self.window(tone, age) * before.conjugate()).angle()
            })
            .sum();
        let hertz_off = moved / (HITS - 1) as f32 / TAU * BLOCK_HZ as f32;
        hertz_off.abs() < FREQUENCY_TOLERANCE * FREQUENCIES[tone]
    }
}

/// A complex number: an amplitude and a phase.
#[derive(Clone, Copy)]
struct Complex {
    re: f32,
    im: f32,
}

impl Complex {
    const ZERO: Self = Self { re: 0.0, im: 0.0 };

    fn at_angle(angle: f32) -> Self {
        // Rounding is kinder to small angles.
        let angle = angle % TAU;
        let angle = if angle > PI { angle - TAU } else { angle };
        Self {
            re: angle.cos(),
            im: angle.sin(),
        }
    }

    fn conjugate(self) -> Self {
        Self {
            re: self.re,
            im: -self.im,
        }
    }

    fn power(self) -> f32 {
        self.re * self.re + self.im * self.im
    }

    fn angle(self) -> f32 {
        self.im.atan2(self.re)
    }

    /// The phase alone.
    fn direction(self) -> Self {
        let size = self.power().sqrt().max(f32::MIN_POSITIVE);
        Self {
            re: self.re / size,
            im: self.im / size,
        }
    }
}

impl std::ops::Mul for Complex {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }
}

impl std::ops::Add for Complex {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::g711;
    use crate::resample::Resampler;
    use crate::testing::noise;
    use crate::testing::voice;

    const RATES: [SampleRate; 2] = [SampleRate::HZ_8000, SampleRate::HZ_16000];

    #[test]
    fn every_key_is_heard_at_every_level_and_twist() {
        for rate in RATES {
            for key in KEYPAD.as_flattened() {
                for level in [0.0, -10.0, -20.0, -30.0, -36.0] {
                    // The level is that of the weaker tone, except where the stronger one would leave the scale.
                    for twist in [-8.0, -4.0, 0.0, 4.0_f64] {
                        let weaker = f64::min(level, -6.0 - twist.abs());
                        let press = Press {
                            row_dbm0: weaker - twist.min(0.0),
                            column_dbm0: weaker + twist.max(0.0),
                            ..Press::of(*key)
                        };
                        let samples = padded(rate, &press.samples(rate));
                        assert_eq!(heard(rate, &samples), key.to_string(), "{rate:?} {press:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_press_of_40_ms_is_heard_wherever_it_begins_and_one_of_20_ms_is_not() {
        for rate in RATES {
            for key in KEYPAD.as_flattened() {
                for shift in (0..40).step_by(3) {
                    for (milliseconds, expected) in
                        [(20, 0), (40, 1), (50, 1), (100, 1), (3_000, 1)]
                    {
                        if milliseconds == 3_000 && shift > 0 {
                            continue;
                        }
                        let press = Press {
                            milliseconds,
                            ..Press::of(*key)
                        };
                        let mut samples = vec![0; shift * rate.hz() as usize / 8_000];
                        samples.extend(padded(rate, &press.samples(rate)));
                        let heard = heard(rate, &samples);
                        assert_eq!(heard.len(), expected, "{shift} {press:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn keys_are_heard_through_mulaw_and_noise() {
        let rate = SampleRate::HZ_8000;
        for key in KEYPAD.as_flattened() {
            for milliseconds in [40, 50, 100] {
                // 15 dB under the key: Q.24 asks for 23 and less.
                let press = Press {
                    milliseconds,
                    ..Press::of(*key)
                };
                let mut samples = padded(rate, &press.samples(rate));
                let peak = PEAK_AT_0_DBM0 * 10_f32.powf(-25.0 / 20.0) * 3_f32.sqrt();
                for (sample, noise) in samples.iter_mut().zip(noise(peak as i16, 100_000)) {
                    *sample = g711::decode_mulaw(g711::encode_mulaw(*sample + noise));
                }
                assert_eq!(heard(rate, &samples), key.to_string(), "{press:?}");
            }
        }
    }

    #[test]
    fn the_same_key_twice_is_two_and_a_short_gap_in_one_is_none() {
        for rate in RATES {
            for (gap, expected) in [(10, "5"), (20, "5"), (40, "55"), (50, "55")] {
                for shift in 0..40 {
                    let press = Press::of('5').samples(rate);
                    let mut samples = vec![0; shift * rate.hz() as usize / 8_000];
                    samples.extend(&press);
                    samples.resize(samples.len() + rate.hz() as usize * gap / 1_000, 0);
                    samples.extend(&press);
                    samples.resize(samples.len() + rate.hz() as usize / 10, 0);
                    assert_eq!(heard(rate, &samples), expected, "{gap} ms, {shift}");
                }
            }
        }
    }

    #[test]
    fn a_number_dialled_fast_is_heard_whole_however_it_is_cut() {
        for rate in RATES {
            let number = "0123456789*#ABCD0099";
            let mut samples = Vec::new();
            for key in number.chars() {
                let press = Press {
                    milliseconds: 50,
                    ..Press::of(key)
                };
                samples.extend(press.samples(rate));
                samples.resize(samples.len() + rate.hz() as usize * 50 / 1_000, 0);
            }
            for size in [1, 7, 40, 99, 160, 320, 480, 800] {
                let mut detector = ToneDetector::new(rate);
                let heard: String = samples
                    .chunks(size)
                    .filter_map(|chunk| detector.hear(chunk))
                    .map(Digit::as_char)
                    .collect();
                assert_eq!(heard, number, "{size} samples at a time");
            }
        }
    }

    #[test]
    fn tones_1_5_percent_off_are_keys_and_3_5_percent_off_are_not() {
        for rate in RATES {
            for key in KEYPAD.as_flattened() {
                for twist in [-8.0, 0.0, 4.0_f64] {
                    for (row_off, column_off, expected) in [
                        (0.015, 0.015, 1),
                        (-0.015, 0.015, 1),
                        (-0.015, -0.015, 1),
                        (0.035, 0.0, 0),
                        (-0.035, 0.0, 0),
                        (0.0, 0.035, 0),
                        (0.0, -0.035, 0),
                    ] {
                        let press = Press {
                            row_off,
                            column_off,
                            row_dbm0: -14.0 - twist.min(0.0),
                            column_dbm0: -14.0 + twist.max(0.0),
                            ..Press::of(*key)
                        };
                        let samples = padded(rate, &press.samples(rate));
                        assert_eq!(heard(rate, &samples).len(), expected, "{press:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn too_much_twist_and_too_little_level_are_no_key() {
        let rate = SampleRate::HZ_8000;
        for (row_dbm0, column_dbm0) in [
            (-20.0, -12.0),
            (-8.0, -20.0),
            (-45.0, -45.0),
            (-10.0, -90.0),
        ] {
            let press = Press {
                row_dbm0,
                column_dbm0,
                ..Press::of('5')
            };
            let samples = padded(rate, &press.samples(rate));
            assert_eq!(heard(rate, &samples), "", "{press:?}");
        }
    }

    #[test]
    fn tones_of_the_network_and_chords_are_no_keys() {
        for rate in RATES {
            let seconds = 2.0;
            for chord in [
                // Dial, busy, ringback, special information, of North America and Europe; modems and faxes.
                &[350.0, 440.0][..],
                &[480.0, 620.0],
                &[440.0, 480.0],
                &[425.0],
                &[950.0],
                &[1_400.0],
                &[1_800.0],
                &[1_100.0],
                &[2_100.0],
                // One tone of a key, or two of one kind.
                &[697.0],
                &[1_209.0],
                &[1_633.0],
                &[697.0, 770.0],
                &[1_209.0, 1_336.0],
                // A key with another tone as loud beside it.
                &[697.0, 1_209.0, 440.0],
                &[770.0, 1_336.0, 2_600.0],
                // Triads: C major, A minor, G major.
                &[523.25, 659.25, 783.99],
                &[440.0, 523.25, 659.25],
                &[392.0, 493.88, 587.33],
                // A fifth and a fourth of pure tones near keys.
                &[783.99, 1_174.66],
                &[880.0, 1_318.5],
                &[698.46, 1_318.5],
            ] {
                let count = (f64::from(rate.hz()) * seconds) as usize;
                let samples: Vec<i16> = (0..count)
                    .map(|i| {
                        let time = i as f64 / f64::from(rate.hz());
                        let sum: f64 = chord
                            .iter()
                            .map(|hertz| (std::f64::consts::TAU * hertz * time).sin())
                            .sum();
                        (sum * 6_000.0) as i16
                    })
                    .collect();
                // F5 with E6 lies within 1.5 % of 2: the one chord here that no detector can refuse.
                let expected = if chord == [698.46, 1_318.5] { "2" } else { "" };
                assert_eq!(heard(rate, &samples), expected, "{chord:?}");
            }
            assert_eq!(heard(rate, &noise(20_000, 500_000)), "");
            assert_eq!(heard(rate, &vec![0; 50_000]), "");
        }
    }

    #[test]
    fn a_rich_tone_gliding_over_every_key_is_none() {
        // A voice is harmonics of one pitch; this one passes every pair of them over every pair of tones.
        for rate in RATES {
            let mut phase = 0.0_f64;
            let samples: Vec<i16> = (0..rate.hz() * 30)
                .map(|i| {
                    let time = f64::from(i) / f64::from(rate.hz());
                    phase += (80.0 + 20.0 * time) / f64::from(rate.hz());
                    let harmonics = (1..=5).map(|n| {
                        (std::f64::consts::TAU * f64::from(n) * phase).sin() / f64::from(n)
                    });
                    (harmonics.sum::<f64>() * 8_000.0) as i16
                })
                .collect();
            assert_eq!(heard(rate, &samples), "");
        }
    }

    #[test]
    fn speech_is_no_key_at_any_speed() {
        // Played at other rates the same voice is a child's and a giant's.
        let speech = voice(8_000 * 4);
        for hertz in [
            4_000, 5_000, 6_000, 7_000, 9_000, 10_000, 11_025, 12_000, 16_000,
        ] {
            let played_at = SampleRate::from_hz(hertz).unwrap();
            let mut resampler = Resampler::new(played_at, SampleRate::HZ_8000);
            let mut resampled = Vec::new();
            for chunk in speech.chunks_exact(resampler.chunk_in()) {
                resampled.extend_from_slice(resampler.process(chunk));
            }
            for gain in [1, 4] {
                let louder: Vec<i16> = resampled.iter().map(|s| s.saturating_mul(gain)).collect();
                assert_eq!(heard(SampleRate::HZ_8000, &louder), "", "{hertz} × {gain}");
            }
        }
        assert_eq!(heard(SampleRate::HZ_8000, &speech), "");
    }

    /// A key as it is sent.
    #[derive(Clone, Copy, Debug)]
    struct Press {
        key: char,
        milliseconds: usize,
        row_dbm0: f64,
        column_dbm0: f64,
        row_off: f64,
        column_off: f64,
    }

    impl Press {
        fn of(key: char) -> Self {
            Self {
                key,
                milliseconds: 80,
                row_dbm0: -10.0,
                column_dbm0: -10.0,
                row_off: 0.0,
                column_off: 0.0,
            }
        }

        fn samples(&self, rate: SampleRate) -> Vec<i16> {
            let at = KEYPAD
                .as_flattened()
                .iter()
                .position(|key| *key == self.key)
                .unwrap();
            let sine = |tone: usize, off: f64, dbm0: f64, i: usize| {
                let hertz = f64::from(FREQUENCIES[tone]) * (1.0 + off);
                let peak = f64::from(PEAK_AT_0_DBM0) * 10_f64.powf(dbm0 / 20.0);
                let time = i as f64 / f64::from(rate.hz());
                peak * (std::f64::consts::TAU * hertz * time).sin()
            };
            (0..rate.hz() as usize * self.milliseconds / 1_000)
                .map(|i| {
                    let row = sine(at / 4, self.row_off, self.row_dbm0, i);
                    let column = sine(4 + at % 4, self.column_off, self.column_dbm0, i);
                    (row + column) as i16
                })
                .collect()
        }
    }

    /// `samples` with 50 ms of silence before and 100 behind.
    fn padded(rate: SampleRate, samples: &[i16]) -> Vec<i16> {
        let silence = rate.hz() as usize / 20;
        [vec![0; silence], samples.to_vec(), vec![0; 2 * silence]].concat()
    }

    fn heard(rate: SampleRate, samples: &[i16]) -> String {
        let mut detector = ToneDetector::new(rate);
        samples
            .chunks(rate.frame_samples())
            .filter_map(|frame| detector.hear(frame))
            .map(Digit::as_char)
            .collect()
    }
}
