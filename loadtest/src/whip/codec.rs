//! The codecs of a browser. Lines carry mu-law, so a frame is converted at the edge: to A-law, or by libopus at 8 kHz.
//!
//! A browser codes 48 kHz, of which the gateway makes 16; narrow Opus is as good a test of transport, timing and turns, and a fraction of
//! the cost. Opus adds 6.5 ms to what the caller says (its look-ahead), and again to what comes back.

use audiopus::Application;
use audiopus::Bitrate;
use audiopus::Channels;
use audiopus::SampleRate;
use audiopus::Signal;
use audiopus::coder::Decoder;
use audiopus::coder::Encoder;
use serde::Deserialize;

use crate::alaw;
use crate::mulaw;

const RATE: SampleRate = SampleRate::Hz8000;
/// Ample for narrow-band speech (RFC 7587 §3.1.1 has 8 to 12 kb/s).
const BITS_PER_SECOND: i32 = 16_000;
/// The longest packet: 120 ms (RFC 6716 §3.1).
const LONGEST_PACKET: usize = mulaw::FRAME * 6;
/// Room for any packet of 20 ms that the bit rate allows, many times over.
const PACKET: usize = 400;

/// What the caller speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Codec {
    /// RFC 7587, as browsers prefer.
    #[default]
    Opus,
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl Codec {
    /// Its name in a session description.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Its number in our offer, the one that browsers use.
    pub(super) fn payload_type(self) -> u8 {
        match self {
            Self::Opus => 111,
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    /// The number of the events that have its clock.
    pub(super) fn events(self) -> u8 {
        match self {
            Self::Opus => 110,
            Self::Pcmu | Self::Pcma => 126,
        }
    }

    /// Ticks of its RTP clock in a second. That of Opus runs at 48 kHz whatever is coded (RFC 7587 §4.1).
    pub(super) fn clock(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => mulaw::SAMPLE_RATE,
        }
    }

    /// Ticks of its clock in 20 ms.
    pub(super) fn step(self) -> u16 {
        match self {
            Self::Opus => 960,
            Self::Pcmu | Self::Pcma => 160,
        }
    }

    /// Its channels in a session description, where 0 says nothing. Opus has two there whatever is coded (RFC 7587 §7).
    pub(super) fn channels(self) -> u16 {
        match self {
            Self::Opus => 2,
            Self::Pcmu | Self::Pcma => 0,
        }
    }

    /// Its `fmtp`.
    pub(super) fn parameters(self) -> &'static str {
        match self {
            Self::Opus => "minptime=10;useinbandfec=1",
            Self::Pcmu | Self::Pcma => "",
        }
    }
}

/// Both directions of one call.
pub(super) enum Coder {
    Opus(Box<Opus>),
    Pcmu,
    Pcma,
}

/// libopus, and the clock that it makes necessary.
pub(super) struct Opus {
    encoder: Encoder,
    decoder: Decoder,
    heard: Box<[i16; LONGEST_PACKET]>,
    clock: Option<Clock>,
}

/// A timestamp of 32 bits without its wraps. A sixth of it could not be told from its neighbours otherwise.
#[derive(Debug, Clone, Copy)]
struct Clock {
    last: u32,
    ticks: i64,
}

impl Coder {
    pub(super) fn new(codec: Codec) -> Self {
        match codec {
            Codec::Opus => Self::Opus(Box::new(Opus::new())),
            Codec::Pcmu => Self::Pcmu,
            Codec::Pcma => Self::Pcma,
        }
    }

    /// Writes a frame as the codec has it.
    pub(super) fn append(&mut self, frame: &[u8; mulaw::FRAME], packet: &mut Vec<u8>) {
        match self {
            Self::Opus(opus) => opus.append(frame, packet),
            Self::Pcmu => packet.extend(frame),
            Self::Pcma => packet.extend(frame.iter().map(|&byte| alaw::from_mulaw(byte))),
        }
    }

    /// A packet's audio as mu-law, and its timestamp at 8 kHz; `None` if it is damaged.
    pub(super) fn read(&mut self, payload: &[u8], timestamp: u32) -> Option<(Vec<u8>, u32)> {
        match self {
            Self::Opus(opus) => opus.read(payload, timestamp),
            Self::Pcmu => Some((payload.to_vec(), timestamp)),
            Self::Pcma => Some((
                payload.iter().map(|&byte| alaw::to_mulaw(byte)).collect(),
                timestamp,
            )),
        }
    }
}

