//! Being a SIP telephone: INVITE to BYE over UDP or TCP by `rsipstack`, PCMU or PCMA over our own RTP, keys as RFC 4733 events.
//!
//! All calls of a process share one [`Phones`], which has one socket for signalling per local address; each call has a socket of its own
//! for RTP, and no task: the loop that turns the call turns its line too.

mod line;
mod phone;
mod rtp;
mod sdp;

pub(crate) use line::Cancelled;
pub(crate) use line::SipLine;
pub(crate) use phone::Phones;
