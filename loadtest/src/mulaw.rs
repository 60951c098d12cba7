//! G.711 mu-law, the only codec of Twilio media streams.

/// Samples per second of telephone audio; mu-law has one byte per sample.
pub(crate) const SAMPLE_RATE: u32 = 8000;
/// Samples, and bytes, in one 20 ms frame.
pub(crate) const FRAME: usize = 160;
/// The byte of digital silence.
pub(crate) const SILENCE: u8 = 0xff;

const BIAS: i32 = 132;
const CLIP: i32 = 32_635;

/// One 16-bit sample as a mu-law byte (G.711 §3).
pub(crate) fn encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    // The biased magnitude has its highest bit at 7..=14, which is the segment number 0..=7.
    let segment = magnitude.ilog2() as i32 - 7;
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | segment << 4 | step) as u8
}

/// One mu-law byte as a 16-bit sample.
pub(crate) fn decode(byte: u8) -> i16 {
    let code = i32::from(!byte);
    let segment = (code & 0x70) >> 4;
    let magnitude = ((((code & 0x0f) << 3) + BIAS) << segment) - BIAS;
    (if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for byte in 0..=u8::MAX {
            // 0x7f is negative zero, which comes back as positive zero.
            let expected = if byte == 0x7f { SILENCE } else { byte };
            assert_eq!(encode(decode(byte)), expected, "byte {byte:#04x}");
        }
    }

    #[test]
    fn the_corners_are_those_of_the_recommendation() {
        assert_eq!(encode(0), SILENCE);
        assert_eq!(encode(i16::MAX), 0x80);
        assert_eq!(encode(i16::MIN), 0x00);
        assert_eq!(decode(0x80), 32_124);
    }
}
