//! Phrases: what a caller may say, written as `[can i] book a table for {number}`.
//!
//! Words stand for themselves, `[…]` may be left out, `(a|b)` is a choice and `{name}` is a parameter: `{number}`, or a list
//! from `[words]` of the script. The same tree matches text and becomes the recogniser's grammar, so that both agree.

use std::collections::BTreeMap;

/// Nesting beyond this is refused, so that a script cannot overflow the stack.
const MAX_DEPTH: usize = 8;

/// The built-in parameter of whole numbers. Spoken up to this table's end, typed up to six digits.
pub(in crate::local_agent) const NUMBER: &str = "number";

const NUMBERS: [&str; 20] = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// The words of `{number}`, in order from one.
pub(in crate::local_agent) fn number_words() -> &'static [&'static str] {
    &NUMBERS
}

/// A parsed phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::local_agent) enum Phrase {
    Word(String),
    Parameter(String),
    Sequence(Vec<Phrase>),
    Choice(Vec<Phrase>),
    Optional(Box<Phrase>),
}

/// A parameter's value as the caller gave it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::local_agent) enum Value {
    Number(f64),
    Text(String),
}

impl Value {
    /// How the value reads in a sentence.
    pub(in crate::local_agent) fn spoken(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// Named values: those of a phrase, of a session, of a request.
pub(in crate::local_agent) type Parameters = BTreeMap<String, Value>;

/// The lists of the script, by parameter name. Each entry is one or more words.
pub(in crate::local_agent) type Lists = BTreeMap<String, Vec<String>>;

/// Lower case, no punctuation: what a typed sentence and a phrase have in common.
pub(in crate::local_agent) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .map(|word| word.trim_matches('\'').to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

impl Phrase {
    /// Parses a phrase, or says what is wrong with it.
    pub(in crate::local_agent) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            rest: text,
            depth: 0,
        };
        let phrase = parser.choice()?;
        match parser.rest.chars().next() {
            Some(c) => Err(format!("`{c}` without its beginning")),
            None if phrase.matches_nothing() => {
                Err("would match silence; at least one word must be said".to_owned())
            }
            None => Ok(phrase),
        }
    }

    /// The parameters of a sentence that is this phrase from its first to its last word.
    pub(in crate::local_agent) fn matches(
        &self,
        sentence: &[String],
        lists: &Lists,
    ) -> Option<Parameters> {
        self.readings(sentence, 0, lists)
            .into_iter()
            .find(|(end, _)| *end == sentence.len())
            .map(|(_, found)| found)
    }

    /// Where this phrase may end when it begins at `start`, longest optional parts first.
    fn readings(
        &self,
        sentence: &[String],
        start: usize,
        lists: &Lists,
    ) -> Vec<(usize, Parameters)> {
        match self {
            Self::Word(word) => match sentence.get(start) {
                Some(heard) if heard == word => vec![(start + 1, Parameters::new())],
                _ => Vec::new(),
            },
            Self::Parameter(name) => parameter_readings(name, &sentence[start..], lists)
                .map(|(length, value)| (start + length, Parameters::from([(name.clone(), value)])))
                .collect(),
            Self::Optional(inner) => {
                let mut readings = inner.readings(sentence, start, lists);
                readings.push((start, Parameters::new()));
                readings
            }
            Self::Choice(choices) => choices
                .iter()
                .flat_map(|choice| choice.readings(sentence, start, lists))
                .collect(),
            Self::Sequence(parts) => {
                let mut readings = vec![(start, Parameters::new())];
                for part in parts {
                    readings = readings
                        .iter()
                        .flat_map(|(end, found)| {
                            part.readings(sentence, *end, lists)
                                .into_iter()
                                .map(|(end, more)| {
                                    let mut all = found.clone();
                                    all.extend(more);
                                    (end, all)
                                })
                        })
                        .collect();
                    // Two ways to the same place are one way: without this, nested options grow exponentially.
                    readings.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
                    readings.dedup_by_key(|(end, _)| *end);
                }
                readings
            }
        }
    }

    /// Calls `visit` for every word and parameter.
    pub(in crate::local_agent) fn visit(&self, visit: &mut impl FnMut(&Self)) {
        match self {
            Self::Word(_) | Self::Parameter(_) => visit(self),
            Self::Sequence(parts) | Self::Choice(parts) => {
                parts.iter().for_each(|part| part.visit(visit));
            }
            Self::Optional(inner) => inner.visit(visit),
        }
    }

    fn matches_nothing(&self) -> bool {
        match self {
            Self::Word(_) | Self::Parameter(_) => false,
            Self::Optional(_) => true,
            Self::Sequence(parts) => parts.iter().all(Self::matches_nothing),
            Self::Choice(choices) => choices.iter().any(Self::matches_nothing),
        }
    }
}

fn parameter_readings(
    name: &str,
    rest: &[String],
    lists: &Lists,
) -> impl Iterator<Item = (usize, Value)> {
    let number = if name == NUMBER {
        rest.first().and_then(|word| number(word))
    } else {
        None
    };
    let entries = lists
        .get(name)
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter_map(|entry| {
            let words = words(entry);
            rest.starts_with(&words)
                .then(|| (words.len(), Value::Text(entry.clone())))
        });
    number
        .map(|number| (1, Value::Number(number)))
        .into_iter()
        .chain(entries.collect::<Vec<_>>())
}

/// A number word, or up to six digits.
pub(in crate::local_agent) fn number(word: &str) -> Option<f64> {
    if let Some(index) = NUMBERS.iter().position(|name| *name == word) {
        return u32::try_from(index + 1).ok().map(f64::from);
    }
    let digits = word.len() <= 6 && word.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        word.parse::<u32>().ok().map(f64::from)
    } else {
        None
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn choice(&mut self) -> Result<Phrase, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        let mut choices = vec![self.sequence()?];
        while self.take('|') {
            choices.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if choices.len() == 1 {
            choices.remove(0)
        } else {
            Phrase::Choice(choices)
        })
    }

