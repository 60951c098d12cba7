//! One call's RTP and RTCP, whole: a task with sockets only moves bytes.
//!
//! Up: [`Session::receive`] takes every datagram of either port, then [`Session::poll`] is asked until it gives nothing.
//! Down: [`Session::send`] takes a frame each 20 ms, then [`Session::next_datagram`] is asked until it gives nothing.
//! Both are asked again at [`Session::deadline`], when a gap is given up, a report is due or the peer is missed.
//!
//! Nothing is allocated per packet, but for SRTP, whose crate does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;

use crate::engine::media::codec::packet::Codec;
use crate::engine::media::codec::packet::Decoder;
use crate::engine::media::codec::packet::Encoder;
use crate::engine::media::codec::packet::MAX_PAYLOAD_BYTES as MAX_FRAME_BYTES;
use crate::engine::media::digit::Digit;
use crate::engine::media::frame::Frame;
use crate::engine::rtp::events::Events;
use crate::engine::rtp::key::SrtpKey;
use crate::engine::rtp::packet::HEADER_BYTES;
use crate::engine::rtp::packet::Kind;
use crate::engine::rtp::packet::Packet;
use crate::engine::rtp::presence::Absence;
use crate::engine::rtp::presence::Patience;
use crate::engine::rtp::presence::Presence;
use crate::engine::rtp::receiver;
use crate::engine::rtp::receiver::Receiver;
use crate::engine::rtp::rtcp::Feedback;
use crate::engine::rtp::rtcp::MAX_COMPOUND_BYTES;
use crate::engine::rtp::rtcp::Reports;
use crate::engine::rtp::rtcp::Sent;
use crate::engine::rtp::sender::Sender;
use crate::engine::rtp::source::Source;
use crate::engine::rtp::srtp::Protect;
use crate::engine::rtp::srtp::Refusal;
use crate::engine::rtp::srtp::Unprotect;

/// What we send lasts this long at least and at most. Longer packets would make every loss audible.
const PACKET_TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_millis(60);
/// Payload that may wait to be sent: the longest packet with a frame behind it.
const MAX_PENDING_BYTES: usize = 4 * MAX_FRAME_BYTES;
/// Digits that may wait to be asked for; nobody presses more between two packets.
const MAX_DIGITS: usize = 16;
/// Samples of the longest packet: G.722 makes two of each byte.
const MAX_PACKET_SAMPLES: usize = 2 * receiver::MAX_PAYLOAD_BYTES;
/// Sequences of a protected stream begin in the lower half. The roll-over counter is never sent, so a peer that lost
/// everything up to the first wrap could understand nothing after it (RFC 3711 §3.3.1).
const PROTECTED_SEQUENCES: u16 = 0x7fff;

/// What offer and answer have agreed on, and what goes with it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// In both directions.
    pub codec: Codec,
    /// That of the codec, as the peer wants it.
    pub payload_type: u8,
    /// That of the codec, as we asked for it: the same, unless the peer has answered our offer with another
    /// (RFC 3264 §6.1). Both are heard, for some peers send what they want to receive.
    pub own_payload_type: u8,
    /// That of telephone keys (RFC 4733), if agreed.
    pub telephone_event: Option<u8>,
    /// That of comfort noise (RFC 3389), if agreed. 13 is known without being agreed.
    pub comfort_noise: Option<u8>,
    /// How long the packets that we send last, 10–60 ms. Opus is sent in 20 ms whatever this says.
    pub packet_time: Duration,
    /// Bits per second that the peer wants of Opus at most, if it says so ([`Encoder::limit`]).
    pub max_average_bitrate: Option<u32>,
    /// Where SDP says that the peer hears; `None` if nowhere.
    pub remote_rtp: Option<SocketAddr>,
    /// Where it hears reports: the same address with rtcp-mux (RFC 5761), the next port without; `None` for no reports.
    pub remote_rtcp: Option<SocketAddr>,
    /// Whether the peer wants to hear us.
    pub send: bool,
    /// Whether we want to hear the peer. If not, the call is on hold as far as its patience goes.
    pub receive: bool,
    /// Ours and theirs, if SRTP is agreed.
    pub keys: Option<(SrtpKey, SrtpKey)>,
    /// How long the peer may be quiet.
    pub patience: Patience,
    /// How long packets may come from elsewhere than SDP says ([`Source`]); zero for never.
    pub learning: Duration,
    /// Our name in reports (RFC 3550 §6.5.1), at most 255 bytes.
    pub cname: String,
    /// 0–10 ([`Encoder::new`]).
    pub opus_complexity: u8,
}

