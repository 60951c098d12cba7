use proptest::prelude::*;
use rtc::datachannel::message::message_channel_open::ChannelType;
use rtc::datachannel::message::message_channel_open::DataChannelOpen;
use rtc::sctp::StreamId;

use super::*;
use crate::engine::rtp::testing::noon;

const DELAY: Duration = Duration::from_millis(25);

#[test]
fn a_peer_that_begins_reads_what_we_write_in_order() {
    let mut pair = Pair::new(true);
    pair.run(Duration::from_secs(1), |_, _| true);
    assert!(pair.client.is_connected);
    assert_eq!(pair.client.connected_at, Some(pair.began + 4 * DELAY));
    pair.client.open(0);
    pair.run(Duration::from_secs(1), |_, _| true);
    let channel = pair.ours.poll_opened().expect("it is open");
    assert_eq!(channel, ChannelId::of_stream(0));
    assert_eq!(pair.client.acknowledged, [0]);
    let texts: Vec<String> = (0..50).map(|n| format!("line {n}")).collect();
    for text in &texts {
        assert!(pair.ours.send(channel, text, pair.now));
    }
    pair.run(Duration::from_secs(5), |_, _| true);
    assert_eq!(pair.client.texts(0), texts);
}

#[test]
fn a_peer_that_waits_is_begun_with() {
    let mut pair = Pair::new(false);
    pair.run(Duration::from_secs(1), |_, _| true);
    assert!(pair.client.connected_at > Some(pair.began + PATIENCE));
    assert!(pair.client.connected_at < Some(pair.began + PATIENCE + 5 * DELAY));
    pair.client.open(1);
    pair.run(Duration::from_secs(1), |_, _| true);
    let channel = pair.ours.poll_opened().expect("it is open");
    assert!(pair.ours.send(channel, "hello", pair.now));
    pair.run(Duration::from_secs(1), |_, _| true);
    assert_eq!(pair.client.texts(1), ["hello"]);
}

#[test]
fn whatever_is_lost_of_the_beginning_is_made_good() {
    for begins in [true, false] {
        for first in 0..8 {
            for second in first..8 {
                let mut pair = Pair::new(begins);
                pair.run(Duration::from_secs(15), |number, _| {
                    number != first && number != second
                });
                let what = format!("{begins}, without {first} and {second}");
                assert!(pair.client.is_connected, "{what}");
                pair.client.open(0);
                pair.run(Duration::from_secs(10), |_, _| true);
                let channel = pair.ours.poll_opened().expect(&what);
                assert!(pair.ours.send(channel, "hello", pair.now));
                pair.run(Duration::from_secs(10), |_, _| true);
                assert_eq!(pair.client.texts(0), ["hello"], "{what}");
                assert!(pair.ours.associations.len() <= 2, "{what}");
            }
        }
    }
}

#[test]
fn a_beginning_that_comes_twice_begins_once() {
    let mut pair = Pair::new(true);
    pair.is_doubling = true;
    pair.run(Duration::from_secs(5), |_, _| true);
    assert!(pair.client.is_connected);
    pair.client.open(0);
    pair.run(Duration::from_secs(1), |_, _| true);
    let channel = pair.ours.poll_opened().expect("it is open");
    assert_eq!(pair.ours.poll_opened(), None);
    assert!(pair.ours.send(channel, "hello", pair.now));
    pair.run(Duration::from_secs(1), |_, _| true);
    assert_eq!(pair.client.texts(0), ["hello"]);
    assert_eq!(pair.ours.associations.len(), 1);
}

#[test]
fn a_flood_of_beginnings_is_not_kept() {
    let now = noon();
    let mut ours = Channels::new(now);
    for _ in 0..1_000 {
        let mut client = Client::new(true, now);
        for packet in client.take(now) {
            ours.receive(packet, now);
        }
    }
    assert_eq!(ours.associations.len(), MAX_BEGINNINGS);
}

