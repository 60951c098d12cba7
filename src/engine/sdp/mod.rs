//! SDP (RFC 8866) as telephones write it, and offer/answer (RFC 3264) for a leg with one audio stream.
//!
//! Reading is lenient, writing is strict. A [`Description`](description::Description) is what was written, as far as
//! anybody here reads it: its media lines in their order, their formats, addresses and attributes. It has no opinion.
//! Opinions are in two functions and their reverse: [`answer`](answer::answer) takes a peer's offer,
//! [`offer`](offer::offer) writes ours and [`accept`](offer::accept) takes the answer to it. All three are given a
//! [`Local`](local::Local), what we can do and have agreed so far, and end in one
//! [`Agreement`](agreement::Agreement), from which the RTP session is set up, or in one
//! [`Refusal`](agreement::Refusal), which becomes a 488.
//!
//! Rules that span the files:
//!
//! - **One struct, one line.** A media line of ours is written by `line` from what was agreed and from nothing else, so
//!   a number in `m=` and its `rtpmap` cannot disagree. An answer names exactly one codec, and telephone-event at that
//!   codec's clock if it was offered there.
//! - **The offerer's order decides** among the codecs that we allow, until one is in use: then that one stays for as long
//!   as it is offered.
//! - **Same in, same out.** Nothing here is random or remembered, so answering a repeated offer repeats the answer, with
//!   the same keys; [`Local::number`](local::Local::number) raises the version in `o=` only when something else changed.
//! - **Every media line is answered**, in its place; what we do not want gets port 0.
//! - Ignored, knowingly: ICE and its candidates, capability negotiation (RFC 5939), bundling, bandwidth, and any line or
//!   attribute that we do not know.

pub mod description;
pub mod local;

pub mod agreement;
pub mod answer;
pub mod offer;

mod stream;

mod address;
mod payload;

mod crypto;
mod dtls;
mod keying;

mod line;

#[cfg(test)]
mod tests;
