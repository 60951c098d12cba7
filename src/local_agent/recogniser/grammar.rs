//! From phrases to what the decoder wants: a JSGF grammar per page, and how each word sounds.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::super::script::phrase::Lists;
use super::super::script::phrase::NUMBER;
use super::super::script::phrase::Phrase;
use super::super::script::phrase::number_words;
use super::super::script::phrase::words;

/// The grammar that hears any sound of English. An utterance that fits it much better than the page's phrases is none of them.
pub(super) const ANY_SOUND: &str = "any-sound";

const PHONES: [&str; 39] = [
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH",
    "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH",
    "UW", "V", "W", "Y", "Z", "ZH",
];

/// A word for each phone, so that a grammar can name it. The spelling cannot be a word of a script.
pub(super) fn phone_words() -> impl Iterator<Item = (String, &'static str)> {
    PHONES.iter().map(|phone| (phone_word(phone), *phone))
}

fn phone_word(phone: &str) -> String {
    format!("_{phone}")
}

/// Any sequence of phones. A weight of 0.1 each holds the balance between "every noise is free" and "phrases always win": of
/// 0.01 … 0.1 all separate about equally well, and the gate in `super` is set for this one.
pub(super) fn any_sound() -> String {
    let phones: Vec<String> = PHONES
        .iter()
        .map(|phone| format!("/0.1/ {}", phone_word(phone)))
        .collect();
    format!(
        "#JSGF V1.0;\ngrammar any;\npublic <utterance> = <phone>+;\n<phone> = {};\n",
        phones.join(" | ")
    )
}

/// The grammar of a page: exactly one of its phrases.
pub(super) fn page<'a>(phrases: impl Iterator<Item = &'a Phrase>, lists: &Lists) -> String {
    let mut choices: Vec<String> = Vec::new();
    for phrase in phrases {
        let mut rule = String::new();
        write(phrase, lists, &mut rule);
        choices.push(rule);
    }
    format!(
        "#JSGF V1.0;\ngrammar page;\npublic <utterance> = {};\n",
        choices.join(" | ")
    )
}

fn write(phrase: &Phrase, lists: &Lists, into: &mut String) {
    match phrase {
        Phrase::Word(word) => {
            let _ = write!(into, "{word} ");
        }
        Phrase::Parameter(name) => {
            let _ = write!(into, "({}) ", spoken_values(name, lists).join(" | "));
        }
        Phrase::Sequence(parts) => parts.iter().for_each(|part| write(part, lists, into)),
        Phrase::Choice(choices) => {
            for (index, choice) in choices.iter().enumerate() {
                into.push_str(if index == 0 { "(" } else { "| " });
                write(choice, lists, into);
            }
            into.push_str(") ");
        }
        Phrase::Optional(inner) => {
            into.push('[');
            write(inner, lists, into);
            into.push_str("] ");
        }
    }
}

fn spoken_values(name: &str, lists: &Lists) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    if name == NUMBER {
        values.extend(number_words().iter().map(ToString::to_string));
    }
    values.extend(
        lists
            .get(name)
            .into_iter()
            .flatten()
            .map(|entry| words(entry).join(" ")),
    );
    values
}

/// Every word that these phrases can contain.
pub(super) fn vocabulary<'a>(
    phrases: impl Iterator<Item = &'a Phrase>,
    lists: &Lists,
) -> BTreeSet<String> {
    let mut vocabulary = BTreeSet::new();
    for phrase in phrases {
        phrase.visit(&mut |part| match part {
            Phrase::Word(word) => {
                vocabulary.insert(word.clone());
            }
            Phrase::Parameter(name) => vocabulary.extend(
                spoken_values(name, lists)
                    .iter()
                    .flat_map(|value| words(value)),
            ),
            Phrase::Sequence(_) | Phrase::Choice(_) | Phrase::Optional(_) => {}
        });
    }
    vocabulary
}

/// Picks the pronunciations of `vocabulary` out of a CMU dictionary (`word PHONE PHONE…`, further ways as `word(2)`). Returns
/// them and the words that it lacks.
pub(super) fn pronunciations(
    dictionary: &str,
    vocabulary: &BTreeSet<String>,
) -> (Vec<(String, String)>, Vec<String>) {
    let mut found: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for line in dictionary.lines() {
        let Some((spelling, phones)) = line.split_once(' ') else {
            continue;
        };
        let word = spelling.split_once('(').map_or(spelling, |(word, _)| word);
        if let Some(word) = vocabulary.get(word) {
            found
                .entry(word)
                .or_default()
                .push((spelling.to_owned(), phones.trim().to_owned()));
        }
    }
    let missing = vocabulary
        .iter()
        .filter(|word| !found.contains_key(word.as_str()))
        .cloned()
        .collect();
    // A further pronunciation must follow its first.
    let pronunciations = found.into_values().flat_map(|mut ways| {
        ways.sort_by_key(|(spelling, _)| spelling.contains('('));
        ways
    });
    (pronunciations.collect(), missing)
}

/// The words of a hypothesis, without the marks of further pronunciations.
pub(super) fn plain(hypothesis: &str) -> String {
    let words = hypothesis
        .split_whitespace()
        .map(|word| word.split_once('(').map_or(word, |(word, _)| word));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_a_grammar_with_its_words() {
        let phrases = [Phrase::parse("[please] book (a|one) table for {day}").unwrap()];
        let lists = Lists::from([(
            "day".to_owned(),
            vec!["friday".to_owned(), "next monday".to_owned()],
        )]);
        let jsgf = page(phrases.iter(), &lists);
        assert!(
            jsgf.contains("[please ] book (a | one ) table for (friday | next monday) "),
            "{jsgf}"
        );
        let vocabulary = vocabulary(phrases.iter(), &lists);
        let dictionary = "a AH\na(2) EY\nbook B UH K\nfriday F R AY D IY\nfor F AO R\nmonday M AH N D IY\nnext N EH K S T\none W AH N\n";
        let (ways, missing) = pronunciations(dictionary, &vocabulary);
        assert_eq!(
            ways[..2],
            [
                ("a".to_owned(), "AH".to_owned()),
                ("a(2)".to_owned(), "EY".to_owned())
            ]
        );
        assert_eq!(missing, ["please", "table"]);
        assert_eq!(plain("book a(2) table"), "book a table");
    }
}
