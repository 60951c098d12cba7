//! G.711 A-law, which some telephone networks answer with; everything else here is mu-law, so a packet is converted at the edge.

use crate::mulaw;

/// The even bits of a code are inverted on the wire (G.711 §2).
const INVERTED: u8 = 0x55;

/// One mu-law byte as an A-law byte.
pub(crate) fn from_mulaw(byte: u8) -> u8 {
    encode(mulaw::decode(byte))
}

/// One A-law byte as a mu-law byte.
pub(crate) fn to_mulaw(byte: u8) -> u8 {
    mulaw::encode(decode(byte))
}

fn encode(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 {
        // The negative half begins at −1, so that both halves have as many codes.
        (0, -(i32::from(sample) + 1))
    } else {
        (0x80, i32::from(sample))
    };
    // The highest bit is at 8..=14 in the segments 1..=7; segment 0 is linear.
    let segment = (magnitude.max(1).ilog2() as i32 - 7).max(0);
    let step = (magnitude >> (segment.max(1) + 3)) & 0x0f;
    (sign | (segment << 4) as u8 | step as u8) ^ INVERTED
}

fn decode(byte: u8) -> i16 {
    let code = i32::from(byte ^ INVERTED);
    let (segment, step) = ((code & 0x70) >> 4, code & 0x0f);
    // The middle of the step.
    let magnitude = match segment {
        0 => (step << 4) + 8,
        _ => ((step << 4) + 0x108) << (segment - 1),
    };
    (if code & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for byte in 0..=u8::MAX {
            assert_eq!(encode(decode(byte)), byte, "byte {byte:#04x}");
        }
    }

    #[test]
    fn the_corners_are_those_of_the_recommendation() {
        assert_eq!(encode(0), 0xd5);
        assert_eq!(encode(i16::MAX), 0xaa);
        assert_eq!(encode(i16::MIN), 0x2a);
        assert_eq!(decode(0xaa), 32_256);
    }

    #[test]
    fn silence_stays_silence() {
        assert!(mulaw::decode(to_mulaw(from_mulaw(mulaw::SILENCE))).abs() <= 8);
    }
}
