//! Who may speak, and where we send: the address in SDP, or the one that packets really come from.
//!
//! A telephone behind NAT announces an address nobody can reach, so the first valid packet within a learning window may
//! come from elsewhere and is then answered there (symmetric RTP, RFC 4961). What is open to a telephone is open to a
//! stranger too, so the window is short, one lock ends it, and the address in SDP always takes over from a learnt one
//! within it. Afterwards only a re-INVITE moves the source.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

/// The lock on one source.
#[derive(Debug)]
pub struct Source {
    /// As SDP has it; `None` when it named none (`0.0.0.0`, a name, port 0).
    signalled: Option<SocketAddr>,
    /// Where packets come from.
    locked: Option<SocketAddr>,
    /// Where they came from before SDP moved the address: still heard in the window, and kept after it if nobody else
    /// was, since a new private address may stand behind the same public one.
    former: Option<SocketAddr>,
    /// How long a window stays open; zero never learns.
    learning: Duration,
    window_ends: Instant,
}

impl Source {
    /// Expects packets from `signalled`, and for `learning` from anywhere. With `learning` zero it is strict: the
    /// address in SDP or nobody.
    pub fn new(signalled: Option<SocketAddr>, learning: Duration, now: Instant) -> Self {
        Self {
            signalled,
            locked: None,
            former: None,
            learning,
            window_ends: window_end(learning, now),
        }
    }

    /// Whether a packet from there would be heard now: to be asked before a packet is worked on.
    pub fn may_speak(&self, from: SocketAddr, now: Instant) -> bool {
        if self.signalled == Some(from) {
            // Once another is locked, SDP's address takes over in the window only.
            return self.locked.is_none_or(|locked| locked == from) || self.is_learning(now);
        }
        match self.locked {
            Some(locked) => locked == from,
            None => self.is_learning(now) || self.former == Some(from),
        }
    }

    /// Takes note of a *valid* packet (with SRTP: authenticated) and says whether it is heard.
    pub fn admit(&mut self, from: SocketAddr, now: Instant) -> bool {
        if !self.may_speak(from, now) {
            return false;
        }
        let is_last_of_former = self.former == Some(from) && self.is_learning(now);
        if self.signalled == Some(from) || !is_last_of_former {
            self.locked = Some(from);
            self.former = None;
        }
        true
    }

    /// The address of a new SDP. If it differs, a new window opens; if not, what was learnt stays. An SDP without an
    /// address (the old way to hold, RFC 3264 §8.4) moves nothing: it must not let strangers in.
    pub fn signal(&mut self, signalled: Option<SocketAddr>, now: Instant) {
        if signalled.is_none() || self.signalled == signalled {
            return;
        }
        self.former = self.locked.take().or(self.former);
        self.signalled = signalled;
        self.window_ends = window_end(self.learning, now);
        if self.learning.is_zero() {
            self.former = None;
        }
    }

    /// Where to send.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.locked.or(self.signalled)
    }

    /// Where packets come from, once one has.
    pub const fn locked(&self) -> Option<SocketAddr> {
        self.locked
    }

    fn is_learning(&self, now: Instant) -> bool {
        now < self.window_ends
    }
}

