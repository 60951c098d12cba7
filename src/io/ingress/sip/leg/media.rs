//! A leg's sound: two sockets around an RTP session, and the handshake that gives it keys.
//!
//! Moves bytes and decides nothing but what to leave out: music on hold is not the caller, and a socket that is full
//! loses packets as the network would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::net::UdpSocket;
use tracing::debug;

use crate::engine::call::event::DigitSource;
use crate::engine::call::notice::Direction;
use crate::engine::media::frame::Frame;
use crate::engine::media::frame::SampleRate;
use crate::engine::media::tones::ToneDetector;
use crate::engine::rtp::dtls;
use crate::engine::rtp::dtls::HandshakeError;
use crate::engine::rtp::presence::Patience;
use crate::engine::rtp::session::Beginning;
use crate::engine::rtp::session::Datagram;
use crate::engine::rtp::session::Heard;
use crate::engine::rtp::session::Port;
use crate::engine::rtp::session::Session;
use crate::engine::rtp::session::Setup;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Keying;
use crate::io::ingress::sip::Shared;
use crate::io::ingress::sip::leg::association::Association;
use crate::io::ingress::sip::leg::bridge::Bridge;
use crate::io::ingress::sip::ports::PortPair;
use crate::io::ingress::tally::Tally;
use crate::io::leg::LegInput;
use crate::io::leg::LegPort;
use crate::io::metrics;

/// Datagrams taken in one turn, so that a flood does not keep our own audio waiting.
const READ_BOUND: usize = 16;
/// The largest datagram that is looked at: the largest packet of any codec, with room for SRTP and header extensions.
const LARGEST_DATAGRAM: usize = 2_048;
/// How long after an offer or answer packets may come from elsewhere than it says: a NAT's binding is there with the
/// first packet, and a bridge that moves media does so at once.
const LEARNING: Duration = Duration::from_secs(10);

/// A leg's two sockets.
pub(super) struct Sockets {
    rtp: UdpSocket,
    /// Unless reports share the port of RTP.
    rtcp: Option<UdpSocket>,
}

impl Sockets {
    /// Waits until a datagram can be read.
    pub(super) async fn readable(&self) {
        // An error is read with the next datagram.
        match &self.rtcp {
            None => drop(self.rtp.readable().await),
            Some(rtcp) => {
                tokio::select! {
                    _ = self.rtp.readable() => {}
                    _ = rtcp.readable() => {}
                }
            }
        }
    }
}

/// A leg's sound.
pub(in crate::io::ingress::sip) struct Media {
    sockets: Sockets,
    shared: Arc<Shared>,
    /// The rate at which the leg speaks to the call.
    rate: SampleRate,
    session: Option<Session>,
    association: Option<Box<Association>>,
    agreement: Option<Agreement>,
    is_open: bool,
    is_absent: bool,
    has_failed: bool,
    tones: ToneDetector,
    bridge: Bridge,
    buffer: Box<[u8; LARGEST_DATAGRAM]>,
    tally: Tally,
}

impl Media {
    pub(in crate::io::ingress::sip) fn new(
        ports: PortPair,
        shared: &Arc<Shared>,
        rate: SampleRate,
        now: Instant,
    ) -> Self {
        Self {
            sockets: Sockets {
                rtp: ports.rtp,
                rtcp: Some(ports.rtcp),
            },
            shared: shared.clone(),
            rate,
            session: None,
            association: None,
            has_failed: false,
            agreement: None,
            is_open: false,
            is_absent: false,
            tones: ToneDetector::new(rate),
            bridge: Bridge::default(),
            buffer: Box::new([0; LARGEST_DATAGRAM]),
            tally: Tally::new(now),
        }
    }

    /// Does from now on what both sides have agreed on.
    pub(super) fn agree(&mut self, agreement: &Agreement, now: Instant) {
        if agreement.rtcp_mux {
            self.sockets.rtcp = None;
        }
        self.agreement = Some(agreement.clone());
        self.bridge = Bridge::between(agreement.codec.sample_rate(), self.rate);
        self.set_up(now);
    }

    /// The call has been answered: packets go out from now on.
    pub(super) fn open(&mut self, now: Instant) {
        self.is_open = true;
        self.set_up(now);
    }

