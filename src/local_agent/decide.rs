//! The agent's mind: a session, an input and the script in; a match, an answer and the next state out. No clock, no sound.

use tandem_proto::cx::v3;
use tandem_proto::cx::v3::r#match::MatchType;
use tandem_proto::cx::v3::query_result::Query;
use tonic::Status;

use super::convert;
use super::script::DtmfChoice;
use super::script::Reaction;
use super::script::Rule;
use super::script::Script;
use super::script::Step;
use super::script::phrase::Parameters;
use super::script::phrase::Value;
use super::script::phrase::number;
use super::script::phrase::words;
use super::session::State;

/// Documented length of a text input or transcript, in bytes.
const LONGEST_TEXT: usize = 256;

/// What the caller did in this turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Text(String),
    Intent(String),
    Event(String),
    Dtmf {
        digits: String,
        finish_digit: String,
    },
    Speech(Speech),
}

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Speech {
    /// What was understood, or what stands for speech that was not.
    pub(super) transcript: String,
    pub(super) confidence: f32,
    /// The caller made a sound.
    pub(super) spoken: bool,
    /// The transcript holds words of the page.
    pub(super) understood: bool,
}

/// What comes of a turn.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    pub(super) query: Query,
    pub(super) found: Found,
    pub(super) steps: Vec<&'a Step>,
    pub(super) state: State,
}

/// How the input was understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) kind: MatchType,
    pub(super) intent: Option<String>,
    pub(super) event: Option<String>,
    pub(super) input: String,
    pub(super) parameters: Parameters,
    pub(super) confidence: f32,
}

impl Found {
    fn of(kind: MatchType, input: &str) -> Self {
        let confidence = if kind == MatchType::NoMatch || kind == MatchType::NoInput {
            0.0
        } else {
            1.0
        };
        Self {
            kind,
            input: input.to_owned(),
            confidence,
            ..Self::default()
        }
    }
}

/// Decides a turn.
pub(super) fn decide<'a>(
    script: &'a Script,
    state: &'a State,
    input: &Input,
) -> Result<Decision<'a>, Status> {
    let (rule, mut found) = understand(script, state, input)?;
    let mut next = state.clone();
    if let Some(rule) = rule {
        found.intent = rule
            .intent
            .clone()
            .filter(|_| found.kind != MatchType::Event);
    }
    next.parameters.extend(found.parameters.clone());
    let reaction = match (rule, found.kind) {
        (Some(rule), _) => {
            (next.no_match, next.no_input) = (0, 0);
            Some(&rule.reaction)
        }
        (None, MatchType::NoInput) => {
            next.no_input += 1;
            nth(
                script
                    .pages
                    .get(&state.page)
                    .map_or(&[], |page| &page.no_input),
                &script.no_input,
                next.no_input,
            )
        }
        (None, MatchType::NoMatch) => {
            next.no_match += 1;
            nth(
                script
                    .pages
                    .get(&state.page)
                    .map_or(&[], |page| &page.no_match),
                &script.no_match,
                next.no_match,
            )
        }
        // An event that nobody waits for changes nothing.
        (None, _) => None,
    };
    let mut steps: Vec<&Step> = reaction
        .into_iter()
        .flat_map(|reaction| &reaction.answer)
        .collect();
    if let Some((name, page)) = reaction
        .and_then(|reaction| reaction.go.as_ref())
        .and_then(|go| script.pages.get_key_value(go))
    {
        steps.extend(&page.enter);
        next.page.clone_from(name);
        (next.no_match, next.no_input) = (0, 0);
    }
    for step in &steps {
        if let Step::Set(values) = step {
            next.parameters.extend(values.clone());
        }
    }
    Ok(Decision {
        query: echo(input),
        found,
        steps,
        state: next,
    })
}

/// The answer to the n-th time in a row, counted from one; the last one repeats.
fn nth<'a>(own: &'a [Reaction], general: &'a [Reaction], n: usize) -> Option<&'a Reaction> {
    let reactions = if own.is_empty() { general } else { own };
    reactions.get(n - 1).or(reactions.last())
}

fn understand<'a>(
    script: &'a Script,
    state: &'a State,
    input: &Input,
) -> Result<(Option<&'a Rule>, Found), Status> {
    let mut rules = script.rules_on(&state.page);
    Ok(match input {
        Input::Text(text) => by_words(script, state, text, 1.0),
        Input::Speech(speech) if !speech.spoken => (None, Found::of(MatchType::NoInput, "")),
        Input::Speech(speech) => match rules.find(|rule| rule.any_speech) {
            Some(rule) => (Some(rule), Found::of(kind(rule), &speech.transcript)),
            None if speech.understood => {
                by_words(script, state, &speech.transcript, speech.confidence)
            }
            None => (
                None,
                Found {
                    confidence: speech.confidence,
                    ..Found::of(MatchType::NoMatch, &speech.transcript)
                },
            ),
        },
        Input::Intent(name) => {
            let wanted = name.rsplit('/').next().unwrap_or_default();
            let rule = rules.find(|rule| rule.intent.as_deref() == Some(wanted));
            let rule = rule.ok_or_else(|| {
                Status::not_found(format!("no intent `{wanted}` on page `{}`", state.page))
            })?;
            (Some(rule), Found::of(MatchType::DirectIntent, wanted))
        }
        Input::Event(name) => {
            let rule = rules.find(|rule| rule.event.as_ref() == Some(name));
            let kind = match name.as_str() {
                event if rule.is_none() && event.starts_with("sys.no-input-") => MatchType::NoInput,
                event if rule.is_none() && event.starts_with("sys.no-match-") => MatchType::NoMatch,
                _ => MatchType::Event,
            };
            (
                rule,
                Found {
                    event: Some(name.clone()),
                    ..Found::of(kind, name)
                },
            )
        }
        Input::Dtmf { digits, .. } => {
            let hit = rules.find_map(|rule| Some((rule, by_digits(rule, digits)?)));
            match hit {
                Some((rule, parameters)) => (
                    Some(rule),
                    Found {
                        parameters,
                        ..Found::of(kind(rule), digits)
                    },
                ),
                None => (None, Found::of(MatchType::NoMatch, digits)),
            }
        }
    })
}

