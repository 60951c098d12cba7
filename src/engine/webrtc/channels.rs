//! Text to the peer: data channels (RFC 8831) over SCTP over the DTLS association.
//!
//! The peer opens them (RFC 8832), we write into all that it opens and read nothing but the opening. The protocol is
//! `rtc::sctp`; what arrives and leaves here are the contents of DTLS records.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use rtc::datachannel::message::Message;
use rtc::datachannel::message::message_channel_ack::DataChannelAck;
use rtc::sctp::Association;
use rtc::sctp::AssociationHandle;
use rtc::sctp::ClientConfig;
use rtc::sctp::DatagramEvent;
use rtc::sctp::Endpoint;
use rtc::sctp::EndpointConfig;
use rtc::sctp::Event;
use rtc::sctp::Payload;
use rtc::sctp::PayloadProtocolIdentifier;
use rtc::sctp::ServerConfig;
use rtc::sctp::StreamEvent;
use rtc::sctp::TransportConfig;
use rtc::shared::TransportProtocol;
use rtc::shared::marshal::Marshal as _;
use rtc::shared::marshal::Unmarshal as _;

/// Channels that a peer may open. It needs one.
pub const MAX_CHANNELS: usize = 4;
/// Text that may wait for a peer which does not acknowledge: minutes of a conversation.
const MAX_WAITING_BYTES: usize = 64 * 1_024;
/// The largest message that the peer may send. It has nothing to tell us.
pub const MAX_MESSAGE_BYTES: u32 = 16 * 1_024;
/// How long the peer is waited for before we open the association ourselves. Nearly every peer begins at once, some only
/// if they were the DTLS client; and the crate cannot follow two beginnings that cross.
const PATIENCE: Duration = Duration::from_millis(300);
/// RFC 8841 §5: what everybody uses.
pub const SCTP_PORT: u16 = 5_000;
/// The crate tells associations apart by their tags, so the address stands for nobody.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1);

/// A channel that the peer has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId(u16);

/// The channels of one connection.
pub struct Channels {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    /// When we stop waiting for the peer to begin.
    begin_at: Option<Instant>,
    open: Vec<ChannelId>,
    /// Streams with something to read. Before the handshake is over they are left alone: nothing could be answered.
    readable: BTreeSet<u16>,
    /// Opened, and not told yet.
    news: VecDeque<ChannelId>,
    outgoing: VecDeque<Bytes>,
}

impl Channels {
    /// Before anything was said; the DTLS association has just been made.
    pub fn new(now: Instant) -> Self {
        let server = ServerConfig::new(transport());
        Self {
            endpoint: Endpoint::new(
                PEER,
                TransportProtocol::UDP,
                Arc::new(EndpointConfig::new()),
                Some(Arc::new(server)),
            ),
            association: None,
            begin_at: Some(now + PATIENCE),
            open: Vec::new(),
            readable: BTreeSet::new(),
            news: VecDeque::new(),
            outgoing: VecDeque::new(),
        }
    }

    /// Takes the contents of a DTLS record. Whatever it holds, at worst nothing happens.
    pub fn receive(&mut self, packet: Bytes, now: Instant) {
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(new))) if self.association.is_none() => {
                self.association = Some((handle, new));
                self.begin_at = None;
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((known, association)) = &mut self.association
                    && *known == handle
                {
                    association.handle_event(event);
                }
            }
            // A second association, or no SCTP.
            Some(_) | None => {}
        }
        self.follow(now);
    }

    /// The next channel that the peer has opened.
    pub fn poll_opened(&mut self) -> Option<ChannelId> {
        self.news.pop_front()
    }

    /// Writes a message; `false` if the channel is gone or so much waits already that this is not taken.
    #[must_use]
    pub fn send(&mut self, channel: ChannelId, text: &str, now: Instant) -> bool {
        let Some((_, association)) = &mut self.association else {
            return false;
        };
        let Ok(mut stream) = association.stream(channel.0) else {
            return false;
        };
        if stream.buffered_amount().unwrap_or(usize::MAX) + text.len() > MAX_WAITING_BYTES {
            return false;
        }
        let kind = PayloadProtocolIdentifier::String;
        let is_sent = stream.write_with_ppi(now, text.as_bytes(), kind).is_ok();
        self.follow(now);
        is_sent
    }

    /// The contents of the next DTLS record to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }

    /// When [`Channels::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let association = self.association.as_ref();
        let crates_own = association.and_then(|(_, association)| association.poll_timeout());
        [self.begin_at, crates_own].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.begin_at.is_some_and(|at| now >= at) {
            self.begin_at = None;
            let config = ClientConfig::new(transport());
            if let Ok(begun) = self.endpoint.connect(now, config, PEER) {
                self.association = Some(begun);
            }
        }
        if let Some((_, association)) = &mut self.association
            && association.poll_timeout().is_some_and(|at| now >= at)
        {
            association.handle_timeout(now);
        }
        self.follow(now);
    }

    /// Ends the association at once.
    pub fn close(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            // It fails if there is nothing to end.
            let _ = association.abort();
        }
        self.follow(now);
        self.association = None;
        self.begin_at = None;
    }

    /// Does what the association asks for.
    fn follow(&mut self, now: Instant) {
        let Some((handle, association)) = &mut self.association else {
            return;
        };
        let handle = *handle;
        let mut is_lost = false;
        while let Some(event) = association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => _ = self.readable.insert(id),
                Event::AssociationLost { .. } | Event::HandshakeFailed { .. } => is_lost = true,
                // Of buffers, and of kinds to come.
                _ => {}
            }
        }
        if !association.is_handshaking() {
            while let Some(id) = self.readable.pop_first() {
                take(association, id, &mut self.open, &mut self.news, now);
            }
        }
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoint.handle_event(handle, event);
            is_lost = true;
        }
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                self.outgoing.extend(packets);
            }
        }
        if is_lost {
            // What the peer lost or ended stays so: the call goes on without its text.
            self.association = None;
            self.open.clear();
            self.readable.clear();
        }
    }
}

/// Reads what a stream has brought: the opening of a channel, or words that we do not listen to.
fn take(
    association: &mut Association,
    id: u16,
    open: &mut Vec<ChannelId>,
    news: &mut VecDeque<ChannelId>,
    now: Instant,
) {
    let Ok(mut stream) = association.stream(id) else {
        return;
    };
    while let Ok(Some(chunks)) = stream.read_sctp() {
        if chunks.ppi != PayloadProtocolIdentifier::Dcep {
            continue;
        }
        let Ok(mut payload) = chunks.to_payload(MAX_MESSAGE_BYTES as usize) else {
            continue;
        };
        let Ok(Message::DataChannelOpen(_)) = Message::unmarshal(&mut payload) else {
            continue;
        };
        let channel = ChannelId(id);
        if open.len() >= MAX_CHANNELS || open.contains(&channel) {
            continue;
        }
        let Ok(ack) = Message::DataChannelAck(DataChannelAck).marshal() else {
            continue;
        };
        if stream
            .write_with_ppi(now, &ack, PayloadProtocolIdentifier::Dcep)
            .is_ok()
        {
            open.push(channel);
            news.push_back(channel);
        }
    }
}

fn transport() -> TransportConfig {
    TransportConfig::default()
        .with_sctp_port(SCTP_PORT)
        .with_max_message_size(MAX_MESSAGE_BYTES)
        // What the peer sends is read at once and thrown away.
        .with_max_receive_buffer_size(4 * MAX_MESSAGE_BYTES)
}
