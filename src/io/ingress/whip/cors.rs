//! Cross-origin resource sharing (the Fetch standard): which pages of other sites may call.
//!
//! A page that the gateway itself serves needs nothing of this. A page from elsewhere is let in by
//! `webrtc.allowed_origins`; for another, its browser asks us first and then keeps it from calling. There is one request
//! that browsers send without asking, since a plain form could send it too: a POST of `multipart/form-data`. That one
//! [`is_foreign`] finds, so that no page of the web can take places of a gateway that runs on its visitor's machine.

use std::sync::Arc;

use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::header::ACCESS_CONTROL_ALLOW_HEADERS;
use axum::http::header::ACCESS_CONTROL_ALLOW_METHODS;
use axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use axum::http::header::ACCESS_CONTROL_EXPOSE_HEADERS;
use axum::http::header::ACCESS_CONTROL_MAX_AGE;
use axum::http::header::ACCESS_CONTROL_REQUEST_METHOD;
use axum::http::header::ALLOW;
use axum::http::header::HOST;
use axum::http::header::ORIGIN;
use axum::http::header::VARY;
use axum::middleware::Next;
use axum::response::Response;

use super::Shared;

/// What a page may send.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-Match";
/// What a page may read besides the body.
const EXPOSED_HEADERS: &str = "Accept-Patch, ETag, Link, Location, Retry-After";
/// For how long a browser need not ask again, in seconds. Browsers cut it to two hours at most.
const MAX_AGE: &str = "3600";

/// Whether a request is a browser's question whether a page may send another one.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether a request comes from a page of another site that may not call.
pub(super) fn is_foreign(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        // No browser: they all say it with a POST.
        return false;
    };
    if allowed(&shared.config.allowed_origins, origin).is_some() {
        return false;
    }
    let origin = origin.to_str().ok();
    let host = origin.and_then(|origin| Some(origin.split_once("://")?.1));
    let Some(host) = host else { return true };
    // Behind a proxy, the host that a browser sees is in `public_url`.
    let public = shared.public_url.split_once("://");
    let public = public.and_then(|(_, rest)| rest.split('/').next());
    let asked = headers.get(HOST).and_then(|asked| asked.to_str().ok());
    let mut ours = [public, asked].into_iter().flatten();
    !ours.any(|ours| ours.eq_ignore_ascii_case(host))
}

/// Adds what a browser wants to know to every response, refusals too, so that a page can read why.
pub(super) async fn add_headers(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let is_preflight = is_preflight(request.method(), request.headers());
    let allowed_origins = &shared.config.allowed_origins;
    let origin = request.headers().get(ORIGIN);
    let origin = origin.and_then(|origin| allowed(allowed_origins, origin));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if allowed_origins.iter().any(|allowed| allowed != "*") {
        // Caches must not hand one site's response to another.
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = origin else {
        return response;
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if is_preflight {
        if let Some(methods) = headers.get(ALLOW).cloned() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let allowed = HeaderValue::from_static(ALLOWED_HEADERS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    } else {
        let exposed = HeaderValue::from_static(EXPOSED_HEADERS);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// What to answer to an origin that may call.
fn allowed(allowed_origins: &[String], origin: &HeaderValue) -> Option<HeaderValue> {
    let mut allowed = allowed_origins.iter();
    let allowed = allowed.find(|allowed| {
        *allowed == "*" || origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes())
    })?;
    match allowed.as_str() {
        "*" => Some(HeaderValue::from_static("*")),
        _ => Some(origin.clone()),
    }
}
