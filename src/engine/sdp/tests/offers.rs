//! Offers as PBXes, carriers and telephones write them, and what we answer.

use std::time::Duration;

use super::gateway;
use super::lines;
use super::parse;
use crate::engine::media::codec::packet::Codec;
use crate::engine::rtp::dtls::DtlsRole;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::rtp::key::SrtpKey;
use crate::engine::rtp::key::SrtpProfile;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Direction;
use crate::engine::sdp::agreement::Keying;
use crate::engine::sdp::agreement::PayloadType;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::answer::answer;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::local::SrtpPolicy;

/// Answers an offer, and checks the lines of the answer.
fn answers(local: &Local, offer: &str, expected: &str) -> Agreement {
    let answer = answer(local, &parse(offer)).expect("the offer is taken");
    assert_eq!(lines(&answer.description), expected, "to {offer}");
    answer.agreement
}

fn refuses(local: &Local, offer: &str) -> Refusal {
    answer(local, &parse(offer)).expect_err("the offer is refused")
}

const PCMU_AND_KEYS: &str = "\
m=audio 10000 RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
";

const PLAIN: &str = "\
v=0
o=- 1 1 IN IP4 198.51.100.1
s=-
c=IN IP4 198.51.100.1
t=0 0
m=audio 4000 RTP/AVP 0 101
a=rtpmap:101 telephone-event/8000
";

#[test]
fn an_asterisk_trunk_gets_its_first_codec_and_its_keys() {
    let agreement = answers(
        &gateway(),
        "\
v=0
o=- 1829403212 1829403212 IN IP4 198.51.100.20
s=Asterisk
c=IN IP4 198.51.100.20
t=0 0
m=audio 14806 RTP/AVP 8 0 9 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:9 G722/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=maxptime:150
a=sendrecv
",
        "\
m=audio 10000 RTP/AVP 8 101
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
",
    );
    assert_eq!(
        agreement,
        Agreement {
            codec: Codec::Pcma,
            payload_type: PayloadType::same(8),
            telephone_event: Some(PayloadType::same(101)),
            comfort_noise: None,
            packet_time: Duration::from_millis(20),
            max_average_bitrate: None,
            remote_rtp: Some("198.51.100.20:14806".parse().unwrap()),
            remote_rtcp: Some("198.51.100.20:14807".parse().unwrap()),
            rtcp_mux: false,
            direction: Direction::BOTH,
            keying: Keying::None,
        }
    );
}

#[test]
fn freeswitch_with_opus_and_two_clocks_of_keys_gets_those_of_opus() {
    let agreement = answers(
        &gateway(),
        "\
v=0
o=FreeSWITCH 1700000000 1700000001 IN IP4 198.51.100.30
s=FreeSWITCH
c=IN IP4 198.51.100.30
t=0 0
m=audio 26214 RTP/AVP 102 9 0 8 103 101 13
a=rtpmap:102 opus/48000/2
a=fmtp:102 useinbandfec=1; maxaveragebitrate=30000; maxplaybackrate=48000; ptime=20; minptime=10; maxptime=40; stereo=1
a=rtpmap:103 telephone-event/48000
a=fmtp:103 0-15
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=rtcp-mux
a=rtcp:26214 IN IP4 198.51.100.30
a=ptime:20
",
        "\
m=audio 10000 RTP/AVP 102 103
a=rtpmap:102 opus/48000/2
a=fmtp:102 maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1
a=rtpmap:103 telephone-event/48000
a=fmtp:103 0-15
a=ptime:20
a=sendrecv
a=rtcp-mux
",
    );
    assert_eq!(agreement.telephone_event, Some(PayloadType::same(103)));
    assert_eq!(agreement.remote_rtcp, agreement.remote_rtp);
    // 13 is comfort noise at 8 kHz: not in a stream at 48.
    assert_eq!(agreement.comfort_noise, None);
    assert_eq!(agreement.max_average_bitrate, Some(30_000));
}

