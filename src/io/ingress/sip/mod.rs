//! SIP and RTP: a PBX, a carrier's trunk or a softphone calls, and talks to the agent.
//!
//! The stack (rsipstack, pinned) has transactions and dialogs. It is used behind a boundary of our own, which puts right
//! what it gets wrong, each defect where it can be seen:
//!
//! - before it: [`socket`] and [`gate`] judge every datagram ([`normalise`] mends or refuses it, [`digest`] asks for
//!   passwords, [`reply`] answers without state); [`outgoing`] mends what the stack writes;
//! - beside it: [`router`] answers what it leaves unanswered, [`reliable`] is its missing 100rel, [`session_timer`] its
//!   missing session timer;
//! - above it: [`invite`] makes an INVITE a leg, [`leg`] carries the leg to its end, `leg::media` moves its packets.
//!
//! [`register`] makes us extensions of PBXes. Everything that decides about packets and descriptions is in the engine
//! (`engine::rtp`, `engine::sdp`).

pub mod digest;
pub mod info_dtmf;
pub mod normalise;
pub mod outgoing;
pub mod raw;
pub mod reliable;
pub mod reply;
pub mod session_timer;

mod address;
mod contact;
mod gate;
mod invite;
mod leg;
mod listen;
mod measure;
mod message;
mod ports;
mod refused;
mod register;
mod router;
mod socket;
mod switchboard;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::gate::Gate;
use self::ports::Ports;
use crate::config;
use crate::engine::call::settings::LegTraits;
use crate::engine::media::frame::SampleRate;
use crate::engine::rtp::dtls::Identity;
use crate::io::clock::now;
use crate::io::ingress::Exchange;
use crate::io::ingress::tally;

/// What the SIP ingress is made of.
pub struct SipIngress {
    /// `[sip]`
    pub sip: config::Sip,
    /// `[rtp]`
    pub rtp: config::Rtp,
    /// `limits.calls_per_second`, beyond a multiple of which INVITEs are a flood.
    pub calls_per_second: u32,
    /// Where calls go.
    pub exchange: Arc<dyn Exchange>,
}

/// How a leg behaves whose codec has this rate: it rings for at most `answer_within`, takes a packet every 20 ms, and can be
/// transferred by REFER.
pub const fn traits(rate: SampleRate, answer_within: Duration) -> LegTraits {
    LegTraits {
        rate,
        lead: Duration::ZERO,
        confirms_playout: false,
        continuous: true,
        rings: Some(answer_within),
        transfers: true,
        dials: false,
    }
}

/// What every part of the ingress needs.
struct Shared {
    sip: config::Sip,
    rtp: config::Rtp,
    exchange: Arc<dyn Exchange>,
    gate: Arc<Gate>,
    ports: Ports,
    /// Who we are in DTLS, as long as this process runs.
    identity: Identity,
    /// Our name in RTCP reports: random, so that it says nothing of this machine (RFC 7022).
    cname: String,
    /// TCP and TLS connections that are open.
    connections: AtomicUsize,
}

impl Shared {
    /// Our address as others see it, for Via, where it is configured as one.
    fn advertised(&self, port: u16) -> Option<SocketAddr> {
        let address = self.sip.advertised_address.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(address, port))
    }

    /// The address that goes into SDP for a peer that sees us as `seen_as`.
    fn media_address(&self, seen_as: IpAddr) -> IpAddr {
        let advertised = self
            .sip
            .advertised_address
            .as_ref()
            .and_then(|address| address.parse().ok());
        self.rtp
            .advertised_address
            .or(advertised)
            .unwrap_or(seen_as)
    }

    /// What we want of session timers.
    fn timer_settings(&self) -> session_timer::Settings {
        session_timer::Settings {
            session_expires: self.sip.session_expires,
            min_se: self.sip.min_session_expires,
        }
    }
}

impl SipIngress {
    /// Opens every listener and registers every extension, until `stopped`. Returns where it listens, as the
    /// configuration writes it.
    ///
    /// # Errors
    /// If a listener cannot be opened.
    pub async fn start(self, stopped: &CancellationToken) -> anyhow::Result<Vec<String>> {
        if self.sip.listen.is_empty() {
            return Ok(Vec::new());
        }
        measure::describe();
        tally::describe();
        if let Some(overlap) = ports::ephemeral_overlap(&self.rtp.ports) {
            tracing::warn!(
                first = overlap.start(),
                last = overlap.end(),
                "rtp.ports overlaps with the ports that the kernel gives to others \
                 (net.ipv4.ip_local_port_range): calls will now and then find a port taken"
            );
        }
        let is_open = self.sip.allow.is_empty() && self.sip.auth.users.is_empty();
        if is_open
            && self
                .sip
                .listen
                .iter()
                .any(|listen| !listen.address.ip().is_loopback())
        {
            tracing::warn!("anybody may call: set sip.allow or sip.auth.users");
        }
        let now = now();
        let shared = Arc::new(Shared {
            gate: Arc::new(Gate::new(&self.sip, self.calls_per_second, now)),
            ports: Ports::new(&self.rtp.ports, rand::random()),
            identity: Identity::generate()?,
            sip: self.sip,
            rtp: self.rtp,
            exchange: self.exchange,
            cname: format!("{:016x}", rand::random::<u64>()),
            connections: AtomicUsize::new(0),
        });
        let boards = listen::open(&shared, stopped).await?;
        register::start(&boards, stopped);
        Ok(boards.iter().flat_map(|board| board.listeners()).collect())
    }
}
