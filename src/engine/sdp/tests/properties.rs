//! What holds for any offer, sensible or not. The checks read the text of both sides, as a stranger would.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::sample::subsequence;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::gateway;
use crate::engine::media::codec::packet::Codec;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Keying;
use crate::engine::sdp::agreement::PayloadType;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::answer::Answer;
use crate::engine::sdp::answer::answer;
use crate::engine::sdp::description::Attribute;
use crate::engine::sdp::description::Connection;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::description::Media;
use crate::engine::sdp::dtls::Setup;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::local::SdesKeys;
use crate::engine::sdp::local::SrtpPolicy;
use crate::engine::sdp::offer::accept;
use crate::engine::sdp::offer::offer;

const KEY: &str = "inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

fn any_connection() -> impl Strategy<Value = Option<Connection>> {
    let ip = |text: &str| Some(Connection::Ip(text.parse().unwrap()));
    prop_oneof![
        4 => Just(ip("198.51.100.1")),
        1 => Just(ip("0.0.0.0")),
        1 => Just(ip("2001:db8::1")),
        1 => Just(Some(Connection::Other("IN IP4 host.example".to_owned()))),
        2 => Just(None),
    ]
}

/// An attribute of a line, more or less to the point.
fn any_attribute() -> impl Strategy<Value = Attribute> {
    let encoding = select(vec![
        "opus/48000/2",
        "OPUS/48000",
        "PCMU/8000",
        "pcma/8000/1",
        "G722/8000",
        "telephone-event/8000",
        "Telephone-Event/48000",
        "CN/8000",
        "G729/8000",
        "opus",
    ]);
    let suite = select(vec![
        "AEAD_AES_256_GCM",
        "AES_CM_128_HMAC_SHA1_80",
        "AES_CM_128_HMAC_SHA1_32",
        "AES_256_CM_HMAC_SHA1_80",
    ]);
    let end = select(vec!["", "|2^31", "|1:4", " KDR=3"]);
    let hash = select(vec!["sha-256", "SHA-256", "sha-1"]);
    let setup = select(vec!["active", "passive", "actpass", "holdconn"]);
    let flag = select(vec![
        "sendrecv", "sendonly", "recvonly", "inactive", "rtcp-mux", "x",
    ]);
    let time = select(vec!["ptime", "maxptime"]);
    prop_oneof![
        8 => (any_number(), encoding)
            .prop_map(|(number, encoding)| Attribute::new("rtpmap", format!("{number} {encoding}"))),
        2 => (1u32..4, suite, end)
            .prop_map(|(tag, suite, end)| Attribute::new("crypto", format!("{tag} {suite} {KEY}{end}"))),
        1 => (hash, any::<u8>()).prop_map(|(hash, byte)| {
            let digits = [format!("{byte:02x}").as_str(); 32].join(":");
            Attribute::new("fingerprint", format!("{hash} {digits}"))
        }),
        1 => setup.prop_map(|setup| Attribute::new("setup", setup)),
        2 => flag.prop_map(Attribute::flag),
        1 => (time, 0u8..100).prop_map(|(time, value)| Attribute::new(time, value.to_string())),
        1 => any::<u16>().prop_map(|port| Attribute::new("rtcp", port.to_string())),
        1 => ("[a-z]{1,8}", "[!-~]([ -~]{0,20}[!-~])?")
            .prop_map(|(name, value)| Attribute::new(&name, value)),
    ]
}

/// A payload type: one of few, so that formats and their mappings meet.
fn any_number() -> impl Strategy<Value = u8> {
    prop_oneof![
        8 => select(vec![0, 8, 9, 13, 96, 97, 100, 101]),
        1 => any::<u8>(),
    ]
}

/// What most offers say of their numbers; the rest is in `any_attribute`.
fn usual_attributes() -> impl Strategy<Value = Vec<Attribute>> {
    let usual = [
        "96 opus/48000/2",
        "97 telephone-event/48000",
        "100 CN/8000",
        "101 telephone-event/8000",
    ];
    let usual = usual.map(|encoding| Attribute::new("rtpmap", encoding));
    prop_oneof![3 => Just(usual.to_vec()), 1 => Just(Vec::new())]
}

