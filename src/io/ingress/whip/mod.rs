//! WHIP (RFC 9725): calls from browsers, apps and other WebRTC clients.
//!
//! 1. A client asks `POST /whip/{route}` with its SDP offer. The answer says where we are, and names a session
//!    ([`session`]).
//! 2. It comes to our one UDP port ([`mux`]), which finds its leg by what its checks say. Once keys are agreed the call
//!    begins ([`leg`]). All of the connection itself is [`crate::engine::webrtc`].
//! 3. Data channels that it opens tell its screen what happens in the call ([`events`]).
//! 4. `DELETE` on the session's URL ends the call, as does closing the connection, or silence.
//!
//! Whatever is turned away is turned away by a name ([`refused`]) that the client, the log and the metrics all see; datagrams
//! that are nobody's are only counted ([`ignored`]).
//!
//! # Decisions
//! - **The call begins with the keys**, not with the offer: whoever only posts offers costs no agent.
//! - **Candidates of clients are not used.** We are where we say, so their checks come to us; to try theirs would let any
//!   offer send our packets to third parties. Trickled ones are read, and answered, for clients that must be answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use self::mux::Mux;
use self::session::Sessions;
use crate::config;
use crate::engine::call::settings::LegTraits;
use crate::engine::media::frame::SampleRate;
use crate::engine::rtp::dtls::Identity;
use crate::io::ingress::Exchange;
use crate::io::ingress::tally;

mod authorisation;
mod cors;
mod events;
mod fragment;
mod http;
mod ice_servers;
mod ignored;
mod leg;
mod measure;
mod mux;
mod offer_body;
mod precondition;
mod problem;
pub mod refused;
mod session;

/// How a leg behaves whose codec is decoded to this rate (16 kHz for Opus): it takes a packet every 20 ms, and the call begins
/// with an open line.
pub const fn traits(rate: SampleRate) -> LegTraits {
    LegTraits {
        rate,
        lead: Duration::ZERO,
        confirms_playout: false,
        continuous: true,
        rings: None,
        transfers: false,
        dials: false,
    }
}

/// What this ingress needs.
pub struct WhipIngress {
    /// How browsers see us: scheme, host and perhaps a path, no slash at the end (`config::Http::public_base`).
    pub public_url: String,
    /// `[webrtc]`.
    pub config: config::Webrtc,
    /// Where calls go.
    pub exchange: Arc<dyn Exchange>,
}

/// What all requests and legs share.
struct Shared {
    public_url: String,
    config: config::Webrtc,
    exchange: Arc<dyn Exchange>,
    identity: Arc<Identity>,
    /// Our name in RTCP: random, for it is sent to everybody (RFC 7022).
    cname: String,
    mux: Mux,
    /// What clients are told of where we are.
    candidates: Arc<[SocketAddr]>,
    sessions: Sessions,
    next_leg: AtomicU64,
}

impl WhipIngress {
    /// Opens the port and gives the routes for the public listener: `/whip/{route}` and `/whip/{route}/{id}`; `None` if
    /// nothing is to be listened on. Call it after the metrics' recorder is installed.
    ///
    /// # Errors
    /// If a port cannot be opened, or the system has no random numbers.
    pub fn start(self, stopped: &CancellationToken) -> anyhow::Result<Option<Router>> {
        if self.config.listen.is_empty() {
            return Ok(None);
        }
        measure::describe();
        ignored::describe();
        tally::describe();
        let mux = Mux::open(&self.config.listen, stopped.clone())?;
        let candidates = advertised(&self.config, &mux.addresses());
        tracing::info!(?candidates, "WebRTC: callers are told to come here");
        if !self.config.is_callable() {
            tracing::info!(
                "nobody can call by WHIP yet: there are no tokens (webrtc.tokens_file), nor is require_token = false"
            );
        }
        let shared = Arc::new(Shared {
            public_url: self.public_url,
            config: self.config,
            exchange: self.exchange,
            identity: Arc::new(Identity::generate()?),
            cname: format!("{:016x}", rand::random::<u64>()),
            mux,
            candidates: candidates.into(),
            sessions: Sessions::default(),
            next_leg: AtomicU64::new(0),
        });
        Ok(Some(http::routes(shared)))
    }
}

/// Where clients are told that we are: as configured, else where we listen.
fn advertised(webrtc: &config::Webrtc, listening: &[SocketAddr]) -> Vec<SocketAddr> {
    let configured = &webrtc.advertised_addresses;
    if configured.is_empty() {
        return listening.to_vec();
    }
    let port = listening.first().map_or(0, SocketAddr::port);
    configured
        .iter()
        .map(|one| SocketAddr::new(one.ip, one.port.unwrap_or(port)))
        .collect()
}
