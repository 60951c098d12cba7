//! Whole calls against a [`Session`], in virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use proptest::prelude::*;

use crate::engine::media::codec::g711;
use crate::engine::media::codec::packet::Codec;
use crate::engine::media::frame::FRAME_DURATION;
use crate::engine::media::frame::Frame;
use crate::engine::media::frame::SampleRate;
use crate::engine::media::testing::tone;
use crate::engine::media::testing::tone_level;
use crate::engine::media::testing::voice;
use crate::engine::rtp::key::SrtpKey;
use crate::engine::rtp::key::SrtpProfile;
use crate::engine::rtp::packet::HEADER_BYTES;
use crate::engine::rtp::packet::Kind;
use crate::engine::rtp::packet::Packet;
use crate::engine::rtp::presence::Absence;
use crate::engine::rtp::presence::Patience;
use crate::engine::rtp::receiver;
use crate::engine::rtp::receiver::Receiver;
use crate::engine::rtp::sender::Sender;
use crate::engine::rtp::session::Beginning;
use crate::engine::rtp::session::Heard;
use crate::engine::rtp::session::Port;
use crate::engine::rtp::session::Session;
use crate::engine::rtp::session::Setup;
use crate::engine::rtp::session::Statistics;
use crate::engine::rtp::srtp::Protect;
use crate::engine::rtp::srtp::Refusal;
use crate::engine::rtp::srtp::Unprotect;
use crate::engine::rtp::testing::noon;

const RATE: SampleRate = SampleRate::HZ_8000;
const TELEPHONE_EVENT: u8 = 101;
const SECOND: Duration = Duration::from_secs(1);
const BEGINNING: Beginning = Beginning {
    ssrc: 0xaaaa_aaaa,
    sequence: 65_530,
    timestamp: u32::MAX - 500,
    seed: 3,
};

#[test]
fn two_sessions_hear_each_other_and_measure_their_way() {
    for keys in [None, Some(keys())] {
        let mut now = noon();
        let mut here = Session::new(setup(keys, there_at(), there_rtcp()), BEGINNING, now);
        let other = Beginning {
            ssrc: 0xbbbb_bbbb,
            ..BEGINNING
        };
        let keys = keys.map(|(ours, theirs)| (theirs, ours));
        let mut there = Session::new(setup(keys, here_at(), here_rtcp()), other, now);
        let high = tone(8_000, 1_000.0, 8_000, 20.0);
        let low = tone(8_000, 440.0, 8_000, 20.0);
        let (mut heard_here, mut heard_there) = (Vec::new(), Vec::new());
        for (high, low) in high.chunks(160).zip(low.chunks(160)) {
            here.send(&Frame::new(RATE, low));
            there.send(&Frame::new(RATE, high));
            now += Duration::from_millis(10);
            carry(&mut here, &mut there, here_at(), here_rtcp(), now);
            carry(&mut there, &mut here, there_at(), there_rtcp(), now);
            now += Duration::from_millis(10);
            heard_here.extend(audio(&mut here, now));
            heard_there.extend(audio(&mut there, now));
        }
        assert_eq!((heard_here.len(), heard_there.len()), (160_000, 160_000));
        assert!(tone_level(8_000, 1_000.0, &heard_here) > 7_500.0);
        assert!(tone_level(8_000, 440.0, &heard_there) > 7_500.0);
        let statistics = here.statistics();
        assert_eq!(
            (statistics.packets_sent, statistics.packets_received),
            (1_000, 1_000)
        );
        assert_eq!(statistics.order, receiver::Counters::default());
        let feedback = statistics.feedback.expect("the other side reports");
        assert_eq!((feedback.lost, feedback.fraction_lost), (0, 0));
        assert!(feedback.round_trip.expect("known") < Duration::from_millis(1));
        there.close();
        carry(&mut there, &mut here, there_at(), there_rtcp(), now);
        assert!(matches!(here.poll(now), Some(Heard::PeerLeft)));
        assert!(here.poll(now).is_none());
    }
}

