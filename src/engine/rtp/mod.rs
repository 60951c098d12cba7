//! RTP and what goes with it: order and loss, reports, keys, telephone keys pressed, who may speak.
//!
//! [`session`] joins the rest for one call; every other file has one concern and knows nothing of its siblings but the
//! shape of a packet.

pub mod session;

pub mod packet;
pub mod receiver;
pub mod sender;

pub mod events;
pub mod presence;
pub mod rtcp;
pub mod source;

pub mod dtls;
pub mod key;
pub mod srtp;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
