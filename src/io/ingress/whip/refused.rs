//! Every way in which a request is turned away: one name each, for the peer, the log and the metrics.

use axum::http::StatusCode;

use crate::io::ingress::Refusal;

/// Why a request was turned away, or a session dropped before its call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A method that the resource does not have.
    MethodNotAllowed,
    /// A token is needed and there is none.
    MissingToken,
    /// The token is none of ours.
    UnknownToken,
    /// The token is good, but for another route.
    WrongRoute,
    /// A page of another site, in a request for which its browser did not ask us first.
    ForeignOrigin,
    /// No route takes the call.
    NoRoute,
    /// No such session, or it is over.
    NoSession,
    /// An offer that is neither `application/sdp` nor `multipart/form-data`.
    UnsupportedOffer,
    /// A change that is no `application/trickle-ice-sdpfrag`.
    UnsupportedChange,
    /// A body over the size limit.
    BodyTooLarge,
    /// A body that did not come in time.
    BodyTimeout,
    /// A body that broke off.
    BodyLost,
    /// A multipart body that cannot be read, or without an offer, or with parts that mean nothing here.
    BadMultipart,
    /// Session parameters that are no JSON object of texts, numbers and truth values.
    BadParameters,
    /// A fragment of SDP that cannot be read.
    BadFragment,
    /// A change that does not say which ICE session it is for.
    PreconditionRequired,
    /// A change for another ICE session than the present one.
    PreconditionFailed,
    /// An ICE restart without a new user fragment and password.
    RestartWithoutCredentials,
    /// An ICE restart while one is under way.
    RestartUnderWay,
    /// An offer that cannot be read.
    BadOffer,
    /// An offer with more media lines, or more of anything else, than we take.
    TooManyLines,
    /// An offer without audio.
    NoAudio,
    /// An offer with several lines of audio.
    SeveralAudioLines,
    /// An offer with audio over something else than RTP.
    UnknownTransport,
    /// An offer without a codec that we may speak.
    NoCommonCodec,
    /// An offer without a usable DTLS fingerprint or role: there is no sound without encryption.
    NoFingerprint,
    /// An offer without a user fragment and password for ICE.
    NoIceCredentials,
    /// An offer that wants reports on a port of their own.
    NoRtcpMux,
    /// The gateway has no room for another call.
    Busy,
    /// The gateway is on its way out.
    Draining,
    /// Something of ours failed.
    Internal,
    /// A session whose peer did not connect in time. It is counted, not answered.
    NeverConnected,
}

impl Refused {
    /// Every reason, so that each is a series from the start.
    pub const ALL: [Self; 32] = [
        Self::MethodNotAllowed,
        Self::MissingToken,
        Self::UnknownToken,
        Self::WrongRoute,
        Self::ForeignOrigin,
        Self::NoRoute,
        Self::NoSession,
        Self::UnsupportedOffer,
        Self::UnsupportedChange,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::BodyLost,
        Self::BadMultipart,
        Self::BadParameters,
        Self::BadFragment,
        Self::PreconditionRequired,
        Self::PreconditionFailed,
        Self::RestartWithoutCredentials,
        Self::RestartUnderWay,
        Self::BadOffer,
        Self::TooManyLines,
        Self::NoAudio,
        Self::SeveralAudioLines,
        Self::UnknownTransport,
        Self::NoCommonCodec,
        Self::NoFingerprint,
        Self::NoIceCredentials,
        Self::NoRtcpMux,
        Self::Busy,
        Self::Draining,
        Self::Internal,
        Self::NeverConnected,
    ];