#[test]
fn packets_are_as_long_as_was_agreed() {
    for (packet_time, payloads) in [
        (10, vec![80; 12]),
        (20, vec![160; 6]),
        (30, vec![240; 4]),
        (40, vec![320; 3]),
        (60, vec![480; 2]),
    ] {
        let mut now = noon();
        let agreed = Setup {
            packet_time: Duration::from_millis(packet_time),
            ..plain()
        };
        let mut session = Session::new(agreed, BEGINNING, now);
        let mut sent = Vec::new();
        let mut timestamp = BEGINNING.timestamp;
        for _ in 0..6 {
            session.send(&Frame::silence(RATE));
            for datagram in datagrams(&mut session, now) {
                let packet = Packet::parse(&datagram).expect("a packet");
                assert_eq!(packet.timestamp, timestamp);
                timestamp = timestamp.wrapping_add(packet.payload.len() as u32);
                sent.push(packet.payload.len());
            }
            now += FRAME_DURATION;
        }
        assert_eq!(sent, payloads, "{packet_time} ms");
    }
}

#[test]
fn opus_keeps_to_the_bit_rate_that_was_agreed_last() {
    let agreed = |max_average_bitrate| Setup {
        codec: Codec::Opus,
        payload_type: 111,
        max_average_bitrate,
        ..plain()
    };
    let now = noon();
    let voice = voice(2 * 16_000);
    let mut session = Session::new(agreed(None), BEGINNING, now);
    let mut bits_per_second = |limit| {
        session.update(agreed(limit), now);
        let mut bytes = 0;
        for samples in voice.chunks(320) {
            session.send(&Frame::new(SampleRate::HZ_16000, samples));
            for datagram in datagrams(&mut session, now) {
                bytes += Packet::parse(&datagram).expect("a packet").payload.len();
            }
        }
        bytes * 8 / 2
    };
    assert!(bits_per_second(None) > 25_000);
    assert!(bits_per_second(Some(12_000)) < 14_000);
    assert!(bits_per_second(None) > 25_000);
}

#[test]
fn a_long_packet_comes_as_frames() {
    let now = noon();
    let mut session = Session::new(plain(), BEGINNING, now);
    let mut peer = Peer::new(None);
    let datagram = peer.packet(0, &[0xff; 400], 400, now);
    session.receive(&datagram, there_at(), now);
    let mut lengths = Vec::new();
    while let Some(Heard::Audio(frame)) = session.poll(now) {
        lengths.push(frame.samples().len());
    }
    assert_eq!(lengths, [160, 160, 80]);
}

#[test]
fn a_key_is_one_digit_and_its_packets_are_not_missed() {
    let mut now = noon();
    let mut session = Session::new(plain(), BEGINNING, now);
    let mut peer = Peer::new(None);
    let mut heard = String::new();
    let mut samples = 0;
    for n in 0..40_u8 {
        let datagram = match n {
            // Ten packets of a press, all with the timestamp of its beginning; then the voice goes on.
            10..20 => {
                let flags = if n >= 17 { 0x8a } else { 0x0a };
                peer.packet(TELEPHONE_EVENT, &[5, flags, 0, n], 0, now)
            }
            _ => peer.packet(0, &[0xff; 160], 160, now),
        };
        session.receive(&datagram, there_at(), now);
        while let Some(event) = session.poll(now) {
            match event {
                Heard::Audio(frame) => samples += frame.samples().len(),
                Heard::Digit(digit) => heard.push(digit.as_char()),
                Heard::PeerLeft | Heard::PeerAbsent(_) => panic!("{event:?}"),
            }
        }
        if n == 19 {
            peer.sender.skip(1_600);
        }
        now += FRAME_DURATION;
    }
    assert_eq!(heard, "5");
    // Thirty packets of voice, and the silence of the press in between.
    assert_eq!(samples, 30 * 160 + 1_600);
    assert_eq!(session.statistics().order, receiver::Counters::default());
}

