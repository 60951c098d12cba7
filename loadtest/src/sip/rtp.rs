//! RTP as a telephone sends and reads it: frames of 20 ms, keys as RFC 4733 events in their place.

use std::collections::VecDeque;

use super::sdp::Codec;
use crate::alaw;
use crate::mulaw;
use crate::playout::Packet;

/// A header without contributing sources or extension.
const HEADER: usize = 12;
/// Updates of a key that is held down, one a frame: 100 ms, as a short press is.
const UPDATES: u16 = 5;
/// How often the end of a key is told, since a lost end would hold the key down (RFC 4733 §2.5.1.4).
const ENDS: u16 = 3;
/// −10 dBm0, as telephones send keys.
const VOLUME: u8 = 10;
/// Comfort noise (RFC 3389).
const COMFORT_NOISE: u8 = 13;

/// What we send: one packet a tick.
#[derive(Debug)]
pub(super) struct Sender {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// The next packet of audio begins a talk: it is the first, or the first after a key.
    talk_begins: bool,
    keys: VecDeque<u8>,
    key: Option<Key>,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    event: u8,
    /// All packets of one key carry the moment it was pressed.
    pressed: u32,
    sent: u16,
}

impl Sender {
    /// Begins at an unforeseeable number and time (RFC 3550 §5.1).
    pub(super) fn new(random: u64) -> Self {
        Self {
            ssrc: (random >> 32) as u32,
            sequence: (random >> 16) as u16,
            timestamp: random as u32,
            talk_begins: true,
            keys: VecDeque::new(),
            key: None,
        }
    }

    /// A key will be pressed when those before it are done; `false` if it has no event.
    pub(super) fn press(&mut self, key: char) -> bool {
        let event = event_of(key);
        self.keys.extend(event);
        event.is_some()
    }

    /// The packet of the next 20 ms: the frame, or in its place what a pressed key says.
    pub(super) fn packet(
        &mut self,
        frame: &[u8; mulaw::FRAME],
        codec: Codec,
        events: Option<u8>,
    ) -> Vec<u8> {
        if self.key.is_none() {
            self.key = self.keys.pop_front().map(|event| Key {
                event,
                pressed: self.timestamp,
                sent: 0,
            });
        }
        let packet = match (events, self.key.take()) {
            (Some(payload_type), Some(key)) => self.event(payload_type, key),
            _ => self.audio(frame, codec),
        };
        self.pass();
        packet
    }

    /// 20 ms go by without a packet.
    pub(super) fn pass(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(mulaw::FRAME as u32);
    }

    fn audio(&mut self, frame: &[u8; mulaw::FRAME], codec: Codec) -> Vec<u8> {
        let begins = std::mem::take(&mut self.talk_begins);
        let mut packet = self.header(codec.payload_type(), begins, self.timestamp);
        match codec {
            Codec::Pcmu => packet.extend(frame),
            Codec::Pcma => packet.extend(frame.iter().map(|&byte| alaw::from_mulaw(byte))),
        }
        packet
    }

    fn event(&mut self, payload_type: u8, key: Key) -> Vec<u8> {
        let mut packet = self.header(payload_type, key.sent == 0, key.pressed);
        let ended = key.sent >= UPDATES;
        let duration = (key.sent + 1).min(UPDATES) * mulaw::FRAME as u16;
        let end_and_volume = if ended { 0x80 | VOLUME } else { VOLUME };
        packet.extend([key.event, end_and_volume]);
        packet.extend(duration.to_be_bytes());
        self.talk_begins = true;
        let sent = key.sent + 1;
        self.key = (sent < UPDATES + ENDS).then_some(Key { sent, ..key });
        packet
    }

