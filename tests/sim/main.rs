//! The simulation: whole calls of the pure engine in virtual time, thousands of them, each from a seed.
//!
//! A scripted caller speaks at all the wrong moments, two networks are bad, and a scripted agent is slow, partial, wrong or
//! dead. Every frame that anybody utters carries its name in its samples ([`watermark`]), so that it is known from outside
//! what was heard, what was understood and what was played. Each run leaves a [`history`], and the [`properties`] judge it.
//!
//! - `TANDEM_SIM_RUNS=1000000` makes that many runs (default 10,000).
//! - `TANDEM_SIM_SEED=4711` repeats the one run of that seed and tells its story.

mod agent;
mod backend;
mod caller;
mod dice;
mod doctored;
mod far_end;
mod history;
mod network;
mod properties;
mod sound;
mod watermark;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Runs when nothing else is asked for.
const RUNS: u64 = 10_000;
/// Complaints that are told in full.
const STORIES: usize = 1;

/// What a run that panics is reported as.
const PANIC: &str = "no run panics";

/// A run that breaks a property.
struct Failure {
    seed: u64,
    property: &'static str,
    complaint: String,
}

#[test]
fn every_property_holds_in_every_run() {
    if let Some(seed) = number("TANDEM_SIM_SEED") {
        let history = world::run(seed);
        println!("{history}");
        let complaints = properties::complaints(&history);
        assert!(complaints.is_empty(), "seed {seed}: {complaints:#?}");
        return;
    }
    let mut failures = run_all(number("TANDEM_SIM_RUNS").unwrap_or(RUNS));
    if failures.is_empty() {
        return;
    }
    failures.sort_by_key(|failure| failure.seed);
    let mut by_property: BTreeMap<&str, Vec<&Failure>> = BTreeMap::new();
    for failure in &failures {
        by_property
            .entry(failure.property)
            .or_default()
            .push(failure);
    }
    let told = failures
        .iter()
        .filter(|failure| failure.property != PANIC)
        .take(STORIES);
    for failure in told {
        println!(
            "The story of seed {}:\n{}",
            failure.seed,
            world::run(failure.seed)
        );
    }
    for (property, failures) in by_property {
        println!("{} runs break \"{property}\":", failures.len());
        for Failure {
            seed, complaint, ..
        } in failures.iter().take(5)
        {
            println!("    {complaint}");
            println!(
                "        TANDEM_SIM_SEED={seed} cargo nextest run --test sim --no-capture every_property"
            );
        }
    }
    panic!("{} complaints", failures.len());
}

/// Makes runs with the seeds from 0 on, on every core; what they break.
fn run_all(runs: u64) -> Vec<Failure> {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= runs {
                            return failures;
                        }
                        let complaints =
                            std::panic::catch_unwind(|| properties::complaints(&world::run(seed)));
                        let complaints =
                            complaints.unwrap_or_else(|_| vec![(PANIC, "see above".to_owned())]);
                        failures.extend(complaints.into_iter().map(|(property, complaint)| {
                            Failure {
                                seed,
                                property,
                                complaint,
                            }
                        }));
                    }
                })
            })
            .collect();
        let found = workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("panics of runs are caught"));
        found.collect()
    })
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .expect("a seed or a number of runs is a number"),
    )
}
