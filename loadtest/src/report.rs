//! The report of a load: the calls as their callers saw them, what they cost the gateway, and which goals were missed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::call::Ending;
use crate::call::Outcome;
use crate::far_end;
use crate::goals;
use crate::load::CallKind;
use crate::load::Readings;
use crate::load::Results;
use crate::load::Settled;
use crate::mulaw;
use crate::playout::RtpTally;
use crate::scenario::LoadScenario;
use crate::scrape::Scrape;
use crate::stats::ms;
use crate::stats::spread;

const CPU: &str = "process_cpu_seconds_total";
/// What the gateway's process holds.
pub(crate) const RESIDENT: &str = "process_resident_memory_bytes";
const LATENESS: &str = "tandem_tick_lateness_seconds";
const UNHEARD: &str = "tandem_caller_audio_unheard_seconds_total";
const CALLS: &str = "tandem_calls_total";

/// What the load came to, as numbers.
#[derive(Debug)]
pub(crate) struct Report {
    asked: u32,
    hold: Duration,
    took: Duration,
    own_cpu: Duration,
    /// Calls that did not go as they should, by kind.
    failures: BTreeMap<String, usize>,
    kinds: BTreeMap<CallKind, Kind>,
    /// Calls begun per second, over the time in which calls were begun.
    set_ups_per_second: f64,
    remarks: BTreeMap<&'static str, usize>,
    first_words: Vec<Duration>,
    frames_sent: u64,
    frames_received: u64,
    messages: u64,
    underruns: Vec<Duration>,
    deepest: Duration,
    round_trips: Vec<Duration>,
    rtp: Option<RtpTally>,
    gateway: Option<Cost>,
    warmed_up: Option<Settled>,
    settled: Option<Settled>,
    /// It was to settle.
    must_settle: bool,
}

/// How the calls of one kind went.
#[derive(Debug, Default)]
struct Kind {
    attempted: usize,
    otherwise: usize,
    set_ups: Vec<Duration>,
}

/// What the load was to the gateway, by its own account.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// Percent of one core per call, while all were up.
    cpu_percent_per_call: Option<f64>,
    resident_per_call: Option<f64>,
    /// Seconds; infinite if beyond the last bucket.
    lateness: Option<f64>,
    unheard: Option<f64>,
    end_reasons: BTreeMap<String, f64>,
}

impl Report {
    /// Adds up.
    pub(crate) fn new(scenario: &LoadScenario, results: &Results) -> Self {
        let Results {
            attempts,
            readings,
            own_cpu,
            took,
            beginning,
            warmed_up,
            settled,
        } = results;
        let mut failures = BTreeMap::new();
        let mut remarks = BTreeMap::new();
        let mut kinds = BTreeMap::<CallKind, Kind>::new();
        for attempt in attempts {
            let kind = kinds.entry(attempt.kind).or_default();
            kind.attempted += 1;
            kind.set_ups.extend(attempt.set_up);
            if let Some(failure) = &attempt.failure {
                kind.otherwise += 1;
                *failures.entry(failure.clone()).or_default() += 1;
            }
            if let Some(remark) = attempt.remark {
                *remarks.entry(remark).or_default() += 1;
            }
        }
        let outcomes: Vec<&Outcome> = attempts
            .iter()
            .filter_map(|attempt| attempt.outcome.as_ref())
            .collect();
        let mut rtp = None;
        for tally in outcomes.iter().filter_map(|outcome| outcome.rtp.as_ref()) {
            rtp.get_or_insert_with(RtpTally::default).add(tally);
        }
        let frames = |samples: u64| samples / mulaw::FRAME as u64;
        Self {
            asked: scenario.calls,
            hold: scenario.hold,
            took: *took,
            own_cpu: *own_cpu,
            failures,
            kinds,
            set_ups_per_second: attempts.len() as f64 / beginning.as_secs_f64().max(0.001),
            remarks,
            first_words: outcomes
                .iter()
                .filter_map(|outcome| outcome.tally.first_voice)
                .collect(),
            frames_sent: outcomes
                .iter()
                .map(|outcome| outcome.tally.frames_sent)
                .sum(),
            frames_received: frames(
                outcomes
                    .iter()
                    .map(|outcome| outcome.far_end.received)
                    .sum(),
            ),
            messages: outcomes
                .iter()
                .map(|outcome| outcome.far_end.messages)
                .sum(),
            underruns: outcomes
                .iter()
                .flat_map(|outcome| outcome.far_end.underruns.iter().copied())
                .collect(),
            deepest: outcomes
                .iter()
                .map(|outcome| far_end::length(outcome.far_end.deepest))
                .max()
                .unwrap_or_default(),
            round_trips: outcomes
                .iter()
                .flat_map(|outcome| outcome.tally.round_trips.iter().copied())
                .collect(),
            rtp,
            gateway: readings
                .as_ref()
                .map(|readings| cost(readings, outcomes.len())),
            warmed_up: *warmed_up,
            settled: *settled,
            must_settle: scenario.settle.is_some(),
        }
    }

