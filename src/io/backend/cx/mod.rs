//! Dialogflow CX as a backend, `v3` and `v3beta1`, and the embedded local agent, which speaks the same.
//!
//! One turn is one `StreamingDetectIntent` stream (facts §2); all that ties two turns together is the session's name. A
//! [`CxBackend`] holds what an agent's calls share: connections ([`super::pool`]), credentials ([`super::auth`]) and the
//! agent's name. [`stream`] runs a turn, [`convert`] translates its messages.

mod convert;
mod stream;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::config::AgentKind;
use crate::engine::call::event::BackendEvent;
use crate::engine::call::event::OpenTurn;
use crate::engine::call::event::StreamId;
use crate::engine::call::event::TurnInput;
use crate::engine::media::ring;
use crate::io::backend::Backend;
use crate::io::backend::Session;
use crate::io::backend::SessionStart;
use crate::io::backend::TurnStream;
use crate::io::backend::UPLINK_CAPACITY;
use crate::io::backend::auth;
use crate::io::backend::auth::Auth;
use crate::io::backend::auth::AuthError;
use crate::io::backend::breaker::Circuit;
use crate::io::backend::breaker::Policy;
use crate::io::backend::cx::convert::Conversation;
use crate::io::backend::cx::stream::Turn;
use crate::io::backend::endpoint;
use crate::io::backend::endpoint::GoogleEnvironment;
use crate::io::backend::endpoint::Trust;
use crate::io::backend::pool::Pool;

/// The message of the fault when a server ends a stream in order but has given no final answer. It counts as an internal
/// fault of the server: the same turn may be tried once more if nothing was answered (facts §9).
pub use crate::io::backend::cx::stream::NO_FINAL_ANSWER;

/// One Dialogflow CX agent, in one of its environments.
pub struct CxBackend {
    agent: Arc<Agent>,
}

/// What the turns of an agent share.
struct Agent {
    /// Its key in the configuration, as a metric label.
    label: Arc<str>,
    version: Version,
    pool: Pool,
    circuit: Arc<Circuit>,
    auth: Arc<Auth>,
    /// The resource name under which sessions are: the agent's, or its environment's.
    parent: String,
    language: String,
    model: String,
    /// The channel whose messages are wanted; empty for those that are for every channel.
    channel: String,
}

/// The version of the API, which is part of every path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V3,
    V3beta1,
}

impl CxBackend {
    /// The agent `name` as configured; `fallback` says when its endpoint is left alone. Connects to nothing; [`Self::check`] does.
    ///
    /// # Errors
    /// If endpoint, credentials file, client certificate or Google's environment variables are wrong.
    ///
    /// # Panics
    /// Outside a Tokio runtime, in which tokens are renewed.
    pub fn new(
        name: &str,
        agent: &config::Agent,
        fallback: &config::Fallback,
        environment: &GoogleEnvironment,
    ) -> anyhow::Result<Self> {
        Self::build(name, agent, fallback, environment).with_context(|| format!("agents.{name}"))
    }

    /// Fetches a token, unless the agent is spoken to in plain text. For the start of the gateway: without it, missing
    /// credentials show only when the first caller is on the line.
    ///
    /// # Errors
    /// One sentence for the operator; after 5 s at the latest.
    pub async fn check(&self) -> Result<(), AuthError> {
        self.agent.auth.check().await
    }

    /// Who the agent's calls are towards Google.
    pub fn auth(&self) -> Arc<Auth> {
        self.agent.auth.clone()
    }

    fn build(
        name: &str,
        agent: &config::Agent,
        fallback: &config::Fallback,
        environment: &GoogleEnvironment,
    ) -> anyhow::Result<Self> {
        let version = match agent.kind {
            AgentKind::DialogflowCx | AgentKind::Local => Version::V3,
            AgentKind::DialogflowCxV3beta1 => Version::V3beta1,
        };
        let endpoint = agent.endpoint.as_deref();
        let is_plain_text = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let identity = match is_plain_text {
            true => None,
            false => auth::client_certificate(environment)?,
        };
        let target = endpoint::target(&agent.name, endpoint, environment, identity.is_some())?;
        let credentials = agent.credentials.as_deref();
        let auth = Auth::new(name, credentials, environment, target.trust)?;
        let identity = identity.filter(|_| target.trust == Trust::Google);
        let pool = Pool::new(&target, identity).context("TLS")?;
        let label: Arc<str> = name.into();
        tracing::info!(
            agent = name,
            host = %target.uri,
            trust = ?target.trust,
            ?version,
            "agent configured"
        );
        Ok(Self {
            agent: Arc::new(Agent {
                label: label.clone(),
                version,
                pool,
                circuit: Circuit::new(label, Policy::new(fallback)),
                auth: Arc::new(auth),
                parent: parent(agent),
                language: agent.language.clone(),
                model: agent.model.clone().unwrap_or_default(),
                channel: agent.channel.clone().unwrap_or_default(),
            }),
        })
    }
}

impl Backend for CxBackend {
    fn session(&self, start: SessionStart) -> Box<dyn Session> {
        let agent = self.agent.clone();
        let conversation = Conversation::new(
            &agent.parent,
            &agent.language,
            &agent.model,
            &agent.channel,
            start,
        );
        Box::new(CxSession {
            agent,
            conversation,
            known: Arc::default(),
        })
    }
}

/// One conversation.
struct CxSession {
    agent: Arc<Agent>,
    conversation: Conversation,
    known: Arc<Known>,
}

/// What the turns of a conversation have found out.
#[derive(Default)]
struct Known {
    /// A turn has been answered, so that the agent has the session's parameters.
    answered: AtomicBool,
    /// The call has been told that messages for another channel come and are left out.
    other_channel: AtomicBool,
}

impl Session for CxSession {
    fn open(
        &mut self,
        turn: OpenTurn,
        events: mpsc::Sender<(StreamId, BackendEvent)>,
    ) -> TurnStream {
        let (audio, uplink) = match &turn.input {
            TurnInput::Speech { format, .. } => {
                let (sender, receiver) = ring::ring(format.bytes_in(UPLINK_CAPACITY));
                (Some(sender), Some(receiver))
            }
            TurnInput::Text(_)
            | TurnInput::Event(_)
            | TurnInput::Intent(_)
            | TurnInput::Dtmf { .. }
            | TurnInput::ToolResult(_) => (None, None),
        };
        let is_new = !self.known.answered.load(Ordering::Acquire);
        let stream = turn.stream;
        let cancelled = CancellationToken::new();
        let task = tokio::spawn(
            Turn {
                agent: self.agent.clone(),
                stream,
                first: convert::first_request(&self.conversation, turn, is_new),
                audio: uplink,
                asked: self.conversation.output,
                cancelled: cancelled.clone(),
                known: self.known.clone(),
                events,
            }
            .run(),
        );
        TurnStream::new(audio, task.abort_handle()).cancelling(cancelled)
    }
}

/// The local agent has no name of its own: it answers to any.
fn parent(agent: &config::Agent) -> String {
    let config::AgentName {
        project,
        location,
        agent: id,
    } = &agent.name;
    let parent = format!("projects/{project}/locations/{location}/agents/{id}");
    match &agent.environment {
        Some(environment) => format!("{parent}/environments/{environment}"),
        None => parent,
    }
}
