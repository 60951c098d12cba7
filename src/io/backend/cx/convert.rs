//! Between Dialogflow's messages and the engine's words. Pure.
//!
//! Only the `v3` types are used: `v3beta1` has the same numbers wherever a call is concerned (facts §18), so the bytes mean
//! the same and the version is a matter of the path alone.

mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost_types::Struct;
use prost_types::value::Kind;
use serde_json::Value;
use tandem_proto::cx::v3;
use tandem_proto::cx::v3::query_input::Input;
use tandem_proto::cx::v3::query_result::Query;
use tandem_proto::cx::v3::response_message;
use tandem_proto::cx::v3::streaming_detect_intent_response::Response;
use tonic::Code;
use tonic::Status;

use crate::engine::call::event::AgentSettings;
use crate::engine::call::event::Answer;
use crate::engine::call::event::Audio;
use crate::engine::call::event::AudioFormat;
use crate::engine::call::event::BackendEvent;
use crate::engine::call::event::BargeInWindow;
use crate::engine::call::event::Cancellation;
use crate::engine::call::event::Encoding;
use crate::engine::call::event::Fault;
use crate::engine::call::event::FaultKind;
use crate::engine::call::event::MatchKind;
use crate::engine::call::event::Message;
use crate::engine::call::event::MixedContent;
use crate::engine::call::event::MixedSegment;
use crate::engine::call::event::OpenTurn;
use crate::engine::call::event::ToolCall;
use crate::engine::call::event::ToolResult;
use crate::engine::call::event::TurnInput;
use crate::engine::media::frame::SampleRate;
use crate::io::backend::SessionStart;

/// Payloads are at most 24 levels deep (facts §8.1); what lies deeper is damage or malice and becomes null.
const MAX_JSON_DEPTH: usize = 32;

/// What every turn of a conversation has in common.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// The session's resource name.
    pub(crate) session: String,
    /// BCP 47 language tag.
    pub(crate) language: String,
    /// The recogniser's model, unless a turn has another; empty for the agent's own.
    pub(crate) model: String,
    /// The channel whose messages are wanted; empty for those that are for every channel.
    pub(crate) channel: String,
    /// The audio wanted back.
    pub(crate) output: AudioFormat,
    /// For the agent's webhooks.
    payload: Struct,
    /// Session parameters.
    parameters: Struct,
}

impl Conversation {
    /// A conversation that begins with `start`, under the agent's (or its environment's) resource name.
    pub(crate) fn new(
        parent: &str,
        language: &str,
        model: &str,
        channel: &str,
        start: SessionStart,
    ) -> Self {
        // Google's own telephone lines use `telephony.caller_id`, and agents read it there; the rest is ours (facts §14).
        let telephony = strings([("caller_id", start.caller)]);
        let tandem = strings([
            ("ingress", start.ingress.to_owned()),
            ("dialled", start.dialled),
        ]);
        let payload = [("telephony", telephony), ("tandem", tandem)]
            .into_iter()
            .filter(|(_, object)| !object.fields.is_empty())
            .map(|(name, object)| (name.to_owned(), value(Kind::StructValue(object))))
            .collect();
        Self {
            session: format!("{parent}/sessions/{}", start.id),
            language: language.to_owned(),
            model: model.to_owned(),
            channel: channel.to_owned(),
            output: start.output,
            payload: Struct { fields: payload },
            parameters: strings(start.parameters),
        }
    }
}

/// The first message of a turn: all of it, but for the audio of a spoken one.
///
/// The session's parameters are set only if `with_parameters`: set again, they would undo what the agent made of them. The
/// turn's own come on top of them.
pub(crate) fn first_request(
    conversation: &Conversation,
    turn: OpenTurn,
    with_parameters: bool,
) -> v3::StreamingDetectIntentRequest {
    let model = turn.model.unwrap_or_else(|| conversation.model.clone());
    v3::StreamingDetectIntentRequest {
        session: conversation.session.clone(),
        query_params: Some(v3::QueryParameters {
            payload: Some(conversation.payload.clone()),
            parameters: parameters(conversation, turn.parameters, with_parameters),
            channel: conversation.channel.clone(),
            ..v3::QueryParameters::default()
        }),
        query_input: Some(v3::QueryInput {
            input: Some(query_input(turn.input, model)),
            language_code: conversation.language.clone(),
        }),
        output_audio_config: Some(v3::OutputAudioConfig {
            audio_encoding: output_encoding(conversation.output.encoding).into(),
            sample_rate_hertz: hertz(conversation.output.rate),
            synthesize_speech_config: None,
        }),
        enable_partial_response: true,
        ..v3::StreamingDetectIntentRequest::default()
    }
}