#[test]
fn a_channel_that_is_closed_makes_room_and_the_others_stay() {
    let mut pair = Pair::connected();
    for stream in 0..6 {
        pair.client.open(stream);
    }
    pair.run(Duration::from_secs(1), |_, _| true);
    let opened: Vec<ChannelId> = std::iter::from_fn(|| pair.ours.poll_opened()).collect();
    assert_eq!(opened, [0, 1, 2, 3].map(ChannelId::of_stream));
    assert_eq!(pair.client.acknowledged, [0, 1, 2, 3]);
    assert!(pair.ours.is_open(ChannelId::of_stream(1)));
    pair.client.close(1, pair.now);
    pair.run(Duration::from_secs(3), |_, _| true);
    assert!(
        !pair.ours.is_open(ChannelId::of_stream(1)) && pair.ours.is_open(ChannelId::of_stream(2))
    );
    assert!(!pair.ours.send(ChannelId::of_stream(1), "gone", pair.now));
    assert!(
        pair.ours
            .send(ChannelId::of_stream(2), "still here", pair.now)
    );
    pair.client.open(7);
    pair.run(Duration::from_secs(1), |_, _| true);
    assert_eq!(pair.ours.poll_opened(), Some(ChannelId::of_stream(7)));
    assert!(pair.ours.send(ChannelId::of_stream(7), "welcome", pair.now));
    pair.run(Duration::from_secs(1), |_, _| true);
    assert_eq!(pair.client.texts(2), ["still here"]);
    assert_eq!(pair.client.texts(7), ["welcome"]);
}

#[test]
fn a_peer_that_opens_everything_is_left() {
    let mut pair = Pair::connected();
    for stream in 0..=MAX_STREAMS as u16 {
        pair.client.open(stream);
    }
    pair.run(Duration::from_secs(5), |_, _| true);
    assert!(pair.client.is_lost);
    assert!(pair.ours.associations.is_empty() && pair.ours.deadline().is_none());
    assert!(!pair.ours.send(ChannelId::of_stream(0), "gone", pair.now));
}

#[test]
fn what_is_not_acknowledged_is_kept_up_to_a_limit() {
    let mut pair = Pair::connected();
    pair.client.open(0);
    pair.run(Duration::from_secs(1), |_, _| true);
    let channel = pair.ours.poll_opened().expect("it is open");
    let text = "x".repeat(1_000);
    let mut taken = 0;
    for _ in 0..1_000 {
        taken += usize::from(pair.ours.send(channel, &text, pair.now));
        pair.run(Duration::from_millis(10), |_, _| false);
    }
    assert_eq!(taken, MAX_WAITING_BYTES / 1_000);
    assert!(pair.sent < 50, "{} packets were sent", pair.sent);
    // When it is there again, it gets all of it.
    pair.run(Duration::from_secs(120), |_, _| true);
    assert_eq!(pair.client.texts(0).len(), taken);
    assert!(pair.ours.send(channel, &text, pair.now));
}

#[test]
fn the_peer_may_leave_and_come_back() {
    let mut pair = Pair::connected();
    pair.client.open(0);
    pair.run(Duration::from_secs(1), |_, _| true);
    assert_eq!(pair.ours.poll_opened(), Some(ChannelId::of_stream(0)));
    pair.client.leave();
    pair.run(Duration::from_secs(1), |_, _| true);
    assert!(!pair.ours.send(ChannelId::of_stream(0), "gone", pair.now));
    assert!(pair.ours.associations.is_empty());
    pair.client = Client::new(true, pair.now);
    pair.run(Duration::from_secs(1), |_, _| true);
    pair.client.open(0);
    pair.run(Duration::from_secs(1), |_, _| true);
    let channel = pair.ours.poll_opened().expect("it is open");
    assert_ne!(channel, ChannelId::of_stream(0));
    assert!(!pair.ours.send(ChannelId::of_stream(0), "gone", pair.now));
    assert!(pair.ours.send(channel, "welcome", pair.now));
    pair.run(Duration::from_secs(1), |_, _| true);
    assert_eq!(pair.client.texts(0), ["welcome"]);
}

