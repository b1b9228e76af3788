use twotower_core::evaluate::{Comparison, Distance, Evaluation, FEWEST_USERS, Metric};
use twotower_core::metric::{Bootstrap, Interval, signed};

/// A model compared in one metric with the best baseline or with another model, over all users.
pub(super) struct Difference<'a> {
    pub(crate) metric: Metric,
    /// Number of baselines that the best one was chosen from; 0 for another model.
    pub(crate) baselines: usize,
    distance: Distance<'a>,
}

/// A model compared in one metric with another model, over all users.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BetweenModels<'a> {
    /// The first model.
    pub(crate) model: &'a Evaluation,
    /// The other one.
    pub(crate) other: &'a Evaluation,
    /// Mean of model − other.
    pub(crate) mean: f64,
    /// 95 % confidence interval of the mean; `None` with too few users.
    pub(crate) interval: Option<Interval>,
    /// `better`, `worse`, `no clear difference`, or `too few users to tell`.
    pub(crate) verdict: &'static str,
}

/// `None` unless there are two models.
pub(crate) fn model_against_model<'a>(
    comparison: &'a Comparison,
    metric: Metric,
    bootstrap: &Bootstrap,
) -> Option<BetweenModels<'a>> {
    let difference = Difference::between_models(comparison, metric, bootstrap)?;
    Some(BetweenModels {
        model: difference.model(),
        other: difference.other(),
        mean: difference.mean(),
        interval: difference.interval(),
        verdict: difference.verdict(),
    })
}

impl<'a> Difference<'a> {
    /// `None` without a model or without a baseline.
    pub(super) fn to_best_baseline(
        comparison: &'a Comparison,
        metric: Metric,
        bootstrap: &Bootstrap,
    ) -> Option<Self> {
        Some(Self {
            metric,
            baselines: comparison.evaluations.len() - comparison.models,
            distance: comparison.to_best(metric, bootstrap).ok().flatten()?,
        })
    }

    /// `None` unless there are two models.
    pub(super) fn between_models(
        comparison: &'a Comparison,
        metric: Metric,
        bootstrap: &Bootstrap,
    ) -> Option<Self> {
        Some(Self {
            metric,
            baselines: 0,
            distance: comparison
                .between_models(metric, bootstrap)
                .ok()
                .flatten()?,
        })
    }

    pub(super) fn model(&self) -> &'a Evaluation {
        self.distance.model
    }

    /// The best baseline, or the other model.
    pub(super) fn other(&self) -> &'a Evaluation {
        self.distance.other
    }

    /// Model − other.
    pub(super) fn mean(&self) -> f64 {
        self.distance.interval.mean
    }

    /// Confidence interval of the mean; `None` with too few users.
    pub(super) fn interval(&self) -> Option<Interval> {
        (self.distance.users >= FEWEST_USERS).then_some(self.distance.interval)
    }

    /// The verdict that the interval supports.
    pub(super) fn verdict(&self) -> &'static str {
        match self.interval() {
            None => "too few users to tell",
            Some(interval) if !interval.excludes_zero() => "no clear difference",
            Some(interval) if interval.mean > 0.0 => "better",
            Some(_) => "worse",
        }
    }

    /// The interval as text.
    pub(super) fn range(&self) -> Option<String> {
        let Interval { low, high, .. } = self.interval()?;
        Some(format!("{} to {}", signed(low, 4), signed(high, 4)))
    }

    /// The comparison in one sentence.
    pub(super) fn sentence(&self) -> String {
        let (model, other, verdict) = (&self.model().name, &self.other().name, self.verdict());
        let (label, mean) = (self.metric.label(), self.mean());
        let whose = if self.baselines > 0 {
            ", the best baseline"
        } else {
            ""
        };
        let difference = signed(mean, 4);
        let Some(range) = self.range() else {
            return format!(
                "Too few users to tell {model} from {other}{whose}: the difference in {label} is {difference}, but something is known of {} alone, and below {FEWEST_USERS} chance decides.",
                counted(self.distance.users, "user"),
            );
        };
        let interval = format!("95 % interval {range}");
        if verdict == "no clear difference" {
            format!(
                "No clear difference between {model} and {other}{whose}: the difference in {label} is {difference}, and its {interval} includes zero.",
            )
        } else {
            format!(
                "{model} is {verdict} than {other}{whose}: its {label} is {} by {:.4} ({interval}).",
                if mean > 0.0 { "higher" } else { "lower" },
                mean.abs(),
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

/// The users that were ranked.
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
        insta::assert_snapshot!(difference(Metric::NdcgAt10).sentence(), @"two-tower is better than ials, the best baseline: its NDCG@10 is higher by 0.0243 (95 % interval +0.0208 to +0.0288).");
        insta::assert_snapshot!(difference(Metric::Auc).sentence(), @"two-tower is worse than popularity, the best baseline: its AUC is lower by 0.0726 (95 % interval -0.0824 to -0.0614).");
        insta::assert_snapshot!(difference(Metric::RecallAt50).sentence(), @"No clear difference between two-tower and item-knn, the best baseline: the difference in R@50 is 0.0000, and its 95 % interval -0.0600 to +0.0750 includes zero.");
    }

    /// With one user the interval has no width, so it always lies on one side of zero.
    #[test]
    fn a_handful_of_users_tells_nothing() {
        let mut data = sample::data();
        for evaluation in &mut data.comparison.evaluations {
            for user in &mut evaluation.users {
                user.served &= user.user < 24;
            }
        }
        let said = |data: &crate::report::ReportData| {
            let bootstrap = &data.bootstrap;
            let difference =
                Difference::to_best_baseline(&data.comparison, Metric::NdcgAt10, bootstrap);
            let difference = difference.unwrap();
            (difference.verdict(), difference.sentence())
        };
        let (verdict, sentence) = said(&data);
        assert_eq!(verdict, "too few users to tell");
        insta::assert_snapshot!(sentence, @"Too few users to tell two-tower from ials, the best baseline: the difference in NDCG@10 is +0.0243, but something is known of 19 users alone, and below 20 chance decides.");
        // One known user is enough for the recommender to count.
        data.comparison.evaluations[2].users[24].served = true;
        assert_eq!(said(&data).0, "better");
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
