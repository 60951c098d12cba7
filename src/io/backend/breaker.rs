//! When an endpoint that fails is left alone.
//!
//! While a service is down, every turn would wait for its own timeout before its caller hears anything. So failures are
//! counted; after [`Policy::failures`] in a row the circuit is open, and turns fail at once. After [`Policy::open`] one
//! stream at a time is let through as a probe: if it succeeds the circuit closes, if it fails it stays open as long again.
//!
//! **What counts.** Whatever shows that the endpoint is alive is a success: any message of the server, an end in order, an
//! error of the application. A failure is one of the transport or of quota, and a stream without a message in all its time.
//! Each stream counts once: one that was heard from and breaks later is no failure, and the streams that a broken
//! connection takes with it are one, for they are one event.
//!
//! [`Breaker`] is pure and is told the time; [`Circuit`] is what an agent's streams share, with log and metrics.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use crate::config;
use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::io::metrics;

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; 0: never.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open: Duration,
}

impl Policy {
    /// As configured.
    pub fn new(fallback: &config::Fallback) -> Self {
        Self {
            failures: fallback.breaker_failures,
            open: fallback.breaker_open,
        }
    }
}

/// What became of a stream, as far as it tells whether the endpoint is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint is alive.
    Success,
    /// It did not take the stream, or never answered.
    Failure,
    /// The connection broke under the stream.
    Broken,
    /// Nothing can be told: we gave the stream up, or it never left us.
    Unknown,
}

/// The right to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    began: Instant,
    is_probe: bool,
}

/// The state of one circuit.
#[derive(Debug)]
pub struct Breaker {
    policy: Policy,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Streams pass.
    Closed {
        failures: u32,
        /// When the last of them was.
        last: Option<Instant>,
    },
    /// None passes.
    Open { until: Instant },
    /// One has passed and decides. Should it take longer than the circuit was open, as a silent caller's may, so that
    /// another one tries.
    Probing { since: Instant },
}

impl Breaker {
    /// A closed circuit.
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Closed {
                failures: 0,
                last: None,
            },
        }
    }

    /// Whether it is closed, so that every stream passes.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Lets a stream pass, or not.
    pub fn admit(&mut self, now: Instant) -> Option<Pass> {
        let is_probe = match self.state {
            State::Closed { .. } => false,
            State::Open { until } if now >= until => true,
            State::Probing { since } if now >= since + self.policy.open => true,
            State::Open { .. } | State::Probing { .. } => return None,
        };
        if is_probe {
            self.state = State::Probing { since: now };
        }
        Some(Pass {
            began: now,
            is_probe,
        })
    }

    /// Takes note of what became of a stream. To be told once of each, as soon as it is clear.
    pub fn settle(&mut self, pass: Pass, outcome: Outcome, now: Instant) {
        self.state = match (self.state, outcome) {
            (State::Closed { .. }, Outcome::Success) => Self::new(self.policy).state,
            (State::Closed { failures, last }, Outcome::Failure | Outcome::Broken) => {
                let is_known = outcome == Outcome::Broken && last.is_some_and(|at| pass.began < at);
                if is_known {
                    return;
                }
                self.after_failure(failures.saturating_add(1), now)
            }
            (State::Closed { .. }, Outcome::Unknown) => return,
            // While it is not closed, only probes count: what began before says nothing about now.
            (State::Open { .. } | State::Probing { .. }, _) if !pass.is_probe => return,
            (State::Open { .. } | State::Probing { .. }, Outcome::Success) => {
                Self::new(self.policy).state
            }
            // Another probe has failed since; it knows better.
            (State::Open { .. }, Outcome::Failure | Outcome::Broken | Outcome::Unknown) => return,
            (State::Probing { since }, _) if since != pass.began => return,
            (State::Probing { .. }, Outcome::Failure | Outcome::Broken) => State::Open {
                until: now + self.policy.open,
            },
            (State::Probing { .. }, Outcome::Unknown) => State::Open { until: now },
        };
    }

    fn after_failure(&self, failures: u32, now: Instant) -> State {
        let is_enough = self.policy.failures > 0 && failures >= self.policy.failures;
        match is_enough {
            true => State::Open {
                until: now + self.policy.open,
            },
            false => State::Closed {
                failures,
                last: Some(now),
            },
        }
    }
}

