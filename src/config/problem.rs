//! What can be wrong with a configuration, and where.

use std::fmt::Display;

use super::tree::Origin;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name, or `environment`.
    pub source: String,
    /// The key (`turn.barge_in`) or the variable (`TANDEM__TURN__BARGE_IN`).
    pub key: String,
    /// What is wrong, and what would be right. Never a secret.
    pub reason: String,
}

/// Everything that is wrong with the configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {}: {}", problem.source, problem.key, problem.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The problems so far.
pub(super) struct Report {
    /// How the file is called, for problems that are in it or nowhere.
    file: String,
    pub(super) problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(file: String) -> Self {
        Self {
            file,
            problems: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, origin: &Origin, key: &str, reason: impl Display) {
        let (source, key) = match origin {
            Origin::File | Origin::Nowhere => (self.file.as_str(), key),
            Origin::Environment(variable) => ("environment", variable.as_str()),
        };
        self.problems.push(Problem {
            source: source.to_owned(),
            key: key.to_owned(),
            reason: reason.to_string(),
        });
    }
}