    /// Whether packets can be sent and heard: not before there are keys, where there must be some.
    pub(super) const fn is_ready(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the caller's side holds the call: it does not want to hear us.
    pub(super) fn is_held(&self) -> bool {
        self.agreement.as_ref().is_some_and(Agreement::is_held)
    }

    /// Makes the session what was agreed.
    fn set_up(&mut self, now: Instant) {
        let Some(agreement) = &self.agreement else {
            return;
        };
        let rtp = &self.shared.rtp;
        let keys = match agreement.keying {
            Keying::None => None,
            Keying::Sdes { ours, theirs } => Some((ours, theirs)),
            Keying::Dtls { role, fingerprint } => {
                let is_known = self
                    .association
                    .as_ref()
                    .is_some_and(|association| association.is(role, fingerprint));
                // Its time is limited, and the peer begins when it has our description.
                if !is_known && self.is_open {
                    let identity = &self.shared.identity;
                    let peer = agreement.remote_rtp;
                    let is_strict = rtp.strict_source;
                    let new = Association::new(role, identity, fingerprint, peer, is_strict, now);
                    self.association = Some(Box::new(new));
                }
                let keys = self.association.as_ref().and_then(|known| known.keys());
                // Nothing may be heard or said in the clear.
                if keys.is_none() {
                    self.session = None;
                    self.send_due(now);
                    return;
                }
                keys
            }
        };
        let is_held = agreement.is_held();
        let patience = Patience {
            initial: rtp.initial_timeout,
            mid_call: rtp.timeout,
            hold: rtp.hold_timeout,
        };
        let learning = match rtp.strict_source {
            true => Duration::ZERO,
            false => LEARNING,
        };
        let cname = self.shared.cname.clone();
        let setup = Setup {
            send: self.is_open && !is_held,
            // Music on hold is not the caller.
            receive: agreement.direction.receive && !is_held,
            ..agreement.setup(keys, patience, learning, cname, rtp.opus_complexity)
        };
        match &mut self.session {
            Some(session) => session.update(setup, now),
            None => {
                let beginning = Beginning {
                    ssrc: rand::random(),
                    sequence: rand::random(),
                    timestamp: rand::random(),
                    seed: rand::random(),
                };
                self.session = Some(Session::new(setup, beginning, now));
            }
        }
    }

    /// What to wait for.
    pub(super) const fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Takes what has arrived, and gives the call what it should hear of it.
    pub(super) fn receive(&mut self, port: &mut LegPort, now: Instant) {
        for _ in 0..READ_BOUND {
            let received = match self.sockets.rtp.try_recv_from(&mut self.buffer[..]) {
                Ok(received) => received,
                Err(_) => match self.receive_report() {
                    Some(received) => received,
                    None => break,
                },
            };
            let (length, from) = received;
            self.take(length, from, now);
            self.hear(port, now);
        }
        self.send_due(now);
    }

    fn receive_report(&mut self) -> Option<(usize, SocketAddr)> {
        let rtcp = self.sockets.rtcp.as_ref()?;
        rtcp.try_recv_from(&mut self.buffer[..]).ok()
    }

    fn take(&mut self, length: usize, from: SocketAddr, now: Instant) {
        let datagram = &self.buffer[..length];
        if dtls::is_dtls(datagram) {
            let received = self.association.as_mut().map_or(Ok(false), |association| {
                association.receive(datagram, from, now)
            });
            match received {
                Ok(true) => self.set_up(now),
                Ok(false) => {}
                Err(error) => self.fail(error),
            }
        } else if let Some(session) = &mut self.session {
            session.receive(datagram, from, now);
        }
    }

    fn fail(&mut self, error: HandshakeError) {
        tracing::info!(%error, "no keys could be agreed on");
        self.has_failed = true;
    }

    /// Gives the call what the session has heard.
    fn hear(&mut self, port: &mut LegPort, now: Instant) {
        let is_held = self.is_held();
        let Some(session) = &mut self.session else {
            return;
        };
        while let Some(heard) = session.poll(now) {
            match heard {
                Heard::Audio(frame) if !is_held => {
                    let tones = &mut self.tones;
                    self.bridge.up(frame, |frame| {
                        if let Some(digit) = tones.hear(frame.samples())
                            && !port.push_control(LegInput::Digit(digit, DigitSource::InBand))
                        {
                            debug!("a digit found no room");
                        }
                        if !port.push_audio(frame) {
                            metrics::audio_dropped(Direction::Uplink, frame.duration());
                        }
                    });
                }
                // Music on hold, or what is left of it.
                Heard::Audio(_) => {}
                Heard::Digit(digit) => {
                    if !port.push_control(LegInput::Digit(digit, DigitSource::Rtp)) {
                        debug!("a digit found no room");
                    }
                }
                // Signalling ends calls; without it the silence will.
                Heard::PeerLeft => {}
                Heard::PeerAbsent(absence) => {
                    debug!(?absence, "the peer is quiet");
                    self.is_absent = true;
                }
            }
        }
    }

    /// The agent's next frame, or 20 ms of silence.
    pub(super) fn send(&mut self, frame: &Frame, now: Instant) {
        let Some(session) = &mut self.session else {
            return;
        };
        self.bridge.down(frame, |frame| session.send(frame));
        self.send_due(now);
    }

    /// A cut: nothing of what was said before may be heard after it.
    pub(super) fn clear(&mut self) {
        self.bridge.cut();
        if let Some(session) = &mut self.session {
            session.cut();
        }
    }

    /// Sends whatever is due.
    fn send_due(&mut self, now: Instant) {
        if let Some(association) = &mut self.association {
            association.send_due(&self.sockets.rtp);
        }
        let Some(session) = &mut self.session else {
            return;
        };
        while let Some(Datagram { bytes, to, from }) = session.next_datagram(now) {
            let socket = match (from, &self.sockets.rtcp) {
                (Port::Rtcp, Some(rtcp)) => rtcp,
                (Port::Rtcp, None) | (Port::Rtp, _) => &self.sockets.rtp,
            };
            if let Err(error) = socket.try_send_to(bytes, to) {
                debug!(%error, "a packet could not be sent");
            }
        }
    }

    /// When [`Media::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let session = self.session.as_ref().and_then(Session::deadline);
        let association = self.association.as_ref();
        let handshake = association.and_then(|association| association.deadline());
        [handshake, session, Some(self.tally.deadline())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed; why the call cannot go on, if it cannot.
    pub(super) fn tick(&mut self, port: &mut LegPort, now: Instant) -> Option<&'static str> {
        let session = self.session.as_ref();
        self.tally.tick(|| session.map(Session::statistics), now);
        if let Some(Err(error)) = self.association.as_mut().map(|known| known.tick(now)) {
            self.fail(error);
        }
        self.hear(port, now);
        self.send_due(now);
        if self.has_failed {
            return Some("no_keys");
        }
        self.is_absent.then_some("no_media")
    }

    /// Says goodbye.
    pub(super) fn end(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.close();
        }
        self.send_due(now);
        self.tally
            .end(self.session.as_ref().map(Session::statistics));
    }
}