#[test]
fn closing_is_told() {
    let mut pair = Pair::connected();
    pair.client.open(0);
    pair.run(Duration::from_secs(1), |_, _| true);
    let channel = pair.ours.poll_opened().expect("it is open");
    assert!(pair.ours.send(channel, "the last word", pair.now));
    pair.ours.close(pair.now);
    assert_eq!(pair.ours.deadline(), None);
    assert!(!pair.ours.send(channel, "one more", pair.now));
    pair.run(Duration::from_secs(1), |_, _| true);
    assert!(pair.client.is_lost);
    assert_eq!(pair.client.texts(0), ["the last word"]);
}

#[test]
fn what_is_no_opening_opens_nothing() {
    let mut pair = Pair::connected();
    pair.client
        .write(0, b"hello", PayloadProtocolIdentifier::String);
    pair.client.write(1, b"", PayloadProtocolIdentifier::Dcep);
    pair.client
        .write(2, &[3; 12], PayloadProtocolIdentifier::Dcep);
    pair.client.write(3, &[2], PayloadProtocolIdentifier::Dcep);
    let long = vec![3; 3 * MAX_MESSAGE_BYTES as usize];
    pair.client.write(4, &long, PayloadProtocolIdentifier::Dcep);
    pair.run(Duration::from_secs(10), |_, _| true);
    assert_eq!(pair.ours.poll_opened(), None);
    assert!(
        !pair.ours.send(ChannelId::of_stream(0), "hello", pair.now)
            || pair.client.texts(0).is_empty()
    );
    // And the association is none the worse.
    pair.client.open(5);
    pair.run(Duration::from_secs(10), |_, _| true);
    assert_eq!(pair.ours.poll_opened(), Some(ChannelId::of_stream(5)));
}

#[test]
fn a_peer_that_gives_two_thousand_million_messages_up_is_not_believed() {
    let mut pair = Pair::connected();
    pair.client.open(0);
    let skip = [0xc0, 0, 0, 8, 0x7f, 0xff, 0xff, 0xff];
    // Alone, and where the crate finds it behind a chunk that it takes for shorter than it says.
    for chunks in [&skip[..], &[&[11, 0, 0, 12][..], &skip].concat()] {
        pair.client
            .write(0, b"?", PayloadProtocolIdentifier::String);
        pair.run(2 * DELAY, |_, packet| {
            packet.truncate(12);
            packet.extend(chunks);
            *packet = with_sum(std::mem::take(packet)).to_vec();
            true
        });
    }
    // The opening would be among them.
    pair.run(Duration::from_secs(10), |_, _| true);
    let channel = pair.ours.poll_opened().expect("it is open");
    assert!(pair.ours.send(channel, "hello", pair.now));
}

#[test]
fn a_peer_that_closes_ahead_of_what_it_sends_is_heard_a_limited_number_of_times() {
    // Each is also answered.
    const MOST: usize = MAX_RECONFIGS / 2;
    for (requests, is_heard) in [(MOST, true), (MOST + 1, false)] {
        let mut pair = Pair::connected();
        let (channel, closing) = pair.closing();
        for number in 0..requests {
            pair.ours.receive(closing(number), pair.now);
        }
        assert_eq!(pair.ours.send(channel, "hello", pair.now), is_heard);
        pair.run(Duration::from_secs(1), |_, _| true);
        let expected: &[&str] = if is_heard { &["hello"] } else { &[] };
        assert_eq!(pair.client.texts(0), expected);
    }
}

#[test]
fn what_a_peer_closes_ahead_is_not_answered_with_all_that_it_sends() {
    let mut pair = Pair::connected();
    let (channel, closing) = pair.closing();
    for number in 0..MAX_RECONFIGS / 3 {
        pair.ours.receive(closing(number), pair.now);
    }
    let mut sent = 0;
    for _ in 0..20 {
        pair.client
            .write(0, b"?", PayloadProtocolIdentifier::String);
        pair.run(2 * DELAY, |_, _| {
            sent += 1;
            true
        });
    }
    assert!(sent < MAX_RECONFIGS, "{sent}");
    assert!(!pair.ours.send(channel, "hello", pair.now));
}

