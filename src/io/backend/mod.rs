//! The seam between a call and the service that answers it.
//!
//! A [`Backend`] is one configured agent, shared by all its calls; a [`Session`] is one conversation with it; a
//! [`TurnStream`] is one turn. Opening never waits and never fails: whatever goes wrong arrives as
//! [`BackendEvent::Closed`], exactly once per stream, always last.

pub mod auth;
pub mod breaker;
pub mod cx;
pub mod endpoint;
pub mod pool;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::call::event::BackendEvent;
use crate::engine::call::event::OpenTurn;
use crate::engine::call::event::StreamId;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::codec::Encoding;
use crate::engine::media::frame::SampleRate;
use crate::engine::media::ring;

/// Caller audio on the way to one backend stream: what a connection may stall for before audio is lost to it.
pub const UPLINK_CAPACITY: Duration = Duration::from_secs(2);

/// What a backend should know of a new conversation.
#[derive(Clone, Debug)]
pub struct SessionStart {
    /// The session id: unique per call, at most 36 ASCII characters (facts §11.1).
    pub id: String,
    /// Who calls; may be empty.
    pub caller: String,
    /// Who was dialled; may be empty.
    pub dialled: String,
    /// The ingress by which the call came.
    pub ingress: &'static str,
    /// Session parameters for the agent.
    pub parameters: BTreeMap<String, String>,
    /// The agent's speech as the leg takes it best: mu-law for 8 kHz legs, linear at 16 kHz for wider ones.
    pub output: AudioFormat,
}

impl Default for SessionStart {
    /// A conversation of which nothing is known, with a telephone's audio.
    fn default() -> Self {
        Self {
            id: String::new(),
            caller: String::new(),
            dialled: String::new(),
            ingress: "",
            parameters: BTreeMap::new(),
            output: AudioFormat {
                encoding: Encoding::Mulaw,
                rate: SampleRate::HZ_8000,
            },
        }
    }
}

/// One configured agent.
pub trait Backend: Send + Sync {
    /// Begins a conversation. Sends nothing yet.
    fn session(&self, start: SessionStart) -> Box<dyn Session>;
}

/// One conversation with an agent.
pub trait Session: Send {
    /// Opens a stream for one turn, whose events come over `events` under the turn's stream id.
    fn open(
        &mut self,
        turn: OpenTurn,
        events: mpsc::Sender<(StreamId, BackendEvent)>,
    ) -> TurnStream;
}

/// A turn that is under way. Dropping it cancels the stream.
pub struct TurnStream {
    /// Where the caller's audio goes; `None` once half-closed, and for turns without audio. Dropping it half-closes.
    pub audio: Option<ring::Sender<u8>>,
    /// Set before `audio` goes, so that whoever reads its end can tell a cancelled turn from a half-closed one.
    cancelled: CancellationToken,
    /// The task that runs the stream.
    task: AbortHandle,
}

impl TurnStream {
    /// A turn that `task` runs.
    pub fn new(audio: Option<ring::Sender<u8>>, task: AbortHandle) -> Self {
        Self {
            audio,
            cancelled: CancellationToken::new(),
            task,
        }
    }

    /// The same turn, which cancels this token when it is dropped, before its audio ends.
    pub fn cancelling(self, cancelled: CancellationToken) -> Self {
        let mut turn = self;
        turn.cancelled = cancelled;
        turn
    }
}

impl Drop for TurnStream {
    fn drop(&mut self) {
        self.cancelled.cancel();
        self.task.abort();
    }
}
