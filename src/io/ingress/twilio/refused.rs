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

labels! {
    /// Why a request or a stream was turned away.
    pub enum Refused {
        /// X-Twilio-Signature is missing or wrong.
        BadSignature => "bad_signature",
        /// A webhook that is no form, or lacks a usable CallSid.
        BadWebhook => "bad_webhook",
        /// The gateway has no room for another call.
        Busy => "busy",
        /// The gateway is on its way out.
        Draining => "draining",
        /// No route takes the call.
        NoRoute => "no_route",
        /// A websocket frame against RFC 6455.
        BadFrame => "bad_frame",
        /// A binary message: this protocol is text.
        BinaryMessage => "binary_message",
        /// A message over the size limit.
        MessageTooLarge => "message_too_large",
        /// A message that is no JSON object, or has a field of the wrong type or lacks one.
        BadJson => "bad_json",
        /// An `event` that we do not know.
        UnknownEvent => "unknown_event",
        /// `connected` with a version other than 1.x.
        UnsupportedVersion => "unsupported_version",
        /// `media`, `dtmf` or `mark` before `start`.
        MediaBeforeStart => "media_before_start",
        /// `start` did not come in time.
        StartTimeout => "start_timeout",
        /// `start` came twice.
        SecondStart => "second_start",
        /// A `start` without usable ids.
        BadStart => "bad_start",
        /// Several tracks, or not the caller's: a `<Start><Stream>`, into which nothing can be played.
        UnidirectionalStream => "unidirectional_stream",
        /// Anything but mu-law at 8 kHz, one channel.
        UnsupportedMediaFormat => "unsupported_media_format",
        /// No token: the stream was not started by our TwiML.
        MissingToken => "missing_token",
        /// A token that is wrong, used, expired or of another call. Which of them is for the log, not for the peer.
        WrongToken => "wrong_token",
        /// A message for a stream that this websocket does not carry.
        WrongStream => "wrong_stream",
        /// `media` of a track other than the caller's.
        WrongTrack => "wrong_track",
        /// A media payload that is no base64.
        BadPayload => "bad_payload",
        /// A media payload over the limit.
        PayloadTooLarge => "payload_too_large",
        /// Control messages faster than any caller can cause.
        Flood => "flood",
    }
}

impl Refused {
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
    fn every_reason_fits_into_a_close_frame() {
        // RFC 6455 §5.5: 125 bytes, two of which are the code.
        assert!(
            Refused::ALL
                .iter()
                .all(|reason| reason.label().len() <= 123)
        );
    }
}
