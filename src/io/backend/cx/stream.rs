//! One turn: one task, one `StreamingDetectIntent` stream.
//!
//! **Requests do not wait for responses.** Google sends the response headers with the first response, which may be many
//! seconds of audio after the first request; the call only resolves then. The requests come from a stream of their own
//! ([`Uplink`]) that the connection polls, so nothing in this task has to run for audio to flow.
//!
//! **The open timeout** must therefore not look at responses: a silent caller on a healthy stream causes none. It ends when
//! the connection takes the first request, which it does once it is dialled and the stream fits under the server's limit
//! of concurrent streams. A connection that dies later is found by the pool's pings; a server that takes everything and
//! never answers, by [`TURN_TIMEOUT`].
//!
//! **The circuit** ([`Circuit`](crate::io::backend::breaker::Circuit)) is asked before anything else. The first message of the
//! server settles the stream for it, else its end does, by what went wrong and how far it got.
//!
//! **Half-close and cancel.** The end of the audio ring half-closes. A dropped turn ends the ring too, but has set
//! `cancelled` before; then the request stream does not end, it is reset, so that the agent does not answer a turn that was
//! given up (and change the session by it).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::uri::PathAndQuery;
use tandem_proto::cx::v3::StreamingDetectIntentRequest;
use tandem_proto::cx::v3::StreamingDetectIntentResponse;
use tandem_proto::cx::v3::streaming_detect_intent_response::Response;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::CancellationHandle;
use tonic::Request;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::metadata::MetadataValue;
use tonic_prost::ProstCodec;

use crate::engine::call::event::Answer;
use crate::engine::call::event::BackendEvent;
use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::engine::call::event::Message;
use crate::engine::call::event::StreamId;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::ring;
use crate::io::backend::breaker::Outcome;
use crate::io::backend::breaker::Permit;
use crate::io::backend::cx::Agent;
use crate::io::backend::cx::Known;
use crate::io::backend::cx::Version;
use crate::io::backend::cx::convert;
use crate::io::backend::cx::convert::Listener;
use crate::io::clock::now;
use crate::io::metrics;
use crate::io::metrics::Alive;
use crate::io::metrics::Object;

/// The message of the fault when a stream ends in order without a final answer.
pub const NO_FINAL_ANSWER: &str = "the stream ended without a final answer";

/// How long a token, a connection and a place on it may take together. Dialling alone is allowed as much.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a turn may take at all: what Google's own clients wait (facts §8.1).
const TURN_TIMEOUT: Duration = Duration::from_secs(220);
/// A long prompt at 48 kHz exceeds gRPC's usual 4 MiB (facts §7.2); 64 MiB are eleven minutes of it.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
/// The recogniser takes about 25 KB per message (facts §7.3).
const MAX_AUDIO_BYTES: usize = 25_000;
/// Who calls, in the words of Google's clients: `name/version`, separated by blanks.
const API_CLIENT: &str = concat!(
    "gl-rust/",
    env!("CARGO_PKG_RUST_VERSION"),
    " grpc/tonic-0.14 gccl/",
    env!("CARGO_PKG_VERSION")
);

/// A turn to be run.
pub(super) struct Turn {
    pub(super) agent: Arc<Agent>,
    pub(super) stream: StreamId,
    pub(super) first: StreamingDetectIntentRequest,
    pub(super) audio: Option<ring::Receiver<u8>>,
    /// How the agent was asked to write its speech.
    pub(super) asked: AudioFormat,
    pub(super) cancelled: CancellationToken,
    pub(super) known: Arc<Known>,
    pub(super) events: mpsc::Sender<(StreamId, BackendEvent)>,
}

impl Turn {
    /// Runs the turn; its last event is [`BackendEvent::Closed`].
    pub(super) async fn run(self) {
        let mut counted = Counted::new(self.agent.label.clone());
        let (stream, events) = (self.stream, self.events.clone());
        let fault = match self.agent.circuit.admit(now()) {
            Ok(permit) => self.take(permit).await.err(),
            Err(fault) => Some(fault),
        };
        counted.fault = fault.as_ref().map(|fault| fault.kind);
        // A call that no longer listens needs no goodbye.
        let _ = events.send((stream, BackendEvent::Closed(fault))).await;
    }

