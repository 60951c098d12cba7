//! Is the peer still there? RTP and RTCP both count as life, so one who mutes, suppresses silence or holds is not taken
//! for one who is gone.

use std::time::Duration;
use std::time::Instant;

/// How long each kind of quiet may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the answer to the first packet.
    pub initial: Duration,
    /// Between packets.
    pub mid_call: Duration,
    /// Between packets while the call is on hold, when many peers send nothing at all.
    pub hold: Duration,
}

/// Which patience ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Nothing ever came.
    Initial,
    /// Packets came, and stopped.
    MidCall,
    /// Nothing came on hold.
    Hold,
}

/// The last sign of life, and what may be expected.
#[derive(Debug)]
pub struct Presence {
    patience: Patience,
    /// When the peer last sent, or when what may be expected of it last changed.
    since: Instant,
    has_been_heard: bool,
    is_held: bool,
    /// The absence since the last packet has been told.
    is_told: bool,
}

impl Presence {
    /// Begins to wait for the first packet.
    pub fn new(patience: Patience, now: Instant) -> Self {
        Self {
            patience,
            since: now,
            has_been_heard: false,
            is_held: false,
            is_told: false,
        }
    }

    /// A valid packet of RTP or RTCP came.
    pub fn alive(&mut self, now: Instant) {
        self.since = now;
        self.has_been_heard = true;
        self.is_told = false;
    }

    /// The call goes on hold or comes back; the quiet so far does not count against the new patience.
    pub fn set_held(&mut self, is_held: bool, now: Instant) {
        if self.is_held != is_held {
            self.is_held = is_held;
            self.since = now;
            self.is_told = false;
        }
    }

    /// Other limits, from now on.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// The last sign of life, or since when another is waited for.
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// When the peer will be taken for absent; `None` if that has been told or never will be.
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_told {
            return None;
        }
        let (patience, _) = self.expected();
        self.since.checked_add(patience)
    }

    /// Tells an absence, once until the next sign of life.
    pub fn absence(&mut self, now: Instant) -> Option<Absence> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.is_told = true;
        Some(self.expected().1)
    }

    fn expected(&self) -> (Duration, Absence) {
        if self.is_held {
            (self.patience.hold, Absence::Hold)
        } else if self.has_been_heard {
            (self.patience.mid_call, Absence::MidCall)
        } else {
            (self.patience.initial, Absence::Initial)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rtp::testing::noon;

    const PATIENCE: Patience = Patience {
        initial: Duration::from_secs(15),
        mid_call: Duration::from_secs(30),
        hold: Duration::from_secs(600),
    };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_peer_who_never_sends_is_absent_after_the_initial_patience() {
        let start = noon();
        let mut presence = Presence::new(PATIENCE, start);
        assert_eq!(presence.deadline(), Some(start + 15 * SECOND));
        assert_eq!(presence.absence(start + 14 * SECOND), None);
        assert_eq!(
            presence.absence(start + 15 * SECOND),
            Some(Absence::Initial)
        );
        // Told once, and no deadline is left to spin on.
        assert_eq!(presence.absence(start + 16 * SECOND), None);
        assert_eq!(presence.deadline(), None);
    }

    #[test]
    fn a_peer_who_falls_silent_is_absent_after_the_patience_of_a_call() {
        let start = noon();
        let mut presence = Presence::new(PATIENCE, start);
        presence.alive(start + 10 * SECOND);
        assert_eq!(presence.absence(start + 39 * SECOND), None);
        assert_eq!(
            presence.absence(start + 40 * SECOND),
            Some(Absence::MidCall)
        );
        presence.alive(start + 41 * SECOND);
        assert_eq!(presence.deadline(), Some(start + 71 * SECOND));
    }

    #[test]
    fn a_hold_longer_than_the_patience_of_a_call_is_not_an_absence() {
        let start = noon();
        let mut presence = Presence::new(PATIENCE, start);
        presence.alive(start + SECOND);
        presence.set_held(true, start + 2 * SECOND);
        assert_eq!(presence.absence(start + 500 * SECOND), None);
        presence.set_held(false, start + 500 * SECOND);
        // The quiet of the hold is forgiven.
        assert_eq!(presence.absence(start + 529 * SECOND), None);
        assert_eq!(
            presence.absence(start + 530 * SECOND),
            Some(Absence::MidCall)
        );
        presence.set_held(true, start + 600 * SECOND);
        assert_eq!(
            presence.absence(start + 1_200 * SECOND),
            Some(Absence::Hold)
        );
    }

    #[test]
    fn patience_without_end_has_no_deadline() {
        let now = noon();
        let endless = Patience {
            initial: Duration::MAX,
            ..PATIENCE
        };
        let mut presence = Presence::new(endless, now);
        assert_eq!(presence.deadline(), None);
        assert_eq!(presence.absence(now + 1_000_000 * SECOND), None);
    }
}
