//! All that can happen to a call ([`Event`]) and all that a call can do ([`Action`]).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::engine::call::end::EndReason;
use crate::engine::call::notice::Measure;
use crate::engine::call::notice::Notice;
use crate::engine::destination::Destination;
pub use crate::engine::media::codec::AudioFormat;
pub use crate::engine::media::codec::Encoding;
pub use crate::engine::media::digit::Digit;
use crate::engine::media::frame::Frame;

labels! {
    /// By which way a digit reached us.
    pub enum DigitSource {
        /// A telephone event in RTP (RFC 4733).
        Rtp => "rtp",
        /// A SIP INFO request.
        Info => "info",
        /// Tones in the caller's audio.
        InBand => "in_band",
        /// A `dtmf` message on a Twilio media websocket.
        Twilio => "twilio",
    }
}

/// A piece of downlink audio, unique within its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

/// A backend stream, unique within its call. One stream is one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// A clip that is being fetched, unique within its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClipId(pub u32);

/// Why a leg is over, as seen by the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegEnd {
    /// The caller hung up in the protocol's own way.
    HungUp,
    /// The transport broke without a goodbye.
    Lost,
    /// The peer gave no sign for longer than its consent to hear us lasts.
    ConsentLost,
    /// The peer broke its protocol; the text names the rule, for logs.
    ProtocolError(&'static str),
}

/// What can happen to a call, audio aside (that goes through `Call::hear`).
#[derive(Debug)]
pub enum Event {
    /// The caller pressed a key.
    Digit(Digit, DigitSource),
    /// The far end has played everything up to the end of this segment.
    MarkReached(SegmentId),
    /// The caller's line is open: what is played from here on is heard.
    Answered,
    /// The caller's side holds the call (`true`) or has come back to it.
    Held(bool),
    /// The transfer that was asked for was carried out, or refused; the text names who refused and why, for logs.
    TransferEnded(Result<(), String>),
    /// The leg is over.
    LegEnded(LegEnd),
    /// The backend said something on a stream that the call opened.
    Backend(StreamId, BackendEvent),
    /// A clip is here, as it was stored (a RIFF header included), or why it is not. Follows [`Action::Fetch`] within
    /// seconds.
    Fetched(ClipId, Result<Bytes, String>),
    /// What came of a tool. Follows [`Action::RunTool`] within seconds.
    ToolEnded(ToolResult),
    /// An operator wants the caller transferred.
    Transfer(Transfer),
    /// An operator, or a drain that ran out of time, ends the call.
    Stop(EndReason),
}

/// What a backend stream says. Neutral of the API version; `io::backend` translates.
#[derive(Debug)]
pub enum BackendEvent {
    /// Words so far; they may still change.
    Interim {
        /// The transcript so far.
        text: String,
    },
    /// Words that will not change any more.
    Final {
        /// The transcript of this stretch of speech.
        text: String,
        /// Where the speech ended, measured from the first audio of this stream; some models leave it out.
        end_offset: Option<Duration>,
    },
    /// The recogniser thinks the caller has stopped: send no more, half-close, and go on reading (facts §2.2).
    EndOfUtterance,
    /// A partial or the final answer.
    Answer(Box<Answer>),
    /// The stream is over: in order (`None`), or by a fault.
    Closed(Option<Fault>),
}

/// Why a backend stream failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind, by which the call decides what to do.
    pub kind: FaultKind,
    /// The server's own words, for logs.
    pub message: String,
}

labels! {
    /// gRPC status codes as far as the call tells them apart (facts §9).
    pub enum FaultKind {
        /// The server or a proxy ended it: of what we end ourselves nobody tells.
        Cancelled => "cancelled",
        /// The request was wrong; the same again would be too.
        InvalidArgument => "invalid_argument",
        /// No answer in time.
        DeadlineExceeded => "deadline_exceeded",
        /// Agent, environment or page missing, often the wrong region.
        NotFound => "not_found",
        /// Credentials lack a right, or the API is off.
        PermissionDenied => "permission_denied",
        /// Quota.
        ResourceExhausted => "resource_exhausted",
        /// The agent is not in a state to serve.
        FailedPrecondition => "failed_precondition",
        /// A concurrent change, or the recogniser's own limit.
        Aborted => "aborted",
        /// Too much audio, or none for too long.
        OutOfRange => "out_of_range",
        /// A fault of the server.
        Internal => "internal",
        /// The transport broke, or the server restarts.
        Unavailable => "unavailable",
        /// The token expired or the clock is wrong.
        Unauthenticated => "unauthenticated",
        /// Nothing was sent: the endpoint has failed so often that it is left alone for a while.
        CircuitOpen => "circuit_open",
        /// Anything else.
        Other => "other",
    }
}

