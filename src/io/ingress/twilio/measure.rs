//! The numbers of this ingress, each behind one function.

use std::time::Duration;

use super::refused::Refused;

/// Requests and streams turned away, by reason.
pub const REFUSED_TOTAL: &str = "tandem_twilio_refused_total";
/// Audio for which there was no room, by direction.
pub const AUDIO_DROPPED_SECONDS_TOTAL: &str = "tandem_audio_dropped_seconds_total";
/// Places where Twilio's numbering skipped or went back.
pub const SEQUENCE_GAPS_TOTAL: &str = "tandem_twilio_sequence_gaps_total";

pub(super) fn refused(reason: Refused) {
    metrics::counter!(REFUSED_TOTAL, "reason" => reason.label()).increment(1);
}

/// Caller audio that the call did not take. A gauge to the `metrics` crate, whose counters hold whole numbers only; it
/// never goes down.
pub(super) fn uplink_dropped(duration: Duration) {
    metrics::gauge!(AUDIO_DROPPED_SECONDS_TOTAL, "direction" => "uplink")
        .increment(duration.as_secs_f64());
}

pub(super) fn sequence_gap() {
    metrics::counter!(SEQUENCE_GAPS_TOTAL).increment(1);
}