    /// The name: `reason` of the problem, the metric label, the word in logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "method_not_allowed",
            Self::MissingToken => "missing_token",
            Self::UnknownToken => "unknown_token",
            Self::WrongRoute => "wrong_route",
            Self::ForeignOrigin => "foreign_origin",
            Self::NoRoute => "no_route",
            Self::NoSession => "no_session",
            Self::UnsupportedOffer => "unsupported_offer",
            Self::UnsupportedChange => "unsupported_change",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyLost => "body_lost",
            Self::BadMultipart => "bad_multipart",
            Self::BadParameters => "bad_parameters",
            Self::BadFragment => "bad_fragment",
            Self::PreconditionRequired => "precondition_required",
            Self::PreconditionFailed => "precondition_failed",
            Self::RestartWithoutCredentials => "restart_without_credentials",
            Self::RestartUnderWay => "restart_under_way",
            Self::BadOffer => "bad_offer",
            Self::TooManyLines => "too_many_lines",
            Self::NoAudio => "no_audio",
            Self::SeveralAudioLines => "several_audio_lines",
            Self::UnknownTransport => "unknown_transport",
            Self::NoCommonCodec => "no_common_codec",
            Self::NoFingerprint => "no_fingerprint",
            Self::NoIceCredentials => "no_ice_credentials",
            Self::NoRtcpMux => "no_rtcp_mux",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Internal => "internal",
            Self::NeverConnected => "never_connected",
        }
    }

    /// The status of the response.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BodyLost
            | Self::BadMultipart
            | Self::BadParameters
            | Self::BadFragment
            | Self::BadOffer => StatusCode::BAD_REQUEST,
            Self::MissingToken | Self::UnknownToken => StatusCode::UNAUTHORIZED,
            Self::WrongRoute | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NoRoute | Self::NoSession => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoAudio
            | Self::UnknownTransport
            | Self::NoCommonCodec
            | Self::NoFingerprint
            | Self::NoIceCredentials
            | Self::NoRtcpMux => StatusCode::NOT_ACCEPTABLE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::RestartUnderWay => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedOffer | Self::UnsupportedChange => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyLines | Self::SeveralAudioLines | Self::RestartWithoutCredentials => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            // No response ever carries it: the offer was answered long before.
            Self::NeverConnected => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What is wrong and what would be right, in a sentence for whoever writes the client.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => {
                "A call begins with POST; its session is changed by PATCH and ended by DELETE."
            }
            Self::MissingToken => "A bearer token is needed.",
            Self::UnknownToken => "The bearer token is not known.",
            Self::WrongRoute => "The bearer token is for another route.",
            Self::ForeignOrigin => {
                "Pages of this origin may not call; webrtc.allowed_origins can allow it."
            }
            Self::NoRoute => "There is no such route.",
            Self::NoSession => "There is no such session, or it is over.",
            Self::UnsupportedOffer => {
                "The offer must be application/sdp, or a part of multipart/form-data."
            }
            Self::UnsupportedChange => "The change must be application/trickle-ice-sdpfrag.",
            Self::BodyTooLarge => "The body must not be longer than 64 KiB.",
            Self::BodyTimeout => "The body must come within 10 s.",
            Self::BodyLost => "The body broke off.",
            Self::BadMultipart => {
                "The form must have one part of type application/sdp and may have one of type application/json."
            }
            Self::BadParameters => {
                "The session parameters must be a JSON object of strings, numbers and booleans."
            }
            Self::BadFragment => "The SDP fragment cannot be read.",
            Self::PreconditionRequired => {
                "If-Match must name the session's entity tag, or be * for an ICE restart."
            }
            Self::PreconditionFailed => "If-Match names another ICE session than the present one.",
            Self::RestartWithoutCredentials => {
                "An ICE restart must bring a new ice-ufrag and ice-pwd."
            }
            Self::RestartUnderWay => "Another ICE restart is under way.",
            Self::BadOffer => "The offer cannot be read.",
            Self::TooManyLines => {
                "The offer is longer or has more media lines than this gateway takes."
            }
            Self::NoAudio => "The offer has no audio.",
            Self::SeveralAudioLines => "The offer has several lines of audio; a call takes one.",
            Self::UnknownTransport => {
                "The offer has its audio over something else than UDP/TLS/RTP/SAVPF."
            }
            Self::NoCommonCodec => "The offer has none of the codecs that this gateway may speak.",
            Self::NoFingerprint => {
                "The offer has no usable DTLS fingerprint and setup; there is no call without encryption."
            }
            Self::NoIceCredentials => "The offer has no ice-ufrag and ice-pwd.",
            Self::NoRtcpMux => "The offer has no rtcp-mux; sound and reports come by one port.",
            Self::Busy => "The gateway has no room for another call at this moment.",
            Self::Draining => "The gateway is shutting down.",
            Self::Internal => "The gateway failed.",
            Self::NeverConnected => "The session was not connected in time.",
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
    }

    #[test]
    fn every_reason_is_an_error_and_a_sentence() {
        for reason in Refused::ALL {
            let status = reason.status();
            assert!(status.is_client_error() || status.is_server_error());
            assert!(reason.detail().ends_with('.'), "{}", reason.label());
        }
    }
}