#[test]
fn comfort_noise_and_unknown_payloads_are_counted_and_never_heard() {
    let now = noon();
    let mut session = Session::new(plain(), BEGINNING, now);
    let mut peer = Peer::new(None);
    let mut heard = Vec::new();
    for (payload_type, payload) in [(0, 160), (13, 1), (96, 160), (0, 160)] {
        let ticks = if payload_type == 0 { 160 } else { 0 };
        let datagram = peer.packet(payload_type, &vec![0xff; payload], ticks, now);
        session.receive(&datagram, there_at(), now);
        heard.extend(audio(&mut session, now));
    }
    assert_eq!(heard.len(), 320);
    let statistics = session.statistics();
    assert_eq!(
        (
            statistics.comfort_noises,
            statistics.unknown_payloads,
            statistics.order.lost
        ),
        (1, 1, 0)
    );
}

#[test]
fn a_telephone_behind_nat_is_answered_and_a_stranger_is_not_heard() {
    let now = noon();
    let mut session = Session::new(plain(), BEGINNING, now);
    let mut peer = Peer::new(None);
    let nat: SocketAddr = "198.51.100.9:33333".parse().expect("an address");
    let stranger: SocketAddr = "203.0.113.66:9".parse().expect("an address");
    // A payload type that nobody agreed on proves nothing.
    let noise = peer.packet(77, &[0; 160], 0, now);
    session.receive(&noise, stranger, now);
    assert_eq!(session.destination(), Some(there_at()));
    let voice = peer.packet(0, &[0xff; 160], 160, now);
    session.receive(&voice, nat, now);
    assert_eq!(session.destination(), Some(nat));
    let injected = peer.packet(0, &[0xff; 160], 160, now);
    session.receive(&injected, stranger, now);
    assert_eq!(audio(&mut session, now).len(), 160);
    assert_eq!(session.statistics().refused_sources, 1);
    session.send(&Frame::silence(RATE));
    assert_eq!(session.next_datagram(now).expect("a packet").to, nat);
}

#[test]
fn under_srtp_only_a_genuine_packet_moves_the_source() {
    let now = noon();
    let mut session = Session::new(setup(Some(keys()), there_at(), None), BEGINNING, now);
    let stranger: SocketAddr = "203.0.113.66:9".parse().expect("an address");
    let mut in_the_clear = Peer::new(None);
    session.receive(
        &in_the_clear.packet(0, &[0xff; 160], 160, now),
        stranger,
        now,
    );
    assert_eq!(session.destination(), Some(there_at()));
    assert_eq!(session.statistics().authentication_failures, 1);
    let mut peer = Peer::new(Some(keys()));
    let nat: SocketAddr = "198.51.100.9:33333".parse().expect("an address");
    let genuine = peer.packet(0, &[0xff; 160], 160, now);
    session.receive(&genuine, nat, now);
    assert_eq!(session.destination(), Some(nat));
    session.receive(&genuine, nat, now);
    assert_eq!(session.statistics().replays, 1);
    assert_eq!(audio(&mut session, now).len(), 160);
}

#[test]
fn a_re_invite_with_the_same_keys_keeps_numbers_and_roll_over() {
    let mut now = noon();
    let mut session = near_the_wrap(None, now);
    let mut peer = Peer::new(Some(keys()));
    let mut sequence = BEGINNING.sequence;
    let mut samples = 0;
    for n in 0..400 {
        // Both directions have rolled over by then: hold, and back with another codec and the same keys.
        if n == 100 || n == 300 {
            let codec = if n == 100 { Codec::Pcma } else { Codec::Pcmu };
            let mut again = setup(Some(keys()), there_at(), None);
            again.codec = codec;
            again.payload_type = codec.static_payload_type().expect("G.711 has one");
            again.send = false;
            again.receive = false;
            session.update(again.clone(), now);
            now += 3 * SECOND;
            again.send = true;
            again.receive = true;
            session.update(again, now);
        }
        let payload_type = session.setup().payload_type;
        let datagram = peer.packet(payload_type, &[0xd5; 160], 160, now);
        session.receive(&datagram, there_at(), now);
        samples += audio(&mut session, now).len();
        session.send(&Frame::silence(RATE));
        for datagram in datagrams(&mut session, now) {
            let plain = peer.unprotect(&datagram);
            let packet = Packet::parse(&plain).expect("a packet");
            assert_eq!(
                (packet.sequence, packet.payload_type),
                (sequence, payload_type)
            );
            sequence = sequence.wrapping_add(1);
        }
        now += FRAME_DURATION;
    }
    let statistics = session.statistics();
    assert_eq!((statistics.packets_sent, samples), (400, 400 * 160));
    assert_eq!(statistics.authentication_failures, 0);
    assert_eq!(statistics.order, receiver::Counters::default());
}

