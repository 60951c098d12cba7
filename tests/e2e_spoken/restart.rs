//! Design §4, rule 10: a backend that goes down in the middle of an utterance and comes back costs the caller some waiting.

use std::time::Duration;

use tokio::time::sleep;

use crate::world::Agent;
use crate::world::Gateway;
use crate::world::Ingress;
use crate::world::on_every_ingress;

/// From the caller's first sound to the agent's end: in the middle of the sentence, which lasts 1.3 s.
const INTO_THE_SENTENCE: Duration = Duration::from_millis(600);
/// How long the agent is away before it is started again; it then loads its recogniser.
const AWAY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_killed_in_mid_utterance_and_back_a_second_later_answers_it() {
    on_every_ingress(lose_the_agent).await;
}

async fn lose_the_agent(ingress: Ingress) {
    let mut agent = Agent::start(1).await;
    let gateway = Gateway::start(ingress, agent.address, "SHORT").await;
    let steps = r#"
        { hear = "hello" },
        { say = "can you book a table for two" },
        { hear = "a table for 2", timeout = "20s" },
    "#;
    let mut calling = gateway.dial(0, steps, "").await;
    calling.tells("caller says").await;
    sleep(INTO_THE_SENTENCE).await;
    agent.kill().await;
    sleep(AWAY).await;
    let _agent = agent.restart().await;
    let called = calling.hold().await;

    let account = &called.account;
    assert!(
        !account.events(&["backend_fault"]).is_empty(),
        "nothing happened"
    );
    assert_eq!(account.agent_heard, ["can you book a table for two"]);
    assert_eq!(account.order(&["fallback", "transfer"]), [""; 0]);
    // What else the caller heard than the agent's two sentences is the hold prompt.
    let holds = account.order(&["hold"]).len();
    let before_the_answer = account.events(&["playback"]).len() - 1;
    assert!(
        before_the_answer <= 1 + holds,
        "{before_the_answer} pieces were played, {holds} of them to pass the time"
    );
    println!("{ingress:?}: the hold prompt was heard {holds} times");
    gateway.heard_everything().await;
}
