//! Our answer to a peer's offer (RFC 3264 §6, §8).

use crate::engine::media::codec::packet::Codec;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Direction;
use crate::engine::sdp::agreement::PayloadType;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::description::Media;
use crate::engine::sdp::keying;
use crate::engine::sdp::keying::Terms;
use crate::engine::sdp::line;
use crate::engine::sdp::line::Line;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::payload;
use crate::engine::sdp::payload::Format;
use crate::engine::sdp::payload::FormatKind;
use crate::engine::sdp::stream::Stream;

/// An offer taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What we write back.
    pub description: Description,
    /// What both sides do from now on.
    pub agreement: Agreement,
}

/// Answers an offer: the first audio line that we can take, and port 0 for all the others.
///
/// A peer may close its only audio line in the middle of a call; that is answered likewise, and the agreement goes on
/// with nobody speaking, until an offer opens it again.
///
/// # Errors
/// The reason why the first open audio line cannot be taken, if none can. In a call, the agreement of before stays.
pub fn answer(local: &Local, offer: &Description) -> Result<Answer, Refusal> {
    let mut refusal = None;
    for (index, media) in offer.media.iter().enumerate() {
        if !media.is_audio() || !media.is_open() {
            continue;
        }
        match take(local, offer, media) {
            Ok((ours, agreement)) => {
                return Ok(Answer {
                    description: with_others_refused(local, offer, Some((index, ours))),
                    agreement,
                });
            }
            Err(reason) => _ = refusal.get_or_insert(reason),
        }
    }
    match (refusal, &local.current) {
        (None, Some(current)) if offer.media.iter().any(Media::is_audio) => Ok(Answer {
            description: with_others_refused(local, offer, None),
            agreement: suspended(current),
        }),
        (None, Some(_) | None) => Err(Refusal::NoAudio),
        (Some(reason), _) => Err(reason),
    }
}

/// The clock of telephone-events beside the codecs of the telephone.
const TELEPHONE_CLOCK: u32 = 8_000;

/// Answers one audio line.
fn take(local: &Local, offer: &Description, media: &Media) -> Result<(Media, Agreement), Refusal> {
    let offered = Stream::new(offer, media);
    let transport = offered.transport().ok_or(Refusal::UnknownTransport)?;
    let (codec, number) = choose_codec(local, &offered).ok_or(Refusal::NoCommonCodec)?;
    let Terms { keying, attributes } = keying::answer(local, &offered, transport)?;
    let remote = offered.remote(local.address)?;

    let clock_rate = codec.clock_rate();
    // At the codec's clock, as RFC 4733 §2.1 has it; else at the telephone's, for some softphones offer nothing else beside
    // Opus. We only receive them, and a key is a key at any clock.
    let event_at_clock = [clock_rate, TELEPHONE_CLOCK].into_iter().find_map(|clock| {
        let number = find(&offered, FormatKind::TelephoneEvent(clock))?;
        Some((clock, number))
    });
    let telephone_event = event_at_clock.map(|(_, number)| number);
    let rtcp_mux = offered.rtcp_mux()
        && payload::can_share_a_port(number)
        && telephone_event.is_none_or(payload::can_share_a_port);
    let mut direction = offered.direction().reversed();
    // Nobody can be spoken to who is nowhere (RFC 3264 §8.4).
    direction.send &= remote.rtp.is_some();
    let packet_time = offered.packet_time(local.packet_time);

    let line = Line {
        protocol: &media.protocol,
        codecs: &[(codec, number)],
        telephone_events: event_at_clock.as_slice(),
        packet_time,
        direction,
        rtcp_mux,
        rtcp_port: !rtcp_mux,
        keys: attributes,
    };
    let agreement = Agreement {
        codec,
        payload_type: PayloadType::same(number),
        telephone_event: telephone_event.map(PayloadType::same),
        comfort_noise: find(&offered, FormatKind::ComfortNoise(clock_rate)),
        packet_time,
        max_average_bitrate: offered.max_average_bitrate(number),
        remote_rtp: remote.rtp,
        remote_rtcp: if rtcp_mux { remote.rtp } else { remote.rtcp },
        rtcp_mux,
        direction,
        keying,
    };
    Ok((line.write(local), agreement))
}

/// The codec in use if it is offered again, else the first offered that is allowed.
fn choose_codec(local: &Local, offered: &Stream<'_>) -> Option<(Codec, u8)> {
    let in_use = local.current.as_ref().map(|current| current.codec);
    let allowed = || voices(offered).filter(|(codec, _)| local.codecs.contains(codec));
    allowed()
        .find(|(codec, _)| Some(*codec) == in_use)
        .or_else(|| allowed().next())
}

/// The codecs of a line with their numbers.
pub(super) fn voices<'a>(stream: &Stream<'a>) -> impl Iterator<Item = (Codec, u8)> + use<'a> {
    stream.formats().filter_map(|format| match format.kind {
        FormatKind::Voice(codec) => Some((codec, format.number)),
        FormatKind::TelephoneEvent(_) | FormatKind::ComfortNoise(_) => None,
    })
}

/// The first number of a format in a line.
pub(super) fn find(stream: &Stream<'_>, wanted: FormatKind) -> Option<u8> {
    stream
        .formats()
        .find(|Format { kind, .. }| *kind == wanted)
        .map(|format| format.number)
}

fn with_others_refused(
    local: &Local,
    offer: &Description,
    taken: Option<(usize, Media)>,
) -> Description {
    let mut media: Vec<Media> = offer.media.iter().map(Media::refused).collect();
    if let Some((index, ours)) = taken {
        media[index] = ours;
    }
    line::describe(local, media)
}

fn suspended(current: &Agreement) -> Agreement {
    Agreement {
        remote_rtp: None,
        remote_rtcp: None,
        direction: Direction::NEITHER,
        ..current.clone()
    }
}
