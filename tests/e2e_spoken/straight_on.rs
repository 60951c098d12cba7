//! Design §4, rule 1: what a caller adds in the moment after the recogniser took them to be done is heard in the next turn.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::world::Agent;
use crate::world::Gateway;
use crate::world::Ingress;
use crate::world::on_every_ingress;

/// From the last word to the next, in milliseconds: the agent's 700 ms of silence are over by a frame or two, the answer is
/// being thought about, or on its way.
const PAUSES: [u32; 4] = [740, 780, 840, 920];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_right_after_the_endpoint_is_heard_in_the_next_turn() {
    let agent = Arc::new(Agent::start(PAUSES.len() * Ingress::ALL.len()).await);
    on_every_ingress(|ingress| go_on(ingress, agent.clone())).await;
}

async fn go_on(ingress: Ingress, agent: Arc<Agent>) {
    let gateway = Gateway::start(ingress, agent.address, "SHORT").await;
    let steps = PAUSES.map(|pause| {
        format!(
            r#"
            {{ hear = "hello" }},
            {{ say = "i would like a salad" }},
            {{ pause = "{pause}ms", say = "and two pizzas" }},
            {{ hear = "and 2 pizzas" }},
            "#
        )
    });
    let calls = steps
        .iter()
        .enumerate()
        .map(|(number, steps)| gateway.call(number, steps, ""));
    for called in join_all(calls).await {
        let heard: Vec<&str> = called
            .account
            .agent_heard
            .iter()
            .map(String::as_str)
            .collect();
        assert_eq!(heard, ["i would like a salad", "and two pizzas"]);
    }
    gateway.heard_everything().await;
}
