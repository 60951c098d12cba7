//! Whole connections against the client of `rtc`, in simulated time.

use std::time::Duration;

use crate::engine::media::codec::packet::Codec;
use crate::engine::media::testing::tone_level;
use crate::engine::rtp::dtls::HandshakeError;
use crate::engine::webrtc::channels::MAX_CHANNELS;
use crate::engine::webrtc::peer::CONNECT_WITHIN;
use crate::engine::webrtc::peer::CONSENT_LASTS;
use crate::engine::webrtc::peer::End;

mod world;

use world::Client;
use world::DOWN_HERTZ;
use world::Network;
use world::PEAK;
use world::Pass;
use world::UP_HERTZ;
use world::World;
use world::address;
use world::credentials;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// What the client takes until it nominates: it looks after its checks each 200 ms.
const CLIENTS_OWN: Duration = Duration::from_millis(200);

#[test]
fn a_client_connects_in_a_few_round_trips() {
    // As the DTLS client, it also begins its handshake only when it looks again.
    for (setup, looks) in [("actpass", 1), ("passive", 1), ("active", 2)] {
        for delay in [1, 25, 100] {
            let delay = delay * MILLISECOND;
            let client = Client {
                setup,
                ..Client::default()
            };
            let network = Network {
                delay,
                ..Network::default()
            };
            let world = World::connected(&client, network);
            let took = world.gateway.connected_at.unwrap() - world.began;
            println!("{setup}, {delay:?} each way: {took:?}");
            assert!(
                took <= looks * CLIENTS_OWN + 8 * delay,
                "{setup}, {delay:?}: {took:?}"
            );
        }
    }
}

#[test]
fn both_hear_each_other() {
    for codec in [Codec::Opus, Codec::Pcmu] {
        let client = Client {
            codecs: vec![codec],
            ..Client::default()
        };
        let mut world = World::connected(&client, Network::default());
        assert_eq!(world.answer.agreement.codec, codec);
        world.speak(true, true);
        world.run_for(5 * SECOND);
        expect_both_tones(&world, codec, 4.9);
        let statistics = world.peer.statistics().expect("there is a session");
        assert_eq!(statistics.order, Default::default());
        assert_eq!(statistics.unknown_payloads, 0);
        assert_eq!(world.peer.ignored(), Default::default());
    }
}

#[test]
fn keys_are_heard_at_the_clock_of_either_codec() {
    for codec in [Codec::Opus, Codec::Pcmu] {
        let client = Client {
            codecs: vec![codec],
            ..Client::default()
        };
        let mut world = World::connected(&client, Network::default());
        for event in [1, 2, 11, 1] {
            world.speak(true, false);
            world.run_for(SECOND / 2);
            world.speak(false, false);
            world.press(event);
        }
        world.run_for(SECOND);
        assert_eq!(world.gateway.digits, "12#1", "{codec:?}");
    }
}

#[test]
fn another_source_is_followed() {
    let mut world = World::connected(&Client::default(), Network::default());
    world.speak(true, false);
    world.run_for(2 * SECOND);
    world.change_source();
    world.gateway.heard.clear();
    world.run_for(2 * SECOND);
    let rate = Codec::Opus.sample_rate().hz();
    let heard = &world.gateway.heard;
    assert!(
        heard.len() as f64 / f64::from(rate) > 1.8,
        "{}",
        heard.len()
    );
    assert!(tone_level(rate, UP_HERTZ, heard) > f64::from(PEAK) * 0.8);
}

#[test]
fn a_network_that_loses_doubles_and_reorders_is_lived_with() {
    for seed in 1..=5 {
        let network = Network {
            jitter: 30 * MILLISECOND,
            lost: 5,
            doubled: 5,
            seed,
            ..Network::default()
        };
        let mut world = World::connected(&Client::default(), network);
        world.run_until(10 * SECOND, |world| !world.gateway.opened.is_empty());
        let channel = *world.gateway.opened.first().expect("it is open");
        world.speak(true, true);
        let mut texts = Vec::new();
        for n in 0..50 {
            texts.push(format!("line {n}"));
            assert!(world.peer.tell(channel, &texts[n], world.now));
            world.run_for(SECOND / 10);
        }
        world.speak(false, false);
        world.run_for(20 * SECOND);
        assert_eq!(world.texts(0), texts, "seed {seed}");
        let rate = Codec::Opus.sample_rate().hz();
        let heard = &world.gateway.heard;
        assert!(heard.len() as f64 / f64::from(rate) > 4.5, "seed {seed}");
        assert!(tone_level(rate, UP_HERTZ, heard) > f64::from(PEAK) * 0.5);
        let statistics = world.peer.statistics().expect("there is a session");
        assert!(statistics.replays > 0 && statistics.order.lost > 0);
    }
}