/// What a stream begins with. All of it should be random (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// Our source.
    pub ssrc: u32,
    /// Of our first packet; its highest bit is dropped under SRTP.
    pub sequence: u16,
    /// Of our first packet.
    pub timestamp: u32,
    /// Of the times between reports.
    pub seed: u64,
}

/// What came from the peer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a frame stays in place, so that moving it allocates nothing"
)]
pub enum Heard {
    /// At most 20 ms, at the codec's sample rate.
    Audio(Frame),
    /// A key was pressed.
    Digit(Digit),
    /// The source that we hear said goodbye. A hint only: on a transfer another may follow, and signalling ends calls.
    PeerLeft,
    /// Nothing has come for longer than is right. Told once until something comes.
    PeerAbsent(Absence),
}

/// Which of our two ports a datagram leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The one in our SDP.
    Rtp,
    /// That for reports. With rtcp-mux the same.
    Rtcp,
}

/// A datagram to send.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// Where to.
    pub to: SocketAddr,
    /// Where from.
    pub from: Port,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// RTP packets that we sent.
    pub packets_sent: u64,
    /// RTP packets that were heard, of whatever payload type.
    pub packets_received: u64,
    /// Order and loss.
    pub order: receiver::Counters,
    /// Datagrams from where nobody may speak.
    pub refused_sources: u64,
    /// Datagrams that were not made with the peer's key.
    pub authentication_failures: u64,
    /// Protected datagrams that came again.
    pub replays: u64,
    /// Datagrams that are neither RTP nor RTCP.
    pub malformed: u64,
    /// Packets of a payload type that was not agreed.
    pub unknown_payloads: u64,
    /// Packets of comfort noise.
    pub comfort_noises: u64,
    /// Packets that came while we did not want to hear the peer.
    pub unwanted: u64,
    /// Frames that were not sent, for their rate or because nobody asked for the datagrams.
    pub frames_dropped: u64,
    /// Reports of the peer.
    pub reports_received: u64,
    /// Of the peer's packets, on their way to us.
    pub jitter: Duration,
    /// What the peer last said of our packets.
    pub feedback: Option<Feedback>,
}

/// One call's media.
pub struct Session {
    setup: Setup,
    protect: Option<Protect>,
    unprotect: Option<Unprotect>,
    source: Source,
    /// Where reports come from and go to, unless they share a port with RTP.
    report_source: Source,
    presence: Presence,
    uplink: Uplink,
    downlink: Downlink,
    reports: Reports,
    /// Packets that we had sent at our last report.
    reported_packets: u64,
    closing: Closing,
    statistics: Statistics,
}

/// How far a session has come in ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Open,
    /// The goodbye is to be sent.
    Due,
    Said,
}

/// From packets to frames.
struct Uplink {
    receiver: Receiver,
    decoder: Decoder,
    events: Events,
    digits: VecDeque<Digit>,
    has_peer_left: bool,
    /// Decoded, in part given out.
    pcm: Vec<i16>,
    given: usize,
}

/// From frames to packets.
struct Downlink {
    sender: Sender,
    encoder: Encoder,
    pending: [u8; MAX_PENDING_BYTES],
    pending_bytes: usize,
    /// Ticks of what is pending.
    pending_ticks: u32,
    datagram: [u8; HEADER_BYTES + MAX_PENDING_BYTES],
    /// The last datagram under SRTP.
    protected: BytesMut,
}

