//! The operator's listener: metrics, health, calls and their live events, drain, log filter (design.md §5.3).
//!
//! It has no authentication of its own and belongs on an inside address.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::get;
use axum::routing::post;
use axum::routing::put;
use futures_util::Stream;
use futures_util::StreamExt as _;
use futures_util::stream;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::engine::call::end::EndReason;
use crate::engine::call::event::Transfer;
use crate::io::calls::Calls;
use crate::io::calls::TransferRefused;
use crate::io::journal::Journal;
use crate::io::metrics;
use crate::io::telemetry::FilterHandle;

/// The largest order to transfer: far more than what may go along with a caller.
const MAX_ORDER_BYTES: usize = 64 * 1024;

/// What the operator's pages speak of.
#[derive(Clone)]
pub struct Admin {
    /// The registry of calls.
    pub calls: Calls,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Changes the log filter.
    pub filter: FilterHandle,
    /// Set once everything that serving calls needs is there.
    pub started: Arc<AtomicBool>,
}

/// The operator's pages.
pub fn routes(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/v1/calls", get(list))
        .route("/v1/calls/{id}", get(show).delete(hang_up))
        .route("/v1/calls/{id}/events", get(events))
        .route(
            "/v1/calls/{id}/transfer",
            post(transfer).layer(DefaultBodyLimit::max(MAX_ORDER_BYTES)),
        )
        .route("/v1/drain", post(drain))
        .route("/v1/log-filter", put(log_filter))
        .with_state(admin)
}

async fn metrics_page(State(admin): State<Admin>) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics::render(&admin.metrics),
    )
        .into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    if !admin.started.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    }
    if admin.calls.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ready\n".into_response()
}

async fn list(State(admin): State<Admin>) -> Response {
    Json(json!({ "calls": admin.calls.list() })).into_response()
}

async fn show(State(admin): State<Admin>, Path(id): Path<Uuid>) -> Response {
    admin
        .calls
        .summary(id)
        .map_or_else(no_such_call, |summary| Json(summary).into_response())
}

async fn hang_up(State(admin): State<Admin>, Path(id): Path<Uuid>) -> Response {
    if admin.calls.stop(id, EndReason::Operator) {
        StatusCode::ACCEPTED.into_response()
    } else {
        no_such_call()
    }
}

/// An order to bring a caller elsewhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferOrder {
    to: String,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

async fn transfer(State(admin): State<Admin>, Path(id): Path<Uuid>, body: Bytes) -> Response {
    let refuse = |status: StatusCode, reason: String| {
        (status, Json(json!({ "error": reason }))).into_response()
    };
    let order: TransferOrder = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let transfer = Transfer {
        to: order.to,
        metadata: order.metadata.map_or(Value::Null, Value::Object),
    };
    match admin.calls.transfer(id, transfer) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(TransferRefused::NoSuchCall) => no_such_call(),
        Err(reason @ (TransferRefused::BadTarget | TransferRefused::NotDialable)) => {
            refuse(StatusCode::BAD_REQUEST, reason.to_string())
        }
        Err(reason @ TransferRefused::Busy) => refuse(StatusCode::CONFLICT, reason.to_string()),
    }
}

async fn drain(State(admin): State<Admin>) -> StatusCode {
    admin.calls.start_draining();
    StatusCode::ACCEPTED
}

async fn log_filter(State(admin): State<Admin>, filter: String) -> Response {
    match admin.filter.set(filter.trim()) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response(),
    }
}

async fn events(State(admin): State<Admin>, Path(id): Path<Uuid>) -> Response {
    admin
        .calls
        .journal(id)
        .map_or_else(no_such_call, |journal| {
            Sse::new(follow(&journal)).into_response()
        })
}

fn no_such_call() -> Response {
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "error": "there is no such call in progress" })),
    )
        .into_response()
}

/// Everything from the beginning of the call until it ends.
fn follow(journal: &Journal) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let (kept, live) = journal.read();
    let live = stream::unfold(Some(live), |live| async {
        let mut live = live?;
        match live.recv().await {
            Ok(line) => Some((line.for_operator(), Some(live))),
            // A watcher that was too slow goes on with what is still there, and is told.
            Err(RecvError::Lagged(missed)) => {
                let line = json!({ "type": "missed", "lines": missed }).to_string();
                Some((line, Some(live)))
            }
            Err(RecvError::Closed) => None,
        }
    });
    stream::iter(kept)
        .map(|line| line.for_operator())
        .chain(live)
        .map(|line| Ok(Event::default().data(line)))
}
