//! Many calls at once: begun at a steady rate, held, hung up; and readings of the gateway's metrics around them.
//!
//! What a call costs is read between the moment all calls are up and the moment the first hangs up, so that set-up is not in it. What
//! calls leave behind is read twice: when those of the warm-up are gone, and when all are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;

use crate::admin::Admin;
use crate::call;
use crate::call::Farewell;
use crate::call::Outcome;
use crate::call::Plan;
use crate::dialogue::Dialogue;
use crate::dialogue::Step;
use crate::echo::EchoPath;
use crate::line::Line;
use crate::line::Network;
use crate::line::Placing;
use crate::line::SetupError;
use crate::mulaw;
use crate::report;
use crate::scenario::LoadScenario;
use crate::scenario::Mix;
use crate::scrape::Scrape;
use crate::sip::Cancelled;
use crate::sip::SipLine;
use crate::speech::Speech;
use crate::speech::Synthesiser;
use crate::target::Target;
use crate::timeline::Timeline;
use crate::timeline::print;
use crate::tone;
use crate::twilio::CallIds;
use crate::whip::WhipLine;

/// From the last call's beginning, or the first one's end, to a reading: set-ups and hang-ups stay out of what is measured.
const MARGIN: Duration = Duration::from_millis(500);
/// A shorter time between the readings says too little: `process_cpu_seconds_total` moves in steps of 10 ms.
const SHORTEST_WINDOW: Duration = Duration::from_secs(2);
/// A pause after speech that is repeated, so that the agent gets a turn.
const PAUSE: usize = mulaw::SAMPLE_RATE as usize * 4;
/// The gateway's count of what is alive. It is 0 between calls.
const ALIVE: &str = "tandem_objects_alive";
/// How often it is read while something is.
const SETTLE_INTERVAL: Duration = Duration::from_millis(500);
/// A large load tells how far it is this often.
const PROGRESS: u32 = 1000;

/// What is to become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallKind {
    /// Answered, held, ended by us.
    Answered,
    /// Refused by the gateway.
    Refused,
    /// Cancelled while it rings; by WHIP, deleted before it is connected.
    Cancelled,
    /// Answered, and then the caller is gone without a word.
    Vanished,
}

impl CallKind {
    /// For the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Vanished => "vanished",
        }
    }
}

/// A call that was made.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) kind: CallKind,
    /// From dialling to the final response, where one came that was right for the kind; by WHIP, to the moment when media may flow.
    pub(crate) set_up: Option<Duration>,
    /// What went otherwise than it should.
    pub(crate) failure: Option<String>,
    /// Something to be told that is no failure.
    pub(crate) remark: Option<&'static str>,
    /// If it came about.
    pub(crate) outcome: Option<Outcome>,
}

/// All that a load found.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) readings: Option<Readings>,
    /// CPU time this process used, and the time it had.
    pub(crate) own_cpu: Duration,
    pub(crate) took: Duration,
    /// The time in which calls were begun.
    pub(crate) beginning: Duration,
    pub(crate) warmed_up: Option<Settled>,
    pub(crate) settled: Option<Settled>,
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

/// The gateway when it had nothing to do any more, or when we would wait no longer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settled {
    pub(crate) took: Duration,
    /// Objects still alive; `None` if the gateway does not count them.
    pub(crate) left: Option<f64>,
    pub(crate) resident: Option<f64>,
}

/// What all calls of a load have in common.
struct Caller {
    targets: Vec<Target>,
    placing: Placing,
    speech: Option<Arc<Speech>>,
    hold: Duration,
    mix: Option<Mix>,
    line_noise: bool,
    echo: Option<EchoPath>,
    network: Network,
}

