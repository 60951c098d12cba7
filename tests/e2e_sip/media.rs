//! What goes over RTP and RTCP.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rtc::crypto::RTCCryptoProvider as _;
use rtc::crypto::providers::RingProvider;
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;
use tandem::engine::call::event::Digit;
use tandem::engine::call::event::DigitSource;
use tandem::engine::media::codec::packet::Codec;
use tandem::engine::media::codec::packet::Decoder;
use tandem::engine::media::codec::packet::Encoder;
use tandem::engine::media::frame::Frame;
use tandem::engine::media::frame::SampleRate;
use tandem::io::leg::LegInput;

use crate::line::Line;
use crate::line::Packet;
use crate::phone::Phone;
use crate::phone::TELEPHONE;
use crate::sound::assert_tone;
use crate::sound::level;
use crate::sound::tone;
use crate::sound::tones;
use crate::world::CallSide;
use crate::world::World;

/// Frames of a tone: enough for an ear, and not more than wait in any queue.
const FRAMES: usize = 20;
const TELEPHONE_EVENT: u8 = 101;

#[tokio::test]
async fn packets_go_out_from_the_moment_of_the_answer_one_for_each_frame_silent_or_not() {
    let mut world = World::open().await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    phone.send(&invite).await;
    let mut side = world.leg().await;
    // What is said before the answer is not heard.
    side.play(&[1_000; 160]);
    side.answer();
    for _ in 0..5 {
        side.play(&[0; 160]);
    }
    side.play(&[1_000; 160]);
    phone.status(200).await;
    // There is no ACK yet.
    let mut packets = Vec::new();
    for _ in 0..6 {
        packets.push(line.receive().await);
    }
    let first = packets[0].clone();
    assert!(first.is_marked, "a talk spurt begins");
    for (at, packet) in packets.iter().enumerate() {
        let expected = Packet {
            is_marked: at == 0,
            sequence: first.sequence.wrapping_add(at as u16),
            timestamp: first.timestamp.wrapping_add(160 * at as u32),
            payload: vec![if at == 5 { 0xce } else { 0xff }; 160],
            ..first.clone()
        };
        assert_eq!((packet, packet.payload_type), (&expected, 0));
    }
}

