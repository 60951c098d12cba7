//! What the current page asks of the gateway (`QueryResult.advanced_settings`), and what of it only Google's own telephone
//! lines can do.

use std::collections::HashMap;
use std::time::Duration;

use tandem_proto::cx::v3;
use tandem_proto::cx::v3::advanced_settings;

use crate::engine::call::event::AgentSettings;
use crate::engine::call::event::Digit;
use crate::engine::call::event::DtmfSettings;

/// What the settings mean to a caller who speaks this language. What is not set, or zero where zero means nothing, is left
/// to our own configuration.
pub(super) fn settings(settings: v3::AdvancedSettings, language: &str) -> AgentSettings {
    let unsupported = unsupported(&settings);
    // Switched off, they say nothing: digits are then collected as without them, since intents may have patterns of digits.
    let dtmf = settings.dtmf_settings.as_ref();
    let dtmf = dtmf.filter(|dtmf| dtmf.enabled).map(self::dtmf);
    let speech = settings.speech_settings.unwrap_or_default();
    AgentSettings {
        no_speech_timeout: speech.no_speech_timeout.and_then(some_time),
        dtmf,
        model: model(&speech.models, language),
        // The field is not optional: where logging is spoken of and this is not, it is off.
        keeps_transcripts: settings
            .logging_settings
            .map(|logging| logging.enable_interaction_logging),
        unsupported,
    }
}

fn dtmf(settings: &advanced_settings::DtmfSettings) -> DtmfSettings {
    DtmfSettings {
        max_digits: u32::try_from(settings.max_digits)
            .ok()
            .filter(|digits| *digits > 0),
        finish_digit: settings
            .finish_digit
            .chars()
            .next()
            .and_then(Digit::from_char),
        interdigit_timeout: settings.interdigit_timeout_duration.and_then(some_time),
    }
}

/// The model of the very tag, else that of its primary subtag. Case does not count in tags.
fn model(models: &HashMap<String, String>, language: &str) -> Option<String> {
    let primary = language.split('-').next().unwrap_or_default();
    [language, primary].into_iter().find_map(|tag| {
        models
            .iter()
            .find(|(key, model)| key.eq_ignore_ascii_case(tag) && !model.is_empty())
            .map(|(_, model)| model.clone())
    })
}

/// The names of the fields that are set and that we cannot obey.
fn unsupported(settings: &v3::AdvancedSettings) -> Vec<&'static str> {
    let speech = settings.speech_settings.as_ref();
    let dtmf = settings.dtmf_settings.as_ref();
    let logging = settings.logging_settings.as_ref();
    [
        // The recogniser behind the API applies its own: no request can carry these (facts §7.5).
        (
            "endpointer_sensitivity",
            speech.is_some_and(|speech| speech.endpointer_sensitivity != 0),
        ),
        (
            "use_timeout_based_endpointing",
            speech.is_some_and(|speech| speech.use_timeout_based_endpointing),
        ),
        // Only the server knows whether the digits so far match something.
        (
            "endpointing_timeout_duration",
            dtmf.and_then(|dtmf| dtmf.endpointing_timeout_duration)
                .and_then(some_time)
                .is_some(),
        ),
        // These are about logs that Google keeps.
        (
            "enable_stackdriver_logging",
            logging.is_some_and(|logging| logging.enable_stackdriver_logging),
        ),
        (
            "enable_consent_based_redaction",
            logging.is_some_and(|logging| logging.enable_consent_based_redaction),
        ),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .map(|(name, _)| name)
    .collect()
}

/// The longest time that a caller may be asked to be silent for (facts §6.4).
const LONGEST: Duration = Duration::from_secs(60);

/// A duration that is neither negative nor zero, and no longer than agents may ask for.
fn some_time(duration: prost_types::Duration) -> Option<Duration> {
    let duration = Duration::try_from(duration).ok()?;
    (!duration.is_zero()).then(|| duration.min(LONGEST))
}
