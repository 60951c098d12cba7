//! Sound as numbers. Nothing here knows what a call is.
//!
//! Inside the engine audio is 16-bit linear PCM, mono, at the leg's rate. Codecs translate at the two ends: at the
//! leg (what the telephone speaks) and at the backend (what the agent hears and speaks).
//!
//! A package of its own, known to the rest as `engine::media`: what touches every sample is optimised in every build, and
//! the compiler sees to it that nothing here names anything outside.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod alignment;
pub mod chime;
pub mod codec;
pub mod digit;
pub mod frame;
pub mod resample;
pub mod ring;
pub mod testing;
pub mod tones;
pub mod vad;
pub mod wav;