/// What an agent answers in one response of a turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// `None` for the FINAL response; for a PARTIAL, whether a later response may cut it short (`allow_cancellation`).
    pub partial: Option<Cancellation>,
    /// Speech for all the messages together; empty when the agent said nothing or `mixed_audio` carries it.
    pub output_audio: Audio,
    /// Everything else, in the agent's order.
    pub messages: Vec<Message>,
    /// What the agent took as the caller's input: transcript, text, event or digits.
    pub query: String,
    /// How the agent understood it.
    pub match_kind: MatchKind,
    /// The name of the intent, empty if none.
    pub intent: String,
    /// The page that is current after this turn, empty if unknown.
    pub page: String,
    /// The agent's settings for what comes next.
    pub settings: AgentSettings,
}

/// Whether a PARTIAL answer may be cut when a later response arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// It is heard to its end.
    Forbidden,
    /// It may be cut.
    Allowed,
}

/// Encoded audio as a backend sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audio {
    /// The bytes; they may begin with a RIFF header in any encoding (facts §7.2).
    pub bytes: Bytes,
    /// What the backend says they are. `None`: it did not say, so the request stands.
    pub format: Option<AudioFormat>,
}

/// How the agent understood the caller (`Match.match_type`, facts §13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatchKind {
    /// Not said, or a kind that is of no concern here.
    #[default]
    Other,
    /// An intent by its phrases.
    Intent,
    /// An event handler.
    Event,
    /// Nothing fits what was said.
    NoMatch,
    /// Nothing was said.
    NoInput,
}

/// One message of an answer (facts §13).
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Words; their sound is in [`Answer::output_audio`].
    Text {
        /// What is said.
        text: String,
        /// `allow_playback_interruption`.
        interruptible: bool,
    },
    /// A clip to fetch; not part of [`Answer::output_audio`].
    PlayAudio {
        /// `https://` or `gs://`.
        uri: String,
        /// `allow_playback_interruption`.
        interruptible: bool,
    },
    /// Speech and clips in order, played instead of [`Answer::output_audio`].
    MixedAudio(Vec<MixedSegment>),
    /// Any JSON, for the application or for us.
    Payload(Value),
    /// The caller is to be connected to a person.
    LiveAgentHandoff(Value),
    /// The call is to be transferred to this number (E.164).
    TransferCall(String),
    /// A tool for us to run; the agent waits for what comes of it.
    ToolCall(ToolCall),
    /// The agent is done: hang up once everything has been heard.
    EndInteraction,
    /// The conversation reached its goal; for analytics.
    ConversationSuccess(Value),
    /// A message that this gateway has no use for, by its field name.
    Unsupported(&'static str),
}

/// One piece of a `mixed_audio` message.
#[derive(Clone, Debug, PartialEq)]
pub struct MixedSegment {
    /// Bytes, or where to fetch them.
    pub content: MixedContent,
    /// `allow_playback_interruption`.
    pub interruptible: bool,
}

/// What a piece of a `mixed_audio` message holds.
#[derive(Clone, Debug, PartialEq)]
pub enum MixedContent {
    /// The audio itself, in the answer's encoding.
    Audio(Bytes),
    /// Where to fetch it.
    Uri(String),
}

/// A tool that the agent wants run on our side (facts §13).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall {
    /// The tool's resource name.
    pub tool: String,
    /// Which of its actions.
    pub action: String,
    /// What goes in.
    pub parameters: Value,
}

/// What came of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The tool, as in the call.
    pub tool: String,
    /// The action, as in the call.
    pub action: String,
    /// What came out, or why nothing did.
    pub outcome: Result<Value, String>,
}

