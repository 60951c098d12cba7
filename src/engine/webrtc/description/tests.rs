//! Offers as browsers and others write them (`tests/data/offers`), and any that might be.

use proptest::prelude::*;

use super::*;
use crate::engine::rtp::dtls::DtlsRole;
use crate::engine::sdp::agreement::Direction;

/// Each offer by its name.
const OFFERS: [(&str, &[u8]); 9] = [
    (
        "chromium_audio_data",
        include_bytes!("../../../../tests/data/offers/chromium_audio_data.sdp"),
    ),
    (
        "chromium_audio_video_data",
        include_bytes!("../../../../tests/data/offers/chromium_audio_video_data.sdp"),
    ),
    (
        "chromium_max_bundle_video_first",
        include_bytes!("../../../../tests/data/offers/chromium_max_bundle_video_first.sdp"),
    ),
    (
        "firefox",
        include_bytes!("../../../../tests/data/offers/firefox.sdp"),
    ),
    (
        "aiortc",
        include_bytes!("../../../../tests/data/offers/aiortc.sdp"),
    ),
    (
        "gstreamer_webrtcbin",
        include_bytes!("../../../../tests/data/offers/gstreamer_webrtcbin.sdp"),
    ),
    (
        "obs_sendonly",
        include_bytes!("../../../../tests/data/offers/obs_sendonly.sdp"),
    ),
    (
        "pcmu_only",
        include_bytes!("../../../../tests/data/offers/pcmu_only.sdp"),
    ),
    (
        "two_telephone_events",
        include_bytes!("../../../../tests/data/offers/two_telephone_events.sdp"),
    ),
];

#[test]
fn every_kind_of_offer_gets_its_codec_its_keys_and_its_channels() {
    /// What an offer is to be answered with.
    struct Expected {
        codec: (Codec, u8),
        telephone_event: Option<u8>,
        /// The numbers of the lines that are taken.
        taken: &'static [usize],
        group: Option<&'static str>,
        role: DtlsRole,
        direction: Direction,
        packet_time: u64,
    }
    let usual = |codec, telephone_event, taken, group| Expected {
        codec,
        telephone_event,
        taken,
        group: Some(group),
        role: DtlsRole::Client,
        direction: Direction::BOTH,
        packet_time: 20,
    };
    let opus = |number| (Codec::Opus, number);
    for (name, expected) in [
        (
            "chromium_audio_data",
            usual(opus(111), Some(110), &[0, 1], "BUNDLE 0 1"),
        ),
        (
            "chromium_audio_video_data",
            usual(opus(111), Some(110), &[0, 2], "BUNDLE 0 2"),
        ),
        (
            "chromium_max_bundle_video_first",
            usual(opus(111), Some(110), &[1, 2], "BUNDLE 1 2"),
        ),
        (
            "firefox",
            usual(opus(109), Some(101), &[0, 1], "BUNDLE 0 1"),
        ),
        ("aiortc", usual(opus(96), None, &[0, 1], "BUNDLE 0 1")),
        (
            "gstreamer_webrtcbin",
            usual(opus(97), None, &[0, 1], "BUNDLE audio0 application1"),
        ),
        (
            "obs_sendonly",
            Expected {
                direction: Direction {
                    send: false,
                    receive: true,
                },
                ..usual(opus(111), None, &[0], "BUNDLE 0")
            },
        ),
        (
            "pcmu_only",
            Expected {
                group: None,
                role: DtlsRole::Server,
                packet_time: 30,
                ..usual((Codec::Pcmu, 0), None, &[0], "")
            },
        ),
        (
            "two_telephone_events",
            usual((Codec::Pcmu, 0), Some(126), &[0], "BUNDLE voice"),
        ),
    ] {
        let offer = offer(name);
        let Answer {
            description,
            agreement,
            has_channels,
            theirs,
        } = answer(&ours(), &offer).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        check(&offer, &description);
        let is_offered = |name: &str, value: &str| {
            let attributes = offer.media.iter().flat_map(|media| &media.attributes);
            let mut attributes = attributes.chain(&offer.attributes);
            attributes.any(|each| each.name == name && each.value.as_deref() == Some(value))
        };
        assert!(is_offered("ice-ufrag", &theirs.ufrag) && is_offered("ice-pwd", &theirs.pwd));
        let Agreement {
            codec,
            payload_type,
            telephone_event,
            direction,
            packet_time,
            keying,
            ..
        } = agreement;
        assert_eq!((codec, payload_type.receive), expected.codec, "{name}");
        assert_eq!(telephone_event.map(|n| n.receive), expected.telephone_event);
        assert_eq!(direction, expected.direction, "{name}");
        assert_eq!(packet_time, Duration::from_millis(expected.packet_time));
        let Keying::Dtls { role, .. } = keying else {
            panic!("{name}: {keying:?}");
        };
        assert_eq!(role, expected.role, "{name}");
        let open = description.media.iter().enumerate();
        let open: Vec<usize> = open
            .filter(|(_, media)| media.is_open())
            .map(|(index, _)| index)
            .collect();
        assert_eq!(open, expected.taken, "{name}");
        assert_eq!(has_channels, open.len() == 2, "{name}");
        let group = value(&description.attributes, "group");
        assert_eq!(group, expected.group, "{name}");
        let msid = value(&description.media[open[0]].attributes, "msid");
        assert_eq!(msid.is_some(), direction.send, "{name}");
    }
}

