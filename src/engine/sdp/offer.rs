//! Our own offer, and the answer to it (RFC 3264 §5, §7).
//!
//! We offer when the peer leaves it to us: an INVITE without a body, at the beginning (common among PBXes of the
//! Cisco and Genesys kind) or in the middle of a call, where it often ends a hold. So an offer always wants both to
//! speak, whatever was agreed before (RFC 6337 §5.3).

use crate::engine::media::codec::packet::Codec;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Direction;
use crate::engine::sdp::agreement::PayloadType;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::answer::find;
use crate::engine::sdp::answer::voices;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::description::Media;
use crate::engine::sdp::keying;
use crate::engine::sdp::line;
use crate::engine::sdp::line::Line;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::payload::FormatKind;
use crate::engine::sdp::stream::Stream;

/// Our number for Opus: what browsers use.
const OPUS: u8 = 111;
/// Our number for telephone keys at 8 kHz: what telephones use, and the only one that some understand.
const TELEPHONE_EVENT_8000: u8 = 101;
/// Our number for telephone keys at 48 kHz: what browsers use.
const TELEPHONE_EVENT_48000: u8 = 110;

/// Our offer. `last` is what we sent last in this call, if anything: its media lines keep their places
/// (RFC 3264 §8), and numbers, keys and codec in use are kept.
pub fn offer(local: &Local, last: Option<&Description>) -> Description {
    let Some(last) = last else {
        return line::describe(local, vec![write(local, None)]);
    };
    let open = last.media.iter().position(Media::is_open);
    let ours = write(local, open.map(|index| &last.media[index]));
    let mut media: Vec<Media> = last.media.iter().map(Media::refused).collect();
    // A line that the peer closed may be opened again (RFC 3264 §8.1).
    match open.or_else(|| last.media.iter().position(Media::is_audio)) {
        Some(index) => media[index] = ours,
        None => media.push(ours),
    }
    line::describe(local, media)
}

/// Takes the peer's answer to `offer`, which was ours.
///
/// # Errors
/// If the answer refuses the audio, or says something that the offer did not allow: the call cannot go on.
pub fn accept(
    local: &Local,
    offer: &Description,
    answer: &Description,
) -> Result<Agreement, Refusal> {
    let pair = offer.media.iter().zip(&answer.media);
    let (ours, theirs) = pair
        .into_iter()
        .find(|(ours, _)| ours.is_open())
        .filter(|(_, theirs)| theirs.is_audio() && theirs.is_open())
        .ok_or(Refusal::NoAudio)?;
    let (ours, theirs) = (Stream::new(offer, ours), Stream::new(answer, theirs));
    theirs.transport().ok_or(Refusal::UnknownTransport)?;
    let (codec, payload_type) = agreed_codec(&ours, &theirs).ok_or(Refusal::NoCommonCodec)?;
    let keying = keying::accept(local, &ours, &theirs)?;
    let remote = theirs.remote(local.address)?;

    let clock_rate = codec.clock_rate();
    let rtcp_mux = ours.rtcp_mux() && theirs.rtcp_mux();
    let (wanted, allowed) = (ours.direction(), theirs.direction().reversed());
    Ok(Agreement {
        codec,
        payload_type,
        telephone_event: agreed(&ours, &theirs, FormatKind::TelephoneEvent(clock_rate)),
        comfort_noise: find(&theirs, FormatKind::ComfortNoise(clock_rate)),
        packet_time: theirs.packet_time(local.packet_time),
        max_average_bitrate: theirs.max_average_bitrate(payload_type.send),
        remote_rtp: remote.rtp,
        remote_rtcp: if rtcp_mux { remote.rtp } else { remote.rtcp },
        rtcp_mux,
        direction: Direction {
            send: wanted.send && allowed.send && remote.rtp.is_some(),
            receive: wanted.receive && allowed.receive,
        },
        keying,
    })
}

fn write(local: &Local, last: Option<&Media>) -> Media {
    let (protocol, keys) = keying::offer(local);
    // What the peer calls the protocol of the line in use, it will take again.
    let protocol = last.map_or(protocol, |last| &last.protocol);
    let mut numbers = Numbers::new(local);
    let codecs: Vec<(Codec, u8)> = codecs(local)
        .into_iter()
        .map(|codec| (codec, numbers.of_codec(codec)))
        .collect();
    let mut telephone_events: Vec<(u32, u8)> = Vec::new();
    for (codec, _) in &codecs {
        let clock_rate = codec.clock_rate();
        if telephone_events
            .iter()
            .all(|(other, _)| *other != clock_rate)
        {
            telephone_events.push((clock_rate, numbers.of_telephone_event(clock_rate)));
        }
    }
    Line {
        protocol,
        codecs: &codecs,
        telephone_events: &telephone_events,
        packet_time: local.packet_time,
        direction: Direction::BOTH,
        rtcp_mux: true,
        rtcp_port: true,
        keys,
    }
    .write(local)
}

/// The allowed codecs in our order, but the one in use first.
fn codecs(local: &Local) -> Vec<Codec> {
    let in_use = local.current.as_ref().map(|current| current.codec);
    let others = local.codecs.iter().copied();
    in_use
        .into_iter()
        .chain(others.filter(|codec| Some(*codec) != in_use))
        .collect()
}

fn agreed_codec(ours: &Stream<'_>, theirs: &Stream<'_>) -> Option<(Codec, PayloadType)> {
    voices(theirs).find_map(|(codec, _)| {
        let numbers = agreed(ours, theirs, FormatKind::Voice(codec))?;
        Some((codec, numbers))
    })
}

/// The numbers of a format that both name.
fn agreed(ours: &Stream<'_>, theirs: &Stream<'_>, format: FormatKind) -> Option<PayloadType> {
    Some(PayloadType {
        send: find(theirs, format)?,
        receive: find(ours, format)?,
    })
}

/// Gives out payload types: those in use keep their meaning for the whole call (RFC 3264 §8.3.2).
struct Numbers<'a> {
    current: Option<&'a Agreement>,
    taken: Vec<u8>,
}

impl<'a> Numbers<'a> {
    fn new(local: &'a Local) -> Self {
        let current = local.current.as_ref();
        let mut taken = Vec::new();
        if let Some(current) = current {
            taken.push(current.payload_type.receive);
            taken.extend(current.telephone_event.map(|event| event.receive));
        }
        Self { current, taken }
    }

    fn of_codec(&mut self, codec: Codec) -> u8 {
        match self.current {
            Some(current) if current.codec == codec => current.payload_type.receive,
            Some(_) | None => match codec.static_payload_type() {
                Some(number) => number,
                None => self.free(OPUS),
            },
        }
    }

    fn of_telephone_event(&mut self, clock_rate: u32) -> u8 {
        let in_use = self
            .current
            .filter(|current| current.codec.clock_rate() == clock_rate)
            .and_then(|current| current.telephone_event);
        match in_use {
            Some(event) => event.receive,
            None if clock_rate == Codec::Opus.clock_rate() => self.free(TELEPHONE_EVENT_48000),
            None => self.free(TELEPHONE_EVENT_8000),
        }
    }

    /// `wish` if it is free, else the first dynamic number that is.
    fn free(&mut self, wish: u8) -> u8 {
        let number = std::iter::once(wish)
            .chain(96..=127)
            .find(|number| !self.taken.contains(number))
            .expect("a call names fewer formats than there are dynamic numbers");
        self.taken.push(number);
        number
    }
}
