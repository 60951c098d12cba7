//! The media websocket as a whole: handshake, `start`, the leg, goodbye.
//!
//! One task per websocket. [`start`] turns a handshake into a leg, [`mod@line`] carries the leg to its [`super::ending`].

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use axum::extract::State;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::Message as Frame;
use axum::extract::ws::WebSocket;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tracing::Instrument;
use tracing::info;

use super::Shared;
use super::ending::Ending;
use super::line;
use super::measure;
use super::refused::Refused;
use super::signature;
use super::start;

/// The largest message. `media` has half a kilobyte and the largest `start` that Twilio allows (its parameters) some
/// tens.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// What the websocket reads at once: some ten media messages. The default of 128 KiB is a call's whole memory budget.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// What may collect before it is written. Everything is flushed after each turn anyway.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;

/// `GET /twilio/media`: the handshake.
pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    // A handshake has no form, and our URL no query: Twilio would strip it.
    let urls = signature::websocket_urls(&shared.media_url());
    if let Err(reason) = shared.check_signature(&headers, &urls, &[]) {
        measure::refused(reason);
        return (StatusCode::FORBIDDEN, reason.label()).into_response();
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let Ok(waiting) = shared.waiting.clone().try_acquire_owned() else {
        measure::refused(Refused::Busy);
        return (StatusCode::SERVICE_UNAVAILABLE, Refused::Busy.label()).into_response();
    };
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_MESSAGE_BYTES)
        .on_upgrade(|socket| serve(shared, socket, waiting))
}

/// The whole life of a websocket.
async fn serve(shared: Arc<Shared>, mut socket: WebSocket, waiting: OwnedSemaphorePermit) {
    let timings = shared.ingress.timings;
    let deadline = Instant::now() + timings.start_deadline;
    let started = match timeout_at(deadline, start::begin(&shared, &mut socket)).await {
        Ok(started) => started,
        Err(_) => Err(Ending::Refused(Refused::StartTimeout)),
    };
    drop(waiting);
    let ending = match started {
        Ok(started) => {
            let span = tracing::info_span!("leg", call_sid = started.call_sid);
            line::carry(&mut socket, started, timings)
                .instrument(span)
                .await
        }
        Err(ending) => {
            info!(
                reason = ending.label(),
                "a media websocket ended before its start"
            );
            ending
        }
    };
    if let Ending::Refused(reason) = ending {
        measure::refused(reason);
    }
    close(socket, ending, timings.write_timeout).await;
}

/// Says goodbye and waits, not for long, until the peer has heard it: closing at once, with bytes of the peer unread,
/// would reset the connection and could take the goodbye with it.
async fn close(mut socket: WebSocket, ending: Ending, patience: Duration) {
    if matches!(ending, Ending::Lost(_)) {
        return;
    }
    let goodbye = async {
        if let Some(frame) = ending.close_frame() {
            socket.send(Frame::Close(Some(frame))).await?;
        }
        poll_fn(|cx| {
            loop {
                if !matches!(ready!(Pin::new(&mut socket).poll_next(cx)), Some(Ok(_))) {
                    return Poll::Ready(Ok::<(), axum::Error>(()));
                }
            }
        })
        .await
    };
    // Whether it was heard makes no difference any more.
    let _ = timeout(patience, goodbye).await;
}
