//! The gateway's own commands, which an agent sends as a payload under one key:
//!
//! ```json
//! {"tandem": {
//!   "pause": "2s",
//!   "play": "https://example.com/clip.wav",
//!   "collect_digits": {"max": 4, "finish": "#", "timeout": "5s"},
//!   "turn": {"barge_in": "off", "no_input_timeout": "10s", "interrupt_partials": true},
//!   "transfer": "+15550100",
//!   "hang_up": true
//! }}
//! ```
//!
//! What has to be heard (`pause`, `play`) follows the speech of its answer, in the order above within one payload and in
//! the order of the payloads. `play` takes an address or the name of a file among the prompts. `turn` holds for the rest of
//! the call, `collect_digits` until the next answer. Durations are numbers of seconds or texts such as "500ms" and "2s".
//! What cannot be carried out as it stands is refused with a reason; the rest is done all the same.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;

use crate::engine::call::event::Digit;
use crate::engine::call::event::DtmfSettings;
use crate::engine::call::settings::BargeInMode;

/// The key of a payload under which commands are.
pub(super) const KEY: &str = "tandem";
/// The longest pause: nobody waits longer for nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest time that a digit or a word may be waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest address.
const LONGEST_TEXT: usize = 2_048;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// Say nothing for so long.
    Pause(Duration),
    /// Play a clip.
    Play(String),
    /// Collect the next digits like this.
    CollectDigits(DtmfSettings),
    /// Change how the caller is listened to.
    Turn(TurnChange),
    /// Transfer the caller once everything has been heard.
    Transfer(String),
    /// Hang up once everything has been heard.
    HangUp,
}

/// What of the conversation's settings changes; `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TurnChange {
    /// What cuts a prompt.
    pub(super) barge_in: Option<BargeInMode>,
    /// How long a caller may be silent.
    pub(super) no_input_timeout: Option<Duration>,
    /// Whether voice cuts PARTIAL answers.
    pub(super) cuts_partials: Option<bool>,
}

/// The commands in a payload, each or the reason why it is refused; none if it is not for us.
pub(super) fn commands(payload: &Value) -> Vec<Result<Command, String>> {
    let Some(ours) = payload.get(KEY) else {
        return Vec::new();
    };
    let Value::Object(ours) = ours else {
        return vec![Err(format!("{KEY}: must be an object"))];
    };
    const KNOWN: [&str; 6] = [
        "pause",
        "play",
        "collect_digits",
        "turn",
        "transfer",
        "hang_up",
    ];
    let mut commands = Vec::new();
    for key in KNOWN {
        if let Some(value) = ours.get(key) {
            commands.extend(
                command(key, value)
                    .map_err(|why| format!("{key}: {why}"))
                    .transpose(),
            );
        }
    }
    commands.extend(unknown(ours, &KNOWN));
    commands
}

/// One command; `None` for one that asks for nothing.
fn command(key: &str, value: &Value) -> Result<Option<Command>, String> {
    Ok(Some(match key {
        "pause" => Command::Pause(duration(value, LONGEST_PAUSE)?),
        "play" => Command::Play(text(value)?),
        "collect_digits" => Command::CollectDigits(digits(value)?),
        "turn" => Command::Turn(change(value)?),
        "transfer" => Command::Transfer(text(value)?),
        _ => match value {
            Value::Bool(true) => Command::HangUp,
            Value::Bool(false) => return Ok(None),
            _ => return Err("must be true or false".to_owned()),
        },
    }))
}

fn digits(value: &Value) -> Result<DtmfSettings, String> {
    let object = object(value)?;
    if let Some(Err(why)) = unknown(object, &["max", "finish", "timeout"]).next() {
        return Err(why);
    }
    let max_digits = object.get("max").map(count).transpose()?;
    let finish_digit = object.get("finish").map(digit).transpose()?;
    let timeout = object.get("timeout");
    let interdigit_timeout = timeout
        .map(|timeout| duration(timeout, LONGEST_WAIT))
        .transpose()?;
    Ok(DtmfSettings {
        max_digits,
        finish_digit,
        interdigit_timeout,
    })
}

fn change(value: &Value) -> Result<TurnChange, String> {
    let object = object(value)?;
    if let Some(Err(why)) = unknown(
        object,
        &["barge_in", "no_input_timeout", "interrupt_partials"],
    )
    .next()
    {
        return Err(why);
    }
    let barge_in = match object.get("barge_in").map(Value::as_str) {
        None => None,
        Some(Some("words")) => Some(BargeInMode::Words),
        Some(Some("voice")) => Some(BargeInMode::Voice),
        Some(Some("off")) => Some(BargeInMode::Off),
        Some(_) => return Err("barge_in: must be words, voice or off".to_owned()),
    };
    let timeout = object.get("no_input_timeout");
    let no_input_timeout = timeout
        .map(|timeout| duration(timeout, LONGEST_WAIT))
        .transpose()?;
    let cuts_partials = match object.get("interrupt_partials") {
        None => None,
        Some(Value::Bool(cuts)) => Some(*cuts),
        Some(_) => return Err("interrupt_partials: must be true or false".to_owned()),
    };
    Ok(TurnChange {
        barge_in,
        no_input_timeout,
        cuts_partials,
    })
}

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| "must be an object".to_owned())
}