impl Session {
    /// A call that has just been answered.
    pub fn new(setup: Setup, beginning: Beginning, now: Instant) -> Self {
        let mut sequence = beginning.sequence;
        if setup.keys.is_some() {
            sequence &= PROTECTED_SEQUENCES;
        }
        let clock_rate = setup.codec.clock_rate();
        let sender = Sender::new(beginning.ssrc, sequence, beginning.timestamp, clock_rate);
        let mut presence = Presence::new(setup.patience, now);
        presence.set_held(!setup.receive, now);
        Self {
            protect: setup.keys.map(|(ours, _)| Protect::new(ours)),
            unprotect: setup.keys.map(|(_, theirs)| Unprotect::new(theirs)),
            source: Source::new(setup.remote_rtp, setup.learning, now),
            report_source: Source::new(setup.remote_rtcp, setup.learning, now),
            presence,
            uplink: Uplink {
                receiver: Receiver::new(clock_rate, now),
                decoder: Decoder::new(setup.codec),
                events: Events::new(),
                digits: VecDeque::with_capacity(MAX_DIGITS),
                has_peer_left: false,
                pcm: Vec::with_capacity(MAX_PACKET_SAMPLES),
                given: 0,
            },
            downlink: Downlink {
                sender,
                encoder: setup.encoder(),
                pending: [0; MAX_PENDING_BYTES],
                pending_bytes: 0,
                pending_ticks: 0,
                datagram: [0; HEADER_BYTES + MAX_PENDING_BYTES],
                protected: BytesMut::new(),
            },
            reports: Reports::new(beginning.ssrc, &setup.cname, beginning.seed, now),
            reported_packets: 0,
            closing: Closing::Open,
            statistics: Statistics::default(),
            setup,
        }
    }

    /// Takes a datagram that came to either port. Whatever it holds, at worst it is counted.
    pub fn receive(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        match Kind::of(datagram) {
            Some(Kind::Rtp) => self.receive_packet(datagram, from, now),
            Some(Kind::Rtcp) => self.receive_report(datagram, from, now),
            None => self.statistics.malformed += 1,
        }
    }

    /// What came from the peer, a piece at a time.
    pub fn poll(&mut self, now: Instant) -> Option<Heard> {
        if let Some(digit) = self.uplink.digits.pop_front() {
            return Some(Heard::Digit(digit));
        }
        if let Some(frame) = self.uplink.frame(self.setup.codec, now) {
            return Some(Heard::Audio(frame));
        }
        if std::mem::take(&mut self.uplink.has_peer_left) {
            return Some(Heard::PeerLeft);
        }
        self.presence.absence(now).map(Heard::PeerAbsent)
    }

    /// Takes the next frame of what the caller is to hear. One of another rate than the codec's is dropped.
    pub fn send(&mut self, frame: &Frame) {
        let codec = self.setup.codec;
        if !self.setup.send {
            return;
        }
        if frame.rate() != codec.sample_rate() || !self.downlink.has_room(codec) {
            self.statistics.frames_dropped += 1;
            return;
        }
        self.downlink.encode(frame, codec);
    }

    /// Forgets what was taken and not yet sent, and what the encoder remembers of it.
    pub fn cut(&mut self) {
        self.downlink.forget();
        self.downlink.encoder.reset();
    }

