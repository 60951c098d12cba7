//! Turn-taking with real sockets and real speech, on every ingress: `tandem-load` calls `tandem serve`, which speaks to
//! `tandem agent`, each a process of its own. What the issue asks is asked of the caller's ear, of what the agent understood
//! and of the gateway's metrics.
//!
//! Each test makes its calls on all ingress kinds at the same time and names those on which something was not as it should
//! be. Real time is real here: limits on time are far from what a machine with nothing else to do takes, and the figures that
//! matter are printed (`cargo nextest run --test e2e_spoken --no-capture`).
#![cfg(feature = "local-agent")]

#[path = "../too_busy/mod.rs"]
mod too_busy;

mod world;

mod recorder;

mod account;
mod sound;

mod barge_in;
mod cough;
mod echo;
mod latency;
mod restart;
mod straight_on;
