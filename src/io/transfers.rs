//! Callers who leave for someone else by way of their ingress, until it is known that they have arrived.
//!
//! ```text
//! the call ends ──▶ Wanted ──the ingress asks──▶ Dialled ──nobody answers──▶ Failed ──▶ a new call, same session
//!                                                   └── someone did ──▶ forgotten
//! ```
//!
//! The ingress asks only after the call has ended (Twilio: `POST /twilio/action`), and tells how it went by asking again. A
//! caller whom nobody took comes back to the same agent, in the same session, so that the agent knows what was said before.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use uuid::Uuid;

use crate::config::Route;
use crate::engine::call::event::Transfer;

/// Callers who are on their way. Each is small (`LARGEST_METADATA` and a route) and most are gone within a minute; the one
/// that has waited the longest makes room, so that those who are never asked for do not pile up.
const CAPACITY: usize = 4_096;
/// How long the ingress may take to ask where a caller goes, and a caller whom nobody took to be connected again. Both are a
/// matter of seconds.
const SOON: Duration = Duration::from_secs(2 * 60);
/// How long it may ring elsewhere: ten minutes are the most that Twilio lets it.
const RINGING: Duration = Duration::from_secs(15 * 60);
/// The most JSON that goes along, in bytes; more is left out whole. It ends up in headers, which take less.
const LARGEST_METADATA: usize = 4 * 1_024;

/// What a caller comes back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The agent's session.
    pub session: Uuid,
    /// The route of the call that was transferred.
    pub route: Route,
}

/// A caller who is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// What they come back to.
    pub origin: Origin,
    /// Why the transfer failed, in the ingress's word.
    pub reason: String,
}

/// Callers who are on their way, by their ingress's name for the call.
#[derive(Debug, Default)]
pub struct Transfers(HashMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    stage: Stage,
    /// `None` if there is no agent to come back to.
    origin: Option<Origin>,
    until: Instant,
}

#[derive(Debug)]
enum Stage {
    /// The ingress has yet to ask.
    Wanted(Transfer),
    /// It has been told.
    Dialled,
    /// Nobody took the caller.
    Failed(String),
}

impl Transfers {
    /// Remembers where the caller of `external_id` is to be connected, and what they come back to if nobody is there, if
    /// anything; `false` if that cannot be dialled.
    #[must_use]
    pub fn add(
        &mut self,
        external_id: String,
        transfer: Transfer,
        origin: Option<Origin>,
        now: Instant,
    ) -> bool {
        let Some(to) = transfer.dialled() else {
            return false;
        };
        let mut transfer = Transfer { to, ..transfer };
        if transfer.metadata.to_string().len() > LARGEST_METADATA {
            transfer.metadata = Value::Null;
        }
        if self.0.len() >= CAPACITY && !self.0.contains_key(&external_id) {
            self.make_room(now);
        }
        let entry = Entry {
            stage: Stage::Wanted(transfer),
            origin,
            until: now + SOON,
        };
        self.0.insert(external_id, entry);
        true
    }

    /// Where the caller of `external_id` goes, once.
    pub fn take(&mut self, external_id: &str, now: Instant) -> Option<Transfer> {
        let entry = self.fresh(external_id, now)?;
        match std::mem::replace(&mut entry.stage, Stage::Dialled) {
            Stage::Wanted(transfer) => {
                entry.until = now + RINGING;
                Some(transfer)
            }
            other @ (Stage::Dialled | Stage::Failed(_)) => {
                entry.stage = other;
                None
            }
        }
    }

    /// Nobody took the caller of `external_id`, for this reason; whether they can come back to the agent.
    #[must_use]
    pub fn fail(&mut self, external_id: &str, reason: &str, now: Instant) -> bool {
        let Some(entry) = self.fresh(external_id, now) else {
            return false;
        };
        if entry.origin.is_none() {
            self.forget(external_id);
            return false;
        }
        match entry.stage {
            // Nobody has been asked to take them.
            Stage::Wanted(_) => false,
            // A webhook may come twice.
            Stage::Dialled | Stage::Failed(_) => {
                entry.stage = Stage::Failed(reason.to_owned());
                entry.until = now + SOON;
                true
            }
        }
    }

    /// The caller of `external_id` is with someone else, or has gone.
    pub fn forget(&mut self, external_id: &str) {
        self.0.remove(external_id);
    }

    /// The route of the caller of `external_id`, if they are about to come back.
    pub fn route_back(&mut self, external_id: &str, now: Instant) -> Option<Route> {
        let entry = self.fresh(external_id, now)?;
        let origin = entry.origin.as_ref()?;
        matches!(entry.stage, Stage::Failed(_)).then(|| origin.route.clone())
    }

    /// What the caller of `external_id` comes back to, once.
    pub fn come_back(&mut self, external_id: &str, now: Instant) -> Option<Return> {
        self.route_back(external_id, now)?;
        let Entry { stage, origin, .. } = self.0.remove(external_id)?;
        match stage {
            Stage::Failed(reason) => origin.map(|origin| Return { origin, reason }),
            Stage::Wanted(_) | Stage::Dialled => None,
        }
    }

