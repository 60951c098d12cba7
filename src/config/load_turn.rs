//! Reading `[turn]` and `[fallback]`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;

use super::BargeIn;
use super::Fallback;
use super::Turn;
use super::Twilio;
use super::WavFile;
use super::address::handoff;
use super::agents::language;
use super::section::Section;
use super::section::from_environment;
use super::section::items_of;
use super::section::text_of;
use super::tree::Content;
use super::tree::Node;
use crate::engine::media::frame::SampleRate;
use crate::engine::media::wav;

/// The longest prompt that is taken: who hears a minute of one file hears no agent.
const LONGEST_WAV: Duration = Duration::from_secs(60);
/// The largest file that is read: a minute at 16 kHz is just under 2 MB, the rest is for what editors write beside it.
const MAX_WAV_BYTES: u64 = 3 * 1024 * 1024;

const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// `[turn]`
pub(super) fn turn(mut section: Section<'_>) -> Turn {
    let default = Turn::default();
    let turn = Turn {
        barge_in: section
            .word("barge_in", &BargeIn::WORDS)
            .unwrap_or(default.barge_in),
        duck_db: section.number("duck_db", 0..=60).unwrap_or(default.duck_db),
        barge_in_voice: section
            .duration("barge_in_voice", TENTH..=2 * SECOND)
            .unwrap_or(default.barge_in_voice),
        barge_in_restore: section
            .duration("barge_in_restore", 2 * TENTH..=5 * SECOND)
            .unwrap_or(default.barge_in_restore),
        interrupt_partials: section
            .flag("interrupt_partials")
            .unwrap_or(default.interrupt_partials),
        back_channels: back_channels(section.table("back_channels")),
        no_input_timeout: section
            .duration("no_input_timeout", TENTH..=MINUTE)
            .unwrap_or(default.no_input_timeout),
        no_input_limit: section
            .number("no_input_limit", 1..=100)
            .unwrap_or(default.no_input_limit),
        no_input_event: section
            .read("no_input_event", text_or_none)
            .unwrap_or(default.no_input_event),
        no_input_transfer: section
            .flag("no_input_transfer")
            .unwrap_or(default.no_input_transfer),
        // With the half second in which the prompt is noticed and begins: never more than 4 s of silence.
        hold_after: section
            .duration("hold_after", 5 * TENTH..=35 * TENTH)
            .unwrap_or(default.hold_after),
        hold_prompt: section.parsed("hold_prompt", wav_file),
        endpoint_timeout: section
            .duration("endpoint_timeout", SECOND..=30 * SECOND)
            .unwrap_or(default.endpoint_timeout),
        // The service itself ends a stream after about a minute.
        stream_ceiling: section
            .duration("stream_ceiling", SECOND..=MINUTE)
            .unwrap_or(default.stream_ceiling),
        interdigit_timeout: section
            .duration("interdigit_timeout", TENTH..=MINUTE)
            .unwrap_or(default.interdigit_timeout),
        // The service takes 256 characters of input at most.
        max_digits: section
            .number("max_digits", 1..=256)
            .unwrap_or(default.max_digits),
        transfer_failed_event: section
            .text("transfer_failed_event")
            .unwrap_or(default.transfer_failed_event),
        report_heard: section.flag("report_heard").unwrap_or(default.report_heard),
    };
    section.finish();
    turn
}

/// `[fallback]`
pub(super) fn fallback(mut section: Section<'_>, twilio: &Twilio) -> Fallback {
    let default = Fallback::default();
    let fallback = Fallback {
        prompt: section.parsed("prompt", wav_file),
        apology: section.parsed("apology", wav_file),
        transfer: section.parsed("transfer", |text| handoff(text, twilio.is_set_up())),
        give_up_after: section
            .duration("give_up_after", Duration::ZERO..=MINUTE)
            .unwrap_or(default.give_up_after),
        breaker_failures: section
            .number("breaker_failures", 0..=1_000)
            .unwrap_or(default.breaker_failures),
        breaker_open: section
            .duration("breaker_open", SECOND..=10 * MINUTE)
            .unwrap_or(default.breaker_open),
    };
    section.finish();
    fallback
}

/// `turn.back_channels`: the keys are language tags.
fn back_channels(mut section: Section<'_>) -> BTreeMap<String, Vec<String>> {
    let mut lists = BTreeMap::new();
    for (tag, node) in section.rest() {
        match phrases(&tag, &node) {
            Err(reason) => section.tell(&node.origin, &tag, reason),
            // A variable has no case, and wins over the file.
            Ok((language, _)) if lists.contains_key(&language) && !from_environment(&node) => {
                let reason = "is there twice (case does not count)";
                section.tell(&node.origin, &tag, reason);
            }
            Ok((language, phrases)) => {
                lists.insert(language, phrases);
            }
        }
    }
    lists
}

fn phrases(tag: &str, node: &Node) -> Result<(String, Vec<String>), String> {
    let language = language(tag)?.to_lowercase();
    let phrases = items_of(node)?
        .iter()
        .map(|item| {
            let words = text_of(item)?.to_lowercase();
            Ok(words.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect::<Result<_, String>>()?;
    Ok((language, phrases))
}

/// A text, of which the empty one stands for none.
fn text_or_none(node: &Node) -> Result<Option<String>, String> {
    match &node.content {
        Content::Value(toml::Value::String(text)) if text.trim().is_empty() => Ok(None),
        Content::Value(_) | Content::Table(_) | Content::List(_) => {
            Ok(Some(text_of(node)?.to_owned()))
        }
    }
}

/// A file that every call can play as it is.
fn wav_file(path: &str) -> Result<WavFile, String> {
    let cannot = |error: std::io::Error| format!("{path:?} cannot be read: {error}");
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(cannot)?
        .take(MAX_WAV_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MAX_WAV_BYTES {
        return Err(format!("{path:?} is longer than 3 MiB"));
    }
    let wav = wav::parse(&bytes).map_err(|error| format!("{path:?} cannot be played: {error}"))?;
    let format = wav.format;
    if ![SampleRate::HZ_8000, SampleRate::HZ_16000].contains(&format.rate) {
        let hertz = format.rate.hz();
        return Err(format!(
            "{path:?} cannot be played: it must be at 8 or 16 kHz, not {hertz} Hz"
        ));
    }
    let samples = wav.data.len() / format.encoding.bytes_per_sample();
    if samples == 0 {
        return Err(format!(
            "{path:?} cannot be played: there is no sound in it"
        ));
    }
    if samples as u64 > format.rate.samples_in(LONGEST_WAV) {
        let seconds = LONGEST_WAV.as_secs();
        return Err(format!("{path:?} is longer than {seconds} s"));
    }
    Ok(WavFile {
        path: path.into(),
        samples: Bytes::from(bytes).slice(wav.data),
        format,
    })
}
