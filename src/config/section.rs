//! Taking a table apart: every key is asked for by name and type, and what nobody asked for is a problem.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::Report;
use super::tree::Content;
use super::tree::Fields;
use super::tree::Node;
use super::tree::Origin;

/// A table that is being taken apart.
pub(super) struct Section<'a> {
    path: String,
    fields: Fields,
    asked: Vec<&'static str>,
    report: &'a mut Report,
}

impl<'a> Section<'a> {
    /// The table at `path`; an empty one if there is none there.
    pub(super) fn new(path: String, node: Option<Node>, report: &'a mut Report) -> Self {
        let fields = match node {
            None => Fields::new(),
            Some(Node {
                content: Content::Table(fields),
                ..
            }) => fields,
            Some(node) => {
                report.tell(&node.origin, &path, "must be a table");
                Fields::new()
            }
        };
        Self {
            path,
            fields,
            asked: Vec::new(),
            report,
        }
    }

    /// The table under `key`, to be taken apart and finished like this one; an empty one if there is none.
    pub(super) fn table(&mut self, key: &'static str) -> Section<'_> {
        let node = self.take(key);
        Section::new(join(&self.path, key), node, self.report)
    }

    /// The tables of the list under `key`, each taken apart by `read`; none if there is no list.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let path = join(&self.path, key);
        let items = match self.take(key) {
            None => Vec::new(),
            Some(Node {
                content: Content::List(items),
                ..
            }) => items,
            Some(node) => {
                let reason = format!("must be tables in a file: [[{path}]]");
                self.report.tell(&innermost(&node), &path, reason);
                Vec::new()
            }
        };
        let read = |(position, node)| {
            let path = format!("{path}[{position}]");
            read(Section::new(path, Some(node), self.report))
        };
        items.into_iter().enumerate().filter_map(read).collect()
    }

    /// Everything that is left, for a table whose keys are the user's own.
    pub(super) fn rest(&mut self) -> Fields {
        std::mem::take(&mut self.fields)
    }

