//! ICE restarts, and callers who move.

use tandem::engine::webrtc::ice::Credentials;

use crate::caller::Caller;
use crate::caller::Manner;
use crate::caller::hear_each_other;
use crate::visitor::OFFER;
use crate::visitor::Visitor;
use crate::visitor::credentials;
use crate::world::Begun;
use crate::world::World;
use crate::world::candidates;

const TONES: (f64, f64) = (440.0, 1_000.0);

#[tokio::test]
async fn after_a_restart_old_and_new_checks_are_answered_until_a_nomination() {
    let world = World::open().await;
    let begun = world.begin(OFFER.to_owned()).await;
    let visitor = Visitor::new(begun.addresses()[0]).await;
    let first = begun.credentials();
    visitor.is_answered(&first, true).await;

    let (second, etag) = restart(&world, &begun, 2).await;
    visitor.is_answered(&second, false).await;
    visitor.is_answered(&first, true).await;
    visitor.is_answered(&second, true).await;
    visitor.is_ignored(&first).await;

    // And again.
    let (third, other_etag) = restart(&world, &begun, 3).await;
    assert!(etag != other_etag && etag != begun.etag);
    visitor.is_answered(&third, false).await;
    visitor.is_answered(&second, false).await;
    visitor.is_ignored(&first).await;
    visitor.is_answered(&third, true).await;
    visitor.is_ignored(&second).await;
    // One's name with the other's password.
    let mixed = Credentials {
        ufrag: third.ufrag.clone(),
        pwd: second.pwd,
    };
    visitor.is_ignored(&mixed).await;
    visitor.is_answered(&third, true).await;
}

#[tokio::test]
async fn restarts_of_which_nothing_comes_leave_the_way_that_is_in_use() {
    let world = World::open().await;
    let begun = world.begin(OFFER.to_owned()).await;
    let visitor = Visitor::new(begun.addresses()[0]).await;
    let first = begun.credentials();
    visitor.is_answered(&first, true).await;
    let mut latest = first.clone();
    for number in 2..22 {
        latest = restart(&world, &begun, number).await.0;
        visitor.is_answered(&first, false).await;
    }
    visitor.is_answered(&latest, true).await;
    visitor.is_ignored(&first).await;
}

#[tokio::test]
async fn a_caller_who_restarts_and_moves_to_another_port_goes_on_hearing_and_being_heard() {
    let mut world = World::open().await;
    let manner = Manner {
        behind_nat: true,
        ..Manner::default()
    };
    let (mut caller, mut side) = Caller::call(&mut world, manner).await;
    hear_each_other(&mut caller, &mut side, TONES, None).await;
    caller.nat.as_ref().expect("a NAT").move_port().await;
    caller.restart(&world).await;
    hear_each_other(&mut caller, &mut side, TONES, None).await;
}

/// Once it has chosen, this caller's checks bring no nomination, so it takes 7 s until it hears again.
#[tokio::test]
async fn a_caller_who_moves_to_another_port_unawares_goes_on_hearing_and_being_heard() {
    let mut world = World::open().await;
    let manner = Manner {
        behind_nat: true,
        ..Manner::default()
    };
    let (mut caller, mut side) = Caller::call(&mut world, manner).await;
    hear_each_other(&mut caller, &mut side, TONES, None).await;
    caller.nat.as_ref().expect("a NAT").move_port().await;
    hear_each_other(&mut caller, &mut side, TONES, None).await;
}

/// Restarts by hand: the gateway's new credentials and the new entity tag.
async fn restart(world: &World, begun: &Begun, number: u32) -> (Credentials, String) {
    let fragment =
        format!("a=ice-ufrag:visitor{number}\r\na=ice-pwd:another+password+of+many+{number}\r\n");
    let response = world.restart(&begun.url, fragment).await;
    assert_eq!(response.status(), 200);
    let headers = response.headers();
    assert_eq!(headers["Content-Type"], "application/trickle-ice-sdpfrag");
    let etag = headers["ETag"].to_str().expect("text").to_owned();
    let fragment = response.text().await.expect("a body");
    assert_eq!(candidates(&fragment), begun.addresses());
    (credentials(&fragment), etag)
}
