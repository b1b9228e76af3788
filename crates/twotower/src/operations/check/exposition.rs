//! A parser of Prometheus' text format, limited to what counters and histograms need.

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    labels: &'a str,
    pub(super) value: f64,
}

impl<'a> Sample<'a> {
    /// The value of a label. Escapes are not decoded: the labels we read have none.
    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        loop {
            let (label, value) = rest.split_once("=\"")?;
            let (value, after) = value.split_once('"')?;
            if label.trim_start_matches(',').trim() == name {
                return Some(value);
            }
            rest = after;
        }
    }
}

/// The samples of a text; other lines are skipped.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, labels, rest) = if let Some((name, rest)) = line.split_once('{') {
                let (labels, rest) = rest.rsplit_once('}')?;
                (name, labels, rest)
            } else {
                let (name, rest) = line.split_once(' ')?;
                (name, "", rest)
            };
            // A timestamp may follow the value.
            let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
            Some(Sample {
                name,
                labels,
                value,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_labels_and_without() {
        let text = "# HELP a x\n# TYPE a counter\na 1\nb{le=\"0.5\",route=\"/x\"} 2.5 1700000000\nnonsense\nc{} +Inf\n";
        let read: Vec<_> = samples(text).collect();
        assert_eq!(read.len(), 3);
        assert_eq!((read[0].name, read[0].value), ("a", 1.0));
        assert_eq!(read[1].label("le"), Some("0.5"));
        assert_eq!(read[1].label("route"), Some("/x"));
        assert_eq!(read[1].label("e"), None);
        assert!(read[2].value.is_infinite());
    }
}