fn any_media() -> impl Strategy<Value = Media> {
    let kind = prop_oneof![6 => Just("audio"), 1 => Just("video"), 1 => Just("image")];
    let port = prop_oneof![6 => 1u16.., 1 => Just(0)];
    let protocol = select(vec![
        "RTP/AVP",
        "RTP/AVP",
        "RTP/AVPF",
        "RTP/SAVP",
        "RTP/SAVPF",
        "UDP/TLS/RTP/SAVP",
        "UDP/TLS/RTP/SAVPF",
        "udptl",
    ]);
    (
        kind,
        port,
        protocol,
        vec(any_number(), 0..8),
        any_connection(),
        usual_attributes(),
        vec(any_attribute(), 0..12),
    )
        .prop_map(
            |(kind, port, protocol, formats, connection, usual, others)| Media {
                kind: kind.to_owned(),
                port,
                protocol: protocol.to_owned(),
                formats: formats.iter().map(u8::to_string).collect(),
                connection,
                attributes: [usual, others].concat(),
            },
        )
}

fn any_description() -> impl Strategy<Value = Description> {
    (
        proptest::option::of("[!-~]([ -~]{0,40}[!-~])?"),
        any_connection(),
        vec(any_attribute(), 0..4),
        vec(any_media(), 0..5),
    )
        .prop_map(|(origin, connection, attributes, media)| Description {
            origin,
            connection,
            attributes,
            media,
        })
}

fn any_local() -> impl Strategy<Value = Local> {
    (
        subsequence(Codec::ALL.to_vec(), 1..=4).prop_shuffle(),
        select(vec![
            SrtpPolicy::Off,
            SrtpPolicy::Optional,
            SrtpPolicy::Required,
        ]),
        any::<Option<[u8; 32]>>(),
        1u64..=6,
        1u16..65_000,
        0u16..3,
        any::<u8>(),
    )
        .prop_map(|(codecs, srtp, fingerprint, tens, port, gap, seed)| Local {
            codecs,
            srtp,
            fingerprint: fingerprint.map(Fingerprint),
            packet_time: Duration::from_millis(10 * tens),
            rtp_port: port,
            rtcp_port: port + gap,
            sdes: SdesKeys::new(&std::array::from_fn(|index| index as u8 ^ seed)),
            ..gateway()
        })
}

/// The values of a line's attributes of one name.
fn values<'a>(attributes: &'a [Attribute], name: &'a str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| attribute.name == name)
        .map(|attribute| attribute.value.as_deref().unwrap_or(""))
}

/// What the attributes say of the direction, as (sends, receives).
fn direction(attributes: &[Attribute]) -> Option<(bool, bool)> {
    attributes
        .iter()
        .find_map(|attribute| match attribute.name.as_str() {
            "sendrecv" => Some((true, true)),
            "sendonly" => Some((true, false)),
            "recvonly" => Some((false, true)),
            "inactive" => Some((false, false)),
            _ => None,
        })
}

/// What a number means in a line, in lower case: `pcmu/8000`.
fn meaning(media: &Media, number: &str) -> Option<String> {
    let mapped = values(&media.attributes, "rtpmap").find_map(|value| {
        let (mapped, encoding) = value.split_once(' ')?;
        (mapped == number).then(|| {
            let parts: Vec<&str> = encoding.split('/').take(2).collect();
            parts.join("/").to_ascii_lowercase()
        })
    });
    let fixed = match number {
        "0" => Some("pcmu/8000"),
        "8" => Some("pcma/8000"),
        "9" => Some("g722/8000"),
        _ => None,
    };
    mapped.or(fixed.map(str::to_owned))
}

