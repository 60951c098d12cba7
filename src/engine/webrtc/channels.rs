//! Text to the peer: data channels (RFC 8831) over SCTP over the DTLS association.
//!
//! The peer opens them (RFC 8832), we write into all that it opens and read nothing but the opening. The protocol is
//! `rtc::sctp`; what arrives and leaves here are the contents of DTLS records.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
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
use rtc::sctp::EndpointEvent;
use rtc::sctp::Event;
use rtc::sctp::Payload;
use rtc::sctp::PayloadProtocolIdentifier;
use rtc::sctp::ServerConfig;
use rtc::sctp::StreamEvent;
use rtc::sctp::TimerConfig;
use rtc::sctp::TransportConfig;
use rtc::shared::TransportProtocol;
use rtc::shared::marshal::Marshal as _;
use rtc::shared::marshal::Unmarshal as _;

/// Channels that a peer may open. It needs one.
pub const MAX_CHANNELS: usize = 4;
/// Streams that a peer may use, whatever for: each takes memory, and the crate allows 65,536. The pages of this world use
/// a handful.
const MAX_STREAMS: usize = 64;
/// RE-CONFIG chunks (RFC 6525 §3.1) of both sides in a call: each side asks to close a stream and is answered, and every stream
/// may be closed once. The crate keeps all requests that are ahead of what has come, and answers each of them whenever something
/// comes.
const MAX_RECONFIGS: usize = 4 * MAX_STREAMS;
/// Beginnings of the peer that are kept: the crate takes each repeat of an INIT for another, and cannot know which of its
/// answers has arrived.
const MAX_BEGINNINGS: usize = 4;
/// Text that may wait for a peer which does not acknowledge: minutes of a conversation.
const MAX_WAITING_BYTES: usize = 64 * 1_024;
/// The largest message that the peer may send. It has nothing to tell us.
pub const MAX_MESSAGE_BYTES: u32 = 16 * 1_024;
/// How long the peer is waited for before we open the association ourselves. Nearly every peer begins at once, some only
/// if they were the DTLS client.
const PATIENCE: Duration = Duration::from_millis(300);
/// RFC 8841 §5: what everybody uses.
pub const SCTP_PORT: u16 = 5_000;
/// RFC 9260 §3.1.
const PACKET_HEADER_BYTES: usize = 12;
/// The type of a RE-CONFIG chunk.
const RE_CONFIG: u8 = 0x82;
/// The crate tells associations apart by their tags, so the address stands for nobody.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1);

/// A channel that the peer has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId {
    /// The number of its association among all that there were.
    association: u32,
    stream: u16,
}

#[cfg(test)]
impl ChannelId {
    /// One of the first association.
    pub(crate) const fn of_stream(stream: u16) -> Self {
        Self {
            association: 0,
            stream,
        }
    }
}

/// The channels of one connection.
pub struct Channels {
    endpoint: Endpoint,
    /// Those that stand, and until one does, those that either side has begun.
    associations: Vec<Begun>,
    /// Associations so far.
    begun: u32,
    /// When we stop waiting for the peer to begin.
    begin_at: Option<Instant>,
    open: Vec<ChannelId>,
    /// Opened, and not told yet.
    news: VecDeque<ChannelId>,
    outgoing: VecDeque<Bytes>,
    /// RE-CONFIG chunks so far, of both sides.
    reconfigs: usize,
    /// What the peer has sent was too much for the crate, of which nothing is asked any more.
    is_broken: bool,
}