    /// Converses in the time that there is, and draws the conclusions from how it ended.
    async fn take(self, permit: Permit) -> Result<(), Fault> {
        let agent = self.agent.clone();
        let mut contact = Contact {
            permit,
            reach: Reach::Nowhere,
        };
        let result = timeout(TURN_TIMEOUT, self.converse(&mut contact))
            .await
            .unwrap_or_else(|_| {
                Err(Fault {
                    kind: FaultKind::DeadlineExceeded,
                    message: format!("no answer within {} s", TURN_TIMEOUT.as_secs()),
                })
            });
        let kind = result.as_ref().err().map(|fault| fault.kind);
        let outcome = outcome(kind, contact.reach);
        contact.permit.settle(outcome, now());
        if kind == Some(FaultKind::Unauthenticated) {
            agent.auth.renew(now());
        }
        result
    }

    async fn converse(self, contact: &mut Contact) -> Result<(), Fault> {
        let opening = timeout(OPEN_TIMEOUT, self.agent.auth.headers());
        let headers = opening
            .await
            .unwrap_or_else(|_| Err(unopened("no token")))?;
        let lease = self.agent.pool.lease().ok_or_else(|| Fault {
            kind: FaultKind::ResourceExhausted,
            message: "every connection to the agent is full".to_owned(),
        })?;
        contact.reach = Reach::Dialling;
        let (opened, mut has_opened) = oneshot::channel();
        let mut request = Request::new(Uplink {
            first: Some((self.first, opened)),
            audio: self.audio,
            cancelled: self.cancelled,
        });
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request
            .metadata_mut()
            .insert("x-goog-api-client", MetadataValue::from_static(API_CLIENT));
        let _cancel = CancelOnDrop(Some(request.cancellation_handle()));

        let mut client =
            Grpc::new(lease.channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let call = async {
            client.ready().await.map_err(|error| Fault {
                kind: FaultKind::Unavailable,
                message: error.to_string(),
            })?;
            let codec = ProstCodec::<_, StreamingDetectIntentResponse>::default();
            client
                .streaming(request, path(self.agent.version), codec)
                .await
                .map_err(|status| convert::fault(&status))
        };
        tokio::pin!(call);
        let response = tokio::select! {
            response = &mut call => response,
            opened = timeout(OPEN_TIMEOUT, &mut has_opened) => match opened {
                Ok(Ok(())) => {
                    contact.reach = Reach::Server;
                    call.await
                }
                // Not opened at all is for the call itself to explain.
                Ok(Err(_)) => call.await,
                Err(_) => Err(unopened("no stream")),
            },
        };
        if has_opened.try_recv().is_ok() {
            // The response was as fast.
            contact.reach = Reach::Server;
        }
        let mut responses = response?.into_inner();
        let mut is_answered = false;
        while let Some(response) = responses
            .message()
            .await
            .map_err(|status| convert::fault(&status))?
        {
            contact.permit.settle(Outcome::Success, now());
            log_webhooks(&self.agent.label, &response);
            let listener = Listener {
                language: &self.agent.language,
                channel: &self.agent.channel,
                asked: self.asked,
            };
            let Some(mut event) = convert::backend_event(response, listener) else {
                continue;
            };
            if let BackendEvent::Answer(answer) = &mut event {
                self.known.answered.store(true, Ordering::Release);
                self.known.tell_of_other_channel_once(answer);
                is_answered |= answer.partial.is_none();
            }
            if self.events.send((self.stream, event)).await.is_err() {
                return Err(Fault {
                    kind: FaultKind::Cancelled,
                    message: "the call no longer listens".to_owned(),
                });
            }
        }
        match is_answered {
            true => Ok(()),
            false => Err(Fault {
                kind: FaultKind::Internal,
                message: NO_FINAL_ANSWER.to_owned(),
            }),
        }
    }
}

/// What a stream knows of its endpoint.
struct Contact {
    permit: Permit,
    reach: Reach,
}

/// How far a stream got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It has no token yet, or no place in the pool.
    Nowhere,
    /// A connection is to take it.
    Dialling,
    /// A connection took its first request.
    Server,
}

