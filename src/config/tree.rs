//! File and environment as one tree in which every value remembers where it came from.

use std::collections::BTreeMap;

/// What an environment variable begins with to be ours. Kubernetes sets `TANDEM_SERVICE_HOST` and the like for a service
/// of that name, so one underscore would not do.
const PREFIX: &str = "TANDEM__";
/// Between the keys on the way to a value.
const SEPARATOR: &str = "__";

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the configuration file.
    File,
    /// In this environment variable.
    Environment(String),
    /// Nowhere: it is about something that is missing.
    Nowhere,
}

/// One place of the tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) content: Content,
}

/// What is at a place.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Table(Fields),
    List(Vec<Node>),
    /// Neither a table nor a list.
    Value(toml::Value),
}

/// Keys and what is under them.
pub(super) type Fields = BTreeMap<String, Node>;

/// The tree of a parsed file.
pub(super) fn from_file(table: toml::Table) -> Fields {
    table
        .into_iter()
        .map(|(key, value)| (key, node_of_file(value)))
        .collect()
}

fn node_of_file(value: toml::Value) -> Node {
    let content = match value {
        toml::Value::Table(table) => Content::Table(from_file(table)),
        toml::Value::Array(items) => Content::List(items.into_iter().map(node_of_file).collect()),
        value => Content::Value(value),
    };
    Node {
        origin: Origin::File,
        content,
    }
}

/// Lays the variables `TANDEM__SECTION__KEY` over the tree; a variable wins over the file.
pub(super) fn lay_over(fields: &mut Fields, environment: &BTreeMap<String, String>) {
    for (variable, text) in environment {
        let upper = variable.to_ascii_uppercase();
        let Some(path) = upper.strip_prefix(PREFIX) else {
            continue;
        };
        let path = path.to_ascii_lowercase();
        let keys: Vec<&str> = path.split(SEPARATOR).collect();
        set(fields, &keys, variable, text);
    }
}

fn set(fields: &mut Fields, keys: &[&str], variable: &str, text: &str) {
    let [key, deeper @ ..] = keys else { return };
    let origin = Origin::Environment(variable.to_owned());
    if deeper.is_empty() {
        let content = Content::Value(toml::Value::String(text.to_owned()));
        fields.insert((*key).to_owned(), Node { origin, content });
        return;
    }
    let node = fields.entry((*key).to_owned()).or_insert_with(|| Node {
        origin: origin.clone(),
        content: Content::Table(Fields::new()),
    });
    if !matches!(node.content, Content::Table(_)) {
        node.origin = origin;
        node.content = Content::Table(Fields::new());
    }
    if let Content::Table(fields) = &mut node.content {
        set(fields, deeper, variable, text);
    }
}
