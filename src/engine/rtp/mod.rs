//! RTP and what goes with it: order and loss, reports, keys, telephone keys pressed, who may speak.

pub mod dtls;
pub mod key;