/// What the end of a stream that heard nothing says about its endpoint.
fn outcome(fault: Option<FaultKind>, reach: Reach) -> Outcome {
    match fault {
        None => Outcome::Success,
        Some(FaultKind::Cancelled | FaultKind::CircuitOpen) => Outcome::Unknown,
        Some(FaultKind::Unavailable) if reach == Reach::Server => Outcome::Broken,
        Some(FaultKind::Unavailable) => Outcome::Failure,
        // Credentials that yield no token, and a full pool, are matters of ours.
        Some(_) if reach == Reach::Nowhere => Outcome::Unknown,
        Some(FaultKind::ResourceExhausted | FaultKind::DeadlineExceeded) => Outcome::Failure,
        // Who can be wrong is alive.
        Some(
            FaultKind::InvalidArgument
            | FaultKind::NotFound
            | FaultKind::PermissionDenied
            | FaultKind::FailedPrecondition
            | FaultKind::Aborted
            | FaultKind::OutOfRange
            | FaultKind::Internal
            | FaultKind::Unauthenticated
            | FaultKind::Other,
        ) => Outcome::Success,
    }
}

impl Known {
    /// That messages are left out is news once in a call, however many there are.
    fn tell_of_other_channel_once(&self, answer: &mut Answer) {
        let is_told = |message: &Message| *message == convert::OTHER_CHANNEL;
        if answer.messages.iter().any(is_told) && self.other_channel.swap(true, Ordering::Relaxed) {
            answer.messages.retain(|message| !is_told(message));
        }
    }
}

/// The request half of a stream: the first message, then audio as it comes.
struct Uplink {
    /// With it, whom to tell that it was taken.
    first: Option<(StreamingDetectIntentRequest, oneshot::Sender<()>)>,
    audio: Option<ring::Receiver<u8>>,
    cancelled: CancellationToken,
}

impl Stream for Uplink {
    type Item = StreamingDetectIntentRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let uplink = self.get_mut();
        if let Some((first, opened)) = uplink.first.take() {
            // Nobody waits any more if the response was faster.
            let _ = opened.send(());
            return Poll::Ready(Some(first));
        }
        let Some(audio) = &mut uplink.audio else {
            return Poll::Ready(None);
        };
        let mut bytes = Vec::with_capacity(audio.len().min(MAX_AUDIO_BYTES));
        match ready!(audio.poll_read(cx, &mut bytes, MAX_AUDIO_BYTES)) {
            // No waker: what comes next is the reset, and that wakes by itself.
            0 if uplink.cancelled.is_cancelled() => Poll::Pending,
            0 => Poll::Ready(None),
            _ => Poll::Ready(Some(convert::audio_request(Bytes::from(bytes)))),
        }
    }
}

/// Resets the request half when the turn goes before its requests have ended.
struct CancelOnDrop(Option<CancellationHandle>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.cancel();
        }
    }
}

fn path(version: Version) -> PathAndQuery {
    PathAndQuery::from_static(match version {
        Version::V3 => "/google.cloud.dialogflow.cx.v3.Sessions/StreamingDetectIntent",
        Version::V3beta1 => "/google.cloud.dialogflow.cx.v3beta1.Sessions/StreamingDetectIntent",
    })
}

fn unopened(what: &str) -> Fault {
    Fault {
        kind: FaultKind::Unavailable,
        message: format!("{what} within {} s", OPEN_TIMEOUT.as_secs()),
    }
}

/// A webhook that failed is not a failed turn, but the agent's owner wants to know (facts §9).
fn log_webhooks(agent: &str, response: &StreamingDetectIntentResponse) {
    let Some(Response::DetectIntentResponse(answer)) = &response.response else {
        return;
    };
    let statuses = answer
        .query_result
        .iter()
        .flat_map(|result| &result.webhook_statuses);
    for status in statuses.filter(|status| status.code != 0) {
        tracing::info!(
            agent,
            code = status.code,
            message = status.message,
            "a webhook of the agent failed"
        );
    }
}

/// A stream that is counted as open until it is dropped; as cancelled, unless it ended before.
struct Counted {
    agent: Arc<str>,
    since: Instant,
    fault: Option<FaultKind>,
    _alive: Alive,
}

impl Counted {
    fn new(agent: Arc<str>) -> Self {
        metrics::stream_opened();
        Self {
            agent,
            since: Instant::now(),
            fault: Some(FaultKind::Cancelled),
            _alive: Alive::new(Object::Stream),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::stream_closed(&self.agent, self.fault, self.since.elapsed());
    }
}
