//! Tandem: a real-time voice gateway between callers and conversational agents.

pub mod config;
pub mod engine;
pub mod io;