/// The session parameters that a turn sets, if any; a null removes one (facts §14).
fn parameters(
    conversation: &Conversation,
    of_turn: BTreeMap<&'static str, Value>,
    with_parameters: bool,
) -> Option<Struct> {
    let mut parameters = match with_parameters {
        true => conversation.parameters.clone(),
        false => Struct::default(),
    };
    let of_turn = of_turn
        .into_iter()
        .map(|(name, json)| (name.to_owned(), value(struct_value(json))));
    parameters.fields.extend(of_turn);
    (!parameters.fields.is_empty()).then_some(parameters)
}

/// A later message of a spoken turn.
pub(crate) fn audio_request(audio: Bytes) -> v3::StreamingDetectIntentRequest {
    v3::StreamingDetectIntentRequest {
        query_input: Some(v3::QueryInput {
            input: Some(Input::Audio(v3::AudioInput {
                config: None,
                audio,
            })),
            ..v3::QueryInput::default()
        }),
        ..v3::StreamingDetectIntentRequest::default()
    }
}

/// The message that stands for those meant for another channel than ours.
pub(crate) const OTHER_CHANNEL: Message = Message::Unsupported("channel");

/// What an agent's messages are read for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener<'a> {
    /// The caller's language, as a BCP 47 tag.
    pub(crate) language: &'a str,
    /// The channel whose messages are wanted; if empty, no message is left out.
    pub(crate) channel: &'a str,
    /// How the agent was asked to write its speech.
    pub(crate) asked: AudioFormat,
}

/// What a message of the agent says; `None` for one that says nothing to a call (facts §3.1).
pub(crate) fn backend_event(
    message: v3::StreamingDetectIntentResponse,
    listener: Listener<'_>,
) -> Option<BackendEvent> {
    match message.response? {
        Response::RecognitionResult(result) => recognition(result),
        Response::DetectIntentResponse(response) => {
            Some(BackendEvent::Answer(Box::new(answer(response, listener))))
        }
    }
}

/// The fault that a gRPC status stands for.
///
/// A connection that breaks under a stream, or an HTTP/2 reset, shows as "unknown", "internal" or "cancelled" made by the
/// transport on our side; those carry the transport's error as their source, which a status that came from the server never
/// does. What we cancel ourselves has nobody left to read its status. A stream that just ends (GOAWAY, a proxy that resets
/// it without an error) is told by words alone.
pub(crate) fn fault(status: &Status) -> Fault {
    /// How tonic begins to say that a stream ended without a status; a test has one that does.
    const TRUNCATED: &str = "protocol error: missing grpc-status";

    let is_ours =
        std::error::Error::source(status).is_some() || status.message().starts_with(TRUNCATED);
    let kind = match status.code() {
        Code::Unknown | Code::Internal | Code::Cancelled if is_ours => FaultKind::Unavailable,
        code => fault_kind(code),
    };
    Fault {
        kind,
        message: status.message().to_owned(),
    }
}

fn fault_kind(code: Code) -> FaultKind {
    match code {
        Code::Cancelled => FaultKind::Cancelled,
        Code::InvalidArgument => FaultKind::InvalidArgument,
        Code::DeadlineExceeded => FaultKind::DeadlineExceeded,
        Code::NotFound => FaultKind::NotFound,
        Code::PermissionDenied => FaultKind::PermissionDenied,
        Code::ResourceExhausted => FaultKind::ResourceExhausted,
        Code::FailedPrecondition => FaultKind::FailedPrecondition,
        Code::Aborted => FaultKind::Aborted,
        Code::OutOfRange => FaultKind::OutOfRange,
        Code::Internal => FaultKind::Internal,
        Code::Unavailable => FaultKind::Unavailable,
        Code::Unauthenticated => FaultKind::Unauthenticated,
        Code::Ok | Code::Unknown | Code::AlreadyExists | Code::Unimplemented | Code::DataLoss => {
            FaultKind::Other
        }
    }
}