    fn sequence(&mut self) -> Result<Phrase, String> {
        let mut parts = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None | Some('|' | ')' | ']') => break,
                Some('(') => parts.push(self.group(')')?),
                Some('[') => parts.push(Phrase::Optional(Box::new(self.group(']')?))),
                Some('{') => parts.push(self.parameter()?),
                Some(_) => parts.push(self.word()?),
            }
        }
        match parts.len() {
            0 => Err("an empty phrase, group or choice".to_owned()),
            1 => Ok(parts.remove(0)),
            _ => Ok(Phrase::Sequence(parts)),
        }
    }

    fn group(&mut self, end: char) -> Result<Phrase, String> {
        self.rest = &self.rest[1..];
        let inner = self.choice()?;
        if self.take(end) {
            Ok(inner)
        } else {
            Err(format!("`{end}` is missing"))
        }
    }

    fn parameter(&mut self) -> Result<Phrase, String> {
        let (name, rest) = self.rest[1..].split_once('}').ok_or("`}` is missing")?;
        self.rest = rest;
        Ok(Phrase::Parameter(name.trim().to_owned()))
    }

    fn word(&mut self) -> Result<Phrase, String> {
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || "|()[]{}".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if !word.chars().all(|c| c.is_ascii_lowercase() || c == '\'') {
            return Err(format!(
                "`{word}`: words are written in small letters and spelled out, as they are spoken"
            ));
        }
        self.rest = rest;
        Ok(Phrase::Word(word.to_owned()))
    }

    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_matches_with_and_without_its_optional_words() {
        let phrase =
            Phrase::parse("[can i|i want to] book a table for {number} [people] [on {day}]")
                .unwrap();
        let lists = Lists::from([("day".to_owned(), vec!["next friday".to_owned()])]);
        let found = phrase
            .matches(
                &words("Can I book a table for four, on next Friday?"),
                &lists,
            )
            .unwrap();
        assert_eq!(found["number"], Value::Number(4.0));
        assert_eq!(found["day"], Value::Text("next friday".to_owned()));
        assert_eq!(
            phrase
                .matches(&words("book a table for 12 people"), &lists)
                .unwrap()["number"],
            Value::Number(12.0)
        );
        assert_eq!(phrase.matches(&words("book a table"), &lists), None);
        assert_eq!(
            phrase.matches(&words("book a table for two and a dog"), &lists),
            None
        );
    }

    #[test]
    fn a_bad_phrase_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("book (a|", "empty"),
            ("book (a table", "`)` is missing"),
            ("book a] table", "`]` without"),
            ("[please]", "silence"),
            ("Table 4", "small letters"),
            ("((((((((((a))))))))))", "nested"),
            ("for {number", "`}`"),
        ] {
            let problem = Phrase::parse(text).unwrap_err();
            assert!(problem.contains(reason), "{text}: {problem}");
        }
    }
}
