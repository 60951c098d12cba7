//! Negotiations one after the other, as a call has them.

use std::time::Duration;

use super::gateway;
use super::lines;
use super::parse;
use crate::engine::media::codec::packet::Codec;
use crate::engine::rtp::dtls::DtlsRole;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Direction;
use crate::engine::sdp::agreement::Keying;
use crate::engine::sdp::agreement::PayloadType;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::answer::answer;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::local::SrtpPolicy;
use crate::engine::sdp::offer::accept;
use crate::engine::sdp::offer::offer;

const OFFER: &str = "\
v=0
o=- 1 1 IN IP4 198.51.100.1
s=-
c=IN IP4 198.51.100.1
t=0 0
m=image 0 udptl t38
m=audio 4000 RTP/AVP 96 0 97 101
a=rtpmap:96 opus/48000/2
a=rtpmap:97 telephone-event/48000
a=rtpmap:101 telephone-event/8000
a=rtcp-mux
";

const CRYPTO: &str =
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\n";

#[test]
fn an_invite_without_a_body_is_offered_everything() {
    let ours = offer(&gateway(), None);
    assert_eq!(
        lines(&ours),
        "\
m=audio 10000 RTP/AVP 111 9 0 8 110 101
a=rtpmap:111 opus/48000/2
a=fmtp:111 maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:110 telephone-event/48000
a=fmtp:110 0-15
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
a=rtcp-mux
"
    );
    // The answer comes with the ACK, here with numbers of its own and more codecs than it should.
    let theirs = parse(
        "\
v=0
o=CiscoSystemsCCM-SIP 2000 1 IN IP4 198.51.100.40
s=SIP Call
c=IN IP4 198.51.100.41
t=0 0
m=audio 24580 RTP/AVP 8 0 96
a=rtpmap:96 telephone-event/8000
a=ptime:30
a=sendonly
",
    );
    assert_eq!(
        accept(&gateway(), &ours, &theirs),
        Ok(Agreement {
            codec: Codec::Pcma,
            payload_type: PayloadType::same(8),
            telephone_event: Some(PayloadType {
                send: 96,
                receive: 101,
            }),
            comfort_noise: None,
            packet_time: Duration::from_millis(30),
            max_average_bitrate: None,
            remote_rtp: Some("198.51.100.41:24580".parse().unwrap()),
            remote_rtcp: Some("198.51.100.41:24581".parse().unwrap()),
            rtcp_mux: false,
            direction: Direction {
                send: false,
                receive: true,
            },
            keying: Keying::None,
        })
    );
}

#[test]
fn an_answer_that_we_did_not_offer_is_refused() {
    let ours = offer(&gateway(), None);
    let with = |from: &str, to: &str| {
        let theirs = "\
v=0
c=IN IP4 198.51.100.41
m=audio 24580 RTP/AVP 0
"
        .replace(from, to);
        accept(&gateway(), &ours, &parse(&theirs)).err()
    };
    assert_eq!(with("", ""), None);
    assert_eq!(with("24580", "0"), Some(Refusal::NoAudio));
    assert_eq!(with("m=audio", "m=video"), Some(Refusal::NoAudio));
    assert_eq!(with("m=", "x="), Some(Refusal::NoAudio));
    assert_eq!(with("AVP 0", "AVP 18"), Some(Refusal::NoCommonCodec));
    assert_eq!(with("RTP/AVP", "RTP/SAVP"), Some(Refusal::NoCommonKeying));
    assert_eq!(with("RTP/AVP", "udptl"), Some(Refusal::UnknownTransport));
    assert_eq!(with("c=", "x="), Some(Refusal::NoUsableAddress));
}

#[test]
fn an_answer_takes_one_of_our_keys_and_no_other() {
    let local = Local {
        srtp: SrtpPolicy::Required,
        ..gateway()
    };
    let ours = offer(&local, None);
    assert!(lines(&ours).ends_with(
        "a=rtcp-mux
a=crypto:1 AEAD_AES_256_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKis=
a=crypto:2 AEAD_AES_128_GCM inline:LC0uLzAxMjM0NTY3ODk6Ozw9Pj9AQUJDREVGRw==
a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:WFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1
"
    ));
    let keying = |protocol: &str, tag: u32, suite: &str| {
        let theirs = format!(
            "v=0\nc=IN IP4 198.51.100.1\nm=audio 4000 {protocol} 0\n\
             a=crypto:{tag} {suite} inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\n"
        );
        accept(&local, &ours, &parse(&theirs)).map(|agreement| agreement.keying)
    };
    let cm = "AES_CM_128_HMAC_SHA1_80";
    let Ok(Keying::Sdes { ours: key, theirs }) = keying("RTP/SAVP", 3, cm) else {
        panic!("the keys are agreed");
    };
    assert_eq!(key, local.sdes.key(theirs.profile()));
    let refused = Err(Refusal::NoCommonKeying);
    assert_eq!(keying("RTP/SAVP", 2, cm), refused);
    assert_eq!(keying("RTP/SAVP", 4, "AES_CM_128_HMAC_SHA1_32"), refused);
    assert_eq!(keying("RTP/AVP", 4, cm), refused);
}