#[test]
fn new_keys_are_used_at_once() {
    let now = noon();
    let mut session = Session::new(setup(Some(keys()), there_at(), None), BEGINNING, now);
    let (ours, theirs) = keys();
    session.update(setup(Some((theirs, ours)), there_at(), None), now);
    let mut old = Peer::new(Some((ours, theirs)));
    let mut new = Peer::new(Some((theirs, ours)));
    session.receive(&old.packet(0, &[0xff; 160], 160, now), there_at(), now);
    session.receive(&new.packet(0, &[0xff; 160], 160, now), there_at(), now);
    assert_eq!(session.statistics().authentication_failures, 1);
    assert_eq!(audio(&mut session, now).len(), 160);
}

#[test]
fn on_hold_nothing_is_sent_or_heard_and_nothing_counts_as_lost() {
    let mut now = noon();
    let mut session = Session::new(plain(), BEGINNING, now);
    let mut peer = Peer::new(None);
    let mut samples = 0;
    for n in 0..300 {
        match n {
            100 => session.set_direction(false, false, now),
            200 => session.set_direction(true, true, now),
            _ => {}
        }
        session.receive(&peer.packet(0, &[0xff; 160], 160, now), there_at(), now);
        samples += audio(&mut session, now).len();
        session.send(&Frame::silence(RATE));
        for datagram in datagrams(&mut session, now) {
            let packet = Packet::parse(&datagram).expect("a packet");
            // The pause of two seconds shows on the timeline, and a marker says so.
            let sent = packet.timestamp.wrapping_sub(BEGINNING.timestamp);
            assert_eq!(sent, n * 160);
            assert_eq!(packet.marker, n == 0 || n == 200);
        }
        now += FRAME_DURATION;
    }
    let statistics = session.statistics();
    assert_eq!(samples, 200 * 160);
    assert_eq!((statistics.packets_sent, statistics.unwanted), (200, 100));
    assert_eq!(statistics.order.lost, 0);
}

