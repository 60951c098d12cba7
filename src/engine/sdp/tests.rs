//! Tests of the whole module: offers of the kind that is met, calls in their course, and any offer at all.

use std::time::Duration;

use crate::engine::media::codec::packet::Codec;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::local::SdesKeys;
use crate::engine::sdp::local::SrtpPolicy;

mod calls;
mod offers;
mod properties;

/// A gateway at 192.0.2.10 that has everything, encrypts where it is offered, and whose "random" bytes count up.
fn gateway() -> Local {
    Local {
        address: "192.0.2.10".parse().unwrap(),
        rtp_port: 10_000,
        rtcp_port: 10_001,
        codecs: Codec::ALL.to_vec(),
        packet_time: Duration::from_millis(20),
        srtp: SrtpPolicy::Optional,
        fingerprint: Some(Fingerprint([0xAB; 32])),
        sdes: SdesKeys::new(&std::array::from_fn(|index| index as u8)),
        session_id: 7,
        version: 1,
        current: None,
    }
}

/// A body from lines as they are easy to read in a test.
fn parse(lines: &str) -> Description {
    Description::parse(lines.as_bytes()).expect("the test's description is one")
}

/// The lines of a body, without those that are always the same.
fn lines(description: &Description) -> String {
    let body = description.to_string();
    assert!(
        body.split_inclusive('\n')
            .all(|line| line.ends_with("\r\n"))
    );
    let rest = body
        .strip_prefix("v=0\r\no=- 7 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n")
        .expect("a description of the test's gateway begins so");
    rest.replace("\r\n", "\n")
}
