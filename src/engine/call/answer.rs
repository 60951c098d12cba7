//! What an answer means: what is played, what is told, and what the call must do once it has been heard (facts §13).

use std::time::Duration;

use bytes::Bytes;

use crate::engine::call::command;
use crate::engine::call::command::Command;
use crate::engine::call::command::TurnChange;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Answer;
use crate::engine::call::event::Cancellation;
use crate::engine::call::event::DtmfSettings;
use crate::engine::call::event::Message;
use crate::engine::call::event::MixedContent;
use crate::engine::call::event::MixedSegment;
use crate::engine::call::event::ToolCall;
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
    pub(super) pieces: Vec<Piece>,
    /// The words of it, in order.
    pub(super) texts: Vec<String>,
    /// What watchers are told, in order.
    pub(super) notices: Vec<Notice>,
    /// Where the agent wants the caller, in order.
    pub(super) transfers: Vec<TransferRequest>,
    /// What the agent wants run, in order.
    pub(super) tools: Vec<ToolCall>,
    /// What changes for the rest of the call, in order.
    pub(super) changes: Vec<TurnChange>,
    /// How the next digits are collected, if not as the page says.
    pub(super) digits: Option<DtmfSettings>,
    /// What the call does once everything has been heard.
    pub(super) ending: Option<EndReason>,
}

/// Something to play.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// What is here.
    Speech(Speech),
    /// What must be fetched: from where, and the speech that it becomes.
    Clip(String, Speech),
}

/// The agent wants the caller elsewhere.
#[derive(Debug, PartialEq)]
pub(super) struct TransferRequest {
    /// The number, or nothing for whoever the route names.
    pub(super) to: Option<String>,
    /// What goes with them.
    pub(super) metadata: serde_json::Value,
}

/// How the caller may deal with the speech of an answer.
#[derive(Clone, Copy, Debug)]
struct Manners {
    cancellable: bool,
    /// Whether the caller may cut it, if its message allows that. A PARTIAL answer mostly not (facts §3.2).
    cuttable: bool,
    /// Whether a message before has allowed it: then those after it are interruptible too (facts §4).
    allowed: bool,
}

/// Takes an answer apart. `asked` is how audio is written when neither a header nor the agent says; `cuts_partials`
/// whether the caller may cut PARTIAL answers.
pub(super) fn plan(answer: &Answer, asked: AudioFormat, cuts_partials: bool) -> Plan {
    let partial = answer.partial.is_some();
    let mut plan = Plan::default();
    // Who lets voice cut partial answers means this one too.
    let cuts_partials = changes(answer)
        .filter_map(|change| change.cuts_partials)
        .last()
        .unwrap_or(cuts_partials);
    let mut manners = Manners {
        cancellable: answer.partial == Some(Cancellation::Allowed),
        cuttable: !partial || cuts_partials,
        allowed: false,
    };
    plan.speak(answer, asked, &mut manners);
    for message in &answer.messages {
        plan.obey(message, partial, asked, &mut manners);
    }
    plan
}

/// What an answer changes for the rest of the call.
fn changes(answer: &Answer) -> impl Iterator<Item = TurnChange> + '_ {
    let payloads = answer.messages.iter().filter_map(|message| {
        if let Message::Payload(payload) = message {
            Some(payload)
        } else {
            None
        }
    });
    let commands = payloads.flat_map(command::commands);
    commands.filter_map(|command| {
        if let Ok(Command::Turn(change)) = command {
            Some(change)
        } else {
            None
        }
    })
}

impl Manners {
    /// The manners of the next piece, whose message says so.
    fn speech(&mut self, allows: bool, bytes: Bytes, format: AudioFormat) -> Speech {
        self.allowed |= allows;
        Speech {
            bytes,
            format,
            interruptible: self.allowed && self.cuttable,
            cancellable: self.cancellable,
        }
    }
}

