use twotower_core::evaluate::{Comparison, Evaluation, Metric};
use twotower_core::metric::{Bootstrap, Interval};

/// The model against the baseline that is best in one metric, over all users.
pub(super) struct Difference<'a> {
    pub metric: Metric,
    pub model: &'a Evaluation,
    pub baseline: &'a Evaluation,
    /// Model − baseline.
    pub interval: Interval,
}

impl<'a> Difference<'a> {
    /// `None` without a model or without a baseline.
    pub(super) fn to_best_baseline(
        comparison: &'a Comparison,
        metric: Metric,
        bootstrap: &Bootstrap,
    ) -> Option<Self> {
        let baseline = comparison.best_baseline(metric)?;
        let interval = comparison
            .difference(baseline, metric, bootstrap)
            .ok()
            .flatten()?;
        Some(Self {
            metric,
            model: &comparison.evaluations[0],
            baseline,
            interval,
        })
    }

    /// One word for what the interval says.
    pub(super) fn verdict(&self) -> &'static str {
        match (self.interval.excludes_zero(), self.interval.mean > 0.0) {
            (false, _) => "no clear difference",
            (true, true) => "better",
            (true, false) => "worse",
        }
    }

    /// One sentence.
    pub(super) fn sentence(&self) -> String {
        let Interval { mean, low, high } = self.interval;
        let (model, baseline) = (&self.model.name, &self.baseline.name);
        let label = self.metric.label();
        if self.interval.excludes_zero() {
            format!(
                "{model} is {} than {baseline}, the best baseline: its {label} is {} by {:.4} (95 % interval {low:+.4} to {high:+.4}).",
                self.verdict(),
                if mean > 0.0 { "higher" } else { "lower" },
                mean.abs(),
            )
        } else {
            format!(
                "No clear difference between {model} and {baseline}, the best baseline: the difference in {label} is {mean:+.4}, and its 95 % interval {low:+.4} to {high:+.4} includes zero.",
            )
        }
    }
}

/// "1 user", "2 users".
pub(super) fn counted(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// Who was ranked.
pub(super) fn users(evaluation: &Evaluation) -> String {
    let summary = &evaluation.summary;
    let of =
        |cohort: Option<_>| cohort.map_or(0, |c: twotower_core::evaluate::CohortSummary| c.users);
    format!(
        "{}: {} warm, {} cold",
        counted(summary.all.users, "user"),
        of(summary.warm),
        of(summary.cold)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_difference_is_said_in_words() {
        let data = sample::data();
        let difference = |metric| {
            Difference::to_best_baseline(&data.comparison, metric, &data.bootstrap).unwrap()
        };
        insta::assert_snapshot!(difference(Metric::NdcgAt10).sentence(), @"two-tower is better than ials, the best baseline: its NDCG@10 is higher by 0.0243 (95 % interval +0.0208 to +0.0281).");
        insta::assert_snapshot!(difference(Metric::Auc).sentence(), @"two-tower is worse than popularity, the best baseline: its AUC is lower by 0.0726 (95 % interval -0.0824 to -0.0630).");
        insta::assert_snapshot!(difference(Metric::RecallAt50).sentence(), @"No clear difference between two-tower and item-knn, the best baseline: the difference in R@50 is +0.0000, and its 95 % interval -0.0600 to +0.0650 includes zero.");
    }

    #[test]
    fn without_a_model_there_is_no_difference() {
        let mut data = sample::data();
        data.comparison.evaluations.remove(0);
        data.comparison.models = 0;
        let bootstrap = &data.bootstrap;
        assert!(Difference::to_best_baseline(&data.comparison, Metric::Auc, bootstrap).is_none());
    }
}
