//! The numbers of this ingress alone, each behind one function. What all ingresses count is in [`crate::io::metrics`].

use std::sync::OnceLock;
use std::time::Duration;

use metrics::Counter;
use metrics::Histogram;
use metrics::counter;
use metrics::describe_counter;
use metrics::describe_gauge;
use metrics::describe_histogram;
use metrics::gauge;
use metrics::histogram;

use super::refused::Refused;
use crate::io::metrics::RTP_JITTER;

const REFUSED: &str = "tandem_sip_refused_total";
const REQUESTS: &str = "tandem_sip_requests_total";
const REGISTERED: &str = "tandem_sip_registered";
const REGISTRATIONS: &str = "tandem_sip_registrations_total";
const TRANSFERS: &str = "tandem_sip_transfers_total";
const PACKETS: &str = "tandem_rtp_packets_total";
const LOST: &str = "tandem_rtp_lost_packets_total";
const REFUSED_PACKETS: &str = "tandem_rtp_refused_packets_total";

/// The methods that are counted by name; everything else is `other`.
const METHODS: [&str; 7] = [
    "INVITE", "BYE", "OPTIONS", "INFO", "UPDATE", "PRACK", "NOTIFY",
];

/// Declares them and touches every series, so that each is there from the first scrape on.
pub(super) fn describe() {
    describe_counter!(REFUSED, "SIP messages that were turned away, by reason");
    describe_counter!(REQUESTS, "SIP requests that were taken up, by method");
    describe_gauge!(REGISTERED, "Extensions that are registered at their PBX");
    describe_counter!(REGISTRATIONS, "REGISTER attempts, by result");
    describe_counter!(TRANSFERS, "Transfers asked for by REFER, by result");
    describe_counter!(PACKETS, "RTP packets, by direction");
    describe_counter!(LOST, "RTP packets of callers that never came");
    describe_counter!(
        REFUSED_PACKETS,
        "RTP packets that were not heard, by reason"
    );
    describe_histogram!(
        RTP_JITTER,
        metrics::Unit::Seconds,
        "Interarrival jitter of callers' packets at the end of their call"
    );
    for reason in Refused::all() {
        counter!(REFUSED, "reason" => reason.label()).increment(0);
    }
    for method in METHODS.into_iter().chain(["other"]) {
        counter!(REQUESTS, "method" => method).increment(0);
    }
    for result in ["ok", "refused", "failed"] {
        counter!(REGISTRATIONS, "result" => result).increment(0);
    }
    for result in ["done", "refused"] {
        counter!(TRANSFERS, "result" => result).increment(0);
    }
    for direction in ["uplink", "downlink"] {
        counter!(PACKETS, "direction" => direction).increment(0);
    }
    for reason in ["source", "authentication", "malformed", "late", "duplicate"] {
        counter!(REFUSED_PACKETS, "reason" => reason).increment(0);
    }
    counter!(LOST).increment(0);
    gauge!(REGISTERED).set(0.0);
}

/// A message was turned away.
pub(super) fn refused(reason: Refused) {
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

/// A REGISTER was answered: `ok`, `refused` or `failed`.
pub(super) fn registration(result: &'static str) {
    counter!(REGISTRATIONS, "result" => result).increment(1);
}

/// A transfer ended.
pub(super) fn transfer(is_done: bool) {
    let result = if is_done { "done" } else { "refused" };
    counter!(TRANSFERS, "result" => result).increment(1);
}

/// What a call's RTP session has counted since this was last told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packets {
    pub(super) uplink: u64,
    pub(super) downlink: u64,
    pub(super) lost: u64,
    pub(super) source: u64,
    pub(super) authentication: u64,
    pub(super) malformed: u64,
    pub(super) late: u64,
    pub(super) duplicate: u64,
}

/// Adds what a call has counted; looked up once, for every call says this again and again.
pub(super) fn packets(counted: Packets) {
    static HANDLES: OnceLock<[Counter; 8]> = OnceLock::new();
    let refused = |reason: &'static str| counter!(REFUSED_PACKETS, "reason" => reason);
    let handles = HANDLES.get_or_init(|| {
        [
            counter!(PACKETS, "direction" => "uplink"),
            counter!(PACKETS, "direction" => "downlink"),
            counter!(LOST),
            refused("source"),
            refused("authentication"),
            refused("malformed"),
            refused("late"),
            refused("duplicate"),
        ]
    });
    let counts = [
        counted.uplink,
        counted.downlink,
        counted.lost,
        counted.source,
        counted.authentication,
        counted.malformed,
        counted.late,
        counted.duplicate,
    ];
    for (handle, count) in handles.iter().zip(counts) {
        if count > 0 {
            handle.increment(count);
        }
    }
}

/// How unsteadily a caller's packets arrived.
pub(super) fn jitter(jitter: Duration) {
    static HANDLE: OnceLock<Histogram> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| histogram!(RTP_JITTER));
    handle.record(jitter.as_secs_f64());
}
