//! What a call tells those who watch it: notices (words and decisions, for operators, logs and the phone page) and
//! measures (numbers, for the metrics).

use std::time::Duration;
use std::time::Instant;

use serde::Serialize;

use crate::engine::call::event::DigitSource;
use crate::engine::call::event::FaultKind;

/// What words over a prompt are, if they do not mean that the caller wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenFor {
    /// The caller listens, and says so.
    BackChannel,
    /// Our own words, come back.
    Echo,
}

/// Something that happened in a call, as its watchers read it. Serialised with a `type` and its own fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice {
    /// A turn began.
    TurnStarted {
        /// `speech`, `text`, `event`, `intent`, `dtmf` or `tool_result`.
        input: TurnKind,
    },
    /// Words so far.
    Interim {
        /// The transcript so far.
        text: String,
    },
    /// Words for good.
    Final {
        /// The transcript.
        text: String,
    },
    /// What the agent says, in words.
    AgentText {
        /// The words.
        text: String,
        /// Whether more follows in this turn.
        partial: bool,
    },
    /// A piece of the agent's speech is over.
    Playback {
        /// Which piece.
        segment: u32,
        /// How it ended.
        outcome: SegmentOutcome,
        /// How much of it was heard.
        heard_ms: u64,
    },
    /// The caller took the floor.
    BargeIn {
        /// How much of the prompt had been heard.
        heard_ms: u64,
    },
    /// Words were understood that are no reason to cut the prompt.
    WordsIgnored {
        /// What they are taken for.
        taken_for: TakenFor,
    },
    /// The caller may be about to take the floor: the prompt is quieter until that is clear.
    Ducked,
    /// They did not: the prompt goes on as before.
    Restored,
    /// The caller hears the hold prompt, since the agent is slow.
    Hold,
    /// The agent cannot be reached; the caller hears the fallback prompt and is transferred, or the call ends.
    Fallback,
    /// The caller pressed a key.
    Dtmf {
        /// The key.
        digit: char,
    },
    /// From the caller's end of speech to the agent's first audio.
    TurnLatency {
        /// Milliseconds.
        latency_ms: u64,
    },
    /// The agent sent a message for the application.
    Payload {
        /// Its JSON.
        payload: serde_json::Value,
    },
    /// The agent asks to connect the caller elsewhere.
    Transfer {
        /// The number, or nothing for a hand-off to whoever the gateway is configured to reach.
        to: Option<String>,
        /// What the agent sends along.
        metadata: serde_json::Value,
    },
    /// A transfer was refused; the caller is back with the agent.
    TransferFailed {
        /// Who refused it, and why.
        reason: String,
    },
    /// The conversation reached its goal.
    ConversationSuccess {
        /// What the agent sends along.
        metadata: serde_json::Value,
    },
    /// The agent sent something this gateway has no use for.
    Unsupported {
        /// The message's field name.
        message: String,
    },
    /// The agent asked for something of ours that cannot be done as it is written.
    CommandRefused {
        /// Why.
        reason: String,
    },
    /// A clip could not be played.
    ClipFailed {
        /// Where it was to come from.
        uri: String,
        /// Why.
        reason: String,
    },
    /// The agent wanted a tool run.
    Tool {
        /// Its resource name.
        tool: String,
        /// Why it was not run; nothing if it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Whether what is said may be kept from here on, by the agent's word.
    Transcripts {
        /// Whether it may.
        kept: bool,
    },
    /// A backend stream failed.
    BackendFault {
        /// The kind.
        #[serde(serialize_with = "fault_label")]
        fault: FaultKind,
        /// The server's own words.
        message: String,
    },
}

fn fault_label<S: serde::Serializer>(fault: &FaultKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(fault.label())
}

labels! {
    /// What kind of input a turn carries.
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    pub enum TurnKind {
        /// The caller's voice.
        Speech => "speech",
        /// Words.
        Text => "text",
        /// An event by name.
        Event => "event",
        /// An intent by name.
        Intent => "intent",
        /// Keys.
        Dtmf => "dtmf",
        /// What came of a tool.
        ToolResult => "tool_result",
    }
}

labels! {
    /// How a turn ended.
    pub enum TurnResult {
        /// The agent answered.
        Answered => "answered",
        /// The agent answered that it did not understand.
        NoMatch => "no_match",
        /// The agent answered that it heard nothing.
        NoInput => "no_input",
        /// We gave it up.
        Cancelled => "cancelled",
        /// The backend failed.
        Failed => "failed",
    }
}

labels! {
    /// How a segment ended: exactly one of these.
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    pub enum SegmentOutcome {
        /// Heard to its end.
        Played => "played",
        /// Cut while it was being heard.
        Cut => "cut",
        /// Never begun.
        Dropped => "dropped",
        /// Sent to its end, but the far end never confirmed it.
        Unknown => "unknown",
    }
}

/// A number for the metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// A turn ended.
    Turn(TurnKind, TurnResult),
    /// From the caller's end of speech to the agent's first audio.
    TurnLatency(Duration),
    /// From the moment at which the caller's line is open to the agent's first audio.
    AnswerToFirstAudio(Duration),
    /// The caller took the floor, decided at this moment; the leg adds how long the cut took.
    BargeIn(Instant),
    /// The caller's speech was over a segment that may not be interrupted.
    BargeInRefused,
    /// A ducked prompt was restored: it was no interruption.
    BargeInRestored,
    /// Words came that were our own, come back as echo.
    BargeInEcho,
    /// Caller audio that no stream ever got, though the agent should have been listening.
    Unheard(Duration),
    /// How late a tick of the playout was.
    TickLateness(Duration),
    /// A digit was taken.
    Digit(DigitSource),
    /// A segment ended.
    Segment(SegmentOutcome),
}

/// Which way audio goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Caller to agent.
    Uplink,
    /// Agent to caller.
    Downlink,
}
