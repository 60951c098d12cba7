//! One media line read as an audio stream, with what it inherits from its session.

use std::net::IpAddr;
use std::time::Duration;

use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::sdp::address;
use crate::engine::sdp::address::Remote;
use crate::engine::sdp::agreement::Direction;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::crypto::Crypto;
use crate::engine::sdp::description::Attribute;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::description::Media;
use crate::engine::sdp::dtls;
use crate::engine::sdp::dtls::Setup;
use crate::engine::sdp::payload;
use crate::engine::sdp::payload::Format;

/// The shortest packets that are sent: below, headers outweigh the voice.
const MIN_PACKET_MILLISECONDS: u64 = 10;
/// The longest: above, one lost packet is a lost syllable.
const MAX_PACKET_MILLISECONDS: u64 = 60;

/// A media line with its session.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a> {
    session: &'a Description,
    media: &'a Media,
}

/// Which packets a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// `RTP/AVP` or `RTP/AVPF`: keys may be offered all the same, as a best effort.
    Plain,
    /// `RTP/SAVP` or `RTP/SAVPF`: encrypted, with keys in the description, or by DTLS as old browsers wrote it.
    Secure,
    /// `UDP/TLS/RTP/SAVP` or `UDP/TLS/RTP/SAVPF`: encrypted, with keys by DTLS (RFC 5764 §8).
    Dtls,
}

impl<'a> Stream<'a> {
    pub(super) const fn new(session: &'a Description, media: &'a Media) -> Self {
        Self { session, media }
    }

    /// `None` for anything but RTP over UDP.
    pub(super) fn transport(&self) -> Option<Transport> {
        match self.media.protocol.to_ascii_uppercase().as_str() {
            "RTP/AVP" | "RTP/AVPF" => Some(Transport::Plain),
            "RTP/SAVP" | "RTP/SAVPF" => Some(Transport::Secure),
            "UDP/TLS/RTP/SAVP" | "UDP/TLS/RTP/SAVPF" => Some(Transport::Dtls),
            _ => None,
        }
    }

    /// The formats that we know, in the order of the media line.
    pub(super) fn formats(&self) -> impl Iterator<Item = Format> + use<'a> {
        payload::formats(self.media)
    }

    /// The bits per second that the line's writer wants of a format at most; what is out of range is ignored
    /// (RFC 7587 §6.1).
    pub(super) fn max_average_bitrate(&self, number: u8) -> Option<u32> {
        payload::parameter(self.media, number, "maxaveragebitrate")?
            .parse()
            .ok()
            .filter(|bits| (6_000..=510_000).contains(bits))
    }

    /// Who may speak, as the line's writer sees it.
    pub(super) fn direction(&self) -> Direction {
        let among =
            |attributes: &[Attribute]| attributes.iter().find_map(|a| Direction::parse(&a.name));
        among(&self.media.attributes)
            .or_else(|| among(&self.session.attributes))
            .unwrap_or(Direction::BOTH)
    }

    /// The length of packets that the line's writer wants, `usual` if it does not care.
    pub(super) fn packet_time(&self, usual: Duration) -> Duration {
        let wish = self
            .milliseconds("ptime")
            .unwrap_or(usual.as_millis() as u64);
        let most = self
            .milliseconds("maxptime")
            .unwrap_or(MAX_PACKET_MILLISECONDS);
        let within = wish
            .min(most)
            .clamp(MIN_PACKET_MILLISECONDS, MAX_PACKET_MILLISECONDS);
        Duration::from_millis(within - within % 10)
    }

    /// Where the line's writer wants its packets, if we can send there from `ours`.
    pub(super) fn remote(&self, ours: IpAddr) -> Result<Remote, Refusal> {
        let connection = self
            .media
            .connection
            .as_ref()
            .or(self.session.connection.as_ref());
        let rtcp = self.values("rtcp").next();
        address::remote(connection, self.media.port, rtcp, ours)
    }

    pub(super) fn rtcp_mux(&self) -> bool {
        self.media
            .attributes
            .iter()
            .any(|attribute| attribute.name.eq_ignore_ascii_case("rtcp-mux"))
    }

    /// The keys that we could use, in the order of the writer's preference.
    pub(super) fn cryptos(&self) -> impl Iterator<Item = Crypto> + use<'a> {
        // Never of the session (RFC 4568 §4): a key belongs to one line.
        self.values("crypto").filter_map(Crypto::parse)
    }

    /// The first certificate whose hash we know.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.inherited("fingerprint")
            .find_map(dtls::parse_fingerprint)
    }

    pub(super) fn setup(&self) -> Option<Setup> {
        self.inherited("setup").next().map(Setup::parse)
    }

    /// A time such as `20`, or `20.0`, which some write.
    fn milliseconds(&self, name: &'static str) -> Option<u64> {
        let value: f64 = self.inherited(name).next()?.parse().ok()?;
        // Also refuses what is not a number; the cast saturates.
        (value >= 1.0).then_some(value as u64)
    }

    /// The values of the line's attributes of that name; those of the session's if the line has none.
    fn inherited(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        let own = values(&self.media.attributes, name).next().is_some();
        let attributes = match own {
            true => &self.media.attributes,
            false => &self.session.attributes,
        };
        values(attributes, name)
    }

    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        values(&self.media.attributes, name)
    }
}

fn values<'a>(
    attributes: &'a [Attribute],
    name: &'static str,
) -> impl Iterator<Item = &'a str> + use<'a> {
    attributes
        .iter()
        .filter(move |attribute| attribute.name.eq_ignore_ascii_case(name))
        .filter_map(|attribute| attribute.value.as_deref())
}
