//! The SIP ingress over real sockets: a telephone of a few hundred lines calls, and a fake [`Exchange`] hands the legs to
//! the test, which plays the call by hand. Messages are text, so that broken ones can be sent.
//!
//! [`Exchange`]: tandem::io::ingress::Exchange

mod line;
mod message;
mod phone;
mod sound;
mod world;

mod calls;
mod digest;
mod endings;
mod media;
mod refusals;
mod renegotiation;
mod transfer;
