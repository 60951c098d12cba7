//! The HTTP side of WHIP (RFC 9725): what each request brings, and what it is answered.
//!
//! Every request is checked in the same order: may its sender do something on this route, is there such a session, is its
//! body of the right type, and only then is the body read. Bodies, headers and tokens are never logged.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::ETAG;
use axum::http::header::LINK;
use axum::http::header::LOCATION;
use axum::middleware;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::patch;
use axum::routing::post;
use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use tracing::debug;
use uuid::Uuid;

use super::Shared;
use super::authorisation;
use super::cors;
use super::fragment::Fragment;
use super::ice_servers;
use super::offer_body;
use super::offer_body::BODY_TIMEOUT;
use super::offer_body::BodyKind;
use super::offer_body::Pairs;
use super::precondition::Precondition;
use super::problem;
use super::refused::Refused;
use super::session::CallRequest;
use super::session::Session;

/// An offer's media type (RFC 8866 §8.1).
pub(super) const SDP_TYPE: &str = "application/sdp";
/// A change's (RFC 8840 §9.1).
pub(super) const CHANGE_TYPE: &str = "application/trickle-ice-sdpfrag";
/// What a POST may bring.
pub(super) const OFFER_TYPES: &str = "application/sdp, multipart/form-data";
/// The Linked Data Platform's header, which RFC 9725 §4.2 asks for.
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// RFC 5789 §3.1.
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The largest body. A browser's offer with audio and a data channel has 2 KB, one with video 10 KB.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The longest name of a route, in bytes: nobody configures one as long.
const MAX_ROUTE_BYTES: usize = 256;
const ENDPOINT_METHODS: &str = "GET, HEAD, OPTIONS, POST";
const SESSION_METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH";
/// What stands for itself in a path (RFC 3986 §2.3, `unreserved`).
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `POST /whip/{route}`, `PATCH` and `DELETE /whip/{route}/{id}`, and what belongs to them.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    let endpoint = post(begin)
        .get(nothing)
        .options(describe_endpoint)
        .fallback(|| async { not_allowed(ENDPOINT_METHODS) });
    let session = patch(change)
        .delete(end)
        .get(nothing)
        .options(describe_session)
        .fallback(|| async { not_allowed(SESSION_METHODS) });
    let cors = middleware::from_fn_with_state(shared.clone(), cors::add_headers);
    Router::new()
        .route("/whip/{route}", endpoint.layer(cors.clone()))
        .route("/whip/{route}/{id}", session.layer(cors))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared)
}

/// `POST /whip/{route}`: an offer, answered.
async fn begin(
    State(shared): State<Arc<Shared>>,
    route: Result<Path<String>, PathRejection>,
    query: Result<Query<Pairs>, QueryRejection>,
    request: Request,
) -> Response {
    let query = query.map(|Query(pairs)| pairs).unwrap_or_default();
    begin_session(&shared, route, &query, request)
        .await
        .unwrap_or_else(problem::response)
}

async fn begin_session(
    shared: &Arc<Shared>,
    route: Result<Path<String>, PathRejection>,
    query: &Pairs,
    request: Request,
) -> Result<Response, Refused> {
    let Path(route) = route.map_err(|_| Refused::NoRoute)?;
    if route.len() > MAX_ROUTE_BYTES || route.contains(char::is_control) {
        return Err(Refused::NoRoute);
    }
    authorisation::check(&shared.config, &route, request.headers())?;
    let kind = BodyKind::of(request.headers())?;
    if kind == BodyKind::Form && cors::is_foreign(shared, request.headers()) {
        return Err(Refused::ForeignOrigin);
    }
    let offer = offer_body::read(kind, request, BODY_TIMEOUT).await?;
    let location_route = utf8_percent_encode(&route, PATH).to_string();
    let call = CallRequest {
        route,
        parameters: offer_body::allowed(&shared.config.parameters, &offer.parameters, query),
    };
    let begun = shared.begin(&offer.sdp, call)?;
    let path = public_path(&shared.public_url);
    let location = format!("{path}/whip/{location_route}/{}", begun.id);
    let mut response = (StatusCode::CREATED, begun.answer).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP_TYPE));
    headers.insert(LOCATION, value(location)?);
    headers.insert(ETAG, value(begun.etag)?);
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(CHANGE_TYPE));
    add_ice_servers(shared, headers);
    Ok(response)
}

/// `PATCH /whip/{route}/{id}`: candidates, or an ICE restart.
async fn change(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    change_session(&shared, path, request)
        .await
        .unwrap_or_else(problem::response)
}

