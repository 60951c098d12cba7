//! The numbers of this ingress alone, each behind one function. What all ingresses count is in [`crate::io::metrics`].

use metrics::counter;
use metrics::describe_counter;
use metrics::describe_gauge;
use metrics::gauge;

use super::normalise::Reason;
use super::refused::Refused;

const REFUSED: &str = "tandem_sip_refused_total";
const REQUESTS: &str = "tandem_sip_requests_total";
const REGISTERED: &str = "tandem_sip_registered";
const REGISTRATIONS: &str = "tandem_sip_registrations_total";
const TRANSFERS: &str = "tandem_sip_transfers_total";

/// The methods that are counted by name; everything else is `other`.
const METHODS: [&str; 7] = [
    "INVITE", "BYE", "OPTIONS", "INFO", "UPDATE", "PRACK", "NOTIFY",
];

labels! {
    /// What came of a REGISTER.
    pub(super) enum Registration {
        /// The PBX knows us.
        Ok => "ok",
        /// It does not want to.
        Refused => "refused",
        /// It did not answer.
        Failed => "failed",
    }
}

labels! {
    /// What came of a REFER.
    pub(super) enum Transfer {
        /// The caller is with someone else.
        Done => "done",
        /// The caller is still with us.
        Refused => "refused",
    }
}

/// Declares them and touches every series, so that each is there from the first scrape on.
pub(super) fn describe() {
    describe_counter!(REFUSED, "SIP messages that were turned away, by reason");
    describe_counter!(REQUESTS, "SIP requests that were taken up, by method");
    describe_gauge!(REGISTERED, "Extensions that are registered at their PBX");
    describe_counter!(REGISTRATIONS, "REGISTER attempts, by result");
    describe_counter!(TRANSFERS, "Transfers asked for by REFER, by result");
    let labels = Refused::ALL.map(Refused::label);
    for reason in labels.into_iter().chain(Reason::ALL.map(Reason::label)) {
        counter!(REFUSED, "reason" => reason).increment(0);
    }
    for method in METHODS.into_iter().chain(["other"]) {
        counter!(REQUESTS, "method" => method).increment(0);
    }
    for result in Registration::ALL {
        counter!(REGISTRATIONS, "result" => result.label()).increment(0);
    }
    for result in Transfer::ALL {
        counter!(TRANSFERS, "result" => result.label()).increment(0);
    }
    gauge!(REGISTERED).set(0.0);
}

/// A message was turned away.
pub(super) fn refused(reason: Refused) {
    counter!(REFUSED, "reason" => reason.label()).increment(1);
}

/// A message was turned away for its form.
pub(super) fn malformed(reason: Reason) {
    counter!(REFUSED, "reason" => reason.label()).increment(1);
}

/// A request was taken up.
pub(super) fn request(method: &str) {
    let known = METHODS.into_iter().find(|known| *known == method);
    counter!(REQUESTS, "method" => known.unwrap_or("other")).increment(1);
}

/// A registration was made for the first time, or lost.
pub(super) fn registered(is_registered: bool) {
    let step = if is_registered { 1.0 } else { -1.0 };
    gauge!(REGISTERED).increment(step);
}

/// A REGISTER was answered, or not.
pub(super) fn registration(result: Registration) {
    counter!(REGISTRATIONS, "result" => result.label()).increment(1);
}

/// A transfer ended.
pub(super) fn transfer(result: Transfer) {
    counter!(TRANSFERS, "result" => result.label()).increment(1);
}
