//! Datagrams that are nobody's.

use std::time::Instant;

use tandem::engine::rtp::dtls::DtlsRole;
use tandem::engine::rtp::dtls::Fingerprint;
use tandem::engine::rtp::dtls::Handshake;
use tandem::engine::rtp::dtls::Identity;
use tandem::engine::webrtc::ice::Credentials;

use crate::caller::Caller;
use crate::caller::Manner;
use crate::caller::hear_each_other;
use crate::visitor::OFFER;
use crate::visitor::Visitor;
use crate::visitor::check;
use crate::world::World;

#[tokio::test]
async fn what_strangers_send_disturbs_nobody_and_gets_no_answer() {
    let mut world = World::open().await;
    let (mut caller, mut side) = Caller::call(&mut world, Manner::default()).await;
    let gateway = caller.begun.addresses()[0];
    let in_a_call = caller.begun.credentials();
    // This one has shown that it is there, but has no keys.
    let waiting = world.begin(OFFER.to_owned()).await;
    let keyless = Visitor::new(gateway).await;
    keyless.is_answered(&waiting.credentials(), true).await;
    let stranger = Visitor::new(gateway).await;

    let datagrams = datagrams(&in_a_call);
    let send_all = async {
        for _ in 0..20 {
            for datagram in &datagrams {
                stranger.send(datagram).await;
            }
            keyless.send(&rtp()).await;
            keyless.send(&[0xff; 100]).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let call = hear_each_other(&mut caller, &mut side, (440.0, 1_000.0), None);
    tokio::join!(call, send_all);
    stranger.hears_nothing().await;
    keyless.hears_nothing().await;
    hear_each_other(&mut caller, &mut side, (440.0, 1_000.0), None).await;
    // It was not for want of a way there; and the handshake that was begun has not been begun by a stranger.
    stranger.is_answered(&in_a_call, false).await;
    keyless.is_answered(&waiting.credentials(), true).await;
    world.no_call();
}

fn datagrams(known: &Credentials) -> Vec<Vec<u8>> {
    let unknown = Credentials {
        ufrag: "nobody".to_owned(),
        ..known.clone()
    };
    let forged = Credentials {
        pwd: "not+the+password+of+this+call".to_owned(),
        ..known.clone()
    };
    let right = check(known, true).1;
    let mut datagrams = vec![
        Vec::new(),
        vec![0],
        vec![0x55; 1_400],
        vec![0xff; 3_000],
        rtp(),
        client_hello(),
        check(&unknown, true).1,
        check(&forged, true).1,
        right[..right.len() - 1].to_vec(),
        right[..20].to_vec(),
    ];
    // An answer that nobody has asked for, under a known name.
    let mut answer = right;
    answer[0] = 0x01;
    datagrams.push(answer);
    datagrams
}

fn rtp() -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
    packet.extend([0x10; 160]);
    packet
}

fn client_hello() -> Vec<u8> {
    let identity = Identity::generate().expect("an identity");
    let nobody = Fingerprint([0; 32]);
    let mut handshake = Handshake::new(DtlsRole::Client, &identity, nobody, Instant::now());
    handshake.poll_transmit().expect("it begins").to_vec()
}
