//! Design §4, rule 5: what is no word costs a prompt a moment of its loudness, and nothing else.

use std::sync::Arc;

use crate::recorder;
use crate::sound::Traced;
use crate::world::Agent;
use crate::world::Gateway;
use crate::world::Ingress;
use crate::world::on_every_ingress;

#[tokio::test(flavor = "multi_thread")]
async fn a_cough_over_a_prompt_makes_it_quieter_for_a_moment_and_nothing_is_missed() {
    let agent = Arc::new(Agent::start(Ingress::ALL.len()).await);
    on_every_ingress(|ingress| cough(ingress, agent.clone())).await;
}

async fn cough(ingress: Ingress, agent: Arc<Agent>) {
    let prompt = recorder::prompt(agent.address, "LONG", ingress).await;
    let gateway = Gateway::start(ingress, agent.address, "LONG").await;
    let steps = r#"
        { barge_in_after = "2s", noise = "200ms" },
        { listen = "1500ms" },
        { say = "book a table for two" },
        { hear = "a table for 2" },
    "#;
    let called = gateway.call(0, steps, "").await;

    let decisions = ["ducked", "restored", "barge_in"];
    assert_eq!(called.account.order(&decisions), ["ducked", "restored"]);
    assert_eq!(called.account.outcomes()[0], "played");
    assert_eq!(
        called.account.agent_said.len(),
        2,
        "the agent answered the cough: {:?}",
        called.account.agent_said
    );
    assert_eq!(gateway.barge_ins("restored").await, 1);
    assert_eq!(gateway.barge_ins("cut").await, 0);

    let traced = Traced::new(&prompt, &called.heard);
    let (loud, quiet) = (traced.share(-3.0..3.0), traced.share(-20.0..-10.0));
    println!(
        "{ingress:?}: {:.0} % of the prompt heard as it was spoken, {:.0} % more quietly",
        loud * 100.0,
        quiet * 100.0
    );
    // The prompt lasts 7 s, and is ducked for a little more than one.
    assert!(loud > 0.97, "{loud}");
    assert!((0.08..0.5).contains(&quiet), "{quiet}");
    gateway.heard_everything().await;
}
