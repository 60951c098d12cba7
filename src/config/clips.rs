//! `[clips]`, and the tools of `[agents.NAME]`: what is fetched and asked while a call goes on.

use std::collections::BTreeMap;
use std::fmt::Formatter;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::print::quoted;
use super::print::time;
use super::section::Section;
use super::section::text_of;

/// `[clips]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clips {
    /// Where clips are that an agent names by a file's name alone, seen from the working directory. Default `prompts`.
    pub directory: PathBuf,
    /// How long fetching a clip may take in all. Default 2 s.
    pub timeout: Duration,
    /// The largest clip, in bytes. Default 5 MiB.
    pub max_bytes: usize,
    /// How much of what was fetched is kept, in bytes. Default 64 MiB.
    pub cache_bytes: usize,
    /// Whether clips and tools may be on our own networks, and then by `http://` too. Default no.
    pub allow_private: bool,
}

impl Default for Clips {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("prompts"),
            timeout: Duration::from_secs(2),
            max_bytes: 5 * 1024 * 1024,
            cache_bytes: 64 * 1024 * 1024,
            allow_private: false,
        }
    }
}

/// Reads `[clips]`.
pub(super) fn clips(mut section: Section<'_>) -> Clips {
    let default = Clips::default();
    // Playout waits for a clip no longer than 3 s.
    let timeout = Duration::from_millis(100)..=Duration::from_secs(3);
    let clips = Clips {
        directory: section
            .text("directory")
            .map_or(default.directory, PathBuf::from),
        timeout: section
            .duration("timeout", timeout)
            .unwrap_or(default.timeout),
        max_bytes: section
            .number("max_bytes", 1_024..=64 * 1024 * 1024)
            .unwrap_or(default.max_bytes),
        cache_bytes: section
            .number("cache_bytes", 0..=4 * 1024 * 1024 * 1024)
            .unwrap_or(default.cache_bytes),
        allow_private: section
            .flag("allow_private")
            .unwrap_or(default.allow_private),
    };
    section.finish();
    clips
}

/// Writes `[clips]`.
pub(super) fn print(f: &mut Formatter<'_>, clips: &Clips) -> std::fmt::Result {
    writeln!(f, "\n[clips]")?;
    writeln!(f, "directory = {}", quoted(&clips.directory.display()))?;
    writeln!(f, "timeout = {}", time(clips.timeout))?;
    writeln!(f, "max_bytes = {}", clips.max_bytes)?;
    writeln!(f, "cache_bytes = {}", clips.cache_bytes)?;
    writeln!(f, "allow_private = {}", clips.allow_private)
}

/// Reads `agents.NAME.tools`: URLs by the tools' resource names.
pub(super) fn tools(mut section: Section<'_>, allow_private: bool) -> BTreeMap<String, String> {
    let mut tools = BTreeMap::new();
    for (name, node) in section.rest() {
        match text_of(&node).and_then(|text| tool_url(text, allow_private)) {
            Ok(url) => {
                tools.insert(name, url);
            }
            Err(reason) => section.tell(&node.origin, &name, reason),
        }
    }
    tools
}

fn tool_url(text: &str, allow_private: bool) -> Result<String, String> {
    let wrong = || "must be a URL such as \"https://tools.example.com/weather\"".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    match uri.scheme_str() {
        Some("https") if has_host => {}
        Some("http") if has_host && allow_private => {}
        Some("http") if has_host => {
            return Err("must be https://; http:// needs clips.allow_private".to_owned());
        }
        _ => return Err(wrong()),
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') || text.contains('#') {
        return Err("must have no user or fragment".to_owned());
    }
    Ok(text.to_owned())
}
