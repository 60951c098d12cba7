//! The codecs of a leg, as they go into packets.
//!
//! A [`Decoder`] and an [`Encoder`] hold the state of one direction of one leg. Opus is decoded and encoded at 16 kHz
//! straight away: its clock in RTP is always 48 kHz (RFC 7587 §4.1), which says nothing of the rate of its samples.

use crate::codec::concealment::Concealment;
use crate::codec::g711;
use crate::codec::g722;
use crate::codec::opus;
use crate::frame::Frame;
use crate::frame::SampleRate;

/// A codec of a leg, in our order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 3551 §4.5.2.
    G722,
    /// G.711 mu-law, RFC 3551 §4.5.14.
    Pcmu,
    /// G.711 A-law, RFC 3551 §4.5.14.
    Pcma,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 4] = [Self::Opus, Self::G722, Self::Pcmu, Self::Pcma];

    /// The encoding name in SDP; compared without regard to case (RFC 8866 §6.6).
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::G722 => "G722",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Ticks per second of its RTP timestamps. G.722 says 8000 by an old mistake (RFC 3551 §4.5.2).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::G722 | Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    /// The rate of the samples that go in and come out.
    pub const fn sample_rate(self) -> SampleRate {
        match self {
            Self::Opus | Self::G722 => SampleRate::HZ_16000,
            Self::Pcmu | Self::Pcma => SampleRate::HZ_8000,
        }
    }

    /// Its payload type where that is fixed (RFC 3551 §6).
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Opus => None,
            Self::G722 => Some(9),
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
        }
    }
}

/// The state of one leg's caller-to-agent direction.
pub struct Decoder(Decoding);

enum Decoding {
    G711(fn(u8) -> i16, Concealment),
    G722(Box<g722::Decoder>, Concealment),
    Opus(opus::Decoder),
}

impl Decoder {
    /// A decoder at its beginning.
    pub fn new(codec: Codec) -> Self {
        let concealment = || Concealment::new(codec.sample_rate());
        Self(match codec {
            Codec::Pcmu => Decoding::G711(g711::decode_mulaw, concealment()),
            Codec::Pcma => Decoding::G711(g711::decode_alaw, concealment()),
            Codec::G722 => Decoding::G722(Box::new(g722::Decoder::new()), concealment()),
            Codec::Opus => Decoding::Opus(opus::Decoder::new()),
        })
    }

    /// Appends the samples of one payload to `pcm`, at [`Codec::sample_rate`]; of a payload of more than 120 ms only
    /// the first 120. Damaged payloads append nothing.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) {
        let from = pcm.len();
        // G.711 and G.722 have 8 bytes in a millisecond and no byte that is wrong.
        let bounded = &payload[..payload.len().min(MOST_BYTES_DECODED)];
        match &mut self.0 {
            Decoding::G711(decode, concealment) => {
                pcm.extend(bounded.iter().map(|byte| decode(*byte)));
                concealment.heard(&mut pcm[from..]);
            }
            Decoding::G722(decoder, concealment) => {
                decoder.decode(bounded, pcm);
                concealment.heard(&mut pcm[from..]);
            }
            Decoding::Opus(decoder) => decoder.decode(payload, pcm),
        }
    }

    /// Appends `samples` in place of packets that were lost; the caller bounds the gap. `next` is the payload that
    /// follows the gap, if it is here: Opus carries the one before in it. It is still to be decoded after this.
    ///
    /// What is made up fades: of a gap longer than about 100 ms the rest is silence.
    pub fn conceal(&mut self, samples: usize, next: Option<&[u8]>, pcm: &mut Vec<i16>) {
        match &mut self.0 {
            Decoding::G711(_, concealment) | Decoding::G722(_, concealment) => {
                concealment.conceal(samples, pcm);
            }
            Decoding::Opus(decoder) => decoder.conceal(samples, next, pcm),
        }
    }
}

/// The state of one leg's agent-to-caller direction.
pub struct Encoder {
    codec: Codec,
    encoding: Encoding,
}

enum Encoding {
    G711(fn(i16) -> u8),
    G722(Box<g722::Encoder>),
    Opus(opus::Encoder),
}

impl Encoder {
    /// An encoder at its beginning. `opus_complexity` is 0–10: CPU time against quality.
    pub fn new(codec: Codec, opus_complexity: u8) -> Self {
        let encoding = match codec {
            Codec::Pcmu => Encoding::G711(g711::encode_mulaw),
            Codec::Pcma => Encoding::G711(g711::encode_alaw),
            Codec::G722 => Encoding::G722(Box::new(g722::Encoder::new())),
            Codec::Opus => Encoding::Opus(opus::Encoder::new(opus_complexity)),
        };
        Self { codec, encoding }
    }