/// Checks that `ours` is a valid answer to `offer` which says what `agreement` does.
fn check_answer(offer: &Description, ours: &Description, agreement: &Agreement) {
    assert_eq!(ours.media.len(), offer.media.len());
    for (ours, offered) in ours.media.iter().zip(&offer.media) {
        assert_eq!(
            (&ours.kind, &ours.protocol),
            (&offered.kind, &offered.protocol)
        );
        if ours.port == 0 {
            assert_eq!(ours.formats.len(), 1);
            assert!(offered.formats.is_empty() || offered.formats.contains(&ours.formats[0]));
            assert_eq!(ours.attributes, []);
        }
    }
    let mut open = ours
        .media
        .iter()
        .zip(&offer.media)
        .filter(|(ours, _)| ours.port != 0);
    let (line, offered) = open.next().expect("one line is taken");
    assert!(open.next().is_none(), "one line only");
    assert_eq!(line.kind, "audio");
    assert_ne!(offered.port, 0);

    // Formats: a codec, and perhaps keys at its clock or, if none are offered at that, at the telephone's; all by the
    // offerer's numbers.
    assert!(matches!(line.formats.len(), 1 | 2));
    assert_eq!(
        values(&line.attributes, "rtpmap").count(),
        line.formats.len()
    );
    for number in &line.formats {
        assert!(offered.formats.contains(number));
        assert_eq!(meaning(line, number), meaning(offered, number));
    }
    let codec = meaning(line, &line.formats[0]).unwrap();
    let (name, clock_rate) = codec.split_once('/').unwrap();
    assert!(name.eq_ignore_ascii_case(agreement.codec.encoding_name()));
    assert_eq!(line.formats[0], agreement.payload_type.send.to_string());
    let event = line.formats.get(1);
    if let Some(event) = event {
        let at_clock = format!("telephone-event/{clock_rate}");
        // Under a number that can be used for it: not those that look like RTCP, nor those of other formats.
        let is_offered = |wanted: &str| {
            let mut numbers = offered.formats.iter().filter(|number| {
                number.parse().is_ok_and(|number: u8| {
                    number <= 127 && !matches!(number, 0 | 8 | 9 | 13 | 72..=76)
                })
            });
            numbers.any(|number| meaning(offered, number).as_deref() == Some(wanted))
        };
        let meant = meaning(line, event).unwrap();
        assert!(meant == at_clock || meant == "telephone-event/8000" && !is_offered(&at_clock));
    }
    assert_eq!(
        event.cloned(),
        agreement
            .telephone_event
            .map(|event| event.send.to_string())
    );

    // Direction: neither side does what the other does not want.
    let offered_direction = direction(&offered.attributes)
        .or_else(|| direction(&offer.attributes))
        .unwrap_or((true, true));
    let (send, receive) = direction(&line.attributes).expect("the answer says its direction");
    assert!(!send || offered_direction.1);
    assert!(!receive || offered_direction.0);
    assert_eq!(
        (send, receive),
        (agreement.direction.send, agreement.direction.receive)
    );
    assert!(!send || agreement.remote_rtp.is_some());

    let mux = |media: &Media| values(&media.attributes, "rtcp-mux").next().is_some();
    assert_eq!(mux(line), agreement.rtcp_mux);
    assert!(!mux(line) || mux(offered));
    assert!(!mux(line) || agreement.remote_rtcp == agreement.remote_rtp);

    check_keys(offer, offered, line, agreement);

    let packet_time = agreement.packet_time.as_millis();
    assert!((10..=60).contains(&packet_time) && packet_time.is_multiple_of(10));
}