#[test]
fn a_bit_rate_that_no_opus_has_is_ignored() {
    for (parameters, wanted) in [
        ("maxaveragebitrate=6000", Some(6_000)),
        ("stereo=1;MaxAverageBitrate = 20000 ;cbr=1", Some(20_000)),
        ("maxaveragebitrate=30", None),
        ("maxaveragebitrate=0", None),
        ("maxaveragebitrate=-20000", None),
        ("maxaveragebitrate=510001", None),
        ("maxaveragebitrate", None),
        ("", None),
    ] {
        let offer = parse(&format!(
            "v=0\no=- 1 1 IN IP4 198.51.100.30\ns=-\nc=IN IP4 198.51.100.30\nt=0 0\n\
             m=audio 26214 RTP/AVP 102\na=rtpmap:102 opus/48000/2\na=fmtp:102 {parameters}\n"
        ));
        let agreement = answer(&gateway(), &offer).expect("opus").agreement;
        assert_eq!(agreement.max_average_bitrate, wanted, "{parameters}");
    }
}

#[test]
fn a_cisco_call_manager_that_names_no_static_codec_is_understood() {
    let agreement = answers(
        &gateway(),
        "\
v=0
o=CiscoSystemsCCM-SIP 48291 1 IN IP4 198.51.100.40
s=SIP Call
c=IN IP4 198.51.100.41
b=TIAS:64000
b=CT:64
b=AS:64
t=0 0
m=audio 24580 RTP/AVP 0 8 18 13 101
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=ptime:20
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
",
        PCMU_AND_KEYS,
    );
    assert_eq!(
        agreement.remote_rtp,
        Some("198.51.100.41:24580".parse().unwrap())
    );
    assert_eq!(agreement.comfort_noise, Some(13));
}

#[test]
fn a_contact_centre_with_thirty_milliseconds_and_mapped_comfort_noise_gets_its_packets() {
    let agreement = answers(
        &gateway(),
        "\
v=0
o=Genesys 1 1 IN IP4 198.51.100.50
s=phone-call
c=IN IP4 198.51.100.50
t=0 0
m=audio 8500 RTP/AVP 18 0 96 97
a=rtpmap:18 G729/8000
a=rtpmap:96 telephone-event/8000
a=rtpmap:97 CN/8000
a=ptime:30
",
        "\
m=audio 10000 RTP/AVP 0 96
a=rtpmap:0 PCMU/8000
a=rtpmap:96 telephone-event/8000
a=fmtp:96 0-15
a=ptime:30
a=sendrecv
",
    );
    assert_eq!(agreement.packet_time, Duration::from_millis(30));
    assert_eq!(agreement.comfort_noise, Some(97));
}

#[test]
fn baresip_with_keys_only_at_another_clock_gets_them_at_that() {
    let agreement = answers(
        &gateway(),
        "\
v=0
o=- 3899113002 2031445813 IN IP4 198.51.100.60
s=-
c=IN IP4 198.51.100.60
t=0 0
a=tool:baresip 3.9.0
m=audio 19210 RTP/AVP 96 0 8 101
b=AS:125
a=rtpmap:96 opus/48000/2
a=fmtp:96 stereo=1;sprop-stereo=1
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=rtcp:19211
a=sendrecv
a=label:1
a=rtcp-rsize
a=ssrc:1029384756 cname:sip:alice@example.com
a=ptime:20
",
        "\
m=audio 10000 RTP/AVP 96 101
a=rtpmap:96 opus/48000/2
a=fmtp:96 maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
",
    );
    assert_eq!(agreement.telephone_event, Some(PayloadType::same(101)));
    assert_eq!(
        agreement.remote_rtcp,
        Some("198.51.100.60:19211".parse().unwrap())
    );
}