#[test]
fn a_fifth_of_all_datagrams_may_be_lost_while_connecting() {
    let mut slowest = Duration::ZERO;
    let (mut connected, mut opened) = (0, 0);
    for seed in 1..=30 {
        for setup in ["actpass", "active"] {
            let client = Client {
                setup,
                ..Client::default()
            };
            let network = Network {
                lost: 20,
                seed,
                ..Network::default()
            };
            let mut world = World::new(&client, network);
            let is_connected = world.run_until(12 * SECOND, |world| {
                world.gateway.connected_at.is_some() && world.browser.connected_at.is_some()
            });
            connected += u32::from(is_connected);
            if is_connected {
                slowest = slowest.max(world.elapsed());
                world.run_for(30 * SECOND);
                opened += u32::from(!world.gateway.opened.is_empty());
            }
        }
    }
    println!("{connected} of 60 connected, at most in {slowest:?}; {opened} opened a channel");
    assert!(connected >= 58, "{connected} of 60");
    assert!(opened >= connected - 2, "{opened} of {connected}");
}

#[test]
fn text_arrives_in_order_in_every_channel_and_late_ones_too() {
    for setup in ["actpass", "active", "passive"] {
        let client = Client {
            setup,
            channels: 2,
            ..Client::default()
        };
        let mut world = World::connected(&client, Network::default());
        world.run_for(SECOND);
        println!(
            "{setup}: open {:?} after the keys",
            world
                .gateway
                .opened_at
                .map(|at| at - world.gateway.connected_at.unwrap())
        );
        assert_eq!(world.gateway.opened.len(), 2, "{setup}");
        let tell = |world: &mut World, from: usize| {
            for n in from..from + 20 {
                for channel in world.gateway.opened.clone() {
                    assert!(
                        world
                            .peer
                            .tell(channel, &format!("line {n} – ü"), world.now)
                    );
                }
                world.run_for(5 * MILLISECOND);
            }
            world.run_for(SECOND);
        };
        tell(&mut world, 0);
        world.open_channel("late");
        world.run_for(SECOND);
        assert_eq!(world.gateway.opened.len(), 3, "{setup}");
        tell(&mut world, 20);
        let lines: Vec<String> = (0..40).map(|n| format!("line {n} – ü")).collect();
        assert_eq!(world.texts(0), lines);
        assert_eq!(world.texts(1), lines);
        assert_eq!(world.texts(2), lines[20..]);
    }
}

#[test]
fn on_a_path_so_slow_that_both_begin_text_arrives_all_the_same() {
    for setup in ["actpass", "active"] {
        let client = Client {
            setup,
            ..Client::default()
        };
        let network = Network {
            delay: 400 * MILLISECOND,
            ..Network::default()
        };
        let mut world = World::connected(&client, network);
        world.run_for(10 * SECOND);
        for channel in world.gateway.opened.clone() {
            assert!(world.peer.tell(channel, "hello", world.now));
        }
        world.run_for(10 * SECOND);
        assert_eq!(world.texts(0), ["hello"], "{setup}");
    }
}

#[test]
fn damaged_datagrams_never_panic() {
    let (mut connected, mut refused) = (0, 0);
    for seed in 1..=20 {
        let network = Network {
            damaged: 20,
            seed,
            ..Network::default()
        };
        let mut world = World::new(&Client::default(), network);
        world.speak(true, true);
        world.run_for(5 * SECOND);
        if let Some(statistics) = world.peer.statistics() {
            connected += 1;
            refused += statistics.authentication_failures;
            // What was not damaged is heard.
            assert!(statistics.packets_received > 100, "seed {seed}");
        }
    }
    // A handshake may well fail, but not every one does.
    assert!(connected > 5 && refused > 100, "{connected}, {refused}");
}

#[test]
fn more_channels_than_anybody_needs_are_ignored() {
    let client = Client {
        channels: 2 * MAX_CHANNELS,
        ..Client::default()
    };
    let mut world = World::connected(&client, Network::default());
    world.run_for(2 * SECOND);
    assert_eq!(world.gateway.opened.len(), MAX_CHANNELS);
    for channel in world.gateway.opened.clone() {
        assert!(world.peer.tell(channel, "hello", world.now));
    }
    world.run_for(SECOND);
    assert_eq!(world.browser.texts.len(), MAX_CHANNELS);
}

#[test]
fn a_client_without_channels_gets_none() {
    let client = Client {
        channels: 0,
        ..Client::default()
    };
    let mut world = World::connected(&client, Network::default());
    assert!(!world.answer.has_channels);
    world.speak(true, true);
    world.run_for(2 * SECOND);
    expect_both_tones(&world, Codec::Opus, 1.9);
}