    /// The goals that were missed, as sentences.
    pub(crate) fn missed(&self, scenario: &LoadScenario) -> Vec<String> {
        let goal = &scenario.goal;
        let mut missed = Vec::new();
        let failed: usize = self.failures.values().sum();
        if failed > goal.failed_calls_at_most {
            missed.push(format!(
                "{failed} of {} calls failed, {} may",
                self.asked, goal.failed_calls_at_most
            ));
        }
        for (when, settled) in [
            ("after the warm-up", self.warmed_up),
            ("at the end", self.settled),
        ] {
            match settled {
                Some(Settled {
                    left: Some(0.0), ..
                })
                | None => {}
                Some(_) if !self.must_settle => {}
                Some(Settled { left: None, .. }) => {
                    missed.push(format!("objects alive {when}: not known"));
                }
                Some(Settled {
                    left: Some(left),
                    took,
                    ..
                }) => missed.push(format!(
                    "{left} objects were still alive {when}, after {:.0} s",
                    took.as_secs_f64()
                )),
            }
        }
        let cost = self.gateway.as_ref();
        let lateness = goal.tick_lateness_at_most.map(|most| most.as_secs_f64());
        for (what, value, most) in [
            (
                "underruns per 1000 frames",
                Some(self.underruns_per_1000()),
                goal.underruns_per_1000_frames_at_most,
            ),
            (
                "unheard seconds",
                cost.and_then(|cost| cost.unheard),
                goal.unheard_seconds_at_most,
            ),
            (
                "tick lateness p99.9 in seconds",
                cost.and_then(|cost| cost.lateness),
                lateness,
            ),
            (
                "resident memory as a multiple of what it was after the warm-up",
                self.resident_ratio(),
                goal.resident_ratio_at_most,
            ),
            (
                "percent of a core per call",
                cost.and_then(|cost| cost.cpu_percent_per_call),
                goal.cpu_percent_per_call_at_most,
            ),
        ] {
            match (value, most) {
                (_, None) => {}
                (Some(value), Some(most)) if value <= most => {}
                (Some(value), Some(most)) => {
                    missed.push(format!("{what}: {value:.3}, {most} at most was the goal"));
                }
                (None, Some(_)) => missed.push(format!("{what}: not known")),
            }
        }
        missed
    }

    /// The report to read.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<26}{value}");
        };
        let failed: usize = self.failures.values().sum();
        line(
            "calls",
            format!(
                "{} of {} as they should be",
                self.asked as usize - failed,
                self.asked
            ),
        );
        for (kind, count) in &self.failures {
            line("", format!("{count} × {kind}"));
        }
        for (remark, count) in &self.remarks {
            line("", format!("{count} × {remark}"));
        }
        for (kind, figures) in &self.kinds {
            line(
                kind.name(),
                format!(
                    "{} attempted, {} as expected, {} otherwise; set-up {}",
                    figures.attempted,
                    figures.attempted - figures.otherwise,
                    figures.otherwise,
                    spread(&figures.set_ups)
                ),
            );
        }
        line(
            "set-ups begun",
            format!("{:.1} per second", self.set_ups_per_second),
        );
        line("first word after start", spread(&self.first_words));
        let received = far_end::length(mulaw::FRAME * self.frames_received as usize).as_secs_f64();
        line("frames sent", self.frames_sent.to_string());
        line(
            "frames received",
            format!(
                "{} ({received:.0} s) in {} messages",
                self.frames_received, self.messages
            ),
        );
        let missing: Duration = self.underruns.iter().sum();
        line(
            "late, buffer starved",
            format!(
                "{} ({:.2} per 1000 frames), {} of silence",
                self.underruns.len(),
                self.underruns_per_1000(),
                ms(missing)
            ),
        );
        line("lateness of those", spread(&self.underruns));
        line("furthest ahead", ms(self.deepest));
        if let Some(rtp) = &self.rtp {
            line("agents' RTP", rtp.describe());
        }
        if !self.round_trips.is_empty() {
            line("round trip of our tone", spread(&self.round_trips));
        }
        if let Some(cost) = &self.gateway {
            let known = |value: Option<f64>, unit: &str, digits: usize| match value {
                Some(value) => format!("{value:.digits$} {unit}"),
                None => "not known".to_owned(),
            };
            line(
                "gateway CPU per call",
                known(cost.cpu_percent_per_call, "% of a core", 3),
            );
            line(
                "gateway memory per call",
                known(cost.resident_per_call.map(|bytes| bytes / 1024.0), "KiB", 0),
            );
            line(
                "tick lateness p99.9",
                known(
                    cost.lateness.map(|seconds| seconds * 1000.0),
                    "ms at most",
                    1,
                ),
            );
            line("caller audio unheard", known(cost.unheard, "s", 3));
            for (reason, count) in &cost.end_reasons {
                line("ended by the gateway's word", format!("{count} × {reason}"));
            }
        }
        for (name, settled) in [
            ("left after the warm-up", self.warmed_up),
            ("left at the end", self.settled),
        ] {
            let Some(settled) = settled else { continue };
            let left = settled
                .left
                .map_or("not known".to_owned(), |left| format!("{left} objects"));
            let resident = settled.resident.map_or("–".to_owned(), |bytes| {
                format!("{:.1} MiB", bytes / 1024.0 / 1024.0)
            });
            let waited = settled.took.as_secs_f64();
            line(
                name,
                format!("{left} after {waited:.1} s, {resident} resident"),
            );
        }
        if let Some(ratio) = self.resident_ratio() {
            line("memory since the warm-up", format!("× {ratio:.3}"));
        }
        let share = self.own_cpu.as_secs_f64() / self.took.as_secs_f64().max(0.001);
        line(
            "this program's own CPU",
            format!(
                "{:.1} s, {:.0} % of a core",
                self.own_cpu.as_secs_f64(),
                share * 100.0
            ),
        );
        line(
            "took",
            format!(
                "{:.1} s, each call held {:.1} s",
                self.took.as_secs_f64(),
                self.hold.as_secs_f64()
            ),
        );
        text
    }

    fn resident_ratio(&self) -> Option<f64> {
        Some(self.settled?.resident? / self.warmed_up?.resident?)
    }

    fn underruns_per_1000(&self) -> f64 {
        self.underruns.len() as f64 * 1000.0 / self.frames_received.max(1) as f64
    }
}

