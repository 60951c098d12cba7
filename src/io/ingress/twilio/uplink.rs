//! Caller audio: from base64 to frames of 20 ms, and the count of what is missing between them.

use base64::DecodeSliceError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing::debug;

use super::measure;
use super::messages::Media;
use super::refused::Refused;
use crate::engine::media::codec::g711;
use crate::engine::media::frame::Frame;
use crate::engine::media::frame::SampleRate;

/// The most audio in one message: half a second. Twilio sends 20 ms, others up to some hundred; more than the leg's ring
/// holds could not be taken anyway.
pub const MAX_PAYLOAD_BYTES: usize = 4_000;

const RATE: SampleRate = SampleRate::HZ_8000;
const FRAME_SAMPLES: usize = RATE.frame_samples();

/// Caller audio on its way to the call.
pub struct Uplink {
    sequence: Counter,
    chunk: Counter,
    /// Samples that do not fill a frame yet. Whatever sizes the peer sends, the call gets 20 ms at a time.
    samples: [i16; FRAME_SAMPLES],
    filled: usize,
}

impl Uplink {
    /// Nothing heard yet; `start` had this sequence number.
    pub fn new(sequence: Option<u64>) -> Self {
        Self {
            sequence: Counter { last: sequence },
            chunk: Counter { last: None },
            samples: [0; FRAME_SAMPLES],
            filled: 0,
        }
    }

    /// Notes a message's sequence number. A gap is a fact about the peer, never a reason to end a call.
    pub fn count(&mut self, sequence: Option<u64>) {
        note("message", self.sequence.gap(sequence));
    }

    /// Decodes one message's audio and hands over the frames that it completes.
    ///
    /// # Errors
    /// If it is not the caller's, too long, or no base64.
    pub fn media(&mut self, media: &Media<'_>, frames: impl FnMut(Frame)) -> Result<(), Refused> {
        let track = media.track.as_ref();
        if track.is_some_and(|track| track.as_str() != "inbound") {
            return Err(Refused::WrongTrack);
        }
        note("chunk", self.chunk.gap(media.chunk.map(|chunk| chunk.0)));
        let mut mulaw = [0; MAX_PAYLOAD_BYTES];
        let length = STANDARD
            .decode_slice(media.payload.as_str(), &mut mulaw)
            .map_err(|error| match error {
                DecodeSliceError::OutputSliceTooSmall => Refused::PayloadTooLarge,
                DecodeSliceError::DecodeError(_) => Refused::BadPayload,
            })?;
        self.frames(&mulaw[..length], frames);
        Ok(())
    }

    fn frames(&mut self, mut mulaw: &[u8], mut frames: impl FnMut(Frame)) {
        while !mulaw.is_empty() {
            let room = &mut self.samples[self.filled..];
            let (now, later) = mulaw.split_at(mulaw.len().min(room.len()));
            for (sample, byte) in room.iter_mut().zip(now) {
                *sample = g711::decode_mulaw(*byte);
            }
            self.filled += now.len();
            mulaw = later;
            if self.filled == FRAME_SAMPLES {
                self.filled = 0;
                frames(Frame::new(RATE, &self.samples));
            }
        }
    }
}

/// A number that should grow by one.
struct Counter {
    last: Option<u64>,
}

impl Counter {
    /// The number that was expected and the one that came, if they differ.
    fn gap(&mut self, number: Option<u64>) -> Option<(u64, u64)> {
        let number = number?;
        let expected = self.last.replace(number)?.wrapping_add(1);
        (number != expected).then_some((expected, number))
    }
}

fn note(what: &'static str, gap: Option<(u64, u64)>) {
    if let Some((expected, received)) = gap {
        measure::sequence_gap();
        debug!(what, expected, received, "a gap in the numbering");
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::io::ingress::twilio::messages::Count;
    use crate::io::ingress::twilio::messages::Text;

    #[test]
    fn payloads_of_any_size_become_frames_of_20_ms_with_nothing_lost() {
        let mulaw: Vec<u8> = (0..1_600).map(|i| (i * 7 % 256) as u8).collect();
        for size in [1, 20, 80, 159, 160, 161, 240, 800, 1_600] {
            let mut uplink = Uplink::new(None);
            let mut heard = Vec::new();
            for payload in mulaw.chunks(size) {
                let media = media(&STANDARD.encode(payload), None);
                let taken = uplink.media(&media, |frame| {
                    assert_eq!(frame.samples().len(), FRAME_SAMPLES);
                    heard.extend_from_slice(frame.samples());
                });
                assert_eq!(taken, Ok(()));
            }
            let expected: Vec<i16> = mulaw.iter().map(|byte| g711::decode_mulaw(*byte)).collect();
            assert_eq!(heard, expected, "payloads of {size} bytes");
        }
    }

    #[test]
    fn payloads_that_are_too_long_or_no_base64_are_refused() {
        let mut uplink = Uplink::new(None);
        let fits = STANDARD.encode([0; MAX_PAYLOAD_BYTES]);
        let too_long = STANDARD.encode([0; MAX_PAYLOAD_BYTES + 1]);
        assert_eq!(uplink.media(&media(&fits, None), |_| ()), Ok(()));
        assert_eq!(
            uplink.media(&media(&too_long, None), |_| ()),
            Err(Refused::PayloadTooLarge)
        );
        for wrong in ["####", "AAA", "A=AA", "AAAA\n"] {
            assert_eq!(
                uplink.media(&media(wrong, None), |_| ()),
                Err(Refused::BadPayload),
                "{wrong:?}"
            );
        }
        assert_eq!(
            uplink.media(&media("AAAA", Some("outbound")), |_| ()),
            Err(Refused::WrongTrack)
        );
        assert_eq!(uplink.media(&media("", Some("inbound")), |_| ()), Ok(()));
    }

    #[test]
    fn a_gap_is_a_number_that_is_not_the_next() {
        let mut counter = Counter { last: None };
        assert_eq!(counter.gap(Some(5)), None);
        assert_eq!(counter.gap(Some(6)), None);
        assert_eq!(counter.gap(Some(9)), Some((7, 9)));
        assert_eq!(counter.gap(Some(10)), None);
        assert_eq!(counter.gap(None), None);
        assert_eq!(counter.gap(Some(10)), Some((11, 10)));
        assert_eq!(counter.gap(Some(u64::MAX)), Some((11, u64::MAX)));
        assert_eq!(counter.gap(Some(0)), None);
    }

    fn media(payload: &str, track: Option<&str>) -> Media<'static> {
        let text = |text: &str| Text(Cow::Owned(text.to_owned()));
        Media {
            track: track.map(text),
            chunk: Some(Count(1)),
            payload: text(payload),
        }
    }
}