#[test]
fn a_softphone_with_keys_and_a_fingerprint_as_best_effort_is_encrypted_by_its_first_known_suite() {
    let offer = "\
v=0
o=alice 2841 1375 IN IP4 198.51.100.70
s=Talk
c=IN IP4 198.51.100.70
t=0 0
a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics
m=audio 7078 RTP/AVPF 96 98 0 8 18 101 99 100
a=rtpmap:96 OPUS/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:98 speex/16000
a=fmtp:98 vbr=on
a=fmtp:18 annexb=yes
a=rtpmap:101 Telephone-Event/48000
a=rtpmap:99 telephone-event/16000
a=rtpmap:100 telephone-event/8000
a=rtcp-fb:* trr-int 1000
a=rtcp-fb:* ccm tmmbr
a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLQ==
a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^31
a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^31
a=setup:actpass
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f
";
    let agreement = answers(
        &gateway(),
        offer,
        "\
m=audio 10000 RTP/AVPF 96 101
a=rtpmap:96 opus/48000/2
a=fmtp:96 maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1
a=rtpmap:101 telephone-event/48000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:hIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6Ch
",
    );
    let bytes: Vec<u8> = (0..30).collect();
    let Keying::Sdes { ours, theirs } = agreement.keying else {
        panic!("the keys are in the descriptions");
    };
    let profile = SrtpProfile::AesCm128HmacSha1_32;
    assert_eq!(theirs, SrtpKey::new(profile, &bytes).unwrap());
    assert_eq!(ours, gateway().sdes.key(profile));

    // Without those keys, the handshake is the best that is left.
    let agreement = answers(
        &gateway(),
        &offer.replace("a=crypto:", "a=x-crypto:"),
        "\
m=audio 10000 RTP/AVPF 96 101
a=rtpmap:96 opus/48000/2
a=fmtp:96 maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1
a=rtpmap:101 telephone-event/48000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
a=fingerprint:sha-256 AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB
a=setup:active
",
    );
    assert_eq!(
        agreement.keying,
        Keying::Dtls {
            role: DtlsRole::Client,
            fingerprint: Fingerprint(std::array::from_fn(|index| index as u8)),
        }
    );
}

#[test]
fn a_twilio_trunk_with_secure_media_gets_the_profile_that_it_names() {
    let agreement = answers(
        &gateway(),
        "\
v=0
o=root 1424863591 1424863591 IN IP4 198.51.100.80
s=Twilio Media Gateway
c=IN IP4 198.51.100.80
t=0 0
m=audio 17432 RTP/SAVP 0 8 101
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=maxptime:20
a=sendrecv
",
        "\
m=audio 10000 RTP/SAVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1
",
    );
    assert!(matches!(agreement.keying, Keying::Sdes { .. }));
}

#[test]
fn a_carriers_fax_and_video_lines_are_refused_in_their_places() {
    answers(
        &gateway(),
        "\
v=0
o=Sonus_UAC 55126 18213 IN IP4 198.51.100.90
s=SIP Media Capabilities
c=IN IP4 198.51.100.91
t=0 0
m=video 0 RTP/AVP 96
m=audio 31000 RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=sendrecv
a=ptime:20
m=image 31002 udptl t38
a=T38FaxVersion:0
a=T38MaxBitRate:14400
m=audio 31004 RTP/AVP 8
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
m=text 0 RTP/AVP
",
        &format!(
            "m=video 0 RTP/AVP 96\n{PCMU_AND_KEYS}m=image 0 udptl t38\nm=audio 0 RTP/AVP 8\n\
             m=application 0 UDP/DTLS/SCTP webrtc-datachannel\nm=text 0 RTP/AVP 0\n"
        ),
    );
}

#[test]
fn a_refused_line_repeats_no_control_characters() {
    // Found by fuzzing: the reader of our answer saw a line without formats.
    answers(
        &gateway(),
        &format!(
            "{PLAIN}m=audio 17432 RTP/X \u{15} 8\u{1}101\nm=video\u{b}5000\u{85}RTP/AVP \u{7f}\n"
        ),
        &format!("{PCMU_AND_KEYS}m=audio 0 RTP/X 8\nm=video 0 RTP/AVP 0\n"),
    );
}

