//! 16-bit linear PCM as bytes: little endian towards Dialogflow and in WAV, which is not the order of RTP (RFC 3551
//! §4.5.11 is big endian).

/// Bytes of one sample.
pub const BYTES_PER_SAMPLE: usize = 2;

/// Reads little-endian samples; a last odd byte is left out.
pub fn decode_le(bytes: &[u8]) -> impl Iterator<Item = i16> + '_ {
    bytes
        .chunks_exact(BYTES_PER_SAMPLE)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
}

/// One sample, little endian.
pub const fn encode_le(sample: i16) -> [u8; BYTES_PER_SAMPLE] {
    sample.to_le_bytes()
}
