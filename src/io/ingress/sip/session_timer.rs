//! Session timers on the side that was called (RFC 4028): a call whose other end has vanished is found and ended, and
//! carriers that insist on a refresh every few minutes get it.
//!
//! [`negotiate`] reads what an INVITE or UPDATE of the peer asks and says what the 2xx must carry. We ask for a timer
//! even where the peer does not, and then refresh ourselves: a peer that knows nothing of timers answers the refresh like
//! any other request, and a peer that is gone does not (RFC 4028 §9 lets a UAS do so).
//!
//! [`SessionTimer`] then says when to refresh, and when to give up. A refresh is an UPDATE where the peer allows it, else
//! a re-INVITE; whichever it is, the caller sends it and reports what came of it.

use std::time::Duration;
use std::time::Instant;

use super::reliable::names_extension;

/// The smallest interval that the protocol knows (RFC 4028 §4).
pub const SMALLEST: Duration = Duration::from_secs(90);

/// A refresh that was refused for a passing reason is tried again after this long.
const RETRY: Duration = Duration::from_secs(10);
/// The call is ended this long before the session expires, or a third of the interval if that is less (RFC 4028 §10).
const BYE_AHEAD: Duration = Duration::from_secs(32);
/// After 491 the side that did not begin the call waits up to this long (RFC 3261 §14.1).
const GLARE: Duration = Duration::from_secs(2);
/// The largest interval that is believed; more is as good as no timer, and keeps arithmetic on `Instant` safe.
const LARGEST: Duration = Duration::from_secs(24 * 3600);

/// What we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The interval we ask for. RFC 4028 §4 recommends 30 minutes. Zero: we ask for no timer, and agree to the peer's.
    pub session_expires: Duration,
    /// The smallest interval that we take; [`SMALLEST`] by the protocol, less only in a laboratory.
    pub min_se: Duration,
}

/// Who refreshes, as it is written in a request or its response: by their roles in that transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who sent the request.
    Uac,
    /// Who answers it.
    Uas,
}

/// A Session-Expires header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// How long the session lives without a refresh.
    pub interval: Duration,
    /// Who refreshes, if it says so.
    pub refresher: Option<Role>,
}

impl SessionExpires {
    /// Reads `1800;refresher=uac`; `None` if that is no number of seconds.
    pub fn read(value: &str) -> Option<Self> {
        let mut parts = value.split(';');
        let interval = seconds(parts.next()?)?;
        let refresher = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("refresher") {
                return None;
            }
            let value = value.trim().trim_matches('"');
            if value.eq_ignore_ascii_case("uac") {
                Some(Role::Uac)
            } else if value.eq_ignore_ascii_case("uas") {
                Some(Role::Uas)
            } else {
                None
            }
        });
        Some(Self {
            interval,
            refresher,
        })
    }

    /// The header's value.
    pub fn write(&self) -> String {
        let seconds = self.interval.as_secs();
        match self.refresher {
            None => seconds.to_string(),
            Some(Role::Uac) => format!("{seconds};refresher=uac"),
            Some(Role::Uas) => format!("{seconds};refresher=uas"),
        }
    }
}

/// The seconds of a Min-SE, or of any value that begins with a number of them.
pub fn seconds(value: &str) -> Option<Duration> {
    let digits = value.split(';').next()?.trim();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a u64 holds are a long time, not an error.
    plain.then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)).min(LARGEST))
}

/// What a request of the peer says about the session's timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its Session-Expires, put there by the peer or by a proxy.
    pub session_expires: Option<SessionExpires>,
    /// Its Min-SE.
    pub min_se: Option<Duration>,
    /// Whether the peer knows timers (Supported or Require names `timer`).
    pub supports_timer: bool,
    /// Whether the peer allows UPDATE.
    pub allows_update: bool,
}

impl Asked {
    /// Reads the headers of a request, given as names (in full) and values.
    pub fn read<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut asked = Self::default();
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("Session-Expires") || name.eq_ignore_ascii_case("x") {
                asked.session_expires = asked.session_expires.or(SessionExpires::read(value));
            } else if name.eq_ignore_ascii_case("Min-SE") {
                asked.min_se = asked.min_se.or(seconds(value));
            } else if name.eq_ignore_ascii_case("Supported")
                || name.eq_ignore_ascii_case("k")
                || name.eq_ignore_ascii_case("Require")
            {
                asked.supports_timer |= names_extension([value], "timer");
            } else if name.eq_ignore_ascii_case("Allow") {
                asked.allows_update |= names_extension([value], "UPDATE");
            }
        }
        asked
    }
}