    /// What is under `key`.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.asked.push(key);
        self.fields.remove(key)
    }

    /// Where `key` was written; of a key that is missing, nowhere.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.fields
            .get(key)
            .map_or(Origin::Nowhere, |node| node.origin.clone())
    }

    /// Notes a problem with `key`, which was written at `origin`.
    pub(super) fn tell(&mut self, origin: &Origin, key: &str, reason: impl Display) {
        let path = join(&self.path, key);
        self.report.tell(origin, &path, reason);
    }

    /// Notes that `key` is missing.
    pub(super) fn missing(&mut self, key: &str, reason: impl Display) {
        // The variable that made the table says nothing about the key that is not in it: the path does.
        let path = join(&self.path, key);
        self.report.tell(&Origin::Nowhere, &path, reason);
    }

    /// The value of `key` as `read` understands it; `None` if it is missing or wrong.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.take(key)?;
        match read(&node) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.tell(&node.origin, key, reason);
                None
            }
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, |node| Ok(text_of(node)?.to_owned()))
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.read(key, |node| parse(text_of(node)?))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        self.parsed(key, |text| {
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| format!("{text:?} is none of {}", list(words.iter().map(|w| w.0))))
        })
    }

    /// A whole number within bounds.
    pub(super) fn number<T>(&mut self, key: &'static str, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        self.read(key, |node| {
            let number = match &node.content {
                Content::Value(toml::Value::Integer(number)) => Some(*number),
                // A variable has no types: its text counts as what is asked for.
                Content::Value(toml::Value::String(text)) if from_environment(node) => {
                    text.trim().parse().ok()
                }
                _ => None,
            };
            let number = number.ok_or("must be a whole number")?;
            T::try_from(number)
                .ok()
                .filter(|number| bounds.contains(number))
                .ok_or_else(|| format!("must be from {} to {}", bounds.start(), bounds.end()))
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, |node| match &node.content {
            Content::Value(toml::Value::Boolean(flag)) => Ok(*flag),
            Content::Value(toml::Value::String(text)) if from_environment(node) => text
                .trim()
                .parse()
                .map_err(|_| "must be true or false".to_owned()),
            _ => Err("must be true or false".to_owned()),
        })
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.read(key, |node| {
            let wrong = "must be a duration such as \"5s\", \"100ms\" or \"2h\"";
            let text = text_of(node).map_err(|_| wrong.to_owned())?;
            let duration = humantime::parse_duration(text).map_err(|_| wrong.to_owned())?;
            if bounds.contains(&duration) {
                return Ok(duration);
            }
            Err(format!(
                "must be from {} to {}",
                humantime::format_duration(*bounds.start()),
                humantime::format_duration(*bounds.end())
            ))
        })
    }

    /// A duration within bounds that has no fraction of a second, because it is told to others in seconds.
    pub(super) fn seconds(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let origin = self.origin(key);
        let duration = self.duration(key, bounds)?;
        if duration.subsec_nanos() > 0 {
            self.tell(&origin, key, "must be whole seconds");
            return None;
        }
        Some(duration)
    }

    /// An address and a port.
    pub(super) fn address(&mut self, key: &'static str) -> Option<SocketAddr> {
        self.parsed(key, |text| {
            text.parse()
                .map_err(|_| "must be an address and a port such as \"127.0.0.1:8080\"".to_owned())
        })
    }

    /// A list of texts; in a variable, with commas between them or as a file has it.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.read(key, |node| {
            let items = items_of(node)?;
            let texts = items.iter().map(|item| Ok(text_of(item)?.to_owned()));
            texts.collect()
        })
    }

    /// A list of texts that `parse` understands, each with a problem of its own if not. `None` if there is no list
    /// or nothing in it is right.
    pub(super) fn parsed_list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items = self.read(key, items_of)?;
        self.parsed_items(key, &items, parse)
    }

    /// The same, and in a file a single text is a list of one.
    pub(super) fn parsed_list_or_one<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items = self.read(key, |node| match &node.content {
            Content::Value(toml::Value::String(_)) if !from_environment(node) => {
                Ok(vec![node.clone()])
            }
            Content::Value(_) | Content::Table(_) | Content::List(_) => items_of(node),
        })?;
        self.parsed_items(key, &items, parse)
    }

    fn parsed_items<T>(
        &mut self,
        key: &'static str,
        items: &[Node],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let mut values = Vec::new();
        for (position, item) in items.iter().enumerate() {
            match text_of(item).and_then(&parse) {
                Ok(value) => values.push(value),
                Err(reason) => self.tell(&item.origin, &format!("{key}[{position}]"), reason),
            }
        }
        let all_wrong = values.is_empty() && !items.is_empty();
        (!all_wrong).then_some(values)
    }

    /// Ends the table: whatever nobody asked for is unknown.
    pub(super) fn finish(mut self) {
        for (key, node) in std::mem::take(&mut self.fields) {
            let reason = format!("unknown key; known here: {}", list(self.asked.iter()));
            let origin = innermost(&node);
            self.tell(&origin, &key, reason);
        }
    }
}

/// The text of a value that is one.
pub(super) fn text_of(node: &Node) -> Result<&str, String> {
    match &node.content {
        Content::Value(toml::Value::String(text)) if text.trim().is_empty() => {
            Err("must not be empty".to_owned())
        }
        Content::Value(toml::Value::String(text)) => Ok(text),
        Content::Value(_) | Content::Table(_) | Content::List(_) => {
            Err("must be a string".to_owned())
        }
    }
}

/// The items of a list; in a variable, with commas between them or as a file has it.
pub(super) fn items_of(node: &Node) -> Result<Vec<Node>, String> {
    match &node.content {
        Content::List(items) => Ok(items.clone()),
        Content::Value(toml::Value::String(text)) if from_environment(node) => {
            let item = |value| Node {
                origin: node.origin.clone(),
                content: Content::Value(value),
            };
            if let Ok(toml::Value::Array(values)) = text.trim().parse() {
                return Ok(values.into_iter().map(item).collect());
            }
            let texts = text.split(',').map(str::trim);
            Ok(texts
                .filter(|text| !text.is_empty())
                .map(|text| item(toml::Value::String(text.to_owned())))
                .collect())
        }
        Content::Value(_) | Content::Table(_) => Err("must be a list of strings".to_owned()),
    }
}

/// Words with commas between them.
pub(super) fn list(words: impl Iterator<Item = impl Display>) -> String {
    let words: Vec<String> = words.map(|word| word.to_string()).collect();
    words.join(", ")
}

/// Where a value was written; of a table that variables filled, the first of them.
pub(super) fn innermost(node: &Node) -> Origin {
    match &node.content {
        Content::Table(fields) if from_environment(node) => fields
            .values()
            .next()
            .map_or_else(|| node.origin.clone(), innermost),
        _ => node.origin.clone(),
    }
}

pub(super) fn from_environment(node: &Node) -> bool {
    matches!(node.origin, Origin::Environment(_))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
