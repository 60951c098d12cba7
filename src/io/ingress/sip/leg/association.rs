//! A leg's DTLS association: the handshake on the RTP port, and the keys that it gives.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::UdpSocket;
use tracing::debug;

use crate::engine::rtp::dtls::DtlsRole;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::rtp::dtls::Handshake;
use crate::engine::rtp::dtls::HandshakeError;
use crate::engine::rtp::dtls::Identity;
use crate::engine::rtp::key::SrtpKey;

/// An association, from its first flight on.
pub(super) struct Association {
    role: DtlsRole,
    fingerprint: Fingerprint,
    handshake: Handshake,
    keys: Option<(SrtpKey, SrtpKey)>,
    /// Where the peer is: as its description says, until it shows itself elsewhere (behind a NAT).
    peer: Option<SocketAddr>,
    /// Whether it has shown itself. From then on nobody else is listened to: an alert needs no key.
    is_seen: bool,
    /// Whether only the address of the description is listened to.
    is_strict: bool,
}

impl Association {
    pub(super) fn new(
        role: DtlsRole,
        identity: &Identity,
        fingerprint: Fingerprint,
        peer: Option<SocketAddr>,
        is_strict: bool,
        now: Instant,
    ) -> Self {
        Self {
            role,
            fingerprint,
            handshake: Handshake::new(role, identity, fingerprint, now),
            keys: None,
            peer,
            is_seen: false,
            is_strict,
        }
    }

    /// Whether a new agreement means this same association (RFC 5763 §6.6).
    pub(super) fn is(&self, role: DtlsRole, fingerprint: Fingerprint) -> bool {
        self.role == role && self.fingerprint == fingerprint
    }

    /// Ours and theirs, once the handshake is done.
    pub(super) const fn keys(&self) -> Option<(SrtpKey, SrtpKey)> {
        self.keys
    }

    /// Takes a datagram; `true` if it has brought the keys.
    pub(super) fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<bool, HandshakeError> {
        /// A handshake begins with nothing else, least of all with an alert (RFC 5246 §6.2.1).
        const HANDSHAKE: u8 = 22;
        let is_expected = self.peer == Some(from);
        let may_begin = !self.is_strict && datagram.first() == Some(&HANDSHAKE);
        if !is_expected && (self.is_seen || !may_begin) {
            return Ok(false);
        }
        self.peer = Some(from);
        self.is_seen = true;
        let Some(keys) = self.handshake.receive(datagram, now)? else {
            return Ok(false);
        };
        self.keys = Some((keys.ours, keys.theirs));
        Ok(true)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.handshake.deadline()
    }

    pub(super) fn tick(&mut self, now: Instant) -> Result<(), HandshakeError> {
        self.handshake.tick(now)
    }

    /// Sends what is due.
    pub(super) fn send_due(&mut self, socket: &UdpSocket) {
        while let Some(datagram) = self.handshake.poll_transmit() {
            let Some(peer) = self.peer else {
                return;
            };
            if let Err(error) = socket.try_send_to(&datagram, peer) {
                debug!(%error, "a flight could not be sent");
            }
        }
    }
}
