//! One WebRTC connection, whole and without I/O: what a browser expects on the one port that it sends everything to.
//!
//! ```text
//! datagram ─┬─ STUN ──▶ ice        who may speak to us, and where they are
//!           ├─ DTLS ──▶ rtp::dtls ─┬─ keys ──▶ rtp::session      sound, reports, telephone keys
//!           │                      └─ data ─▶ channels (SCTP)   text to the peer
//!           └─ RTP ───▶ rtp::session
//! ```
//!
//! [`peer`] joins them and is all that the outside uses, with [`description`], which answers a browser's offer. Sound takes
//! the same way as in a call over SIP: what is here is only what a browser has besides.
//!
//! # Decisions
//! - **The protocols are those of `rtc`**: STUN, DTLS, SRTP, SCTP. Its own connection object, and `webrtc` around that, are
//!   left out: they hold a lock around every packet, keep a track and statistics for each source and drop a source that
//!   the description did not name, where our session follows it.
//! - **ICE is lite** (RFC 8445 §2.5): a gateway is where it says it is, so it only answers checks. A full agent would send
//!   checks to whatever addresses an offer names, at whoever's doorstep; it would also answer a nomination only after a check
//!   of its own, which in `rtc` costs half a second. Candidates of the peer are therefore not read at all.

pub mod channels;
pub mod description;
pub mod ice;
pub mod peer;

#[cfg(test)]
mod tests;
