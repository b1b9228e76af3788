use super::words::{self, Difference};
use std::fmt::Write;
use twotower_core::evaluate::{CohortSummary, Comparison, Evaluation, Metric};
use twotower_core::metric::{Bootstrap, signed};

/// Width of a metric's column.
const COLUMN: usize = 14;

/// A table for the terminal: a row per recommender, a column per metric with its standard error, a
/// block per cohort, two models side by side if there are two, and the difference to the best
/// baseline in words. About 120 columns wide.
pub(crate) fn comparison_table(comparison: &Comparison, bootstrap: &Bootstrap) -> String {
    let Some(first) = comparison.evaluations.first() else {
        return String::new();
    };
    let summary = &first.summary;
    let mut blocks = vec![block("all", comparison, |e| Some(e.summary.all))];
    if summary.warm.is_some() && summary.cold.is_some() {
        blocks.push(block("warm", comparison, |e| e.summary.warm));
        blocks.push(block("cold", comparison, |e| e.summary.cold));
    }
    let mut text = format!(
        "{}; mean over users ± standard error by bootstrap\n\n{}",
        words::users(first),
        blocks.join("\n")
    );
    if let Some(models) = between_models(comparison, bootstrap) {
        text.push('\n');
        text.push_str(&models);
    }
    if let Some(difference) = Difference::to_best_baseline(comparison, Metric::NdcgAt10, bootstrap)
    {
        text.push('\n');
        text.push_str(&difference.sentence());
        text.push('\n');
    }
    text
}

/// Two models side by side: a row per metric, and a verdict on NDCG@10 in words.
fn between_models(comparison: &Comparison, bootstrap: &Bootstrap) -> Option<String> {
    let [model, other] = &comparison.evaluations[..comparison.models] else {
        return None;
    };
    let width = |name: &str| name.chars().count().max(COLUMN);
    let (first, second) = (width(&model.name), width(&other.name));
    let mut text = format!(
        "{:8}  {:>first$}  {:>second$}  {:>10}  95 % interval\n",
        "", model.name, other.name, "difference"
    );
    for metric in Metric::ALL {
        let difference = Difference::between_models(comparison, metric, bootstrap)?;
        let range = difference.range();
        let of = |evaluation: &Evaluation| estimate(&evaluation.summary.all, metric);
        let _ = writeln!(
            text,
            "{:8}  {:>first$}  {:>second$}  {:>10}  {}",
            metric.label(),
            of(model),
            of(other),
            signed(difference.mean(), 4),
            range.as_deref().unwrap_or("too few users to tell"),
        );
    }
    let difference = Difference::between_models(comparison, Metric::NdcgAt10, bootstrap)?;
    let _ = writeln!(text, "\n{}", difference.sentence());
    Some(text)
}

fn block(
    name: &str,
    comparison: &Comparison,
    cohort: impl Fn(&Evaluation) -> Option<CohortSummary>,
) -> String {
    let names = comparison
        .evaluations
        .iter()
        .map(|e| e.name.chars().count());
    let width = names.max().unwrap_or(0).max(4) + 2;
    let mut lines = vec![
        Metric::ALL
            .iter()
            .fold(format!("{name:width$}"), |mut line, metric| {
                let _ = write!(line, "{:>COLUMN$}", metric.label());
                line
            })
            + "  Cov@10",
    ];
    for evaluation in &comparison.evaluations {
        let Some(cohort) = cohort(evaluation) else {
            continue;
        };
        let mut line = format!("{:width$}", evaluation.name);
        for metric in Metric::ALL {
            let _ = write!(line, "{:>COLUMN$}", estimate(&cohort, metric));
        }
        let _ = write!(line, "{:>8}", short(cohort.coverage_at_10, 3));
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

/// With a single user there is no standard error.
fn estimate(cohort: &CohortSummary, metric: Metric) -> String {
    let estimate = cohort.metric(metric);
    let mean = short(estimate.mean, 4);
    if cohort.users < 2 {
        return mean;
    }
    format!("{mean} ±{}", short(estimate.standard_error, 4))
}

/// A share without its leading zero.
fn short(x: f64, digits: usize) -> String {
    let text = format!("{x:.digits$}");
    match text.strip_prefix("0.") {
        Some(rest) => format!(".{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn shows_every_recommender_in_every_cohort() {
        let data = sample::data();
        insta::assert_snapshot!(comparison_table(&data.comparison, &data.bootstrap));
    }

    #[test]
    fn two_models_stand_side_by_side() {
        let data = sample::of_two_models();
        let text = comparison_table(&data.comparison, &data.bootstrap);
        let (_, pair) = text.split_once("\n\n                 model 2").unwrap();
        let rows: Vec<&str> = pair.lines().collect();
        assert!(rows[0].ends_with("difference  95 % interval"), "{pair}");
        assert!(rows[1].starts_with("NDCG@10 "), "{pair}");
        assert_eq!(rows[1].split_whitespace().count(), 9, "{pair}");
        // A difference of zero has no sign.
        assert!(
            rows[6].ends_with("0.0000  0.0000 to 0.0000") && !rows[6].contains("+0"),
            "{pair}"
        );
        let sentence = rows[9];
        assert!(
            sentence.starts_with("model 2 is better than model 1: its NDCG@10 is higher by"),
            "{pair}"
        );
        assert!(!sentence.contains("baseline"), "{pair}");
    }

    #[test]
    fn one_user_has_no_standard_error() {
        let mut comparison = sample::data().comparison;
        for evaluation in &mut comparison.evaluations {
            evaluation.summary.cold.as_mut().unwrap().users = 1;
        }
        let text = comparison_table(&comparison, &Bootstrap::default());
        let (warm, cold) = text.split_once("\ncold").unwrap();
        assert!(warm.contains('±') && !cold.contains('±'), "{text}");
    }

    #[test]
    fn one_cohort_gives_one_block() {
        let mut comparison = sample::data().comparison;
        for evaluation in &mut comparison.evaluations {
            evaluation.summary.cold = None;
        }
        let text = comparison_table(&comparison, &Bootstrap::default());
        assert_eq!(text.matches("NDCG@20").count(), 1);
    }
}
