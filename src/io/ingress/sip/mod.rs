//! SIP and RTP: telephones, PBXs and carriers.

pub mod digest;
pub mod handoff;
pub mod info_dtmf;
pub mod normalise;
pub mod outgoing;
pub mod raw;
pub mod reliable;
pub mod reply;
pub mod session_timer;