#[test]
fn a_browser_shaped_offer_is_answered_with_a_handshake_and_without_its_candidates() {
    let offer = "\
v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=msid-semantic: WMS
a=fingerprint:SHA-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=setup:actpass
m=audio 54321 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 198.51.100.99
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2122260223 198.51.100.99 54321 typ host generation 0
a=ice-ufrag:abcd
a=ice-pwd:abcdefabcdefabcdefabcdef
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
";
    let agreement = answers(
        &gateway(),
        offer,
        "\
m=audio 10000 UDP/TLS/RTP/SAVPF 111 110
a=rtpmap:111 opus/48000/2
a=fmtp:111 maxplaybackrate=16000;sprop-maxcapturerate=16000;minptime=10;useinbandfec=1
a=rtpmap:110 telephone-event/48000
a=fmtp:110 0-15
a=ptime:20
a=sendrecv
a=rtcp-mux
a=fingerprint:sha-256 AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB
a=setup:active
",
    );
    assert_eq!(agreement.remote_rtcp, agreement.remote_rtp);

    // An offerer that will begin, or that says nothing of it, is waited for.
    for setup in ["a=setup:active", "a=x:y"] {
        let offer = offer.replace("a=setup:actpass", setup);
        let answer = answer(&gateway(), &parse(&offer)).unwrap();
        assert!(answer.description.to_string().contains("a=setup:passive"));
    }
    let sha_1 = offer.replace("SHA-256", "sha-1");
    assert_eq!(refuses(&gateway(), &sha_1), Refusal::NoCommonKeying);
    let nobody = offer.replace("actpass", "holdconn");
    assert_eq!(refuses(&gateway(), &nobody), Refusal::NoCommonKeying);
    let without_certificate = Local {
        fingerprint: None,
        ..gateway()
    };
    assert_eq!(
        refuses(&without_certificate, offer),
        Refusal::NoCommonKeying
    );
    // A fingerprint in a hash that we know may stand beside one in a hash that we do not.
    let both = offer.replace("a=fingerprint", "a=fingerprint:sha-1 AB:CD\na=fingerprint");
    assert_eq!(
        answer(&gateway(), &parse(&both)).unwrap().agreement,
        agreement
    );
}

#[test]
fn ipv6_is_answered_in_ipv6() {
    let local = Local {
        address: "2001:db8::10".parse().unwrap(),
        ..gateway()
    };
    let offer = PLAIN.replace("IP4 198.51.100.1", "IP6 2001:db8::1");
    let answer = answer(&local, &parse(&offer)).unwrap();
    assert!(answer.description.to_string().starts_with(
        "v=0\r\no=- 7 1 IN IP6 2001:db8::10\r\ns=-\r\nc=IN IP6 2001:db8::10\r\nt=0 0\r\nm=audio 10000 "
    ));
    assert_eq!(
        answer.agreement.remote_rtp,
        Some("[2001:db8::1]:4000".parse().unwrap())
    );
    assert_eq!(refuses(&gateway(), &offer), Refusal::OtherAddressFamily);
    assert_eq!(refuses(&local, PLAIN), Refusal::OtherAddressFamily);
    // An IPv4 address in IPv6 clothes is one.
    let mapped = PLAIN.replace("IP4 198.51.100.1", "IP6 ::ffff:198.51.100.1");
    answers(&gateway(), &mapped, PCMU_AND_KEYS);
}

#[test]
fn addresses_that_cannot_be_sent_to_are_refused_and_nowhere_is_a_hold() {
    let with = |connection: &str| PLAIN.replace("c=IN IP4 198.51.100.1", connection);
    for connection in [
        "c=IN IP4 media.example.com",
        "c=IN IP4 239.1.2.3/127",
        "c=IN IP4 255.255.255.255",
        "c=TN RFC2543 +12025550100",
        "c=IN IP4",
        "b=AS:64",
    ] {
        let refusal = refuses(&gateway(), &with(connection));
        assert_eq!(refusal, Refusal::NoUsableAddress, "{connection}");
    }
    for connection in [
        "c=IN IP4 0.0.0.0",
        "c=IN IP6 ::",
        "c=IN IP6 nowhere.INVALID",
    ] {
        let agreement = answers(
            &gateway(),
            &with(connection),
            &PCMU_AND_KEYS.replace("sendrecv", "recvonly"),
        );
        assert_eq!(
            (agreement.remote_rtp, agreement.remote_rtcp),
            (None, None),
            "{connection}"
        );
        let direction = Direction {
            send: false,
            receive: true,
        };
        assert_eq!(agreement.direction, direction);
    }
    // A time to live on an address that has none does no harm.
    answers(
        &gateway(),
        &with("c=IN IP4 198.51.100.1/127"),
        PCMU_AND_KEYS,
    );
}

#[test]
fn the_connection_of_the_line_goes_before_that_of_the_session() {
    let offer = format!("{PLAIN}c=IN IP4 198.51.100.2\n");
    let agreement = answers(&gateway(), &offer, PCMU_AND_KEYS);
    let rtp = "198.51.100.2:4000".parse().unwrap();
    assert_eq!(agreement.remote_rtp, Some(rtp));
}

