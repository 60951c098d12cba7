//! A client, the gateway's side of its connection, and a network between them, all in simulated time.
//!
//! The client is the whole connection of `rtc`, a full ICE agent as browsers are. It checks every 200 ms, nominates a round
//! later, and does nothing in between: what a connection takes beyond that is ours.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use rtc::data_channel::RTCDataChannelId;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCDataChannelEvent;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::message::TaggedRTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodingParameters;
use rtc::rtp_transceiver::rtp_sender::RTCRtpEncodingParameters;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::sansio::Protocol as _;
use rtc::shared::TaggedBytesMut;
use rtc::shared::TransportContext;
use rtc::shared::TransportProtocol;

use crate::engine::media::codec::packet::Codec;
use crate::engine::media::codec::packet::Decoder;
use crate::engine::media::codec::packet::Encoder;
use crate::engine::media::codec::packet::MAX_PAYLOAD_BYTES;
use crate::engine::media::frame::FRAME_DURATION;
use crate::engine::media::frame::Frame;
use crate::engine::media::testing::tone;
use crate::engine::rtp::dtls::Identity;
use crate::engine::rtp::session::Beginning;
use crate::engine::rtp::session::Heard;
use crate::engine::rtp::testing::noon;
use crate::engine::sdp::description::Description;
use crate::engine::webrtc::channels::ChannelId;
use crate::engine::webrtc::description;
use crate::engine::webrtc::description::Answer;
use crate::engine::webrtc::description::Ours;
use crate::engine::webrtc::ice::Credentials;
use crate::engine::webrtc::ice::Path;
use crate::engine::webrtc::peer::End;
use crate::engine::webrtc::peer::Event;
use crate::engine::webrtc::peer::Peer;
use crate::engine::webrtc::peer::Terms;

/// What the client says, and what the gateway says.
pub(super) const UP_HERTZ: f64 = 1_000.0;
pub(super) const DOWN_HERTZ: f64 = 440.0;
pub(super) const PEAK: i16 = 8_000;
/// The clocks of the client's telephone-events, and their numbers.
const KEYS: [(u32, u8); 2] = [(48_000, 110), (8_000, 126)];
/// The client's first source.
const SSRC: u32 = 0x1122_3344;
/// Ours: the client drops one that the answer does not name.
const OUR_SOURCE: u32 = 0xaaaa_aaaa;

/// What a client is like.
#[derive(Clone)]
pub(super) struct Client {
    /// What it can speak, the preferred first.
    pub(super) codecs: Vec<Codec>,
    /// What its `a=setup` says.
    pub(super) setup: &'static str,
    /// Data channels that it opens at once.
    pub(super) channels: usize,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            codecs: vec![Codec::Opus, Codec::Pcmu],
            setup: "actpass",
            channels: 1,
        }
    }
}

/// What a network does.
#[derive(Clone, Copy)]
pub(super) struct Network {
    /// From one side to the other.
    pub(super) delay: Duration,
    /// A datagram takes up to this much longer, so that it may overtake others.
    pub(super) jitter: Duration,
    /// Per cent of datagrams.
    pub(super) lost: u32,
    /// Per cent of datagrams that come twice.
    pub(super) doubled: u32,
    /// Per cent of the client's datagrams in which a byte is changed.
    pub(super) damaged: u32,
    /// Of what is random in it.
    pub(super) seed: u32,
    /// Splits the plain handshake records of the client into fragments of so many bytes.
    pub(super) fragment: Option<usize>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(25),
            jitter: Duration::ZERO,
            lost: 0,
            doubled: 0,
            damaged: 0,
            seed: 1,
            fragment: None,
        }
    }
}

/// Which kinds of datagram of the client get through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    All,
    Nothing,
    OnlyStun,
    OnlyRtp,
    AllButData,
}

enum Flight {
    Up(Vec<u8>, SocketAddr),
    Down(Vec<u8>, SocketAddr),
}

/// What came of it at the gateway.
#[derive(Default)]
pub(super) struct Gateway {
    pub(super) connected_at: Option<Instant>,
    pub(super) ended: Option<(End, Instant)>,
    pub(super) opened: Vec<ChannelId>,
    pub(super) opened_at: Option<Instant>,
    pub(super) heard: Vec<i16>,
    pub(super) digits: String,
    pub(super) learned: Vec<Path>,
    pub(super) forgotten: Vec<Path>,
    /// Datagrams sent, by the address that they went to.
    pub(super) sent_to: BTreeMap<SocketAddr, u32>,
}

