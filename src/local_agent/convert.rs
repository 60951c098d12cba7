//! Between our values and those of protocol buffers.

use std::time::Duration;

use prost::Message;
use prost_types::ListValue;
use prost_types::Struct;
use prost_types::value::Kind;
use tonic::Status;

use super::script::phrase::Parameters;
use super::script::phrase::Value;

/// A message of one version of the API as that of the other: they agree on every number, so the bytes are the same.
pub(super) fn transcode<Theirs: Message + Default>(ours: &impl Message) -> Result<Theirs, Status> {
    Theirs::decode(ours.encode_to_vec().as_slice())
        .map_err(|error| Status::internal(error.to_string()))
}

/// Parameters as a struct.
pub(super) fn parameters(parameters: &Parameters) -> Struct {
    let kind = |value: &Value| match value {
        Value::Number(number) => Kind::NumberValue(*number),
        Value::Text(text) => Kind::StringValue(text.clone()),
    };
    Struct {
        fields: parameters
            .iter()
            .map(|(name, value)| (name.clone(), wrap(kind(value))))
            .collect(),
    }
}

/// A struct into parameters: null removes one. Lists and structs have no place in a sentence and are left out.
pub(super) fn merge(parameters: &mut Parameters, from: &Struct) {
    for (name, value) in &from.fields {
        match &value.kind {
            Some(Kind::NumberValue(number)) => {
                parameters.insert(name.clone(), Value::Number(*number))
            }
            Some(Kind::StringValue(text)) => {
                parameters.insert(name.clone(), Value::Text(text.clone()))
            }
            Some(Kind::BoolValue(flag)) => {
                parameters.insert(name.clone(), Value::Text(flag.to_string()))
            }
            Some(Kind::NullValue(_)) | None => parameters.remove(name),
            Some(Kind::StructValue(_) | Kind::ListValue(_)) => None,
        };
    }
}

/// A table of the script as a struct.
pub(super) fn table(table: &toml::Table) -> Struct {
    Struct {
        fields: table
            .iter()
            .map(|(name, value)| (name.clone(), wrap(toml_kind(value))))
            .collect(),
    }
}

fn toml_kind(value: &toml::Value) -> Kind {
    match value {
        toml::Value::String(text) => Kind::StringValue(text.clone()),
        toml::Value::Integer(number) => Kind::NumberValue(*number as f64),
        toml::Value::Float(number) => Kind::NumberValue(*number),
        toml::Value::Boolean(flag) => Kind::BoolValue(*flag),
        toml::Value::Datetime(time) => Kind::StringValue(time.to_string()),
        toml::Value::Array(values) => Kind::ListValue(ListValue {
            values: values.iter().map(toml_kind).map(wrap).collect(),
        }),
        toml::Value::Table(inner) => Kind::StructValue(table(inner)),
    }
}

fn wrap(kind: Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

/// A duration of ours.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or_default()
}

/// A duration of theirs; a negative one is none at all.
pub(super) fn from_duration(duration: Option<prost_types::Duration>) -> Duration {
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .unwrap_or_default()
}