/// The kind of a call's failure, if it failed. A call that the gateway ends before its time has failed its caller.
pub(crate) fn failure(outcome: &Outcome, hold: Duration) -> Option<String> {
    if let Some(fault) = goals::faults(outcome).into_iter().next() {
        return Some(fault);
    }
    let early = outcome.lasted < hold && outcome.ending != Ending::HungUp;
    early.then(|| "ended by the gateway before its time".to_owned())
}

fn cost(readings: &Readings, calls: usize) -> Cost {
    let Readings {
        before,
        window,
        after,
    } = readings;
    let per_call = |value: f64| value / calls as f64;
    let growth = |window: &crate::load::Window, name| window.last.growth(&window.first, name);
    let cpu = window.as_ref().filter(|_| calls > 0).and_then(|window| {
        let seconds = growth(window, CPU)?;
        Some(per_call(seconds / window.length.as_secs_f64() * 100.0))
    });
    let resident = |scrape: &Scrape| scrape.growth(before, RESIDENT);
    Cost {
        cpu_percent_per_call: cpu,
        resident_per_call: window
            .as_ref()
            .filter(|_| calls > 0)
            .and_then(|window| resident(&window.last))
            .map(per_call),
        lateness: after.quantile(before, LATENESS, 0.999),
        unheard: after.growth(before, UNHEARD),
        end_reasons: after.growth_by(before, CALLS, "end_reason"),
    }
}

/// How much caller audio the agent did not hear between two readings, in seconds.
pub(crate) fn unheard(before: &Scrape, after: &Scrape) -> Option<f64> {
    after.growth(before, UNHEARD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Window;

    #[test]
    fn costs_are_per_call_and_of_the_time_all_were_up() {
        let scrape = |cpu: f64, resident: f64, ended: u32| {
            Scrape::parse(&format!(
                "{CPU} {cpu}\n{RESIDENT} {resident}\n{CALLS}{{end_reason=\"caller\"}} {ended}\n{UNHEARD} 0\n"
            ))
        };
        let window = Window {
            first: scrape(3.0, 50e6, 0),
            last: scrape(7.0, 60e6, 0),
            length: Duration::from_secs(20),
        };
        let readings = Readings {
            before: scrape(1.0, 40e6, 0),
            window: Some(window),
            after: scrape(8.0, 41e6, 200),
        };
        let expected = Cost {
            cpu_percent_per_call: Some(0.1),
            resident_per_call: Some(100_000.0),
            lateness: None,
            unheard: Some(0.0),
            end_reasons: BTreeMap::from([("caller".to_owned(), 200.0)]),
        };
        assert_eq!(cost(&readings, 200), expected);
    }

    #[test]
    fn without_a_window_a_cost_is_not_guessed() {
        let readings = Readings {
            before: Scrape::default(),
            window: None,
            after: Scrape::default(),
        };
        assert_eq!(cost(&readings, 200), Cost::default());
    }
}
