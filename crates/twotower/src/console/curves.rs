use super::metrics::{decimal, title};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 150.0;
/// Space for labels: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (54.0, 12.0, 12.0, 22.0);

/// At most this many series are drawn.
const MAX_CURVES: usize = 8;

/// One metric over the epochs.
#[derive(Debug, PartialEq)]
struct Curve {
    name: String,
    /// (epoch, value), ascending by epoch.
    points: Vec<(f64, f64)>,
    lower_is_better: bool,
}

/// One small chart for each number that the log has for at least two epochs.
pub(super) fn render(log: &Value) -> Markup {
    let curves = curves(log);
    html! {
        @if curves.is_empty() {
            p.muted { "The trainer has recorded no curve." }
        } @else {
            div.curves { @for curve in curves.iter().take(MAX_CURVES) { (curve.render()) } }
        }
    }
}

/// Reads records such as `{"epoch": 1, "loss": 5.2, "validation": {"ndcg_at_10": 0.08}}`, and skips
/// what is not a number.
fn curves(log: &Value) -> Vec<Curve> {
    let mut series: BTreeMap<(bool, String), Vec<(f64, f64)>> = BTreeMap::new();
    for (position, record) in log.as_array().into_iter().flatten().enumerate() {
        let Some(record) = record.as_object() else {
            continue;
        };
        let epoch = record
            .get("epoch")
            .and_then(Value::as_f64)
            .unwrap_or(position as f64 + 1.0);
        for (name, value) in record.iter().filter(|(name, _)| *name != "epoch") {
            match value {
                Value::Object(group) => {
                    for (inner, value) in group {
                        push(&mut series, format!("{name} {inner}"), epoch, value);
                    }
                }
                value if name.contains("loss") => push(&mut series, name.clone(), epoch, value),
                _ => {}
            }
        }
    }
    series
        .into_iter()
        .filter(|(_, points)| points.len() > 1)
        .map(|((_, name), points)| Curve {
            lower_is_better: name.contains("loss"),
            name,
            points,
        })
        .collect()
}

/// Adds a point; losses come first.
fn push(
    series: &mut BTreeMap<(bool, String), Vec<(f64, f64)>>,
    name: String,
    epoch: f64,
    value: &Value,
) {
    if let Some(value) = value.as_f64() {
        series
            .entry((!name.contains("loss"), name))
            .or_default()
            .push((epoch, value));
    }
}

impl Curve {
    fn render(&self) -> Markup {
        let name = title(&self.name);
        let best = self.best();
        let summary = format!(
            "{name}: from {} to {} over {} epochs; best {} at epoch {}",
            decimal(self.points[0].1),
            decimal(self.points[self.points.len() - 1].1),
            self.points.len(),
            decimal(best.1),
            best.0
        );
        let (low, high) = extent(self.points.iter().map(|point| point.1));
        let (first, last) = extent(self.points.iter().map(|point| point.0));
        let (left, right, top, bottom) = MARGIN;
        let x = |epoch: f64| left + (epoch - first) / (last - first) * (WIDTH - left - right);
        let y =
            |value: f64| HEIGHT - bottom - (value - low) / (high - low) * (HEIGHT - top - bottom);
        let mut path = String::new();
        for (position, &(epoch, value)) in self.points.iter().enumerate() {
            let command = if position == 0 { 'M' } else { 'L' };
            // Writing into a String cannot fail.
            let _ = write!(path, "{command}{:.1} {:.1}", x(epoch), y(value));
        }
        let number = |x: f64| format!("{x:.1}");
        html! {
            figure {
                figcaption {
                    span { (name) }
                    span.best { "best " (decimal(best.1)) " at epoch " (best.0) }
                }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(summary) {
                    @for value in [low, high] {
                        line.grid x1=(left) x2=(WIDTH - right) y1=(number(y(value))) y2=(number(y(value))) {}
                        text.y x=(left - 6.0) y=(number(y(value) + 4.0)) text-anchor="end" { (decimal(value)) }
                    }
                    text.x x=(left) y=(HEIGHT - 6.0) text-anchor="start" { "epoch " (first) }
                    text.x x=(WIDTH - right) y=(HEIGHT - 6.0) text-anchor="end" { (last) }
                    path.line d=(path) {}
                    circle.best cx=(number(x(best.0))) cy=(number(y(best.1))) r="4" {}
                }
            }
        }
    }

    /// The best point; the first of several.
    fn best(&self) -> (f64, f64) {
        let mut best = self.points[0];
        for &point in &self.points {
            let better = if self.lower_is_better {
                point.1 < best.1
            } else {
                point.1 > best.1
            };
            if better {
                best = point;
            }
        }
        best
    }
}

/// Smallest and largest value, widened a little if they are equal.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
        (low.min(x), high.max(x))
    });
    if low < high {
        (low, high)
    } else {
        (low - 0.5, high + 0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_is_a_number() {
        let log = json!([
            {"epoch": 1, "loss": 5.0, "seconds": 2.0, "validation": {"ndcg_at_10": 0.1, "note": "x"}},
            {"epoch": 2, "loss": 4.0, "validation": {"ndcg_at_10": 0.2}},
            "junk",
            {"epoch": 3, "loss": 4.5, "validation": null},
        ]);
        let curves = curves(&log);
        assert_eq!(curves.len(), 2);
        assert_eq!(curves[0].name, "loss");
        assert_eq!(curves[0].best(), (2.0, 4.0));
        assert_eq!(curves[1].points, [(1.0, 0.1), (2.0, 0.2)]);
        let html = render(&log).into_string();
        assert!(html.contains("NDCG@10") && !html.contains("NaN") && !html.contains("style="));
    }

    #[test]
    fn no_log_is_no_failure() {
        for log in [
            json!(null),
            json!([]),
            json!([{"loss": 1.0}]),
            json!({"a": 1}),
        ] {
            assert!(render(&log).into_string().contains("no curve"), "{log}");
        }
        let flat = render(&json!([{"loss": 1.0}, {"loss": 1.0}])).into_string();
        assert!(!flat.contains("NaN"));
    }
}