/// Who refreshes, as we see it for the length of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// We do.
    We,
    /// The peer does, and we watch.
    Peer,
    /// Nobody: there is no timer.
    None,
}

/// What was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long the session lives without a refresh.
    pub interval: Duration,
    /// Who refreshes it.
    pub refresher: Refresher,
    /// Whether our 2xx carries `Require: timer` (RFC 4028 §9).
    pub require_timer: bool,
    /// The smallest interval that anyone on the way takes: the Min-SE of our refreshes, if above [`SMALLEST`].
    pub min_se: Duration,
    /// Whether a refresh can be an UPDATE.
    pub by_update: bool,
}

impl Plan {
    /// The Session-Expires of our 2xx.
    pub fn answer(&self) -> Option<SessionExpires> {
        let refresher = match self.refresher {
            Refresher::We => Role::Uas,
            Refresher::Peer => Role::Uac,
            Refresher::None => return None,
        };
        Some(SessionExpires {
            interval: self.interval,
            refresher: Some(refresher),
        })
    }
}

/// The peer wants to refresh more often than we take: answer 422 with this Min-SE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refuse422 {
    /// The Min-SE of the 422.
    pub min_se: Duration,
}

/// Decides about a request of the peer that begins or refreshes the session (RFC 4028 §9).
///
/// # Errors
/// If the peer's interval is too small and the peer can understand that.
pub fn negotiate(settings: Settings, asked: &Asked) -> Result<Plan, Refuse422> {
    let ours = settings.min_se;
    // What nobody may go below, or refreshes would be a flood.
    let floor = SMALLEST.min(ours);
    let theirs = asked.min_se.unwrap_or(floor).max(floor);
    let (interval, refresher) = match asked.session_expires {
        None if settings.session_expires.is_zero() => (Duration::ZERO, None),
        // A request without an interval leaves it to us, but not below what its Min-SE says.
        None => (settings.session_expires.max(ours).max(theirs), None),
        Some(session) => {
            if session.interval < ours && asked.supports_timer {
                return Err(Refuse422 { min_se: ours });
            }
            // We may shorten what is asked, not below anyone's least, and never lengthen it. Who does not know timers
            // cannot be told that his is too short (some proxy wrote it), so it is taken; but nothing below the floor is.
            let longest = match settings.session_expires {
                Duration::ZERO => session.interval,
                wanted => wanted.max(ours).max(theirs),
            };
            let interval = session.interval.min(longest).max(floor);
            (interval, session.refresher)
        }
    };
    let refresher = match (asked.supports_timer, refresher) {
        _ if interval.is_zero() => Refresher::None,
        (true, Some(Role::Uac)) => Refresher::Peer,
        (true, Some(Role::Uas) | None) | (false, _) => Refresher::We,
    };
    Ok(Plan {
        interval,
        refresher,
        require_timer: asked.supports_timer && refresher != Refresher::None,
        min_se: theirs,
        by_update: asked.allows_update,
    })
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send a refresh, and report what came of it.
    Refresh(Refresh),
    /// Nobody has refreshed the session: send BYE.
    End,
}

/// A refresh to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// As UPDATE, else as re-INVITE.
    pub by_update: bool,
    /// Its Session-Expires.
    pub session_expires: SessionExpires,
    /// Its Min-SE, where a 422 or the peer has raised it (RFC 4028 §7.1).
    pub min_se: Option<Duration>,
}

/// The timer of an established session.
#[derive(Debug)]
pub struct SessionTimer {
    plan: Plan,
    /// When the session expires.
    expires_at: Instant,
    refresh_at: Option<Instant>,
    over: bool,
}

impl SessionTimer {
    /// Starts with the 2xx that carries the plan.
    pub fn new(plan: Plan, now: Instant) -> Self {
        let mut timer = Self {
            plan,
            expires_at: now,
            refresh_at: None,
            over: false,
        };
        timer.restart(now);
        timer
    }

