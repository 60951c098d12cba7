//! What an answer means: what is played, what is told, and what the call must do once it has been heard (facts §13).

use std::time::Duration;

use bytes::Bytes;

use crate::engine::call::end::EndReason;
use crate::engine::call::event::Answer;
use crate::engine::call::event::Cancellation;
use crate::engine::call::event::Message;
use crate::engine::call::event::MixedContent;
use crate::engine::call::event::MixedSegment;
use crate::engine::call::notice::Notice;
use crate::engine::call::playout::Speech;
use crate::engine::media::codec::AudioFormat;
use crate::engine::media::wav;

/// The longest speech of one answer; more is a broken agent, and would hold the caller for ever.
const LONGEST_SPEECH: Duration = Duration::from_secs(600);

/// An answer, taken apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// What is played, in order.
    pub(super) speech: Vec<Speech>,
    /// What watchers are told, in order.
    pub(super) notices: Vec<Notice>,
    /// Where the agent wants the caller, in order.
    pub(super) transfers: Vec<TransferRequest>,
    /// What the call does once everything has been heard.
    pub(super) ending: Option<EndReason>,
}

/// The agent wants the caller elsewhere.
#[derive(Debug, PartialEq)]
pub(super) struct TransferRequest {
    /// The number, or nothing for whoever the route names.
    pub(super) to: Option<String>,
    /// What goes with them.
    pub(super) metadata: serde_json::Value,
}

/// Takes an answer apart. `asked` is how audio is written when neither a header nor the agent says.
pub(super) fn plan(answer: &Answer, asked: AudioFormat) -> Plan {
    let mut plan = Plan::default();
    let partial = answer.partial.is_some();
    for message in &answer.messages {
        tell(message, partial, &mut plan);
    }
    plan.speech = speech(answer, asked, &mut plan.notices);
    plan
}

fn tell(message: &Message, partial: bool, plan: &mut Plan) {
    match message {
        Message::Text { text, .. } => plan.notices.push(Notice::AgentText {
            text: text.clone(),
            partial,
        }),
        Message::MixedAudio(_) => {}
        Message::PlayAudio { .. } => plan.unsupported("play_audio"),
        Message::Payload(payload) => plan.notices.push(Notice::Payload {
            payload: payload.clone(),
        }),
        Message::LiveAgentHandoff(metadata) => plan.transfer(None, metadata.clone()),
        Message::TransferCall(to) => plan.transfer(Some(to.clone()), serde_json::Value::Null),
        // A transfer wins over a hang-up, whichever comes first (facts §13).
        Message::EndInteraction => plan.ending = plan.ending.or(Some(EndReason::AgentEnded)),
        Message::ConversationSuccess(metadata) => {
            plan.notices.push(Notice::ConversationSuccess {
                metadata: metadata.clone(),
            });
        }
        Message::ToolCall(_) => plan.unsupported("tool_call"),
        Message::Unsupported(name) => plan.unsupported(name),
    }
}

impl Plan {
    fn transfer(&mut self, to: Option<String>, metadata: serde_json::Value) {
        self.transfers.push(TransferRequest { to, metadata });
        self.ending = Some(EndReason::Transferred);
    }

    fn unsupported(&mut self, name: &str) {
        self.notices.push(Notice::Unsupported {
            message: name.to_owned(),
        });
    }
}

/// The speech of an answer: the pieces of `mixed_audio` if there are any, else the one blob.
fn speech(answer: &Answer, asked: AudioFormat, notices: &mut Vec<Notice>) -> Vec<Speech> {
    let cancellable = answer.partial == Some(Cancellation::Allowed);
    let partial = answer.partial.is_some();
    let format = answer.output_audio.format.unwrap_or(asked);
    let mut pieces = Vec::new();
    let mut mixed = false;
    for segment in answer.messages.iter().filter_map(mixed_audio).flatten() {
        mixed = true;
        match &segment.content {
            MixedContent::Audio(bytes) => pieces.push((bytes.clone(), segment.interruptible)),
            MixedContent::Uri(_) => notices.push(Notice::Unsupported {
                message: "mixed_audio.uri".to_owned(),
            }),
        }
    }
    if !mixed {
        pieces.push((answer.output_audio.bytes.clone(), is_interruptible(answer)));
    }
    // Once one piece may be interrupted, those after it may be too (facts §4); a PARTIAL never is (facts §3.2).
    let mut interruptible = false;
    let mut speech = Vec::with_capacity(pieces.len());
    for (bytes, flag) in pieces {
        interruptible |= flag;
        match samples(&bytes, format) {
            Ok((bytes, format)) if !bytes.is_empty() => {
                speech.push(Speech {
                    bytes,
                    format,
                    interruptible: interruptible && !partial,
                    cancellable,
                });
            }
            Ok(_) => {}
            Err(error) => notices.push(Notice::Unsupported {
                message: format!("output_audio: {error}"),
            }),
        }
    }
    speech
}

fn mixed_audio(message: &Message) -> Option<&Vec<MixedSegment>> {
    if let Message::MixedAudio(segments) = message {
        Some(segments)
    } else {
        None
    }
}

/// One blob covers all messages, so it may be cut only if the first message that speaks may.
fn is_interruptible(answer: &Answer) -> bool {
    answer
        .messages
        .iter()
        .find_map(|message| {
            if let Message::Text { interruptible, .. } = message {
                Some(*interruptible)
            } else {
                None
            }
        })
        .unwrap_or(false)
}

/// The samples of a blob and how they are written: a RIFF header, in whatever encoding was asked for, is believed
/// before the agent's word, `told` (facts §7.2).
fn samples(blob: &Bytes, told: AudioFormat) -> Result<(Bytes, AudioFormat), wav::WavError> {
    let (bytes, format) = if wav::looks_like_wav(blob) {
        let wav = wav::parse(blob)?;
        (blob.slice(wav.data), wav.format)
    } else {
        (blob.clone(), told)
    };
    let longest =
        format.rate.samples_in(LONGEST_SPEECH) as usize * format.encoding.bytes_per_sample();
    Ok((bytes.slice(..bytes.len().min(longest)), format))
}