    /// The next datagram to send, if one is due.
    pub fn next_datagram(&mut self, now: Instant) -> Option<Datagram<'_>> {
        while self.has_packet() {
            // Without an address the packet is made all the same, so that the timeline goes on.
            let to = self.source.destination();
            let bytes = self.make_packet(now);
            if let Some(to) = to {
                self.protect_packet(bytes)?;
                self.statistics.packets_sent += 1;
                return Some(Datagram {
                    bytes: self.downlink.outgoing(bytes, self.protect.is_some()),
                    to,
                    from: Port::Rtp,
                });
            }
        }
        if !self.is_report_due(now) {
            return None;
        }
        let to = self.report_destination()?;
        let bytes = self.make_report(now)?;
        Some(Datagram {
            bytes: self.downlink.outgoing(bytes, self.protect.is_some()),
            to,
            from: Port::Rtcp,
        })
    }

    /// Says goodbye: the next report is due at once, and is the last. Nothing more is sent or heard.
    pub fn close(&mut self) {
        self.closing = Closing::Due;
        self.setup.send = false;
        self.setup.receive = false;
    }

    /// When to poll and to ask for datagrams though nothing comes.
    pub fn deadline(&self) -> Option<Instant> {
        let reports = self.closing == Closing::Open && self.report_destination().is_some();
        let report = reports.then(|| self.reports.due());
        let gap = self.uplink.receiver.deadline();
        [report, gap, self.presence.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What a re-INVITE has agreed on. Sequence, timestamp and, under the same keys, the roll-over counters go on.
    pub fn update(&mut self, setup: Setup, now: Instant) {
        let clock_rate = setup.codec.clock_rate();
        if setup.codec != self.setup.codec {
            self.uplink.decoder = Decoder::new(setup.codec);
            self.uplink.forget();
            self.uplink.receiver.restart(clock_rate);
            self.downlink.encoder = setup.encoder();
            self.downlink.sender.set_clock_rate(clock_rate);
            self.downlink.forget();
        } else if setup.max_average_bitrate != self.setup.max_average_bitrate {
            self.downlink.encoder = setup.encoder();
        }
        self.update_keys(&setup);
        self.source.signal(setup.remote_rtp, now);
        self.report_source.signal(setup.remote_rtcp, now);
        self.presence.set_patience(setup.patience);
        let (send, receive) = (setup.send, setup.receive);
        self.setup = Setup {
            send: self.setup.send,
            receive: self.setup.receive,
            ..setup
        };
        self.set_direction(send, receive, now);
    }

    /// Opens and shuts the two directions: a call on hold neither sends nor, as a rule, receives.
    pub fn set_direction(&mut self, send: bool, receive: bool, now: Instant) {
        if self.setup.send && !send {
            self.downlink.forget();
        }
        if self.setup.receive != receive {
            // What the peer says meanwhile is not missed, so it must not count as lost.
            self.uplink.forget();
            self.uplink.receiver.restart(self.setup.codec.clock_rate());
        }
        self.setup.send = send;
        self.setup.receive = receive;
        self.presence.set_held(!receive, now);
    }

    /// What was agreed on last.
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// When the peer was last heard, by packet or report; before that, since when it is waited for.
    pub const fn heard_at(&self) -> Instant {
        self.presence.since()
    }

    /// Where RTP goes now.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.source.destination()
    }

    /// What has happened so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            order: self.uplink.receiver.counters(),
            jitter: self.uplink.receiver.jitter(),
            ..self.statistics
        }
    }

    fn receive_packet(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        // Decryption costs more than a look at the address.
        if !self.source.may_speak(from, now) {
            self.statistics.refused_sources += 1;
            return;
        }
        let opened = self.unprotect.as_mut().map(|keys| keys.rtp(datagram));
        let plain = match &opened {
            None => datagram,
            Some(Ok(plain)) => plain,
            Some(Err(refusal)) => return self.refuse(*refusal),
        };
        let Some(packet) = Packet::parse(plain) else {
            self.statistics.malformed += 1;
            return;
        };
        let content = self.setup.content(packet.payload_type);
        // What nobody agreed on is no proof that this is the peer.
        let is_expected =
            content != Content::Unknown || opened.is_some() || self.source.locked() == Some(from);
        if is_expected && !self.source.admit(from, now) {
            self.statistics.refused_sources += 1;
            return;
        }
        if is_expected {
            self.presence.alive(now);
        }
        self.statistics.packets_received += 1;
        if !self.setup.receive {
            self.statistics.unwanted += 1;
            return;
        }
        match content {
            Content::Audio => {
                let ticks = ticks(self.setup.codec, packet.payload);
                self.uplink.receiver.push(&packet, ticks, now);
            }
            Content::TelephoneEvent => {
                let digit = self.uplink.events.receive(packet.timestamp, packet.payload);
                if let Some(digit) = digit
                    && self.uplink.digits.len() < MAX_DIGITS
                {
                    self.uplink.digits.push_back(digit);
                }
                self.uplink.receiver.push(&packet, 0, now);
            }
            Content::ComfortNoise => {
                self.statistics.comfort_noises += 1;
                self.uplink.receiver.push(&packet, 0, now);
            }
            Content::Unknown => {
                self.statistics.unknown_payloads += 1;
                if is_expected {
                    self.uplink.receiver.push(&packet, 0, now);
                }
            }
        }
    }

    fn receive_report(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        if !self.may_report(from, now) {
            self.statistics.refused_sources += 1;
            return;
        }
        let opened = self.unprotect.as_mut().map(|keys| keys.rtcp(datagram));
        let plain = match &opened {
            None => datagram,
            Some(Ok(plain)) => plain,
            Some(Err(refusal)) => return self.refuse(*refusal),
        };
        let hearing = self.uplink.receiver.ssrc();
        let Some(news) = self.reports.read(plain, hearing, now) else {
            self.statistics.malformed += 1;
            return;
        };
        if !self.is_multiplexed() && self.source.locked() != Some(from) {
            self.report_source.admit(from, now);
        }
        self.presence.alive(now);
        self.statistics.reports_received += 1;
        if let Some(feedback) = news.feedback {
            // Who is sent nothing loses nothing.
            if self.setup.send {
                self.downlink.encoder.heed_loss(feedback.fraction_lost);
            }
            self.statistics.feedback = Some(feedback);
        }
        self.uplink.has_peer_left |= news.goodbye;
    }

    /// Reports come from where RTP comes from, even of peers that agreed on a port of their own; else from the same
    /// host.
    fn may_report(&self, from: SocketAddr, now: Instant) -> bool {
        if self.is_multiplexed() || self.source.locked() == Some(from) {
            return self.source.may_speak(from, now);
        }
        let is_host_of_rtp = match self.source.locked() {
            Some(locked) => locked.ip() == from.ip(),
            None => true,
        };
        let is_signalled = self.setup.remote_rtcp == Some(from);
        (is_host_of_rtp || is_signalled) && self.report_source.may_speak(from, now)
    }

    fn refuse(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Malformed => self.statistics.malformed += 1,
            Refusal::Replayed => self.statistics.replays += 1,
            Refusal::Forged => self.statistics.authentication_failures += 1,
        }
    }

    fn is_multiplexed(&self) -> bool {
        self.setup.remote_rtcp == self.setup.remote_rtp
    }

    fn report_destination(&self) -> Option<SocketAddr> {
        // No reports are wanted if SDP names no address for them, whatever may have been learnt.
        self.setup.remote_rtcp?;
        if self.is_multiplexed() {
            self.source.destination()
        } else {
            self.report_source.destination()
        }
    }

    fn is_report_due(&self, now: Instant) -> bool {
        match self.closing {
            Closing::Open => now >= self.reports.due(),
            Closing::Due => true,
            Closing::Said => false,
        }
    }

    fn has_packet(&self) -> bool {
        let wanted = self.setup.packet_ticks();
        self.downlink.pending_ticks >= wanted
    }

    /// Writes the next packet and says how long its datagram is.
    fn make_packet(&mut self, now: Instant) -> usize {
        let wanted = self.setup.packet_ticks();
        self.downlink
            .packet(self.setup.payload_type, self.setup.codec, wanted, now)
    }

    fn protect_packet(&mut self, bytes: usize) -> Option<()> {
        if let Some(protect) = &mut self.protect {
            self.downlink.protected = protect.rtp(&self.downlink.datagram[..bytes])?;
        }
        Some(())
    }

    /// Writes the next report and says how long its datagram is.
    fn make_report(&mut self, now: Instant) -> Option<usize> {
        const { assert!(MAX_COMPOUND_BYTES <= HEADER_BYTES + MAX_PENDING_BYTES) };
        let sender = &self.downlink.sender;
        let has_sent = sender.packets() > self.reported_packets;
        let sent = has_sent.then(|| Sent {
            timestamp: sender.timestamp_at(now),
            packets: sender.packets(),
            payload_bytes: sender.payload_bytes(),
        });
        self.reported_packets = sender.packets();
        let reception = self.uplink.receiver.report();
        let end = self.closing == Closing::Due;
        if end {
            self.closing = Closing::Said;
        }
        let datagram = &mut self.downlink.datagram;
        let bytes = self.reports.write(sent, reception, end, datagram, now);
        if let Some(protect) = &mut self.protect {
            self.downlink.protected = protect.rtcp(&datagram[..bytes])?;
        }
        Some(bytes)
    }

    fn update_keys(&mut self, setup: &Setup) {
        let (ours, theirs) = setup.keys.unzip();
        if self.protect.as_ref().map(|context| *context.key()) != ours {
            self.protect = ours.map(Protect::new);
        }
        if self.unprotect.as_ref().map(|context| *context.key()) != theirs {
            self.unprotect = theirs.map(Unprotect::new);
        }
    }
}

