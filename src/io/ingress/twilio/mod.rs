//! Twilio: a telephone call that Twilio has answered, as a media websocket.
//!
//! 1. Twilio asks `POST /twilio/voice` what to do with a call ([`webhook`]). The answer is TwiML: connect it to our
//!    websocket, with a one-time token ([`token`]) as a parameter.
//! 2. Twilio opens `GET /twilio/media` ([`media`]) and speaks JSON ([`messages`]): `connected`, `start` with the token,
//!    then fifty `media` messages a second. From `start` on it is a leg of a call.
//! 3. When the websocket closes, Twilio asks `POST /twilio/action` what comes next: hang up, or dial someone ([`dial`]). If
//!    nobody there takes the call, it asks once more, and is told to connect a new websocket, as in 1.
//!
//! Requests carry Twilio's signature ([`signature`]); the token is demanded even where the signature is not. Whatever is
//! turned away is turned away by a name ([`refused`]) that the peer, the log and the metrics all see.
//!
//! # Decisions
//! - **At the limit** the webhook answers `<Reject reason="busy"/>` rather than an HTTP error: the caller hears the busy
//!   tone at once and is not billed, while an error would make Twilio wait, retry and then read out an apology.
//! - **Only `<Connect><Stream>`**: a `<Start><Stream>` is one-way, and a call into which nothing can be said is no call.
//! - **Twilio buffers** what we send and plays it at its own pace, so playout may run [`LEAD`] ahead, marks tell what was
//!   heard, and `clear` empties the buffer.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::routing::get;
use axum::routing::post;
use tokio::sync::Semaphore;
use tracing::debug;
use tracing::warn;

use crate::config;
use crate::engine::call::settings::LegTraits;
use crate::engine::media::frame::SampleRate;
use crate::io::ingress::Exchange;
use crate::io::ingress::twilio::refused::Refused;
use crate::io::ingress::twilio::token::Tokens;

mod dial;
mod ending;
mod line;
pub mod measure;
pub mod media;
pub mod messages;
pub mod refused;
pub mod signature;
mod start;
pub mod token;
pub mod uplink;
pub mod webhook;

/// How far playout may run ahead of real time. It covers the jitter between us and Twilio; more would only be more to
/// throw away on a barge-in.
pub const LEAD: Duration = Duration::from_millis(200);
/// The largest webhook. Twilio's have about 2 KB; SIP headers that it passes on can make that ten.
const MAX_FORM_BYTES: usize = 64 * 1024;
/// Websockets that have not said `start` yet. Twilio takes a tenth of a second for it, so this is thousands of calls a
/// second; without a bound, anyone could hold connections open without ever beginning a call.
const MAX_WAITING: usize = 512;
/// Between two warnings about signatures. A wrong `public_url` fails every call, so it is seen all the same.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// From the websocket's handshake to `start`. Twilio sends it at once; a slow network may add seconds.
    pub start_deadline: Duration,
    /// For a message to leave. A peer that takes longer is dead, and waiting for it would only pile up old audio.
    pub write_timeout: Duration,
    /// From the webhook to `start`. Twilio fetches our TwiML and connects within a second or two.
    pub token_life: Duration,
    /// Silence after which we ask whether the peer is still there. Twilio never falls silent, others may.
    pub ping_after: Duration,
    /// Silence after which it is not.
    pub lost_after: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            start_deadline: Duration::from_secs(10),
            write_timeout: Duration::from_secs(1),
            token_life: Duration::from_secs(60),
            ping_after: Duration::from_secs(5),
            lost_after: Duration::from_secs(15),
        }
    }
}

/// What this ingress needs.
pub struct TwilioIngress {
    /// How Twilio sees us: scheme, host and perhaps a path, no slash at the end (`config::Http::public_base`).
    pub public_url: String,
    /// `[twilio]`.
    pub config: config::Twilio,
    /// Where calls go.
    pub exchange: Arc<dyn Exchange>,
    /// How long things may take.
    pub timings: Timings,
}

/// How a leg behaves: mu-law at 8 kHz, a far end that buffers and returns marks, and no transfer before the websocket closes.
pub const fn traits() -> LegTraits {
    LegTraits {
        rate: SampleRate::HZ_8000,
        lead: LEAD,
        confirms_playout: true,
        continuous: false,
        rings: None,
        transfers: false,
        dials: true,
    }
}

/// The three routes: `POST /twilio/voice`, `GET /twilio/media`, `POST /twilio/action`. Call it after the metrics' recorder
/// is installed, so that this ingress's series are there from the start.
pub fn routes(ingress: TwilioIngress) -> Router {
    measure::describe();
    let tokens = Tokens::new(ingress.timings.token_life, token::CAPACITY);
    let shared = Arc::new(Shared {
        ingress,
        tokens,
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        warned: Mutex::new(None),
    });
    Router::new()
        .route("/twilio/voice", post(webhook::voice))
        .route("/twilio/action", post(webhook::action))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .route("/twilio/media", get(media::upgrade))
        .with_state(shared)
}

/// What all requests share.
struct Shared {
    ingress: TwilioIngress,
    tokens: Tokens,
    waiting: Arc<Semaphore>,
    /// When a bad signature was last worth a warning.
    warned: Mutex<Option<Instant>>,
}

impl Shared {
    /// The websocket's URL as Twilio sees it.
    fn media_url(&self) -> String {
        let base = &self.ingress.public_url;
        let base = match base.split_once("://") {
            Some(("https", rest)) => format!("wss://{rest}"),
            Some(("http", rest)) => format!("ws://{rest}"),
            _ => base.clone(),
        };
        format!("{base}/twilio/media")
    }

    /// Where Twilio asks what comes next.
    fn action_url(&self) -> String {
        format!("{}/twilio/action", self.ingress.public_url)
    }

    /// Checks X-Twilio-Signature against the forms that a URL may have; the first is the one that should be right.
    fn check_signature(
        &self,
        headers: &HeaderMap,
        urls: &[String],
        parameters: &[(String, String)],
    ) -> Result<(), Refused> {
        let config = &self.ingress.config;
        if !config.require_signature {
            return Ok(());
        }
        let signature = headers.get(signature::HEADER);
        // Without a token nothing can be right; the configuration does not allow it.
        let right = match (&config.auth_token, signature) {
            (Some(token), Some(signature)) => {
                signature::verify(token.reveal(), urls, parameters, signature.as_bytes())
            }
            _ => false,
        };
        if right {
            return Ok(());
        }
        let (url, signed) = (urls.first(), signature.is_some());
        if !self.may_warn() {
            debug!(
                url,
                signed, "refused another request whose X-Twilio-Signature is missing or wrong"
            );
            return Err(Refused::BadSignature);
        }
        warn!(
            url,
            signed,
            "refused a request whose X-Twilio-Signature is missing or wrong for this URL; http.public_url must be exactly \
             the scheme, host and path that Twilio is configured with, and the auth token that of the same account"
        );
        Err(Refused::BadSignature)
    }

    /// Whether a bad signature is worth a warning again: whoever scans the Internet must not fill our logs.
    fn may_warn(&self) -> bool {
        let now = Instant::now();
        let mut warned = self.warned.lock().expect("no panic while locked");
        if warned.is_some_and(|last| now < last + WARNING_PAUSE) {
            return false;
        }
        *warned = Some(now);
        true
    }
}
