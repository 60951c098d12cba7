//! Our media line, written from what is agreed or offered.

use std::time::Duration;

use crate::engine::media::codec::packet::Codec;
use crate::engine::sdp::agreement::Direction;
use crate::engine::sdp::description::Attribute;
use crate::engine::sdp::description::Connection;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::description::Media;
use crate::engine::sdp::local::Local;

/// What our Opus likes: samples come and go at 16 kHz, so more bandwidth would be wasted; lost packets are mended from
/// the one that follows; mono, which is the default (RFC 7587 §6.1).
const OPUS_PARAMETERS: &str =
    "maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1";
/// The keys of a telephone (RFC 4733 §2.4.1): flash-hook and line tones, above, mean nothing here.
const TELEPHONE_EVENTS: &str = "0-15";

/// An audio line of ours.
pub(super) struct Line<'a> {
    pub(super) protocol: &'a str,
    /// Codecs and their numbers.
    pub(super) codecs: &'a [(Codec, u8)],
    /// Clock rates at which telephone keys are understood, and their numbers.
    pub(super) telephone_events: &'a [(u32, u8)],
    pub(super) packet_time: Duration,
    pub(super) direction: Direction,
    pub(super) rtcp_mux: bool,
    /// Whether [`Local::rtcp_port`] is used if the peer will not share a port.
    pub(super) rtcp_port: bool,
    pub(super) keys: Vec<Attribute>,
}

impl Line<'_> {
    pub(super) fn write(self, local: &Local) -> Media {
        let mut formats = Vec::new();
        let mut attributes = Vec::new();
        for (codec, number) in self.codecs {
            formats.push(number.to_string());
            attributes.push(Attribute::new("rtpmap", rtpmap(*codec, *number)));
            if *codec == Codec::Opus {
                attributes.push(Attribute::new(
                    "fmtp",
                    format!("{number} {OPUS_PARAMETERS}"),
                ));
            }
        }
        for (clock_rate, number) in self.telephone_events {
            formats.push(number.to_string());
            let event = format!("{number} telephone-event/{clock_rate}");
            attributes.push(Attribute::new("rtpmap", event));
            attributes.push(Attribute::new(
                "fmtp",
                format!("{number} {TELEPHONE_EVENTS}"),
            ));
        }
        let packet_time = self.packet_time.as_millis().to_string();
        attributes.push(Attribute::new("ptime", packet_time));
        attributes.push(Attribute::flag(self.direction.attribute()));
        // The next port goes without saying (RFC 3550 §11).
        if self.rtcp_port && local.rtp_port.checked_add(1) != Some(local.rtcp_port) {
            attributes.push(Attribute::new("rtcp", local.rtcp_port.to_string()));
        }
        if self.rtcp_mux {
            attributes.push(Attribute::flag("rtcp-mux"));
        }
        attributes.extend(self.keys);
        Media {
            kind: "audio".to_owned(),
            port: local.rtp_port,
            protocol: self.protocol.to_owned(),
            formats,
            connection: None,
            attributes,
        }
    }
}

/// Our description around its media lines.
pub(super) fn describe(local: &Local, media: Vec<Media>) -> Description {
    Description {
        origin: Some(local.origin()),
        connection: Some(Connection::Ip(local.address)),
        attributes: Vec::new(),
        media,
    }
}

fn rtpmap(codec: Codec, number: u8) -> String {
    let channels = match codec {
        // RFC 7587 §7: always two, whatever is sent.
        Codec::Opus => "/2",
        Codec::G722 | Codec::Pcmu | Codec::Pcma => "",
    };
    let (name, clock_rate) = (codec.encoding_name(), codec.clock_rate());
    format!("{number} {name}/{clock_rate}{channels}")
}