/// Makes the calls.
pub(crate) async fn run(
    scenario: &LoadScenario,
    placing: &Placing,
    admin: Option<&Admin>,
    network: &Network,
) -> Result<Results> {
    let targets = scenario
        .gateway
        .target
        .all()
        .iter()
        .map(|text| text.parse().map_err(|why: String| anyhow!(why)));
    let targets = targets.collect::<Result<Vec<Target>>>()?;
    anyhow::ensure!(!targets.is_empty(), "there is no target");
    let caller = Arc::new(Caller {
        targets,
        placing: placing.clone(),
        speech: audio(&scenario.audio)?,
        hold: scenario.hold,
        mix: scenario.mix.clone(),
        line_noise: scenario.gateway.line_noise,
        echo: scenario.gateway.echo,
        network: network.clone(),
    });
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
    let mut results = Results::default();
    let warm_up = (f64::from(scenario.calls) * scenario.warm_up).round() as u32;
    if let (Some(admin), 1..) = (admin, warm_up) {
        make_calls(&caller, scenario, 0..warm_up, &mut results).await;
        results.warmed_up = Some(settle(admin, scenario.settle).await?);
        print("the gateway is warm");
    }
    let rest = warm_up..scenario.calls;
    make_calls(&caller, scenario, rest, &mut results).await;
    results.took = start.elapsed();
    results.own_cpu = own_cpu().saturating_sub(cpu_before);
    if let (Some(admin), Some(before), Some(window)) = (admin, before, window) {
        // Calls end a moment after their line does, and are counted then.
        sleep(MARGIN).await;
        if scenario.settle.is_some() || results.warmed_up.is_some() {
            results.settled = Some(settle(admin, scenario.settle).await?);
        }
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

/// Makes these and waits for their ends.
async fn make_calls(
    caller: &Arc<Caller>,
    scenario: &LoadScenario,
    indices: std::ops::Range<u32>,
    results: &mut Results,
) {
    let start = Instant::now();
    let interval = Duration::from_secs_f64(1.0 / scenario.ramp_per_second);
    let room = Arc::new(Semaphore::new(
        scenario.at_most.unwrap_or(Semaphore::MAX_PERMITS),
    ));
    let mut calls = JoinSet::new();
    let first = indices.start;
    for index in indices.clone() {
        sleep_until(start + interval * (index - first)).await;
        let permit = Arc::clone(&room)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let caller = Arc::clone(caller);
        calls.spawn(async move {
            let attempt = caller.call(index).await;
            drop(permit);
            attempt
        });
        // What is over is put away as we go: a large load should not keep all its tasks.
        while let Some(done) = calls.try_join_next() {
            results
                .attempts
                .push(done.expect("a call's task does not panic"));
        }
        if (index + 1) % PROGRESS == 0 {
            print(&format!("{} calls begun", index + 1));
        }
    }
    results.beginning += start.elapsed();
    print(&format!("all {} calls begun", indices.len()));
    results.attempts.extend(calls.join_all().await);
}

impl Caller {
    async fn call(&self, index: u32) -> Attempt {
        let target = &self.targets[index as usize % self.targets.len()];
        let kind = self
            .mix
            .as_ref()
            .map_or(CallKind::Answered, |mix| mix.kind(index));
        let dialled = Instant::now();
        match (kind, &self.mix) {
            (CallKind::Refused, Some(mix)) => {
                let target = dialling(target, Some(&mix.refused_user));
                let placed = Line::place(
                    &target,
                    &self.placing,
                    CallIds::fresh(),
                    &self.network,
                    false,
                );
                match placed.await {
                    Err(SetupError::Declined { status, .. }) if status == mix.refused_status => {
                        Attempt::good(kind, dialled)
                    }
                    Err(SetupError::Refused { status, .. }) if status == mix.refused_status => {
                        Attempt::good(kind, dialled)
                    }
                    Err(other) => Attempt::bad(kind, other.kind()),
                    Ok(mut line) => {
                        // That it was answered at all is the failure.
                        let _ = line.hang_up().await;
                        Attempt::bad(kind, "answered rather than refused".to_owned())
                    }
                }
            }
            (CallKind::Cancelled, Some(mix)) => {
                let target = dialling(target, mix.cancelled_user.as_deref());
                let cancelled = match &target {
                    Target::Twilio(_) => {
                        return Attempt::bad(kind, "Twilio has no calls that ring".to_owned());
                    }
                    Target::Sip(uri) => {
                        let id = CallIds::fresh().call;
                        let phones = &self.network.phones;
                        SipLine::ring_and_cancel(uri, &self.placing, id, phones).await
                    }
                    Target::Whip(url) => {
                        WhipLine::offer_and_withdraw(url, &self.placing, &self.network)
                            .await
                            .map(|()| Cancelled::InTime)
                    }
                };
                match cancelled {
                    Ok(Cancelled::InTime) => Attempt::good(kind, dialled),
                    Ok(Cancelled::AnsweredFirst) => Attempt {
                        remark: Some("answered before the CANCEL, ended with BYE"),
                        ..Attempt::good(kind, dialled)
                    },
                    Err(error) => Attempt::bad(kind, error.kind()),
                }
            }
            (CallKind::Vanished, Some(mix)) => {
                self.hold(kind, target, mix.vanish_after, Farewell::Vanish)
                    .await
            }
            (
                CallKind::Answered | CallKind::Refused | CallKind::Cancelled | CallKind::Vanished,
                _,
            ) => self.hold(kind, target, self.hold, Farewell::HangUp).await,
        }
    }

    async fn hold(
        &self,
        kind: CallKind,
        target: &Target,
        hold: Duration,
        farewell: Farewell,
    ) -> Attempt {
        let plan = Plan {
            target: target.clone(),
            placing: self.placing.clone(),
            dialogue: dialogue(self.speech.as_ref(), hold),
            admin: None,
            record: None,
            line_noise: self.line_noise,
            echo: self.echo,
            interruptible: false,
            farewell,
        };
        match call::hold(plan, Timeline::Mute, &self.network).await {
            Ok(outcome) => Attempt {
                kind,
                set_up: Some(outcome.set_up),
                failure: report::failure(&outcome, hold),
                remark: None,
                outcome: Some(outcome),
            },
            Err(error) => Attempt::bad(kind, error.kind()),
        }
    }
}

impl Attempt {
    fn good(kind: CallKind, dialled: Instant) -> Self {
        Self {
            kind,
            set_up: Some(dialled.elapsed()),
            failure: None,
            remark: None,
            outcome: None,
        }
    }

    fn bad(kind: CallKind, failure: String) -> Self {
        Self {
            kind,
            set_up: None,
            failure: Some(failure),
            remark: None,
            outcome: None,
        }
    }
}

impl Mix {
    /// The kind of the call with this number: in every run of as many calls as the weights' sum, each kind as often as its weight says.
    fn kind(&self, index: u32) -> CallKind {
        let kinds = [
            (CallKind::Answered, self.answered),
            (CallKind::Refused, self.refused),
            (CallKind::Cancelled, self.cancelled),
            (CallKind::Vanished, self.vanished),
        ];
        let sum: u32 = kinds.iter().map(|(_, weight)| weight).sum();
        let mut place = index % sum;
        for (kind, weight) in kinds {
            if place < weight {
                return kind;
            }
            place -= weight;
        }
        CallKind::Answered
    }
}

/// The target with another user, who by WHIP is the last part of the path: another route.
fn dialling(target: &Target, user: Option<&str>) -> Target {
    let mut target = target.clone();
    match (&mut target, user) {
        (Target::Sip(uri), Some(user)) => uri.auth = Some(user.into()),
        (Target::Whip(url), Some(user)) => {
            if let Ok(mut path) = url.path_segments_mut() {
                path.pop_if_empty().pop().push(user);
            }
        }
        (Target::Twilio(_), _) | (_, None) => {}
    }
    target
}

/// Waits until nothing of any call is left, or this long.
async fn settle(admin: &Admin, within: Option<Duration>) -> Result<Settled> {
    let start = Instant::now();
    loop {
        let scrape = admin
            .scrape()
            .await
            .context("the gateway's metrics cannot be read any more")?;
        let left = scrape.sum(ALIVE);
        let waited = start.elapsed();
        if left.is_none_or(|left| left <= 0.0) || waited >= within.unwrap_or_default() {
            return Ok(Settled {
                took: waited,
                left,
                resident: scrape.sum(report::RESIDENT),
            });
        }
        sleep(SETTLE_INTERVAL).await;
    }
}

impl LoadScenario {
    /// When, since the start, all calls are up: from and to. `None` if that is too short to measure in.
    fn window(&self) -> Option<(Duration, Duration)> {
        // Calls of several kinds, or in two parts, are never all up.
        if self.mix.is_some() || self.warm_up > 0.0 {
            return None;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_has_its_kinds_by_their_weights() {
        let mix: Mix = toml::from_str("answered = 3\ncancelled = 1\nvanished = 2").expect("a mix");
        let mut counts = std::collections::BTreeMap::new();
        for index in 0..600 {
            *counts.entry(mix.kind(index).name()).or_insert(0) += 1;
        }
        let counts: Vec<_> = counts.into_iter().collect();
        assert_eq!(
            counts,
            [("answered", 300), ("cancelled", 100), ("vanished", 200)]
        );
    }

    #[test]
    fn another_user_is_dialled_at_the_same_place() {
        let target: Target = "sip:1000@192.0.2.1:5080;transport=tcp"
            .parse()
            .expect("a target");
        assert_eq!(
            dialling(&target, Some("nobody")).to_string(),
            "sip:nobody@192.0.2.1:5080;transport=TCP"
        );
        let target: Target = "https://192.0.2.1/voice/whip/demo?customer=7"
            .parse()
            .expect("a target");
        assert_eq!(
            dialling(&target, Some("nobody")).to_string(),
            "https://192.0.2.1/voice/whip/nobody?customer=7"
        );
    }
}