#[test]
fn the_answer_to_a_browser_is_this() {
    let answer = answer(&ours(), &offer("chromium_audio_data")).expect("an answer");
    let fingerprint = ["AB"; 32].join(":");
    let path = "\
a=ice-ufrag:ufrag
a=ice-pwd:a password of enough bytes
a=candidate:1 1 udp 2130706431 203.0.113.7 10443 typ host
a=candidate:2 1 udp 2130706175 2001:db8::7 10443 typ host
a=end-of-candidates
";
    let expected = format!(
        "\
v=0
o=- 7 1 IN IP4 203.0.113.7
s=-
c=IN IP4 203.0.113.7
t=0 0
a=group:BUNDLE 0 1
a=ice-lite
m=audio 10443 UDP/TLS/RTP/SAVPF 111 110
a=mid:0
a=rtpmap:111 opus/48000/2
a=fmtp:111 maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1
a=rtpmap:110 telephone-event/48000
a=fmtp:110 0-15
a=ptime:20
a=sendrecv
a=rtcp-mux
a=fingerprint:sha-256 {fingerprint}
a=setup:active
a=msid:tandem agent
a=ssrc:1234 cname:tandem
{path}m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=mid:1
a=sctp-port:5000
a=max-message-size:16384
a=fingerprint:sha-256 {fingerprint}
a=setup:active
{path}"
    );
    assert_eq!(
        answer.description.to_string().replace("\r\n", "\n"),
        expected
    );
}

#[test]
fn what_cannot_be_taken_is_refused_for_its_reason() {
    for (from, to, reason) in [
        // No line of sound: none, or one that is closed.
        ("m=audio", "m=video", Unusable::Sdp(Refusal::NoAudio)),
        ("m=audio 9", "m=audio 0", Unusable::Sdp(Refusal::NoAudio)),
        (
            "m=audio 9 UDP/TLS/RTP/SAVPF",
            "m=audio 9 TCP/TLS/RTP/SAVPF",
            Unusable::Sdp(Refusal::UnknownTransport),
        ),
        (
            "111 63 9 0 8 13 110 126",
            "63 9 13",
            Unusable::Sdp(Refusal::NoCommonCodec),
        ),
        (
            "a=fingerprint:sha-256",
            "a=fingerprint:sha-1",
            Unusable::Sdp(Refusal::NoCommonKeying),
        ),
        (
            "a=setup:actpass",
            "a=setup:holdconn",
            Unusable::Sdp(Refusal::NoCommonKeying),
        ),
        ("a=ice-ufrag", "a=x", Unusable::NoIce),
        ("a=ice-pwd", "a=x", Unusable::NoIce),
        ("a=rtcp-mux", "a=x", Unusable::NoRtcpMux),
    ] {
        let offer = altered("chromium_audio_data", from, to);
        assert_eq!(answer(&ours(), &offer).err(), Some(reason), "{from} → {to}");
    }
    let plain = "v=0\r\nm=audio 9 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n";
    let refused = |offer: &str| {
        let offer = Description::parse(offer.as_bytes()).unwrap();
        answer(&ours(), &offer).err()
    };
    assert_eq!(
        refused(plain),
        Some(Unusable::Sdp(Refusal::SecurityRequired))
    );
    // Keys in a description are for telephones.
    let sdes = "v=0\r\nm=audio 9 RTP/SAVP 0\r\nc=IN IP4 192.0.2.1\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n";
    assert_eq!(refused(sdes), Some(Unusable::Sdp(Refusal::NoCommonKeying)));
    assert_eq!(refused("v=0\r\n"), Some(Unusable::Sdp(Refusal::NoAudio)));
}

