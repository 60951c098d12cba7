//! What RTP sessions count, added to the metrics of all calls, over whichever ingress they came.

use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use metrics::Counter;
use metrics::Histogram;
use metrics::Unit;
use metrics::counter;
use metrics::describe_counter;
use metrics::describe_histogram;
use metrics::histogram;

use crate::engine::rtp::session::Statistics;
use crate::io::metrics::RTP_JITTER;

const PACKETS: &str = "tandem_rtp_packets_total";
const LOST: &str = "tandem_rtp_lost_packets_total";
const REFUSED_PACKETS: &str = "tandem_rtp_refused_packets_total";

/// How often a call tells what it has counted.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Declares the metrics and touches every series. Several ingresses may do so.
pub(super) fn describe() {
    describe_counter!(PACKETS, "RTP packets, by direction");
    describe_counter!(LOST, "RTP packets of callers that never came");
    describe_counter!(
        REFUSED_PACKETS,
        "RTP packets that were not heard, by reason"
    );
    describe_histogram!(
        RTP_JITTER,
        Unit::Seconds,
        "Interarrival jitter of callers' packets at the end of their call"
    );
    for counter in handles() {
        counter.increment(0);
    }
    // Merely to be named is enough for it.
    drop(histogram!(RTP_JITTER));
}

/// What one call has told so far.
pub(super) struct Tally {
    told: Statistics,
    tell_at: Instant,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            told: Statistics::default(),
            tell_at: now + TELL_EVERY,
        }
    }

    /// When [`Tally::tick`] has something to do.
    pub(super) const fn deadline(&self) -> Instant {
        self.tell_at
    }

    /// Tells what was counted, if it is time.
    pub(super) fn tick(&mut self, counted: impl FnOnce() -> Option<Statistics>, now: Instant) {
        if now < self.tell_at {
            return;
        }
        self.tell_at = now + TELL_EVERY;
        if let Some(counted) = counted() {
            self.tell(counted);
        }
    }

    /// Tells the rest, and how unsteadily the packets arrived.
    pub(super) fn end(&mut self, counted: Option<Statistics>) {
        static JITTER: OnceLock<Histogram> = OnceLock::new();
        let Some(counted) = counted else {
            return;
        };
        self.tell(counted);
        let jitter = JITTER.get_or_init(|| histogram!(RTP_JITTER));
        jitter.record(counted.jitter.as_secs_f64());
    }

    fn tell(&mut self, now: Statistics) {
        let told = std::mem::replace(&mut self.told, now);
        let repeats = |counted: &Statistics| counted.order.duplicates + counted.replays;
        let counts = [
            now.packets_received - told.packets_received,
            now.packets_sent - told.packets_sent,
            now.order.lost - told.order.lost,
            now.refused_sources - told.refused_sources,
            now.authentication_failures - told.authentication_failures,
            now.malformed - told.malformed,
            now.order.late - told.order.late,
            repeats(&now) - repeats(&told),
        ];
        for (counter, count) in handles().iter().zip(counts) {
            if count > 0 {
                counter.increment(count);
            }
        }
    }
}

/// Looked up once, for every call says this again and again.
fn handles() -> &'static [Counter; 8] {
    static HANDLES: OnceLock<[Counter; 8]> = OnceLock::new();
    let refused = |reason: &'static str| counter!(REFUSED_PACKETS, "reason" => reason);
    HANDLES.get_or_init(|| {
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
    })
}
