//! Sessions: their names, what is remembered of them, and that one turn at a time changes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tokio::time;
use tonic::Status;

use super::script::Script;
use super::script::phrase::Parameters;

/// Documented length of a session id.
const LONGEST_ID: usize = 36;
/// A client that cancels a turn and opens the next one at once is not at fault when the news of the first is slower.
const GRACE: Duration = Duration::from_millis(300);
const GRACE_STEP: Duration = Duration::from_millis(10);

/// A session name that has the right shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionName {
    pub(super) full: String,
    /// `projects/…/agents/…`: the beginning of the names of pages and intents.
    pub(super) agent: String,
    pub(super) agent_id: String,
}

impl SessionName {
    /// Parses `projects/P/locations/L/agents/A[/environments/E]/sessions/S`.
    pub(super) fn parse(name: &str) -> Result<Self, Status> {
        let parts: Vec<&str> = name.split('/').collect();
        let ([
            "projects",
            _,
            "locations",
            _,
            "agents",
            agent_id,
            "sessions",
            session,
        ]
        | [
            "projects",
            _,
            "locations",
            _,
            "agents",
            agent_id,
            "environments",
            _,
            "sessions",
            session,
        ]) = parts[..]
        else {
            return Err(Status::invalid_argument(
                "session: should be projects/P/locations/L/agents/A[/environments/E]/sessions/S",
            ));
        };
        if parts.iter().any(|part| part.is_empty() || part.len() > 256)
            || session.len() > LONGEST_ID
        {
            return Err(Status::invalid_argument(format!(
                "session: no part may be empty, and the session id has at most {LONGEST_ID} characters"
            )));
        }
        Ok(Self {
            full: name.to_owned(),
            agent: parts[..6].join("/"),
            agent_id: agent_id.to_owned(),
        })
    }
}

/// What a conversation has come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    pub(super) page: String,
    pub(super) parameters: Parameters,
    /// How often in a row this went wrong.
    pub(super) no_match: usize,
    pub(super) no_input: usize,
}

struct Entry {
    state: State,
    expires: Instant,
    busy: bool,
    streams: u64,
}

/// All sessions.
pub(super) struct Sessions {
    entries: Mutex<HashMap<String, Entry>>,
    limit: usize,
    ttl: Duration,
}

impl Sessions {
    pub(super) fn new(script: &Script) -> Self {
        Self {
            entries: Mutex::default(),
            limit: script.server.sessions,
            ttl: script.server.session_ttl,
        }
    }

    /// Begins a turn. Ends with ABORTED when another turn of the session is in flight.
    pub(super) async fn begin(
        self: &Arc<Self>,
        name: &SessionName,
        start_page: &str,
    ) -> Result<Turn, Status> {
        for _ in 0..GRACE.as_millis() / GRACE_STEP.as_millis() {
            match self.try_begin(name, start_page) {
                Some(turn) => return Ok(turn),
                None => time::sleep(GRACE_STEP).await,
            }
        }
        Err(Status::aborted("another turn of this session is in flight"))
    }

    fn try_begin(self: &Arc<Self>, name: &SessionName, start_page: &str) -> Option<Turn> {
        let now = Instant::now();
        let mut entries = self.entries();
        if entries
            .get(&name.full)
            .is_some_and(|entry| !entry.busy && entry.expires < now)
        {
            entries.remove(&name.full);
        }
        if !entries.contains_key(&name.full) && entries.len() >= self.limit {
            make_room(&mut entries, now);
        }
        let entry = entries.entry(name.full.clone()).or_insert_with(|| Entry {
            state: State {
                page: start_page.to_owned(),
                ..State::default()
            },
            expires: now + self.ttl,
            busy: false,
            streams: 0,
        });
        if entry.busy {
            return None;
        }
        entry.busy = true;
        entry.streams += 1;
        Some(Turn {
            sessions: Arc::clone(self),
            key: name.full.clone(),
            state: entry.state.clone(),
            number: entry.streams,
            ttl: self.ttl,
        })
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what has expired, or else the session that would expire first.
fn make_room(entries: &mut HashMap<String, Entry>, now: Instant) {
    let before = entries.len();
    entries.retain(|_, entry| entry.busy || entry.expires >= now);
    if entries.len() < before {
        return;
    }
    let oldest = entries
        .iter()
        .filter(|(_, entry)| !entry.busy)
        .min_by_key(|(_, entry)| entry.expires);
    if let Some(name) = oldest.map(|(name, _)| name.clone()) {
        entries.remove(&name);
    }
}

/// A turn in flight: the session is its own until it is dropped.
pub(super) struct Turn {
    sessions: Arc<Sessions>,
    key: String,
    /// The session as the turn found it.
    pub(super) state: State,
    /// The how-manieth turn of the session this is, from one.
    pub(super) number: u64,
    /// How long the session lives after this turn.
    pub(super) ttl: Duration,
}

impl Turn {
    /// Remembers what the turn came to.
    pub(super) fn keep(&mut self, state: State) {
        self.state = state.clone();
        if let Some(entry) = self.sessions.entries().get_mut(&self.key) {
            entry.state = state;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(entry) = self.sessions.entries().get_mut(&self.key) {
            entry.busy = false;
            entry.expires = Instant::now() + self.ttl;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_name_has_one_of_two_shapes() {
        let name =
            SessionName::parse("projects/p/locations/l/agents/a/environments/e/sessions/123")
                .unwrap();
        assert_eq!(
            (name.agent.as_str(), name.agent_id.as_str()),
            ("projects/p/locations/l/agents/a", "a")
        );
        assert!(
            SessionName::parse(&format!(
                "projects/p/locations/l/agents/a/sessions/{}",
                "x".repeat(36)
            ))
            .is_ok()
        );
        for bad in [
            "",
            "projects/p/agent/sessions/1",
            "projects/p/locations/l/agents/a/sessions/",
            "projects/p/locations//agents/a/sessions/1",
        ] {
            assert!(SessionName::parse(bad).is_err(), "{bad}");
        }
        assert!(
            SessionName::parse(&format!(
                "projects/p/locations/l/agents/a/sessions/{}",
                "x".repeat(37)
            ))
            .is_err()
        );
    }

    #[tokio::test]
    async fn a_second_turn_of_a_session_is_aborted_and_memory_is_bounded() {
        let sessions = Arc::new(Sessions {
            entries: Mutex::default(),
            limit: 2,
            ttl: Duration::from_secs(60),
        });
        let name = |id: &str| {
            SessionName::parse(&format!("projects/p/locations/l/agents/a/sessions/{id}")).unwrap()
        };
        let mut first = sessions.begin(&name("1"), "start").await.unwrap();
        assert!(sessions.begin(&name("1"), "start").await.is_err());
        first.keep(State {
            page: "day".to_owned(),
            ..State::default()
        });
        drop(first);
        let again = sessions.begin(&name("1"), "start").await.unwrap();
        assert_eq!((again.state.page.as_str(), again.number), ("day", 2));
        drop(again);
        for id in ["2", "3", "4"] {
            drop(sessions.begin(&name(id), "start").await.unwrap());
        }
        assert_eq!(sessions.entries().len(), 2);
    }
}