#[test]
fn reports_go_where_they_are_wanted() {
    let rtcp = |attribute: &str, port: &str| {
        let offer = PLAIN.replace("4000", port) + attribute;
        answer(&gateway(), &parse(&offer))
            .unwrap()
            .agreement
            .remote_rtcp
    };
    let at = |address: &str| Some(address.parse().unwrap());
    assert_eq!(rtcp("", "4000"), at("198.51.100.1:4001"));
    assert_eq!(rtcp("", "65535"), None);
    assert_eq!(rtcp("a=rtcp:5001", "4000"), at("198.51.100.1:5001"));
    assert_eq!(
        rtcp("a=rtcp:5001 IN IP4 198.51.100.9", "4000"),
        at("198.51.100.9:5001")
    );
    assert_eq!(
        rtcp("a=rtcp:5001\na=rtcp-mux", "4000"),
        at("198.51.100.1:4000")
    );
    for nowhere in ["a=rtcp:0", "a=rtcp:5001 IN IP4 224.0.0.1", "a=rtcp:x"] {
        assert_eq!(rtcp(nowhere, "4000"), None, "{nowhere}");
    }
}

#[test]
fn our_own_port_for_reports_is_told_unless_it_goes_without_saying() {
    let local = Local {
        rtcp_port: 12_345,
        ..gateway()
    };
    answers(&local, PLAIN, &format!("{PCMU_AND_KEYS}a=rtcp:12345\n"));
    answers(
        &local,
        &format!("{PLAIN}a=rtcp-mux\n"),
        &format!("{PCMU_AND_KEYS}a=rtcp-mux\n"),
    );
}

#[test]
fn a_port_is_not_shared_where_numbers_look_like_reports() {
    let offer = PLAIN.replace("101", "90") + "a=rtcp-mux\n";
    let agreement = answers(&gateway(), &offer, &PCMU_AND_KEYS.replace("101", "90"));
    assert!(!agreement.rtcp_mux);
    // 72 to 76 could not even be told apart on two ports.
    let offer = PLAIN.replace("101", "73");
    let agreement = answer(&gateway(), &parse(&offer)).unwrap().agreement;
    assert_eq!(agreement.telephone_event, None);
}

#[test]
fn packets_are_as_long_as_the_peer_wants_within_reason() {
    let milliseconds = |attributes: &str| {
        let offer = format!("{PLAIN}{attributes}");
        let agreement = answer(&gateway(), &parse(&offer)).unwrap().agreement;
        agreement.packet_time.as_millis()
    };
    for (attributes, expected) in [
        ("", 20),
        ("a=ptime:10", 10),
        ("a=ptime:20.0", 20),
        ("a=ptime: 30 ", 30),
        ("a=ptime:25", 20),
        ("a=ptime:5", 10),
        ("a=ptime:200", 60),
        ("a=ptime:0", 20),
        ("a=ptime:NaN", 20),
        ("a=ptime:-20", 20),
        ("a=ptime:1e300", 60),
        ("a=ptime:x", 20),
        ("a=ptime", 20),
        ("a=ptime:40\na=maxptime:30", 30),
        ("a=maxptime:10", 10),
        ("a=maxptime:3", 10),
    ] {
        assert_eq!(milliseconds(attributes), expected, "{attributes}");
    }
}

#[test]
fn the_offerers_order_decides_among_what_is_allowed() {
    let offer = PLAIN.replace("0 101", "8 0 9 101");
    let codec = |codecs: &[Codec]| {
        let local = Local {
            codecs: codecs.to_vec(),
            ..gateway()
        };
        answer(&local, &parse(&offer)).map(|answer| answer.agreement.codec)
    };
    assert_eq!(codec(&Codec::ALL), Ok(Codec::Pcma));
    assert_eq!(codec(&[Codec::G722, Codec::Pcmu]), Ok(Codec::Pcmu));
    assert_eq!(codec(&[Codec::Opus]), Err(Refusal::NoCommonCodec));
}

#[test]
fn formats_that_contradict_themselves_are_passed_over() {
    for (formats, attributes) in [
        // 0 is PCMU, whatever is written.
        ("0 8", "a=rtpmap:0 G722/8000"),
        // A rate and a number of channels that these codecs do not have.
        ("97 8", "a=rtpmap:97 opus/8000/2"),
        ("97 8", "a=rtpmap:97 PCMU/8000/2"),
        ("97 8", "a=rtpmap:97 G722/16000"),
        ("97 8", "a=rtpmap:97"),
        ("97 8", "a=rtpmap:97 PCMU"),
        ("97 8", ""),
        ("200 x -1 8", "a=rtpmap:200 PCMU/8000"),
    ] {
        let offer = PLAIN.replace("0 101", formats) + attributes;
        let agreement = answer(&gateway(), &parse(&offer)).unwrap().agreement;
        assert_eq!(agreement.codec, Codec::Pcma, "{formats} {attributes}");
    }
}

