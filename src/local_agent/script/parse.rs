//! From TOML to a [`Script`]: shapes first, then what refers to what.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Table;
use toml::Value as Toml;
use tonic::Code;

use super::DEFAULT_AGENT;
use super::DtmfChoice;
use super::DtmfSettings;
use super::Fault;
use super::HearingSettings;
use super::Page;
use super::Problem;
use super::Reaction;
use super::Rule;
use super::Script;
use super::ServerSettings;
use super::Step;
use super::VoiceProgram;
use super::VoiceSettings;
use super::phrase::Lists;
use super::phrase::NUMBER;
use super::phrase::Phrase;
use super::phrase::Value;
use super::phrase::words;
use super::reader::Reader;

pub(super) fn script(text: &str) -> Result<Script, Vec<Problem>> {
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            return Err(vec![Problem {
                key: "script".to_owned(),
                reason: error.to_string(),
            }]);
        }
    };
    let mut problems = Vec::new();
    let mut reader = Reader::new("", table, &mut problems);
    let script = Script {
        voice: voice(section(&mut reader, "voice")),
        hearing: hearing(section(&mut reader, "hearing")),
        server: server(section(&mut reader, "server")),
        agents: agents(section(&mut reader, "agents")),
        lists: lists(section(&mut reader, "words")),
        pages: pages(&mut reader),
        rules: each(&mut reader, "rules", rule),
        no_match: each(&mut reader, "no_match", reaction_value),
        no_input: each(&mut reader, "no_input", reaction_value),
        faults: each(&mut reader, "faults", fault),
    };
    reader.finish();
    check_references(&script, &mut problems);
    if problems.is_empty() {
        Ok(script)
    } else {
        Err(problems)
    }
}

fn section<'a>(reader: &'a mut Reader<'_>, name: &str) -> Reader<'a> {
    let table = reader.table(name).unwrap_or_default();
    let key = reader.path(name);
    Reader::new(&key, table, reader.problems())
}

/// Reads every element of a list with its key.
fn each<T>(
    reader: &mut Reader<'_>,
    name: &str,
    read: impl Fn(Toml, &str, &mut Vec<Problem>) -> T,
) -> Vec<T> {
    let values = reader.list(name);
    let key = reader.path(name);
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| read(value, &format!("{key}[{index}]"), reader.problems()))
        .collect()
}

fn voice(mut reader: Reader<'_>) -> VoiceSettings {
    let program = match reader.text("program").as_deref() {
        None | Some("flite") => VoiceProgram::Flite,
        Some("espeak-ng") => VoiceProgram::Espeak,
        Some(_) => {
            reader.problem("program", "should be \"flite\" or \"espeak-ng\"");
            VoiceProgram::Flite
        }
    };
    let name = reader.text("name").unwrap_or_else(|| match program {
        VoiceProgram::Flite => "slt".to_owned(),
        VoiceProgram::Espeak => "en-us".to_owned(),
    });
    if name.is_empty()
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    {
        reader.problem("name", "should be the name of a voice, such as \"slt\"");
    }
    let settings = VoiceSettings {
        program,
        name,
        cache_bytes: reader.number("cache_mb", 16, 0..=4096) as usize * 1024 * 1024,
        at_once: reader.number("at_once", 2, 1..=64) as usize,
    };
    reader.finish();
    settings
}

fn hearing(mut reader: Reader<'_>) -> HearingSettings {
    let settings = HearingSettings {
        decoders: reader.number("decoders", 4, 1..=64) as usize,
        models: reader.text("models").map(PathBuf::from),
        end_of_speech: reader
            .duration("end_of_speech")
            .unwrap_or(Duration::from_millis(700)),
        no_speech_timeout: reader
            .duration("no_speech_timeout")
            .unwrap_or(Duration::from_secs(5)),
        reject_below: reader.share("reject_below", 0.5),
        unclear: reader
            .text("unclear")
            .unwrap_or_else(|| "(unclear)".to_owned()),
    };
    reader.finish();
    settings
}

