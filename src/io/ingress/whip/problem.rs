//! What a refused request is answered with: a problem (RFC 9457) with the reason's name, and the headers that its status
//! calls for. Here, and nowhere else, refusals are counted and logged.

use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::RETRY_AFTER;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::json;
use tracing::debug;

use super::http::ACCEPT_PATCH;
use super::http::ACCEPT_POST;
use super::http::CHANGE_TYPE;
use super::http::OFFER_TYPES;
use super::measure;
use super::refused::Refused;

/// When to try again, in seconds: places are given back as calls end, and with hundreds of them one does so each second.
const RETRY_AFTER_BUSY: &str = "5";
/// Likewise: by then whatever distributes requests has noticed that this gateway is not ready and asks another.
const RETRY_AFTER_DRAINING: &str = "10";

/// The response to a request that is turned away for this reason.
pub(super) fn response(reason: Refused) -> Response {
    measure::refused(reason);
    debug!(reason = reason.label(), "refused a WHIP request");
    let status = reason.status();
    // RFC 9457 §4.2.1: a problem of this type is titled as its status is.
    let problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": reason.detail(),
        "reason": reason.label(),
    });
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    let mut response = (status, kind, problem.to_string()).into_response();
    if let Some((name, value)) = header(reason) {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn header(reason: Refused) -> Option<(HeaderName, &'static str)> {
    match reason {
        // RFC 6750 §3: a request that brings no token is told no error.
        Refused::MissingToken => Some((WWW_AUTHENTICATE, r#"Bearer realm="whip""#)),
        Refused::UnknownToken => Some((
            WWW_AUTHENTICATE,
            r#"Bearer realm="whip", error="invalid_token""#,
        )),
        Refused::WrongRoute => Some((
            WWW_AUTHENTICATE,
            r#"Bearer realm="whip", error="insufficient_scope""#,
        )),
        Refused::UnsupportedOffer => Some((ACCEPT_POST, OFFER_TYPES)),
        Refused::UnsupportedChange => Some((ACCEPT_PATCH, CHANGE_TYPE)),
        Refused::Busy => Some((RETRY_AFTER, RETRY_AFTER_BUSY)),
        Refused::Draining => Some((RETRY_AFTER, RETRY_AFTER_DRAINING)),
        // Whoever refuses a method knows which there are.
        Refused::MethodNotAllowed
        | Refused::ForeignOrigin
        | Refused::NoRoute
        | Refused::NoSession
        | Refused::BodyTooLarge
        | Refused::BodyTimeout
        | Refused::BodyLost
        | Refused::BadMultipart
        | Refused::BadParameters
        | Refused::BadFragment
        | Refused::PreconditionRequired
        | Refused::PreconditionFailed
        | Refused::RestartWithoutCredentials
        | Refused::RestartUnderWay
        | Refused::BadOffer
        | Refused::TooManyLines
        | Refused::NoAudio
        | Refused::SeveralAudioLines
        | Refused::UnknownTransport
        | Refused::NoCommonCodec
        | Refused::NoFingerprint
        | Refused::NoIceCredentials
        | Refused::NoRtcpMux
        | Refused::Internal
        | Refused::NeverConnected => None,
    }
}