fn query_input(input: TurnInput, model: String) -> Input {
    match input {
        TurnInput::Speech { format, barge_in } => Input::Audio(v3::AudioInput {
            config: Some(v3::InputAudioConfig {
                audio_encoding: input_encoding(format.encoding).into(),
                sample_rate_hertz: hertz(format.rate),
                model,
                single_utterance: true,
                barge_in_config: barge_in_config(barge_in),
                ..v3::InputAudioConfig::default()
            }),
            audio: Bytes::new(),
        }),
        TurnInput::Text(text) => Input::Text(v3::TextInput { text }),
        TurnInput::Event(event) => Input::Event(v3::EventInput { event }),
        TurnInput::Intent(intent) => Input::Intent(v3::IntentInput { intent }),
        TurnInput::Dtmf {
            digits,
            finish_digit,
        } => Input::Dtmf(v3::DtmfInput {
            digits,
            finish_digit: finish_digit.map_or_else(String::new, |digit| digit.as_char().into()),
        }),
        TurnInput::ToolResult(result) => Input::ToolCallResult(tool_result(result)),
    }
}

fn tool_result(result: ToolResult) -> v3::ToolCallResult {
    use v3::tool_call_result::Error;
    use v3::tool_call_result::Result as Outcome;

    v3::ToolCallResult {
        tool: result.tool,
        action: result.action,
        result: Some(match result.outcome {
            Ok(output) => Outcome::OutputParameters(object(output)),
            Err(message) => Outcome::Error(Error { message }),
        }),
    }
}

/// None without a prompt: there is nothing to barge in on.
fn barge_in_config(window: BargeInWindow) -> Option<v3::BargeInConfig> {
    let duration = |duration: Duration| prost_types::Duration::try_from(duration).ok();
    (!window.total.is_zero()).then(|| v3::BargeInConfig {
        no_barge_in_duration: duration(window.no_barge_in),
        total_duration: duration(window.total),
    })
}

fn recognition(result: v3::StreamingRecognitionResult) -> Option<BackendEvent> {
    use v3::streaming_recognition_result::MessageType;

    let text = result.transcript;
    match MessageType::try_from(result.message_type).ok()? {
        MessageType::Unspecified => None,
        MessageType::EndOfSingleUtterance => Some(BackendEvent::EndOfUtterance),
        MessageType::Transcript if result.is_final => Some(BackendEvent::Final {
            text,
            end_offset: result.speech_end_offset.and_then(positive),
        }),
        // No words yet are no words: they must not cut a prompt.
        MessageType::Transcript if text.is_empty() => None,
        MessageType::Transcript => Some(BackendEvent::Interim { text }),
    }
}

fn answer(response: v3::DetectIntentResponse, listener: Listener<'_>) -> Answer {
    use v3::detect_intent_response::ResponseType;

    // A server that leaves the type out knows no partial answers.
    let partial = match response.response_type() {
        ResponseType::Partial if response.allow_cancellation => Some(Cancellation::Allowed),
        ResponseType::Partial => Some(Cancellation::Forbidden),
        ResponseType::Final | ResponseType::Unspecified => None,
    };
    let result = response.query_result.unwrap_or_default();
    let matched = result.r#match.unwrap_or_default();
    let intent = matched.intent.or(result.intent).unwrap_or_default();
    let page = result.current_page.unwrap_or_default();
    let written = response.output_audio_config;
    let format = written.map_or(Some(listener.asked), |config| {
        format(&config, listener.asked)
    });
    let mut messages = messages(result.response_messages, listener.channel);
    if format.is_none() {
        leave_sound_out(&mut messages);
    }
    Answer {
        partial,
        output_audio: format.map_or_else(Audio::default, |format| Audio {
            bytes: response.output_audio,
            format: Some(format),
        }),
        messages,
        query: result.query.map_or_else(String::new, query),
        match_kind: match_kind(matched.match_type),
        intent: either(intent.display_name, intent.name),
        page: either(page.display_name, page.name),
        settings: result
            .advanced_settings
            .map_or_else(AgentSettings::default, |asked| {
                settings::settings(asked, listener.language)
            }),
    }
}

/// How an answer's audio is written: as its config says, or else as was `asked`. `None` if it cannot be played: it would be
/// heard as noise.
fn format(config: &v3::OutputAudioConfig, asked: AudioFormat) -> Option<AudioFormat> {
    use v3::OutputAudioEncoding as Written;

    let encoding = match Written::try_from(config.audio_encoding) {
        Ok(Written::Unspecified) => return Some(asked),
        Ok(Written::Linear16) => Encoding::Linear16,
        Ok(Written::Mulaw) => Encoding::Mulaw,
        Ok(Written::Alaw) => Encoding::Alaw,
        Ok(Written::Mp3 | Written::Mp364Kbps | Written::OggOpus) | Err(_) => return None,
    };
    let rate = match (u32::try_from(config.sample_rate_hertz), encoding) {
        (Ok(0), Encoding::Linear16) => asked.rate,
        (Ok(0), Encoding::Mulaw | Encoding::Alaw) => SampleRate::HZ_8000,
        (Ok(hertz), _) => SampleRate::from_hz(hertz)?,
        (Err(_), _) => return None,
    };
    Some(AudioFormat { encoding, rate })
}