#[test]
fn the_peer_is_missed_in_a_call_sooner_than_on_hold() {
    let start = noon();
    let mut session = Session::new(setup(None, there_at(), None), BEGINNING, start);
    let absent = |session: &mut Session, after: u32| match session.poll(start + after * SECOND) {
        Some(Heard::PeerAbsent(absence)) => Some(absence),
        None => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(session.deadline(), Some(start + 15 * SECOND));
    assert_eq!(absent(&mut session, 15), Some(Absence::Initial));
    assert_eq!(session.deadline(), None);
    let mut peer = Peer::new(None);
    let now = start + 20 * SECOND;
    session.receive(&peer.packet(0, &[0xff; 160], 160, now), there_at(), now);
    assert_eq!(audio(&mut session, now).len(), 160);
    assert_eq!(absent(&mut session, 49), None);
    session.set_direction(false, false, now + 29 * SECOND);
    assert_eq!(absent(&mut session, 400), None);
    assert_eq!(absent(&mut session, 649), Some(Absence::Hold));
}

#[test]
fn reports_alone_keep_a_call_alive() {
    let mut now = noon();
    let mut here = Session::new(setup(None, there_at(), there_rtcp()), BEGINNING, now);
    let mut there = Session::new(setup(None, here_at(), here_rtcp()), BEGINNING, now);
    for _ in 0..200 {
        now += SECOND;
        carry(&mut there, &mut here, there_at(), there_rtcp(), now);
        assert!(here.poll(now).is_none());
    }
    assert!((30..60).contains(&here.statistics().reports_received));
}

#[test]
fn a_goodbye_goes_where_reports_go_and_nothing_follows_it() {
    let now = noon();
    let mut session = Session::new(setup(None, there_at(), there_rtcp()), BEGINNING, now);
    session.send(&Frame::silence(RATE));
    session.close();
    session.send(&Frame::silence(RATE));
    let packet = session.next_datagram(now).expect("what was pending");
    assert_eq!((packet.to, packet.from), (there_at(), Port::Rtp));
    let goodbye = session.next_datagram(now).expect("a goodbye");
    assert_eq!(Kind::of(goodbye.bytes), Some(Kind::Rtcp));
    assert_eq!((Some(goodbye.to), goodbye.from), (there_rtcp(), Port::Rtcp));
    assert!(session.next_datagram(now).is_none());
    assert!(session.next_datagram(now + 60 * SECOND).is_none());
}

#[test]
fn reports_from_the_port_of_rtp_are_heard_whatever_was_agreed() {
    let mut now = noon();
    let mut here = Session::new(plain(), BEGINNING, now);
    let mut there = Session::new(setup(None, here_at(), here_rtcp()), BEGINNING, now);
    for _ in 0..20 {
        there.send(&Frame::silence(RATE));
        carry(&mut there, &mut here, there_at(), Some(there_at()), now);
        while here.poll(now).is_some() {}
        now += SECOND;
    }
    assert!(here.statistics().reports_received >= 2);
    assert_eq!(here.statistics().refused_sources, 0);
    // A host that is not the peer's has nothing to report.
    let stranger: SocketAddr = "203.0.113.66:9".parse().expect("an address");
    there.close();
    carry(&mut there, &mut here, stranger, Some(stranger), now);
    assert!(here.poll(now).is_none());
    assert_eq!(here.statistics().refused_sources, 1);
}

#[test]
fn frames_that_do_not_fit_are_dropped_and_counted() {
    let now = noon();
    let mut session = Session::new(plain(), BEGINNING, now);
    session.send(&Frame::silence(SampleRate::HZ_16000));
    assert!(session.next_datagram(now).is_none());
    for _ in 0..1_000 {
        session.send(&Frame::silence(RATE));
    }
    assert!(session.statistics().frames_dropped > 900);
    assert!(datagrams(&mut session, now).len() < 10);
}

/// 40 minutes, both ways, over a network that loses, delays, reorders and repeats. At the end all that was said has
/// been heard or concealed, to the sample, and the last words are clear.
#[test]
fn a_call_of_forty_minutes_ends_as_clear_as_it_began() {
    const PACKETS: u32 = 40 * 60 * 50;
    let start = noon();
    let mut session = near_the_wrap(there_rtcp(), start);
    let mut peer = Peer::new(Some(keys()));
    let (mut uplink, mut downlink) = (Way::new(20), Way::new(21));
    let mut ear = Ear::new(start);
    let high = encoded(&tone(8_000, 1_000.0, 8_000, 1.0));
    let low = tone(8_000, 440.0, 8_000, 1.0);
    let (mut heard, mut samples) = (Vec::new(), 0_u64);

    let mut packet = 0;
    let mut millisecond = 0;
    loop {
        let now = start + Duration::from_millis(u64::from(millisecond));
        let is_last = packet > PACKETS - 100;
        if millisecond == packet * 20 && packet < PACKETS {
            let at = packet as usize % 50 * 160;
            // Nothing shows that the first or the last is missing, so those are spared.
            let is_spared = packet == 0 || packet == PACKETS - 1;
            let datagram = peer.packet(0, &high[at..at + 160], 160, now);
            uplink.put(datagram, millisecond, is_spared);
            session.send(&Frame::new(RATE, &low[at..at + 160]));
            let datagram = session.next_datagram(now).expect("20 ms are a packet");
            downlink.put(datagram.bytes.to_vec(), millisecond, is_spared);
            packet += 1;
        }
        while let Some(report) = session.next_datagram(now) {
            assert_eq!(report.from, Port::Rtcp);
            assert!(peer.opens_report(report.bytes));
        }
        while let Some(datagram) = uplink.take(millisecond) {
            session.receive(&datagram, there_at(), now);
        }
        while let Some(event) = session.poll(now) {
            let Heard::Audio(frame) = event else {
                panic!("{event:?}");
            };
            samples += frame.samples().len() as u64;
            if is_last {
                heard.extend_from_slice(frame.samples());
            }
        }
        while let Some(datagram) = downlink.take(millisecond) {
            // Header and numbering lie open; of the sound, some is enough between the beginning and the end.
            if is_last || packet < 100 || packet % 16 == 0 {
                ear.hear(&peer.unprotect(&datagram), now);
            } else {
                ear.hear(&datagram[..HEADER_BYTES + 160], now);
            }
        }
        ear.listen(now, is_last);
        // On to whatever happens next.
        let tick = (packet < PACKETS).then_some(packet * 20);
        let deadlines = [session.deadline(), ear.receiver.deadline()];
        let deadlines = deadlines.into_iter().flatten().map(|at| {
            let passed = at.saturating_duration_since(start);
            passed.as_micros().div_ceil(1_000) as u32
        });
        let events = [tick, uplink.next(), downlink.next()];
        let next = events.into_iter().flatten().chain(deadlines).min();
        let next = next.expect("a report is always due some time");
        if packet == PACKETS && next > PACKETS * 20 + 400 {
            break;
        }
        millisecond = next.max(millisecond + u32::from(next <= millisecond));
    }

    let statistics = session.statistics();
    let order = statistics.order;
    let sent = u64::from(PACKETS);
    assert_eq!(statistics.packets_sent, sent);
    assert_eq!(samples, sent * 160, "all that was said");
    assert_eq!(order.lost, uplink.lost + order.late);
    assert_eq!(statistics.replays, uplink.repeated);
    assert_eq!(order.concealed, FRAME_DURATION * order.lost as u32);
    assert_eq!(
        (order.restarts, order.discarded, order.duplicates),
        (0, 0, 0)
    );
    assert_eq!(statistics.authentication_failures, 0);
    assert_eq!(statistics.malformed + statistics.refused_sources, 0);
    assert!(uplink.lost > sent / 200 && uplink.reordered > sent / 200);
    // Hardly ever was a packet given up that the network had not lost.
    assert!(order.late * 1_000 < sent, "{order:?}");
    assert!(tone_level(8_000, 1_000.0, &heard) > 7_000.0);

    let order = ear.receiver.counters();
    assert_eq!(ear.samples, sent * 160);
    assert_eq!(order.lost, downlink.lost + order.late);
    assert!(tone_level(8_000, 440.0, &ear.last) > 7_000.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_datagrams_upset_a_session(
        datagrams in proptest::collection::vec(
            (
                proptest::collection::vec(any::<u8>(), 0..200),
                prop_oneof![Just(None), (0x80_u8..0xc0).prop_map(Some)],
                prop_oneof![Just(0_u8), Just(13), Just(TELEPHONE_EVENT), Just(0x80), 200..208_u8],
                0..40_u64,
            ),
            0..60,
        ),
        is_protected in any::<bool>(),
        codec in prop_oneof![Just(Codec::Pcmu), Just(Codec::G722), Just(Codec::Opus)],
    ) {
        let mut now = noon();
        let mut agreed = setup(is_protected.then(keys), there_at(), there_rtcp());
        agreed.codec = codec;
        let mut session = Session::new(agreed, BEGINNING, now);
        for (mut datagram, first, second, millis) in datagrams {
            if let (Some(first), [byte0, byte1, ..]) = (first, &mut datagram[..]) {
                (*byte0, *byte1) = (first, second);
            }
            session.receive(&datagram, there_at(), now);
            now += Duration::from_millis(millis);
            while let Some(heard) = session.poll(now) {
                if let Heard::Audio(frame) = heard {
                    prop_assert!(!frame.samples().is_empty());
                    prop_assert_eq!(frame.rate(), codec.sample_rate());
                }
            }
            session.send(&Frame::silence(codec.sample_rate()));
            while session.next_datagram(now).is_some() {}
        }
        let Statistics { packets_received, authentication_failures, .. } = session.statistics();
        prop_assert!(packets_received == 0 || !is_protected);
        prop_assert!(authentication_failures == 0 || is_protected);
    }
}

/// The far end, made of the parts by hand.
struct Peer {
    sender: Sender,
    keys: Option<(Protect, Unprotect)>,
}

impl Peer {
    /// Takes the keys as the session has them: ours, theirs.
    fn new(keys: Option<(SrtpKey, SrtpKey)>) -> Self {
        Self {
            sender: Sender::new(0xbbbb_bbbb, 65_500, u32::MAX - 1_000, 8_000),
            keys: keys.map(|(ours, theirs)| (Protect::new(theirs), Unprotect::new(ours))),
        }
    }

    fn packet(&mut self, payload_type: u8, payload: &[u8], ticks: u32, now: Instant) -> Vec<u8> {
        let mut datagram = vec![0; HEADER_BYTES];
        datagram.extend_from_slice(payload);
        self.sender.stamp(&mut datagram, payload_type, ticks, now);
        match &mut self.keys {
            Some((protect, _)) => protect.rtp(&datagram).expect("a packet").to_vec(),
            None => datagram,
        }
    }

    fn unprotect(&mut self, datagram: &[u8]) -> Vec<u8> {
        match &mut self.keys {
            Some((_, unprotect)) => match unprotect.rtp(datagram) {
                Ok(packet) => packet.to_vec(),
                // The network repeats packets.
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::Replayed);
                    Vec::new()
                }
            },
            None => datagram.to_vec(),
        }
    }

    fn opens_report(&mut self, datagram: &[u8]) -> bool {
        let keys = self.keys.as_mut();
        keys.is_none_or(|(_, unprotect)| unprotect.rtcp(datagram).is_ok())
    }
}

