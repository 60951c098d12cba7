//! Performs the steps of an answer: messages, sound in the wanted form, partial responses on the way.

use std::sync::Arc;

use bytes::Bytes;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::OutputAudioEncoding;
use tandem_proto::cx::v3::detect_intent_response::ResponseType;
use tandem_proto::cx::v3::response_message as message;
use tandem_proto::cx::v3::response_message::Message;
use tandem_proto::cx::v3::response_message::mixed_audio::Segment;
use tandem_proto::cx::v3::response_message::mixed_audio::segment::Content;
use tokio::sync::mpsc;
use tokio::time;
use tonic::Status;
use uuid::Uuid;

use super::audio;
use super::audio::Pcm;
use super::convert;
use super::script::Step;
use super::script::phrase::Parameters;
use super::voice::Speaker;

/// How the client wants to hear the answer.
#[derive(Clone, Debug)]
pub(super) struct Output {
    config: v3::OutputAudioConfig,
    encoding: OutputAudioEncoding,
    rate: u32,
}

impl Output {
    /// Checks a request's output configuration; absent means "no sound".
    pub(super) fn parse(config: Option<v3::OutputAudioConfig>) -> Result<Option<Self>, Status> {
        let Some(mut config) = config else {
            return Ok(None);
        };
        let encoding = config.audio_encoding();
        let rate = match (encoding, config.sample_rate_hertz) {
            (OutputAudioEncoding::Linear16, 0) => 16_000,
            (OutputAudioEncoding::Mulaw | OutputAudioEncoding::Alaw, 0) => 8000,
            (
                OutputAudioEncoding::Linear16
                | OutputAudioEncoding::Mulaw
                | OutputAudioEncoding::Alaw,
                rate,
            ) => u32::try_from(rate).unwrap_or(0),
            (other, _) => {
                return Err(Status::invalid_argument(format!(
                    "output_audio_config: {} is not spoken here",
                    other.as_str_name()
                )));
            }
        };
        if !(8000..=48_000).contains(&rate) {
            return Err(Status::invalid_argument(
                "output_audio_config: sample_rate_hertz should be from 8000 to 48000",
            ));
        }
        config.sample_rate_hertz = rate as i32;
        Ok(Some(Self {
            config,
            encoding,
            rate,
        }))
    }

    /// One blob: a WAV file for LINEAR_16, bare bytes for the others.
    fn encode(&self, clips: &[&Pcm]) -> Bytes {
        let mut all = Pcm {
            samples: Vec::new(),
            rate: self.rate,
        };
        for clip in clips {
            all.samples.extend(clip.at(self.rate).samples);
        }
        match self.encoding {
            OutputAudioEncoding::Mulaw => {
                all.samples.into_iter().map(audio::mulaw_encode).collect()
            }
            OutputAudioEncoding::Alaw => all.samples.into_iter().map(audio::alaw_encode).collect(),
            _ => audio::wav(&all).into(),
        }
    }
}

/// A response that waits for its query result.
pub(super) struct Performed {
    pub(super) messages: Vec<v3::ResponseMessage>,
    pub(super) output_audio: Bytes,
    pub(super) kind: ResponseType,
    pub(super) allow_cancellation: bool,
}

impl Performed {
    /// The response, around this result.
    pub(super) fn into_response(
        self,
        result: v3::QueryResult,
        output: Option<&Output>,
    ) -> v3::DetectIntentResponse {
        v3::DetectIntentResponse {
            response_id: Uuid::new_v4().to_string(),
            query_result: Some(v3::QueryResult {
                response_messages: self.messages,
                ..result
            }),
            output_audio_config: output
                .filter(|_| !self.output_audio.is_empty())
                .map(|output| output.config.clone()),
            output_audio: self.output_audio,
            response_type: self.kind.into(),
            allow_cancellation: self.allow_cancellation,
        }
    }
}

/// What an answer is performed with.
pub(super) struct Performer<'a> {
    pub(super) speaker: &'a Speaker,
    pub(super) output: Option<&'a Output>,
    pub(super) parameters: &'a Parameters,
    pub(super) mixed_audio: bool,
    /// What the caller said, for steps that play it back.
    pub(super) echo: Option<Arc<Pcm>>,
    /// Takes partial responses, if the client does.
    pub(super) partials: Option<mpsc::Sender<Performed>>,
}

/// Messages and sounds since the last response.
#[derive(Default)]
struct Queued {
    messages: Vec<v3::ResponseMessage>,
    clips: Vec<(Arc<Pcm>, bool)>,
}

