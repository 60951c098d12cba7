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
/// Bits per second: PESQ (ITU-T P.862.2) of two synthetic voices is 3.7 and 4.3 with it at complexity 5. CELT alone would take a
/// third of the time and as good a grade at twice the bits, but over its echo callers were understood less often.
const BITS_PER_SECOND: i32 = 24_000;
/// As good with the copy of the last packet that error correction carries. Below some 25 kb/s libopus leaves that copy out.
const ARMED_BITS_PER_SECOND: i32 = 36_000;
/// The least that libopus can be set to, in bits per second.
const LEAST_BITS: i32 = 6_000;
/// The loss that the encoder arms against: what a bad line has and a good one does not suffer from. Above 5 % libopus
/// would give up bandwidth for the copy.
const EXPECTED_LOSS_PERCENT: u8 = 5;
/// Reports in a row that tell of no loss after which a line that has lost packets is taken for a clean one, and the copy is
/// left out: it takes a quarter of an encoder's time.
const CLEAN_REPORTS: u32 = 3;
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
/// The longest packet of silence that is kept. libopus writes 7 to 8 bytes.
const SILENCE_BYTES: usize = 32;

/// One direction's encoder.
///
/// Agents are silent for half of a call, and libopus takes as long over silence as over speech (200 µs a frame at
/// complexity 5, which would be 1 % of a core): so after half a second of it the same packet is sent again and again.
///
/// It arms against loss until the peer has told several times that there is none, and again at the first that there is.
pub(super) struct Encoder {
    coder: coder::Encoder,
    /// What the peer wants at most, in bits per second.
    most_bits: i32,
    /// Reports in a row that tell of no loss.
    clean_reports: u32,
    /// In a row.
    silent_frames: u32,
    silence: [u8; SILENCE_BYTES],
    /// 0 if it does not fit.
    silence_bytes: usize,
}

impl Encoder {
    /// An encoder at its beginning. `complexity` is 0–10; more is taken for 10.
    pub(super) fn new(complexity: u8) -> Self {
        let mut encoder = coder::Encoder::new(RATE, Channels::Mono, Application::Voip)
            .expect("libopus refuses an encoder only when there is no memory");
        let set = encoder
            .set_complexity(complexity.min(10))
            .and_then(|()| encoder.set_signal(Signal::Voice))
            .and_then(|()| encoder.enable_inband_fec());
        set.expect("every setting is inside the range that libopus documents");
        let mut encoder = Self {
            coder: encoder,
            most_bits: i32::MAX,
            // Most lines are clean, and the first report says so.
            clean_reports: CLEAN_REPORTS - 1,
            silent_frames: 0,
            silence: [0; SILENCE_BYTES],
            silence_bytes: 0,
        };
        encoder.arm(true);
        encoder
    }

    /// Sends no more than so many bits per second, on average.
    pub(super) fn limit(&mut self, bits_per_second: u32) {
        self.most_bits = bits_per_second.try_into().unwrap_or(i32::MAX);
        self.arm(self.clean_reports < CLEAN_REPORTS);
    }

    /// Heeds a report of the peer: the share of our packets that were lost since its last one.
    pub(super) fn heed_loss(&mut self, fraction_lost: u8) {
        let was_armed = self.clean_reports < CLEAN_REPORTS;
        self.clean_reports = if fraction_lost > 0 {
            0
        } else {
            self.clean_reports.saturating_add(1)
        };
        let is_armed = self.clean_reports < CLEAN_REPORTS;
        if is_armed != was_armed {
            self.arm(is_armed);
        }
    }

    fn arm(&mut self, against_loss: bool) {
        let (bits, loss) = if against_loss {
            (ARMED_BITS_PER_SECOND, EXPECTED_LOSS_PERCENT)
        } else {
            (BITS_PER_SECOND, 0)
        };
        let bits = bits.min(self.most_bits).max(LEAST_BITS);
        let set = self.coder.set_bitrate(Bitrate::BitsPerSecond(bits));
        set.and_then(|()| self.coder.set_packet_loss_perc(loss))
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
            return self.coder.encode(&whole, out).unwrap_or(0);
        }
        let is_settled = self.silent_frames >= SETTLED;
        if is_settled && let Some(silence) = self.silence().filter(|it| it.len() <= out.len()) {
            out[..silence.len()].copy_from_slice(silence);
            return silence.len();
        }
        self.silent_frames += 1;
        let bytes = self.coder.encode(&whole, out).unwrap_or(0);
        self.silence_bytes = if bytes <= SILENCE_BYTES { bytes } else { 0 };
        self.silence[..self.silence_bytes].copy_from_slice(&out[..self.silence_bytes]);
        bytes
    }

    /// Forgets what was said: the samples that wait in the filters, and the last frame, which the next packet would carry
    /// again for error correction.
    pub(super) fn reset(&mut self) {
        self.coder
            .reset_state()
            .expect("an encoder can always be reset");
        self.silent_frames = 0;
    }

    /// The last packet of silence.
    fn silence(&self) -> Option<&[u8]> {
        (self.silence_bytes > 0).then(|| &self.silence[..self.silence_bytes])
    }
}
