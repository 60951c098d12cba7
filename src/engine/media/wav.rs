//! RIFF/WAVE, as far as a voice needs it: finding the samples by walking the chunks.
//!
//! A fixed header of 44 bytes is a myth: `fmt ` may be longer, and `LIST`, `fact` or padding may come before `data`.

use crate::codec::AudioFormat;
use crate::codec::Encoding;
use crate::frame::SampleRate;

/// What a WAV file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wav {
    /// How the samples are written.
    pub format: AudioFormat,
    /// Where they are in the file.
    pub data: std::ops::Range<usize>,
}

/// Why a WAV file cannot be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    /// The first bytes are not `RIFF….WAVE`.
    #[error("not a WAV file")]
    NotWav,
    /// It ends before its samples begin.
    #[error("the file has no fmt or no data chunk")]
    Incomplete,
    /// More than one channel.
    #[error("only one channel can be played")]
    Channels,
    /// Neither 16-bit PCM nor G.711, or a rate that no voice has.
    #[error("only 16-bit PCM, mu-law and A-law at 4 to 192 kHz can be played")]
    Format,
}

/// Whether `bytes` begin like a WAV file.
pub fn looks_like_wav(bytes: &[u8]) -> bool {
    bytes.len() >= 12 && bytes.starts_with(b"RIFF") && &bytes[8..12] == b"WAVE"
}

/// Finds format and samples. A data chunk that claims more than there is (writers that stream put 0 or all ones
/// there) ends with the file.
pub fn parse(bytes: &[u8]) -> Result<Wav, WavError> {
    if !looks_like_wav(bytes) {
        return Err(WavError::NotWav);
    }
    let mut format = None;
    let mut at = 12;
    while let Some(header) = bytes.get(at..at + 8) {
        let length = u32_le(&header[4..]) as usize;
        let body = at + 8;
        match &header[..4] {
            b"fmt " => {
                let fmt = bytes.get(body..body + 16).ok_or(WavError::Incomplete)?;
                format = Some(parse_format(fmt)?);
            }
            b"data" => {
                let format = format.ok_or(WavError::Incomplete)?;
                let left = bytes.len() - body;
                let length = if length == 0 { left } else { length.min(left) };
                return Ok(Wav {
                    format,
                    data: body..body + length,
                });
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = body.saturating_add(length).saturating_add(length % 2);
    }
    Err(WavError::Incomplete)
}

/// The first 16 bytes of a `fmt ` chunk.
fn parse_format(fmt: &[u8]) -> Result<AudioFormat, WavError> {
    /// `WAVE_FORMAT_EXTENSIBLE`: the real tag is in a GUID further on, and for 16 bits it is PCM in practice.
    const EXTENSIBLE: u16 = 0xFFFE;
    let u16_at = |at: usize| u16::from_le_bytes([fmt[at], fmt[at + 1]]);
    if u16_at(2) != 1 {
        return Err(WavError::Channels);
    }
    let encoding = match (u16_at(0), u16_at(14)) {
        (1 | EXTENSIBLE, 16) => Encoding::Linear16,
        (6, 8) => Encoding::Alaw,
        (7, 8) => Encoding::Mulaw,
        _ => return Err(WavError::Format),
    };
    let rate = SampleRate::from_hz(u32_le(&fmt[4..])).ok_or(WavError::Format)?;
    Ok(AudioFormat { encoding, rate })
}

fn u32_le(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = name.to_vec();
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len() + body.len() % 2, 0);
        bytes
    }

    fn fmt(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(tag.to_le_bytes());
        body.extend(channels.to_le_bytes());
        body.extend(rate.to_le_bytes());
        body.extend((rate * u32::from(bits / 8)).to_le_bytes());
        body.extend((bits / 8).to_le_bytes());
        body.extend(bits.to_le_bytes());
        chunk(b"fmt ", &body)
    }

    fn wav(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVE".to_vec();
        bytes.extend(chunks.concat());
        bytes
    }

    #[test]
    fn chunks_before_the_data_are_walked_over_with_their_padding() {
        let bytes = wav(&[
            fmt(1, 1, 24_000, 16),
            chunk(b"LIST", b"odd"),
            chunk(b"fact", &[0; 4]),
            chunk(b"data", &[1, 2, 3, 4]),
        ]);
        let parsed = parse(&bytes).expect("a good file");
        assert_eq!(parsed.format.encoding, Encoding::Linear16);
        assert_eq!(parsed.format.rate.hz(), 24_000);
        assert_eq!(bytes[parsed.data], [1, 2, 3, 4]);
    }

    #[test]
    fn g711_inside_a_wav_is_known_by_its_tag() {
        for (tag, encoding) in [(6, Encoding::Alaw), (7, Encoding::Mulaw)] {
            let parsed = parse(&wav(&[fmt(tag, 1, 8_000, 8), chunk(b"data", &[0; 8])]))
                .expect("a good file");
            assert_eq!(
                parsed.format,
                AudioFormat {
                    encoding,
                    rate: SampleRate::HZ_8000
                }
            );
        }
    }

    #[test]
    fn a_length_that_was_never_filled_in_means_to_the_end() {
        for length in [0, u32::MAX] {
            let mut bytes = wav(&[fmt(1, 1, 8_000, 16)]);
            bytes.extend(b"data");
            bytes.extend(length.to_le_bytes());
            bytes.extend([9; 6]);
            assert_eq!(parse(&bytes).expect("a good file").data.len(), 6);
        }
    }

    #[test]
    fn what_cannot_be_played_is_refused_by_name() {
        assert_eq!(parse(b"ID3\x04 an mp3 file"), Err(WavError::NotWav));
        assert_eq!(
            parse(&wav(&[fmt(1, 2, 8_000, 16), chunk(b"data", &[0; 8])])),
            Err(WavError::Channels)
        );
        assert_eq!(
            parse(&wav(&[fmt(3, 1, 8_000, 32), chunk(b"data", &[0; 8])])),
            Err(WavError::Format)
        );
        assert_eq!(
            parse(&wav(&[fmt(1, 1, 0, 16), chunk(b"data", &[0; 8])])),
            Err(WavError::Format)
        );
        assert_eq!(
            parse(&wav(&[chunk(b"data", &[0; 8])])),
            Err(WavError::Incomplete)
        );
        assert_eq!(
            parse(&wav(&[fmt(1, 1, 8_000, 16)])),
            Err(WavError::Incomplete)
        );
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_stay_inside_their_bytes(mut tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = wav(&[fmt(1, 1, 8_000, 16)]);
            bytes.append(&mut tail);
            if let Ok(parsed) = parse(&bytes) {
                prop_assert!(parsed.data.end <= bytes.len());
            }
        }
    }
}