/// The gateway after it has answered `body`, and what it answered, as text.
fn after(body: &str) -> (Local, String) {
    let mut local = gateway();
    let answer = answer(&local, &parse(body)).unwrap();
    local.current = Some(answer.agreement);
    (local, answer.description.to_string())
}

#[test]
fn the_codec_in_use_stays_while_it_is_offered() {
    let (local, _) = after(OFFER);
    let codec = |formats: &str| {
        let again = OFFER.replace("96 0 97 101", formats);
        answer(&local, &parse(&again)).unwrap().agreement.codec
    };
    assert_eq!(codec("96 0 97 101"), Codec::Opus);
    assert_eq!(codec("0 8 96 101"), Codec::Opus);
    assert_eq!(codec("8 0 101"), Codec::Pcma);
}

#[test]
fn the_key_in_use_stays_while_its_suite_is_offered() {
    let secure = OFFER.to_owned() + CRYPTO;
    let (local, first) = after(&secure);
    let also = secure.clone()
        + &CRYPTO.replace(":1 AES_CM_128_HMAC_SHA1_80", ":2 AES_CM_128_HMAC_SHA1_32");
    for again in [
        also.replace("a=crypto:1", "a=crypto:3"),
        // In another order, with a new key of theirs.
        secure.replace(
            CRYPTO,
            &(CRYPTO.replace("_80", "_32") + &CRYPTO.replace("AAEC", "zzzz").replace(":1", ":3")),
        ),
    ] {
        let answer = answer(&local, &parse(&again)).unwrap();
        let expected = first.replace("a=crypto:1", "a=crypto:3");
        assert_eq!(answer.description.to_string(), expected);
    }
}

#[test]
fn the_version_rises_only_when_the_answer_changes() {
    let mut local = gateway();
    let first = answer(&local, &parse(OFFER)).unwrap();
    local.current = Some(first.agreement.clone());

    let mut repeated = answer(&local, &parse(OFFER)).unwrap();
    local.number(&mut repeated.description, &first.description);
    assert_eq!(repeated, first);

    // The peer's new port is nothing that we would say otherwise.
    let moved = OFFER.replace("4000", "5000").replace("1 1 IN", "1 2 IN");
    let mut moved = answer(&local, &parse(&moved)).unwrap();
    local.number(&mut moved.description, &first.description);
    assert_eq!(moved.description, first.description);
    assert_ne!(moved.agreement, first.agreement);

    let mut held = answer(&local, &parse(&(OFFER.to_owned() + "a=sendonly\n"))).unwrap();
    local.number(&mut held.description, &moved.description);
    assert!(held.description.to_string().contains("o=- 7 2 IN IP4"));
}

#[test]
fn a_call_whose_line_is_closed_waits_until_it_is_opened_again() {
    let (mut local, _) = after(OFFER);
    let closed = answer(&local, &parse(&OFFER.replace("4000", "0"))).unwrap();
    assert_eq!(
        lines(&closed.description),
        "m=image 0 udptl t38\nm=audio 0 RTP/AVP 96\n"
    );
    let current = local.current.clone().unwrap();
    assert_eq!(
        closed.agreement,
        Agreement {
            remote_rtp: None,
            remote_rtcp: None,
            direction: Direction::NEITHER,
            ..current.clone()
        }
    );
    local.current = Some(closed.agreement);
    // We may open it ourselves, in its place.
    let ours = offer(&local, Some(&closed.description));
    assert_eq!(ours.media.len(), 2);
    assert!(ours.media[1].is_open());
    let reopened = answer(&local, &parse(OFFER)).unwrap();
    assert_eq!(reopened.agreement, current);
}