#[test]
fn of_several_lines_of_audio_only_one_may_be_open() {
    let lines = |line: &str| altered("chromium_audio_data", "m=application", line);
    for (more, is_taken) in [
        ("m=audio 0 UDP/TLS/RTP/SAVPF 0\r\nm=application", true),
        ("m=video 9 UDP/TLS/RTP/SAVPF 96\r\nm=application", true),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nm=application", false),
        (
            "m=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=bundle-only\r\nm=application",
            false,
        ),
    ] {
        let refusal = answer(&ours(), &lines(more)).err();
        let expected = (!is_taken).then_some(Unusable::SeveralAudioLines);
        assert_eq!(refusal, expected, "{more}");
    }
}

#[test]
fn only_channels_that_share_the_path_of_the_voice_are_taken() {
    for (from, to) in [
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0"),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 1"),
        ("a=group:BUNDLE 0 1", "a=x"),
        // Two groups, and each has one of them.
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0\r\na=group:BUNDLE 1"),
        // The line is closed, speaks the protocol of before RFC 8841, or has no name of its own.
        ("m=application 9", "m=application 0"),
        (
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "m=application 9 DTLS/SCTP 5000",
        ),
        ("a=mid:1", "a=x"),
        ("a=mid:1", "a=mid:0"),
    ] {
        let offer = altered("chromium_audio_data", from, to);
        let answer = answer(&ours(), &offer).expect("the voice is taken");
        check(&offer, &answer.description);
        assert!(!answer.has_channels, "{from} → {to}");
        assert!(!answer.description.media[1].is_open(), "{from} → {to}");
    }
    // Of two groups, that of the voice counts.
    let two = altered(
        "chromium_audio_data",
        "a=group:BUNDLE 0 1",
        "a=group:BUNDLE 5 6\r\na=group:BUNDLE 1 0",
    );
    let answer = answer(&ours(), &two).expect("an answer");
    let group = value(&answer.description.attributes, "group");
    assert_eq!((answer.has_channels, group), (true, Some("BUNDLE 1 0")));
}

#[test]
fn a_gateway_at_an_ipv6_address_says_so() {
    let mut ours = ours();
    ours.candidates.reverse();
    let answer = answer(&ours, &offer("firefox")).expect("an answer");
    let text = answer.description.to_string();
    assert!(text.contains("\r\nc=IN IP6 2001:db8::7\r\n"), "{text}");
    let candidates: Vec<&str> = candidates_of(&answer.description.media[0]).collect();
    assert_eq!(
        candidates,
        [
            "1 1 udp 2130706431 2001:db8::7 10443 typ host",
            "2 1 udp 2130706175 203.0.113.7 10443 typ host",
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_mutilated_offer_gets_a_proper_answer_or_none(
        which in 0..OFFERS.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..12),
    ) {
        let text = String::from_utf8(OFFERS[which].1.to_vec()).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, mutation) in cuts {
            let at = at.index(lines.len());
            match mutation {
                Mutation::Remove if lines.len() > 1 => _ = lines.remove(at),
                Mutation::Remove => {}
                Mutation::Repeat => lines.insert(at, lines[at].clone()),
                Mutation::Swap(other) => {
                    let other = other.index(lines.len());
                    lines.swap(at, other);
                }
                Mutation::Insert(line) => lines.insert(at, line),
                Mutation::Replace(index, by) => {
                    let mut characters: Vec<char> = lines[at].chars().collect();
                    if !characters.is_empty() {
                        let index = index.index(characters.len());
                        characters[index] = by;
                    }
                    lines[at] = characters.into_iter().collect();
                }
            }
        }
        if let Ok(offer) = Description::parse(lines.join("\r\n").as_bytes())
            && let Ok(answer) = answer(&ours(), &offer)
        {
            check(&offer, &answer.description);
        }
    }
}

