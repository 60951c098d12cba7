//! Temporary.
use super::Shared;
use super::session::CallRequest;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use std::sync::Arc;
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/whip/{route}", post(begin))
        .route("/whip/{route}/{id}", delete(end))
        .with_state(shared)
}
async fn begin(
    State(shared): State<Arc<Shared>>,
    Path(route): Path<String>,
    body: bytes::Bytes,
) -> Response {
    match shared.begin(
        &body,
        CallRequest {
            route: route.clone(),
            parameters: Default::default(),
        },
    ) {
        Ok(begun) => (
            StatusCode::CREATED,
            [
                ("content-type", "application/sdp".to_owned()),
                ("location", format!("/whip/{route}/{}", begun.id)),
                ("etag", begun.etag),
            ],
            begun.answer,
        )
            .into_response(),
        Err(error) => (StatusCode::NOT_ACCEPTABLE, format!("{error:?}")).into_response(),
    }
}
async fn end(
    State(shared): State<Arc<Shared>>,
    Path((_, id)): Path<(String, String)>,
) -> StatusCode {
    match shared.find(&id) {
        Some(session) => {
            session.hang_up();
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}
