//! Many calls at once: begun at a steady rate, held, hung up; and four readings of the gateway's metrics around them.
//!
//! What a call costs is read between the moment all calls are up and the moment the first hangs up, so that set-up is not in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::admin::Admin;
use crate::call;
use crate::call::Outcome;
use crate::call::Plan;
use crate::dialogue::Dialogue;
use crate::dialogue::Step;
use crate::line::Placing;
use crate::line::SetupError;
use crate::mulaw;
use crate::scenario::LoadScenario;
use crate::scrape::Scrape;
use crate::speech::Speech;
use crate::speech::Synthesiser;
use crate::target::Target;
use crate::timeline::Timeline;
use crate::timeline::print;
use crate::tone;

/// From the last call's beginning, or the first one's end, to a reading: set-ups and hang-ups stay out of what is measured.
const MARGIN: Duration = Duration::from_millis(500);
/// A shorter time between the readings says too little: `process_cpu_seconds_total` moves in steps of 10 ms.
const SHORTEST_WINDOW: Duration = Duration::from_secs(2);
/// A pause after speech that is repeated, so that the agent gets a turn.
const PAUSE: usize = mulaw::SAMPLE_RATE as usize * 4;

/// All that a load found.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) refusals: Vec<SetupError>,
    pub(crate) readings: Option<Readings>,
    /// CPU time this process used, and the time it had.
    pub(crate) own_cpu: Duration,
    pub(crate) took: Duration,
}

/// The gateway's metrics around the load.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) before: Scrape,
    /// All calls up; `None` if the load was too short for it.
    pub(crate) window: Option<Window>,
    pub(crate) after: Scrape,
}

/// The time in which nothing began or ended.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) first: Scrape,
    pub(crate) last: Scrape,
    pub(crate) length: Duration,
}

/// Makes the calls.
pub(crate) async fn run(
    scenario: &LoadScenario,
    placing: &Placing,
    admin: Option<&Admin>,
    http: &reqwest::Client,
) -> Result<Results> {
    let targets = scenario
        .gateway
        .target
        .all()
        .iter()
        .map(|text| text.parse().map_err(|why: String| anyhow!(why)));
    let targets = targets.collect::<Result<Vec<Target>>>()?;
    anyhow::ensure!(!targets.is_empty(), "there is no target");
    let speech = audio(&scenario.audio)?;
    let before = match admin {
        Some(admin) => Some(
            admin
                .scrape()
                .await
                .context("the gateway's metrics cannot be read")?,
        ),
        None => None,
    };
    let (start, cpu_before) = (Instant::now(), own_cpu());
    let window = admin
        .cloned()
        .map(|admin| tokio::spawn(read_window(scenario.window(), start, admin)));
    let mut calls = JoinSet::new();
    let interval = Duration::from_secs_f64(1.0 / scenario.ramp_per_second);
    for index in 0..scenario.calls {
        sleep_until(start + interval * index).await;
        let plan = Plan {
            target: targets[index as usize % targets.len()].clone(),
            placing: placing.clone(),
            dialogue: dialogue(speech.as_ref(), scenario.hold),
            admin: None,
            record: None,
            line_noise: scenario.gateway.line_noise,
            interruptible: false,
        };
        let http = http.clone();
        calls.spawn(async move { call::hold(plan, Timeline::Mute, &http).await });
    }
    print(&format!("{} calls begun", scenario.calls));
    let mut results = Results::default();
    for call in calls.join_all().await {
        match call {
            Ok(outcome) => results.outcomes.push(outcome),
            Err(refusal) => results.refusals.push(refusal),
        }
    }
    results.took = start.elapsed();
    results.own_cpu = own_cpu().saturating_sub(cpu_before);
    if let (Some(admin), Some(before), Some(window)) = (admin, before, window) {
        // Calls end a moment after their line does, and are counted then.
        tokio::time::sleep(MARGIN).await;
        let after = admin
            .scrape()
            .await
            .context("the gateway's metrics cannot be read any more")?;
        results.readings = Some(Readings {
            before,
            window: window.await?,
            after,
        });
    }
    Ok(results)
}

impl LoadScenario {
    /// When, since the start, all calls are up: from and to. `None` if that is too short to measure in.
    fn window(&self) -> Option<(Duration, Duration)> {
        let last_begins = Duration::from_secs_f64(f64::from(self.calls - 1) / self.ramp_per_second);
        let (first, last) = (last_begins + MARGIN, self.hold.saturating_sub(MARGIN));
        (last >= first + SHORTEST_WINDOW).then_some((first, last))
    }
}

async fn read_window(
    window: Option<(Duration, Duration)>,
    start: Instant,
    admin: Admin,
) -> Option<Window> {
    let (from, to) = window?;
    sleep_until(start + from).await;
    let (first, began) = (admin.scrape().await.ok()?, Instant::now());
    print("all calls are up");
    sleep_until(start + to).await;
    let (last, ended) = (admin.scrape().await.ok()?, Instant::now());
    Some(Window {
        first,
        last,
        length: ended - began,
    })
}

fn dialogue(speech: Option<&Arc<Speech>>, hold: Duration) -> Dialogue {
    let mut steps: Vec<Step> = speech.cloned().map(Step::Repeat).into_iter().collect();
    steps.push(Step::Wait(Duration::MAX));
    Dialogue::new(steps, Vec::new()).until(Some(hold))
}

fn audio(name: &str) -> Result<Option<Arc<Speech>>> {
    let with_pause = |speech: &Speech| {
        let mut audio = speech.audio.clone();
        audio.extend(vec![mulaw::SILENCE; PAUSE]);
        Arc::new(Speech::new(speech.label.clone(), audio))
    };
    Ok(match name.strip_prefix("say:") {
        Some(text) => Some(with_pause(&*Synthesiser::default().say(text.trim())?)),
        None if name == "silence" => None,
        None if name == "tone" => Some(Arc::new(Speech::new("tone".to_owned(), tone::period()))),
        None => Some(with_pause(&Speech::from_file(Path::new(name))?)),
    })
}

/// CPU time of this process, all threads; zero where `/proc` is not known.
fn own_cpu() -> Duration {
    /// Linux counts in hundredths of a second on every machine that this runs on (USER_HZ).
    const TICKS_PER_SECOND: u64 = 100;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return Duration::ZERO;
    };
    // The second field, the name, is in brackets and may hold spaces; user and system time are the 14th and 15th (proc(5)).
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
