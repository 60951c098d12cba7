//! RTP as a telephone reads it, and its two codecs; [`crate::rtp`] sends it.

use super::sdp::Codec;
use crate::alaw;
use crate::mulaw;
use crate::playout::Packet;
use crate::rtp::HEADER;

/// Comfort noise (RFC 3389).
const COMFORT_NOISE: u8 = 13;

/// Writes a frame as the codec has it.
pub(super) fn append(codec: Codec, frame: &[u8; mulaw::FRAME], packet: &mut Vec<u8>) {
    match codec {
        Codec::Pcmu => packet.extend(frame),
        Codec::Pcma => packet.extend(frame.iter().map(|&byte| alaw::from_mulaw(byte))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::Sender;

    #[test]
    fn a_frame_survives_either_codec() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let mut sender = Sender::new(0x0000_0001_0002_0003, mulaw::FRAME as u16);
            let frame = [mulaw::encode(4000); mulaw::FRAME];
            let sent = sender.packet(codec.payload_type(), None, |packet| {
                append(codec, &frame, packet);
            });
            let Received::Audio(packet) = read(&sent, 101) else {
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
