//! The answer to a browser's offer: that of a telephone, with the lines of ICE, bundling and a data channel around it.
//!
//! [`sdp::answer`] decides about codecs, keys and directions. It believes that an offer says
//! where its writer is; a browser's does not, for its checks will, so the offer is first made to name a place.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::media::codec::packet::Codec;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::sdp;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Keying;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::description::Attribute;
use crate::engine::sdp::description::Connection;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::description::Media;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::local::SdesKeys;
use crate::engine::sdp::local::SrtpPolicy;
use crate::engine::webrtc::channels::MAX_MESSAGE_BYTES;
use crate::engine::webrtc::channels::SCTP_PORT;
use crate::engine::webrtc::ice::Credentials;

/// What our packets are long where nobody says otherwise (RFC 3551 §4.2).
const PACKET_TIME: Duration = Duration::from_millis(20);
/// The port of a line whose place is told by candidates (RFC 8839 §4.3.1).
const DISCARD: u16 = 9;
/// The name of our stream, by which a browser tells it from others (RFC 8830).
const STREAM: &str = "tandem agent";

/// What we answer with.
#[derive(Clone, Debug)]
pub struct Ours {
    /// The codecs that may be used; the offer's order decides.
    pub codecs: Vec<Codec>,
    /// Our certificate's.
    pub fingerprint: Fingerprint,
    /// What the peer's checks must be signed with.
    pub credentials: Credentials,
    /// Where we are, the preferred first. At least one.
    pub candidates: Vec<SocketAddr>,
    /// Names our session in `o=`, below 2^63.
    pub session_id: u64,
    /// The source of our packets: some clients know a stream by nothing else.
    pub ssrc: u32,
    /// The name that goes with it in reports.
    pub cname: String,
}

/// An offer taken.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What we write back.
    pub description: Description,
    /// What both sides do from now on. The peer's address in it stands for nobody.
    pub agreement: Agreement,
    /// Whether the peer may open data channels.
    pub has_channels: bool,
    /// What our checks would be signed with, if we sent any: a restart has others.
    pub theirs: Credentials,
}

/// Why an offer cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unusable {
    /// For what any telephone's would be refused for.
    #[error("{0}")]
    Sdp(Refusal),
    /// It has more lines of audio than the one of a call.
    #[error("several lines of audio are offered")]
    SeveralAudioLines,
    /// It has no user name and password of ICE.
    #[error("no ICE credentials are offered")]
    NoIce,
    /// It wants reports on a port of their own, and a gateway has only one.
    #[error("RTP and RTCP on one port are not offered")]
    NoRtcpMux,
}

/// Answers an offer.
///
/// # Errors
/// Why it cannot be taken.
pub fn answer(ours: &Ours, offer: &Description) -> Result<Answer, Unusable> {
    // To take one and refuse the others would be no answer to a client that counts on them (RFC 9725 §4.4.2).
    let voices = offer.media.iter().filter(|media| media.is_audio());
    if voices.filter(|media| is_wanted(media)).count() > 1 {
        return Err(Unusable::SeveralAudioLines);
    }
    let local = local(ours);
    let answer =
        sdp::answer::answer(&local, &placed(offer, local.address)).map_err(Unusable::Sdp)?;
    let agreement = answer.agreement;
    match agreement.keying {
        Keying::Dtls { .. } => {}
        Keying::None | Keying::Sdes { .. } => return Err(Unusable::Sdp(Refusal::NoCommonKeying)),
    }
    if !agreement.rtcp_mux {
        return Err(Unusable::NoRtcpMux);
    }
    let mut description = answer.description;
    let voice = description.media.iter().position(Media::is_open);
    let voice = voice.ok_or(Unusable::Sdp(Refusal::NoAudio))?;
    let line = &offer.media[voice];
    let ice = |name| inherited(offer, line, name).map(str::to_owned);
    let theirs = Credentials {
        ufrag: ice("ice-ufrag").ok_or(Unusable::NoIce)?,
        pwd: ice("ice-pwd").ok_or(Unusable::NoIce)?,
    };
    let keys = keys(&description.media[voice]);
    let group = bundle(offer, line);
    let channels = offer.media.iter().position(|media| {
        let is_with_us =
            mid(media) != mid(line) && mid(media).is_some_and(|mid| group.contains(&mid));
        is_channel(media) && is_wanted(media) && is_with_us
    });
    if agreement.direction.send {
        let attributes = &mut description.media[voice].attributes;
        attributes.push(Attribute::new("msid", STREAM));
        let source = format!("{} cname:{}", ours.ssrc, ours.cname);
        attributes.push(Attribute::new("ssrc", source));
    }
    if let Some(channels) = channels {
        description.media[channels] = channel(&offer.media[channels], keys);
    }
    let mut taken: Vec<usize> = [Some(voice), channels].into_iter().flatten().collect();
    for &index in &taken {
        let media = &mut description.media[index];
        add_path(media, ours);
        if let Some(mid) = mid(&offer.media[index]) {
            media.attributes.insert(0, Attribute::new("mid", mid));
        }
    }
    if !group.is_empty() {
        let mid = |index: usize| mid(&offer.media[index]);
        // In the offer's order, for the first one's path is everybody's (RFC 9143 §7.3).
        taken.sort_by_key(|&index| group.iter().position(|name| mid(index) == Some(name)));
        let names: Vec<&str> = taken.into_iter().filter_map(mid).collect();
        let value = format!("BUNDLE {}", names.join(" "));
        description.attributes.push(Attribute::new("group", value));
    }
    description.attributes.push(Attribute::flag("ice-lite"));
    Ok(Answer {
        description,
        agreement,
        has_channels: channels.is_some(),
        theirs,
    })
}