#[tokio::test]
async fn each_codec_carries_a_tone_both_ways() {
    let mut world = World::open().await;
    for (codec, format) in [
        (Codec::Pcmu, "0 PCMU/8000"),
        (Codec::Pcma, "8 PCMA/8000"),
        (Codec::G722, "9 G722/8000"),
        (Codec::Opus, "96 opus/48000/2"),
    ] {
        let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
        let invite = phone.request("INVITE").sdp(line.describe(&[format]));
        let (_call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
        assert_eq!(side.rate(), codec.sample_rate());
        hear_each_other(&mut line, &mut side, codec).await;
    }
}

#[tokio::test]
async fn packets_of_any_length_are_heard_and_ours_are_as_long_as_is_asked() {
    let mut world = World::open().await;
    for milliseconds in [10, 20, 30, 40, 60] {
        let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
        let sdp = line.describe(TELEPHONE);
        let sdp = sdp.replace("a=ptime:20", &format!("a=ptime:{milliseconds}"));
        let invite = phone.request("INVITE").sdp(sdp);
        let (_call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
        let samples = milliseconds * 8;
        let mut encoder = Encoder::new(Codec::Pcmu, 0);
        for at in 0..(3_200 / samples) {
            let sound = tone(8_000, 440.0, at * samples, samples);
            let payload: Vec<u8> = sound
                .chunks(160)
                .flat_map(|part| encode(&mut encoder, SampleRate::HZ_8000, part))
                .collect();
            line.send(0, &payload, samples as u32).await;
        }
        let heard = hear(&mut side, 1_600).await;
        assert_tone(8_000, 440.0, &heard);
        for at in 0..12 {
            side.play(&tone(8_000, 600.0, at * 160, 160));
        }
        assert_eq!(line.receive().await.payload.len(), samples);
    }
}

#[tokio::test]
async fn lost_and_disordered_packets_leave_no_hole() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (_call, mut side) = phone.call(&mut world, &mut line).await;
    let mut encoder = Encoder::new(Codec::Pcmu, 0);
    let mut packets: Vec<Packet> = (0..FRAMES)
        .map(|at| {
            let sound = tone(8_000, 440.0, at * 160, 160);
            let payload = encode(&mut encoder, SampleRate::HZ_8000, &sound);
            line.packet(0, &payload, 160)
        })
        .collect();
    packets.swap(5, 6);
    packets.remove(12);
    for packet in packets {
        line.send_bytes(&packet.write()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let heard = hear(&mut side, 160 * (FRAMES - 1)).await;
    for (at, frame) in heard.chunks(160).enumerate() {
        // 20 ms tell 50 Hz apart, so the neighbours are left alone.
        assert!(level(8_000, 440.0, frame) > 3_000.0, "frame {at}");
    }
}

// ---- keys

#[tokio::test]
async fn a_key_in_rtp_is_told_once_however_often_its_packets_come() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (_call, mut side) = phone.call(&mut world, &mut line).await;
    for event in [5, 11] {
        // 100 ms, without a marker, and the end thrice (RFC 4733 §2.5.1.4).
        for duration in [160, 320, 480, 640, 800, 800, 800] {
            let end = u8::from(duration == 800) << 7;
            let [high, low] = u16::to_be_bytes(duration);
            line.send(TELEPHONE_EVENT, &[event, end | 10, high, low], 0)
                .await;
        }
        line.timestamp = line.timestamp.wrapping_add(800);
        line.send(0, &[0xff; 160], 160).await;
    }
    assert_eq!(
        keys(&mut side, 2).await,
        [('5', DigitSource::Rtp), ('#', DigitSource::Rtp)]
    );
    // A tone that is no key says nothing, nor does what is too short.
    line.send(TELEPHONE_EVENT, &[16, 0x8a, 3, 32], 0).await;
    line.send(TELEPHONE_EVENT, &[5], 0).await;
    hears_each_other(&mut line, &mut side).await;
}

#[tokio::test]
async fn a_key_in_the_sound_is_told_once() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.request("INVITE").sdp(line.describe(&["0 PCMU/8000"]));
    let (_call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
    let mut encoder = Encoder::new(Codec::Pcmu, 0);
    let mut heard = Vec::new();
    for at in 0..25 {
        // The 8: 100 ms of tone, then nothing.
        let sound = match at {
            5..10 => tones(8_000, &[852.0, 1_336.0], at * 160, 160),
            _ => vec![0; 160],
        };
        let payload = encode(&mut encoder, SampleRate::HZ_8000, &sound);
        line.send(0, &payload, 160).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        heard.extend(side.waiting());
    }
    let digits: Vec<_> = heard.iter().filter_map(key).collect();
    assert_eq!(digits, [('8', DigitSource::InBand)]);
}

#[tokio::test]
async fn a_key_in_info_is_told_by_both_bodies() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (mut call, mut side) = phone.call(&mut world, &mut line).await;
    for (kind, body, expected) in [
        (
            "application/dtmf-relay",
            "Signal=7\r\nDuration=160\r\n",
            '7',
        ),
        ("application/dtmf", "*", '*'),
    ] {
        let info = call.request("INFO").body(kind, body);
        assert_eq!(phone.ask(&info).await.status(), Some(200));
        assert_eq!(keys(&mut side, 1).await, [(expected, DigitSource::Info)]);
    }
    let other = call
        .request("INFO")
        .body("application/media_control+xml", "<x/>");
    assert_eq!(phone.ask(&other).await.status(), Some(200));
    hears_each_other(&mut line, &mut side).await;
}

// ---- whose packets

#[tokio::test]
async fn a_caller_behind_a_nat_is_heard_and_gets_our_packets_where_his_come_from() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let elsewhere = Line::open().await;
    // The description names an address at which nobody listens.
    let invite = phone.request("INVITE").sdp(elsewhere.describe(TELEPHONE));
    let (_call, mut side) = phone.call_by(&mut world, &mut line, invite).await;
    hears_each_other(&mut line, &mut side).await;
    assert_eq!(elsewhere.drain(), 0);
}

#[tokio::test]
async fn a_third_partys_packets_are_not_heard() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (_call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    let mut stranger = Line::open().await;
    stranger.remote = line.remote;
    // Even one that knows the numbers.
    (stranger.ssrc, stranger.sequence) = (line.ssrc, line.sequence.wrapping_add(3));
    stranger.timestamp = line.timestamp.wrapping_add(480);
    send_tone(&mut stranger, Codec::Pcmu, 0, 1_200.0).await;
    side.waiting();
    let heard = hears_each_other(&mut line, &mut side).await;
    assert!(level(8_000, 1_200.0, &heard) < 500.0);
    assert_eq!(stranger.drain(), 0, "and gets nothing");
}

#[tokio::test]
async fn with_a_strict_source_only_the_signalled_address_is_heard() {
    let mut world = World::with(|_, rtp| rtp.strict_source = true).await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (_call, mut side) = phone.call(&mut world, &mut line).await;
    let mut stranger = Line::open().await;
    stranger.remote = line.remote;
    send_tone(&mut stranger, Codec::Pcmu, 0, 1_200.0).await;
    let heard = hears_each_other(&mut line, &mut side).await;
    assert!(level(8_000, 1_200.0, &heard) < 500.0);
}

