//! The numbers of this ingress alone, each behind one function. What all ingresses count is in [`crate::io::metrics`].

use metrics::counter;
use metrics::describe_counter;

use super::refused::Refused;

const REFUSED: &str = "tandem_whip_refused_total";

/// Declares them and touches every series, so that each is there from the first scrape on.
pub(super) fn describe() {
    describe_counter!(
        REFUSED,
        "WHIP requests that were turned away, and sessions that never became calls"
    );
    for reason in Refused::ALL {
        counter!(REFUSED, "reason" => reason.label()).increment(0);
    }
}

pub(super) fn refused(reason: Refused) {
    counter!(REFUSED, "reason" => reason.label()).increment(1);
}
