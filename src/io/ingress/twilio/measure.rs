//! The numbers of this ingress alone, each behind one function. What all ingresses count is in [`crate::io::metrics`].

use metrics::counter;
use metrics::describe_counter;

use super::refused::Refused;

const REFUSED: &str = "tandem_twilio_refused_total";
const SEQUENCE_GAPS: &str = "tandem_twilio_sequence_gaps_total";

/// Declares them and touches every series, so that each is there from the first scrape on.
pub(super) fn describe() {
    describe_counter!(
        REFUSED,
        "Requests and media streams from Twilio that were turned away"
    );
    describe_counter!(
        SEQUENCE_GAPS,
        "Places where the numbering of a media stream skipped or went back"
    );
    for reason in Refused::ALL {
        counter!(REFUSED, "reason" => reason.label()).increment(0);
    }
    counter!(SEQUENCE_GAPS).increment(0);
}

pub(super) fn refused(reason: Refused) {
    counter!(REFUSED, "reason" => reason.label()).increment(1);
}

pub(super) fn sequence_gap() {
    counter!(SEQUENCE_GAPS).increment(1);
}