/// The circuit that the streams of one agent share. Its lock is taken when a stream begins and when it is settled, and is
/// never held while anything is waited for.
#[derive(Debug)]
pub struct Circuit {
    agent: Arc<str>,
    breaker: Mutex<Breaker>,
}

impl Circuit {
    /// A closed circuit.
    pub fn new(agent: Arc<str>, policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            agent,
            breaker: Mutex::new(Breaker::new(policy)),
        })
    }

    /// Lets a stream pass.
    ///
    /// # Errors
    /// [`FaultKind::CircuitOpen`].
    pub fn admit(self: &Arc<Self>, now: Instant) -> Result<Permit, Fault> {
        let pass = self.change(|breaker| breaker.admit(now));
        match pass {
            Some(pass) => Ok(Permit {
                circuit: self.clone(),
                unsettled: Some(pass),
            }),
            None => Err(Fault {
                kind: FaultKind::CircuitOpen,
                message: "the endpoint has failed and is left alone for a while".to_owned(),
            }),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let was_closed = breaker.is_closed();
        let result = change(&mut breaker);
        let is_closed = breaker.is_closed();
        // Within the lock, so that the last to be told is the last that was.
        match (was_closed, is_closed) {
            (true, false) => {
                metrics::circuit(&self.agent, true);
                tracing::warn!(agent = &*self.agent, "the endpoint fails; leaving it alone");
            }
            (false, true) => {
                metrics::circuit(&self.agent, false);
                tracing::info!(agent = &*self.agent, "the endpoint is back");
            }
            (true, true) | (false, false) => {}
        }
        result
    }
}

/// A stream's right to run, which it gives back with what became of it; dropped before that, with nothing.
#[derive(Debug)]
pub struct Permit {
    circuit: Arc<Circuit>,
    unsettled: Option<Pass>,
}