impl Performer<'_> {
    /// Performs all steps and returns the final response.
    pub(super) async fn perform(&self, steps: &[&Step]) -> Result<Performed, Status> {
        let mut queued = Queued::default();
        for step in steps {
            match step {
                Step::Say {
                    text,
                    interruptible,
                } => self.say(&mut queued, text, *interruptible).await?,
                Step::Echo => queued
                    .clips
                    .extend(self.echo.clone().map(|echo| (echo, true))),
                Step::Wait(duration) => time::sleep(*duration).await,
                Step::Fail(code) => return Err(Status::new(*code, "the script says so")),
                Step::Partial { allow_cancellation } => {
                    if let Some(partials) = &self.partials {
                        let partial = self.response(
                            std::mem::take(&mut queued),
                            ResponseType::Partial,
                            *allow_cancellation,
                        );
                        // A client that went away is noticed by whoever holds the other end.
                        let _ = partials.send(partial).await;
                    }
                }
                Step::Set(_) => {}
                Step::Play { .. }
                | Step::Payload(_)
                | Step::Success(_)
                | Step::HandOff(_)
                | Step::Transfer(_)
                | Step::End => {
                    queued.messages.extend(signal(step).map(wrap));
                }
            }
        }
        Ok(self.response(queued, ResponseType::Final, false))
    }

    async fn say(
        &self,
        queued: &mut Queued,
        text: &str,
        interruptible: bool,
    ) -> Result<(), Status> {
        let text = fill_in(text, self.parameters);
        if self.output.is_some() && !text.trim().is_empty() {
            let spoken = self.speaker.speak(&text).await;
            queued.clips.push((
                spoken.map_err(|error| Status::internal(error.to_string()))?,
                interruptible,
            ));
        }
        queued.messages.push(wrap(Message::Text(message::Text {
            text: vec![text],
            allow_playback_interruption: interruptible,
        })));
        Ok(())
    }

    fn response(
        &self,
        mut queued: Queued,
        kind: ResponseType,
        allow_cancellation: bool,
    ) -> Performed {
        let clips = &queued.clips;
        let mut output_audio = Bytes::new();
        if let Some(output) = self.output.filter(|_| !clips.is_empty()) {
            output_audio =
                output.encode(&clips.iter().map(|(clip, _)| &**clip).collect::<Vec<_>>());
            let differ = clips
                .iter()
                .any(|(_, interruptible)| *interruptible != clips[0].1);
            if self.mixed_audio && differ {
                let segment = |(clip, interruptible): &(Arc<Pcm>, bool)| Segment {
                    content: Some(Content::Audio(output.encode(&[clip]))),
                    allow_playback_interruption: *interruptible,
                };
                queued
                    .messages
                    .push(wrap(Message::MixedAudio(message::MixedAudio {
                        segments: clips.iter().map(segment).collect(),
                    })));
            }
        }
        Performed {
            messages: queued.messages,
            output_audio,
            kind,
            allow_cancellation,
        }
    }
}

/// The message of a step that makes no sound of its own.
fn signal(step: &Step) -> Option<Message> {
    Some(match step {
        Step::Play { uri, interruptible } => Message::PlayAudio(message::PlayAudio {
            audio_uri: uri.clone(),
            allow_playback_interruption: *interruptible,
        }),
        Step::Payload(table) => Message::Payload(convert::table(table)),
        Step::Success(table) => Message::ConversationSuccess(message::ConversationSuccess {
            metadata: Some(convert::table(table)),
        }),
        Step::HandOff(table) => Message::LiveAgentHandoff(message::LiveAgentHandoff {
            metadata: Some(convert::table(table)),
        }),
        Step::Transfer(number) => Message::TelephonyTransferCall(message::TelephonyTransferCall {
            endpoint: Some(message::telephony_transfer_call::Endpoint::PhoneNumber(
                number.clone(),
            )),
        }),
        Step::End => Message::EndInteraction(message::EndInteraction {}),
        Step::Say { .. }
        | Step::Echo
        | Step::Wait(_)
        | Step::Partial { .. }
        | Step::Set(_)
        | Step::Fail(_) => return None,
    })
}

fn wrap(message: Message) -> v3::ResponseMessage {
    v3::ResponseMessage {
        message: Some(message),
        ..v3::ResponseMessage::default()
    }
}

/// Replaces `{name}` by its parameter. A name without a value stays as it is, so that a mistake in a script can be heard.
fn fill_in(text: &str, parameters: &Parameters) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let value = after
            .split_once('}')
            .and_then(|(name, after)| Some((parameters.get(name)?, after)));
        match value {
            Some((value, after)) => {
                filled.push_str(&value.spoken());
                rest = after;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::super::script::phrase::Value;
    use super::*;

    #[test]
    fn parameters_are_filled_in() {
        let parameters = Parameters::from([
            ("number".to_owned(), Value::Number(4.0)),
            ("day".to_owned(), Value::Text("friday".to_owned())),
        ]);
        assert_eq!(
            fill_in("A table for {number}, {day}. {what} {", &parameters),
            "A table for 4, friday. {what} {"
        );
    }
}
