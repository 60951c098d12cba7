//! Design §4, rule 5: the agent's own voice, come back from the caller's loudspeaker, is nobody who speaks.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use crate::world::Agent;
use crate::world::Gateway;
use crate::world::Ingress;
use crate::world::on_every_ingress;

/// Calls on each ingress, and prompts in each: a hundred together.
const CALLS: usize = 2;
const PROMPTS: usize = 17;

const ECHO: &str = r#"echo = { level_db = -20, delay = "150ms" }"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_echo_of_a_hundred_prompts_cuts_none_and_the_caller_still_cuts_one() {
    let calls = CALLS * Ingress::ALL.len();
    let agent = Arc::new(Agent::start(calls).await);
    let cuts = AtomicUsize::new(0);
    on_every_ingress(|ingress| speak_into_a_loudspeaker(ingress, agent.clone(), &cuts)).await;
    let cuts = cuts.into_inner();
    assert!(2 * cuts > calls, "{cuts} callers of {calls} cut");
}

// A prompt that is quieter for a moment is not over: hence the long wait for silence.
async fn speak_into_a_loudspeaker(ingress: Ingress, agent: Arc<Agent>, cuts: &AtomicUsize) {
    let gateway = Gateway::start(ingress, agent.address, "HINT").await;
    let mut steps = r#"{ hear = "book a table" }, { listen = "1100ms" },"#.to_owned();
    for _ in 1..PROMPTS {
        // The agent is given another turn by a key, which is no sound.
        steps += r#"{ dtmf = "1" }, { hear = "book a table" }, { listen = "1100ms" },"#;
    }
    // And a longer one, over which the caller speaks.
    steps += r#"{ dtmf = "2" }, { hear = "welcome" }, { barge_in_after = "1s", say = "book a table for two" },
        { listen = "1100ms" },"#;
    let calls = (0..CALLS).map(|number| gateway.call(number, &steps, ECHO));
    let mut cut = 0;
    for called in join_all(calls).await {
        let account = &called.account;
        let outcomes = account.outcomes();
        assert_eq!(outcomes[..PROMPTS], ["played"; PROMPTS], "by the echo");
        if outcomes[PROMPTS] == "cut" {
            cut += 1;
            assert_eq!(account.order(&["barge_in"]).len(), 1);
        } else {
            // What a recogniser makes of two voices is its own affair: this one, which knows whole sentences only, may have
            // begun another with the prompt's echo. Nobody knows then that there are words, but that there is a voice.
            let told = account.order(&["turn_started", "interim", "ducked", "playback"]);
            let ducked = told.iter().rposition(|kind| *kind == "ducked");
            let after = &told[ducked.expect("the caller is heard")..];
            assert_eq!(after[1], "playback", "words told of, and no cut: {told:?}");
        }
    }
    assert_eq!(gateway.barge_ins("cut").await, cut);
    cuts.fetch_add(cut, Ordering::Relaxed);
    // Without this the agent would not have understood its echo, and nothing would be shown.
    let refused = gateway.barge_ins("echo").await;
    let ducked = gateway.barge_ins("restored").await;
    println!(
        "{ingress:?}: the agent's own words came back {refused} times, and ducked {ducked} prompts"
    );
    assert!(refused > 0);
}