#[test]
fn hold_and_resume_are_mirrored() {
    for (offered, answered) in [
        ("sendrecv", "sendrecv"),
        ("sendonly", "recvonly"),
        ("recvonly", "sendonly"),
        ("inactive", "inactive"),
        ("SendOnly", "recvonly"),
    ] {
        let expected = PCMU_AND_KEYS.replace("sendrecv", answered);
        let agreement = answers(&gateway(), &format!("{PLAIN}a={offered}\n"), &expected);
        assert_eq!(agreement.is_held(), !answered.starts_with("send"));
        let of_session = PLAIN.replace("t=0 0", &format!("t=0 0\na={offered}"));
        answers(&gateway(), &of_session, &expected);
        // The line's own goes before that of the session.
        let both = format!("{of_session}a=sendonly\n");
        answers(
            &gateway(),
            &both,
            &PCMU_AND_KEYS.replace("sendrecv", "recvonly"),
        );
    }
    let nowhere = PLAIN.replace("c=IN IP4 198.51.100.1", "c=IN IP4 0.0.0.0");
    answers(
        &gateway(),
        &format!("{nowhere}a=recvonly\n"),
        &PCMU_AND_KEYS.replace("sendrecv", "inactive"),
    );
}

#[test]
fn the_policy_decides_what_may_be_encrypted() {
    const CRYPTO: &str =
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\n";
    let result = |srtp, offer: &str| {
        let local = Local { srtp, ..gateway() };
        answer(&local, &parse(offer)).map(|answer| answer.agreement.keying != Keying::None)
    };
    let best_effort = format!("{PLAIN}{CRYPTO}");
    let secure = best_effort.replace("RTP/AVP", "RTP/SAVP");
    let unknown = secure.replace("AES_CM_128", "F8_128");
    let mki = secure.replace("xwd\n", "xwd|2^20|1:4\n");
    let (off, optional, required) = (SrtpPolicy::Off, SrtpPolicy::Optional, SrtpPolicy::Required);
    assert_eq!(result(off, PLAIN), Ok(false));
    assert_eq!(result(off, &best_effort), Ok(false));
    assert_eq!(result(off, &secure), Err(Refusal::SecurityOff));
    assert_eq!(result(optional, PLAIN), Ok(false));
    assert_eq!(result(optional, &best_effort), Ok(true));
    assert_eq!(result(optional, &secure), Ok(true));
    assert_eq!(result(required, PLAIN), Err(Refusal::SecurityRequired));
    assert_eq!(result(required, &best_effort), Ok(true));
    assert_eq!(result(required, &secure), Ok(true));
    for offer in [&unknown, &mki] {
        assert_eq!(result(optional, offer), Err(Refusal::NoCommonKeying));
        assert_eq!(result(required, offer), Err(Refusal::NoCommonKeying));
    }
    // Two lines for the same voice, the old way to offer both: the first that can be taken is.
    let audio = secure.find("m=audio").unwrap();
    let both = secure.clone() + &PLAIN[PLAIN.find("m=audio").unwrap()..];
    assert_eq!(result(off, &both), Ok(false));
    assert_eq!(result(optional, &both), Ok(true));
    assert!(both[audio..].starts_with("m=audio 4000 RTP/SAVP"));
}

#[test]
fn an_offer_without_audio_that_we_speak_is_refused_for_its_reason() {
    for (from, to, expected) in [
        ("m=audio", "m=video", Refusal::NoAudio),
        ("m=audio 4000", "m=audio 0", Refusal::NoAudio),
        ("RTP/AVP", "TCP/RTP/AVP", Refusal::UnknownTransport),
        ("RTP/AVP 0", "RTP/AVP 18", Refusal::NoCommonCodec),
    ] {
        assert_eq!(refuses(&gateway(), &PLAIN.replace(from, to)), expected);
    }
    let (session, _) = PLAIN.split_at(PLAIN.find("m=").unwrap());
    assert_eq!(refuses(&gateway(), session), Refusal::NoAudio);
}
