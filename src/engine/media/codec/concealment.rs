//! What is heard in place of a lost packet, for codecs that have no answer of their own: the last pitch period again and
//! again, fading to silence; much as ITU-T G.711 Appendix I does, without its delay.
//!
//! Silence instead would crack at both of its edges, and a recogniser hears a crack as a consonant.

use crate::frame::SampleRate;

/// The pitch is looked for between these. Shorter periods are found by their multiples; repeating less than 5 ms of a
/// hiss would make it hum.
const SHORTEST_PERIOD_HZ: u32 = 200;
/// 15 ms: a deep voice.
const LONGEST_PERIOD_HZ: u32 = 66;
/// The stretch that is compared with its past: 20 ms, more than one period of any voice.
const TEMPLATE_HZ: u32 = 50;
/// The made-up sound is kept at its level for 10 ms and is gone after 60: a vowel rarely lasts longer unchanged.
const HOLD_HZ: u32 = 100;
/// See [`HOLD_HZ`]: the 50 ms between.
const FADE_HZ: u32 = 20;
/// The made-up sound goes over into the first samples that arrive again within 4 ms.
const CROSSFADE_HZ: u32 = 250;
/// The step between the last sample that arrived and the first made-up one is spread over 1 ms.
const JOIN_HZ: u32 = 1_000;

/// Keeps the last 35 ms of one direction, to make up what is missing.
pub(super) struct Concealment {
    shortest_period: usize,
    longest_period: usize,
    template: usize,
    hold: usize,
    fade: usize,
    crossfade: usize,
    join: usize,
    /// The last samples heard or made up, oldest first; always full.
    history: Vec<i16>,
    /// What is repeated, with its end bent to its beginning. Empty while nothing is missing.
    period: Vec<i16>,
    /// Samples made up since the last that arrived.
    made_up: usize,
    /// By how much the first made-up sample misses the last that arrived.
    step: f32,
}

impl Concealment {
    /// For samples at `rate`.
    pub(super) fn new(rate: SampleRate) -> Self {
        let samples = |hertz: u32| (rate.hz() / hertz) as usize;
        let longest_period = samples(LONGEST_PERIOD_HZ);
        let template = samples(TEMPLATE_HZ);
        Self {
            shortest_period: samples(SHORTEST_PERIOD_HZ),
            longest_period,
            template,
            hold: samples(HOLD_HZ),
            fade: samples(FADE_HZ),
            crossfade: samples(CROSSFADE_HZ),
            join: samples(JOIN_HZ),
            history: vec![0; template + longest_period],
            period: Vec::with_capacity(longest_period),
            made_up: 0,
            step: 0.0,
        }
    }

    /// Notes samples that arrived; the first after a gap are blended with what was made up for it.
    pub(super) fn heard(&mut self, samples: &mut [i16]) {
        if samples.is_empty() {
            return;
        }
        if !self.period.is_empty() {
            let length = self.crossfade.min(samples.len());
            for (i, sample) in samples[..length].iter_mut().enumerate() {
                let arrived = (i + 1) as f32 / (length + 1) as f32;
                let made_up = f32::from(self.next_sample());
                *sample = (f32::from(*sample) * arrived + made_up * (1.0 - arrived)) as i16;
            }
            self.period.clear();
        }
        self.remember(samples);
    }

    /// Appends `count` samples in place of lost ones.
    pub(super) fn conceal(&mut self, count: usize, pcm: &mut Vec<i16>) {
        if self.period.is_empty() {
            self.prepare();
        }
        let before = pcm.len();
        pcm.extend((0..count).map(|_| self.next_sample()));
        self.remember(&pcm[before..]);
    }

    fn next_sample(&mut self) -> i16 {
        let at = self.made_up;
        // Past the fade there is nothing but silence, however long.
        if at >= self.hold + self.fade {
            return 0;
        }
        self.made_up += 1;
        let sample = f32::from(self.period[at % self.period.len()]);
        let join = self.step * (1.0 - at as f32 / self.join as f32).max(0.0);
        let gain = 1.0 - at.saturating_sub(self.hold) as f32 / self.fade as f32;
        ((sample + join) * gain) as i16
    }

    /// Chooses what to repeat, and bends its end so that its beginning follows on smoothly.
    fn prepare(&mut self) {
        let length = self.pitch_period();
        let end = self.history.len();
        let last = &self.history[end - length..];
        let one_before = &self.history[end - 2 * length..end - length];
        let bend = length / 4;
        self.period.clear();
        self.period.extend_from_slice(last);
        for (i, sample) in self.period[length - bend..].iter_mut().enumerate() {
            let bent = (i + 1) as f32 / bend as f32;
            let older = f32::from(one_before[length - bend + i]);
            *sample = (f32::from(*sample) * (1.0 - bent) + older * bent) as i16;
        }
        // What is repeated once followed on `one_before`; now it follows on `last`.
        self.step = f32::from(last[length - 1]) - f32::from(one_before[length - 1]);
        self.made_up = 0;
    }

    /// The distance in samples at which the past is most like the present.
    fn pitch_period(&self) -> usize {
        let start = self.history.len() - self.template;
        let present = &self.history[start..];
        let mut best = (self.longest_period, 0.0_f32);
        for period in self.shortest_period..=self.longest_period {
            let past = &self.history[start - period..self.history.len() - period];
            let (mut product, mut energy) = (0.0_f32, 1.0_f32);
            for (now, then) in present.iter().zip(past) {
                let (now, then) = (f32::from(*now), f32::from(*then));
                product += now * then;
                energy += then * then;
            }
            let likeness = product / energy.sqrt();
            if likeness > best.1 {
                best = (period, likeness);
            }
        }
        best.0
    }