/// What came of it at the client.
#[derive(Default)]
pub(super) struct Browser {
    pub(super) connected_at: Option<Instant>,
    pub(super) closed_at: Option<Instant>,
    pub(super) channels: Vec<RTCDataChannelId>,
    pub(super) open: Vec<RTCDataChannelId>,
    pub(super) texts: Vec<(RTCDataChannelId, String)>,
    pub(super) heard: Vec<i16>,
    pub(super) first_sound_at: Option<Instant>,
}

/// The stream that the client sends.
struct Voice {
    codec: Codec,
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    encoder: Encoder,
    decoder: Decoder,
    /// Both tones, and how far they are said.
    tones: [Vec<i16>; 2],
    said: usize,
    next_at: Instant,
    is_speaking: bool,
    is_spoken_to: bool,
}

/// All of it.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) began: Instant,
    pub(super) client: RTCPeerConnection,
    pub(super) peer: Peer,
    pub(super) ours: Ours,
    pub(super) answer: Answer,
    pub(super) gateway: Gateway,
    pub(super) browser: Browser,
    pub(super) network: Network,
    pub(super) pass: Pass,
    /// Where the client's datagrams come from now.
    pub(super) client_at: SocketAddr,
    in_flight: BTreeMap<(Instant, u64), Flight>,
    sent: u64,
    random: u32,
    voice: Voice,
    is_client_broken: bool,
    hellos: BTreeSet<(u8, Vec<u8>)>,
    fragments: u64,
    pub(super) fragmented: u32,
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(super) fn gateway_at() -> SocketAddr {
    address("203.0.113.7:10443")
}

pub(super) fn credentials(seed: u8) -> Credentials {
    Credentials::new(&[seed; Credentials::RANDOM_BYTES])
}

impl World {
    pub(super) fn new(client: &Client, network: Network) -> Self {
        Self::altered(client, network, |offer| offer)
    }

    /// `alter` may change the offer on its way.
    pub(super) fn altered(
        options: &Client,
        network: Network,
        alter: impl FnOnce(String) -> String,
    ) -> Self {
        let now = noon();
        let client_at = address("192.0.2.1:5000");
        let mut client = client(options, now);
        let mut channels = Vec::new();
        for number in 0..options.channels {
            let channel = client.create_data_channel(&format!("events {number}"), None);
            channels.push(channel.expect("a channel").id());
        }
        let offer = offer(&mut client, client_at, now);
        let offer = alter(offer.replace("a=setup:actpass", &format!("a=setup:{}", options.setup)));
        let identity = Arc::new(Identity::generate().expect("an identity"));
        let ours = Ours {
            codecs: vec![Codec::Opus, Codec::Pcmu, Codec::Pcma],
            fingerprint: identity.fingerprint(),
            credentials: credentials(1),
            candidates: vec![gateway_at()],
            session_id: 7,
            ssrc: OUR_SOURCE,
            cname: "tandem".to_owned(),
        };
        let answer = answer(&ours, &offer);
        let peer = Peer::new(
            Terms {
                agreement: answer.agreement.clone(),
                has_channels: answer.has_channels,
                credentials: ours.credentials.clone(),
                identity,
                cname: "tandem".to_owned(),
                opus_complexity: 5,
                beginning: Beginning {
                    ssrc: OUR_SOURCE,
                    sequence: 65_530,
                    timestamp: u32::MAX - 500,
                    seed: 3,
                },
            },
            now,
        );
        take_answer(&mut client, &answer, now);
        let agreement = &answer.agreement;
        let codec = agreement.codec;
        let rate = codec.sample_rate().hz();
        let voice = Voice {
            codec,
            payload_type: agreement.payload_type.receive,
            ssrc: SSRC,
            sequence: 60_000,
            timestamp: 5,
            encoder: Encoder::new(codec, 5),
            decoder: Decoder::new(codec),
            tones: [UP_HERTZ, DOWN_HERTZ].map(|hertz| tone(rate, hertz, PEAK, 1.0)),
            said: 0,
            next_at: now,
            is_speaking: false,
            is_spoken_to: false,
        };
        Self {
            now,
            began: now,
            client,
            peer,
            ours,
            answer,
            gateway: Gateway::default(),
            browser: Browser {
                channels,
                ..Browser::default()
            },
            network,
            pass: Pass::All,
            client_at,
            in_flight: BTreeMap::new(),
            sent: 0,
            random: network.seed,
            voice,
            is_client_broken: false,
            hellos: BTreeSet::new(),
            fragments: 0,
            fragmented: 0,
        }
    }