/// What may happen to a line.
#[derive(Clone, Debug)]
enum Mutation {
    Remove,
    Repeat,
    Swap(prop::sample::Index),
    Insert(String),
    Replace(prop::sample::Index, char),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let line = prop::sample::select(vec![
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=audio 0 UDP/TLS/RTP/SAVPF 0",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=group:BUNDLE 0 0 1",
        "a=group:BUNDLE 1",
        "a=group:BUNDLE",
        "a=mid:0",
        "a=mid:",
        "a=mid",
        "a=bundle-only",
        "a=setup:active",
        "a=inactive",
        "a=rtpmap:111 opus/48000/2",
        "a=ptime:0",
    ]);
    prop_oneof![
        Just(Mutation::Remove),
        Just(Mutation::Repeat),
        any::<prop::sample::Index>().prop_map(Mutation::Swap),
        line.prop_map(|line| Mutation::Insert(line.to_owned())),
        "[am]=[ -~]{0,30}".prop_map(Mutation::Insert),
        (any::<prop::sample::Index>(), any::<char>())
            .prop_map(|(index, by)| Mutation::Replace(index, by)),
    ]
}

/// What holds for every answer.
fn check(offer: &Description, answer: &Description) {
    let text = answer.to_string();
    let read = Description::parse(text.as_bytes()).expect("an answer can be read");
    assert_eq!(read, *answer, "{text}");
    assert_eq!(answer.media.len(), offer.media.len());
    assert!(answer.attributes.contains(&Attribute::flag("ice-lite")));
    let group = value(&answer.attributes, "group");
    let named: Vec<&str> = group.map_or_else(Vec::new, |group| {
        group.split_ascii_whitespace().skip(1).collect()
    });
    let mut voices = 0;
    for (ours, theirs) in answer.media.iter().zip(&offer.media) {
        assert_eq!((&ours.kind, &ours.protocol), {
            (&theirs.kind, &theirs.protocol)
        });
        let mid = value(&ours.attributes, "mid");
        if !ours.is_open() {
            assert_eq!(ours.attributes, []);
            continue;
        }
        assert_eq!(
            mid,
            value(&theirs.attributes, "mid").filter(|mid| !mid.is_empty())
        );
        let all = |name| {
            let named = ours.attributes.iter().filter(move |one| one.name == name);
            named.filter_map(|one| one.value.as_deref())
        };
        let setups: Vec<&str> = all("setup").collect();
        assert!(setups == ["active"] || setups == ["passive"], "{setups:?}");
        assert_eq!(all("fingerprint").count(), 1);
        assert_eq!((all("ice-ufrag").count(), all("ice-pwd").count()), (1, 1));
        assert_eq!(candidates_of(ours).count(), 2);
        if ours.is_audio() {
            voices += 1;
            let encodings: Vec<&str> = all("rtpmap").collect();
            let keys = encodings
                .iter()
                .filter(|one| one.contains("telephone-event"));
            let keys = keys.count();
            assert!(keys <= 1 && encodings.len() == 1 + keys, "{encodings:?}");
            assert_eq!(ours.formats.len(), encodings.len());
        } else {
            assert_eq!(ours.formats, ["webrtc-datachannel"]);
            assert!(mid.is_some_and(|mid| named.contains(&mid)), "{text}");
        }
    }
    assert_eq!(voices, 1);
    // Each name in the group is that of a line that is taken.
    for name in &named {
        let is_taken = answer
            .media
            .iter()
            .any(|media| media.is_open() && value(&media.attributes, "mid") == Some(name));
        assert!(is_taken, "{text}");
        assert_eq!(named.iter().filter(|other| other == &name).count(), 1);
    }
}

fn candidates_of(media: &Media) -> impl Iterator<Item = &str> {
    let candidates = media
        .attributes
        .iter()
        .filter(|one| one.name == "candidate");
    candidates.filter_map(|one| one.value.as_deref())
}

fn offer(name: &str) -> Description {
    altered(name, "", "")
}

/// An offer with every `from` in it replaced.
fn altered(name: &str, from: &str, to: &str) -> Description {
    let (_, text) = OFFERS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("known");
    let text = std::str::from_utf8(text).expect("text");
    assert!(text.contains(from));
    let text = if from.is_empty() {
        text.to_owned()
    } else {
        text.replace(from, to)
    };
    Description::parse(text.as_bytes()).expect("an offer")
}

fn ours() -> Ours {
    Ours {
        codecs: vec![Codec::Opus, Codec::Pcmu, Codec::Pcma],
        fingerprint: Fingerprint([0xAB; 32]),
        credentials: Credentials {
            ufrag: "ufrag".to_owned(),
            pwd: "a password of enough bytes".to_owned(),
        },
        candidates: vec![
            "203.0.113.7:10443".parse().unwrap(),
            "[2001:db8::7]:10443".parse().unwrap(),
        ],
        session_id: 7,
        ssrc: 1_234,
        cname: "tandem".to_owned(),
    }
}
