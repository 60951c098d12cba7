//! Sound as numbers. Nothing here knows what a call is.
//!
//! Inside the engine audio is 16-bit linear PCM, mono, at the leg's rate. Codecs translate at the two ends: at the
//! leg (what the telephone speaks) and at the backend (what the agent hears and speaks).

pub mod alignment;
pub mod chime;
pub mod codec;
pub mod digit;
pub mod frame;
pub mod resample;
pub mod ring;
pub mod tones;
pub mod vad;
pub mod wav;

#[cfg(test)]
pub(crate) mod testing;
