//! Opus (RFC 6716) by libopus, decoded and encoded at 16 kHz mono straight away, which spares a resampler.
//!
//! We always send packets of one frame of 20 ms, whatever `ptime` the peer asks for: 20 ms is the format's own default
//! (RFC 7587 §6.1), every receiver must take it, and its forward error correction reaches back one packet. What comes in
//! may last anything up to 120 ms, and may be stereo: libopus mixes it down.

use audiopus::Application;
use audiopus::Bitrate;
use audiopus::Channels;
use audiopus::SampleRate;
use audiopus::Signal;
use audiopus::coder;
use audiopus::coder::GenericCtl;
use audiopus::packet;

use crate::frame::MAX_FRAME_SAMPLES;

const RATE: SampleRate = SampleRate::Hz16000;
/// What the encoder is set to.
///
/// At complexity 5 each sounds as good as the others (PESQ, ITU-T P.862.2: 3.7 for espeak-ng, 4.3 for flite), and a frame takes
/// 80 µs in CELT and 200 to 260 µs in SILK: what CELT saves in time it costs in bits.
struct Tuning {
    application: Application,
    /// Bits per second. Voice over IP has both below 64 kb/s plus the same of headers.
    bits: i32,
    /// Against which every packet carries a copy of the one before, in percent.
    loss: u8,
}

/// Where nothing is lost. CELT alone, which looks 2.5 ms ahead instead of 6.5 but cannot carry copies.
const CLEAN: Tuning = Tuning {
    application: Application::LowDelay,
    bits: 48_000,
    loss: 0,
};
/// Where packets are lost. libopus leaves the copy out below some 25 kb/s, and gives up bandwidth for it above 5 %.
const LOSSY: Tuning = Tuning {
    application: Application::Voip,
    bits: 36_000,
    loss: 5,
};
/// Where nothing is lost and the peer has no use for more (RFC 7587 §3.1.1: 16 to 20 kb/s are the sweet spot of wideband speech).
const FRUGAL: Tuning = Tuning {
    application: Application::Voip,
    bits: 24_000,
    loss: 0,
};
/// Reports in a row that tell of no loss after which a line that has lost packets is taken for a clean one.
const CLEAN_REPORTS: u32 = 3;
/// The least that libopus can be set to, in bits per second.
const LEAST_BITS: i32 = 6_000;
/// Missing sound is made up in steps of 2.5 ms: libopus refuses anything else.
const CONCEALMENT_STEP: usize = 40;
/// 120 ms: the longest packet (RFC 6716 §3.1), and as much as libopus makes up at once.
const LONGEST_PACKET: usize = 1_920;

/// One direction's decoder.
pub(super) struct Decoder(coder::Decoder);

impl Decoder {
    /// A decoder at its beginning.
    pub(super) fn new() -> Self {
        Self(
            coder::Decoder::new(RATE, Channels::Mono)
                .expect("libopus refuses a decoder only when there is no memory"),
        )
    }

    /// Appends the samples of one packet; a damaged one appends nothing.
    pub(super) fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) {
        if let Ok(samples) = packet::nb_samples(payload, RATE) {
            self.append(Some(payload), samples.min(LONGEST_PACKET), false, pcm);
        }
    }

    /// Appends `samples` in place of lost ones. The end of the gap is taken from `next` if that carries it.
    pub(super) fn conceal(&mut self, samples: usize, next: Option<&[u8]>, pcm: &mut Vec<i16>) {
        let end = pcm.len() + samples;
        while end - pcm.len() >= CONCEALMENT_STEP {
            let left = end - pcm.len();
            let step = left.min(LONGEST_PACKET) / CONCEALMENT_STEP * CONCEALMENT_STEP;
            let is_last = left - step < CONCEALMENT_STEP;
            // libopus itself makes up what comes before the part that `next` carries.
            let next = next.filter(|payload| is_last && !payload.is_empty());
            let before = pcm.len();
            self.append(next, step, next.is_some(), pcm);
            if pcm.len() == before {
                // `next` was damaged.
                self.append(None, step, false, pcm);
            }
            if pcm.len() == before {
                break;
            }
        }
        // No more than one step is left, unless libopus failed.
        pcm.resize(end, 0);
    }

    /// Decodes into `samples` more of `pcm`; on an error `pcm` is as before.
    fn append(
        &mut self,
        payload: Option<&[u8]>,
        samples: usize,
        error_correction: bool,
        pcm: &mut Vec<i16>,
    ) {
        let before = pcm.len();
        pcm.resize(before + samples, 0);
        let decoded = self
            .0
            .decode(payload, &mut pcm[before..], error_correction)
            .unwrap_or(0);
        pcm.truncate(before + decoded);
    }
}

/// Silent frames that are encoded before the last of their packets is sent again for those that follow: by then the
/// encoder has nothing left to say.
const SETTLED: u32 = 25;
/// The longest packet of silence that is kept. libopus writes 8 bytes at most.
const SILENCE_BYTES: usize = 32;