fn unknown<'a>(
    object: &'a Map<String, Value>,
    known: &'a [&str],
) -> impl Iterator<Item = Result<Command, String>> + 'a {
    let keys = object.keys().filter(|key| !known.contains(&key.as_str()));
    keys.map(|key| Err(format!("{:.40}: unknown", key)))
}

fn text(value: &Value) -> Result<String, String> {
    match value.as_str() {
        Some(text) if !text.is_empty() && text.len() <= LONGEST_TEXT => Ok(text.to_owned()),
        _ => Err(format!("must be a text of 1 to {LONGEST_TEXT} characters")),
    }
}

fn count(value: &Value) -> Result<u32, String> {
    let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
    count
        .filter(|count| (1..=256).contains(count))
        .ok_or_else(|| "max: must be a number from 1 to 256".to_owned())
}

fn digit(value: &Value) -> Result<Digit, String> {
    let mut characters = value.as_str().unwrap_or_default().chars();
    match (
        characters.next().and_then(Digit::from_char),
        characters.next(),
    ) {
        (Some(digit), None) => Ok(digit),
        _ => Err("finish: must be one key".to_owned()),
    }
}

/// Seconds as a number, or a text with its unit.
fn duration(value: &Value, longest: Duration) -> Result<Duration, String> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let (number, unit) = match text.strip_suffix("ms") {
                Some(number) => (number, 0.001),
                None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
            };
            number
                .trim()
                .parse::<f64>()
                .ok()
                .map(|number| number * unit)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    seconds
        .filter(|seconds| (0.0..=longest.as_secs_f64()).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("must be a duration of up to {} s", longest.as_secs()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_command_is_read_in_the_order_in_which_it_is_done() {
        let payload = json!({"tandem": {
            "hang_up": true,
            "transfer": "+15550100",
            "turn": {"barge_in": "off", "no_input_timeout": 10, "interrupt_partials": true},
            "collect_digits": {"max": 4, "finish": "*", "timeout": "1.5s"},
            "play": "bell.wav",
            "pause": "500ms",
        }});
        assert_eq!(
            commands(&payload),
            [
                Ok(Command::Pause(Duration::from_millis(500))),
                Ok(Command::Play("bell.wav".into())),
                Ok(Command::CollectDigits(DtmfSettings {
                    max_digits: Some(4),
                    finish_digit: Digit::from_char('*'),
                    interdigit_timeout: Some(Duration::from_millis(1_500)),
                })),
                Ok(Command::Turn(TurnChange {
                    barge_in: Some(BargeInMode::Off),
                    no_input_timeout: Some(Duration::from_secs(10)),
                    cuts_partials: Some(true),
                })),
                Ok(Command::Transfer("+15550100".into())),
                Ok(Command::HangUp),
            ]
        );
    }

    #[test]
    fn payloads_of_the_application_are_not_for_us() {
        for payload in [
            json!({"crm": {"hang_up": true}}),
            json!([1]),
            json!("tandem"),
            json!(null),
        ] {
            assert_eq!(commands(&payload), []);
        }
    }

    #[test]
    fn what_is_wrong_is_refused_and_the_rest_is_done() {
        let payload = json!({"tandem": {
            "pause": "2h", "play": 7, "collect_digits": {"max": 0}, "turn": {"barge_in": "shout"},
            "transfer": "", "hang_up": true, "dance": 1,
        }});
        let commands = commands(&payload);
        let refused: Vec<&String> = commands
            .iter()
            .filter_map(|command| command.as_ref().err())
            .collect();
        assert_eq!(
            refused,
            [
                "pause: must be a duration of up to 30 s",
                "play: must be a text of 1 to 2048 characters",
                "collect_digits: max: must be a number from 1 to 256",
                "turn: barge_in: must be words, voice or off",
                "transfer: must be a text of 1 to 2048 characters",
                "dance: unknown",
            ]
        );
        assert!(commands.contains(&Ok(Command::HangUp)));
        assert_eq!(super::commands(&json!({"tandem": true})).len(), 1);
        for pause in [
            json!(-1),
            json!("1e999s"),
            json!("NaNs"),
            json!("s"),
            json!(true),
        ] {
            assert!(matches!(
                super::commands(&json!({"tandem": {"pause": pause}}))[..],
                [Err(_)]
            ));
        }
    }
}