/// A window so long that time cannot hold it is cut to a day.
fn window_end(learning: Duration, now: Instant) -> Instant {
    now + learning.min(Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rtp::testing::noon;

    const LEARNING: Duration = Duration::from_secs(5);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_signalled_address_speaks_and_locks_out_all_others() {
        let now = noon();
        let mut source = Source::new(Some(phone()), LEARNING, now);
        assert_eq!(source.destination(), Some(phone()));
        assert!(source.admit(phone(), now));
        assert!(!source.admit(stranger(), now));
        assert!(source.admit(phone(), now + 60 * SECOND));
        assert_eq!(source.destination(), Some(phone()));
    }

    #[test]
    fn a_telephone_behind_nat_is_answered_where_it_speaks_from() {
        let now = noon();
        let mut source = Source::new(Some(phone()), LEARNING, now);
        assert!(source.admit(nat(), now + SECOND));
        assert_eq!(source.destination(), Some(nat()));
        assert!(!source.admit(stranger(), now + SECOND));
        // After the window not even SDP's address takes over.
        assert!(!source.admit(phone(), now + 6 * SECOND));
        assert!(source.admit(nat(), now + 6 * SECOND));
    }

    #[test]
    fn a_stranger_who_was_first_gives_way_to_the_signalled_address() {
        let now = noon();
        let mut source = Source::new(Some(phone()), LEARNING, now);
        assert!(source.admit(stranger(), now));
        assert!(source.admit(phone(), now + SECOND));
        assert!(!source.admit(stranger(), now + SECOND));
        assert_eq!(source.destination(), Some(phone()));
    }

    #[test]
    fn after_the_window_only_the_signalled_address_may_begin() {
        let now = noon();
        let mut source = Source::new(Some(phone()), LEARNING, now);
        assert!(!source.admit(nat(), now + LEARNING));
        assert!(source.admit(phone(), now + LEARNING));
    }

    #[test]
    fn strict_learns_nothing() {
        let now = noon();
        let mut source = Source::new(Some(phone()), Duration::ZERO, now);
        assert!(!source.admit(nat(), now));
        assert!(source.admit(phone(), now));
        source.signal(Some(new_phone()), now);
        assert!(!source.admit(phone(), now));
        assert!(source.admit(new_phone(), now));
    }

    #[test]
    fn sdp_that_moves_the_address_opens_a_new_window() {
        let now = noon();
        let mut source = Source::new(Some(phone()), LEARNING, now);
        assert!(source.admit(phone(), now));
        let moved = now + 60 * SECOND;
        source.signal(Some(new_phone()), moved);
        assert_eq!(source.destination(), Some(new_phone()));
        // The last packets of the old address are heard and move nothing.
        assert!(source.admit(phone(), moved));
        assert_eq!(source.destination(), Some(new_phone()));
        assert!(source.admit(nat(), moved + SECOND));
        assert_eq!(source.destination(), Some(nat()));
        assert!(!source.admit(phone(), moved + SECOND));
    }

    #[test]
    fn the_same_address_again_keeps_what_was_learnt() {
        let now = noon();
        let mut source = Source::new(Some(phone()), LEARNING, now);
        assert!(source.admit(nat(), now));
        source.signal(Some(phone()), now + 60 * SECOND);
        assert_eq!(source.destination(), Some(nat()));
        assert!(!source.admit(stranger(), now + 60 * SECOND));
    }

    #[test]
    fn a_hold_without_an_address_lets_nobody_else_in() {
        let now = noon();
        let mut source = Source::new(Some(phone()), LEARNING, now);
        assert!(source.admit(nat(), now));
        source.signal(None, now + 60 * SECOND);
        assert!(!source.admit(stranger(), now + 60 * SECOND));
        source.signal(Some(phone()), now + 90 * SECOND);
        assert!(!source.admit(stranger(), now + 90 * SECOND));
        assert_eq!(source.destination(), Some(nat()));
    }

    #[test]
    fn a_new_private_address_behind_the_same_public_one_is_still_heard_after_the_window() {
        let now = noon();
        let mut source = Source::new(Some(phone()), LEARNING, now);
        assert!(source.admit(nat(), now));
        source.signal(Some(new_phone()), now + SECOND);
        assert!(source.admit(nat(), now + 2 * SECOND));
        assert!(source.admit(nat(), now + 10 * SECOND));
        assert_eq!(source.destination(), Some(nat()));
        assert!(!source.admit(stranger(), now + 10 * SECOND));
    }

    fn phone() -> SocketAddr {
        "192.0.2.1:4000".parse().expect("an address")
    }

    fn new_phone() -> SocketAddr {
        "192.0.2.1:5000".parse().expect("an address")
    }

    fn nat() -> SocketAddr {
        "198.51.100.7:61234".parse().expect("an address")
    }

    fn stranger() -> SocketAddr {
        "203.0.113.66:9".parse().expect("an address")
    }
}
