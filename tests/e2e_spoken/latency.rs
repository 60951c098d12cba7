//! What the gateway adds to the agent's own time, from the caller's last sound to the first of the answer.

use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::account::Account;
use crate::recorder::Recorder;
use crate::recorder::Turn;
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

    let codecs = codecs(ingress);
    let codec = |number: usize| codecs[number % codecs.len()];
    let settings: Vec<String> = (0..CALLS).map(|number| setting(codec(number))).collect();
    let calls = settings.iter().enumerate();
    let calls = calls.map(|(number, setting)| gateway.call(number, &steps, setting));
    let called = join_all(calls).await;
    for wanted in codecs {
        let mut spent = Spent::default();
        for (number, called) in called.iter().enumerate() {
            if codec(number) == *wanted {
                let turns = recorder.turns(&name(number));
                spent.add(&turns, &called.account, ingress);
            }
        }
        println!("{ingress:?}{}: {spent}", spoken(*wanted));
        let median = spent.added[spent.added.len() / 2];
        assert!(median < MEDIAN_AT_MOST, "{median}");
    }
    gateway.heard_everything().await;
}

/// What the callers of an ingress speak; where there is a choice, a half each. Opus comes with a delay of its own: its
/// look-ahead of 6.5 ms on each way, and as sound is looked for in frames of 20 ms here, it counts as a frame.
fn codecs(ingress: Ingress) -> &'static [Option<&'static str>] {
    match ingress {
        Ingress::Whip => &[Some("opus"), Some("pcmu")],
        Ingress::Sip | Ingress::Twilio => &[None],
    }
}

fn spoken(codec: Option<&str>) -> String {
    codec.map_or_else(String::new, |codec| format!(" in {codec}"))
}

fn setting(codec: Option<&str>) -> String {
    codec.map_or_else(String::new, |codec| format!("codec = '{codec}'"))
}

/// Where the time of the turns went, in seconds.
#[derive(Default)]
struct Spent {
    up: Vec<f64>,
    down: Vec<f64>,
    own: Vec<f64>,
    added: Vec<f64>,
}

impl Spent {
    /// Adds the turns of a call, and keeps all in order.
    fn add(&mut self, turns: &[Turn], account: &Account, ingress: Ingress) {
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
            self.up.push(uplink);
            self.down.push(downlink);
            self.own.push(turn.answered - turn.asked);
            self.added.push(uplink + downlink);
        }
        for seconds in [&mut self.up, &mut self.down, &mut self.own, &mut self.added] {
            seconds.sort_by(f64::total_cmp);
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the gateway adds {}; to the agent {}, from it {}; the agent's own time {}",
            spread(&self.added),
            spread(&self.up),
            spread(&self.down),
            spread(&self.own)
        )
    }
}

/// Tells of sorted seconds in milliseconds.
fn spread(seconds: &[f64]) -> String {
    let rank = |percent: usize| seconds[(seconds.len() * percent).div_ceil(100) - 1] * 1000.0;
    format!(
        "p50 {:.0} ms, p99 {:.0} ms (of {})",
        rank(50),
        rank(99),
        seconds.len()
    )
}