/// The far end's receiver.
struct Ear {
    receiver: Receiver,
    samples: u64,
    last: Vec<i16>,
}

impl Ear {
    fn new(now: Instant) -> Self {
        Self {
            receiver: Receiver::new(8_000, now),
            samples: 0,
            last: Vec::new(),
        }
    }

    fn hear(&mut self, packet: &[u8], now: Instant) {
        if let Some(packet) = Packet::parse(packet) {
            self.receiver
                .push(&packet, packet.payload.len() as u32, now);
        }
    }

    fn listen(&mut self, now: Instant, is_last: bool) {
        while let Some(heard) = self.receiver.pop(now) {
            match heard {
                receiver::Heard::Packet { payload, .. } => {
                    self.samples += payload.len() as u64;
                    if is_last {
                        let samples = payload.iter().map(|byte| g711::decode_mulaw(*byte));
                        self.last.extend(samples);
                    }
                }
                receiver::Heard::Lost { ticks, .. } | receiver::Heard::Silence { ticks } => {
                    self.samples += u64::from(ticks);
                    if is_last {
                        let silence = std::iter::repeat_n(0, ticks as usize);
                        self.last.extend(silence);
                    }
                }
            }
        }
    }
}

/// One way of a network, and the generator that rules it.
struct Way {
    random: u64,
    /// By the time of arrival, in milliseconds, and a number.
    carried: BTreeMap<(u32, u64), Vec<u8>>,
    put: u64,
    latest: u32,
    lost: u64,
    repeated: u64,
    reordered: u64,
}

