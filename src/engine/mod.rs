//! The engine: everything Tandem decides, and nothing it does.
//!
//! Events, samples and `now` go in; actions and the next deadline come out. There is no clock, socket, task or lock
//! below this module (`clippy.toml` lists what is denied, `tests/layering.rs` who may name whom), so a whole call can
//! be replayed in virtual time, faster than it happened and always with the same result.
//!
//! - [`media`]: sound as numbers: frames, rings, codecs, resampling, voice activity, WAV.
//! - [`rtp`]: packets in order, reports, keys.
//! - [`sdp`]: what two sides can speak, and what they agree on.
//! - [`webrtc`]: what a browser has besides: checks, keys and text on the port of its sound.
//! - [`destination`]: where callers may be transferred.
//! - [`call`]: the state machine of one call: turns, barge-in, playout, digits, endings.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod call;
pub mod destination;
pub mod rtp;
pub mod sdp;
pub mod webrtc;

pub use tandem_media as media;