/// An association from its first packet on.
struct Begun {
    number: u32,
    handle: AssociationHandle,
    association: Association,
    by: Side,
    /// Whether the peer has said anything in it.
    is_answered: bool,
    /// Streams with something to read. Before the handshake is over they are left alone: nothing could be answered.
    readable: BTreeSet<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Us,
    Peer,
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
            associations: Vec::new(),
            begun: 0,
            begin_at: Some(now + PATIENCE),
            open: Vec::new(),
            news: VecDeque::new(),
            outgoing: VecDeque::new(),
            reconfigs: 0,
            is_broken: false,
        }
    }

    /// Takes the contents of a DTLS record. Whatever it holds, at worst the peer has no channels any more.
    pub fn receive(&mut self, packet: Bytes, now: Instant) {
        if self.is_broken || may_skip_ahead(&packet) {
            return;
        }
        self.reconfigs += lengths_of(RE_CONFIG, &packet).count();
        // The crate takes some lengths for granted (that of an error's cause, RFC 9260 §3.3.10, for one) and panics.
        let heard = catch_unwind(AssertUnwindSafe(|| self.hear(packet, now)));
        if heard.is_err() || self.reconfigs > MAX_RECONFIGS {
            self.give_up();
        }
    }

    /// Asks nothing of the crate any more.
    fn give_up(&mut self) {
        self.is_broken = true;
        self.associations.clear();
        self.open.clear();
        self.outgoing.clear();
        self.begin_at = None;
    }

    fn hear(&mut self, packet: Bytes, now: Instant) {
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.begin_at = None;
                self.keep(handle, association, Side::Peer);
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                let mut all = self.associations.iter_mut();
                if let Some(begun) = all.find(|begun| begun.handle == handle) {
                    begun.is_answered = true;
                    begun.association.handle_event(event);
                }
            }
            // No SCTP.
            Some(_) | None => {}
        }
        self.follow(now);
    }

    /// The next channel that the peer has opened.
    pub fn poll_opened(&mut self) -> Option<ChannelId> {
        self.news.pop_front()
    }

    /// Whether a channel that the peer has opened is still there.
    pub fn is_open(&self, channel: ChannelId) -> bool {
        self.open.contains(&channel)
    }

    /// Writes a message; `false` if the channel is gone or so much waits already that this is not taken.
    #[must_use]
    pub fn send(&mut self, channel: ChannelId, text: &str, now: Instant) -> bool {
        let mut all = self.associations.iter_mut();
        let Some(begun) = all.find(|begun| begun.number == channel.association) else {
            return false;
        };
        let Ok(mut stream) = begun.association.stream(channel.stream) else {
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
        let associations = self.associations.iter();
        associations
            .filter_map(|begun| begun.association.poll_timeout())
            .chain(self.begin_at)
            .min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.begin_at.is_some_and(|at| now >= at) {
            self.begin_at = None;
            let config = ClientConfig::new(transport());
            if let Ok((handle, association)) = self.endpoint.connect(now, config, PEER) {
                self.keep(handle, association, Side::Us);
            }
        }
        for Begun { association, .. } in &mut self.associations {
            if association.poll_timeout().is_some_and(|at| now >= at) {
                association.handle_timeout(now);
            }
        }
        self.follow(now);
    }

    /// Ends the association at once.
    pub fn close(&mut self, now: Instant) {
        for Begun { association, .. } in &mut self.associations {
            // It fails if there is nothing to end.
            let _ = association.abort();
        }
        self.follow(now);
        self.drop_all_that(|_| true);
        self.begin_at = None;
    }

    /// Adds what has been begun, unless it is a late repeat from before one stood.
    fn keep(&mut self, handle: AssociationHandle, association: Association, by: Side) {
        let mut all = self.associations.iter();
        if all.any(|old| !old.association.is_handshaking()) {
            return self.endpoint.handle_event(handle, EndpointEvent::drained());
        }
        let of_peer = self.associations.iter().filter(|old| old.by == Side::Peer);
        let numbers: Vec<u32> = of_peer.map(|old| old.number).collect();
        if numbers.len() == MAX_BEGINNINGS {
            self.drop_all_that(|old| old.number == numbers[0]);
        }
        self.associations.push(Begun {
            number: self.begun,
            handle,
            association,
            by,
            is_answered: by == Side::Peer,
            readable: BTreeSet::new(),
        });
        self.begun += 1;
    }

    fn drop_all_that(&mut self, goes: impl Fn(&Begun) -> bool) {
        for gone in self.associations.extract_if(.., |begun| goes(begun)) {
            self.endpoint
                .handle_event(gone.handle, EndpointEvent::drained());
        }
    }

    /// Does what the associations ask for.
    fn follow(&mut self, now: Instant) {
        let (mut failed, mut connected) = (Vec::new(), None);
        for begun in &mut self.associations {
            let number = begun.number;
            while let Some(event) = begun.association.poll() {
                match event {
                    Event::Connected => connected = Some(begun.by),
                    Event::HandshakeFailed { .. } => failed.push(number),
                    Event::Stream(StreamEvent::Readable { id }) => _ = begun.readable.insert(id),
                    // The peer has closed one channel; at the end of all, this comes for each.
                    Event::AssociationLost { id: stream, .. } => {
                        let association = number;
                        let lost = ChannelId {
                            association,
                            stream,
                        };
                        self.open.retain(|channel| *channel != lost);
                        begun.readable.remove(&stream);
                    }
                    // Of buffers, and of kinds to come.
                    _ => {}
                }
            }
            while begun.association.poll_endpoint_event().is_some() {
                failed.push(number);
            }
        }
        if let Some(by) = connected {
            // Beginnings may have crossed. A peer that has answered ours as well will stay with ours in the end (RFC 9260
            // §5.2.4, case B); one that has not heard of it must not any more.
            self.drop_all_that(|begun| {
                let may_stand_yet = by == Side::Peer && begun.by == Side::Us && begun.is_answered;
                begun.association.is_handshaking() && !may_stand_yet
            });
        }
        for begun in &mut self.associations {
            begun.read(&mut self.open, &mut self.news, now);
            while let Some(transmit) = begun.association.poll_transmit(now) {
                if let Payload::RawEncode(packets) = transmit.message {
                    let is_reconfig =
                        |packet: &&Bytes| packet.get(PACKET_HEADER_BYTES) == Some(&RE_CONFIG);
                    self.reconfigs += packets.iter().filter(is_reconfig).count();
                    self.outgoing.extend(packets);
                }
            }
        }
        // What the peer lost or ended stays so, unless it begins again: the call goes on without its text.
        self.drop_all_that(|begun| {
            // One that the peer has only begun counts as closed, too.
            let is_over = begun.association.is_closed() && !begun.association.is_handshaking();
            is_over || failed.contains(&begun.number)
        });
        let all = &self.associations;
        self.open
            .retain(|channel| all.iter().any(|begun| begun.number == channel.association));
    }
}