impl Permit {
    /// Says what became of the stream; only the first word counts.
    pub fn settle(&mut self, outcome: Outcome, now: Instant) {
        if let Some(pass) = self.unsettled.take() {
            self.circuit
                .change(|breaker| breaker.settle(pass, outcome, now));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.settle(Outcome::Unknown, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN: Duration = Duration::from_secs(10);

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let mut world = World::new(3);
        for outcome in [
            Outcome::Failure,
            Outcome::Broken,
            Outcome::Success,
            Outcome::Failure,
            Outcome::Unknown,
            Outcome::Failure,
        ] {
            world.stream(outcome);
            assert!(world.breaker.is_closed());
        }
        world.stream(Outcome::Failure);
        assert!(!world.breaker.is_closed());
        assert_eq!(world.breaker.admit(world.now), None);
    }

    #[test]
    fn after_its_time_one_stream_at_a_time_tries_and_a_success_closes_it() {
        let mut world = World::open();
        world.pass_time(OPEN - Duration::from_millis(1));
        assert_eq!(world.breaker.admit(world.now), None);
        world.pass_time(Duration::from_millis(1));
        let probe = world.admit();
        assert_eq!(world.breaker.admit(world.now), None, "one at a time");

        world.settle(probe, Outcome::Failure);
        world.pass_time(OPEN - Duration::from_millis(1));
        assert_eq!(world.breaker.admit(world.now), None, "open as long again");
        world.pass_time(Duration::from_millis(1));
        let probe = world.admit();
        world.settle(probe, Outcome::Success);
        assert!(world.breaker.is_closed());
        world.admit();
        world.admit();
    }

    #[test]
    fn a_probe_that_tells_nothing_makes_room_for_the_next() {
        let mut world = World::open();
        world.pass_time(OPEN);
        let given_up = world.admit();
        world.settle(given_up, Outcome::Unknown);
        let silent = world.admit();
        world.pass_time(OPEN);
        let second = world.admit();
        // The silent one's end says nothing any more, but a word from it does.
        world.settle(silent, Outcome::Unknown);
        assert_eq!(world.breaker.admit(world.now), None);
        world.settle(second, Outcome::Failure);
        world.settle(silent, Outcome::Success);
        assert!(world.breaker.is_closed());
    }

    #[test]
    fn streams_from_before_neither_close_it_nor_keep_it_open() {
        let mut world = World::new(1);
        let before = [world.admit(), world.admit(), world.admit()];
        world.stream(Outcome::Failure);
        let until = world.breaker.state;
        let [alive, failed, broken] = before;
        world.settle(alive, Outcome::Success);
        world.settle(failed, Outcome::Failure);
        world.settle(broken, Outcome::Broken);
        assert_eq!(world.breaker.state, until);
    }

    #[test]
    fn the_streams_of_a_broken_connection_are_one_failure_and_those_that_never_got_there_are_many()
    {
        let mut world = World::new(2);
        let streams = [(); 90].map(|()| world.admit());
        world.pass_time(OPEN);
        for stream in streams {
            world.settle(stream, Outcome::Broken);
        }
        assert!(world.breaker.is_closed());
        world.pass_time(OPEN);
        world.stream(Outcome::Broken);
        assert!(!world.breaker.is_closed(), "another connection broke too");

        let mut world = World::new(2);
        let streams = [(); 2].map(|()| world.admit());
        for stream in streams {
            world.settle(stream, Outcome::Failure);
        }
        assert!(!world.breaker.is_closed());
    }

    #[test]
    fn with_no_number_of_failures_it_never_opens() {
        let mut world = World::new(0);
        for _ in 0..100 {
            world.stream(Outcome::Failure);
        }
        assert!(world.breaker.is_closed());
    }

    #[test]
    fn a_permit_counts_once_and_one_that_is_dropped_makes_room() {
        let policy = Policy {
            failures: 1,
            open: Duration::ZERO,
        };
        let circuit = Circuit::new("a".into(), policy);
        let now = Instant::now();
        let mut heard = circuit.admit(now).expect("closed");
        heard.settle(Outcome::Success, now);
        heard.settle(Outcome::Failure, now);
        drop(heard);
        let mut failed = circuit.admit(now).expect("still closed");
        failed.settle(Outcome::Failure, now);
        drop(circuit.admit(now).expect("a probe"));
        let later = Instant::now();
        let _probe = circuit.admit(later).expect("another probe");
    }

    proptest! {
        #[test]
        fn whatever_happens_it_never_stays_shut_for_longer_than_its_time(
            steps in proptest::collection::vec((0..4_u8, 0..8_usize, 0..12_000_u64), 0..200),
        ) {
            let mut world = World::new(2);
            let mut passes = Vec::new();
            for (outcome, which, millis) in steps {
                world.pass_time(Duration::from_millis(millis));
                passes.extend(world.breaker.admit(world.now));
                if !passes.is_empty() {
                    let pass = passes.remove(which % passes.len());
                    let outcome = [
                        Outcome::Success,
                        Outcome::Failure,
                        Outcome::Broken,
                        Outcome::Unknown,
                    ][usize::from(outcome)];
                    world.settle(pass, outcome);
                }
                world.pass_time(OPEN);
                prop_assert!(world.breaker.admit(world.now).is_some());
            }
        }
    }

    struct World {
        now: Instant,
        breaker: Breaker,
    }

    impl World {
        fn new(failures: u32) -> Self {
            Self {
                now: Instant::now(),
                breaker: Breaker::new(Policy {
                    failures,
                    open: OPEN,
                }),
            }
        }

        /// One that has just opened.
        fn open() -> Self {
            let mut world = Self::new(1);
            world.stream(Outcome::Failure);
            world
        }

        fn pass_time(&mut self, time: Duration) {
            self.now += time;
        }

        fn admit(&mut self) -> Pass {
            self.breaker.admit(self.now).expect("let through")
        }

        fn settle(&mut self, pass: Pass, outcome: Outcome) {
            self.breaker.settle(pass, outcome, self.now);
        }

        /// A stream from its beginning to its end.
        fn stream(&mut self, outcome: Outcome) {
            let pass = self.admit();
            self.pass_time(Duration::from_millis(20));
            self.settle(pass, outcome);
        }
    }
}
