//! Packets: any bytes at any times, to a plain session and to a protected one. The first byte of the input chooses the
//! session; then each piece is a length, a number of milliseconds and as many bytes as the length says.

#![no_main]

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;

use tandem::engine::media::codec::packet::Codec;
use tandem::engine::rtp::key::SrtpKey;
use tandem::engine::rtp::key::SrtpProfile;
use tandem::engine::rtp::presence::Patience;
use tandem::engine::rtp::session::Beginning;
use tandem::engine::rtp::session::Session;
use tandem::engine::rtp::session::Setup;

/// A jitter buffer gives at most a few packets at once; more would be a loop.
const MOST_HEARD: usize = 1_000;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, mut rest)) = input.split_first() else {
        return;
    };
    let from: SocketAddr = "198.51.100.9:40000".parse().expect("an address");
    let beginning = Beginning {
        ssrc: 1,
        sequence: 2,
        timestamp: 3,
        seed: 4,
    };
    let mut now = Instant::now();
    let mut session = Session::new(setup(choice, from), beginning, now);
    while let [length, wait_ms, after @ ..] = rest {
        let (datagram, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        now += Duration::from_millis(u64::from(*wait_ms));
        session.receive(datagram, from, now);
        let heard = (0..MOST_HEARD).take_while(|_| session.poll(now).is_some());
        assert!(heard.count() < MOST_HEARD, "it ends");
        let sent = (0..MOST_HEARD).take_while(|_| session.next_datagram(now).is_some());
        assert!(sent.count() < MOST_HEARD, "it ends");
    }
});

fn setup(choice: u8, remote: SocketAddr) -> Setup {
    let codec = Codec::ALL[usize::from(choice) % Codec::ALL.len()];
    let key = || SrtpKey::new(SrtpProfile::AeadAes128Gcm, &[5; 28]).expect("28 bytes");
    Setup {
        codec,
        payload_type: 0,
        telephone_event: Some(101),
        comfort_noise: Some(13),
        packet_time: Duration::from_millis(20),
        remote_rtp: Some(remote),
        remote_rtcp: Some(remote),
        send: true,
        receive: true,
        keys: (choice & 0x80 != 0).then(|| (key(), key())),
        patience: Patience {
            initial: Duration::from_secs(15),
            mid_call: Duration::from_secs(30),
            hold: Duration::from_secs(600),
        },
        learning: Duration::from_secs(5),
        cname: "fuzz".to_owned(),
        opus_complexity: 0,
    }
}
