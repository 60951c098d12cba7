//! The world, thin: sockets, clocks, tasks and files. Nothing here decides what a call should do; that is the engine's.
//!
//! - [`leg`] and [`backend`] are the two seams: what an ingress hands over, and what an agent's service looks like.
//! - [`driver`] turns one call: it moves frames and events into the engine and carries out its actions.
//! - [`calls`] knows every call: admission, registry, drain.
//! - [`errands`] fetches clips and runs tools while a call goes on.

pub mod agents;
pub mod backend;
pub mod calls;
pub mod clips;
pub mod clock;
pub mod driver;
pub mod errands;
pub mod http;
pub mod ingress;
pub mod journal;
pub mod leg;
pub mod metrics;
pub mod telemetry;
pub mod tools;
pub mod transfers;
pub mod web;