#[test]
fn a_refused_change_leaves_the_reason_and_a_fax_is_no_audio() {
    let (local, _) = after(OFFER);
    let fax = OFFER
        .replace("m=audio 4000", "m=audio 0")
        .replace("image 0", "image 4002");
    // The audio is closed for a fax: nobody speaks, and the fax is refused in its place.
    let answer_to_fax = answer(&local, &parse(&fax)).unwrap();
    assert!(
        answer_to_fax
            .description
            .media
            .iter()
            .all(|media| !media.is_open())
    );
    let nothing_known = OFFER.replace("96 0 97 101", "18");
    let refusal = answer(&local, &parse(&nothing_known)).unwrap_err();
    assert_eq!(refusal, Refusal::NoCommonCodec);
    let only_fax = fax.replace("m=audio 0 RTP/AVP", "m=video 0 RTP/AVP");
    let refusal = answer(&local, &parse(&only_fax)).unwrap_err();
    assert_eq!(refusal, Refusal::NoAudio);
}

#[test]
fn an_offer_in_a_call_keeps_places_numbers_and_keys() {
    let (local, last) =
        after(&(OFFER.replace("97 101", "111 101").replace(":97", ":111") + CRYPTO));
    let ours = offer(&local, Some(&parse(&last)));
    assert_eq!(
        lines(&ours),
        "\
m=image 0 udptl t38
m=audio 10000 RTP/AVP 96 9 0 8 111 101
a=rtpmap:96 opus/48000/2
a=fmtp:96 maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:111 telephone-event/48000
a=fmtp:111 0-15
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
a=rtcp-mux
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1
"
    );
}

#[test]
fn a_number_in_use_is_given_to_nothing_else() {
    // Their keys have the number that we would give to Opus, and their codec that of our keys at 48 kHz.
    let offered = OFFER
        .replace("96 0 97 101", "110 111")
        .replace(":96 opus/48000/2", ":110 PCMA/8000")
        .replace(":101", ":111");
    let (local, last) = after(&offered);
    let ours = offer(&local, Some(&parse(&last)));
    let formats = &ours.media[1].formats;
    assert_eq!(formats, &["110", "96", "9", "0", "111", "97"]);
}

#[test]
fn the_role_of_a_handshake_stays_with_its_association() {
    let fingerprint = |byte: &str| format!("sha-256 {}", [byte; 32].join(":"));
    let secure = |setup: &str, byte: &str| {
        let fingerprint = fingerprint(byte);
        OFFER.replace("RTP/AVP", "UDP/TLS/RTP/SAVP")
            + &format!("a=setup:{setup}\na=fingerprint:{fingerprint}\n")
    };
    let (local, last) = after(&secure("active", "01"));
    let role = |offer: &str| match answer(&local, &parse(offer)).unwrap().agreement.keying {
        Keying::Dtls { role, .. } => role,
        Keying::Sdes { .. } | Keying::None => panic!("keys come by a handshake"),
    };
    assert_eq!(role(&secure("actpass", "01")), DtlsRole::Server);
    // Another certificate is another association.
    assert_eq!(role(&secure("actpass", "02")), DtlsRole::Client);

    let ours = offer(&local, Some(&parse(&last)));
    let body = lines(&ours);
    assert!(body.contains("m=audio 10000 UDP/TLS/RTP/SAVP 96 "));
    assert!(body.contains("\na=setup:actpass\n"));
    for (setup, role) in [
        ("a=setup:active", Some(DtlsRole::Server)),
        ("a=setup:passive", Some(DtlsRole::Client)),
        ("a=setup:actpass", Some(DtlsRole::Client)),
        ("a=x:y", Some(DtlsRole::Client)),
        ("a=setup:holdconn", None),
    ] {
        let theirs = secure("actpass", "01").replace("a=setup:actpass", setup);
        let expected = role.map(|role| Keying::Dtls {
            role,
            fingerprint: Fingerprint([1; 32]),
        });
        let keying = accept(&local, &ours, &parse(&theirs)).map(|agreement| agreement.keying);
        assert_eq!(keying.ok(), expected, "{setup}");
    }
}

#[test]
fn no_key_is_shown_to_a_log() {
    let (local, body) = after(&(OFFER.to_owned() + CRYPTO));
    assert!(body.contains("inline:WFla"));
    let shown = format!("{:?} {local:?} {:?}", parse(&body), local.current);
    assert!(!shown.contains("WFla"));
    assert!(!shown.contains("88, 89"));
}