/// One direction's encoder.
///
/// Agents are silent for half of a call, and libopus takes as long over silence as over speech: so after half a second of it
/// the same packet is sent again and again.
///
/// It arms against loss until the peer's first report, and goes on if that tells of some; from then on until several in a
/// row tell of none, and again at the first that does.
pub(super) struct Encoder {
    coder: coder::Encoder,
    application: Application,
    /// What the peer wants at most, in bits per second.
    most_bits: i32,
    /// Whether packets carry copies, if the bits suffice.
    is_armed: bool,
    /// Reports in a row that tell of no loss.
    clean_reports: u32,
    /// Whether the next packet is the first after a reset, and may rely on none before.
    is_at_beginning: bool,
    /// In a row.
    silent_frames: u32,
    silence: [u8; SILENCE_BYTES],
    /// 0 if it does not fit.
    silence_bytes: usize,
}

impl Encoder {
    /// An encoder at its beginning. `complexity` is 0–10; more is taken for 10.
    pub(super) fn new(complexity: u8) -> Self {
        let mut encoder = coder::Encoder::new(RATE, Channels::Mono, LOSSY.application)
            .expect("libopus refuses an encoder only when there is no memory");
        let set = encoder
            .set_complexity(complexity.min(10))
            .and_then(|()| encoder.set_signal(Signal::Voice))
            .and_then(|()| encoder.enable_inband_fec());
        set.expect("every setting is inside the range that libopus documents");
        let mut encoder = Self {
            coder: encoder,
            application: LOSSY.application,
            most_bits: i32::MAX,
            is_armed: true,
            // Most lines are clean, and the first report says so.
            clean_reports: CLEAN_REPORTS - 1,
            is_at_beginning: false,
            silent_frames: 0,
            silence: [0; SILENCE_BYTES],
            silence_bytes: 0,
        };
        encoder.tune();
        encoder
    }

    /// Sends no more than so many bits per second, on average.
    pub(super) fn limit(&mut self, bits_per_second: u32) {
        self.most_bits = bits_per_second.try_into().unwrap_or(i32::MAX);
        self.tune();
    }

    /// Heeds a report of the peer: the share of our packets that were lost since its last one.
    pub(super) fn heed_loss(&mut self, fraction_lost: u8) {
        if fraction_lost == 0 {
            self.clean_reports = self.clean_reports.saturating_add(1);
            return;
        }
        self.clean_reports = 0;
        if !self.is_armed {
            self.is_armed = true;
            // Should it be in the middle of a word, a click is nothing to what is lost.
            self.tune();
        }
    }

    /// Sets libopus for the line as it is known. For another application it begins anew, or would not take to it.
    fn tune(&mut self) {
        let tuning = if self.is_armed {
            LOSSY
        } else if self.most_bits < CLEAN.bits {
            FRUGAL
        } else {
            CLEAN
        };
        if self.application != tuning.application {
            self.application = tuning.application;
            self.reset();
        }
        let bits = tuning.bits.min(self.most_bits).max(LEAST_BITS);
        self.coder
            .set_application(tuning.application)
            .and_then(|()| self.coder.set_bitrate(Bitrate::BitsPerSecond(bits)))
            .and_then(|()| self.coder.set_packet_loss_perc(tuning.loss))
            .expect("every setting is inside the range that libopus documents");
    }

    /// Writes one packet of 20 ms to the front of `out` and says how many bytes it has; a short frame is filled with
    /// silence. 0 if libopus fails, which nothing that we give it can cause.
    pub(super) fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> usize {
        let mut whole = [0; MAX_FRAME_SAMPLES];
        let given = samples.len().min(whole.len());
        whole[..given].copy_from_slice(&samples[..given]);
        if whole.iter().any(|sample| *sample != 0) {
            self.silent_frames = 0;
            return self.encode_whole(&whole, out);
        }
        if self.is_armed && self.clean_reports >= CLEAN_REPORTS {
            self.is_armed = false;
            // In silence nobody hears the change.
            self.tune();
        }
        let is_settled = self.silent_frames >= SETTLED;
        if is_settled && let Some(silence) = self.silence().filter(|it| it.len() <= out.len()) {
            out[..silence.len()].copy_from_slice(silence);
            return silence.len();
        }
        self.silent_frames += 1;
        let bytes = self.encode_whole(&whole, out);
        self.silence_bytes = if bytes <= SILENCE_BYTES { bytes } else { 0 };
        self.silence[..self.silence_bytes].copy_from_slice(&out[..self.silence_bytes]);
        bytes
    }

    /// Forgets what was said: the samples that wait in the filters, and the last frame, which the next packet would carry
    /// again for error correction.
    pub(super) fn reset(&mut self) {
        // The far end's decoder has not forgotten, and must not add its own past to what comes next.
        self.coder
            .reset_state()
            .and_then(|()| self.coder.set_prediction_disabled(true))
            .expect("an encoder can always be reset");
        self.is_at_beginning = true;
        self.silent_frames = 0;
    }

    fn encode_whole(&mut self, samples: &[i16; MAX_FRAME_SAMPLES], out: &mut [u8]) -> usize {
        let bytes = self.coder.encode(samples, out).unwrap_or(0);
        if self.is_at_beginning {
            self.is_at_beginning = false;
            self.coder
                .set_prediction_disabled(false)
                .expect("every setting is inside the range that libopus documents");
        }
        bytes
    }

    /// The last packet of silence.
    fn silence(&self) -> Option<&[u8]> {
        (self.silence_bytes > 0).then(|| &self.silence[..self.silence_bytes])
    }
}