impl Way {
    fn new(seed: u64) -> Self {
        Self {
            random: seed,
            carried: BTreeMap::new(),
            put: 0,
            latest: 0,
            lost: 0,
            repeated: 0,
            reordered: 0,
        }
    }

    /// Loses 1 %, repeats 0.5 %, delays by 0–9 ms, and 2 % by up to 40 ms more. What is spared comes at once.
    fn put(&mut self, datagram: Vec<u8>, now: u32, is_spared: bool) {
        if !is_spared && self.chance(10) {
            self.lost += 1;
            return;
        }
        let mut delay = self.below(10);
        if self.chance(20) {
            delay += self.below(40);
        }
        // The last of the call is later than all others.
        let arrives = if is_spared {
            now + 60 * now.min(1)
        } else {
            now + delay
        };
        if arrives < self.latest {
            self.reordered += 1;
        }
        self.latest = self.latest.max(arrives);
        if self.chance(5) && !is_spared {
            self.repeated += 1;
            self.carried
                .insert((arrives + 3, self.put), datagram.clone());
            self.put += 1;
        }
        self.carried.insert((arrives, self.put), datagram);
        self.put += 1;
    }

    /// When the next arrives.
    fn next(&self) -> Option<u32> {
        self.carried.keys().next().map(|(arrives, _)| *arrives)
    }

