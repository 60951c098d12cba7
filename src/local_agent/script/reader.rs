//! Reads a TOML table key by key, and keeps every problem instead of stopping at the first.

use std::time::Duration;

use toml::Table;
use toml::Value;

use super::Problem;

/// A table being read. Keys that nobody asked for are problems too: they are misspelt.
pub(super) struct Reader<'a> {
    key: String,
    table: Table,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(key: &str, table: Table, problems: &'a mut Vec<Problem>) -> Self {
        Self {
            key: key.to_owned(),
            table,
            problems,
        }
    }

    /// Reports a problem with one key of this table.
    pub(super) fn problem(&mut self, name: &str, reason: impl Into<String>) {
        let key = self.path(name);
        self.problems.push(Problem {
            key,
            reason: reason.into(),
        });
    }

    pub(super) fn path(&self, name: &str) -> String {
        match (self.key.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => self.key.clone(),
            (false, false) => format!("{}.{name}", self.key),
        }
    }

    pub(super) fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.table.remove(name)
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let value = self.take(name)?;
        let Value::String(text) = value else {
            return self.wrong(name, "a text", &value);
        };
        if text.chars().any(char::is_control) && !text.contains('\n') {
            self.problem(name, "must not hold control characters");
            return None;
        }
        Some(text)
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        match self.take(name) {
            None => default,
            Some(Value::Boolean(flag)) => flag,
            Some(other) => self.wrong(name, "true or false", &other).unwrap_or(default),
        }
    }

    /// A whole number in a range.
    pub(super) fn number(
        &mut self,
        name: &str,
        default: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> i64 {
        match self.take(name) {
            None => default,
            Some(Value::Integer(number)) if range.contains(&number) => number,
            Some(other) => {
                let wanted = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(name, &wanted, &other).unwrap_or(default)
            }
        }
    }

    /// A share, from 0 to 1.
    pub(super) fn share(&mut self, name: &str, default: f32) -> f32 {
        match self.take(name) {
            None => default,
            Some(Value::Float(share)) if (0.0..=1.0).contains(&share) => share as f32,
            Some(other) => self
                .wrong(name, "a number from 0.0 to 1.0", &other)
                .unwrap_or(default),
        }
    }

    /// A span of time written as `"700ms"` or `"1m 30s"`.
    pub(super) fn duration(&mut self, name: &str) -> Option<Duration> {
        let value = self.take(name)?;
        let parsed = value
            .as_str()
            .and_then(|text| humantime::parse_duration(text).ok());
        match parsed {
            Some(duration) if duration <= Duration::from_secs(24 * 3600) => Some(duration),
            _ => self.wrong(
                name,
                "a time such as \"700ms\" or \"1m 30s\", at most a day",
                &value,
            ),
        }
    }

    /// A list, or one value that stands for a list of one.
    pub(super) fn list(&mut self, name: &str) -> Vec<Value> {
        match self.take(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => vec![other],
        }
    }

    pub(super) fn table(&mut self, name: &str) -> Option<Table> {
        match self.take(name)? {
            Value::Table(table) => Some(table),
            other => self.wrong(name, "a table", &other),
        }
    }

    /// What is left, key by key, for tables with names of the author's choice.
    pub(super) fn rest(&mut self) -> Table {
        std::mem::take(&mut self.table)
    }

    pub(super) fn wrong<T>(&mut self, name: &str, wanted: &str, found: &Value) -> Option<T> {
        self.problem(name, format!("should be {wanted}, is {found}"));
        None
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(mut self) {
        for name in self.rest().into_iter().map(|(name, _)| name) {
            self.problem(&name, "unknown key");
        }
    }
}