/// What the current page asks of the gateway (`QueryResult.advanced_settings`); `None` where it asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentSettings {
    /// How long a caller may be silent.
    pub no_speech_timeout: Option<Duration>,
    /// How digits are collected.
    pub dtmf: Option<DtmfSettings>,
    /// The recogniser's model for the caller's language.
    pub model: Option<String>,
    /// Whether what is said may be kept in logs.
    pub keeps_transcripts: Option<bool>,
    /// What the agent asks for and this gateway cannot do, by field name.
    pub unsupported: Vec<&'static str>,
}

/// How the current page collects digits (facts §5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DtmfSettings {
    /// This many digits end the collection.
    pub max_digits: Option<u32>,
    /// This key ends the collection and is not part of the digits.
    pub finish_digit: Option<Digit>,
    /// The longest pause between two digits.
    pub interdigit_timeout: Option<Duration>,
}

/// What the call asks the world to do.
#[derive(Debug)]
pub enum Action<'a> {
    /// Send this frame to the caller now.
    Play(&'a Frame),
    /// Ask the far end to say when everything sent so far has been played.
    Mark(SegmentId),
    /// Throw away what has been sent and is not yet played, and whatever encoder state belongs to it.
    Clear,
    /// Open a backend stream.
    Open(OpenTurn),
    /// Send these bytes on a stream, in the uplink's encoding.
    SendAudio(StreamId, &'a [u8]),
    /// Send these last bytes, which end an utterance that we cut off ourselves.
    SendRest(StreamId, Bytes),
    /// Say on this stream that no more input comes; answers are still awaited.
    HalfClose(StreamId),
    /// Give this stream up; nothing more is expected of it.
    Cancel(StreamId),
    /// Open the caller's line, which has been ringing so far.
    Answer,
    /// Transfer the caller elsewhere; [`Event::TransferEnded`] says how it went.
    Transfer(Transfer),
    /// Fetch a clip from an address (`https:`, `gs:`) or of a name (a file among the prompts); [`Event::Fetched`] brings it.
    Fetch(ClipId, String),
    /// Run a tool; [`Event::ToolEnded`] says what came of it.
    RunTool(ToolCall),
    /// Something an operator, a log or a phone page wants to know.
    Tell(Notice),
    /// A number for the metrics.
    Measure(Measure),
    /// The call is over. The last action; said exactly once.
    End(EndReason),
}

/// Where a caller is to go, and what goes with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// A [`Destination`], as the agent or the route wrote it.
    pub to: String,
    /// What the agent sends along; `Null` if nothing.
    pub metadata: Value,
}

impl Transfer {
    /// What Twilio dials for it; `None` if that is nothing.
    pub fn dialled(&self) -> Option<String> {
        Destination::parse(&self.to)
            .filter(Destination::is_dialable)
            .map(|destination| destination.to_string())
    }
}

/// A stream to open, which is a turn to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenTurn {
    /// Its name within the call.
    pub stream: StreamId,
    /// The caller's input.
    pub input: TurnInput,
    /// Session parameters that this turn sets; `Null` removes one.
    pub parameters: BTreeMap<&'static str, Value>,
    /// The recogniser's model, if the agent's page asks for one.
    pub model: Option<String>,
}

/// The caller's input of one turn.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnInput {
    /// Speech, which follows by [`Action::SendAudio`].
    Speech {
        /// How the bytes are written.
        format: AudioFormat,
        /// When the caller may be heard over the prompt.
        barge_in: BargeInWindow,
    },
    /// Words.
    Text(String),
    /// An event by name.
    Event(String),
    /// An intent by its resource name.
    Intent(String),
    /// Digits, without the key that finished them.
    Dtmf {
        /// The digits.
        digits: String,
        /// The key that finished them.
        finish_digit: Option<Digit>,
    },
    /// What came of a tool that the agent wanted run.
    ToolResult(ToolResult),
}

/// `BargeInConfig`, measured in the stream's own audio from its first byte (facts §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BargeInWindow {
    /// Up to here speech is not detected at all.
    pub no_barge_in: Duration,
    /// Up to here silence is no "no input".
    pub total: Duration,
}
