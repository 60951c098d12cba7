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

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn every_reason_is_a_series_from_the_start_and_counts_alone() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let series = |reason: Refused, count: u32| {
            format!("{REFUSED}{{reason=\"{}\"}} {count}\n", reason.label())
        };
        metrics::with_local_recorder(&recorder, describe);
        let text = recorder.handle().render();
        for reason in Refused::ALL {
            assert!(text.contains(&series(reason, 0)), "{text}");
        }
        metrics::with_local_recorder(&recorder, || refused(Refused::NeverConnected));
        let text = recorder.handle().render();
        for reason in Refused::ALL {
            let count = u32::from(reason == Refused::NeverConnected);
            assert!(text.contains(&series(reason, count)), "{text}");
        }
    }
}