fn server(mut reader: Reader<'_>) -> ServerSettings {
    let settings = ServerSettings {
        late_headers: reader.flag("late_headers", false),
        mixed_audio: reader.flag("mixed_audio", false),
        stream_audio_limit: reader
            .duration("stream_audio_limit")
            .unwrap_or(Duration::from_secs(60)),
        audio_stall: reader
            .duration("audio_stall")
            .unwrap_or(Duration::from_secs(10)),
        session_ttl: reader
            .duration("session_ttl")
            .unwrap_or(Duration::from_secs(30 * 60)),
        sessions: reader.number("sessions", 10_000, 1..=1_000_000) as usize,
        streams_per_connection: reader.number("streams_per_connection", 100, 1..=100_000) as u32,
    };
    reader.finish();
    settings
}

fn agents(mut reader: Reader<'_>) -> BTreeMap<String, String> {
    let mut agents = BTreeMap::new();
    for (id, value) in reader.rest() {
        let key = reader.path(&id);
        let Toml::Table(table) = value else {
            reader.wrong::<()>(&id, "a table with `start`", &value);
            continue;
        };
        let mut agent = Reader::new(&key, table, reader.problems());
        match agent.text("start") {
            Some(start) => {
                agents.insert(id, start);
            }
            None => agent.problem("start", "the page where conversations begin is missing"),
        }
        agent.finish();
    }
    agents
}

fn lists(mut reader: Reader<'_>) -> Lists {
    let mut lists = Lists::new();
    let names: Vec<String> = {
        let rest = reader.rest();
        let mut names = Vec::new();
        for (name, value) in rest {
            let entries: Option<Vec<String>> = value.as_array().map(|entries| {
                entries
                    .iter()
                    .filter_map(Toml::as_str)
                    .map(str::to_lowercase)
                    .collect()
            });
            match entries {
                Some(entries)
                    if !entries.is_empty() && entries.iter().all(|entry| spoken(entry)) =>
                {
                    names.push(name.clone());
                    lists.insert(name, entries);
                }
                _ => reader.problem(
                    &name,
                    "should be a list of spoken words, such as [\"monday\", \"next friday\"]",
                ),
            }
        }
        names
    };
    if names.iter().any(|name| name == NUMBER) {
        reader.problem(NUMBER, "is built in");
    }
    lists
}

fn spoken(entry: &str) -> bool {
    !words(entry).is_empty()
        && entry
            .chars()
            .all(|c| c.is_ascii_lowercase() || c == '\'' || c == ' ')
}

fn pages(reader: &mut Reader<'_>) -> BTreeMap<String, Page> {
    let mut section = section(reader, "pages");
    let mut pages = BTreeMap::new();
    for (name, value) in section.rest() {
        let key = section.path(&name);
        match value {
            Toml::Table(table) => {
                pages.insert(name, page(Reader::new(&key, table, section.problems())));
            }
            other => {
                section.wrong::<()>(&name, "a table", &other);
            }
        }
    }
    pages
}

fn page(mut reader: Reader<'_>) -> Page {
    let recogniser = match reader.text("recogniser").as_deref() {
        None | Some("on") => true,
        Some("off") => false,
        Some(_) => {
            reader.problem("recogniser", "should be \"on\" or \"off\"");
            true
        }
    };
    let page = Page {
        recogniser,
        no_speech_timeout: reader.duration("no_speech_timeout"),
        dtmf: reader.table("dtmf").map(|table| {
            let key = reader.path("dtmf");
            dtmf_settings(Reader::new(&key, table, reader.problems()))
        }),
        enter: each(&mut reader, "enter", step)
            .into_iter()
            .flatten()
            .collect(),
        rules: each(&mut reader, "rules", rule),
        no_match: each(&mut reader, "no_match", reaction_value),
        no_input: each(&mut reader, "no_input", reaction_value),
    };
    reader.finish();
    page
}

fn dtmf_settings(mut reader: Reader<'_>) -> DtmfSettings {
    let settings = DtmfSettings {
        max_digits: reader.number("max_digits", 20, 1..=50) as i32,
        finish_digit: reader.text("finish_digit").unwrap_or_default(),
        interdigit_timeout: reader.duration("interdigit_timeout"),
        endpointing_timeout: reader.duration("endpointing_timeout"),
    };
    reader.finish();
    settings
}