    fn remember(&mut self, samples: &[i16]) {
        let kept = self.history.len();
        let new = &samples[samples.len().saturating_sub(kept)..];
        self.history.copy_within(new.len().., 0);
        self.history[kept - new.len()..].copy_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use crate::testing::tone;
    use crate::testing::tone_level;
    use crate::testing::voice;

    /// The tone of these tests bends by at most this much from one sample to the next.
    const OWN_BEND: i32 = 960;

    #[test]
    fn a_tone_with_one_packet_in_twenty_lost_is_still_that_tone_without_clicks() {
        for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000] {
            let whole = tone(rate.hz(), 440.0, 8_000, 10.0);
            let concealed = with_losses(rate, &whole, true);
            let silenced = with_losses(rate, &whole, false);
            assert_eq!(concealed.len(), whole.len());
            let level = tone_level(rate.hz(), 440.0, &concealed);
            assert!(level > 7_800.0, "{level}");
            // A gap of silence breaks off at any height of the wave.
            assert!(sharpest_bend(&silenced) > 6_000);
            let bend = sharpest_bend(&concealed);
            assert!(bend < OWN_BEND + OWN_BEND / 4, "{bend} at {} Hz", rate.hz());
        }
    }

    #[test]
    fn speech_keeps_its_level_where_packets_are_lost() {
        let whole = voice(80_000);
        let concealed = with_losses(SampleRate::HZ_8000, &whole, true);
        let silenced = with_losses(SampleRate::HZ_8000, &whole, false);
        let level = |frame: &[i16]| {
            let energy: f64 = frame.iter().map(|s| f64::from(*s).powi(2)).sum();
            10.0 * (energy / frame.len() as f64 + 1.0).log10()
        };
        // How far off the level is in each lost packet that had a voice in it.
        let mut errors: Vec<f64> = Vec::new();
        for at in (0..whole.len()).step_by(160) {
            let lost = silenced[at..at + 160].iter().all(|sample| *sample == 0);
            if lost && level(&whole[at..at + 160]) > 50.0 {
                errors.push((level(&concealed[at..at + 160]) - level(&whole[at..at + 160])).abs());
            }
        }
        errors.sort_by(f64::total_cmp);
        assert!(errors.len() > 10);
        assert!(errors[errors.len() / 2] < 3.0, "{errors:?}");
    }

    #[test]
    fn a_long_gap_fades_to_silence_in_60_ms() {
        let mut concealment = Concealment::new(SampleRate::HZ_8000);
        concealment.heard(&mut tone(8_000, 440.0, 8_000, 0.1));
        let mut pcm = Vec::new();
        for _ in 0..10 {
            concealment.conceal(160, &mut pcm);
        }
        assert_eq!(pcm.len(), 1_600);
        assert!(tone_level(8_000, 440.0, &pcm[..80]) > 7_500.0);
        let late = pcm[320..480].iter().map(|sample| sample.abs()).max();
        assert!(late < Some(4_000), "{late:?}");
        assert!(pcm[480..].iter().all(|sample| *sample == 0));
    }

    #[test]
    fn silence_and_nothing_at_all_are_concealed_with_silence() {
        let mut concealment = Concealment::new(SampleRate::HZ_16000);
        let mut pcm = Vec::new();
        concealment.conceal(320, &mut pcm);
        concealment.heard(&mut []);
        concealment.heard(&mut [0; 320]);
        concealment.conceal(320, &mut pcm);
        assert_eq!(pcm, [0; 640]);
    }

    #[test]
    fn the_loudest_noise_and_any_size_of_gap_stay_in_range() {
        let mut concealment = Concealment::new(SampleRate::HZ_8000);
        let mut loud = noise(i16::MAX, 8_000);
        for (i, piece) in loud.chunks_mut(133).enumerate() {
            concealment.heard(piece);
            let mut pcm = Vec::new();
            concealment.conceal(i * 17, &mut pcm);
            assert_eq!(pcm.len(), i * 17);
        }
    }

    /// `whole` with every twentieth packet of 20 ms lost on average, at random places.
    fn with_losses(rate: SampleRate, whole: &[i16], conceal: bool) -> Vec<i16> {
        let packets = whole.chunks(rate.frame_samples());
        let dice = noise(10_000, packets.len());
        let mut concealment = Concealment::new(rate);
        let mut pcm = Vec::new();
        for (packet, die) in packets.zip(dice) {
            match (die.rem_euclid(20) == 0, conceal) {
                (true, true) => concealment.conceal(packet.len(), &mut pcm),
                (true, false) => pcm.resize(pcm.len() + packet.len(), 0),
                (false, _) => {
                    let mut packet = packet.to_vec();
                    concealment.heard(&mut packet);
                    pcm.extend(packet);
                }
            }
        }
        pcm
    }

    /// How sharply the curve bends where it bends most: a click is a corner.
    fn sharpest_bend(samples: &[i16]) -> i32 {
        samples
            .windows(3)
            .map(|three| i32::from(three[0]) - 2 * i32::from(three[1]) + i32::from(three[2]))
            .map(i32::abs)
            .max()
            .unwrap_or(0)
    }
}
