//! One connection: everything that comes and goes on its path.
//!
//! [`Peer::receive`] takes every datagram, then [`Peer::poll`] is asked until it gives nothing, then
//! [`Peer::next_datagram`]; both again at [`Peer::deadline`], after [`Peer::tick`].

use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use crate::engine::media::frame::Frame;
use crate::engine::rtp::dtls;
use crate::engine::rtp::dtls::DtlsRole;
use crate::engine::rtp::dtls::Handshake;
use crate::engine::rtp::dtls::HandshakeError;
use crate::engine::rtp::dtls::Identity;
use crate::engine::rtp::dtls::Keys;
use crate::engine::rtp::presence::Patience;
use crate::engine::rtp::session::Beginning;
use crate::engine::rtp::session::Heard;
use crate::engine::rtp::session::Session;
use crate::engine::rtp::session::Setup;
use crate::engine::rtp::session::Statistics;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Keying;
use crate::engine::webrtc::channels::ChannelId;
use crate::engine::webrtc::channels::Channels;
use crate::engine::webrtc::ice;
use crate::engine::webrtc::ice::Credentials;
use crate::engine::webrtc::ice::Ice;
use crate::engine::webrtc::ice::Path;
use crate::engine::webrtc::ice::Unanswered;

/// From the answer to the keys. A browser takes a tenth of a second; who needs this long will not come.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Without a valid check or packet for so long, the peer is gone or no longer wants to hear us. Browsers check every 2.5 s,
/// RFC 7675 §5.1 says 4 to 6 s and gives up after 30 s; callers do not wait that long.
pub const CONSENT_LASTS: Duration = Duration::from_secs(15);
/// Stands for the peer in its session: where it really is, the checks say.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
/// For as long as a call can last: the peer's silence is judged here, checks included.
const PATIENT: Duration = Duration::from_secs(7 * 86_400);

/// What a connection is made of.
pub struct Terms {
    /// From offer and answer.
    pub agreement: Agreement,
    /// Whether the peer may open data channels.
    pub has_channels: bool,
    /// What the answer said.
    pub credentials: Credentials,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Our name in reports, at most 255 bytes.
    pub cname: String,
    /// 0–10.
    pub opus_complexity: u8,
    /// Random.
    pub beginning: Beginning,
}

/// What happened.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a frame stays in place, so that moving it allocates nothing"
)]
pub enum Event {
    /// What comes by this path is for this connection from now on.
    Learned(Path),
    /// This path no longer is.
    Forgotten(Path),
    /// There are keys: both can hear each other.
    Connected,
    /// From the peer's sound.
    Heard(Heard),
    /// The peer has opened a channel.
    Opened(ChannelId),
    /// It is over. Told once.
    Ended(End),
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer has closed it.
    Closed,
    /// The peer did not come within [`CONNECT_WITHIN`].
    NeverConnected,
    /// The handshake failed.
    NoKeys(HandshakeError),
    /// Nothing valid came for [`CONSENT_LASTS`].
    ConsentLost,
}

/// Datagrams that were thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Checks that were not signed with our password.
    pub forged_checks: u64,
    /// Datagrams that are nothing that belongs here.
    pub malformed: u64,
    /// From where no valid check has come.
    pub strangers: u64,
    /// Sound from before there were keys.
    pub too_early: u64,
}

/// A datagram to send.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// Which way.
    pub path: Path,
}

/// One connection.
pub struct Peer {
    terms: Terms,
    ice: Ice,
    handshake: Option<Handshake>,
    session: Option<Session>,
    channels: Option<Channels>,
    events: VecDeque<Event>,
    /// Answers to checks.
    responses: VecDeque<(Vec<u8>, Path)>,
    /// What is being sent, unless it lies in the session.
    sending: Bytes,
    connect_by: Instant,
    is_over: bool,
    ignored: Ignored,
}

