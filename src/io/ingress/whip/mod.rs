//! WebRTC, signalled by WHIP (RFC 9725): a call from a browser.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;

use self::session::Session;
use crate::config;
use crate::io::ingress::Exchange;

mod authorisation;
mod cors;
mod fragment;
mod http;
mod ice_servers;
pub mod measure;
mod offer_body;
mod precondition;
mod problem;
pub mod refused;
mod session;

/// What this ingress needs.
pub struct WhipIngress {
    /// How browsers see us: scheme, host and perhaps a path, no slash at the end (`config::Http::public_base`).
    pub public_url: String,
    /// `[webrtc]`.
    pub config: config::Webrtc,
    /// Where calls go.
    pub exchange: Arc<dyn Exchange>,
}

/// The HTTP side. Call it after the metrics' recorder is installed, so that this ingress's series are there from the start.
pub fn routes(ingress: WhipIngress) -> Router {
    measure::describe();
    http::routes(Arc::new(Shared {
        public_url: ingress.public_url,
        config: ingress.config,
        exchange: ingress.exchange,
        sessions: Mutex::default(),
    }))
}

/// What all requests share.
struct Shared {
    public_url: String,
    config: config::Webrtc,
    exchange: Arc<dyn Exchange>,
    sessions: Mutex<HashMap<String, Session>>,
}
