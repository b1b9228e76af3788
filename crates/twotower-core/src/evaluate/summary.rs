use super::user::{Metric, UserEvaluation};
use crate::metric::{Bootstrap, Estimate, Exposure, PopularityScale};
use serde::{Deserialize, Serialize};

/// Means over all users and over each cohort.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Every held-out user; zeros if there is none.
    pub all: CohortSummary,
    /// Users with at least one seen like; `None` if there is none.
    pub warm: Option<CohortSummary>,
    /// Users without a seen like; `None` if there is none. Popularity ranks for them, except that
    /// the towers rank for users with skips.
    pub cold: Option<CohortSummary>,
}

/// Means over the users of one cohort.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CohortSummary {
    /// Number of users.
    pub users: usize,
    /// NDCG@10.
    pub ndcg_at_10: Estimate,
    /// NDCG@20.
    pub ndcg_at_20: Estimate,
    /// Precision@10.
    pub precision_at_10: Estimate,
    /// Recall@10.
    pub recall_at_10: Estimate,
    /// Recall@20.
    pub recall_at_20: Estimate,
    /// Recall@50.
    pub recall_at_50: Estimate,
    /// AUC.
    pub auc: Estimate,
    /// Share of the catalogue in the union of the top-10 lists.
    pub coverage_at_10: f64,
    /// Mean popularity percentile of the videos in the top-10 lists: 1 if only the most popular
    /// video is shown.
    pub popularity_percentile_at_10: f64,
    /// Gini coefficient of the number of top-10 lists that each video of the catalogue is in.
    pub exposure_gini_at_10: f64,
    /// Mean self-information of the videos in the top-10 lists, in bits.
    pub novelty_at_10: f64,
}

impl Summary {
    pub(super) fn new(
        users: &[UserEvaluation],
        videos: usize,
        scale: &PopularityScale,
        bootstrap: &Bootstrap,
    ) -> Self {
        let cohort = |keep: &dyn Fn(&UserEvaluation) -> bool| {
            let users: Vec<&UserEvaluation> = users.iter().filter(|user| keep(user)).collect();
            CohortSummary::new(&users, videos, scale, bootstrap)
        };
        let warm = users.iter().filter(|user| user.warm).count();
        Self {
            all: cohort(&|_| true),
            warm: (warm > 0).then(|| cohort(&|user| user.warm)),
            cold: (warm < users.len()).then(|| cohort(&|user| !user.warm)),
        }
    }
}

impl CohortSummary {
    fn new(
        users: &[&UserEvaluation],
        videos: usize,
        scale: &PopularityScale,
        bootstrap: &Bootstrap,
    ) -> Self {
        let rows: Vec<_> = users.iter().map(|user| user.metrics).collect();
        let estimates = bootstrap.estimates(&rows);
        let estimate = |metric: Metric| estimates[metric as usize];
        let mut exposure = Exposure::new(videos);
        for user in users {
            exposure.add(&user.top);
        }
        let mean_of_means = |value: &dyn Fn(u32) -> f64| {
            let of_list = |top: &[u32]| {
                top.iter().map(|&item| value(item)).sum::<f64>() / top.len().max(1) as f64
            };
            users.iter().map(|user| of_list(&user.top)).sum::<f64>() / users.len().max(1) as f64
        };
        Self {
            users: users.len(),
            ndcg_at_10: estimate(Metric::NdcgAt10),
            ndcg_at_20: estimate(Metric::NdcgAt20),
            precision_at_10: estimate(Metric::PrecisionAt10),
            recall_at_10: estimate(Metric::RecallAt10),
            recall_at_20: estimate(Metric::RecallAt20),
            recall_at_50: estimate(Metric::RecallAt50),
            auc: estimate(Metric::Auc),
            coverage_at_10: exposure.coverage(),
            popularity_percentile_at_10: mean_of_means(&|item| scale.percentile(item)),
            exposure_gini_at_10: exposure.gini(),
            novelty_at_10: mean_of_means(&|item| scale.surprise(item)),
        }
    }

    /// One metric of the cohort.
    pub fn metric(&self, metric: Metric) -> Estimate {
        match metric {
            Metric::NdcgAt10 => self.ndcg_at_10,
            Metric::NdcgAt20 => self.ndcg_at_20,
            Metric::PrecisionAt10 => self.precision_at_10,
            Metric::RecallAt10 => self.recall_at_10,
            Metric::RecallAt20 => self.recall_at_20,
            Metric::RecallAt50 => self.recall_at_50,
            Metric::Auc => self.auc,
        }
    }
}