impl Opus {
    fn new() -> Self {
        let mut encoder = Encoder::new(RATE, Channels::Mono, Application::Voip)
            .expect("libopus refuses an encoder only when there is no memory");
        // The cheapest: a load shares its machine with what it measures.
        let set = encoder
            .set_complexity(0)
            .and_then(|()| encoder.set_bitrate(Bitrate::BitsPerSecond(BITS_PER_SECOND)))
            .and_then(|()| encoder.set_signal(Signal::Voice));
        set.expect("every setting is inside the range that libopus documents");
        Self {
            encoder,
            decoder: Decoder::new(RATE, Channels::Mono)
                .expect("libopus refuses a decoder only when there is no memory"),
            heard: Box::new([0; LONGEST_PACKET]),
            clock: None,
        }
    }

    fn append(&mut self, frame: &[u8; mulaw::FRAME], packet: &mut Vec<u8>) {
        let samples = frame.map(mulaw::decode);
        let header = packet.len();
        packet.resize(header + PACKET, 0);
        let length = self
            .encoder
            .encode(&samples, &mut packet[header..])
            .expect("libopus encodes any 20 ms");
        packet.truncate(header + length);
    }

    fn read(&mut self, payload: &[u8], timestamp: u32) -> Option<(Vec<u8>, u32)> {
        // libopus would take an empty packet for a lost one.
        let packet = Some(payload).filter(|payload| !payload.is_empty())?;
        let decoded = self
            .decoder
            .decode(Some(packet), &mut self.heard[..], false)
            .ok()?;
        let audio = self.heard[..decoded].iter();
        let audio = audio.map(|&sample| mulaw::encode(sample)).collect();
        let clock = self.clock.get_or_insert(Clock {
            last: timestamp,
            ticks: i64::from(timestamp),
        });
        let ratio = i64::from(Codec::Opus.clock() / mulaw::SAMPLE_RATE);
        Some((audio, clock.advance(timestamp).div_euclid(ratio) as u32))
    }
}

impl Clock {
    /// The timestamp's place; a difference beyond half of the range is one backwards.
    fn advance(&mut self, timestamp: u32) -> i64 {
        self.ticks += i64::from(timestamp.wrapping_sub(self.last).cast_signed());
        self.last = timestamp;
        self.ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_survives_each_codec() {
        for codec in [Codec::Opus, Codec::Pcmu, Codec::Pcma] {
            let mut coder = Coder::new(codec);
            let mut heard = Vec::new();
            for index in 0..25_u32 {
                let frame = std::array::from_fn(|place| {
                    let phase = f64::from(index * 160 + place as u32) * 0.6;
                    mulaw::encode((phase.sin() * 8000.0) as i16)
                });
                let mut packet = Vec::new();
                coder.append(&frame, &mut packet);
                let timestamp = index * u32::from(codec.step());
                let (audio, at) = coder.read(&packet, timestamp).expect("a good packet");
                assert_eq!((audio.len(), at), (160, index * 160), "{codec:?}");
                heard.extend(audio.into_iter().map(mulaw::decode));
            }
            let energy: f64 = heard[800..]
                .iter()
                .map(|&sample| f64::from(sample).powi(2))
                .sum();
            let level = (energy / 3200.0).sqrt() / (8000.0 / 2_f64.sqrt());
            assert!((0.8..1.2).contains(&level), "{codec:?}: {level}");
        }
    }

    #[test]
    fn timestamps_go_on_over_their_wrap() {
        let mut coder = Coder::new(Codec::Opus);
        let mut packet = Vec::new();
        coder.append(&[mulaw::SILENCE; mulaw::FRAME], &mut packet);
        let first = u32::MAX - 1000;
        let places: Vec<u32> = [0_u32, 960, 1920, 960, 2880]
            .iter()
            .map(|step| {
                let (_, at) = coder
                    .read(&packet, first.wrapping_add(*step))
                    .expect("a good packet");
                at.wrapping_sub(first / 6)
            })
            .collect();
        assert_eq!(places, [0, 160, 320, 160, 480]);
    }

    #[test]
    fn a_damaged_packet_is_told() {
        let mut coder = Coder::new(Codec::Opus);
        assert!(coder.read(&[], 0).is_none());
        // Code 3 without the byte that counts its frames (RFC 6716 §3.2.5).
        assert!(coder.read(&[0x03], 0).is_none());
    }
}