    /// What is agreed at present.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// When [`SessionTimer::poll`] has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        if self.over || self.plan.refresher == Refresher::None {
            return None;
        }
        let end_at = self.end_at();
        Some(
            self.refresh_at
                .map_or(end_at, |refresh_at| refresh_at.min(end_at)),
        )
    }

    /// What is due at `now`. After a refresh nothing more, until its outcome is reported or the session ends.
    pub fn poll(&mut self, now: Instant) -> Option<Due> {
        if self.over || self.plan.refresher == Refresher::None {
            return None;
        }
        if now >= self.end_at() {
            self.over = true;
            return Some(Due::End);
        }
        if self.refresh_at.is_none_or(|at| now < at) {
            return None;
        }
        self.refresh_at = None;
        Some(Due::Refresh(Refresh {
            by_update: self.plan.by_update,
            session_expires: SessionExpires {
                interval: self.plan.interval,
                // In our own request we are the UAC (RFC 4028 §7.4: who refreshes keeps on refreshing).
                refresher: Some(Role::Uac),
            },
            min_se: (self.plan.min_se > SMALLEST).then_some(self.plan.min_se),
        }))
    }

    /// The peer refreshed the session by a request of its own, whose 2xx carries this plan.
    pub fn renegotiated(&mut self, plan: Plan, now: Instant) {
        self.plan = plan;
        self.restart(now);
    }

    /// Our refresh got its 2xx, with this Session-Expires if any. A peer that knows no timers sends none; we go on
    /// refreshing all the same, since only that tells whether it is still there.
    pub fn refreshed(&mut self, session_expires: Option<SessionExpires>, now: Instant) {
        if let Some(session) = session_expires {
            // An answer may shorten the interval, to no less than we asked as the least.
            let least = self.plan.min_se;
            self.plan.interval = session.interval.clamp(least, self.plan.interval.max(least));
            self.plan.refresher = match session.refresher {
                Some(Role::Uas) => Refresher::Peer,
                Some(Role::Uac) | None => Refresher::We,
            };
        }
        self.restart(now);
    }

    /// Our refresh got this status, or none in time (408). `min_se` is the Min-SE of a 422; `random` spreads the second
    /// try after 491.
    ///
    /// Gives [`Due::End`] where the dialog is gone (RFC 3261 §12.2.1.2); otherwise the next try is in the deadline.
    pub fn refresh_failed(
        &mut self,
        status: u16,
        min_se: Option<Duration>,
        random: u32,
        now: Instant,
    ) -> Option<Due> {
        let retry = match status {
            408 | 481 => {
                self.over = true;
                return Some(Due::End);
            }
            422 => {
                let raised = min_se.unwrap_or_default().max(SMALLEST);
                // A 422 that asks for no more than was offered would be answered by the same again, without end.
                let useful = raised > self.plan.interval;
                self.plan.min_se = self.plan.min_se.max(raised);
                self.plan.interval = self.plan.interval.max(raised);
                if useful { Duration::ZERO } else { RETRY }
            }
            // In steps of 10 ms, as RFC 3261 §14.1 has it.
            491 => Duration::from_millis(10) * (random % glare_steps()),
            // UPDATE is not known over there, whatever Allow said.
            405 | 501 if self.plan.by_update => {
                self.plan.by_update = false;
                Duration::ZERO
            }
            _ => RETRY,
        };
        self.refresh_at = Some(now + retry);
        None
    }

    fn restart(&mut self, now: Instant) {
        self.expires_at = now + self.plan.interval;
        self.refresh_at = match self.plan.refresher {
            // RFC 4028 §7.2: once half of the interval has passed.
            Refresher::We => Some(now + self.plan.interval / 2),
            Refresher::Peer | Refresher::None => None,
        };
    }

    /// When the call is ended, unless the session is refreshed before.
    fn end_at(&self) -> Instant {
        self.expires_at - BYE_AHEAD.min(self.plan.interval / 3)
    }
}

