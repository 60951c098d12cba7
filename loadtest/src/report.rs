//! The report of a load: the calls as their callers saw them, what they cost the gateway, and which goals were missed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::call::Ending;
use crate::call::Outcome;
use crate::far_end;
use crate::goals;
use crate::load::Readings;
use crate::load::Results;
use crate::mulaw;
use crate::scenario::LoadScenario;
use crate::scrape::Scrape;
use crate::stats::ms;
use crate::stats::spread;

const CPU: &str = "process_cpu_seconds_total";
const RESIDENT: &str = "process_resident_memory_bytes";
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
    set_ups: Vec<Duration>,
    first_words: Vec<Duration>,
    frames_sent: u64,
    frames_received: u64,
    messages: u64,
    underruns: Vec<Duration>,
    deepest: Duration,
    round_trips: Vec<Duration>,
    gateway: Option<Cost>,
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
            outcomes,
            refusals,
            readings,
            own_cpu,
            took,
        } = results;
        let mut failures = BTreeMap::new();
        let kinds = refusals.iter().map(crate::line::SetupError::kind);
        for kind in kinds.chain(
            outcomes
                .iter()
                .filter_map(|outcome| failure(outcome, scenario.hold)),
        ) {
            *failures.entry(kind).or_default() += 1;
        }
        let frames = |samples: u64| samples / mulaw::FRAME as u64;
        Self {
            asked: scenario.calls,
            hold: scenario.hold,
            took: *took,
            own_cpu: *own_cpu,
            failures,
            set_ups: outcomes.iter().map(|outcome| outcome.set_up).collect(),
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
            gateway: readings
                .as_ref()
                .map(|readings| cost(readings, outcomes.len())),
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
        line("set-up", spread(&self.set_ups));
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

    fn underruns_per_1000(&self) -> f64 {
        self.underruns.len() as f64 * 1000.0 / self.frames_received.max(1) as f64
    }
}

/// The kind of a call's failure, if it failed. A call that the gateway ends before its time has failed its caller.
fn failure(outcome: &Outcome, hold: Duration) -> Option<String> {
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
