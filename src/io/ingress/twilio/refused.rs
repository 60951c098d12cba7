//! Every way in which a request or a stream is turned away: one name each, for the peer, the log and the metrics.

use crate::io::ingress::Refusal;

/// A policy or a limit of ours was broken (RFC 6455 §7.4.1).
const POLICY_VIOLATION: u16 = 1008;
/// The peer broke the protocol.
const PROTOCOL_ERROR: u16 = 1002;
/// A message is larger than what we take.
const TOO_BIG: u16 = 1009;
/// Try again later (registered with IANA after RFC 6455).
const TRY_AGAIN_LATER: u16 = 1013;

/// Why a request or a stream was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// X-Twilio-Signature is missing or wrong.
    BadSignature,
    /// A webhook that is no form, or lacks a usable CallSid.
    BadWebhook,
    /// The gateway has no room for another call.
    Busy,
    /// The gateway is on its way out.
    Draining,
    /// No route takes the call.
    NoRoute,
    /// A websocket frame against RFC 6455.
    BadFrame,
    /// A binary message: this protocol is text.
    BinaryMessage,
    /// A message over the size limit.
    MessageTooLarge,
    /// A message that is no JSON object, or has a field of the wrong type or lacks one.
    BadJson,
    /// An `event` that we do not know.
    UnknownEvent,
    /// `connected` with a version other than 1.x.
    UnsupportedVersion,
    /// `media`, `dtmf` or `mark` before `start`.
    MediaBeforeStart,
    /// `start` did not come in time.
    StartTimeout,
    /// `start` came twice.
    SecondStart,
    /// A `start` without usable ids.
    BadStart,
    /// Several tracks, or not the caller's: a `<Start><Stream>`, into which nothing can be played.
    UnidirectionalStream,
    /// Anything but mu-law at 8 kHz, one channel.
    UnsupportedMediaFormat,
    /// No token: the stream was not started by our TwiML.
    MissingToken,
    /// A token that is wrong, used, expired or of another call. Which of them is for the log, not for the peer.
    WrongToken,
    /// A message for a stream that this websocket does not carry.
    WrongStream,
    /// `media` of a track other than the caller's.
    WrongTrack,
    /// A media payload that is no base64.
    BadPayload,
    /// A media payload over the limit.
    PayloadTooLarge,
    /// Control messages faster than any caller can cause.
    Flood,
}

impl Refused {
    /// Every reason, so that each is a series from the start.
    pub const ALL: [Self; 24] = [
        Self::BadSignature,
        Self::BadWebhook,
        Self::Busy,
        Self::Draining,
        Self::NoRoute,
        Self::BadFrame,
        Self::BinaryMessage,
        Self::MessageTooLarge,
        Self::BadJson,
        Self::UnknownEvent,
        Self::UnsupportedVersion,
        Self::MediaBeforeStart,
        Self::StartTimeout,
        Self::SecondStart,
        Self::BadStart,
        Self::UnidirectionalStream,
        Self::UnsupportedMediaFormat,
        Self::MissingToken,
        Self::WrongToken,
        Self::WrongStream,
        Self::WrongTrack,
        Self::BadPayload,
        Self::PayloadTooLarge,
        Self::Flood,
    ];

    /// The name: the websocket's close reason, the metric label, the word in logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadSignature => "bad_signature",
            Self::BadWebhook => "bad_webhook",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::NoRoute => "no_route",
            Self::BadFrame => "bad_frame",
            Self::BinaryMessage => "binary_message",
            Self::MessageTooLarge => "message_too_large",
            Self::BadJson => "bad_json",
            Self::UnknownEvent => "unknown_event",
            Self::UnsupportedVersion => "unsupported_version",
            Self::MediaBeforeStart => "media_before_start",
            Self::StartTimeout => "start_timeout",
            Self::SecondStart => "second_start",
            Self::BadStart => "bad_start",
            Self::UnidirectionalStream => "unidirectional_stream",
            Self::UnsupportedMediaFormat => "unsupported_media_format",
            Self::MissingToken => "missing_token",
            Self::WrongToken => "wrong_token",
            Self::WrongStream => "wrong_stream",
            Self::WrongTrack => "wrong_track",
            Self::BadPayload => "bad_payload",
            Self::PayloadTooLarge => "payload_too_large",
            Self::Flood => "flood",
        }
    }

    /// The websocket close code that goes with it.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::BadFrame
            | Self::BinaryMessage
            | Self::BadJson
            | Self::UnknownEvent
            | Self::UnsupportedVersion
            | Self::MediaBeforeStart
            | Self::SecondStart
            | Self::BadStart
            | Self::WrongStream
            | Self::WrongTrack
            | Self::BadPayload => PROTOCOL_ERROR,
            Self::BadSignature
            | Self::BadWebhook
            | Self::StartTimeout
            | Self::UnidirectionalStream
            | Self::UnsupportedMediaFormat
            | Self::MissingToken
            | Self::WrongToken
            | Self::NoRoute
            | Self::Flood => POLICY_VIOLATION,
            Self::MessageTooLarge | Self::PayloadTooLarge => TOO_BIG,
            Self::Busy | Self::Draining => TRY_AGAIN_LATER,
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::Busy,
            Refusal::Draining => Self::Draining,
            Refusal::NoRoute => Self::NoRoute,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_a_place_in_the_list() {
        let mut names: Vec<&str> = Refused::ALL.iter().map(|reason| reason.label()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Refused::ALL.len());
        let is_label = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(names.iter().all(is_label));
        // A close reason has at most 123 bytes (RFC 6455 §5.5).
        assert!(names.iter().all(|name| name.len() <= 123));
    }
}