    /// Until both are connected.
    pub(super) fn connected(client: &Client, network: Network) -> Self {
        let mut world = Self::new(client, network);
        let is_connected = world.run_until(Duration::from_secs(10), |world| {
            world.gateway.connected_at.is_some() && world.browser.connected_at.is_some()
        });
        assert!(is_connected, "{:?}", world.gateway.ended);
        world
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    /// Both speak from now on, or not.
    pub(super) fn speak(&mut self, up: bool, down: bool) {
        self.voice.is_speaking = up;
        self.voice.is_spoken_to = down;
        self.voice.next_at = self.voice.next_at.max(self.now);
    }

    /// The client goes on as another source, as on a change of its microphone.
    pub(super) fn change_source(&mut self) {
        self.voice.ssrc += 1;
        self.voice.sequence = 1;
        self.voice.timestamp = 3_000_000_000;
    }

    /// The client presses a key for 100 ms, in the telephone-events that were agreed.
    pub(super) fn press(&mut self, event: u8) {
        let payload_type = self.answer.agreement.telephone_event;
        let payload_type = payload_type.expect("keys are agreed").receive;
        let step = self.voice.codec.clock_rate() / 50;
        // Five of the press, and its end three times.
        for n in 1..=7_u32 {
            let end = if n >= 5 { 0x80 } else { 0 };
            let duration = (n.min(5) * step) as u16;
            let [high, low] = duration.to_be_bytes();
            self.send_packet(payload_type, &[event, end | 10, high, low], n == 1);
            let until = self.now + FRAME_DURATION;
            self.run_to(until);
        }
        self.voice.timestamp = self.voice.timestamp.wrapping_add(5 * step);
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_to(self.now + time);
    }

    fn run_to(&mut self, until: Instant) {
        let time = until - self.now;
        self.run_until(time, |_| false);
    }

    /// Says whether `is_over` came true in time.
    pub(super) fn run_until(
        &mut self,
        time: Duration,
        mut is_over: impl FnMut(&Self) -> bool,
    ) -> bool {
        let until = self.now + time;
        let mut idle = 0;
        loop {
            self.settle();
            if is_over(self) {
                return true;
            }
            let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
            let speech =
                (self.voice.is_speaking || self.voice.is_spoken_to).then_some(self.voice.next_at);
            let ours = self.gateway.ended.is_none().then(|| self.peer.deadline());
            let next = [arrival, speech, ours, self.clients_deadline()]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return false;
            };
            idle = if next > self.now { 0 } else { idle + 1 };
            assert!(idle < 1_000, "time stands still");
            // Once its handshake has failed, the client says so for ever.
            let is_due = self.clients_deadline().is_some_and(|at| at <= self.now);
            self.is_client_broken |= idle == 100 && is_due;
            self.now = self.now.max(next);
            self.advance();
        }
    }

    fn clients_deadline(&mut self) -> Option<Instant> {
        (!self.is_client_broken).then(|| self.client.poll_timeout())?
    }

    /// Does what is due now.
    fn advance(&mut self) {
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= self.now
        {
            match entry.remove() {
                Flight::Up(datagram, remote) => {
                    let path = Path { remote, socket: 0 };
                    self.peer.receive(&datagram, path, self.now);
                }
                Flight::Down(datagram, to) => self.give_client(&datagram, to),
            }
            self.settle();
        }
        self.speak_on();
        if self.clients_deadline().is_some_and(|at| at <= self.now) {
            self.is_client_broken |= self.client.handle_timeout(self.now).is_err();
        }
        if self.peer.deadline() <= self.now {
            self.peer.tick(self.now);
        }
    }

    fn give_client(&mut self, datagram: &[u8], to: SocketAddr) {
        if to != self.client_at || self.is_repeated_hello(datagram) {
            return;
        }
        let read = self.client.handle_read(TaggedBytesMut {
            now: self.now,
            transport: TransportContext {
                local_addr: self.client_at,
                peer_addr: gateway_at(),
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            },
            message: BytesMut::from(datagram),
        });
        read.expect("the client takes it");
    }