/// Takes out what cannot be played, and says so.
fn leave_sound_out(messages: &mut Vec<Message>) {
    for message in messages.iter_mut() {
        if let Message::MixedAudio(segments) = message {
            segments.retain(|segment| !matches!(segment.content, MixedContent::Audio(_)));
        }
    }
    messages.push(Message::Unsupported("output_audio_config"));
}

/// The messages for our channel. A server that is told the channel should send no others; where it does, nobody must hear
/// what was written for a chat window. All of those together become one [`OTHER_CHANNEL`].
fn messages(sent: Vec<v3::ResponseMessage>, channel: &str) -> Vec<Message> {
    use response_message::Message as Sent;

    let is_spoken_text =
        |message: &v3::ResponseMessage| matches!(message.message, Some(Sent::OutputAudioText(_)));
    let is_ours = |message: &v3::ResponseMessage| {
        channel.is_empty() || message.channel.is_empty() || message.channel == channel
    };
    let all = sent.len();
    let mut ours: Vec<_> = sent.into_iter().filter(is_ours).collect();
    let is_other = ours.len() < all;
    // Where some text is for the voice, that alone is spoken; the other is for reading (facts §13).
    if ours.iter().any(is_spoken_text) {
        ours.retain(|message| !matches!(message.message, Some(Sent::Text(_))));
    }
    let mut ours: Vec<_> = ours.into_iter().map(message).collect();
    if is_other {
        ours.push(OTHER_CHANNEL);
    }
    ours
}

fn message(message: v3::ResponseMessage) -> Message {
    use response_message::Message as Sent;
    use response_message::output_audio_text::Source;
    use response_message::telephony_transfer_call::Endpoint;

    let Some(sent) = message.message else {
        return Message::Unsupported("unknown");
    };
    match sent {
        Sent::Text(text) => Message::Text {
            // Several are ways to put the same thing.
            text: text.text.into_iter().next().unwrap_or_default(),
            interruptible: text.allow_playback_interruption,
        },
        Sent::OutputAudioText(text) => Message::Text {
            text: match text.source {
                Some(Source::Text(text)) => text,
                Some(Source::Ssml(ssml)) => words_of(&ssml),
                None => String::new(),
            },
            interruptible: text.allow_playback_interruption,
        },
        Sent::PlayAudio(clip) => Message::PlayAudio {
            uri: clip.audio_uri,
            interruptible: clip.allow_playback_interruption,
        },
        Sent::MixedAudio(mixed) => {
            Message::MixedAudio(mixed.segments.into_iter().filter_map(segment).collect())
        }
        Sent::Payload(payload) => Message::Payload(json(payload)),
        Sent::LiveAgentHandoff(handoff) => {
            Message::LiveAgentHandoff(json(handoff.metadata.unwrap_or_default()))
        }
        Sent::TelephonyTransferCall(transfer) => match transfer.endpoint {
            Some(Endpoint::PhoneNumber(number)) => Message::TransferCall(number),
            None => Message::Unsupported("telephony_transfer_call"),
        },
        Sent::EndInteraction(_) => Message::EndInteraction,
        Sent::ConversationSuccess(success) => {
            Message::ConversationSuccess(json(success.metadata.unwrap_or_default()))
        }
        Sent::KnowledgeInfoCard(_) => Message::Unsupported("knowledge_info_card"),
        Sent::ToolCall(call) => Message::ToolCall(ToolCall {
            tool: call.tool,
            action: call.action,
            parameters: json(call.input_parameters.unwrap_or_default()),
        }),
    }
}

fn segment(segment: response_message::mixed_audio::Segment) -> Option<MixedSegment> {
    use response_message::mixed_audio::segment::Content;

    let content = match segment.content? {
        Content::Audio(bytes) => MixedContent::Audio(bytes),
        Content::Uri(uri) => MixedContent::Uri(uri),
    };
    Some(MixedSegment {
        content,
        interruptible: segment.allow_playback_interruption,
    })
}

