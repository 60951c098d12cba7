//! The script: what the agent says and understands. `config/local-agent.toml` explains it to its authors.

mod parse;
pub(super) mod phrase;
mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tonic::Code;

use self::phrase::Lists;
use self::phrase::Phrase;
use self::phrase::Value;

const EMBEDDED: &str = include_str!("../../../config/local-agent.toml");

/// The name in `[agents]` that serves every agent id without an entry of its own.
const DEFAULT_AGENT: &str = "default";

/// A script that was read without a problem.
#[derive(Clone, Debug)]
pub struct Script {
    pub(super) voice: VoiceSettings,
    pub(super) hearing: HearingSettings,
    pub(super) server: ServerSettings,
    /// Agent id → the page where its conversations begin.
    pub(super) agents: BTreeMap<String, String>,
    pub(super) lists: Lists,
    pub(super) pages: BTreeMap<String, Page>,
    /// Rules of every page, after the page's own.
    pub(super) rules: Vec<Rule>,
    pub(super) no_match: Vec<Reaction>,
    pub(super) no_input: Vec<Reaction>,
    pub(super) faults: Vec<Fault>,
}

/// One thing that is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a dotted key, such as `pages.start.rules[2].go`.
    pub key: String,
    /// What, in plain words.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl Script {
    /// Reads a script file.
    ///
    /// # Errors
    /// Every problem of the file at once.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) => Err(vec![Problem {
                key: path.display().to_string(),
                reason: error.to_string(),
            }]),
        }
    }

    /// Reads a script.
    ///
    /// # Errors
    /// Every problem of the text at once.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        parse::script(text)
    }

    /// The script that comes with the program: `config/local-agent.toml`.
    #[must_use]
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED).expect("a test reads the embedded script")
    }

    /// The page where conversations with this agent begin.
    pub(super) fn start_page(&self, agent: &str) -> &str {
        self.agents
            .get(agent)
            .unwrap_or(&self.agents[DEFAULT_AGENT])
    }

    /// The rules that hold on a page, the page's own first.
    pub(super) fn rules_on<'a>(&'a self, page: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.pages
            .get(page)
            .into_iter()
            .flat_map(|page| &page.rules)
            .chain(&self.rules)
    }

    /// The phrases that the recogniser listens for, for every page where it is on and there are any.
    pub(super) fn grammars(&self) -> BTreeMap<String, Vec<Phrase>> {
        let phrases = |page: &str| {
            self.rules_on(page)
                .flat_map(|rule| rule.phrases.iter().cloned())
                .collect::<Vec<_>>()
        };
        let listening = self.pages.iter().filter(|(_, page)| page.recogniser);
        listening
            .map(|(name, _)| (name.clone(), phrases(name)))
            .filter(|(_, phrases)| !phrases.is_empty())
            .collect()
    }
}

/// How the agent speaks.
#[derive(Clone, Debug)]
pub(super) struct VoiceSettings {
    pub(super) program: VoiceProgram,
    pub(super) name: String,
    pub(super) cache_bytes: usize,
    pub(super) at_once: usize,
}

/// A speech program that Debian has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VoiceProgram {
    Flite,
    Espeak,
}

/// How the agent hears.
#[derive(Clone, Debug)]
pub(super) struct HearingSettings {
    pub(super) decoders: usize,
    pub(super) models: Option<PathBuf>,
    pub(super) end_of_speech: Duration,
    pub(super) no_speech_timeout: Duration,
    pub(super) reject_below: f32,
    pub(super) unclear: String,
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub(super) struct ServerSettings {
    pub(super) late_headers: bool,
    pub(super) mixed_audio: bool,
    pub(super) stream_audio_limit: Duration,
    pub(super) audio_stall: Duration,
    pub(super) session_ttl: Duration,
    pub(super) sessions: usize,
    pub(super) streams_per_connection: u32,
}

/// A place in the conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) recogniser: bool,
    pub(super) no_speech_timeout: Option<Duration>,
    pub(super) dtmf: Option<DtmfSettings>,
    pub(super) enter: Vec<Step>,
    pub(super) rules: Vec<Rule>,
    pub(super) no_match: Vec<Reaction>,
    pub(super) no_input: Vec<Reaction>,
}

/// What the page tells clients about collecting digits.
#[derive(Clone, Debug)]
pub(super) struct DtmfSettings {
    pub(super) max_digits: i32,
    pub(super) finish_digit: String,
    pub(super) interdigit_timeout: Option<Duration>,
    pub(super) endpointing_timeout: Option<Duration>,
}

/// "When the caller says or does this, answer that."
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) intent: Option<String>,
    pub(super) phrases: Vec<Phrase>,
    /// Any utterance, whatever was said.
    pub(super) any_speech: bool,
    pub(super) dtmf: Option<DtmfChoice>,
    pub(super) event: Option<String>,
    pub(super) reaction: Reaction,
}

/// The digits that a rule waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DtmfChoice {
    Digits(String),
    /// Any number, kept as this parameter.
    Parameter(String),
}

/// An answer, and where the conversation goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Reaction {
    pub(super) answer: Vec<Step>,
    pub(super) go: Option<String>,
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Speak. `{name}` is replaced by the parameter of that name.
    Say {
        text: String,
        interruptible: bool,
    },
    /// A clip that the client fetches.
    Play {
        uri: String,
        interruptible: bool,
    },
    /// The caller's own utterance.
    Echo,
    /// A slow step, such as a webhook.
    Wait(Duration),
    /// Send what was queued so far, if the client takes partial responses.
    Partial {
        allow_cancellation: bool,
    },
    /// Set parameters of the session.
    Set(BTreeMap<String, Value>),
    Payload(toml::Table),
    Success(toml::Table),
    HandOff(toml::Table),
    Transfer(String),
    End,
    /// Break off with this status.
    Fail(Code),
}

/// Breaks streams on purpose, for tests of clients.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) agent: Option<String>,
    /// Which stream of a session, counted from one; none means every.
    pub(super) stream: Option<u64>,
    pub(super) status: Code,
    pub(super) after: Duration,
}
