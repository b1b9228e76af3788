use super::catalogue::Metric;
use std::fmt::Write as _;

/// Prometheus' text format, version 0.0.4. Label values are constants of this crate, none of which
/// needs escaping.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// The two lines before the series of a metric.
    pub(super) fn head(&mut self, metric: &Metric) {
        let (name, help) = (metric.name, metric.help);
        let _ = writeln!(self.0, "# HELP {name} {help}");
        let _ = writeln!(self.0, "# TYPE {name} {}", metric.kind.name());
    }

    /// A metric with one series, if its value is known.
    pub(super) fn gauge(&mut self, metric: &Metric, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.head(metric);
            self.sample(metric, labels, value);
        }
    }

    pub(super) fn sample(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        self.part(metric, "", labels, value);
    }

    /// One series of a histogram.
    pub(super) fn part(&mut self, metric: &Metric, suffix: &str, labels: &[&str], value: f64) {
        self.series(metric, suffix, labels, None);
        let _ = writeln!(self.0, " {value}");
    }

    /// Number of observations of at most `bound`.
    pub(super) fn bucket(&mut self, metric: &Metric, labels: &[&str], bound: &str, count: u64) {
        self.series(metric, "_bucket", labels, Some(bound));
        let _ = writeln!(self.0, " {count}");
    }

    fn series(&mut self, metric: &Metric, suffix: &str, labels: &[&str], bound: Option<&str>) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let named = metric.labels.iter().copied().zip(labels.iter().copied());
        let _ = write!(self.0, "{}{suffix}", metric.name);
        let mut open = '{';
        for (name, value) in named.chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.0, "{open}{name}=\"{value}\"");
            open = ',';
        }
        if open == ',' {
            self.0.push('}');
        }
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}