    /// Whether the client has this hello already. Its handshake is the crate's, without what `rtp::dtls` puts around it: a
    /// repeat would make it forget to repeat its own flight (browsers do not).
    fn is_repeated_hello(&mut self, datagram: &[u8]) -> bool {
        const CLIENT_HELLO: u8 = 1;
        const HELLO_VERIFY_REQUEST: u8 = 3;
        let (Some(22), Some(&kind), Some(number)) =
            (datagram.first(), datagram.get(13), datagram.get(17..19))
        else {
            return false;
        };
        let is_plain = datagram[3..5] == [0, 0];
        // The very first is answered each time.
        let is_first = kind == CLIENT_HELLO && number == [0, 0];
        let is_hello = (CLIENT_HELLO..=HELLO_VERIFY_REQUEST).contains(&kind) && !is_first;
        is_plain && is_hello && !self.hellos.insert((kind, number.to_vec()))
    }

    fn speak_on(&mut self) {
        let is_on = self.voice.is_speaking || self.voice.is_spoken_to;
        if !is_on || self.voice.next_at > self.now {
            return;
        }
        self.voice.next_at += FRAME_DURATION;
        let rate = self.voice.codec.sample_rate();
        let samples = rate.frame_samples();
        // A second has whole periods of both, and whole frames.
        let from = self.voice.said % self.voice.tones[0].len();
        self.voice.said += samples;
        let frames = [0, 1].map(|i| Frame::new(rate, &self.voice.tones[i][from..from + samples]));
        if self.voice.is_spoken_to {
            self.peer.send(&frames[1]);
        }
        if self.voice.is_speaking {
            let mut payload = [0; MAX_PAYLOAD_BYTES];
            let bytes = self.voice.encoder.encode(&frames[0], &mut payload);
            self.send_packet(self.voice.payload_type, &payload[..bytes], false);
            let ticks = self.voice.codec.clock_rate() / 50;
            self.voice.timestamp = self.voice.timestamp.wrapping_add(ticks);
        }
    }

    fn send_packet(&mut self, payload_type: u8, payload: &[u8], marker: bool) {
        self.voice.sequence = self.voice.sequence.wrapping_add(1);
        let packet = rtc::rtp::Packet {
            header: rtc::rtp::Header {
                version: 2,
                marker,
                payload_type,
                sequence_number: self.voice.sequence,
                timestamp: self.voice.timestamp,
                ssrc: self.voice.ssrc,
                ..Default::default()
            },
            payload: Bytes::copy_from_slice(payload),
        };
        self.client
            .handle_write(TaggedRTCMessage {
                now: self.now,
                message: RTCMessage::RtpPacket("voice".to_owned(), packet),
            })
            .expect("the client sends it");
    }

    /// Fetches all that both have to say.
    fn settle(&mut self) {
        while let Some(event) = self.peer.poll(self.now) {
            self.note(&event);
        }
        while let Some(datagram) = self.peer.next_datagram(self.now) {
            let (bytes, to) = (datagram.bytes.to_vec(), datagram.path.remote);
            *self.gateway.sent_to.entry(to).or_default() += 1;
            self.carry(|bytes| Flight::Down(bytes, to), &bytes);
        }
        while let Some(written) = self.client.poll_write() {
            assert_eq!(written.transport.peer_addr, gateway_at());
            let from = written.transport.local_addr;
            for mut datagram in self.fragment(written.message.to_vec()) {
                if self.chance(100) < self.network.damaged {
                    let index = self.chance(datagram.len() as u32) as usize;
                    datagram[index] = self.chance(256) as u8;
                }
                if self.pass.lets(&datagram) {
                    self.carry(|bytes| Flight::Up(bytes, from), &datagram);
                }
            }
        }
        while let Some(event) = self.client.poll_event() {
            self.note_clients(&event);
        }
        while let Some(TaggedRTCMessage { message, .. }) = self.client.poll_read() {
            match message {
                RTCMessage::RtpPacket(_, packet) => {
                    self.browser.first_sound_at.get_or_insert(self.now);
                    self.voice
                        .decoder
                        .decode(&packet.payload, &mut self.browser.heard);
                }
                RTCMessage::DataChannelMessage(channel, message) => {
                    let text = String::from_utf8(message.data.to_vec()).expect("text");
                    assert!(message.is_string);
                    self.browser.texts.push((channel, text));
                }
                // Reports, and kinds to come.
                _ => {}
            }
        }
    }

