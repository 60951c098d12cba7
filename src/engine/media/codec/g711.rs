//! G.711, the telephone's codec: 8 bits a sample on a logarithmic scale (ITU-T G.711).
//!
//! Decoding is a table of 256 entries made at compile time; encoding finds the segment by counting leading zeros.

/// The byte that stands for silence in mu-law.
pub const MULAW_SILENCE: u8 = 0xFF;
/// The byte that stands for silence in A-law.
pub const ALAW_SILENCE: u8 = 0xD5;

/// Added before the logarithm so that every mu-law segment has the same shape (G.711 §2.3).
const MULAW_BIAS: i32 = 0x84;
/// The loudest sample that mu-law can say once the bias is added.
const MULAW_CLIP: i32 = 0x7FFF - MULAW_BIAS;

static MULAW_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = mulaw_to_linear(byte as u8);
        byte += 1;
    }
    table
};
static ALAW_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = alaw_to_linear(byte as u8);
        byte += 1;
    }
    table
};

/// One mu-law byte as linear PCM.
pub fn decode_mulaw(byte: u8) -> i16 {
    MULAW_TO_LINEAR[usize::from(byte)]
}

/// One A-law byte as linear PCM.
pub fn decode_alaw(byte: u8) -> i16 {
    ALAW_TO_LINEAR[usize::from(byte)]
}

/// One linear sample in mu-law.
pub fn encode_mulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(MULAW_CLIP) + MULAW_BIAS;
    // The bias makes the magnitude at least 0x84, so its highest bit is bit 7 or above: segment 0 to 7.
    let segment = 24 - magnitude.leading_zeros() as i32;
    let mantissa = (magnitude >> (segment + 3)) & 0x0F;
    !(sign | (segment << 4) as u8 | mantissa as u8)
}

/// One linear sample in A-law.
pub fn encode_alaw(sample: i16) -> u8 {
    // G.711 A-law is symmetric about −½: negative values are complemented rather than negated.
    let (sign, magnitude) = if sample < 0 {
        (0, !sample)
    } else {
        (0x80, sample)
    };
    let magnitude = i32::from(magnitude) >> 4;
    let code = if magnitude < 16 {
        magnitude
    } else {
        let segment = 28 - magnitude.leading_zeros() as i32;
        (segment << 4) | ((magnitude >> (segment - 1)) & 0x0F)
    };
    (sign | code as u8) ^ 0x55
}

const fn mulaw_to_linear(byte: u8) -> i16 {
    let byte = !byte;
    let segment = (byte >> 4) & 0x07;
    let magnitude = ((((byte & 0x0F) as i32) << 3) + MULAW_BIAS) << segment;
    let magnitude = magnitude - MULAW_BIAS;
    (if byte & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    }) as i16
}

const fn alaw_to_linear(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let segment = (byte >> 4) & 0x07;
    let mantissa = ((byte & 0x0F) as i32) << 4;
    let magnitude = match segment {
        0 => mantissa + 8,
        _ => (mantissa + 0x108) << (segment - 1),
    };
    (if byte & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mulaw_byte_survives_decoding_and_encoding_but_the_second_zero() {
        for byte in 0..=255u8 {
            // 0x7F is "minus zero": it decodes to 0, which encodes as 0xFF.
            let expected = if byte == 0x7F { MULAW_SILENCE } else { byte };
            assert_eq!(encode_mulaw(decode_mulaw(byte)), expected, "byte {byte:#x}");
        }
    }

    #[test]
    fn every_alaw_byte_survives_decoding_and_encoding() {
        for byte in 0..=255u8 {
            assert_eq!(encode_alaw(decode_alaw(byte)), byte, "byte {byte:#x}");
        }
    }

    #[test]
    fn the_loudest_samples_are_those_of_the_recommendation() {
        // G.711 tables 2a and 1a, scaled to 16 bits.
        assert_eq!((decode_mulaw(0x80), decode_mulaw(0x00)), (32_124, -32_124));
        assert_eq!((decode_alaw(0xAA), decode_alaw(0x2A)), (32_256, -32_256));
        assert_eq!(
            (encode_mulaw(i16::MAX), encode_mulaw(i16::MIN)),
            (0x80, 0x00)
        );
        assert_eq!((encode_alaw(i16::MAX), encode_alaw(i16::MIN)), (0xAA, 0x2A));
    }

    #[test]
    fn silence_is_silence() {
        assert_eq!(decode_mulaw(MULAW_SILENCE), 0);
        assert_eq!(encode_mulaw(0), MULAW_SILENCE);
        assert_eq!(encode_alaw(0), ALAW_SILENCE);
    }

    #[test]
    fn coding_errs_by_no_more_than_half_a_step_of_the_segment() {
        for sample in (i16::MIN..=i16::MAX).step_by(7) {
            let allowed = f64::from(sample).abs() / 30.0 + 10.0;
            for decoded in [
                decode_mulaw(encode_mulaw(sample)),
                decode_alaw(encode_alaw(sample)),
            ] {
                let error = (f64::from(decoded) - f64::from(sample)).abs();
                // The very loudest samples are clipped.
                assert!(
                    error <= allowed.max(f64::from(sample).abs() - 32_124.0),
                    "{sample} became {decoded}"
                );
            }
        }
    }
}