/// What a payload type means in this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Audio,
    TelephoneEvent,
    ComfortNoise,
    Unknown,
}

impl Setup {
    /// An encoder at its beginning, for what this says.
    fn encoder(&self) -> Encoder {
        let mut encoder = Encoder::new(self.codec, self.opus_complexity);
        if let Some(bits_per_second) = self.max_average_bitrate {
            encoder.limit(bits_per_second);
        }
        encoder
    }

    fn content(&self, payload_type: u8) -> Content {
        /// Fixed by RFC 3389 §4.
        const COMFORT_NOISE: u8 = 13;
        if [self.payload_type, self.own_payload_type].contains(&payload_type) {
            Content::Audio
        } else if Some(payload_type) == self.telephone_event {
            Content::TelephoneEvent
        } else if Some(payload_type) == self.comfort_noise || payload_type == COMFORT_NOISE {
            Content::ComfortNoise
        } else {
            Content::Unknown
        }
    }

    /// Ticks of a packet that we send.
    fn packet_ticks(&self) -> u32 {
        let time = match self.codec {
            Codec::Opus => Duration::from_millis(20),
            Codec::G722 | Codec::Pcmu | Codec::Pcma => self
                .packet_time
                .clamp(*PACKET_TIMES.start(), *PACKET_TIMES.end()),
        };
        // Whole steps of 10 ms: an offer may name any number.
        (time.as_millis() / 10) as u32 * self.codec.clock_rate() / 100
    }
}

