//! How calls end, and what is left of them: nothing.

use std::time::Duration;
use std::time::Instant;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use tandem::engine::call::end::EndReason;
use tandem::engine::call::event::LegEnd;
use tandem::engine::call::notice::Notice;
use tandem::io::leg::LegOutput;
use tokio::time::sleep;

use crate::caller::Caller;
use crate::caller::Manner;
use crate::caller::hear_each_other;
use crate::visitor::OFFER;
use crate::visitor::Visitor;
use crate::world::World;

/// For what happens at once, on a machine that has other things to do.
const PROMPTLY: Duration = Duration::from_secs(2);
/// What a browser may hold of the last word.
const JITTER_BUFFER: Duration = Duration::from_millis(400);

#[tokio::test]
async fn delete_ends_the_call_and_the_caller_sees_the_connection_close() {
    let mut world = World::open().await;
    let (caller, mut side) = Caller::call(&mut world, Manner::default()).await;
    assert!(world.knows(&caller.begun).await);
    assert_eq!(world.ask(Method::DELETE, &caller.begun.url).await, 200);
    assert!(!world.knows(&caller.begun).await);
    assert_eq!(side.ended().await, LegEnd::HungUp);
    side.hang_up();
    side.journal.end(EndReason::CallerHungUp);
    let since = Instant::now();
    caller.closed().await;
    assert!(since.elapsed() < PROMPTLY, "{:?}", since.elapsed());
    side.gone().await;
    world.released().await;
    assert_eq!(world.ask(Method::DELETE, &caller.begun.url).await, 404);
}

#[tokio::test]
async fn hang_up_closes_the_callers_side_once_the_last_event_is_told_and_the_last_word_played() {
    let mut world = World::open().await;
    let (mut caller, mut side) = Caller::call(&mut world, Manner::default()).await;
    side.journal.write(Notice::Dtmf { digit: '1' });
    let first = caller.events.next().await.expect("an event");
    assert_eq!(first["type"], "dtmf");
    let since = Instant::now();
    side.hang_up();
    side.journal.end(EndReason::AgentEnded);
    let last = caller.events.next().await.expect("an event");
    assert_eq!(
        (&last["type"], &last["reason"]),
        (&"ended".into(), &"agent_ended".into())
    );
    caller.closed().await;
    let taken = since.elapsed();
    assert!(taken > JITTER_BUFFER && taken < PROMPTLY, "{taken:?}");
    assert!(caller.events.next().await.is_none(), "something follows");
    world.released().await;
    assert!(!world.knows(&caller.begun).await);
}

#[tokio::test]
async fn a_caller_whose_call_is_over_as_soon_as_it_has_begun_is_told_so() {
    let mut world = World::open().await;
    let (mut caller, mut side) = Caller::call(&mut world, Manner::default()).await;
    side.hang_up();
    side.journal.end(EndReason::BackendFailed);
    let last = caller.events.next().await.expect("an event");
    assert_eq!(
        (&last["type"], &last["reason"]),
        (&"ended".into(), &"backend_failed".into())
    );
    caller.closed().await;
}

#[tokio::test]
async fn a_transfer_is_told_and_closes_the_callers_side_for_a_browser_cannot_be_sent_elsewhere() {
    let mut world = World::open().await;
    let (mut caller, mut side) = Caller::call(&mut world, Manner::default()).await;
    assert!(!side.leg.info.traits.transfers);
    side.journal.write(Notice::Transfer {
        to: Some("+15550100".to_owned()),
        metadata: json!({ "note": "for the person who takes the call" }),
    });
    side.say(LegOutput::HangUp(EndReason::Transferred));
    side.journal.end(EndReason::Transferred);
    let told = caller.events.next().await.expect("an event");
    assert_eq!(
        (&told["type"], &told["to"], &told["metadata"]),
        (&"transfer".into(), &"+15550100".into(), &Value::Null)
    );
    let last = caller.events.next().await.expect("an event");
    assert_eq!(
        (&last["type"], &last["reason"]),
        (&"ended".into(), &"transferred".into())
    );
    caller.closed().await;
    world.released().await;
}

#[tokio::test]
async fn a_call_whose_task_is_gone_closes_the_callers_side() {
    let mut world = World::open().await;
    let (caller, side) = Caller::call(&mut world, Manner::default()).await;
    drop(side);
    caller.closed().await;
    world.released().await;
    assert!(!world.knows(&caller.begun).await);
}

#[tokio::test]
async fn a_caller_who_closes_the_connection_has_hung_up() {
    let mut world = World::open().await;
    let (caller, mut side) = Caller::call(&mut world, Manner::default()).await;
    let since = Instant::now();
    caller.hang_up().await;
    assert_eq!(side.ended().await, LegEnd::HungUp);
    assert!(since.elapsed() < PROMPTLY, "{:?}", since.elapsed());
    side.gone().await;
    world.released().await;
    assert!(!world.knows(&caller.begun).await);
}

/// Consent lasts 15 s, so this takes as long.
#[tokio::test]
async fn a_caller_who_vanishes_is_missed_and_everything_is_released() {
    let mut world = World::open().await;
    let manner = Manner {
        behind_nat: true,
        ..Manner::default()
    };
    let (mut caller, mut side) = Caller::call(&mut world, manner).await;
    hear_each_other(&mut caller, &mut side, (440.0, 1_000.0), None).await;
    let since = Instant::now();
    caller.nat = None;
    let end = side.ended_within(Duration::from_secs(30)).await;
    assert_eq!(end, LegEnd::ConsentLost);
    let taken = since.elapsed().as_secs_f64();
    assert!((13.0..25.0).contains(&taken), "{taken} s");
    side.gone().await;
    world.released().await;
    assert!(!world.knows(&caller.begun).await);
}

/// Both wait for 10 s.
#[tokio::test]
async fn an_offer_that_is_not_followed_up_gives_its_place_back() {
    let mut world = World::open().await;
    let (silent, checking) = (
        world.begin(OFFER.to_owned()).await,
        world.begin(OFFER.to_owned()).await,
    );
    let visitor = Visitor::new(checking.addresses()[0]).await;
    let since = Instant::now();
    while world.fake.places() > 0 {
        let taken = since.elapsed().as_secs_f64();
        assert!(taken < 20.0, "{} places are kept", world.fake.places());
        if world.fake.places() == 2 && taken < 8.0 {
            assert!(world.knows(&silent).await && world.knows(&checking).await);
            // To be there is not enough.
            visitor.is_answered(&checking.credentials(), true).await;
        } else {
            assert!(taken > 8.0, "given back after {taken} s");
        }
        sleep(Duration::from_millis(100)).await;
    }
    world.released().await;
    assert!(!world.knows(&silent).await && !world.knows(&checking).await);
    world.no_call();
    let series = r#"tandem_whip_refused_total{reason="never_connected"}"#;
    assert_eq!(world.metric(series), Some(2.0));
}

#[tokio::test]
async fn delete_before_the_call_gives_the_place_back_at_once() {
    let mut world = World::open().await;
    let begun = world.begin(OFFER.to_owned()).await;
    assert_eq!(world.fake.places(), 1);
    assert_eq!(world.ask(Method::DELETE, &begun.url).await, 200);
    world.released().await;
    assert_eq!(world.fake.places(), 0);
    world.no_call();
}