/// How many waits there are to choose from after 491.
fn glare_steps() -> u32 {
    u32::try_from(GLARE.as_millis() / 10).unwrap_or(1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        session_expires: seconds_of(1_800),
        min_se: seconds_of(120),
    };

    #[test]
    fn a_call_of_two_hours_is_refreshed_every_fifteen_minutes() {
        let begin = Instant::now();
        let mut timer = SessionTimer::new(plan(&Asked::default()), begin);
        let mut refreshes = Vec::new();
        let end = begin + seconds_of(7_200);
        while let Some(now) = timer.deadline().filter(|now| *now < end) {
            let Some(Due::Refresh(refresh)) = timer.poll(now) else {
                panic!("a refresh is due");
            };
            assert_eq!(refresh.session_expires.write(), "1800;refresher=uac");
            assert!(!refresh.by_update && refresh.min_se.is_none());
            refreshes.push((now - begin).as_secs());
            // The 2xx of a peer that knows no timers, two seconds later.
            timer.refreshed(None, now + seconds_of(2));
        }
        assert_eq!(refreshes, [900, 1_802, 2_704, 3_606, 4_508, 5_410, 6_312]);
    }

    #[test]
    fn a_peer_that_stops_refreshing_ends_the_call_shortly_before_the_session_expires() {
        let begin = Instant::now();
        let asked = asked(&[
            ("Session-Expires", "300;refresher=uac"),
            ("Supported", "timer"),
        ]);
        let mut timer = SessionTimer::new(plan(&asked), begin);
        for minute in [2, 4, 6] {
            let now = begin + seconds_of(minute * 60);
            assert_eq!(timer.poll(now), None);
            timer.renegotiated(plan(&asked), now);
        }
        let end = begin + seconds_of(6 * 60 + 300 - 32);
        assert_eq!(timer.deadline(), Some(end));
        assert_eq!(timer.poll(end - seconds_of(1)), None);
        assert_eq!(timer.poll(end), Some(Due::End));
        assert_eq!(timer.deadline(), None);
        assert_eq!(timer.poll(end + seconds_of(100)), None);
    }

    #[test]
    fn a_refresh_that_is_never_answered_ends_the_call() {
        let begin = Instant::now();
        let mut timer = SessionTimer::new(plan(&Asked::default()), begin);
        assert!(matches!(
            timer.poll(begin + seconds_of(900)),
            Some(Due::Refresh(_))
        ));
        assert_eq!(timer.poll(begin + seconds_of(901)), None, "asked once");
        assert_eq!(timer.deadline(), Some(begin + seconds_of(1_768)));
        assert_eq!(
            timer.refresh_failed(408, None, 0, begin + seconds_of(932)),
            Some(Due::End)
        );
        assert_eq!(timer.deadline(), None);
    }

    #[test]
    fn a_short_session_ends_a_third_ahead() {
        let begin = Instant::now();
        let asked = asked(&[("Session-Expires", "90;refresher=uas")]);
        let mut timer = SessionTimer::new(plan(&asked), begin);
        assert_eq!(timer.deadline(), Some(begin + seconds_of(45)));
        assert!(timer.poll(begin + seconds_of(45)).is_some());
        assert_eq!(timer.deadline(), Some(begin + seconds_of(60)));
    }

    #[test]
    fn the_answer_follows_the_table_of_rfc_4028() {
        // Who asked for what, and what the 2xx says (RFC 4028 §9, table 2).
        for (supported, session_expires, answer, require_timer) in [
            (false, None, "1800;refresher=uas", false),
            (false, Some("600"), "600;refresher=uas", false),
            (false, Some("600;refresher=uac"), "600;refresher=uas", false),
            (true, None, "1800;refresher=uas", true),
            (true, Some("600"), "600;refresher=uas", true),
            (true, Some("600;refresher=uac"), "600;refresher=uac", true),
            (true, Some("600; Refresher=UAS"), "600;refresher=uas", true),
            (true, Some("3600;refresher=uac"), "1800;refresher=uac", true),
            (
                true,
                Some("600;x=y;refresher=who"),
                "600;refresher=uas",
                true,
            ),
            (true, Some("soon"), "1800;refresher=uas", true),
        ] {
            let mut headers = vec![(
                "Supported",
                if supported { "100rel, timer" } else { "100rel" },
            )];
            headers.extend(session_expires.map(|value| ("Session-Expires", value)));
            let plan = plan(&asked(&headers));
            let written = plan.answer().map(|answer| answer.write());
            assert_eq!(written.as_deref(), Some(answer), "{headers:?}");
            assert_eq!(plan.require_timer, require_timer, "{headers:?}");
        }
    }

    #[test]
    fn an_interval_below_our_least_is_refused_to_those_who_understand_it() {
        let short = ("Session-Expires", "100");
        assert_eq!(
            negotiate(SETTINGS, &asked(&[short, ("k", "timer")])),
            Err(Refuse422 {
                min_se: seconds_of(120)
            })
        );
        assert_eq!(plan(&asked(&[short])).interval, seconds_of(100));
        let tiny = asked(&[("x", "1")]);
        assert_eq!(plan(&tiny).interval, SMALLEST, "a flood of refreshes");
    }

    #[test]
    fn the_interval_is_never_below_the_least_of_the_peer() {
        let settings = Settings {
            session_expires: seconds_of(300),
            min_se: SMALLEST,
        };
        for (session_expires, expected) in [(None, 900), (Some("3600"), 900), (Some("900"), 900)] {
            let mut headers = vec![("Min-SE", "900;x=y"), ("Require", "timer")];
            headers.extend(session_expires.map(|value| ("Session-Expires", value)));
            let plan = negotiate(settings, &asked(&headers)).expect("long enough");
            assert_eq!(plan.interval, seconds_of(expected), "{session_expires:?}");
        }
    }

    #[test]
    fn a_422_raises_the_interval_and_is_tried_again_at_once() {
        let begin = Instant::now();
        let mut timer = SessionTimer::new(plan(&Asked::default()), begin);
        let now = begin + seconds_of(900);
        assert!(timer.poll(now).is_some());
        let raised = Some(seconds_of(3_600));
        assert_eq!(timer.refresh_failed(422, raised, 0, now), None);
        let Some(Due::Refresh(refresh)) = timer.poll(now) else {
            panic!("a refresh is due");
        };
        assert_eq!(refresh.session_expires.interval, seconds_of(3_600));
        assert_eq!(refresh.min_se, raised);
        // The same again asks for nothing new: no loop at the speed of the network.
        assert_eq!(timer.refresh_failed(422, raised, 0, now), None);
        assert_eq!(timer.poll(now), None);
        assert_eq!(timer.deadline(), Some(now + RETRY));
    }

    #[test]
    fn glare_waits_up_to_two_seconds_and_other_refusals_ten() {
        let begin = Instant::now();
        let now = begin + seconds_of(900);
        for (status, random, wait_ms) in [
            (491, 0, 0),
            (491, 200, 2_000),
            (491, 201, 0),
            (500, 0, 10_000),
            (488, 0, 10_000),
        ] {
            let mut timer = SessionTimer::new(plan(&Asked::default()), begin);
            assert!(timer.poll(now).is_some());
            assert_eq!(timer.refresh_failed(status, None, random, now), None);
            let at = now + Duration::from_millis(wait_ms);
            assert_eq!(timer.deadline(), Some(at), "{status}");
            assert!(matches!(timer.poll(at), Some(Due::Refresh(_))));
        }
    }

    #[test]
    fn a_peer_without_update_is_refreshed_by_invite() {
        let begin = Instant::now();
        let asked = asked(&[("Allow", "INVITE, ACK, update")]);
        let mut timer = SessionTimer::new(plan(&asked), begin);
        let now = begin + seconds_of(900);
        let by_update = |due| match due {
            Some(Due::Refresh(refresh)) => Some(refresh.by_update),
            Some(Due::End) | None => None,
        };
        assert_eq!(by_update(timer.poll(now)), Some(true));
        assert_eq!(timer.refresh_failed(501, None, 0, now), None);
        assert_eq!(by_update(timer.poll(now)), Some(false));
        // An INVITE that is "not implemented" is no reason to ask again at once.
        assert_eq!(timer.refresh_failed(501, None, 0, now), None);
        assert_eq!(by_update(timer.poll(now)), None);
    }

    #[test]
    fn the_peer_may_take_over_and_shorten() {
        let begin = Instant::now();
        let mut timer = SessionTimer::new(plan(&Asked::default()), begin);
        let now = begin + seconds_of(900);
        assert!(timer.poll(now).is_some());
        timer.refreshed(SessionExpires::read("600;refresher=uas"), now);
        assert_eq!(timer.plan().refresher, Refresher::Peer);
        assert_eq!(timer.deadline(), Some(now + seconds_of(600 - 32)));
        timer.refreshed(SessionExpires::read("1;refresher=uac"), now);
        assert_eq!(timer.plan().interval, SMALLEST);
        assert_eq!(timer.deadline(), Some(now + seconds_of(45)));
    }

    #[test]
    fn without_an_interval_of_our_own_only_the_peer_starts_a_timer() {
        let settings = Settings {
            session_expires: Duration::ZERO,
            min_se: SMALLEST,
        };
        let none = negotiate(settings, &asked(&[("Supported", "timer")])).expect("no timer");
        assert_eq!((none.answer(), none.require_timer), (None, false));
        let mut timer = SessionTimer::new(none, Instant::now());
        assert_eq!(timer.deadline(), None);
        assert_eq!(timer.poll(Instant::now() + LARGEST), None);
        let headers = [("Supported", "timer"), ("Session-Expires", "3600")];
        let theirs = negotiate(settings, &asked(&headers)).expect("long enough");
        assert_eq!(theirs.interval, seconds_of(3_600));
    }

    #[test]
    fn numbers_without_end_are_a_day() {
        assert_eq!(
            SessionExpires::read("99999999999999999999999").map(|s| s.interval),
            Some(LARGEST)
        );
        for bad in ["", "-1", "1.5", "x", ";refresher=uac"] {
            assert_eq!(SessionExpires::read(bad), None, "{bad}");
        }
    }

    const fn seconds_of(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn asked(headers: &[(&str, &str)]) -> Asked {
        Asked::read(headers.iter().copied())
    }

    fn plan(asked: &Asked) -> Plan {
        negotiate(SETTINGS, asked).expect("long enough")
    }
}