fn rule(value: Toml, key: &str, problems: &mut Vec<Problem>) -> Rule {
    let mut reader = table(value, key, problems);
    let texts = reader.list("phrases");
    let mut phrases = Vec::new();
    for text in texts {
        match text.as_str().map(Phrase::parse) {
            Some(Ok(phrase)) => phrases.push(phrase),
            Some(Err(reason)) => reader.problem("phrases", format!("{text}: {reason}")),
            None => reader.problem("phrases", format!("should be a text, is {text}")),
        }
    }
    let rule = Rule {
        intent: reader.text("intent"),
        phrases,
        any_speech: reader.flag("any_speech", false),
        dtmf: dtmf_choice(&mut reader),
        event: reader.text("event"),
        reaction: reaction(&mut reader),
    };
    if rule.intent.is_none()
        && rule.phrases.is_empty()
        && !rule.any_speech
        && rule.dtmf.is_none()
        && rule.event.is_none()
    {
        reader.problem(
            "",
            "nothing leads here: needs `phrases`, `any_speech`, `dtmf`, `event` or `intent`",
        );
    }
    reader.finish();
    rule
}

fn dtmf_choice(reader: &mut Reader<'_>) -> Option<DtmfChoice> {
    let text = reader.text("dtmf")?;
    if let Some(name) = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    {
        return Some(DtmfChoice::Parameter(name.to_owned()));
    }
    if text.is_empty()
        || !text
            .chars()
            .all(|c| c.is_ascii_digit() || "*#ABCD".contains(c))
    {
        reader.problem(
            "dtmf",
            "should be digits, or a parameter such as \"{number}\"",
        );
    }
    Some(DtmfChoice::Digits(text))
}

/// A reaction on its own, for `no_match` and `no_input`: a table, or just a sentence.
fn reaction_value(value: Toml, key: &str, problems: &mut Vec<Problem>) -> Reaction {
    if let Toml::String(text) = value {
        return Reaction {
            answer: vec![Step::Say {
                text,
                interruptible: true,
            }],
            go: None,
        };
    }
    let mut reader = table(value, key, problems);
    let reaction = reaction(&mut reader);
    reader.finish();
    reaction
}

fn reaction(reader: &mut Reader<'_>) -> Reaction {
    Reaction {
        answer: each(reader, "answer", step).into_iter().flatten().collect(),
        go: reader.text("go"),
    }
}

/// A step: a sentence, or a table with exactly one of the words below.
fn step(value: Toml, key: &str, problems: &mut Vec<Problem>) -> Option<Step> {
    if let Toml::String(text) = value {
        return Some(Step::Say {
            text,
            interruptible: true,
        });
    }
    let mut reader = table(value, key, problems);
    let interruptible = reader.flag("interruptible", true);
    let allow_cancellation = reader.flag("allow_cancellation", false);
    let mut steps: Vec<Step> = Vec::new();
    steps.extend(reader.text("say").map(|text| Step::Say {
        text,
        interruptible,
    }));
    steps.extend(
        reader
            .text("play")
            .map(|uri| Step::Play { uri, interruptible }),
    );
    steps.extend(reader.flag("echo", false).then_some(Step::Echo));
    steps.extend(reader.duration("wait").map(Step::Wait));
    steps.extend(
        reader
            .flag("partial", false)
            .then_some(Step::Partial { allow_cancellation }),
    );
    steps.extend(reader.table("set").map(|table| {
        Step::Set(
            table
                .into_iter()
                .map(|(name, value)| (name, parameter(&value)))
                .collect(),
        )
    }));
    steps.extend(reader.table("payload").map(Step::Payload));
    steps.extend(reader.table("success").map(Step::Success));
    steps.extend(reader.table("hand_off").map(Step::HandOff));
    steps.extend(reader.text("transfer").map(Step::Transfer));
    steps.extend(reader.flag("end", false).then_some(Step::End));
    steps.extend(status(&mut reader, "fail").map(Step::Fail));
    if steps.len() != 1 {
        reader.problem("", "should have exactly one of say, play, echo, wait, partial, set, payload, success, hand_off, transfer, end, fail");
    }
    reader.finish();
    steps.pop()
}

fn parameter(value: &Toml) -> Value {
    match value {
        Toml::String(text) => Value::Text(text.clone()),
        Toml::Integer(number) => Value::Number(*number as f64),
        Toml::Float(number) => Value::Number(*number),
        other => Value::Text(other.to_string()),
    }
}

