//! Being a browser: an offer by WHIP (RFC 9725), ICE, DTLS and SRTP by `rtc`, events by data channel, keys as RFC 4733 events.
//!
//! `rtc` is the protocol without sockets and clocks. Each call has a socket of its own and no task: the loop that turns the call turns
//! its connection too, which makes a call cheap, and a caller who vanishes is nothing more than a connection that is not turned any
//! longer. What is measured is a good client on a good machine: it checks its candidates in steps of 20 ms where browsers take 50.

mod answer;
mod codec;
mod line;
mod peer;
mod session;

pub(crate) use codec::Codec;
pub(crate) use line::WhipLine;
pub(crate) use peer::Identity;