    fn header(&mut self, payload_type: u8, marker: bool, timestamp: u32) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER + mulaw::FRAME);
        packet.extend([0x80, payload_type | if marker { 0x80 } else { 0 }]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

/// What a datagram holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Audio(Packet),
    /// Something that is no audio and may be there: events, comfort noise, RTCP.
    Other,
    /// No RTP, or a payload that was not agreed.
    Improper(&'static str),
}

/// Reads a datagram (RFC 3550 §5.1); `events` is our number for them.
pub(super) fn read(datagram: &[u8], events: u8) -> Received {
    let Some(&[first, second, high, low, ..]) = datagram.first_chunk::<HEADER>() else {
        return Received::Improper("a datagram too short for RTP");
    };
    if first >> 6 != 2 {
        return Received::Improper("a datagram that is not RTP version 2");
    }
    // RTCP's types 200 to 207 are 72 to 79 with the marker (RFC 5761 §4).
    if (192..=223).contains(&second) {
        return Received::Other;
    }
    let payload_type = second & 0x7f;
    let Some(codec) = Codec::of(payload_type) else {
        return if payload_type == events || payload_type == COMFORT_NOISE {
            Received::Other
        } else {
            Received::Improper("a payload type that was not agreed")
        };
    };
    let Some(payload) = payload(datagram, first) else {
        return Received::Improper("an RTP header longer than its packet");
    };
    let word = |at: usize| {
        u32::from_be_bytes(
            datagram[at..at + 4]
                .try_into()
                .expect("the header has 12 bytes"),
        )
    };
    Received::Audio(Packet {
        ssrc: word(8),
        sequence: u16::from_be_bytes([high, low]),
        timestamp: word(4),
        audio: match codec {
            Codec::Pcmu => payload.to_vec(),
            Codec::Pcma => payload.iter().map(|&byte| alaw::to_mulaw(byte)).collect(),
        },
    })
}

/// The payload without contributing sources, extension and padding.
fn payload(datagram: &[u8], first: u8) -> Option<&[u8]> {
    let mut rest = datagram.get(HEADER + 4 * usize::from(first & 0x0f)..)?;
    if first & 0x10 != 0 {
        let words = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
        rest = rest.get(4 + 4 * usize::from(words)..)?;
    }
    if first & 0x20 != 0 {
        let padding = usize::from(*rest.last()?);
        rest = rest.get(..rest.len().checked_sub(padding)?)?;
    }
    Some(rest)
}

/// RFC 4733 §3.2.
fn event_of(key: char) -> Option<u8> {
    match key {
        '0'..='9' => Some(key as u8 - b'0'),
        '*' => Some(10),
        '#' => Some(11),
        'A'..='D' => Some(12 + key as u8 - b'A'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: [u8; mulaw::FRAME] = [mulaw::SILENCE; mulaw::FRAME];

    #[test]
    fn a_frame_survives_either_codec() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let mut sender = Sender::new(0x0000_0001_0002_0003);
            let frame = [mulaw::encode(4000); mulaw::FRAME];
            let Received::Audio(packet) = read(&sender.packet(&frame, codec, None), 101) else {
                panic!("no audio");
            };
            assert_eq!(
                (packet.ssrc, packet.sequence, packet.timestamp),
                (1, 2, 0x0002_0003)
            );
            let heard = f64::from(mulaw::decode(packet.audio[0]));
            assert!((heard / 4000.0 - 1.0).abs() < 0.05, "{codec:?}: {heard}");
        }
    }

    #[test]
    fn a_key_is_told_while_it_is_down_and_three_times_at_its_end() {
        let mut sender = Sender::new(0);
        assert!(sender.press('#'));
        let packets: Vec<Vec<u8>> = (0..9)
            .map(|_| sender.packet(&QUIET, Codec::Pcmu, Some(96)))
            .collect();
        let told: Vec<(bool, u8, bool, u16)> = packets[..8]
            .iter()
            .map(|packet| {
                assert_eq!((packet[1] & 0x7f, packet.len()), (96, 16));
                assert_eq!(packet[4..8], [0; 4], "the moment it was pressed");
                let duration = u16::from_be_bytes([packet[14], packet[15]]);
                (
                    packet[1] & 0x80 != 0,
                    packet[12],
                    packet[13] & 0x80 != 0,
                    duration,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (true, 11, false, 160),
                (false, 11, false, 320),
                (false, 11, false, 480),
                (false, 11, false, 640),
                (false, 11, false, 800),
                (false, 11, true, 800),
                (false, 11, true, 800),
                (false, 11, true, 800),
            ]
        );
        assert_eq!(packets[8][1], 0x80, "audio again, a talk begins");
        assert_eq!(packets[8][4..8], (8 * 160_u32).to_be_bytes());
        let numbers: Vec<u8> = packets.iter().map(|packet| packet[3]).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn sources_extension_and_padding_are_left_out() {
        let mut datagram = vec![0xb1, 0x00, 0, 7, 0, 0, 0, 9, 0, 0, 0, 5];
        datagram.extend([0; 4]);
        datagram.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
        datagram.extend([0x10, 0x90, 0, 2]);
        assert_eq!(
            read(&datagram, 101),
            Received::Audio(Packet {
                ssrc: 5,
                sequence: 7,
                timestamp: 9,
                audio: vec![0x10, 0x90]
            })
        );
    }

    #[test]
    fn bad_datagrams_are_told_apart_and_never_panic() {
        let header = |first: u8, second: u8| vec![first, second, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (datagram, expected) in [
            (vec![], "short"),
            (vec![0x80; 11], "short"),
            (header(0x00, 0), "version 2"),
            (header(0x8f, 0), "longer"),
            (header(0x90, 0), "longer"),
            (header(0xa0, 0), "longer"),
            (header(0x80, 9), "not agreed"),
        ] {
            match read(&datagram, 101) {
                Received::Improper(what) => assert!(what.contains(expected), "{what}"),
                other => panic!("{datagram:?}: {other:?}"),
            }
        }
        for second in [101, 13, 200, 201] {
            assert_eq!(read(&header(0x80, second), 101), Received::Other);
        }
    }
}