fn by_words<'a>(
    script: &'a Script,
    state: &'a State,
    text: &str,
    confidence: f32,
) -> (Option<&'a Rule>, Found) {
    if text.len() > LONGEST_TEXT {
        let rule = script
            .rules_on(&state.page)
            .find(|rule| rule.event.as_deref() == Some("sys.long-utterance"));
        let kind = if rule.is_some() {
            MatchType::Event
        } else {
            MatchType::NoMatch
        };
        return (
            rule,
            Found {
                event: rule.and_then(|rule| rule.event.clone()),
                ..Found::of(kind, text)
            },
        );
    }
    let sentence = words(text);
    let hit = script.rules_on(&state.page).find_map(|rule| {
        let parameters = rule
            .phrases
            .iter()
            .find_map(|phrase| phrase.matches(&sentence, &script.lists))?;
        Some((rule, parameters))
    });
    match hit {
        Some((rule, parameters)) => (
            Some(rule),
            Found {
                parameters,
                confidence,
                ..Found::of(kind(rule), text)
            },
        ),
        None => (None, Found::of(MatchType::NoMatch, text)),
    }
}

/// A rule with a name is an intent; one without asks for a value.
fn kind(rule: &Rule) -> MatchType {
    if rule.intent.is_some() {
        MatchType::Intent
    } else {
        MatchType::ParameterFilling
    }
}

fn by_digits(rule: &Rule, digits: &str) -> Option<Parameters> {
    match rule.dtmf.as_ref()? {
        DtmfChoice::Digits(wanted) => (wanted == digits).then(Parameters::new),
        DtmfChoice::Parameter(name) => {
            number(digits).map(|number| Parameters::from([(name.clone(), Value::Number(number))]))
        }
    }
}

fn echo(input: &Input) -> Query {
    match input {
        Input::Text(text) => Query::Text(text.clone()),
        Input::Intent(name) => Query::TriggerIntent(name.clone()),
        Input::Event(name) => Query::TriggerEvent(name.clone()),
        Input::Dtmf {
            digits,
            finish_digit,
        } => Query::Dtmf(v3::DtmfInput {
            digits: digits.clone(),
            finish_digit: finish_digit.clone(),
        }),
        Input::Speech(speech) => Query::Transcript(speech.transcript.clone()),
    }
}

/// The match as the protocol has it, with names under this agent.
pub(super) fn to_match(found: &Found, agent: &str) -> v3::Match {
    v3::Match {
        intent: found
            .intent
            .as_deref()
            .map(|intent| to_intent(intent, agent)),
        event: found.event.clone().unwrap_or_default(),
        parameters: Some(convert::parameters(&found.parameters)),
        resolved_input: found.input.clone(),
        match_type: found.kind.into(),
        confidence: found.confidence,
    }
}

/// An intent with its full name.
pub(super) fn to_intent(intent: &str, agent: &str) -> v3::Intent {
    v3::Intent {
        name: format!("{agent}/intents/{intent}"),
        display_name: intent.to_owned(),
        ..v3::Intent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(script: &Script, state: &State, text: &str) -> (MatchType, State) {
        let decision = decide(script, state, &Input::Text(text.to_owned())).unwrap();
        (decision.found.kind, decision.state)
    }

    #[test]
    fn a_booking_goes_from_page_to_page() {
        let script = Script::embedded();
        let start = State {
            page: "start".to_owned(),
            ..State::default()
        };
        let (kind, day) = text(
            &script,
            &start,
            "I would like to book a table for four people, please.",
        );
        assert_eq!(
            (kind, day.page.as_str(), &day.parameters["number"]),
            (MatchType::Intent, "day", &Value::Number(4.0))
        );
        let (kind, confirm) = text(&script, &day, "on Friday");
        assert_eq!(
            (kind, confirm.page.as_str()),
            (MatchType::ParameterFilling, "confirm")
        );
        let (_, more) = text(&script, &confirm, "yes");
        assert_eq!(more.page, "more");
    }

    #[test]
    fn misunderstandings_are_counted_in_a_row() {
        let script = Script::embedded();
        let mut state = State {
            page: "start".to_owned(),
            ..State::default()
        };
        for n in 1..=4 {
            let silence = Input::Speech(Speech::default());
            let decision = decide(&script, &state, &silence).unwrap();
            assert_eq!(decision.found.kind, MatchType::NoInput);
            assert_eq!(
                decision.steps.iter().any(|step| matches!(step, Step::End)),
                n >= 3
            );
            let next = decision.state;
            assert_eq!(next.no_input, n);
            state = next;
        }
        assert_eq!(text(&script, &state, "hello").1.no_input, 0);
        assert_eq!(text(&script, &state, "do you sell bicycles").1.no_match, 1);
    }

    #[test]
    fn an_unknown_intent_is_not_found_and_an_unknown_event_changes_nothing() {
        let script = Script::embedded();
        let state = State {
            page: "start".to_owned(),
            ..State::default()
        };
        assert!(
            decide(
                &script,
                &state,
                &Input::Intent("projects/x/intents/fly".to_owned())
            )
            .is_err()
        );
        let decision = decide(&script, &state, &Input::Event("rain".to_owned())).unwrap();
        assert!(decision.steps.is_empty());
        assert_eq!(decision.state, state);
    }
}
