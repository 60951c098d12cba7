//! What the gateway adds to the agent's own time, from the caller's last sound to the first of the answer.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::recorder::Recorder;
use crate::sound;
use crate::world::Agent;
use crate::world::Gateway;
use crate::world::Ingress;
use crate::world::name;
use crate::world::on_every_ingress;

/// Calls on each ingress, and spoken turns in each.
const CALLS: usize = 4;
const TURNS: usize = 8;
/// The most that the gateway may add to half of the turns, in seconds. It adds far less; this is for machines with other
/// things to do.
const MEDIAN_AT_MOST: f64 = 0.12;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_takes_the_agents_own_time_and_little_more() {
    let agent = Arc::new(Agent::start(CALLS * Ingress::ALL.len()).await);
    on_every_ingress(|ingress| ask(ingress, agent.clone())).await;
}

async fn ask(ingress: Ingress, agent: Arc<Agent>) {
    let (recorder, address) = Recorder::start(agent.address).await;
    let gateway = Gateway::start(ingress, address, "SHORT").await;
    let question = gateway.file("question.wav");
    sound::say("good evening", &question);
    let turn = format!(
        r#"{{ after_silence = "300ms", play = "{}" }}, {{ hear = "hello", timeout = "30s" }},"#,
        question.display()
    );
    let steps = format!(
        r#"{{ hear = "hello" }}, {} {{ listen = "100ms" }},"#,
        turn.repeat(TURNS)
    );

    let calls = (0..CALLS).map(|number| gateway.call(number, &steps, ""));
    let mut added = Vec::new();
    let (mut up, mut down, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for (number, called) in join_all(calls).await.into_iter().enumerate() {
        let account = &called.account;
        let turns = recorder.turns(&name(number));
        assert_eq!(
            (turns.len(), account.answers.len()),
            (TURNS, TURNS),
            "turns of the agent, and answers on the wire"
        );
        for (turn, answer) in turns.iter().zip(&account.answers) {
            // A stream gets the silence at the beginning of an answer as part of it; packets have it at its time.
            let lead = if ingress == Ingress::Twilio {
                0.0
            } else {
                turn.lead
            };
            let uplink = turn.asked - (account.began_at + answer.asked);
            let downlink = account.began_at + answer.answered - turn.answered - lead;
            up.push(uplink);
            down.push(downlink);
            own.push(turn.answered - turn.asked);
            added.push(uplink + downlink);
        }
    }
    println!(
        "{ingress:?}: the gateway adds {}; to the agent {}, from it {}; the agent's own time {}",
        spread(&mut added),
        spread(&mut up),
        spread(&mut down),
        spread(&mut own)
    );
    let median = added[added.len() / 2];
    assert!(median < MEDIAN_AT_MOST, "{median}");
    gateway.heard_everything().await;
}

/// Sorts the values and tells of them in milliseconds.
fn spread(seconds: &mut [f64]) -> String {
    seconds.sort_by(f64::total_cmp);
    let rank = |percent: usize| seconds[(seconds.len() * percent).div_ceil(100) - 1] * 1000.0;
    format!(
        "p50 {:.0} ms, p99 {:.0} ms (of {})",
        rank(50),
        rank(99),
        seconds.len()
    )
}