async fn change_session(
    shared: &Shared,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let session = session(shared, path, request.headers())?;
    if offer_body::media_type(request.headers()) != CHANGE_TYPE {
        return Err(Refused::UnsupportedChange);
    }
    let precondition = Precondition::of(request.headers())?;
    // Before the body: what is not for this ICE session need not be read.
    precondition.check(&session.etag())?;
    let body = offer_body::bytes(request, BODY_TIMEOUT).await?;
    // And after it: another restart may have come meanwhile.
    precondition.check(&session.etag())?;
    let fragment = Fragment::parse(&body).map_err(|why| {
        debug!(?why, "an SDP fragment cannot be read");
        Refused::BadFragment
    })?;
    // Updated credentials make a restart, whatever session it is asked of (RFC 9725 §4.3.3). Who asks any and brings none is
    // mistaken.
    let is_restart = match (&precondition, &fragment.credentials) {
        (Precondition::Any, Some(theirs)) => !session.is_current(theirs),
        (Precondition::Any, None) => true,
        (Precondition::Tags(_), Some(theirs)) => session.is_updated_by(theirs),
        (Precondition::Tags(_), None) => false,
    };
    if is_restart {
        return restart(&session, fragment);
    }
    // RFC 9725 §4.3.2: no body, and no entity tag.
    let (candidates, ended) = (fragment.candidates, fragment.ended);
    debug!(candidates, ended, "candidates came");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// RFC 9725 §4.3.3.
fn restart(session: &Session, mut fragment: Fragment) -> Result<Response, Refused> {
    let theirs = fragment.credentials.take();
    let theirs = theirs.ok_or(Refused::RestartWithoutCredentials)?;
    let restarted = session.restart(theirs)?;
    let mut response = fragment.answer(&restarted).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CHANGE_TYPE));
    headers.insert(ETAG, value(restarted.etag)?);
    Ok(response)
}

/// `DELETE /whip/{route}/{id}`: the caller hangs up. An entity tag has no say in it (RFC 9725 §4.3.1).
async fn end(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    match session(&shared, path, &headers) {
        Ok(session) => {
            shared.hang_up(&session);
            StatusCode::OK.into_response()
        }
        Err(reason) => problem::response(reason),
    }
}

/// `GET` and `HEAD` of either: there is nothing to see, and that is no error (RFC 9725 §4.1).
async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `OPTIONS /whip/{route}`. Some clients want to know the ICE servers before they make an offer (RFC 9725 §4.6): whoever
/// may call is told.
async fn describe_endpoint(
    State(shared): State<Arc<Shared>>,
    route: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let described = [
        (ALLOW, ENDPOINT_METHODS),
        // Of the two types, this is what RFC 9725 §4.2 knows and what clients look for.
        (ACCEPT_POST, SDP_TYPE),
    ];
    let mut response = described.into_response();
    let is_preflight = cors::is_preflight(request.method(), request.headers());
    let may_call = route.is_ok_and(|Path(route)| {
        authorisation::check(&shared.config, &route, request.headers()).is_ok()
    });
    if may_call && !is_preflight {
        add_ice_servers(&shared, response.headers_mut());
    }
    response
}

/// `OPTIONS /whip/{route}/{id}`
async fn describe_session() -> Response {
    [(ALLOW, SESSION_METHODS), (ACCEPT_PATCH, CHANGE_TYPE)].into_response()
}

fn not_allowed(methods: &'static str) -> Response {
    let mut response = problem::response(Refused::MethodNotAllowed);
    let methods = HeaderValue::from_static(methods);
    response.headers_mut().insert(ALLOW, methods);
    response
}

/// The session that a path names, for whoever may do something on its route.
fn session(
    shared: &Shared,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: &HeaderMap,
) -> Result<Session, Refused> {
    let Path((route, id)) = path.map_err(|_| Refused::NoSession)?;
    authorisation::check(&shared.config, &route, headers)?;
    // A token for one route must not reach the sessions of another.
    let session = shared.find(&id).filter(|session| session.route() == route);
    session.ok_or(Refused::NoSession)
}

fn add_ice_servers(shared: &Shared, headers: &mut HeaderMap) {
    // Not the session's id: whoever knows that can end the call, and TURN servers log their users.
    let user = Uuid::new_v4().simple().to_string();
    for link in ice_servers::links(&shared.config, &user, SystemTime::now()) {
        headers.append(LINK, link);
    }
}

/// The path of a URL without a slash at its end; mostly there is none.
fn public_path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |start| &rest[start..])
}

fn value(text: String) -> Result<HeaderValue, Refused> {
    HeaderValue::try_from(text).map_err(|_| Refused::Internal)
}

#[cfg(test)]
mod tests;
