//! Between the rate of the codec and that at which the leg speaks to its call, where a re-INVITE has made them differ: a
//! call that began in wideband may be moved to a telephone line, and the other way round.

use crate::engine::media::frame::Frame;
use crate::engine::media::frame::SampleRate;
use crate::engine::media::resample::Resampler;

/// Changes the rate of frames; does nothing where the rates are the same.
#[derive(Default)]
pub(super) struct Bridge(Option<Box<Converters>>);

struct Converters {
    up: Converter,
    down: Converter,
}

struct Converter {
    resampler: Resampler,
    to: SampleRate,
}

impl Bridge {
    /// A bridge between a codec and a call.
    pub(super) fn between(codec: SampleRate, call: SampleRate) -> Self {
        Self((codec != call).then(|| {
            Box::new(Converters {
                up: Converter::new(codec, call),
                down: Converter::new(call, codec),
            })
        }))
    }

    /// Gives `each` what the call hears of a frame of the codec.
    pub(super) fn up(&mut self, frame: Frame, mut each: impl FnMut(Frame)) {
        match &mut self.0 {
            None => each(frame),
            Some(converters) => converters.up.convert(&frame, each),
        }
    }

    /// Gives `each` what the codec is given of a frame of the call.
    pub(super) fn down(&mut self, frame: &Frame, mut each: impl FnMut(&Frame)) {
        match &mut self.0 {
            None => each(frame),
            Some(converters) => converters.down.convert(frame, |frame| each(&frame)),
        }
    }

    /// Forgets what was on its way down.
    pub(super) fn cut(&mut self) {
        if let Some(converters) = &mut self.0 {
            converters.down.resampler.reset();
        }
    }
}

impl Converter {
    fn new(from: SampleRate, to: SampleRate) -> Self {
        Self {
            resampler: Resampler::new(from, to),
            to,
        }
    }

    fn convert(&mut self, frame: &Frame, mut each: impl FnMut(Frame)) {
        let to = self.to;
        self.resampler.feed(frame.samples(), |resampled| {
            for samples in resampled.chunks(to.frame_samples()) {
                each(Frame::new(to, samples));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::media::testing::tone;
    use crate::engine::media::testing::tone_level;

    #[test]
    fn a_tone_crosses_the_bridge_both_ways() {
        let (narrow, wide) = (SampleRate::HZ_8000, SampleRate::HZ_16000);
        let mut bridge = Bridge::between(wide, narrow);
        let mut heard = Vec::new();
        for samples in tone(16_000, 1_000.0, 8_000, 1.0).chunks(320) {
            bridge.up(Frame::new(wide, samples), |frame| {
                assert_eq!(frame.rate(), narrow);
                heard.extend_from_slice(frame.samples());
            });
        }
        assert_eq!(heard.len(), 8_000);
        assert!(tone_level(8_000, 1_000.0, &heard[800..]) > 7_000.0);
        let mut said = Vec::new();
        for samples in tone(8_000, 1_000.0, 8_000, 1.0).chunks(160) {
            bridge.down(&Frame::new(narrow, samples), |frame| {
                assert_eq!(frame.rate(), wide);
                said.extend_from_slice(frame.samples());
            });
        }
        assert_eq!(said.len(), 16_000);
        assert!(tone_level(16_000, 1_000.0, &said[1_600..]) > 7_000.0);
    }

    #[test]
    fn frames_of_the_same_rate_pass_as_they_are() {
        let mut bridge = Bridge::between(SampleRate::HZ_8000, SampleRate::HZ_8000);
        let frame = Frame::new(SampleRate::HZ_8000, &[1, 2, 3]);
        bridge.up(frame, |heard| assert_eq!(heard.samples(), [1, 2, 3]));
    }
}