#[tokio::test]
async fn datagrams_that_are_no_packets_change_nothing() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (_call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    for length in [0, 1, 2, 11, 12, 13, 100, 1_500] {
        for first in [0x00, 0x16, 0x40, 0x80, 0x8f, 0x9f, 0xb0, 0xff] {
            for second in [0, 13, 72, 101, 200, 203, 255] {
                let mut bytes = vec![0xa5; length];
                bytes
                    .iter_mut()
                    .zip([first, second])
                    .for_each(|(byte, value)| *byte = value);
                // The right source, or the sound after it would be another's.
                if length >= 12 {
                    bytes[8..12].copy_from_slice(&(!line.ssrc).to_be_bytes());
                }
                if first != 0x80 {
                    line.send_bytes(&bytes).await;
                }
            }
        }
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    hears_each_other(&mut line, &mut side).await;
}

// ---- SRTP

#[tokio::test]
async fn sdes_srtp_carries_sound_both_ways_and_nothing_in_the_clear() {
    let mut world = World::open().await;
    for (suite, profile, salt_at) in [
        (
            "AES_CM_128_HMAC_SHA1_80",
            ProtectionProfile::Aes128CmHmacSha1_80,
            16,
        ),
        ("AEAD_AES_128_GCM", ProtectionProfile::AeadAes128Gcm, 16),
        ("AEAD_AES_256_GCM", ProtectionProfile::AeadAes256Gcm, 32),
    ] {
        let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
        let ours: Vec<u8> = (0..salt_at
            + if salt_at == 16 && suite.starts_with("AES") {
                14
            } else {
                12
            })
            .map(|_| rand::random())
            .collect();
        let crypto = format!("a=crypto:1 {suite} inline:{}\r\n", STANDARD.encode(&ours));
        let sdp = line.describe_as(TELEPHONE, "RTP/SAVP", "sendrecv", &crypto);
        let invite = phone.request("INVITE").sdp(sdp);
        phone.send(&invite).await;
        let mut side = world.leg().await;
        side.answer();
        let answer = phone.status(200).await;
        let call = crate::phone::Call::new(invite, &answer);
        phone.send(&call.ack()).await;
        side.answered().await;
        line.connect(answer.body());
        assert!(answer.body().contains("RTP/SAVP"), "{}", answer.body());
        let theirs = key_of(answer.body(), suite);
        assert_ne!(theirs, ours);

        let context = |key: &[u8]| {
            let (key, salt) = key.split_at(salt_at);
            let crypto = RingProvider::new();
            Context::new(key, salt, profile, None, None, crypto.crypto()).expect("a context")
        };
        let (mut protect, mut unprotect) = (context(&ours), context(&theirs));
        let mut encoder = Encoder::new(Codec::Pcmu, 0);
        for at in 0..FRAMES {
            // In the clear: not heard.
            let clear = encode(
                &mut encoder,
                SampleRate::HZ_8000,
                &tone(8_000, 1_200.0, at * 160, 160),
            );
            let packet = line.packet(0, &clear, 0);
            line.send_bytes(&packet.write()).await;
            line.sequence = line.sequence.wrapping_sub(1);
            let sound = encode(
                &mut encoder,
                SampleRate::HZ_8000,
                &tone(8_000, 440.0, at * 160, 160),
            );
            let packet = line.packet(0, &sound, 160).write();
            let protected = protect.encrypt_rtp(&packet).expect("protected");
            line.send_bytes(&protected).await;
            tokio::task::yield_now().await;
        }
        let heard = hear(&mut side, 160 * (FRAMES - 5)).await;
        assert_tone(8_000, 440.0, &heard[160..]);
        assert!(level(8_000, 1_200.0, &heard) < 500.0);

        let mut decoder = Decoder::new(Codec::Pcmu);
        let mut said = Vec::new();
        for at in 0..FRAMES {
            side.play(&tone(8_000, 600.0, at * 160, 160));
            let protected = line.receive_bytes().await;
            let packet = unprotect.decrypt_rtp(&protected).expect("genuine");
            decoder.decode(&Packet::read(&packet).payload, &mut said);
        }
        assert_tone(8_000, 600.0, &said[160..]);
    }
}

#[tokio::test]
async fn where_srtp_is_required_a_call_without_it_is_refused() {
    let required = tandem::config::SrtpPolicy::Required;
    let mut world = World::with(|_, rtp| rtp.srtp = required).await;
    let (mut phone, line) = (Phone::udp(&world).await, Line::open().await);
    let invite = phone.invite(&line);
    assert_eq!(phone.refused(&invite).await.status(), Some(488));
    world.no_leg();
}

// ---- reports

#[tokio::test]
async fn reports_go_out_with_what_was_sent_and_heard_and_a_goodbye() {
    let mut world = World::open().await;
    let (mut phone, mut line) = (Phone::udp(&world).await, Line::open().await);
    let (_call, mut side) = phone.call(&mut world, &mut line).await;
    hears_each_other(&mut line, &mut side).await;
    let report = line.report().await;
    // A sender's report (RFC 3550 §6.4.1) with one block, about us.
    assert_eq!((report[0], report[1]), (0x81, 200));
    let number = |at: usize| u32::from_be_bytes(report[at..at + 4].try_into().expect("four"));
    assert_eq!(number(20), FRAMES as u32, "packets");
    assert_eq!(number(24), 160 * FRAMES as u32, "bytes");
    assert_eq!(number(28), line.ssrc);
    assert_eq!(number(32), 0, "nothing is lost");
    side.hang_up();
    phone.hung_up().await;
    // The last compound ends with a goodbye (§6.6).
    let last = line.report().await;
    assert!(last.windows(2).any(|two| two == [0x81, 203]), "{last:?}");
}

// ---- helpers

/// A PCMU call's tones, both ways; what the call has heard.
pub(crate) async fn hears_each_other(line: &mut Line, side: &mut CallSide) -> Vec<i16> {
    let said = hear_each_other(line, side, Codec::Pcmu);
    said.await
}

/// Asserts that a tone gets from the telephone to the call and another from the call to the telephone.
pub(crate) async fn hear_each_other(
    line: &mut Line,
    side: &mut CallSide,
    codec: Codec,
) -> Vec<i16> {
    side.waiting();
    line.drain();
    let payload_type = codec.static_payload_type().unwrap_or(96);
    send_tone(line, codec, payload_type, 440.0).await;
    let rate = side.rate();
    let frame = rate.frame_samples();
    // What is on its way within a codec, and the loudness of a beginning, are left out.
    let heard = hear(side, frame * (FRAMES - 5)).await;
    assert_tone(rate.hz(), 440.0, &heard[3 * frame..]);

    let mut decoder = Decoder::new(codec);
    let mut said = Vec::new();
    for at in 0..FRAMES {
        side.play(&tone(rate.hz(), 600.0, at * frame, frame));
    }
    // Between two rates a little stays on its way.
    let packets = if rate == codec.sample_rate() {
        FRAMES
    } else {
        FRAMES - 2
    };
    for _ in 0..packets {
        let packet = line.receive().await;
        assert_eq!(packet.payload_type, payload_type);
        decoder.decode(&packet.payload, &mut said);
    }
    let rate = codec.sample_rate().hz();
    assert_tone(
        rate,
        600.0,
        &said[3 * codec.sample_rate().frame_samples()..],
    );
    heard
}

pub(crate) async fn send_tone(line: &mut Line, codec: Codec, payload_type: u8, hz: f64) {
    let rate = codec.sample_rate();
    let samples = rate.frame_samples();
    let mut encoder = Encoder::new(codec, 0);
    for at in 0..FRAMES {
        let payload = encode(
            &mut encoder,
            rate,
            &tone(rate.hz(), hz, at * samples, samples),
        );
        line.send(payload_type, &payload, codec.clock_rate() / 50)
            .await;
        // The leg takes a few at a time.
        tokio::task::yield_now().await;
    }
}

fn encode(encoder: &mut Encoder, rate: SampleRate, samples: &[i16]) -> Vec<u8> {
    let mut payload = vec![0; 2_000];
    let length = encoder.encode(&Frame::new(rate, samples), &mut payload);
    payload.truncate(length);
    payload
}

/// So many samples of what the call hears.
pub(crate) async fn hear(side: &mut CallSide, count: usize) -> Vec<i16> {
    let mut heard = Vec::new();
    while heard.len() < count {
        match side.next().await {
            LegInput::Audio(frame) => heard.extend_from_slice(frame.samples()),
            other => panic!("{other:?}"),
        }
    }
    heard
}

/// The next keys.
async fn keys(side: &mut CallSide, count: usize) -> Vec<(char, DigitSource)> {
    let mut keys = Vec::new();
    while keys.len() < count {
        keys.extend(key(&side.event().await));
    }
    keys
}

fn key(input: &LegInput) -> Option<(char, DigitSource)> {
    match input {
        LegInput::Digit(digit, source) => Some((Digit::as_char(*digit), *source)),
        LegInput::Audio(_) => None,
        other => panic!("{other:?}"),
    }
}

/// The key and salt of the answer's suite.
fn key_of(sdp: &str, suite: &str) -> Vec<u8> {
    let line = sdp.lines().find(|line| line.starts_with("a=crypto:"));
    let line = line.expect("a key");
    assert!(line.contains(suite), "{line}");
    let (_, key) = line.split_once("inline:").expect("a key");
    let key = key.split(['|', ' ']).next().expect("a key");
    STANDARD.decode(key.trim()).expect("base 64")
}