impl Uplink {
    /// The next frame of what is here.
    fn frame(&mut self, codec: Codec, now: Instant) -> Option<Frame> {
        while self.given == self.pcm.len() {
            self.pcm.clear();
            self.given = 0;
            let samples = |ticks: u32| {
                let samples = u64::from(ticks) * u64::from(codec.sample_rate().hz());
                (samples / u64::from(codec.clock_rate())) as usize
            };
            match self.receiver.pop(now)? {
                receiver::Heard::Packet { payload, .. } => {
                    self.decoder.decode(payload, &mut self.pcm);
                }
                receiver::Heard::Lost { ticks, next } => {
                    self.decoder.conceal(samples(ticks), next, &mut self.pcm);
                }
                receiver::Heard::Silence { ticks } => {
                    self.pcm.resize(samples(ticks), 0);
                }
            }
        }
        let rate = codec.sample_rate();
        let rest = &self.pcm[self.given..];
        let piece = &rest[..rest.len().min(rate.frame_samples())];
        self.given += piece.len();
        Some(Frame::new(rate, piece))
    }

    /// Drops what was decoded.
    fn forget(&mut self) {
        self.pcm.clear();
        self.given = 0;
    }
}

impl Downlink {
    /// Whether another frame may wait. An Opus packet cannot be joined to another one.
    fn has_room(&self, codec: Codec) -> bool {
        match codec {
            Codec::Opus => self.pending_bytes == 0,
            Codec::G722 | Codec::Pcmu | Codec::Pcma => {
                self.pending_bytes + MAX_FRAME_BYTES <= MAX_PENDING_BYTES
            }
        }
    }

    fn encode(&mut self, frame: &Frame, codec: Codec) {
        let out = &mut self.pending[self.pending_bytes..];
        let bytes = self.encoder.encode(frame, out);
        let samples = frame.samples().len() as u64 * u64::from(codec.clock_rate());
        let ticks = (samples / u64::from(codec.sample_rate().hz())) as u32;
        if bytes == 0 {
            // The encoder found nothing worth a packet (Opus DTX); the timeline goes on without one.
            self.sender.skip(ticks);
            return;
        }
        self.pending_bytes += bytes;
        self.pending_ticks += ticks;
    }

