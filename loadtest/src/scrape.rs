//! The Prometheus text format, as much as a report needs: sums, sums by a label, and quantiles of a histogram's growth.

use std::collections::BTreeMap;

/// One reading of `/metrics`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    /// Reads the text; lines that are not samples are passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let is_sample = |line: &&str| !line.starts_with('#') && !line.trim().is_empty();
        Self {
            samples: text
                .lines()
                .filter(is_sample)
                .filter_map(parse_sample)
                .collect(),
        }
    }

    /// The sum over all series of a name; `None` if there is none.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        let mut values = self.named(name).map(|sample| sample.value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// The growth of a name's sum since an earlier reading.
    pub(crate) fn growth(&self, before: &Self, name: &str) -> Option<f64> {
        Some(self.sum(name)? - before.sum(name).unwrap_or(0.0))
    }

    /// The growth by the values of one label, those that grew.
    pub(crate) fn growth_by(
        &self,
        before: &Self,
        name: &str,
        label: &str,
    ) -> BTreeMap<String, f64> {
        let mut growth = self.by(name, label);
        for (value, count) in before.by(name, label) {
            *growth.entry(value).or_default() -= count;
        }
        growth.retain(|_, count| *count > 0.0);
        growth
    }

    /// The quantile of what a histogram recorded since an earlier reading: the upper bound of the bucket it falls in, which may be
    /// infinite. From a summary, its own quantile. `None` if there is neither, or nothing was recorded.
    pub(crate) fn quantile(&self, before: &Self, name: &str, quantile: f64) -> Option<f64> {
        let buckets = self.by_bound(&format!("{name}_bucket"));
        if buckets.is_empty() {
            return self
                .named(name)
                .find(|sample| sample.number("quantile") == Some(quantile))
                .map(|sample| sample.value);
        }
        let earlier = before.by_bound(&format!("{name}_bucket"));
        let count_before = |bound: f64| {
            earlier
                .iter()
                .find(|(other, _)| *other == bound)
                .map_or(0.0, |(_, count)| *count)
        };
        let growth: Vec<(f64, f64)> = buckets
            .iter()
            .map(|&(bound, count)| (bound, count - count_before(bound)))
            .collect();
        let total = growth.last().map_or(0.0, |(_, count)| *count);
        let bucket = growth
            .iter()
            .find(|(_, count)| *count >= quantile * total)?;
        (total > 0.0).then_some(bucket.0)
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }

    fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.named(name) {
            *sums
                .entry(sample.label(label).unwrap_or_default().to_owned())
                .or_default() += sample.value;
        }
        sums
    }

    /// Cumulative counts by bucket bound, all series together, in order of the bound.
    fn by_bound(&self, name: &str) -> Vec<(f64, f64)> {
        let mut bounds: Vec<(f64, f64)> = Vec::new();
        for sample in self.named(name) {
            let Some(bound) = sample.number("le") else {
                continue;
            };
            match bounds.iter_mut().find(|(other, _)| *other == bound) {
                Some((_, count)) => *count += sample.value,
                None => bounds.push((bound, sample.value)),
            }
        }
        bounds.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        bounds
    }
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    fn number(&self, label: &str) -> Option<f64> {
        // Rust reads "+Inf" as infinity.
        self.label(label)?.parse().ok()
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    let (name, labels, rest) = match line.find('{') {
        Some(open) => {
            let (labels, rest) = parse_labels(&line[open + 1..])?;
            (&line[..open], labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(char::is_whitespace)?;
            (name, Vec::new(), rest)
        }
    };
    // A time stamp may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.trim().to_owned(),
        labels,
        value,
    })
}

/// The labels after `{`, and the text after `}`. A value may hold braces, commas and escapes.
fn parse_labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (index, '"') => break index,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.trim().to_owned(), value));
        text = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
# TYPE tandem_calls_total counter
tandem_calls_total{ingress="twilio",end_reason="caller_hung_up"} 5
tandem_calls_total{ingress="sip",end_reason="agent_ended"} 1
process_cpu_seconds_total 10.5
lateness_bucket{le="0.001"} 100
lateness_bucket{le="0.005"} 100
lateness_bucket{le="+Inf"} 100
"#;
    const AFTER: &str = r#"
tandem_calls_total{ingress="twilio",end_reason="caller_hung_up"} 205
tandem_calls_total{ingress="sip",end_reason="agent_ended"} 1
tandem_calls_total{ingress="sip",end_reason="odd \"}, \\ one"} 2
process_cpu_seconds_total 42.25 1700000000000
lateness_bucket{le="0.001"} 1090
lateness_bucket{le="0.005"} 1099
lateness_bucket{le="+Inf"} 1100
"#;

    #[test]
    fn growth_is_counted_by_label() {
        let (before, after) = (Scrape::parse(BEFORE), Scrape::parse(AFTER));
        let reasons = after.growth_by(&before, "tandem_calls_total", "end_reason");
        assert_eq!(
            reasons,
            BTreeMap::from([
                ("caller_hung_up".into(), 200.0),
                ("odd \"}, \\ one".into(), 2.0)
            ])
        );
        assert_eq!(
            after.growth(&before, "process_cpu_seconds_total"),
            Some(31.75)
        );
        assert_eq!(after.growth(&before, "no_such_metric"), None);
    }

    #[test]
    fn a_quantile_is_of_what_was_recorded_between_the_readings() {
        let (before, after) = (Scrape::parse(BEFORE), Scrape::parse(AFTER));
        assert_eq!(after.quantile(&before, "lateness", 0.5), Some(0.001));
        assert_eq!(after.quantile(&before, "lateness", 0.999), Some(0.005));
        assert_eq!(
            after.quantile(&before, "lateness", 1.0),
            Some(f64::INFINITY)
        );
        assert_eq!(before.quantile(&before, "lateness", 0.5), None);
    }

    #[test]
    fn a_summary_gives_its_own_quantile() {
        let scrape = Scrape::parse("lateness{quantile=\"0.999\"} 0.004\nlateness_sum 1\n");
        assert_eq!(
            scrape.quantile(&Scrape::default(), "lateness", 0.999),
            Some(0.004)
        );
    }
}