impl Begun {
    /// Reads all that can be read.
    fn read(&mut self, open: &mut Vec<ChannelId>, news: &mut VecDeque<ChannelId>, now: Instant) {
        if self.association.is_handshaking() {
            return;
        }
        while let Some(stream) = self.readable.pop_first() {
            let channel = ChannelId {
                association: self.number,
                stream,
            };
            take(&mut self.association, channel, open, news, now);
        }
        if self.association.stream_ids().len() > MAX_STREAMS {
            // It fails if there is nothing to end.
            let _ = self.association.abort();
        }
    }
}

/// Reads what a stream has brought: the opening of a channel, or words that we do not listen to.
fn take(
    association: &mut Association,
    channel: ChannelId,
    open: &mut Vec<ChannelId>,
    news: &mut VecDeque<ChannelId>,
    now: Instant,
) {
    let Ok(mut stream) = association.stream(channel.stream) else {
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

/// Whether there may be a FORWARD-TSN (RFC 3758 §3.2) in a packet: the crate counts up to its number one by one, which may be two
/// thousand million, and only a peer that has given messages up sends it.
fn may_skip_ahead(packet: &[u8]) -> bool {
    const FORWARD_TSN: u8 = 0xc0;
    lengths_of(FORWARD_TSN, packet).any(|length| length.is_multiple_of(4))
}

/// The lengths of all that may be a chunk of this kind, which has eight bytes at least. Where the crate looks for chunks depends
/// on what it has made of those before, but always in steps of four bytes.
fn lengths_of(kind: u8, packet: &[u8]) -> impl Iterator<Item = usize> {
    const SHORTEST: usize = 8;
    let ends = packet.get(PACKET_HEADER_BYTES..).unwrap_or_default();
    (0..ends.len() / 4).filter_map(move |words| {
        let chunk = &ends[4 * words..];
        let length = usize::from(u16::from_be_bytes([chunk[2], chunk[3]]));
        (chunk[0] == kind && (SHORTEST..=chunk.len()).contains(&length)).then_some(length)
    })
}

fn transport() -> TransportConfig {
    TransportConfig::default()
        .with_sctp_port(SCTP_PORT)
        .with_max_message_size(MAX_MESSAGE_BYTES)
        // Whether the peer is still there is not for SCTP to say; by itself, the crate would give up after five repeats.
        .with_timer_config(TimerConfig {
            max_t3_rtx_retrans: usize::MAX,
            ..TimerConfig::default()
        })
        // What the peer sends is read at once and thrown away.
        .with_max_receive_buffer_size(4 * MAX_MESSAGE_BYTES)
}

#[cfg(test)]
mod tests;