fn check_keys(offer: &Description, offered: &Media, line: &Media, agreement: &Agreement) {
    let cryptos: Vec<&str> = values(&line.attributes, "crypto").collect();
    let fingerprints = values(&line.attributes, "fingerprint").count();
    match agreement.keying {
        Keying::None => {
            assert!(cryptos.is_empty() && fingerprints == 0);
            assert!(!line.protocol.contains("SAVP"));
        }
        Keying::Sdes { ours, theirs } => {
            assert!(cryptos.len() == 1 && fingerprints == 0);
            assert_eq!(ours.profile(), theirs.profile());
            let mut words = cryptos[0].split(' ');
            let (tag, suite) = (words.next().unwrap(), words.next().unwrap());
            assert_eq!(suite, ours.profile().sdes_name());
            let beginning = format!("{tag} {suite} ");
            assert!(
                values(&offered.attributes, "crypto").any(|value| value.starts_with(&beginning))
            );
        }
        Keying::Dtls { .. } => {
            assert!(cryptos.is_empty() && fingerprints == 1);
            let setup = |attributes: &[Attribute]| {
                let mut values = values(attributes, "setup");
                values.next().map(Setup::parse)
            };
            let theirs = setup(&offered.attributes)
                .or_else(|| setup(&offer.attributes))
                .unwrap_or(Setup::Active);
            match setup(&line.attributes).expect("the answer says who begins") {
                Setup::Active => assert_ne!(theirs, Setup::Active),
                Setup::Passive => assert_ne!(theirs, Setup::Passive),
                Setup::ActiveOrPassive | Setup::Nobody => panic!("an answer chooses"),
            }
        }
    }
}

/// The other side of an agreement must say the same, mirrored.
fn check_mirrored(ours: &Agreement, theirs: &Agreement) {
    let swapped = |number: PayloadType| PayloadType {
        send: number.receive,
        receive: number.send,
    };
    assert_eq!(ours.codec, theirs.codec);
    assert_eq!(ours.payload_type, swapped(theirs.payload_type));
    assert_eq!(ours.telephone_event, theirs.telephone_event.map(swapped));
    assert_eq!(ours.packet_time, theirs.packet_time);
    assert_eq!(ours.rtcp_mux, theirs.rtcp_mux);
    assert_eq!(ours.direction, theirs.direction.reversed());
    match (ours.keying, theirs.keying) {
        (Keying::None, Keying::None) => {}
        (
            Keying::Sdes { ours, theirs },
            Keying::Sdes {
                ours: peers,
                theirs: peer_hears,
            },
        ) => {
            assert_eq!(ours, peer_hears);
            assert_eq!(theirs, peers);
        }
        (Keying::Dtls { role, .. }, Keying::Dtls { role: peer, .. }) => assert_ne!(role, peer),
        (one, other) => panic!("{one:?} is not {other:?}"),
    }
}

/// `from` offers, `to` answers, and both agree or the reason is a good one.
fn negotiate(from: &mut Local, to: &mut Local, last: &mut [Option<Description>; 2]) -> bool {
    let ours = over_the_wire(&offer(from, last[0].as_ref()));
    let theirs = match answer(to, &ours) {
        Ok(theirs) => theirs,
        Err(Refusal::NoCommonCodec) => {
            assert!(from.codecs.iter().all(|codec| !to.codecs.contains(codec)));
            return false;
        }
        Err(Refusal::SecurityRequired) => {
            assert_eq!(to.srtp, SrtpPolicy::Required);
            assert_ne!(from.srtp, SrtpPolicy::Required);
            return false;
        }
        Err(Refusal::SecurityOff) => {
            assert_eq!(to.srtp, SrtpPolicy::Off);
            assert_eq!(from.srtp, SrtpPolicy::Required);
            return false;
        }
        Err(other) => panic!("{other:?}"),
    };
    check_answer(&ours, &theirs.description, &theirs.agreement);
    let received = over_the_wire(&theirs.description);
    let agreement = accept(from, &ours, &received).expect("our own answers are taken");
    check_mirrored(&agreement, &theirs.agreement);
    assert_eq!(
        agreement.remote_rtp.map(|remote| remote.port()),
        Some(to.rtp_port)
    );
    let reports_to = |local: &Local| match agreement.rtcp_mux {
        true => local.rtp_port,
        false => local.rtcp_port,
    };
    let port = agreement.remote_rtcp.map(|remote| remote.port());
    assert_eq!(port, Some(reports_to(to)));
    let port = theirs.agreement.remote_rtcp.map(|remote| remote.port());
    assert_eq!(port, Some(reports_to(from)));
    from.current = Some(agreement);
    to.current = Some(theirs.agreement);
    *last = [Some(ours), Some(theirs.description)];
    true
}

