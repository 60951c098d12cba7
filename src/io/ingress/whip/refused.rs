//! Every way in which a request is turned away: one name each, for the peer, the log and the metrics.

use axum::http::StatusCode;

use crate::io::ingress::Refusal;

labels! {
    /// Why a request was turned away, or a session dropped before its call began.
    pub enum Refused {
        /// A method that the resource does not have.
        MethodNotAllowed => "method_not_allowed",
        /// A token is needed and there is none.
        MissingToken => "missing_token",
        /// The token is none of ours.
        UnknownToken => "unknown_token",
        /// The token is good, but for another route.
        WrongRoute => "wrong_route",
        /// A page of another site, in a request for which its browser did not ask us first.
        ForeignOrigin => "foreign_origin",
        /// No route takes the call.
        NoRoute => "no_route",
        /// No such session, or it is over.
        NoSession => "no_session",
        /// An offer that is neither `application/sdp` nor `multipart/form-data`.
        UnsupportedOffer => "unsupported_offer",
        /// A change that is no `application/trickle-ice-sdpfrag`.
        UnsupportedChange => "unsupported_change",
        /// A body over the size limit.
        BodyTooLarge => "body_too_large",
        /// A body that did not come in time.
        BodyTimeout => "body_timeout",
        /// A body that broke off.
        BodyLost => "body_lost",
        /// A multipart body that cannot be read, or without an offer, or with parts that mean nothing here.
        BadMultipart => "bad_multipart",
        /// Session parameters that are no JSON object of texts, numbers and truth values.
        BadParameters => "bad_parameters",
        /// A fragment of SDP that cannot be read.
        BadFragment => "bad_fragment",
        /// A change that does not say which ICE session it is for.
        PreconditionRequired => "precondition_required",
        /// A change for another ICE session than the present one.
        PreconditionFailed => "precondition_failed",
        /// An ICE restart without a new user fragment and password.
        RestartWithoutCredentials => "restart_without_credentials",
        /// An ICE restart while one is under way.
        RestartUnderWay => "restart_under_way",
        /// An offer that cannot be read.
        BadOffer => "bad_offer",
        /// An offer with more media lines, or more of anything else, than we take.
        TooManyLines => "too_many_lines",
        /// An offer without audio.
        NoAudio => "no_audio",
        /// An offer with several lines of audio.
        SeveralAudioLines => "several_audio_lines",
        /// An offer with audio over something else than RTP.
        UnknownTransport => "unknown_transport",
        /// An offer without a codec that we may speak.
        NoCommonCodec => "no_common_codec",
        /// An offer without a usable DTLS fingerprint or role: there is no sound without encryption.
        NoFingerprint => "no_fingerprint",
        /// An offer without a user fragment and password for ICE.
        NoIceCredentials => "no_ice_credentials",
        /// An offer that wants reports on a port of their own.
        NoRtcpMux => "no_rtcp_mux",
        /// The gateway has no room for another call.
        Busy => "busy",
        /// The gateway is on its way out.
        Draining => "draining",
        /// Something of ours failed.
        Internal => "internal",
        /// A session whose peer did not connect in time. It is counted, not answered.
        NeverConnected => "never_connected",
    }
}

impl Refused {
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
    fn every_reason_is_an_error_and_a_sentence() {
        for reason in Refused::ALL {
            let status = reason.status();
            assert!(status.is_client_error() || status.is_server_error());
            assert!(reason.detail().ends_with('.'), "{}", reason.label());
        }
    }
}