/// What goes behind `candidate:` for each of our addresses (RFC 8839 §5.1), the preferred first.
pub fn candidates(addresses: &[SocketAddr]) -> impl Iterator<Item = String> {
    /// RFC 8445 §5.1.2.2.
    const HOST_PREFERENCE: u32 = 126;
    const COMPONENT: u32 = 1;
    addresses
        .iter()
        .zip((0..=u32::from(u16::MAX)).rev())
        .enumerate()
        .map(|(index, (address, preference))| {
            let priority = (HOST_PREFERENCE << 24) | (preference << 8) | (256 - COMPONENT);
            let (ip, port) = (address.ip(), address.port());
            let foundation = index + 1;
            format!("{foundation} {COMPONENT} udp {priority} {ip} {port} typ host")
        })
}

fn local(ours: &Ours) -> Local {
    /// Keys in a description are never agreed on here.
    const NO_KEYS: [u8; SdesKeys::RANDOM_BYTES] = [0; SdesKeys::RANDOM_BYTES];
    const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DISCARD);
    let first = ours.candidates.first().unwrap_or(&NOWHERE);
    Local {
        address: first.ip(),
        rtp_port: first.port(),
        rtcp_port: first.port(),
        codecs: ours.codecs.clone(),
        packet_time: PACKET_TIME,
        srtp: SrtpPolicy::Required,
        fingerprint: Some(ours.fingerprint),
        sdes: SdesKeys::new(&NO_KEYS),
        session_id: ours.session_id,
        version: 1,
        current: None,
    }
}

/// The offer as it would be if its writer were somewhere, and knew no keys but those of a handshake. That the place is
/// ours does no harm, for nothing is ever sent there; the one that browsers write, 0.0.0.0, would mean hold.
fn placed(offer: &Description, place: IpAddr) -> Description {
    let mut placed = offer.clone();
    for media in &mut placed.media {
        media.connection = Some(Connection::Ip(place));
        if is_wanted(media) {
            media.port = DISCARD;
        }
        media
            .attributes
            .retain(|attribute| !["crypto", "rtcp"].contains(&attribute.name.as_str()));
    }
    placed
}

/// The names of the lines that share the path of `line` (RFC 9143), if any do.
fn bundle<'a>(offer: &'a Description, line: &Media) -> Vec<&'a str> {
    let groups = offer.attributes.iter().filter_map(|attribute| {
        let value = attribute.value.as_deref()?;
        (attribute.name == "group").then(|| value.strip_prefix("BUNDLE "))?
    });
    groups
        .map(|mids| mids.split_ascii_whitespace().collect::<Vec<_>>())
        .find(|mids| mid(line).is_some_and(|mid| mids.contains(&mid)))
        .unwrap_or_default()
}

/// Whether its writer wants a line. One without a port is refused or gone, but for one that is only to share the port of
/// another (RFC 9143 §6).
fn is_wanted(media: &Media) -> bool {
    let mut attributes = media.attributes.iter();
    media.is_open() || attributes.any(|attribute| attribute.name == "bundle-only")
}

/// A line's name (RFC 5888 §4).
fn mid(media: &Media) -> Option<&str> {
    value(&media.attributes, "mid").filter(|mid| !mid.is_empty())
}

/// Whether a line is one of data channels (RFC 8841 §4).
fn is_channel(media: &Media) -> bool {
    let is_sctp = ["UDP/DTLS/SCTP", "TCP/DTLS/SCTP"]
        .iter()
        .any(|protocol| media.protocol.eq_ignore_ascii_case(protocol));
    is_sctp
        && media
            .formats
            .iter()
            .any(|format| format == "webrtc-datachannel")
}

fn channel(theirs: &Media, keys: Vec<Attribute>) -> Media {
    let mut attributes = vec![
        Attribute::new("sctp-port", SCTP_PORT.to_string()),
        Attribute::new("max-message-size", MAX_MESSAGE_BYTES.to_string()),
    ];
    attributes.extend(keys);
    Media {
        kind: theirs.kind.clone(),
        port: DISCARD,
        protocol: theirs.protocol.clone(),
        formats: vec!["webrtc-datachannel".to_owned()],
        connection: None,
        attributes,
    }
}

/// What our line says of the handshake.
fn keys(voice: &Media) -> Vec<Attribute> {
    let attributes = voice.attributes.iter();
    attributes
        .filter(|attribute| ["fingerprint", "setup"].contains(&attribute.name.as_str()))
        .cloned()
        .collect()
}

/// How to reach us.
fn add_path(media: &mut Media, ours: &Ours) {
    let Credentials { ufrag, pwd } = &ours.credentials;
    media.attributes.push(Attribute::new("ice-ufrag", ufrag));
    media.attributes.push(Attribute::new("ice-pwd", pwd));
    for candidate in candidates(&ours.candidates) {
        media
            .attributes
            .push(Attribute::new("candidate", candidate));
    }
    media.attributes.push(Attribute::flag("end-of-candidates"));
}

/// An attribute's value in a line, or in its session.
fn inherited<'a>(session: &'a Description, media: &'a Media, name: &str) -> Option<&'a str> {
    value(&media.attributes, name).or_else(|| value(&session.attributes, name))
}

fn value<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    let attribute = attributes.iter().find(|attribute| attribute.name == name)?;
    attribute.value.as_deref()
}

#[cfg(test)]
mod tests;
