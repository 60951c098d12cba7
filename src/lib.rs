//! Tandem: a real-time voice gateway between callers and conversational agents.
//!
//! A call comes in by an *ingress*, its voice goes to an *agent* over one bidirectional stream per turn, and the agent's
//! voice comes back, to be interrupted at any moment:
//!
//! ```text
//!            ┌──────────── io: sockets, tasks, clocks ────────────┐
//!  caller ──▶ ingress ──leg (two rings)──▶ driver ──turns──▶ backend ──gRPC──▶ agent
//!            └───────────────────────────────│──────────────────────────────────────┘
//!                                            ▼ events, samples, now
//!                                  engine: decides everything, waits for nothing
//! ```
//!
//! - [`engine`] is pure: a call is a state machine over a given `now`, tested in virtual time.
//! - [`io`] is the world: ingresses and backends are adapters, and one [`io::driver`] loop turns each call.
//! - [`config`] is the only module that knows TOML and the environment.
//! - `local_agent` is a real Dialogflow CX server in the same binary, so that a spoken conversation needs no cloud. The
//!   gateway reaches it over gRPC like any other agent and names nothing of it.
//!
//! Who may name whom is checked by `tests/layering.rs`; what the engine may not touch, by clippy.

#[macro_use]
mod labels;

pub mod config;
pub mod engine;
pub mod io;
#[cfg(feature = "local-agent")]
pub mod local_agent;
