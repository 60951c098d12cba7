//! Session descriptions, as much as a telephone with one audio stream needs: our offer, our answer, and what the other side said.

use std::fmt::Write;
use std::net::IpAddr;
use std::net::SocketAddr;

/// Our number for RFC 4733 events in an offer, the usual one.
pub(super) const EVENTS: u8 = 101;

/// A codec that we speak; both are one byte a sample at 8 kHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Pcmu,
    Pcma,
}

impl Codec {
    /// Its static payload type (RFC 3551 §6).
    pub(super) fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    pub(super) fn of(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            _ => None,
        }
    }
}

/// Who sends, seen from the one who says it (RFC 3264 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    fn attribute(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// What the other side answers to this.
    fn mirrored(self) -> Self {
        match self {
            Self::SendRecv => Self::SendRecv,
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            Self::Inactive => Self::Inactive,
        }
    }
}

/// The other side's audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remote {
    /// Where it wants our packets.
    pub(super) address: SocketAddr,
    /// The first of its codecs that we speak.
    pub(super) codec: Codec,
    /// Its number for RFC 4733 events at 8 kHz, if it takes any.
    pub(super) events: Option<u8>,
    pub(super) direction: Direction,
}

impl Remote {
    /// Whether it takes packets now: it is not holding us.
    pub(super) fn listens(&self) -> bool {
        // An address of zero is how calls were held before RFC 3264 (§8.4 there).
        matches!(self.direction, Direction::SendRecv | Direction::RecvOnly)
            && !self.address.ip().is_unspecified()
    }
}

/// Our offer: both codecs, events, 20 ms.
pub(super) fn offer(local: SocketAddr, session: u64, version: u32) -> String {
    describe(
        local,
        session,
        version,
        &[0, 8],
        Some(EVENTS),
        Direction::SendRecv,
    )
}

/// Our answer: the codec we take from the offer, its number for events, its direction mirrored.
pub(super) fn answer(local: SocketAddr, session: u64, version: u32, remote: &Remote) -> String {
    let codecs = [remote.codec.payload_type()];
    describe(
        local,
        session,
        version,
        &codecs,
        remote.events,
        remote.direction.mirrored(),
    )
}

fn describe(
    local: SocketAddr,
    session: u64,
    version: u32,
    codecs: &[u8],
    events: Option<u8>,
    direction: Direction,
) -> String {
    let (ip, port) = (local.ip(), local.port());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let payloads: Vec<String> = codecs.iter().chain(&events).map(u8::to_string).collect();
    let mut text = format!(
        "v=0\r\no=- {session} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP {}\r\n",
        payloads.join(" ")
    );
    for codec in codecs.iter().filter_map(|&number| Codec::of(number)) {
        let name = match codec {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        };
        // Writing to a string does not fail.
        let _ = write!(text, "a=rtpmap:{} {name}/8000\r\n", codec.payload_type());
    }
    if let Some(events) = events {
        let _ = write!(
            text,
            "a=rtpmap:{events} telephone-event/8000\r\na=fmtp:{events} 0-16\r\n"
        );
    }
    let _ = write!(text, "a=ptime:20\r\na={}\r\n", direction.attribute());
    text
}

/// Reads an offer or an answer; why not, in words, if it holds no audio for us.
pub(super) fn read(body: &[u8]) -> Result<Remote, String> {
    let text = String::from_utf8_lossy(body);
    if text.trim().is_empty() {
        return Err("it has no session description".to_owned());
    }
    let (mut session_ip, mut media_ip) = (None, None);
    let (mut session_direction, mut media_direction) = (None, None);
    let mut audio: Option<(u16, Vec<u8>)> = None;
    let mut in_audio = false;
    let mut events = None;
    for line in text.lines().map(str::trim_end) {
        let Some((kind, value)) = line.split_once('=') else {
            continue;
        };
        match kind {
            // The first audio stream is ours.
            "m" => {
                in_audio = audio.is_none() && value.starts_with("audio ");
                if in_audio {
                    audio = Some(read_audio(value)?);
                } else if audio.is_some() {
                    break;
                }
            }
            "c" => {
                let ip = value
                    .split_whitespace()
                    .nth(2)
                    .and_then(|ip| ip.split('/').next())
                    .and_then(|ip| ip.parse::<IpAddr>().ok());
                let place = if in_audio {
                    &mut media_ip
                } else {
                    &mut session_ip
                };
                *place = ip;
            }
            "a" => {
                let direction = match value.trim() {
                    "sendrecv" => Some(Direction::SendRecv),
                    "sendonly" => Some(Direction::SendOnly),
                    "recvonly" => Some(Direction::RecvOnly),
                    "inactive" => Some(Direction::Inactive),
                    _ => None,
                };
                let place = if in_audio {
                    &mut media_direction
                } else {
                    &mut session_direction
                };
                *place = direction.or(*place);
                if in_audio {
                    events = events.or_else(|| read_events(value));
                }
            }
            _ => {}
        }
    }
    let (port, payloads) = audio.ok_or("it has no audio")?;
    let ip = media_ip.or(session_ip).ok_or("it names no address")?;
    if port == 0 {
        return Err("it refuses the audio".to_owned());
    }
    let codec = payloads
        .iter()
        .find_map(|&payload| Codec::of(payload))
        .ok_or("it takes neither PCMU nor PCMA")?;
    Ok(Remote {
        address: SocketAddr::new(ip, port),
        codec,
        events: events.filter(|events| payloads.contains(events)),
        direction: media_direction
            .or(session_direction)
            .unwrap_or(Direction::SendRecv),
    })
}