    /// Writes one frame of 20 ms to the front of `out` and says how many bytes that took.
    ///
    /// G.711 and G.722 payloads may be put behind one another to make a longer packet, or cut to make a shorter one.
    /// An Opus payload is a packet as it is: Opus always goes out every 20 ms.
    ///
    /// # Panics
    /// If `out` is shorter than [`MAX_PAYLOAD_BYTES`], or `frame` is not at [`Codec::sample_rate`].
    pub fn encode(&mut self, frame: &Frame, out: &mut [u8]) -> usize {
        assert_eq!(
            frame.rate(),
            self.codec.sample_rate(),
            "frames come at the rate of the leg's codec"
        );
        let (samples, out) = (frame.samples(), &mut out[..MAX_PAYLOAD_BYTES]);
        match &mut self.encoding {
            Encoding::G711(encode) => {
                for (byte, sample) in out.iter_mut().zip(samples) {
                    *byte = encode(*sample);
                }
                samples.len()
            }
            Encoding::G722(encoder) => encoder.encode(samples, out),
            Encoding::Opus(encoder) => encoder.encode(samples, out),
        }
    }

    /// Keeps to what the peer wants at most, in bits per second on average (`maxaveragebitrate` of RFC 7587 §6.1). It begins
    /// anew. Codecs other than Opus have one rate.
    pub fn limit(&mut self, bits_per_second: u32) {
        match &mut self.encoding {
            Encoding::G711(_) | Encoding::G722(_) => {}
            Encoding::Opus(encoder) => encoder.limit(bits_per_second),
        }
    }

    /// Heeds what the peer reports of our packets: the share that was lost since its last report, in 256ths
    /// (RFC 3550 §6.4.1).
    pub fn heed_loss(&mut self, fraction_lost: u8) {
        match &mut self.encoding {
            Encoding::G711(_) | Encoding::G722(_) => {}
            Encoding::Opus(encoder) => encoder.heed_loss(fraction_lost),
        }
    }

    /// Forgets what was said, after a cut: nothing of it is in what is encoded next.
    pub fn reset(&mut self) {
        match &mut self.encoding {
            Encoding::G711(_) => {}
            Encoding::G722(encoder) => encoder.reset(),
            Encoding::Opus(encoder) => encoder.reset(),
        }
    }
}

/// The most bytes of one encoded frame of 20 ms. G.711 and G.722 take 160; Opus is held to 320, two and a half times what it
/// takes on average, so that a packet never nears the size at which networks fragment.
pub const MAX_PAYLOAD_BYTES: usize = 320;

