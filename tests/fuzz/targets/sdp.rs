//! Descriptions of a peer: read, written, answered, taken as an answer. The input is one body, or two with a zero byte
//! between them: an offer, and what the same peer says later.

#![no_main]

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;

use tandem::engine::media::codec::packet::Codec;
use tandem::engine::rtp::dtls::Fingerprint;
use tandem::engine::sdp::agreement::Agreement;
use tandem::engine::sdp::answer::answer;
use tandem::engine::sdp::description::Description;
use tandem::engine::sdp::description::MAX_BODY_BYTES;
use tandem::engine::sdp::description::Media;
use tandem::engine::sdp::local::Local;
use tandem::engine::sdp::local::SdesKeys;
use tandem::engine::sdp::local::SrtpPolicy;
use tandem::engine::sdp::offer::accept;
use tandem::engine::sdp::offer::offer;

fuzz_target!(|input: &[u8]| {
    let middle = input.iter().position(|byte| *byte == 0);
    let (first, second) = input.split_at(middle.unwrap_or(input.len()));
    let Some(first) = read(first) else {
        return;
    };
    let second = read(second.get(1..).unwrap_or_default());
    let second = second.as_ref().unwrap_or(&first);
    for srtp in [SrtpPolicy::Off, SrtpPolicy::Optional, SrtpPolicy::Required] {
        let gateway = local(srtp);
        peer_begins(gateway.clone(), &first, second);
        we_begin(gateway, &first, second);
    }
});

/// The peer offers and offers again; then we do, and it answers.
fn peer_begins(mut gateway: Local, first: &Description, second: &Description) {
    let mut last = None;
    for theirs in [first, second, first] {
        let Ok(answered) = answer(&gateway, theirs) else {
            continue;
        };
        assert_eq!(answered.description.media.len(), theirs.media.len());
        check_ours(&answered.description);
        check_agreement(&answered.agreement);
        gateway.current = Some(answered.agreement.clone());
        let again = answer(&gateway, theirs);
        assert_eq!(
            again.as_ref(),
            Ok(&answered),
            "once agreed, nothing changes"
        );
        last = Some(answered.description);
    }
    if let Some(last) = last {
        let ours = offer(&gateway, Some(&last));
        assert!(
            ours.media.len() >= last.media.len(),
            "lines keep their places (RFC 3264 §8)"
        );
        check_offer(&ours);
        take(&mut gateway, &ours, second);
    }
}

/// We offer, the peer answers, and then it offers.
fn we_begin(mut gateway: Local, first: &Description, second: &Description) {
    let ours = offer(&gateway, None);
    check_offer(&ours);
    take(&mut gateway, &ours, first);
    let ours = offer(&gateway, Some(&ours));
    check_offer(&ours);
    take(&mut gateway, &ours, second);
    if let Ok(answered) = answer(&gateway, second) {
        check_ours(&answered.description);
        check_agreement(&answered.agreement);
    }
}

fn take(gateway: &mut Local, ours: &Description, theirs: &Description) {
    if let Ok(agreement) = accept(gateway, ours, theirs) {
        check_agreement(&agreement);
        gateway.current = Some(agreement);
    }
}

/// Reads a peer's body. What we write of it, we read as the same.
fn read(body: &[u8]) -> Option<Description> {
    let read = Description::parse(body).ok()?;
    let written = read.to_string();
    // Bytes that are no UTF-8 become three, so a body may grow out of what is read.
    if written.len() <= MAX_BODY_BYTES {
        let again = Description::parse(written.as_bytes());
        assert_eq!(again.as_ref(), Ok(&read), "{written}");
    }
    Some(read)
}

/// What we write is read as it was meant, and no line that the peer made has come in between.
fn check_ours(ours: &Description) {
    let written = ours.to_string();
    assert_eq!(
        Description::parse(written.as_bytes()).as_ref(),
        Ok(ours),
        "{written}"
    );
    assert!(ours.media.iter().filter(|media| media.is_open()).count() <= 1);
    let whole = written.matches("\r\n").count();
    assert_eq!(written.matches('\n').count(), whole);
    assert_eq!(written.matches('\r').count(), whole);
}

/// A number stands for one thing only.
fn check_offer(ours: &Description) {
    check_ours(ours);
    let open: Vec<&Media> = ours.media.iter().filter(|media| media.is_open()).collect();
    assert_eq!(open.len(), 1);
    let mut numbers = open[0].formats.clone();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), open[0].formats.len(), "{ours}");
}

fn check_agreement(agreement: &Agreement) {
    let packet_time = agreement.packet_time.as_millis();
    assert!((10..=60).contains(&packet_time) && packet_time.is_multiple_of(10));
    assert!(!agreement.direction.send || agreement.remote_rtp.is_some());
    assert!(agreement.remote_rtp.is_none_or(|remote| remote.port() != 0));
    assert!(!agreement.rtcp_mux || agreement.remote_rtcp == agreement.remote_rtp);
    let event = agreement.telephone_event;
    assert_ne!(
        event.map(|event| event.receive),
        Some(agreement.payload_type.receive)
    );
}

fn local(srtp: SrtpPolicy) -> Local {
    Local {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_port: 10_000,
        rtcp_port: 10_001,
        codecs: Codec::ALL.to_vec(),
        packet_time: Duration::from_millis(20),
        srtp,
        fingerprint: Some(Fingerprint([7; 32])),
        sdes: SdesKeys::new(&[1; SdesKeys::RANDOM_BYTES]),
        session_id: 1,
        version: 1,
        current: None,
    }
}
