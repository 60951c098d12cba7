//! Design §4, rule 5: a caller who speaks over a prompt silences it at once.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::world::Agent;
use crate::world::Gateway;
use crate::world::Ingress;
use crate::world::on_every_ingress;

/// Calls on each ingress.
const CALLS: usize = 2;
/// Each interrupts the welcome and two answers.
const CUTS: usize = 3;
/// From the word of the cut to the last of the prompt that the caller hears: a telephone's own 60 ms and a frame, and what
/// processes of a busy machine wait for each other.
const LATEST: f64 = 0.25;

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_silent_as_soon_as_the_caller_has_the_floor() {
    let agent = Arc::new(Agent::start(CALLS * Ingress::ALL.len()).await);
    on_every_ingress(|ingress| cut(ingress, agent.clone())).await;
}

async fn cut(ingress: Ingress, agent: Arc<Agent>) {
    let gateway = Gateway::start(ingress, agent.address, "LONG").await;
    let steps = r#"
        { barge_in_after = "1200ms", say = "book a table for two" }, { hear = "a table for 2" },
        { barge_in_after = "1500ms", say = "book a table for six" }, { hear = "a table for 6" },
        { barge_in_after = "1s", say = "book a table for nine" }, { hear = "a table for 9" },
    "#;
    let calls = (0..CALLS).map(|number| gateway.call(number, steps, ""));
    let mut silences = Vec::new();
    for called in join_all(calls).await {
        let account = &called.account;
        assert_eq!(account.order(&["barge_in"]).len(), CUTS);
        assert_eq!(account.outcomes()[..CUTS], ["cut"; CUTS]);
        assert_eq!(account.cuts.len(), CUTS, "{:?}", account.cuts);
        if ingress == Ingress::Twilio {
            assert_eq!(account.clears as usize, CUTS);
        }
        silences.extend(account.cuts.iter().map(|cut| cut.silent - cut.told));
    }
    let slowest = silences.iter().copied().fold(f64::MIN, f64::max);
    println!(
        "{ingress:?}: the prompt is last heard {:.0} ms after the word of its cut, at most",
        slowest * 1000.0
    );
    assert!(slowest < LATEST, "{silences:?}");

    let begun = gateway.total("tandem_call_setup_seconds_count", "").await;
    assert_eq!(begun as usize, CALLS);
    let count = gateway.total("tandem_barge_in_seconds_count", "").await;
    let in_time = gateway
        .total("tandem_barge_in_seconds_bucket", r#"le="0.02""#)
        .await;
    assert_eq!(count as usize, CALLS * CUTS);
    println!("{ingress:?}: {in_time} of {count} decisions reached the line within 20 ms");
    // The others waited for another program.
    assert!(2.0 * in_time >= count);
    gateway.heard_everything().await;
}