impl Peer {
    /// Waits for the peer that has just been answered.
    pub fn new(terms: Terms, now: Instant) -> Self {
        let mut peer = Self {
            ice: Ice::new(terms.credentials.clone(), now),
            terms,
            handshake: None,
            session: None,
            channels: None,
            events: VecDeque::new(),
            responses: VecDeque::new(),
            sending: Bytes::new(),
            connect_by: now + CONNECT_WITHIN,
            is_over: false,
            ignored: Ignored::default(),
        };
        if peer.role() == DtlsRole::Server {
            peer.begin_handshake(now);
        }
        peer
    }

    /// Takes a datagram. Whatever it holds, at worst it is counted.
    pub fn receive(&mut self, datagram: &[u8], path: Path, now: Instant) {
        if self.is_over {
            return;
        }
        if ice::is_stun(datagram) {
            self.check(datagram, path, now);
        } else if !self.ice.knows(path) {
            self.ignored.strangers += 1;
        } else if dtls::is_dtls(datagram) {
            self.take_record(datagram, now);
        } else if !matches!(datagram.first(), Some(128..=191)) {
            self.ignored.malformed += 1;
        } else if let Some(session) = &mut self.session {
            session.receive(datagram, PEER, now);
        } else {
            self.ignored.too_early += 1;
        }
    }