/// `audio PORT[/COUNT] PROFILE FORMAT…`
fn read_audio(value: &str) -> Result<(u16, Vec<u8>), String> {
    let mut words = value.split_whitespace().skip(1);
    let port = words
        .next()
        .and_then(|port| port.split('/').next())
        .and_then(|port| port.parse().ok())
        .ok_or("its audio has no port")?;
    let profile = words.next().unwrap_or_default();
    if !matches!(profile, "RTP/AVP" | "RTP/AVPF") {
        return Err(format!("its audio is {profile}, which we do not speak"));
    }
    Ok((port, words.filter_map(|word| word.parse().ok()).collect()))
}

/// The number of `rtpmap:NUMBER telephone-event/8000`.
fn read_events(attribute: &str) -> Option<u8> {
    let (number, encoding) = attribute.strip_prefix("rtpmap:")?.split_once(' ')?;
    encoding
        .trim()
        .eq_ignore_ascii_case("telephone-event/8000")
        .then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_offer_reads_as_what_it_says() {
        let local = "192.0.2.1:4000".parse().expect("an address");
        let remote = read(offer(local, 1, 1).as_bytes());
        assert_eq!(
            remote,
            Ok(Remote {
                address: local,
                codec: Codec::Pcmu,
                events: Some(EVENTS),
                direction: Direction::SendRecv
            })
        );
    }

    #[test]
    fn an_answer_takes_the_offers_codec_number_and_mirrored_direction() {
        let offer = "v=0\r\nc=IN IP4 192.0.2.9\r\nm=audio 5000 RTP/AVP 96 8 0\r\n\
                     a=rtpmap:96 telephone-event/8000\r\na=sendonly\r\n";
        let remote = read(offer.as_bytes()).expect("audio");
        assert!(!remote.listens());
        let text = answer("192.0.2.1:4000".parse().expect("an address"), 1, 2, &remote);
        assert!(text.contains("m=audio 4000 RTP/AVP 8 96\r\n"), "{text}");
        assert!(text.contains("a=recvonly\r\n"), "{text}");
    }

    #[test]
    fn the_medias_own_address_wins_and_other_streams_are_passed_over() {
        let text = "v=0\nc=IN IP4 192.0.2.1\nm=video 6000 RTP/AVP 0\nc=IN IP4 192.0.2.2\nm=audio 7000/2 RTP/AVP 0\n\
                    c=IN IP4 192.0.2.3/127\nm=audio 8000 RTP/AVP 8\nc=IN IP4 192.0.2.4\na=inactive\n";
        let remote = read(text.as_bytes()).expect("audio");
        assert_eq!(remote.address.to_string(), "192.0.2.3:7000");
        assert!(remote.listens());
    }

    #[test]
    fn what_holds_no_audio_for_us_is_told() {
        for (text, why) in [
            ("", "no session description"),
            ("v=0\nc=IN IP4 1.2.3.4\nm=audio 0 RTP/AVP 0\n", "refuses"),
            ("v=0\nc=IN IP4 1.2.3.4\nm=audio 9 RTP/AVP 9\n", "neither"),
            ("v=0\nc=IN IP4 1.2.3.4\nm=audio 9 RTP/SAVP 0\n", "RTP/SAVP"),
            ("v=0\nm=audio 9 RTP/AVP 0\n", "no address"),
            ("v=0\nm=audio x RTP/AVP 0\n", "no port"),
            ("\u{fffd}=\n===\nm=\n", "no audio"),
        ] {
            let error = read(text.as_bytes()).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_address_of_zero_is_a_hold() {
        let remote = read(b"c=IN IP4 0.0.0.0\nm=audio 9 RTP/AVP 0\n").expect("audio");
        assert!(!remote.listens());
    }
}
