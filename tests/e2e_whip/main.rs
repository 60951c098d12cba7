//! The WHIP ingress over real sockets: callers are browsers as far as the crate `webrtc` is one, or a few datagrams by hand
//! where only those show the point, and a fake [`Exchange`] hands the legs to the test, which plays the call.
//!
//! [`Exchange`]: tandem::io::ingress::Exchange

mod caller;
mod nat;
#[path = "../e2e_sip/sound.rs"]
mod sound;
mod visitor;
mod world;

mod calls;
mod doors;
mod endings;
mod events;
mod restarts;
mod strangers;