#[test]
fn a_packet_at_which_the_crate_panics_ends_the_channels_and_nothing_else() {
    // An error whose cause is longer than itself, alone and behind a chunk that the crate takes for shorter than it says.
    for chunks in [
        &[6, 0, 0, 8, 0, 12, 0, 200][..],
        &[9, 0, 0, 8, 0, 12, 0, 200],
        &[11, 0, 0, 8, 6, 0, 0, 8, 0, 12, 0, 200],
    ] {
        let mut pair = Pair::connected();
        pair.client.open(0);
        pair.run(Duration::from_secs(1), |_, _| true);
        let channel = pair.ours.poll_opened().expect("it is open");
        assert!(pair.ours.send(channel, "hello", pair.now));
        pair.client
            .write(0, b"?", PayloadProtocolIdentifier::String);
        pair.run(2 * DELAY, |_, packet| {
            packet.truncate(12);
            packet.extend(chunks);
            *packet = with_sum(std::mem::take(packet)).to_vec();
            true
        });
        assert!(!pair.ours.send(channel, "hello", pair.now), "{chunks:?}");
        pair.run(Duration::from_secs(5), |_, _| true);
        assert_eq!(pair.ours.poll_transmit(), None);
        assert_eq!(pair.ours.deadline(), None);
        pair.ours.close(pair.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_never_panics(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
    ) {
        let mut pair = Pair::connected();
        for packet in packets {
            pair.ours.receive(packet.clone().into(), pair.now);
            pair.ours.receive(with_sum(packet), pair.now);
        }
        pair.client.open(0);
        pair.run(Duration::from_secs(5), |_, _| true);
        prop_assert_eq!(pair.ours.poll_opened(), Some(ChannelId::of_stream(0)));
    }

    /// The packets of a conversation with bytes changed and their checksums made right again.
    #[test]
    fn damaged_packets_never_panic(
        damage in prop::collection::vec(
            (0_usize..30, 12_usize..120, any::<u8>(), any::<bool>()),
            1..12,
        ),
    ) {
        let mut pair = Pair::new(true);
        let damage = |number: usize, packet: &mut Vec<u8>| {
            for (at, index, byte, cuts) in &damage {
                if *at == number && *index < packet.len() {
                    packet[*index] = *byte;
                    if *cuts {
                        packet.truncate(*index);
                    }
                    *packet = with_sum(std::mem::take(packet)).to_vec();
                }
            }
            true
        };
        pair.run(Duration::from_secs(4), damage);
        for stream in 0..3 {
            pair.client.open(stream);
        }
        pair.run(Duration::from_secs(4), damage);
        while let Some(channel) = pair.ours.poll_opened() {
            let _ = pair.ours.send(channel, "hello", pair.now);
        }
        pair.client.close(0, pair.now);
        pair.run(Duration::from_secs(4), damage);
        pair.ours.close(pair.now);
    }
}

/// Us and a peer, with a network between.
struct Pair {
    ours: Channels,
    client: Client,
    /// On their way, with their arrival; `true` is to us.
    in_flight: VecDeque<(Instant, bool, Bytes)>,
    /// Packets so far, of both.
    sent: usize,
    is_doubling: bool,
    began: Instant,
    now: Instant,
}

impl Pair {
    fn new(client_begins: bool) -> Self {
        let now = noon();
        Self {
            ours: Channels::new(now),
            client: Client::new(client_begins, now),
            in_flight: VecDeque::new(),
            sent: 0,
            is_doubling: false,
            began: now,
            now,
        }
    }

    fn connected() -> Self {
        let mut pair = Self::new(true);
        pair.run(Duration::from_secs(1), |_, _| true);
        assert!(pair.client.is_connected);
        pair
    }

    /// Has the peer open a channel; what it would write, each with another number, to close it once far more has come.
    fn closing(&mut self) -> (ChannelId, impl Fn(usize) -> Bytes + use<>) {
        let mut opening = Vec::new();
        self.client.open(0);
        self.run(Duration::from_secs(1), |_, packet| {
            const DATA: u8 = 0;
            if opening.is_empty() && packet[PACKET_HEADER_BYTES] == DATA {
                opening.clone_from(packet);
            }
            true
        });
        let channel = self.ours.poll_opened().expect("it is open");
        let tsn = u32::from_be_bytes(opening[16..20].try_into().expect("four"));
        let ahead = tsn.wrapping_add(1_000).to_be_bytes();
        let header = opening[..PACKET_HEADER_BYTES].to_vec();
        let closing = move |number: usize| {
            let number = (number as u32).to_be_bytes();
            // RFC 6525 §4.1.
            let request = [&[0, 13, 0, 18][..], &number, &[0; 4], &ahead, &[0; 4]].concat();
            with_sum([&header, &[RE_CONFIG, 0, 0, 22][..], &request].concat())
        };
        (channel, closing)
    }

    /// `pass` may change a packet, or keep it.
    fn run(&mut self, time: Duration, mut pass: impl FnMut(usize, &mut Vec<u8>) -> bool) {
        let until = self.now + time;
        loop {
            let ours = std::iter::from_fn(|| self.ours.poll_transmit());
            let ours: Vec<Bytes> = ours.collect();
            let both = [(false, ours), (true, self.client.take(self.now))];
            for (is_ours, packets) in both {
                for packet in packets {
                    let mut packet = packet.to_vec();
                    if pass(self.sent, &mut packet) {
                        let packet = Bytes::from(packet);
                        for _ in 0..=usize::from(self.is_doubling) {
                            self.in_flight
                                .push_back((self.now + DELAY, is_ours, packet.clone()));
                        }
                    }
                    self.sent += 1;
                }
            }
            let arrival = self.in_flight.front().map(|(at, ..)| *at);
            let deadlines = [arrival, self.ours.deadline(), self.client.deadline()];
            let next = deadlines.into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            while let Some((_, to_us, packet)) =
                self.in_flight.pop_front_if(|(at, ..)| *at <= self.now)
            {
                if to_us {
                    self.ours.receive(packet, self.now);
                } else {
                    self.client.receive(packet, self.now);
                }
            }
            self.ours.tick(self.now);
            self.client.tick(self.now);
        }
    }
}

/// A peer as the crate would make it.
struct Client {
    endpoint: Endpoint,
    associations: Vec<(AssociationHandle, Association)>,
    is_connected: bool,
    connected_at: Option<Instant>,
    is_lost: bool,
    acknowledged: Vec<StreamId>,
    read: Vec<(StreamId, String)>,
    /// To be done when it can.
    to_write: VecDeque<(StreamId, Vec<u8>, PayloadProtocolIdentifier)>,
}

impl Client {
    fn new(begins: bool, now: Instant) -> Self {
        let config = Arc::new(ServerConfig::new(TransportConfig::default()));
        let endpoint = Arc::new(EndpointConfig::new());
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, endpoint, Some(config));
        let associations = begins
            .then(|| {
                let config = ClientConfig::new(TransportConfig::default());
                endpoint.connect(now, config, PEER).expect("it begins")
            })
            .into_iter()
            .collect();
        Self {
            endpoint,
            associations,
            is_connected: false,
            connected_at: None,
            is_lost: false,
            acknowledged: Vec::new(),
            read: Vec::new(),
            to_write: VecDeque::new(),
        }
    }

    fn open(&mut self, stream: StreamId) {
        let open = Message::DataChannelOpen(DataChannelOpen {
            channel_type: ChannelType::Reliable,
            priority: 0,
            reliability_parameter: 0,
            label: b"events".to_vec(),
            protocol: Vec::new(),
        });
        let open = open.marshal().expect("a message");
        self.write(stream, &open, PayloadProtocolIdentifier::Dcep);
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8], kind: PayloadProtocolIdentifier) {
        self.to_write.push_back((stream, bytes.to_vec(), kind));
    }

    fn close(&mut self, stream: StreamId, now: Instant) {
        for (_, association) in &mut self.associations {
            if let Ok(mut stream) = association.stream(stream) {
                // It fails if the association was damaged before.
                let _ = stream.close(now);
            }
        }
    }

    fn leave(&mut self) {
        for (_, association) in &mut self.associations {
            association.abort().expect("it ends");
        }
    }

    fn receive(&mut self, packet: Bytes, now: Instant) {
        // It is the same crate.
        if may_skip_ahead(&packet) {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| self.hear(packet, now))).is_err() {
            self.associations.clear();
        }
    }

    fn hear(&mut self, packet: Bytes, now: Instant) {
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(new))) => {
                self.associations.push((handle, new));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                let mut all = self.associations.iter_mut();
                if let Some((_, association)) = all.find(|(known, _)| *known == handle) {
                    association.handle_event(event);
                }
            }
            Some(_) | None => {}
        }
        self.follow(now);
    }

    fn follow(&mut self, now: Instant) {
        for (_, association) in &mut self.associations {
            let mut readable = Vec::new();
            while let Some(event) = association.poll() {
                match event {
                    Event::Connected => {
                        self.is_connected = true;
                        self.connected_at = Some(now);
                    }
                    Event::AssociationLost { .. } if association.is_closed() => self.is_lost = true,
                    Event::Stream(StreamEvent::Readable { id }) => readable.push(id),
                    _ => {}
                }
            }
            for id in readable {
                let Ok(mut stream) = association.stream(id) else {
                    continue;
                };
                while let Ok(Some(chunks)) = stream.read_sctp() {
                    let bytes = chunks.to_payload(usize::MAX).expect("a message");
                    match chunks.ppi {
                        PayloadProtocolIdentifier::Dcep => self.acknowledged.push(id),
                        _ => self
                            .read
                            .push((id, String::from_utf8_lossy(&bytes).into_owned())),
                    }
                }
            }
        }
    }

    fn take(&mut self, now: Instant) -> Vec<Bytes> {
        let mut standing = self.associations.iter_mut();
        if let Some((_, association)) =
            standing.find(|(_, one)| !one.is_handshaking() && !one.is_closed())
        {
            while let Some((id, bytes, kind)) = self.to_write.pop_front() {
                if association.stream(id).is_err() {
                    association.open_stream(id, kind).expect("a stream");
                }
                let mut stream = association.stream(id).expect("a stream");
                stream
                    .write_with_ppi(now, &bytes, kind)
                    .expect("it is written");
            }
        }
        let mut packets = Vec::new();
        for (_, association) in &mut self.associations {
            while let Some(transmit) = association.poll_transmit(now) {
                if let Payload::RawEncode(more) = transmit.message {
                    packets.extend(more);
                }
            }
        }
        packets
    }

    fn deadline(&self) -> Option<Instant> {
        let associations = self.associations.iter();
        associations.filter_map(|(_, one)| one.poll_timeout()).min()
    }

    fn tick(&mut self, now: Instant) {
        for (_, association) in &mut self.associations {
            if association.poll_timeout().is_some_and(|at| at <= now) {
                association.handle_timeout(now);
            }
        }
        self.follow(now);
    }

    fn texts(&self, stream: StreamId) -> Vec<&str> {
        let texts = self.read.iter().filter(|(of, _)| *of == stream);
        texts.map(|(_, text)| text.as_str()).collect()
    }
}

/// The packet with its checksum made right: CRC-32C over all of it (RFC 9260 §6.8, appendix A).
fn with_sum(mut packet: Vec<u8>) -> Bytes {
    if packet.len() >= 12 {
        packet[8..12].fill(0);
        let sum = packet.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                (sum >> 1) ^ (0x82f6_3b78 * (sum & 1))
            })
        });
        packet[8..12].copy_from_slice(&(!sum).to_le_bytes());
    }
    packet.into()
}