    fn note(&mut self, event: &Event) {
        let gateway = &mut self.gateway;
        match event {
            Event::Learned(path) => gateway.learned.push(*path),
            Event::Forgotten(path) => gateway.forgotten.push(*path),
            Event::Connected => {
                assert_eq!(gateway.connected_at.replace(self.now), None);
            }
            Event::Heard(Heard::Audio(frame)) => gateway.heard.extend(frame.samples()),
            Event::Heard(Heard::Digit(digit)) => gateway.digits.push(digit.as_char()),
            Event::Heard(Heard::PeerLeft) => {}
            Event::Heard(Heard::PeerAbsent(absence)) => panic!("{absence:?}"),
            Event::Opened(channel) => {
                gateway.opened.push(*channel);
                gateway.opened_at.get_or_insert(self.now);
            }
            Event::Ended(end) => {
                assert!(gateway.ended.replace((*end, self.now)).is_none(), "once");
            }
        }
    }

    fn note_clients(&mut self, event: &RTCPeerConnectionEvent) {
        match event {
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(
                RTCPeerConnectionState::Connected,
            ) => {
                self.browser.connected_at.get_or_insert(self.now);
            }
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(
                RTCPeerConnectionState::Closed | RTCPeerConnectionState::Failed,
            )
            | RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnClose(_)) => {
                self.browser.closed_at.get_or_insert(self.now);
            }
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(channel)) => {
                self.browser.open.push(*channel);
            }
            _ => {}
        }
    }

    fn carry(&mut self, flight: impl Fn(Vec<u8>) -> Flight, datagram: &[u8]) {
        if self.chance(100) < self.network.lost {
            return;
        }
        let copies = 1 + usize::from(self.chance(100) < self.network.doubled);
        for _ in 0..copies {
            let jitter = self.network.jitter.as_micros() as u32;
            let late = Duration::from_micros(u64::from(self.chance(jitter + 1)));
            let at = self.now + self.network.delay + late;
            self.sent += 1;
            self.in_flight
                .insert((at, self.sent), flight(datagram.to_vec()));
        }
    }

    fn chance(&mut self, below: u32) -> u32 {
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.random >> 8) % below
    }

    /// Splits plain handshake records, each into a datagram of its own, and numbers all plain records anew.
    fn fragment(&mut self, datagram: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(most) = self.network.fragment else {
            return vec![datagram];
        };
        if !matches!(datagram.first(), Some(20..=63)) {
            return vec![datagram];
        }
        let mut datagrams = Vec::new();
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
            let (record, next) = rest.split_at(13 + length);
            rest = next;
            let is_plain = record[3..5] == [0, 0];
            if !is_plain {
                datagrams.push(record.to_vec());
                continue;
            }
            let bodies = match record[0] {
                22 => split_messages(&record[13..], most),
                _ => vec![record[13..].to_vec()],
            };
            self.fragmented += u32::from(bodies.len() > 1);
            for body in bodies {
                let mut fragment = record[..5].to_vec();
                fragment.extend(&self.fragments.to_be_bytes()[2..]);
                self.fragments += 1;
                fragment.extend((body.len() as u16).to_be_bytes());
                fragment.extend(body);
                datagrams.push(fragment);
            }
        }
        datagrams
    }

    /// The client begins anew with ICE from `at`; its offer has been answered with `credentials`.
    pub(super) fn restart_ice(&mut self, credentials: Credentials, at: SocketAddr) {
        self.client.restart_ice();
        self.client_at = at;
        let offer = offer(&mut self.client, at, self.now);
        self.ours.credentials = credentials.clone();
        let answer = answer(&self.ours, &offer);
        self.peer.restart(credentials);
        take_answer(&mut self.client, &answer, self.now);
    }

    /// Has the client open another channel.
    pub(super) fn open_channel(&mut self, label: &str) {
        let channel = self.client.create_data_channel(label, None);
        let id = channel.expect("a channel").id();
        self.browser.channels.push(id);
    }

    /// What the client read in one channel.
    pub(super) fn texts(&self, channel: usize) -> Vec<&str> {
        let id = self.browser.channels[channel];
        let texts = self.browser.texts.iter();
        texts
            .filter(|(of, _)| *of == id)
            .map(|(_, text)| text.as_str())
            .collect()
    }
}

