//! Percentiles and how durations are written.

use std::time::Duration;

/// The nearest-rank percentile (0 to 100): a value that was really measured. `None` of nothing.
pub(crate) fn percentile(values: &[Duration], percent: f64) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// "p50 412 ms, p99 600 ms, max 731 ms (of 12)", or a dash when nothing was measured.
pub(crate) fn spread(values: &[Duration]) -> String {
    let [Some(median), Some(p99), Some(max)] =
        [50.0, 99.0, 100.0].map(|percent| percentile(values, percent))
    else {
        return "–".to_owned();
    };
    format!(
        "p50 {}, p99 {}, max {} (of {})",
        ms(median),
        ms(p99),
        ms(max),
        values.len()
    )
}

/// Whole milliseconds, or one decimal below ten.
pub(crate) fn ms(value: Duration) -> String {
    let milliseconds = value.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let values: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50.0), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&values, 99.0), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&values, 100.0), Some(Duration::from_millis(200)));
        assert_eq!(
            percentile(&values[..1], 50.0),
            Some(Duration::from_millis(200))
        );
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn a_spread_reads_as_a_sentence_part() {
        assert_eq!(
            spread(&[Duration::from_micros(1500), Duration::from_millis(40)]),
            "p50 1.5 ms, p99 40 ms, max 40 ms (of 2)"
        );
        assert_eq!(spread(&[]), "–");
    }
}
