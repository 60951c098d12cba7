//! Logs: a filter that can change while running, text or JSON, and phone numbers that can be kept out of them.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Log;

/// Whether [`PhoneNumber`] hides digits. Process-wide, as the log is.
static REDACT: AtomicBool = AtomicBool::new(true);

/// Changes the log filter while the gateway runs.
#[derive(Clone)]
pub struct FilterHandle(reload::Handle<EnvFilter, Registry>);

impl FilterHandle {
    /// Puts a new filter in force, in the syntax of `RUST_LOG`.
    ///
    /// # Errors
    /// What is wrong with the filter; the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let filter = parse(filter).map_err(|error| error.to_string())?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Reads a filter. Some libraries must be asked for by name: the SIP stack writes every message whole at `info`, passwords'
/// digests and numbers included, DTLS warns of what is as it should be, and to SCTP every goodbye is an error.
fn parse(filter: &str) -> Result<EnvFilter, ParseError> {
    const QUIET: [(&str, &str); 3] = [
        ("rsipstack", "warn"),
        ("rtc_dtls", "error"),
        ("rtc_sctp", "off"),
    ];
    let mut filter = filter.to_owned();
    for (library, level) in QUIET {
        if !filter.contains(library) {
            filter = format!("{filter},{library}={level}");
        }
    }
    EnvFilter::try_new(filter)
}

/// Starts logging to standard error.
///
/// # Errors
/// If the filter cannot be parsed or logging has been started before.
pub fn install(log: &Log) -> anyhow::Result<FilterHandle> {
    REDACT.store(log.redact_numbers, Ordering::Relaxed);
    let (filter, handle) = reload::Layer::new(parse(&log.filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if log.json {
        registry.with(lines.json()).try_init()?;
    } else {
        registry.with(lines).try_init()?;
    }
    Ok(FilterHandle(handle))
}

/// A phone number or address on its way into a log: all but its last two characters are hidden, unless
/// `log.redact_numbers` is off.
pub struct PhoneNumber<'a>(pub &'a str);

impl fmt::Display for PhoneNumber<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !REDACT.load(Ordering::Relaxed) {
            return f.write_str(self.0);
        }
        let shown = self
            .0
            .char_indices()
            .rev()
            .nth(1)
            .map_or(self.0.len(), |(at, _)| at);
        write!(f, "…{}", &self.0[shown..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_number_shows_its_last_two_digits_only() {
        assert_eq!(PhoneNumber("+15550100").to_string(), "…00");
        assert_eq!(PhoneNumber("7").to_string(), "…");
        assert_eq!(PhoneNumber("").to_string(), "…");
    }
}