impl Plan {
    /// Whether there is anything to hear.
    pub(super) fn speaks(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// The speech of an answer: the pieces of `mixed_audio` if there are any, else the one blob. Clips come after it.
    fn speak(&mut self, answer: &Answer, asked: AudioFormat, manners: &mut Manners) {
        let format = answer.output_audio.format.unwrap_or(asked);
        let mut mixed = false;
        for segment in answer.messages.iter().filter_map(mixed_audio).flatten() {
            mixed = true;
            let allows = segment.interruptible;
            match &segment.content {
                MixedContent::Audio(bytes) => self.sound(bytes, format, allows, manners),
                MixedContent::Uri(uri) => self.clip(uri, allows, asked, manners),
            }
        }
        if !mixed {
            let bytes = &answer.output_audio.bytes;
            self.sound(bytes, format, is_interruptible(answer), manners);
        }
    }

    fn sound(&mut self, bytes: &Bytes, told: AudioFormat, allows: bool, manners: &mut Manners) {
        match samples(bytes, told) {
            Ok((bytes, _)) if bytes.is_empty() => {}
            Ok((bytes, format)) => {
                let speech = manners.speech(allows, bytes, format);
                self.pieces.push(Piece::Speech(speech));
            }
            Err(error) => self.notices.push(Notice::Unsupported {
                message: format!("output_audio: {error}"),
            }),
        }
    }

    fn clip(&mut self, uri: &str, allows: bool, format: AudioFormat, manners: &mut Manners) {
        let speech = manners.speech(allows, Bytes::new(), format);
        self.pieces.push(Piece::Clip(uri.to_owned(), speech));
    }

    fn obey(
        &mut self,
        message: &Message,
        partial: bool,
        format: AudioFormat,
        manners: &mut Manners,
    ) {
        match message {
            Message::Text { text, .. } => {
                self.texts.push(text.clone());
                self.notices.push(Notice::AgentText {
                    text: text.clone(),
                    partial,
                });
            }
            Message::MixedAudio(_) => {}
            Message::PlayAudio { uri, interruptible } => {
                self.clip(uri, *interruptible, format, manners);
            }
            Message::Payload(payload) => {
                self.notices.push(Notice::Payload {
                    payload: payload.clone(),
                });
                for command in command::commands(payload) {
                    match command {
                        Ok(command) => self.command(command, format, manners),
                        Err(reason) => self.notices.push(Notice::CommandRefused { reason }),
                    }
                }
            }
            Message::LiveAgentHandoff(metadata) => self.transfer(None, metadata.clone()),
            Message::TransferCall(to) => self.transfer(Some(to.clone()), serde_json::Value::Null),
            Message::EndInteraction => self.hang_up(),
            Message::ConversationSuccess(metadata) => {
                self.notices.push(Notice::ConversationSuccess {
                    metadata: metadata.clone(),
                });
            }
            Message::ToolCall(call) => self.tools.push(call.clone()),
            Message::Unsupported(name) => self.notices.push(Notice::Unsupported {
                message: (*name).to_owned(),
            }),
        }
    }

    fn command(&mut self, command: Command, format: AudioFormat, manners: &mut Manners) {
        match command {
            Command::Pause(duration) => {
                let silence = vec![format.encoding.silence(); format.bytes_in(duration)];
                self.sound(&silence.into(), format, true, manners);
            }
            Command::Play(uri) => self.clip(&uri, true, format, manners),
            Command::CollectDigits(settings) => self.digits = Some(settings),
            Command::Turn(change) => self.changes.push(change),
            Command::Transfer(to) => self.transfer(Some(to), serde_json::Value::Null),
            Command::HangUp => self.hang_up(),
        }
    }

    fn transfer(&mut self, to: Option<String>, metadata: serde_json::Value) {
        self.transfers.push(TransferRequest { to, metadata });
        self.ending = Some(EndReason::Transferred);
    }

    /// A transfer wins over a hang-up, whichever comes first (facts §13).
    fn hang_up(&mut self) {
        self.ending = self.ending.or(Some(EndReason::AgentEnded));
    }
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
pub(super) fn samples(
    blob: &Bytes,
    told: AudioFormat,
) -> Result<(Bytes, AudioFormat), wav::WavError> {
    if wav::looks_like_wav(blob) {
        wav_samples(blob)
    } else {
        Ok((shortened(blob, told), told))
    }
}

/// The samples of a WAV file and how they are written.
pub(super) fn wav_samples(blob: &Bytes) -> Result<(Bytes, AudioFormat), wav::WavError> {
    let wav = wav::parse(blob)?;
    Ok((shortened(&blob.slice(wav.data), wav.format), wav.format))
}

fn shortened(samples: &Bytes, format: AudioFormat) -> Bytes {
    samples.slice(..samples.len().min(format.bytes_in(LONGEST_SPEECH)))
}
