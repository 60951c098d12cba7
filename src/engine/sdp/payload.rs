//! The numbers of a media line, and what they stand for (RFC 3551, RFC 8866 §6.6).

use crate::engine::media::codec::packet::Codec;
use crate::engine::sdp::description::Media;

/// A format that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Its payload type.
    pub(super) number: u8,
    pub(super) kind: FormatKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormatKind {
    Voice(Codec),
    /// Telephone keys at this clock rate (RFC 4733).
    TelephoneEvent(u32),
    /// Comfort noise at this clock rate (RFC 3389).
    ComfortNoise(u32),
}

/// Comfort noise has a number of its own, at 8 kHz only (RFC 3551 §6, table 4).
const COMFORT_NOISE: (u8, u32) = (13, 8_000);

/// The formats of a line that we know, in its order.
pub(super) fn formats(media: &Media) -> impl Iterator<Item = Format> {
    media.formats.iter().filter_map(|text| {
        let number = text.parse().ok().filter(|number| is_usable(*number))?;
        let kind = match told(media, "rtpmap", number) {
            Some(encoding) => mapped(encoding)?,
            None => fixed(number)?,
        };
        // A fixed number that is mapped to something else is a mistake of which nobody knows what was meant.
        let contradicts = fixed(number).is_some_and(|fixed| fixed != kind);
        (!contradicts).then_some(Format { number, kind })
    })
}

/// Whether RTP packets of that number can be told from RTCP where both share a port (RFC 5761 §4).
pub(super) const fn can_share_a_port(number: u8) -> bool {
    !matches!(number, 64..=95)
}

/// Payload types have seven bits, and 72 to 76 look like RTCP (RFC 3551 §6).
const fn is_usable(number: u8) -> bool {
    number <= 127 && !matches!(number, 72..=76)
}

/// What `a=fmtp` says of a number under a name, as in `111 minptime=10; useinbandfec=1`.
pub(super) fn parameter<'a>(media: &'a Media, number: u8, name: &str) -> Option<&'a str> {
    told(media, "fmtp", number)?
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(named, _)| named.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// What an attribute says of a number: `a=rtpmap` its encoding, `a=fmtp` its parameters.
fn told<'a>(media: &'a Media, attribute: &str, number: u8) -> Option<&'a str> {
    media
        .attributes
        .iter()
        .filter(|it| it.name.eq_ignore_ascii_case(attribute))
        .filter_map(|it| {
            it.value
                .as_deref()?
                .split_once(|character: char| character.is_ascii_whitespace())
        })
        .find(|(of, _)| of.parse() == Ok(number))
        .map(|(_, told)| told.trim())
}

/// Reads `opus/48000/2`.
fn mapped(encoding: &str) -> Option<FormatKind> {
    let mut parts = encoding.split('/').map(str::trim);
    let name = parts.next()?;
    let clock_rate: u32 = parts.next()?.parse().ok()?;
    let channels = parts.next().unwrap_or("1");
    if name.eq_ignore_ascii_case("telephone-event") {
        return Some(FormatKind::TelephoneEvent(clock_rate));
    }
    if name.eq_ignore_ascii_case("CN") {
        return Some(FormatKind::ComfortNoise(clock_rate));
    }
    let codec = Codec::ALL
        .into_iter()
        .find(|codec| name.eq_ignore_ascii_case(codec.encoding_name()))?;
    // Opus always says two (RFC 7587 §7), which says nothing of what is sent; the others would mean it.
    let channels_fit = codec == Codec::Opus || channels == "1";
    (channels_fit && clock_rate == codec.clock_rate()).then_some(FormatKind::Voice(codec))
}

/// What a number stands for by itself.
fn fixed(number: u8) -> Option<FormatKind> {
    if number == COMFORT_NOISE.0 {
        return Some(FormatKind::ComfortNoise(COMFORT_NOISE.1));
    }
    Codec::ALL
        .into_iter()
        .find(|codec| codec.static_payload_type() == Some(number))
        .map(FormatKind::Voice)
}