fn query(query: Query) -> String {
    match query {
        Query::Text(words)
        | Query::TriggerIntent(words)
        | Query::Transcript(words)
        | Query::TriggerEvent(words) => words,
        Query::Dtmf(input) => input.digits,
    }
}

fn match_kind(match_type: i32) -> MatchKind {
    use v3::r#match::MatchType;

    match MatchType::try_from(match_type) {
        Ok(MatchType::Intent | MatchType::DirectIntent) => MatchKind::Intent,
        Ok(MatchType::Event) => MatchKind::Event,
        Ok(MatchType::NoMatch) => MatchKind::NoMatch,
        Ok(MatchType::NoInput) => MatchKind::NoInput,
        Ok(
            MatchType::Unspecified
            | MatchType::ParameterFilling
            | MatchType::KnowledgeConnector
            | MatchType::Playbook,
        )
        | Err(_) => MatchKind::Other,
    }
}

/// A duration that is not negative.
fn positive(duration: prost_types::Duration) -> Option<Duration> {
    Duration::try_from(duration).ok()
}

fn either(first: String, second: String) -> String {
    if first.is_empty() { second } else { first }
}

/// The words of a piece of SSML, for transcripts: without tags, with the five named characters of XML put in.
fn words_of(ssml: &str) -> String {
    let mut text = String::with_capacity(ssml.len());
    let mut in_tag = false;
    for character in ssml.chars() {
        match character {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                text.push(' ');
            }
            _ if in_tag => {}
            _ => text.push(character),
        }
    }
    let words: Vec<_> = text.split_whitespace().collect();
    words
        .join(" ")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

fn input_encoding(encoding: Encoding) -> v3::AudioEncoding {
    match encoding {
        Encoding::Linear16 => v3::AudioEncoding::Linear16,
        Encoding::Mulaw => v3::AudioEncoding::Mulaw,
        Encoding::Alaw => v3::AudioEncoding::Alaw,
    }
}

fn output_encoding(encoding: Encoding) -> v3::OutputAudioEncoding {
    match encoding {
        Encoding::Linear16 => v3::OutputAudioEncoding::Linear16,
        Encoding::Mulaw => v3::OutputAudioEncoding::Mulaw,
        Encoding::Alaw => v3::OutputAudioEncoding::Alaw,
    }
}

fn hertz(rate: SampleRate) -> i32 {
    i32::try_from(rate.hz()).expect("a sample rate is at most 192 kHz")
}

/// An object of strings, without the empty ones.
fn strings<K: Into<String>>(members: impl IntoIterator<Item = (K, String)>) -> Struct {
    let fields = members
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name.into(), value(Kind::StringValue(text))))
        .collect();
    Struct { fields }
}

fn value(kind: Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

fn json(object: Struct) -> Value {
    json_of(Kind::StructValue(object), MAX_JSON_DEPTH)
}

/// A JSON object as a `Struct`; what is no object becomes one whose only member is `value`.
fn object(json: Value) -> Struct {
    match struct_value(json) {
        Kind::StructValue(object) => object,
        other => Struct {
            fields: [("value".to_owned(), value(other))].into(),
        },
    }
}

fn struct_value(json: Value) -> Kind {
    match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue {
            values: items
                .into_iter()
                .map(|item| value(struct_value(item)))
                .collect(),
        }),
        Value::Object(members) => Kind::StructValue(Struct {
            fields: members
                .into_iter()
                .map(|(name, member)| (name, value(struct_value(member))))
                .collect(),
        }),
    }
}

fn json_of(kind: Kind, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else {
        return Value::Null;
    };
    let inner =
        |value: prost_types::Value| value.kind.map_or(Value::Null, |kind| json_of(kind, depth));
    match kind {
        Kind::NullValue(_) => Value::Null,
        Kind::NumberValue(number) => json_number(number),
        Kind::StringValue(text) => Value::String(text),
        Kind::BoolValue(truth) => Value::Bool(truth),
        Kind::StructValue(object) => object
            .fields
            .into_iter()
            .map(|(name, value)| (name, inner(value)))
            .collect(),
        Kind::ListValue(list) => list.values.into_iter().map(inner).collect(),
    }
}

/// Every number of a Struct is a float; a whole one is written as one writes it, `7` and not `7.0`, as it may become a
/// header of a transferred call.
fn json_number(number: f64) -> Value {
    /// Beyond this a float no longer holds every whole number.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

    if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
        return Value::from(number as i64);
    }
    serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests;
