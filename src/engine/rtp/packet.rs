//! One RTP packet as it lies in its datagram (RFC 3550 §5.1).
//!
//! Read by hand, without a copy: the parser of the `rtc` crate allocates for header extensions and refuses a packet for
//! their content, though a telephone call has no use for any of them.

/// The fixed header.
pub const HEADER_BYTES: usize = 12;

/// What a datagram on a port for RTP and RTCP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Media.
    Rtp,
    /// Control.
    Rtcp,
}

impl Kind {
    /// Tells them by the second byte (RFC 5761 §4): the packet types of RTCP are 192–223, which as RTP would be a
    /// marker with a payload type of 64–95 that nobody may negotiate. `None` if it is neither.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match datagram {
            [first, ..] if first >> 6 != 2 => None,
            [_, 192..=223, ..] => Some(Self::Rtcp),
            [_, _, ..] => Some(Self::Rtp),
            [] | [_] => None,
        }
    }
}

/// A packet, its payload still in the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// 0–127, as SDP names it.
    pub payload_type: u8,
    /// For audio: the first packet after a silence (RFC 3551 §4.1).
    pub marker: bool,
    /// One more with every packet, modulo 2¹⁶.
    pub sequence: u16,
    /// When its first sample was taken, in ticks of the codec's clock, modulo 2³².
    pub timestamp: u32,
    /// Who sent it.
    pub ssrc: u32,
    /// Without header, extension and padding.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet; `None` if its lengths contradict each other.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = datagram.split_first_chunk::<HEADER_BYTES>()?;
        let [
            first,
            second,
            s0,
            s1,
            t0,
            t1,
            t2,
            t3,
            source0,
            source1,
            source2,
            source3,
        ] = *header;
        if first >> 6 != 2 {
            return None;
        }
        let contributors = usize::from(first & 0x0f);
        rest = rest.get(4 * contributors..)?;
        let is_extended = first & 0x10 != 0;
        if is_extended {
            let (extension, after) = rest.split_first_chunk::<4>()?;
            let words = u16::from_be_bytes([extension[2], extension[3]]);
            rest = after.get(4 * usize::from(words)..)?;
        }
        let is_padded = first & 0x20 != 0;
        if is_padded {
            // The last byte counts itself, so none at all is a contradiction.
            let padding = usize::from(*rest.last()?);
            if padding == 0 {
                return None;
            }
            rest = rest.get(..rest.len().checked_sub(padding)?)?;
        }
        Some(Self {
            payload_type: second & 0x7f,
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([source0, source1, source2, source3]),
            payload: rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc::rtp::header::Extension;
    use rtc::shared::marshal::Marshal;

    use super::*;

    #[test]
    fn a_packet_with_contributors_extension_and_padding_gives_its_payload() {
        let mut header = rtc::rtp::Header {
            version: 2,
            padding: true,
            marker: true,
            payload_type: 101,
            sequence_number: 65_535,
            timestamp: 0xfedc_ba98,
            ssrc: 0x0102_0304,
            csrc: vec![7, 8],
            ..Default::default()
        };
        header.extension = true;
        header.extension_profile = 0xbede;
        header.extensions = vec![Extension {
            id: 1,
            payload: Bytes::from_static(&[0x30]),
        }];
        let mut datagram = header.marshal().expect("a header").to_vec();
        datagram.extend_from_slice(b"sound");
        datagram.extend_from_slice(&[0, 0, 3]);
        assert_eq!(
            Packet::parse(&datagram),
            Some(Packet {
                payload_type: 101,
                marker: true,
                sequence: 65_535,
                timestamp: 0xfedc_ba98,
                ssrc: 0x0102_0304,
                payload: b"sound",
            })
        );
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        let mut plain = [0; 14];
        plain[0] = 0x80;
        assert!(Packet::parse(&plain).is_some());
        assert_eq!(Packet::parse(&plain[..11]), None);
        for (first, last, why) in [
            (0x40, 0, "version 1"),
            (0x81, 0, "a contributor that is not there"),
            (0x90, 0, "an extension that is not there"),
            (0xa0, 0, "no bytes of padding"),
            (0xa0, 3, "more padding than payload"),
        ] {
            plain[0] = first;
            plain[13] = last;
            assert_eq!(Packet::parse(&plain), None, "{why}");
        }
    }

    #[test]
    fn media_and_control_are_told_apart_by_the_second_byte() {
        assert_eq!(Kind::of(&[0x80, 0]), Some(Kind::Rtp));
        assert_eq!(Kind::of(&[0x80, 0x80 | 101]), Some(Kind::Rtp));
        assert_eq!(Kind::of(&[0x81, 200]), Some(Kind::Rtcp));
        assert_eq!(Kind::of(&[0x81, 203]), Some(Kind::Rtcp));
        // STUN (RFC 7983) and what is too short to tell.
        assert_eq!(Kind::of(&[0x00, 0x01, 0, 0]), None);
        assert_eq!(Kind::of(&[0x80]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(datagram in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(packet) = Packet::parse(&datagram) {
                prop_assert!(packet.payload.len() + HEADER_BYTES <= datagram.len());
            }
            let _ = Kind::of(&datagram);
        }
    }
}