    /// What has happened, a piece at a time.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let session = self.session.as_mut()?;
        session.poll(now).map(Event::Heard)
    }

    /// Takes the next frame of what the peer is to hear. Nothing is sent before there are keys.
    pub fn send(&mut self, frame: &Frame) {
        if let Some(session) = &mut self.session {
            session.send(frame);
        }
    }

    /// Forgets what was taken and not yet sent.
    pub fn cut(&mut self) {
        if let Some(session) = &mut self.session {
            session.cut();
        }
    }

    /// Whether a channel that the peer has opened is still there.
    pub fn has_open(&self, channel: ChannelId) -> bool {
        let channels = self.channels.as_ref();
        channels.is_some_and(|channels| channels.is_open(channel))
    }

    /// Writes into a channel; `false` if it is gone, or the peer takes too long to read.
    #[must_use]
    pub fn tell(&mut self, channel: ChannelId, text: &str, now: Instant) -> bool {
        let Some(channels) = &mut self.channels else {
            return false;
        };
        let is_told = channels.send(channel, text, now);
        self.move_data(now);
        is_told
    }

    /// The next datagram to send, if one is due.
    pub fn next_datagram(&mut self, now: Instant) -> Option<Datagram<'_>> {
        if let Some((response, path)) = self.responses.pop_front() {
            self.sending = response.into();
            let bytes = &self.sending;
            return Some(Datagram { bytes, path });
        }
        // Whom to send it to, the peer has not said yet.
        let path = self.ice.selected()?;
        if let Some(record) = self.handshake.as_mut().and_then(Handshake::poll_transmit) {
            self.sending = record;
            let bytes = &self.sending;
            return Some(Datagram { bytes, path });
        }
        let session = self.session.as_mut()?;
        let bytes = session.next_datagram(now)?.bytes;
        Some(Datagram { bytes, path })
    }

    /// When [`Peer::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        let handshake = self.handshake.as_ref().and_then(Handshake::deadline);
        let session = self.session.as_ref().and_then(Session::deadline);
        let channels = self.channels.as_ref().and_then(Channels::deadline);
        [handshake, session, channels]
            .into_iter()
            .flatten()
            .fold(self.give_up_at(), Instant::min)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.is_over {
            return;
        }
        if now >= self.give_up_at() {
            let end = match self.session {
                Some(_) => End::ConsentLost,
                None => End::NeverConnected,
            };
            return self.end(end);
        }
        if let Some(Err(error)) = self.handshake.as_mut().map(|shaking| shaking.tick(now)) {
            return self.end(End::NoKeys(error));
        }
        if let Some(channels) = &mut self.channels {
            channels.tick(now);
            self.move_data(now);
        }
    }

    /// Expects checks with other credentials from now on (an ICE restart); keys and sound stay.
    pub fn restart(&mut self, credentials: Credentials) {
        self.ice.restart(credentials);
    }

    /// Whom the peer's checks may be addressed to.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ice.names()
    }

    /// Says goodbye in every protocol that has one. What is due afterwards is to be sent.
    pub fn close(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.close();
        }
        if let Some(channels) = &mut self.channels {
            channels.close(now);
        }
        self.move_data(now);
        if let Some(handshake) = &mut self.handshake {
            handshake.close(now);
        }
        self.is_over = true;
    }

    /// What the session has counted, once there was one.
    pub fn statistics(&self) -> Option<Statistics> {
        self.session.as_ref().map(Session::statistics)
    }

    /// What was thrown away before it came to the session.
    pub const fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn role(&self) -> DtlsRole {
        match self.terms.agreement.keying {
            Keying::Dtls { role, .. } => role,
            Keying::None | Keying::Sdes { .. } => DtlsRole::Server,
        }
    }

    /// The end of our patience.
    fn give_up_at(&self) -> Instant {
        match &self.session {
            Some(session) => session.heard_at().max(self.ice.heard_at()) + CONSENT_LASTS,
            None => self.connect_by,
        }
    }

    fn end(&mut self, end: End) {
        self.is_over = true;
        self.events.push_back(Event::Ended(end));
    }

    fn check(&mut self, datagram: &[u8], path: Path, now: Instant) {
        match self.ice.receive(datagram, path, now) {
            Ok(check) => {
                self.responses.push_back((check.response, path));
                self.events.extend(check.forgotten.map(Event::Forgotten));
                if check.is_new {
                    self.events.push_back(Event::Learned(path));
                }
                // We begin when the peer has chosen a path: before that, some would throw it away.
                if self.handshake.is_none() && self.ice.selected().is_some() {
                    self.begin_handshake(now);
                }
            }
            Err(Unanswered::Malformed) => self.ignored.malformed += 1,
            Err(Unanswered::Forged) => self.ignored.forged_checks += 1,
        }
    }

    fn begin_handshake(&mut self, now: Instant) {
        if let Keying::Dtls { role, fingerprint } = self.terms.agreement.keying {
            let identity = &self.terms.identity;
            self.handshake = Some(Handshake::new(role, identity, fingerprint, now));
        }
    }

    fn take_record(&mut self, datagram: &[u8], now: Instant) {
        let Some(handshake) = &mut self.handshake else {
            self.ignored.too_early += 1;
            return;
        };
        match handshake.receive(datagram, now) {
            Ok(Some(keys)) => self.begin_session(keys, now),
            Ok(None) => {}
            Err(error) => return self.end(End::NoKeys(error)),
        }
        self.move_data(now);
        if self.handshake.as_ref().is_some_and(Handshake::is_closed) {
            self.end(End::Closed);
        }
    }

    fn begin_session(&mut self, keys: Keys, now: Instant) {
        let agreement = &self.terms.agreement;
        let patience = Patience {
            initial: PATIENT,
            mid_call: PATIENT,
            hold: PATIENT,
        };
        let setup = Setup {
            remote_rtp: Some(PEER),
            remote_rtcp: Some(PEER),
            ..agreement.setup(
                Some((keys.ours, keys.theirs)),
                patience,
                Duration::ZERO,
                self.terms.cname.clone(),
                self.terms.opus_complexity,
            )
        };
        self.session = Some(Session::new(setup, self.terms.beginning, now));
        self.channels = self.terms.has_channels.then(|| Channels::new(now));
        self.events.push_back(Event::Connected);
    }

    /// Carries data between the handshake's records and the channels.
    fn move_data(&mut self, now: Instant) {
        let Some(handshake) = &mut self.handshake else {
            return;
        };
        while let Some(data) = handshake.poll_data() {
            if let Some(channels) = &mut self.channels {
                channels.receive(data, now);
            }
        }
        let Some(channels) = &mut self.channels else {
            return;
        };
        while let Some(data) = channels.poll_transmit() {
            handshake.send_data(&data, now);
        }
        while let Some(channel) = channels.poll_opened() {
            self.events.push_back(Event::Opened(channel));
        }
    }
}