impl Pass {
    fn lets(self, datagram: &[u8]) -> bool {
        let first = datagram[0];
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::OnlyStun => first < 4,
            Self::OnlyRtp => first >= 128,
            Self::AllButData => first != 23,
        }
    }
}

/// Fragments of the messages in a record (RFC 6347 §4.2.3).
fn split_messages(mut body: &[u8], most: usize) -> Vec<Vec<u8>> {
    let mut fragments = Vec::new();
    while !body.is_empty() {
        let length = usize::from(u16::from_be_bytes([body[10], body[11]]));
        let (message, next) = body.split_at(12 + length);
        body = next;
        let (header, content) = message.split_at(12);
        for (n, piece) in content.chunks(most).enumerate() {
            let mut fragment = header[..6].to_vec();
            fragment.extend(&((n * most) as u32).to_be_bytes()[1..]);
            fragment.extend(&(piece.len() as u32).to_be_bytes()[1..]);
            fragment.extend(piece);
            fragments.push(fragment);
        }
        if content.is_empty() {
            fragments.push(header.to_vec());
        }
    }
    fragments
}

/// A client with a voice.
fn client(options: &Client, now: Instant) -> RTCPeerConnection {
    let voices = options.codecs.iter().map(|codec| {
        coding(
            &format!("audio/{}", codec.encoding_name()),
            codec.clock_rate(),
            if *codec == Codec::Opus { 2 } else { 0 },
            codec.static_payload_type().unwrap_or(111),
        )
    });
    let keys = KEYS.map(|(clock, number)| coding("audio/telephone-event", clock, 0, number));
    let codings: Vec<RTCRtpCodecParameters> = voices.chain(keys).collect();
    let mut engine = MediaEngine::default();
    for coding in &codings {
        engine
            .register_codec(coding.clone(), RtpCodecKind::Audio)
            .expect("a codec");
    }
    let mut client = RTCPeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_setting_engine(SettingEngineBuilder::new().build())
        .build(now)
        .expect("a client");
    client
        .add_track(MediaStreamTrack::new(
            "stream".to_owned(),
            "voice".to_owned(),
            "microphone".to_owned(),
            RtpCodecKind::Audio,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(SSRC),
                    ..Default::default()
                },
                codec: codings[0].rtp_codec.clone(),
                ..Default::default()
            }],
        ))
        .expect("a track");
    client
}

fn coding(
    mime_type: &str,
    clock_rate: u32,
    channels: u16,
    payload_type: u8,
) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            ..Default::default()
        },
        payload_type,
    }
}

/// What the client writes, being at `at`.
fn offer(client: &mut RTCPeerConnection, at: SocketAddr, now: Instant) -> String {
    let offer = client.create_offer(None).expect("an offer");
    client
        .set_local_description(now, offer)
        .expect("its own offer");
    let (ip, port) = (at.ip(), at.port());
    client
        .add_local_candidate(RTCIceCandidateInit {
            candidate: format!("candidate:1 1 udp 2130706431 {ip} {port} typ host"),
            ..Default::default()
        })
        .expect("a candidate");
    with_keys(&client.local_description().expect("an offer").sdp)
}

/// Adds the telephone-events, which the client knows and does not offer by itself.
fn with_keys(offer: &str) -> String {
    let lines = offer.split_inclusive("\r\n").map(|line| {
        let mut line = line.trim_end().to_owned();
        if line.starts_with("m=audio") {
            line += &KEYS.map(|(_, number)| format!(" {number}")).concat();
        } else if line == "a=rtcp-mux" {
            let keys = KEYS
                .map(|(clock, number)| format!("\r\na=rtpmap:{number} telephone-event/{clock}"));
            line += &keys.concat();
        }
        line + "\r\n"
    });
    lines.collect()
}

fn answer(ours: &Ours, offer: &str) -> Answer {
    let offer = Description::parse(offer.as_bytes()).expect("an offer");
    description::answer(ours, &offer).expect("an answer")
}

fn take_answer(client: &mut RTCPeerConnection, answer: &Answer, now: Instant) {
    let text = answer.description.to_string();
    let answer = RTCSessionDescription::answer(text).expect("an answer");
    client
        .set_remote_description(now, answer)
        .expect("the client takes it");
}

/// A path from `remote`.
pub(super) fn path(remote: &str) -> Path {
    Path {
        remote: address(remote),
        socket: 0,
    }
}
