//! Calls that go well: sound both ways, keys, cuts, several at once, both address families.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::time::Duration;
use std::time::Instant;

use tandem::config::AdvertisedAddress;
use tandem::engine::call::event::Digit;
use tandem::engine::call::event::DigitSource;
use tandem::engine::media::codec::packet::Codec;
use tandem::io::leg::IngressKind;
use tandem::io::leg::LegInput;
use tandem::io::leg::LegOutput;

use crate::caller::Caller;
use crate::caller::Manner;
use crate::caller::hear_each_other;
use crate::world::World;

/// What is said to the gateway, and what it says, in Hz.
const TONES: (f64, f64) = (440.0, 1_000.0);

#[tokio::test]
async fn a_call_connects_and_each_codec_carries_a_tone_both_ways() {
    let mut world = World::open().await;
    for codec in [Codec::Opus, Codec::Pcmu, Codec::Pcma] {
        let (mut caller, mut side) = Caller::call(&mut world, Manner::with(codec)).await;
        hear_each_other(&mut caller, &mut side, TONES, None).await;
    }
    world.no_call();
}

#[tokio::test]
async fn a_leg_knows_its_session_its_route_and_only_the_allowed_parameters() {
    let mut world = World::open().await;
    let (caller, side) = Caller::call(&mut world, Manner::default()).await;
    let info = &side.leg.info;
    assert_eq!(info.ingress, IngressKind::Whip);
    assert_eq!(info.to, "support");
    assert!(caller.begun.url.ends_with(&info.external_id));
    let parameters: Vec<_> = info.parameters.iter().collect();
    assert_eq!(parameters, [(&"customer".to_owned(), &"17".to_owned())]);
    assert_eq!(world.fake.places(), 0, "the place became a call");
}

#[tokio::test]
async fn telephone_events_at_either_clock_become_digits() {
    let mut world = World::open().await;
    for codec in [Codec::Opus, Codec::Pcmu] {
        let (mut caller, mut side) = Caller::call(&mut world, Manner::with(codec)).await;
        for (event, key) in [(1, '1'), (1, '1'), (10, '*'), (0, '0')] {
            caller.press(event).await;
            let digit = Digit::from_char(key).expect("a key");
            match side.event().await {
                LegInput::Digit(heard, DigitSource::Rtp) if heard == digit => {}
                other => panic!("{codec:?}, {key}: {other:?}"),
            }
        }
        // Nor does a press give more than one.
        hear_each_other(&mut caller, &mut side, TONES, None).await;
    }
}

#[tokio::test]
async fn clear_cuts_what_waits_to_be_sent() {
    let mut world = World::open().await;
    let manner = Manner {
        lines: "a=ptime:60\r\n",
        ..Manner::with(Codec::Pcmu)
    };
    let (mut caller, mut side) = Caller::call(&mut world, manner).await;
    // Two more, and it would be on its way.
    side.play(&[8_000; 160]);
    side.say(LegOutput::Clear);
    let decided = Instant::now() - Duration::from_secs(3);
    side.say(LegOutput::CutDecided(decided));
    for _ in 0..3 {
        side.play(&[0; 160]);
    }
    assert_eq!(*caller.packet().await.payload, [0xff; 480]);
    let took = world.metric("tandem_barge_in_seconds_sum").expect("a cut");
    assert!((3.0..4.0).contains(&took), "{took} s");
}

#[tokio::test]
async fn two_callers_on_the_one_port_hear_their_own_agents_only() {
    let mut world = World::open().await;
    let (mut one, mut ones) = Caller::call(&mut world, Manner::default()).await;
    let (mut other, mut others) = Caller::call(&mut world, Manner::default()).await;
    assert_eq!(one.begun.addresses(), other.begun.addresses());
    let high = (700.0, 1_700.0);
    tokio::join!(
        async {
            hear_each_other(&mut one, &mut ones, TONES, Some(high.0)).await;
            hear_each_other(&mut one, &mut ones, TONES, Some(high.1)).await;
        },
        async {
            hear_each_other(&mut other, &mut others, high, Some(TONES.0)).await;
            hear_each_other(&mut other, &mut others, high, Some(TONES.1)).await;
        },
    );
}

#[tokio::test]
async fn a_call_over_ipv6_connects() {
    let listen = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let mut world = World::with(|webrtc| webrtc.listen = vec![listen]).await;
    let manner = Manner {
        ip: IpAddr::V6(Ipv6Addr::LOCALHOST),
        ..Manner::default()
    };
    let (mut caller, mut side) = Caller::call(&mut world, manner).await;
    assert!(caller.begun.addresses()[0].is_ipv6());
    hear_each_other(&mut caller, &mut side, TONES, None).await;
}

#[tokio::test]
async fn both_families_are_answered_at_the_advertised_addresses() {
    let port = free_port();
    let both = ["127.0.0.1", "::1"].map(|ip| ip.parse::<IpAddr>().expect("an address"));
    let advertised = ["127.0.0.1".to_owned(), format!("[::1]:{port}")];
    // Where nobody is: what a forwarded port looks like that this caller cannot reach.
    let elsewhere = "127.0.0.9:9";
    let mut world = World::with(|webrtc| {
        webrtc.listen = both.map(|ip| SocketAddr::new(ip, port)).to_vec();
        webrtc.advertised_addresses = advertised
            .iter()
            .map(String::as_str)
            .chain([elsewhere])
            .map(|text| AdvertisedAddress::parse(text).expect("an address"))
            .collect();
    })
    .await;
    let mut calls = Vec::new();
    for ip in both {
        let manner = Manner {
            ip,
            ..Manner::default()
        };
        let (caller, side) = Caller::call(&mut world, manner).await;
        let mut expected = both.map(|ip| SocketAddr::new(ip, port)).to_vec();
        expected.push(elsewhere.parse().expect("an address"));
        assert_eq!(caller.begun.addresses(), expected);
        calls.push((caller, side));
    }
    for (caller, side) in &mut calls {
        hear_each_other(caller, side, TONES, None).await;
    }
}

/// One that nobody has at this moment, in either family.
fn free_port() -> u16 {
    let is_free = |port: u16| {
        UdpSocket::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("::1", port)).is_ok()
    };
    // Below the kernel's own choice, above the ports of the other tests.
    let mut candidates = (0..100).map(|_| rand::random_range(26_000..32_000));
    candidates
        .find(|port| is_free(*port))
        .expect("some port is free")
}