    fn take(&mut self, now: u32) -> Option<Vec<u8>> {
        let first = self.carried.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn chance(&mut self, in_thousand: u32) -> bool {
        self.below(1_000) < in_thousand
    }

    fn below(&mut self, end: u32) -> u32 {
        // Knuth's generator; its upper bits are the good ones.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as u32 % end
    }
}

/// A session under SRTP that is about to send the last sequences before the wrap: SRTP came with a re-INVITE.
fn near_the_wrap(remote_rtcp: Option<SocketAddr>, now: Instant) -> Session {
    let mut session = Session::new(plain(), BEGINNING, now);
    session.update(setup(Some(keys()), there_at(), remote_rtcp), now);
    session
}

fn plain() -> Setup {
    setup(None, there_at(), None)
}

fn setup(
    keys: Option<(SrtpKey, SrtpKey)>,
    remote_rtp: SocketAddr,
    remote_rtcp: Option<SocketAddr>,
) -> Setup {
    Setup {
        codec: Codec::Pcmu,
        payload_type: 0,
        own_payload_type: 0,
        telephone_event: Some(TELEPHONE_EVENT),
        comfort_noise: None,
        packet_time: FRAME_DURATION,
        max_average_bitrate: None,
        remote_rtp: Some(remote_rtp),
        remote_rtcp,
        send: true,
        receive: true,
        keys,
        patience: Patience {
            initial: 15 * SECOND,
            mid_call: 30 * SECOND,
            hold: 600 * SECOND,
        },
        learning: 5 * SECOND,
        cname: "tandem@example.com".to_owned(),
        opus_complexity: 5,
    }
}

fn keys() -> (SrtpKey, SrtpKey) {
    let key = |byte| SrtpKey::new(SrtpProfile::AeadAes128Gcm, &[byte; 28]);
    (key(1).expect("28 bytes"), key(2).expect("28 bytes"))
}

fn here_at() -> SocketAddr {
    "192.0.2.1:10000".parse().expect("an address")
}

fn here_rtcp() -> Option<SocketAddr> {
    "192.0.2.1:10001".parse().ok()
}

fn there_at() -> SocketAddr {
    "198.51.100.2:20000".parse().expect("an address")
}

fn there_rtcp() -> Option<SocketAddr> {
    "198.51.100.2:20001".parse().ok()
}

/// Brings everything that `from` has to say to `to`.
fn carry(
    from: &mut Session,
    to: &mut Session,
    rtp: SocketAddr,
    rtcp: Option<SocketAddr>,
    now: Instant,
) {
    while let Some(datagram) = from.next_datagram(now) {
        let source = match datagram.from {
            Port::Rtp => rtp,
            Port::Rtcp => rtcp.expect("reports were agreed on"),
        };
        to.receive(datagram.bytes, source, now);
    }
}

fn datagrams(session: &mut Session, now: Instant) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    while let Some(datagram) = session.next_datagram(now) {
        datagrams.push(datagram.bytes.to_vec());
    }
    datagrams
}

/// All that is to be heard now; nothing else may have happened.
fn audio(session: &mut Session, now: Instant) -> Vec<i16> {
    let mut samples = Vec::new();
    while let Some(heard) = session.poll(now) {
        let Heard::Audio(frame) = heard else {
            panic!("{heard:?}");
        };
        samples.extend_from_slice(frame.samples());
    }
    samples
}

fn encoded(samples: &[i16]) -> Vec<u8> {
    samples
        .iter()
        .map(|sample| g711::encode_mulaw(*sample))
        .collect()
}