    fn fresh(&mut self, external_id: &str, now: Instant) -> Option<&mut Entry> {
        if self.0.get(external_id)?.until <= now {
            self.0.remove(external_id);
        }
        self.0.get_mut(external_id)
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, entry| now < entry.until);
        if self.0.len() < CAPACITY {
            return;
        }
        let next = self.0.iter().min_by_key(|(_, entry)| entry.until);
        if let Some(id) = next.map(|(id, _)| id.clone()) {
            self.0.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_transfer_is_given_out_once() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        assert!(transfers.add("CA1".into(), to("+15551234567"), origin("a"), now));
        assert_eq!(transfers.take("CA2", now), None);
        assert_eq!(transfers.take("CA1", now), Some(to("+15551234567")));
        assert_eq!(transfers.take("CA1", now), None);
    }

    #[test]
    fn a_caller_whom_nobody_took_comes_back_once_to_where_they_were() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        let origin = origin("a").expect("there is one");
        assert!(transfers.add("CA1".into(), to("1"), Some(origin.clone()), now));
        assert!(!transfers.fail("CA1", "busy", now), "nobody has dialled");
        assert!(transfers.take("CA1", now).is_some());
        assert_eq!(transfers.come_back("CA1", now), None, "nobody has failed");
        assert!(transfers.fail("CA1", "busy", now));
        assert!(transfers.fail("CA1", "busy", now), "told twice");
        assert_eq!(transfers.route_back("CA1", now), Some(origin.route.clone()));
        let back = transfers.come_back("CA1", now).expect("they come back");
        assert_eq!((back.origin, &*back.reason), (origin, "busy"));
        assert_eq!(transfers.come_back("CA1", now), None);
        assert!(!transfers.fail("CA1", "busy", now));
    }

    #[test]
    fn who_has_arrived_does_not_come_back() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        assert!(transfers.add("CA1".into(), to("1"), origin("a"), now));
        assert!(transfers.take("CA1", now).is_some());
        transfers.forget("CA1");
        assert!(!transfers.fail("CA1", "busy", now));
        assert_eq!(transfers.route_back("CA1", now), None);
    }

    #[test]
    fn without_an_agent_nobody_comes_back() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        assert!(transfers.add("CA1".into(), to("1"), None, now));
        assert_eq!(transfers.take("CA1", now), Some(to("1")));
        assert!(!transfers.fail("CA1", "busy", now));
        assert!(transfers.0.is_empty());
    }

    #[test]
    fn nobody_is_waited_for_for_ever() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        assert!(transfers.add("CA1".into(), to("1"), origin("a"), now));
        assert_eq!(transfers.take("CA1", now + SOON), None);
        assert!(transfers.add("CA1".into(), to("1"), origin("a"), now));
        assert!(transfers.take("CA1", now).is_some());
        // Longer than it may ring.
        assert!(!transfers.fail("CA1", "no-answer", now + RINGING));
        assert!(transfers.add("CA1".into(), to("1"), origin("a"), now));
        assert!(transfers.take("CA1", now).is_some());
        assert!(transfers.fail("CA1", "no-answer", now));
        assert_eq!(transfers.come_back("CA1", now + SOON), None);
        assert!(transfers.0.is_empty());
    }

    #[test]
    fn only_what_twilio_dials_is_remembered_and_as_it_is_dialled() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        for elsewhere in ["the front desk", "sip:pbx", "sips:me@here", "*72"] {
            assert!(
                !transfers.add("CA1".into(), to(elsewhere), origin("a"), now),
                "{elsewhere}"
            );
        }
        assert_eq!(transfers.take("CA1", now), None);
        for (written, dialled) in [
            ("tel:+1 (800) 555-1212", "+18005551212"),
            ("SIP:people@pbx", "sip:people@pbx"),
        ] {
            assert!(transfers.add("CA1".into(), to(written), origin("a"), now));
            assert_eq!(transfers.take("CA1", now), Some(to(dialled)));
        }
    }

    #[test]
    fn what_goes_along_is_limited() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        let mut with = |size: usize| {
            let transfer = Transfer {
                metadata: json!({ "a": "x".repeat(size) }),
                ..to("1")
            };
            assert!(transfers.add("CA1".into(), transfer, origin("a"), now));
            transfers.take("CA1", now).expect("it is wanted").metadata
        };
        assert_ne!(with(LARGEST_METADATA - 8), Value::Null);
        assert_eq!(with(LARGEST_METADATA), Value::Null);
    }

    #[test]
    fn the_oldest_make_room() {
        let start = Instant::now();
        let mut transfers = Transfers::default();
        for id in 0..=CAPACITY as u64 {
            let now = start + Duration::from_micros(id);
            assert!(transfers.add(id.to_string(), to("1"), origin("a"), now));
        }
        let now = start + Duration::from_secs(1);
        assert_eq!(transfers.0.len(), CAPACITY);
        assert_eq!(transfers.take("0", now), None);
        assert!(transfers.take("1", now).is_some());
        // Those whose time is over make room before anybody else does.
        let late = now + SOON;
        assert!(transfers.add("late".into(), to("1"), origin("a"), late));
        assert_eq!(transfers.0.len(), 2);
    }

    fn to(number: &str) -> Transfer {
        Transfer {
            to: number.to_owned(),
            metadata: Value::Null,
        }
    }

    fn origin(route: &str) -> Option<Origin> {
        Some(Origin {
            session: Uuid::new_v4(),
            route: Route::every_call(route, "local"),
        })
    }
}