#[test]
fn text_for_a_client_that_does_not_acknowledge_is_refused_in_the_end() {
    let mut world = World::connected(&Client::default(), Network::default());
    world.run_for(SECOND);
    let channel = world.gateway.opened[0];
    world.pass = Pass::AllButData;
    let text = "x".repeat(500);
    let mut taken = 0;
    for _ in 0..300 {
        taken += u32::from(world.peer.tell(channel, &text, world.now));
        world.run_for(20 * MILLISECOND);
    }
    assert!((100..=131).contains(&taken), "{taken}");
    assert_eq!(world.gateway.ended, None);
    let sent: u32 = world.gateway.sent_to.values().sum();
    assert!(sent < 300, "{sent} datagrams for {taken} texts");
}

#[test]
fn our_goodbye_is_heard() {
    let mut world = World::connected(&Client::default(), Network::default());
    world.run_for(SECOND);
    let channel = world.gateway.opened[0];
    assert!(world.peer.tell(channel, "ended", world.now));
    let now = world.now;
    world.peer.close(now);
    world.run_for(SECOND);
    assert_eq!(world.texts(0), ["ended"]);
    let noticed = world.browser.closed_at.expect("it is noticed") - now;
    assert!(noticed <= world.network.delay, "{noticed:?}");
    // Nothing follows.
    assert!(world.peer.next_datagram(world.now).is_none());
    assert_eq!(world.gateway.ended, None);
}

#[test]
fn the_clients_goodbye_is_heard() {
    use rtc::sansio::Protocol as _;
    for setup in ["actpass", "active"] {
        let client = Client {
            setup,
            ..Client::default()
        };
        let mut world = World::connected(&client, Network::default());
        world.speak(true, true);
        world.run_for(SECOND);
        let now = world.now;
        world.client.close().expect("it closes");
        world.run_for(SECOND);
        let expected = (End::Closed, now + world.network.delay);
        assert_eq!(world.gateway.ended, Some(expected));
    }
}

#[test]
fn a_client_that_falls_silent_is_given_up() {
    let mut world = World::connected(&Client::default(), Network::default());
    world.speak(true, true);
    world.run_for(SECOND);
    world.pass = Pass::Nothing;
    let silent_since = world.now + world.network.delay;
    world.run_for(30 * SECOND);
    let (end, at) = world.gateway.ended.expect("it is over");
    assert_eq!(end, End::ConsentLost);
    let waited = at - silent_since;
    assert!(waited <= CONSENT_LASTS, "{waited:?}");
    assert!(waited >= CONSENT_LASTS - 50 * MILLISECOND, "{waited:?}");
}

#[test]
fn a_client_that_only_checks_or_only_speaks_is_there() {
    for pass in [Pass::OnlyStun, Pass::OnlyRtp] {
        let mut world = World::connected(&Client::default(), Network::default());
        world.speak(true, false);
        world.run_for(SECOND);
        world.pass = pass;
        // After 30 s without our answers the client itself gives up.
        world.run_for(25 * SECOND);
        assert_eq!(world.gateway.ended, None);
    }
}

#[test]
fn a_client_that_never_comes_is_given_up() {
    for setup in ["actpass", "active"] {
        let client = Client {
            setup,
            ..Client::default()
        };
        for pass in [Pass::Nothing, Pass::OnlyStun] {
            let mut world = World::new(&client, Network::default());
            world.pass = pass;
            world.run_for(30 * SECOND);
            let expected = (End::NeverConnected, world.began + CONNECT_WITHIN);
            assert_eq!(world.gateway.ended, Some(expected));
            if pass == Pass::Nothing {
                assert!(
                    world.gateway.sent_to.is_empty(),
                    "nothing is sent to nobody"
                );
            }
        }
    }
}

#[test]
fn a_client_with_another_certificate_gets_no_keys() {
    for setup in ["actpass", "active"] {
        let client = Client {
            setup,
            ..Client::default()
        };
        let mut world = World::altered(&client, Network::default(), |offer| {
            let (before, rest) = offer.split_once("a=fingerprint:sha-256 ").expect("there");
            let other = ["5A"; 32].join(":");
            let line = &rest[..95];
            assert!(!line.contains('\n'));
            format!("{before}a=fingerprint:sha-256 {rest}").replace(line, &other)
        });
        world.run_for(20 * SECOND);
        let (end, _) = world.gateway.ended.expect("it is over");
        assert_eq!(end, End::NoKeys(HandshakeError::WrongCertificate));
        assert_eq!(world.gateway.connected_at, None);
        assert_eq!(world.browser.connected_at, None);
    }
}

