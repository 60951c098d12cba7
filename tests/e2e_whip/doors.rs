//! Calls that do not come in.

use serde_json::Value;
use tandem::io::ingress::Refusal;

use crate::caller::Caller;
use crate::caller::Manner;
use crate::caller::hear_each_other;
use crate::visitor::OFFER;
use crate::world::World;

#[tokio::test]
async fn a_call_at_the_limit_or_while_draining_is_asked_to_come_later() {
    let mut world = World::open().await;
    let (mut caller, mut side) = Caller::call(&mut world, Manner::default()).await;
    for (refusal, reason) in [(Refusal::Busy, "busy"), (Refusal::Draining, "draining")] {
        world.fake.refuse(Some(refusal));
        let series = format!(r#"tandem_whip_refused_total{{reason="{reason}"}}"#);
        assert_eq!(world.metric(&series), Some(0.0));
        let response = world.offer("/whip/support", OFFER.to_owned()).await;
        assert_eq!(response.status(), 503);
        let headers = response.headers().clone();
        let later = headers["Retry-After"].to_str().expect("text");
        assert!(later.parse::<u32>().is_ok_and(|seconds| seconds > 0));
        assert!(!headers.contains_key("Location"));
        let problem = response.text().await.expect("a body");
        let problem: Value = serde_json::from_str(&problem).expect("JSON");
        assert_eq!(problem["reason"], reason);
        assert_eq!(world.metric(&series), Some(1.0));
    }
    // Who is there already is not asked to leave.
    hear_each_other(&mut caller, &mut side, (440.0, 1_000.0), None).await;
    world.fake.refuse(None);
    Caller::call(&mut world, Manner::default()).await;
}
