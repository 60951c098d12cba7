//! Datagrams that nobody takes. Silence is the only answer, so that nobody learns anything; the counters tell operators.

use metrics::Counter;
use metrics::counter;
use metrics::describe_counter;
use std::sync::OnceLock;

use crate::engine::webrtc::peer;

const IGNORED: &str = "tandem_whip_datagrams_ignored_total";

labels! {
    /// Why a datagram was not taken.
    pub(super) enum Ignored {
        /// A check for nobody who is here.
        UnknownUser => "unknown_user",
        /// From where nobody has shown that they may speak.
        Stranger => "stranger",
        /// A check that is not signed with the password.
        ForgedCheck => "forged_check",
        /// Nothing that belongs on this port.
        Malformed => "malformed",
        /// Sound or keys before their time.
        TooEarly => "too_early",
        /// Its call is too busy with what came before.
        Crowded => "crowded",
    }
}

/// Declares the metric and touches every series.
pub(super) fn describe() {
    describe_counter!(
        IGNORED,
        "Datagrams on the WebRTC port that were not taken, by reason"
    );
    for reason in Ignored::ALL {
        count(reason, 0);
    }
}

/// Counts datagrams.
pub(super) fn count(reason: Ignored, datagrams: u64) {
    // In a flood this is said for each one.
    static HANDLES: OnceLock<[Counter; Ignored::ALL.len()]> = OnceLock::new();
    let handles = HANDLES
        .get_or_init(|| Ignored::ALL.map(|reason| counter!(IGNORED, "reason" => reason.label())));
    handles[reason as usize].increment(datagrams);
}

/// Counts what a connection has ignored since `before`.
pub(super) fn count_peer(now: peer::Ignored, before: peer::Ignored) {
    let counts = [
        (
            Ignored::ForgedCheck,
            now.forged_checks - before.forged_checks,
        ),
        (Ignored::Malformed, now.malformed - before.malformed),
        (Ignored::Stranger, now.strangers - before.strangers),
        (Ignored::TooEarly, now.too_early - before.too_early),
    ];
    for (reason, datagrams) in counts {
        if datagrams > 0 {
            count(reason, datagrams);
        }
    }
}