/// 120 ms of G.711 or G.722: as long as Opus packets may be.
const MOST_BYTES_DECODED: usize = 960;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;
    use crate::testing::tone;
    use crate::testing::tone_level;
    use crate::testing::voice;

    #[test]
    fn a_tone_comes_through_every_codec() {
        for codec in Codec::ALL {
            let rate = codec.sample_rate();
            let payloads = encoded(codec, &tone(rate.hz(), 440.0, 8_000, 1.0));
            assert_eq!(payloads.len(), 50);
            let pcm = decoded(codec, &payloads, |_| false);
            assert_eq!(pcm.len(), rate.hz() as usize, "{codec:?}");
            let level = tone_level(rate.hz(), 440.0, &pcm[rate.hz() as usize / 10..]);
            assert!((7_000.0..9_000.0).contains(&level), "{codec:?}: {level}");
        }
    }

    #[test]
    fn a_tone_with_one_packet_in_twenty_lost_comes_through_every_codec() {
        for codec in Codec::ALL {
            let rate = codec.sample_rate();
            let payloads = encoded(codec, &tone(rate.hz(), 440.0, 8_000, 10.0));
            let dice = noise(10_000, payloads.len());
            let pcm = decoded(codec, &payloads, |i| dice[i].rem_euclid(20) == 0);
            assert_eq!(pcm.len(), 10 * rate.hz() as usize, "{codec:?}");
            let level = tone_level(rate.hz(), 440.0, &pcm);
            assert!(level > 7_000.0, "{codec:?}: {level}");
        }
    }

    #[test]
    fn opus_finds_a_lost_packet_in_the_next_one() {
        let whole = voice_at_16_khz(10.0);
        let payloads = encoded(Codec::Opus, &whole);
        let intact = decoded(Codec::Opus, &payloads, |_| false);
        // Every tenth packet is lost; once its copy is used, once not.
        let error = |next_is_here: bool| {
            let mut decoder = Decoder::new(Codec::Opus);
            let mut pcm = Vec::new();
            for (i, payload) in payloads.iter().enumerate() {
                if i % 10 == 5 {
                    let next = payloads.get(i + 1).filter(|_| next_is_here);
                    decoder.conceal(320, next.map(Vec::as_slice), &mut pcm);
                } else {
                    decoder.decode(payload, &mut pcm);
                }
            }
            assert_eq!(pcm.len(), intact.len());
            intact
                .iter()
                .zip(&pcm)
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum::<f64>()
        };
        let (with_copy, without) = (error(true), error(false));
        assert!(with_copy < 0.5 * without, "{with_copy} of {without}");
    }

    #[test]
    fn opus_carries_no_copies_where_the_peer_tells_that_nothing_is_lost() {
        let mut encoder = Encoder::new(Codec::Opus, 5);
        let mut out = [0; MAX_PAYLOAD_BYTES];
        // The upper half of the first byte's values is CELT's alone (RFC 6716 §3.1).
        let mut carries_copies = |encoder: &mut Encoder, samples: &[i16]| {
            encoder.encode(&Frame::new(SampleRate::HZ_16000, samples), &mut out);
            out[0] < 0x80
        };
        let (voice, silence) = (&voice_at_16_khz(0.02)[..], &[0; 320][..]);
        assert!(carries_copies(&mut encoder, silence), "who knows?");
        encoder.heed_loss(0);
        assert!(carries_copies(&mut encoder, voice), "not in a word");
        assert!(!carries_copies(&mut encoder, silence));
        assert!(!carries_copies(&mut encoder, voice));
        encoder.heed_loss(1);
        assert!(carries_copies(&mut encoder, voice), "at once");
        encoder.heed_loss(0);
        encoder.heed_loss(0);
        assert!(carries_copies(&mut encoder, silence), "it may be luck");
        encoder.heed_loss(0);
        assert!(!carries_copies(&mut encoder, silence));
    }

    #[test]
    fn opus_goes_from_one_mode_to_the_other_without_a_break() {
        let mut encoder = Encoder::new(Codec::Opus, 5);
        let mut decoder = Decoder::new(Codec::Opus);
        let spoken = voice_at_16_khz(2.0);
        let tone = tone(16_000, 440.0, 8_000, 2.0);
        for reports in [&[][..], &[0], &[5], &[0, 0, 0], &[200]] {
            for fraction_lost in reports {
                encoder.heed_loss(*fraction_lost);
            }
            say(&mut encoder, &mut decoder, &[0; 1_600]);
            let heard = say(&mut encoder, &mut decoder, &tone);
            let level = tone_level(16_000, 440.0, &heard[3_200..]);
            assert!((7_200.0..8_800.0).contains(&level), "{reports:?}: {level}");
            let heard = say(&mut encoder, &mut decoder, &spoken);
            let loudest = |samples: &[i16]| samples.iter().map(|s| s.unsigned_abs()).max();
            assert!(loudest(&heard) < loudest(&spoken).map(|it| it + it / 2));
        }
    }

    #[test]
    fn opus_sends_no_more_than_the_peer_wants() {
        let speech = voice_at_16_khz(10.0);
        let mut encoder = Encoder::new(Codec::Opus, 5);
        let mut bits = |limit: u32, reports: &[u8]| {
            encoder.limit(limit);
            for fraction_lost in reports {
                encoder.heed_loss(*fraction_lost);
            }
            encoded_by(&mut encoder, &[0; 320]);
            let payloads = encoded_by(&mut encoder, &speech);
            payloads.iter().map(Vec::len).sum::<usize>() * 8 / 10
        };
        for limit in [12_000, 30_000, 40_000] {
            for reports in [&[1][..], &[0; 3]] {
                let bits = bits(limit, reports);
                assert!(bits <= limit as usize * 11 / 10, "{bits} of {limit}");
            }
        }
        // More than any encoder takes, and less.
        assert!(bits(u32::MAX, &[0; 3]) < 53_000);
        assert!(bits(0, &[0; 3]) < 9_000);
    }

    #[test]
    fn opus_repeats_its_silence_and_speaks_after_it_as_before() {
        let speech = voice_at_16_khz(2.0);
        let whole = [&speech[..], &[0; 5 * 16_000], &speech[..]].concat();
        for reports in [&[][..], &[0]] {
            let payloads = encoded_by(&mut opus_after(reports), &whole);
            // From 2.5 s to 7 s.
            assert!(
                payloads[130..350]
                    .iter()
                    .all(|payload| *payload == payloads[130])
            );
            let heard = decoded(Codec::Opus, &payloads, |_| false);
            let silence = &heard[3 * 16_000..7 * 16_000];
            assert!(
                silence.iter().all(|sample| sample.abs() < 30),
                "silence is silent"
            );
            let (before, after) = (&heard[..2 * 16_000], &heard[7 * 16_000..9 * 16_000]);
            let energy =
                |samples: &[i16]| samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
            let difference: f64 = before
                .iter()
                .zip(after)
                .map(|(before, after)| (f64::from(*before) - f64::from(*after)).powi(2))
                .sum();
            // The same words coded twice are never the same samples: a state that did not fit would leave nothing alike.
            assert!(
                difference < energy(before) / 4.0,
                "{difference} of {}",
                energy(before)
            );
            let loudest = |samples: &[i16]| samples.iter().map(|s| s.unsigned_abs()).max();
            assert!(loudest(&after[..1_600]) <= loudest(&before[..1_600]).map(|it| 2 * it + 200));
        }
    }

    #[test]
    fn opus_holds_its_bit_rate_and_its_bound() {
        for (reports, least, most) in [(&[][..], 26_000, 38_000), (&[0], 40_000, 52_000)] {
            let speech = encoded_by(&mut opus_after(reports), &voice_at_16_khz(10.0));
            let bits = speech.iter().map(Vec::len).sum::<usize>() * 8 / 10;
            assert!((least..most).contains(&bits), "{bits}");
            let longest = encoded_by(&mut opus_after(reports), &noise(i16::MAX, 160_000));
            assert!(
                longest
                    .iter()
                    .all(|payload| payload.len() <= MAX_PAYLOAD_BYTES)
            );
        }
    }

    #[test]
    fn stereo_opus_is_mixed_down() {
        let stereo = audiopus::coder::Encoder::new(
            audiopus::SampleRate::Hz48000,
            audiopus::Channels::Stereo,
            audiopus::Application::Audio,
        )
        .unwrap();
        let left = tone(48_000, 440.0, 8_000, 1.0);
        let (mut decoder, mut pcm) = (Decoder::new(Codec::Opus), Vec::new());
        for frame in left.chunks(960) {
            let interleaved: Vec<i16> = frame.iter().flat_map(|left| [*left, 0]).collect();
            let mut out = [0; 1_500];
            let bytes = stereo.encode(&interleaved, &mut out).unwrap();
            decoder.decode(&out[..bytes], &mut pcm);
        }
        assert_eq!(pcm.len(), 16_000);
        let level = tone_level(16_000, 440.0, &pcm[1_600..]);
        assert!((3_500.0..4_500.0).contains(&level), "{level}");
    }

    #[test]
    fn after_a_cut_an_encoder_knows_no_more_than_a_new_one() {
        // G.722 is not among them: see its `reset`.
        let pairs = encoders().into_iter().zip(encoders());
        for (mut cut, mut new) in pairs.filter(|(it, _)| it.codec != Codec::G722) {
            let codec = cut.codec;
            let rate = codec.sample_rate();
            let (mut ours, mut theirs) = ([0; MAX_PAYLOAD_BYTES], [0; MAX_PAYLOAD_BYTES]);
            for frame in voice(8_000).chunks_exact(rate.frame_samples()) {
                cut.encode(&Frame::new(rate, frame), &mut ours);
            }
            cut.reset();
            new.reset();
            for frame in tone(rate.hz(), 440.0, 8_000, 0.2).chunks(rate.frame_samples()) {
                let frame = Frame::new(rate, frame);
                let bytes = cut.encode(&frame, &mut ours);
                assert_eq!(bytes, new.encode(&frame, &mut theirs), "{codec:?}");
                assert_eq!(ours[..bytes], theirs[..bytes], "{codec:?}");
            }
        }
    }

    #[test]
    fn after_a_cut_the_far_end_falls_silent_within_5_ms() {
        for mut encoder in encoders() {
            let codec = encoder.codec;
            let (rate, mut decoder) = (codec.sample_rate(), Decoder::new(codec));
            say(
                &mut encoder,
                &mut decoder,
                &tone(rate.hz(), 440.0, 20_000, 0.5),
            );
            encoder.reset();
            let after = say(
                &mut encoder,
                &mut decoder,
                &vec![0; rate.frame_samples() * 10],
            );
            // The first milliseconds are those that the far end's own filters still hold.
            let loudest = after[rate.frame_samples() / 4..]
                .iter()
                .map(|sample| sample.unsigned_abs())
                .max();
            assert!(loudest < Some(100), "{codec:?}: {loudest:?}");
        }
    }

    #[test]
    fn after_a_cut_the_next_prompt_does_not_begin_with_a_crack() {
        for mut encoder in encoders() {
            let codec = encoder.codec;
            let (rate, mut decoder) = (codec.sample_rate(), Decoder::new(codec));
            say(
                &mut encoder,
                &mut decoder,
                &tone(rate.hz(), 440.0, 20_000, 0.5),
            );
            encoder.reset();
            let after = say(
                &mut encoder,
                &mut decoder,
                &tone(rate.hz(), 700.0, 2_000, 0.2),
            );
            let loudest = after[rate.frame_samples() / 4..]
                .iter()
                .map(|sample| sample.unsigned_abs())
                .max();
            assert!(loudest < Some(2_600), "{codec:?}: {loudest:?}");
        }
    }

    #[test]
    fn a_payload_lasts_120_ms_at_most() {
        for codec in Codec::ALL {
            let (mut decoder, mut pcm) = (Decoder::new(codec), Vec::new());
            decoder.decode(&[0xFF; 65_000], &mut pcm);
            assert!(pcm.len() <= codec.sample_rate().hz() as usize * 120 / 1_000);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_a_gap_is_filled_to_the_sample(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            gap in 0_usize..5_000,
        ) {
            for codec in Codec::ALL {
                let mut decoder = Decoder::new(codec);
                for payload in &payloads {
                    let mut pcm = Vec::new();
                    decoder.decode(payload, &mut pcm);
                    prop_assert!(pcm.len() <= 1_920);
                    let before = pcm.len();
                    decoder.conceal(gap, Some(payload), &mut pcm);
                    prop_assert_eq!(pcm.len(), before + gap);
                }
            }
        }
    }

    fn encoded(codec: Codec, samples: &[i16]) -> Vec<Vec<u8>> {
        encoded_by(&mut Encoder::new(codec, 5), samples)
    }

    fn encoded_by(encoder: &mut Encoder, samples: &[i16]) -> Vec<Vec<u8>> {
        let rate = encoder.codec.sample_rate();
        let mut out = [0; MAX_PAYLOAD_BYTES];
        samples
            .chunks(rate.frame_samples())
            .map(|frame| {
                let bytes = encoder.encode(&Frame::new(rate, frame), &mut out);
                out[..bytes].to_vec()
            })
            .collect()
    }

    /// One of each kind, and of Opus one for each kind of line.
    fn encoders() -> Vec<Encoder> {
        let new = Codec::ALL.map(|codec| Encoder::new(codec, 5));
        new.into_iter().chain([opus_after(&[0])]).collect()
    }

    /// An encoder whose peer has sent these reports.
    fn opus_after(reports: &[u8]) -> Encoder {
        let mut encoder = Encoder::new(Codec::Opus, 5);
        for fraction_lost in reports {
            encoder.heed_loss(*fraction_lost);
        }
        encoded_by(&mut encoder, &[0; 320]);
        encoder
    }

    /// What the far end hears of `samples`.
    fn say(encoder: &mut Encoder, decoder: &mut Decoder, samples: &[i16]) -> Vec<i16> {
        let rate = encoder.codec.sample_rate();
        let (mut payload, mut pcm) = ([0; MAX_PAYLOAD_BYTES], Vec::new());
        for frame in samples.chunks(rate.frame_samples()) {
            let bytes = encoder.encode(&Frame::new(rate, frame), &mut payload);
            decoder.decode(&payload[..bytes], &mut pcm);
        }
        pcm
    }

    fn decoded(codec: Codec, payloads: &[Vec<u8>], is_lost: impl Fn(usize) -> bool) -> Vec<i16> {
        let mut decoder = Decoder::new(codec);
        let mut pcm = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            if is_lost(i) {
                let next = payloads.get(i + 1).filter(|_| !is_lost(i + 1));
                decoder.conceal(
                    codec.sample_rate().frame_samples(),
                    next.map(Vec::as_slice),
                    &mut pcm,
                );
            } else {
                decoder.decode(payload, &mut pcm);
            }
        }
        pcm
    }

    fn voice_at_16_khz(seconds: f64) -> Vec<i16> {
        // Doubling by straight lines is good enough for an ear that only compares.
        let narrow = voice((seconds * 8_000.0) as usize + 1);
        narrow
            .windows(2)
            .flat_map(|two| [two[0], two[0].midpoint(two[1])])
            .collect()
    }
}
