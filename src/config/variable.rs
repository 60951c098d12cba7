//! Secrets by the names of the environment variables that hold them.

use std::collections::BTreeMap;

use super::Secret;

/// The environment of the process.
pub(super) type Environment = BTreeMap<String, String>;

/// The name of a variable.
pub(super) fn name(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !text.bytes().all(is_name) {
        // Not repeated: it may be the secret itself.
        return Err("must be the name of an environment variable".to_owned());
    }
    Ok(text.to_owned())
}

/// What is in a variable. An empty one is how an optional Kubernetes secret looks when it is not there.
pub(super) fn content<'a>(environment: &'a Environment, name: &str) -> Result<&'a str, String> {
    environment
        .get(name)
        .map(String::as_str)
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| format!("the environment variable {name} is not set"))
}

/// The name of a variable, and the secret in it.
pub(super) fn secret(text: &str, environment: &Environment) -> Result<(String, Secret), String> {
    let name = name(text)?;
    let secret = Secret::new(content(environment, &name)?.to_owned());
    Ok((name, secret))
}