    /// Moves `ticks` of what is pending into a datagram and says how long that is.
    fn packet(&mut self, payload_type: u8, codec: Codec, ticks: u32, now: Instant) -> usize {
        let (payload_bytes, ticks) = match codec {
            Codec::Opus => (self.pending_bytes, self.pending_ticks),
            // A byte is a tick in all three.
            Codec::G722 | Codec::Pcmu | Codec::Pcma => {
                let bytes = (ticks as usize).min(self.pending_bytes);
                (bytes, bytes as u32)
            }
        };
        let bytes = HEADER_BYTES + payload_bytes;
        let datagram = &mut self.datagram[..bytes];
        datagram[HEADER_BYTES..].copy_from_slice(&self.pending[..payload_bytes]);
        self.pending
            .copy_within(payload_bytes..self.pending_bytes, 0);
        self.pending_bytes -= payload_bytes;
        self.pending_ticks -= ticks;
        self.sender.stamp(datagram, payload_type, ticks, now);
        bytes
    }

    /// The datagram that was made last.
    fn outgoing(&self, bytes: usize, is_protected: bool) -> &[u8] {
        if is_protected {
            &self.protected
        } else {
            &self.datagram[..bytes]
        }
    }

    /// Drops what is pending.
    fn forget(&mut self) {
        self.pending_bytes = 0;
        self.pending_ticks = 0;
    }
}

/// How long a payload lasts on the timeline; zero if it is damaged.
fn ticks(codec: Codec, payload: &[u8]) -> u32 {
    match codec {
        Codec::Opus => opus_ticks(payload),
        // A byte is a tick in all three: G.722 packs two samples of 16 kHz and counts one.
        Codec::G722 | Codec::Pcmu | Codec::Pcma => payload.len() as u32,
    }
}

/// Length of an Opus packet at 48 kHz (RFC 6716 §3.1, §3.2): frames times the length of each, 120 ms at most.
fn opus_ticks(payload: &[u8]) -> u32 {
    const MAX_TICKS: u32 = 5_760;
    let Some(&configuration) = payload.first() else {
        return 0;
    };
    let frame = match configuration >> 3 {
        // SILK: 10, 20, 40, 60 ms.
        mode @ 0..12 => [480, 960, 1_920, 2_880][usize::from(mode & 3)],
        // Hybrid: 10, 20 ms.
        mode @ 12..16 => [480, 960][usize::from(mode & 1)],
        // CELT: 2.5, 5, 10, 20 ms.
        mode => [120, 240, 480, 960][usize::from(mode & 3)],
    };
    let frames = match configuration & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => payload.get(1).map_or(0, |count| u32::from(count & 0x3f)),
    };
    let ticks = frame * frames;
    if ticks <= MAX_TICKS { ticks } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_packets_say_how_long_they_are() {
        // The configurations of RFC 6716 §3.1, table 2, and the codes of §3.2 for one, two or any number of frames.
        for (payload, milliseconds) in [
            // SILK 20 ms; two of 60 ms; hybrid 10 ms; CELT 2.5 ms; four of CELT 20 ms.
            (&[1 << 3, 0][..], 20.0),
            (&[3 << 3 | 1], 120.0),
            (&[12 << 3], 10.0),
            (&[16 << 3], 2.5),
            (&[31 << 3 | 3, 4], 80.0),
            // Seven of 20 ms are too long, and a count is missing.
            (&[31 << 3 | 3, 7], 0.0),
            (&[31 << 3 | 3], 0.0),
            (&[], 0.0),
        ] {
            let ticks = ticks(Codec::Opus, payload);
            assert_eq!(f64::from(ticks) / 48.0, milliseconds, "{payload:02x?}");
        }
    }

    #[test]
    fn a_session_can_live_in_a_task() {
        fn assert_send<T: Send>() {}
        assert_send::<Session>();
    }
}