fn fault(value: Toml, key: &str, problems: &mut Vec<Problem>) -> Fault {
    let mut reader = table(value, key, problems);
    let fault = Fault {
        agent: reader.text("agent"),
        stream: Some(reader.number("stream", 0, 0..=1_000_000) as u64).filter(|stream| *stream > 0),
        status: status(&mut reader, "status").unwrap_or(Code::Unavailable),
        after: reader.duration("after").unwrap_or_default(),
    };
    reader.finish();
    fault
}

fn status(reader: &mut Reader<'_>, name: &str) -> Option<Code> {
    let text = reader.text(name)?;
    let code = (1..=16)
        .map(Code::from_i32)
        .find(|code| format!("{code:?}").eq_ignore_ascii_case(&text.replace('_', "")));
    if code.is_none() {
        reader.problem(name, "should be a gRPC status such as \"UNAVAILABLE\"");
    }
    code
}

fn table<'a>(value: Toml, key: &str, problems: &'a mut Vec<Problem>) -> Reader<'a> {
    match value {
        Toml::Table(table) => Reader::new(key, table, problems),
        other => {
            let mut reader = Reader::new(key, Table::new(), problems);
            reader.wrong::<()>("", "a table", &other);
            reader
        }
    }
}

/// Pages that rules go to, and parameters that phrases name, must exist.
fn check_references(script: &Script, problems: &mut Vec<Problem>) {
    let mut problem = |key: String, reason: String| problems.push(Problem { key, reason });
    if !script.agents.contains_key(DEFAULT_AGENT) {
        problem(format!("agents.{DEFAULT_AGENT}"), "is missing".to_owned());
    }
    for (agent, start) in &script.agents {
        if !script.pages.contains_key(start) {
            problem(
                format!("agents.{agent}.start"),
                format!("there is no page `{start}`"),
            );
        }
    }
    let mut check = |key: String, reaction: &Reaction, phrases: &[Phrase]| {
        if let Some(page) = reaction
            .go
            .as_ref()
            .filter(|page| !script.pages.contains_key(*page))
        {
            problem(format!("{key}.go"), format!("there is no page `{page}`"));
        }
        for phrase in phrases {
            phrase.visit(&mut |part| match part {
                Phrase::Parameter(name) if name != NUMBER && !script.lists.contains_key(name) => {
                    problem(
                        format!("{key}.phrases"),
                        format!("`{{{name}}}` is neither {{number}} nor a list of [words]"),
                    );
                }
                _ => {}
            });
        }
    };
    let everywhere = std::iter::once((
        String::new(),
        &script.rules,
        &script.no_match,
        &script.no_input,
    ));
    let pages = script.pages.iter().map(|(name, page)| {
        (
            format!("pages.{name}."),
            &page.rules,
            &page.no_match,
            &page.no_input,
        )
    });
    for (prefix, rules, no_match, no_input) in everywhere.chain(pages) {
        rules.iter().enumerate().for_each(|(index, rule)| {
            check(
                format!("{prefix}rules[{index}]"),
                &rule.reaction,
                &rule.phrases,
            );
        });
        no_match.iter().enumerate().for_each(|(index, reaction)| {
            check(format!("{prefix}no_match[{index}]"), reaction, &[]);
        });
        no_input.iter().enumerate().for_each(|(index, reaction)| {
            check(format!("{prefix}no_input[{index}]"), reaction, &[]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once_with_its_key() {
        let text = r#"
            colour = "red"
            [server]
            late_headers = "yes"
            audio_stall = "soon"
            [agents.default]
            start = "nowhere"
            [pages.start]
            enter = ["Hello.", { shout = "Hi" }]
            [[pages.start.rules]]
            phrases = ["Book 2 tables", "on {day}"]
            go = "day"
            [[pages.start.rules]]
            answer = "nothing leads here"
            [[faults]]
            status = "SAD"
        "#;
        let problems = Script::parse(text).unwrap_err();
        let keys: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        for key in [
            "colour",
            "server.late_headers",
            "server.audio_stall",
            "agents.default.start",
            "pages.start.enter[1]",
            "pages.start.enter[1].shout",
            "pages.start.rules[0].phrases",
            "pages.start.rules[0].go",
            "pages.start.rules[1]",
            "faults[0].status",
        ] {
            assert!(keys.contains(&key), "{key} is not in {problems:#?}");
        }
    }

    #[test]
    fn the_embedded_script_has_no_problem() {
        if let Err(problems) = Script::parse(super::super::EMBEDDED) {
            panic!("{problems:#?}");
        }
    }
}
