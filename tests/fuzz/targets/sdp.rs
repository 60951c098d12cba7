//! Offers: read, answered, and the answer read again.

#![no_main]

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;

use tandem::engine::media::codec::packet::Codec;
use tandem::engine::rtp::dtls::Fingerprint;
use tandem::engine::sdp::answer::answer;
use tandem::engine::sdp::description::Description;
use tandem::engine::sdp::local::Local;
use tandem::engine::sdp::local::SdesKeys;
use tandem::engine::sdp::local::SrtpPolicy;

fuzz_target!(|body: &[u8]| {
    let Ok(offer) = Description::parse(body) else {
        return;
    };
    // What we write of it, we read as the same.
    let written = offer.to_string();
    let again = Description::parse(written.as_bytes()).expect("what is written can be read");
    assert!(again.says_the_same_as(&offer), "{written}");

    for srtp in [SrtpPolicy::Off, SrtpPolicy::Optional, SrtpPolicy::Required] {
        let mut local = local(srtp);
        if let Ok(answered) = answer(&local, &offer) {
            let lines = answered.description.media.len();
            assert_eq!(lines, offer.media.len(), "one line for each (RFC 3264 §6)");
            local.current = Some(answered.agreement);
            let _ = answer(&local, &offer);
        }
    }
});

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