fn over_the_wire(description: &Description) -> Description {
    let read = Description::parse(description.to_string().as_bytes());
    assert_eq!(read.as_ref(), Ok(description));
    read.unwrap()
}

#[test]
fn the_offers_of_these_tests_come_to_every_end() {
    let mut runner = TestRunner::deterministic();
    let mut refusals: HashMap<Refusal, u32> = HashMap::new();
    let (mut plain, mut sdes, mut dtls, mut held, mut events) = (0, 0, 0, 0, 0);
    for _ in 0..2_000 {
        let local = any_local().new_tree(&mut runner).unwrap().current();
        let offer = any_description().new_tree(&mut runner).unwrap().current();
        match answer(&local, &offer) {
            Err(refusal) => *refusals.entry(refusal).or_default() += 1,
            Ok(Answer { agreement, .. }) => {
                match agreement.keying {
                    Keying::None => plain += 1,
                    Keying::Sdes { .. } => sdes += 1,
                    Keying::Dtls { .. } => dtls += 1,
                }
                held += u32::from(agreement.is_held());
                events += u32::from(agreement.telephone_event.is_some());
            }
        }
    }
    for refusal in Refusal::ALL {
        assert!(
            refusals.contains_key(&refusal),
            "{refusal:?} in {refusals:?}"
        );
    }
    let taken = [plain, sdes, dtls, held, events];
    assert!(taken.iter().all(|count| *count >= 10), "{taken:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_written_is_read_as_it_was(description in any_description()) {
        over_the_wire(&description);
    }

    #[test]
    fn an_answer_is_a_subset_of_its_offer(local in any_local(), offer in any_description()) {
        let Ok(taken) = answer(&local, &offer) else {
            return Ok(());
        };
        check_answer(&offer, &taken.description, &taken.agreement);
        over_the_wire(&taken.description);
        // Once agreed, the same offer changes nothing.
        let later = Local { current: Some(taken.agreement.clone()), ..local };
        prop_assert_eq!(answer(&later, &offer), Ok(taken));
    }

    #[test]
    fn both_sides_of_our_own_making_agree_on_the_same(
        mut alice in any_local(),
        mut bob in any_local(),
        bob_is_on_ipv6 in any::<bool>(),
        turns in vec(any::<bool>(), 1..4),
    ) {
        let (one, other): (IpAddr, IpAddr) = match bob_is_on_ipv6 {
            true => ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()),
            false => ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()),
        };
        alice.address = one;
        bob.address = other;
        let mut last = [None, None];
        for (turn, alice_offers) in turns.into_iter().enumerate() {
            let agreed = if alice_offers {
                negotiate(&mut alice, &mut bob, &mut last)
            } else {
                last.reverse();
                let agreed = negotiate(&mut bob, &mut alice, &mut last);
                last.reverse();
                agreed
            };
            prop_assert!(agreed || turn == 0, "what was agreed is agreed again");
            if !agreed {
                break;
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes in vec(any::<u8>(), 0..400), begin in any::<bool>()) {
        let begin: &[u8] = if begin { b"v=0\nm=audio 4000 RTP/AVP 0\n" } else { b"" };
        let body = [begin, &bytes].concat();
        if let Ok(read) = Description::parse(&body) {
            over_the_wire(&read);
            let _ = answer(&gateway(), &read);
        }
    }

    #[test]
    fn damaged_offers_are_read_or_refused(
        local in any_local(),
        written in any_description(),
        damages in vec((any::<prop::sample::Index>(), 0usize..12, vec(any::<u8>(), 0..6)), 1..8),
    ) {
        let mut body = written.to_string().into_bytes();
        for (at, length, bytes) in damages {
            let at = at.index(body.len() + 1);
            let end = (at + length).min(body.len());
            body.splice(at..end, bytes);
        }
        if let Ok(read) = Description::parse(&body) {
            over_the_wire(&read);
            if let Ok(taken) = answer(&local, &read) {
                over_the_wire(&taken.description);
            }
            let ours = offer(&local, None);
            let _ = accept(&local, &ours, &read);
        }
    }
}