#[test]
fn a_fragmented_handshake_is_put_together() {
    for setup in ["actpass", "active"] {
        for fragment in [50, 200] {
            let client = Client {
                setup,
                ..Client::default()
            };
            let network = Network {
                fragment: Some(fragment),
                ..Network::default()
            };
            let mut world = World::connected(&client, network);
            assert!(world.fragmented >= 1);
            world.speak(true, true);
            world.run_for(2 * SECOND);
            expect_both_tones(&world, Codec::Opus, 1.9);
        }
    }
}

#[test]
fn a_client_behind_another_address_is_followed_after_a_restart() {
    let mut world = World::connected(&Client::default(), Network::default());
    world.speak(true, true);
    world.run_for(2 * SECOND);
    let (before, after) = (world.client_at, address("198.51.100.9:6000"));
    world.restart_ice(credentials(2), after);
    let restarted = world.now;
    world.gateway.heard.clear();
    world.browser.heard.clear();
    world.gateway.sent_to.clear();
    world.run_for(5 * SECOND);
    assert_eq!(world.gateway.ended, None);
    let learned: Vec<_> = world
        .gateway
        .learned
        .iter()
        .map(|path| path.remote)
        .collect();
    assert_eq!(learned, [before, after]);
    let sent = &world.gateway.sent_to;
    println!("after {:?}: {sent:?}", world.now - restarted);
    // Of five seconds, nearly all went to where it is now.
    assert!(sent[&after] > 200, "{sent:?}");
    assert!(
        sent.get(&before).copied().unwrap_or_default() < 50,
        "{sent:?}"
    );
    expect_both_tones(&world, Codec::Opus, 4.0);
    // The names of before are no longer good: they were those of this datagram.
    assert_eq!(world.peer.ignored().forged_checks, 0);
}

#[test]
fn the_old_names_are_good_until_the_new_ones_are_used() {
    let mut world = World::connected(&Client::default(), Network::default());
    world.speak(true, true);
    world.run_for(SECOND);
    world.peer.restart(credentials(2));
    // The client has not heard of it, and checks as before.
    world.run_for(30 * SECOND);
    assert_eq!(world.gateway.ended, None);
    assert_eq!(world.peer.ignored().forged_checks, 0);
    let now = world.client_at;
    world.restart_ice(credentials(3), now);
    world.run_for(5 * SECOND);
    assert_eq!(world.gateway.ended, None);
}

#[test]
fn what_does_not_belong_here_is_only_counted() {
    let mut world = World::new(&Client::default(), Network::default());
    let stranger = world::path("192.0.2.99:1");
    let rtp = [&[0x80, 111, 0, 1][..], &[0; 30]].concat();
    let record = [&[22, 0xfe, 0xff][..], &[0; 30]].concat();
    for datagram in [&rtp, &record, &vec![0xff; 20], &vec![]] {
        world.peer.receive(datagram, stranger, world.now);
    }
    world.peer.receive(
        &[
            0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        stranger,
        world.now,
    );
    let ignored = world.peer.ignored();
    assert_eq!((ignored.strangers, ignored.forged_checks), (4, 1));
    // From a path that has shown itself, before there are keys.
    world.run_until(SECOND, |world| !world.gateway.learned.is_empty());
    let known = world.gateway.learned[0];
    world.peer.receive(&rtp, known, world.now);
    world.peer.receive(&[200, 1, 2], known, world.now);
    let ignored = world.peer.ignored();
    assert_eq!((ignored.too_early, ignored.malformed), (1, 1));
    // It connects all the same, and strangers are never answered.
    assert!(world.run_until(SECOND, |world| world.gateway.connected_at.is_some()));
    world.peer.receive(&rtp, stranger, world.now);
    world.peer.receive(&rtp, known, world.now);
    assert_eq!(world.peer.ignored().strangers, 5);
    let statistics = world.peer.statistics().expect("there is a session");
    assert_eq!(statistics.packets_received, 0);
    assert_eq!(statistics.authentication_failures + statistics.malformed, 1);
    assert_eq!(world.gateway.sent_to.len(), 1);
}

/// Both said their tone, and the other found it.
fn expect_both_tones(world: &World, codec: Codec, seconds: f64) {
    let rate = codec.sample_rate().hz();
    for (who, heard, hertz) in [
        ("gateway", &world.gateway.heard, UP_HERTZ),
        ("client", &world.browser.heard, DOWN_HERTZ),
    ] {
        let length = heard.len() as f64 / f64::from(rate);
        assert!(length > seconds, "{who} heard {length} s, {codec:?}");
        // Its beginning is the codec's.
        let level = tone_level(rate, hertz, &heard[heard.len() / 4..]);
        assert!(
            level > f64::from(PEAK) * 0.8,
            "{who} heard it at {level}, {codec:?}"
        );
    }
}
