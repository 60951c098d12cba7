//! Tandem.

#[cfg(feature = "local-agent")]
pub mod local_agent;
