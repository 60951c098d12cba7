//! What the caller heard of a prompt that they cut, for the agent: with the next turn it gets `heard_text`, the words up to
//! the cut as far as can be told, and `cut_at_ms`, how much of the prompt had been heard. With the turn after that both are
//! removed again, so that no webhook takes them for news (design §4, rule 6).
//!
//! One piece of audio covers several texts, so the words are found by proportion, which is true to a word or two.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// The longest text that is reported; parameters are stored with the session.
const LONGEST: usize = 1_000;

/// The prompt and what was heard of it.
#[derive(Debug, Default)]
pub(super) struct Heard {
    text: String,
    /// How long the prompt is, and how much of it is over.
    length: Duration,
    heard: Duration,
    /// Whether it is a prompt of our own, of which the agent knows nothing.
    is_ours: bool,
    report: Report,
    /// Counts reports, so that an answer to an older turn does not end a newer one.
    generation: u32,
}

/// What the agent has to be told.
#[derive(Debug, Default)]
enum Report {
    /// Nothing.
    #[default]
    None,
    /// This much was heard.
    Due { text: String, cut_at: Duration },
    /// The agent knows; its parameters are to be removed.
    Told,
}

impl Heard {
    /// A prompt of our own begins.
    pub(super) fn begin_ours(&mut self) {
        self.begin();
        self.is_ours = true;
    }

    /// A prompt of the agent's begins.
    pub(super) fn begin(&mut self) {
        self.is_ours = false;
        self.text.clear();
        self.length = Duration::ZERO;
        self.heard = Duration::ZERO;
    }

    /// Words of the prompt.
    pub(super) fn add_text(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(text.trim());
        if self.text.len() > 2 * LONGEST {
            let end = self.text.floor_char_boundary(2 * LONGEST);
            self.text.truncate(end);
        }
    }

    /// Audio of the prompt.
    pub(super) fn add_audio(&mut self, length: Duration) {
        self.length += length;
    }

    /// This much more of the prompt has been heard.
    pub(super) fn add_heard(&mut self, heard: Duration) {
        self.heard += heard;
    }

    /// The caller has cut the prompt.
    pub(super) fn cut(&mut self) {
        if self.is_ours {
            return;
        }
        self.generation += 1;
        self.report = Report::Due {
            text: self.heard_text(),
            cut_at: self.heard,
        };
    }

    fn heard_text(&self) -> String {
        if self.length.is_zero() {
            return String::new();
        }
        let part = (self.heard.as_secs_f64() / self.length.as_secs_f64()).min(1.0);
        let wanted = (self.text.len() as f64 * part).round() as usize;
        let end = self.text.floor_char_boundary(wanted.min(LONGEST));
        let heard = &self.text[..end];
        // A word that was begun was not heard.
        match heard.rfind(' ') {
            Some(_) if end == self.text.len() => heard.to_owned(),
            Some(space) => heard[..space].to_owned(),
            None if end == self.text.len() => heard.to_owned(),
            None => String::new(),
        }
    }

    /// The parameters of the next turn, and which report they belong to; none if they are not wanted.
    pub(super) fn parameters(&self, wanted: bool) -> (BTreeMap<&'static str, Value>, Option<u32>) {
        if !wanted {
            return (BTreeMap::new(), None);
        }
        let (text, cut_at) = match &self.report {
            Report::None => return (BTreeMap::new(), None),
            Report::Due { text, cut_at } => (
                Value::from(text.as_str()),
                Value::from(cut_at.as_millis() as u64),
            ),
            Report::Told => (Value::Null, Value::Null),
        };
        let parameters = BTreeMap::from([("heard_text", text), ("cut_at_ms", cut_at)]);
        (parameters, Some(self.generation))
    }

    /// The agent has answered a turn that carried such parameters.
    pub(super) fn told(&mut self, generation: u32) {
        if generation == self.generation {
            self.report = match self.report {
                Report::Due { .. } => Report::Told,
                Report::None | Report::Told => Report::None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, heard_of_ten: u64) -> Heard {
        let mut heard = Heard::default();
        heard.begin();
        heard.add_text(text);
        heard.add_audio(Duration::from_secs(10));
        heard.add_heard(Duration::from_secs(heard_of_ten));
        heard.cut();
        heard
    }

    #[test]
    fn whole_words_up_to_the_cut_are_told_once_and_then_removed() {
        let mut heard = cut("one two three four five six", 5);
        let (parameters, generation) = heard.parameters(true);
        assert_eq!(parameters["heard_text"], "one two three");
        assert_eq!(parameters["cut_at_ms"], 5_000);
        heard.told(generation.expect("it is a report"));
        let (parameters, generation) = heard.parameters(true);
        assert_eq!(parameters["heard_text"], Value::Null);
        heard.told(generation.expect("it is a report"));
        assert!(heard.parameters(true).0.is_empty());
    }

    #[test]
    fn an_answer_to_an_older_turn_ends_no_newer_report() {
        let mut heard = cut("one two", 10);
        let (_, old) = heard.parameters(true);
        heard.cut();
        heard.told(old.expect("it is a report"));
        assert_eq!(heard.parameters(true).0["heard_text"], "one two");
    }

    #[test]
    fn letters_of_several_bytes_are_never_split() {
        for second in 0..=10 {
            let heard = cut("grüße über straßen äöü ßßß", second);
            let _ = heard.parameters(true);
        }
    }
}
