use super::data::{EpochRow, Fact, RecommendedTitle, ReportData, WorkedExample};
use twotower_core::evaluate::{
    CohortSummary, Comparison, Evaluation, Metric, Summary, UserEvaluation,
};
use twotower_core::metric::Bootstrap;

/// A report with every part and made-up numbers.
pub(super) fn data() -> ReportData {
    let fact = |name: &str, value: &str| Fact {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    ReportData {
        title: "Model 7".to_owned(),
        protocol: "temporal split, test".to_owned(),
        comparison: Comparison {
            evaluations: vec![
                evaluation("two-tower", 0.09, 0.3),
                evaluation("popularity", 0.03, 0.04),
                evaluation("item-knn", 0.04, 0.1),
                evaluation("ials", 0.06, 0.25),
            ],
            models: 1,
        },
        bootstrap: Bootstrap::default(),
        epochs: (1..=4u8)
            .map(|epoch| EpochRow {
                epoch: usize::from(epoch),
                loss: 6.0 / f64::from(epoch),
                seconds: Some(2.5),
                examples_per_second: Some(18_000.0),
                validation_ndcg_at_10: Some(0.05 + 0.01 * f64::from(epoch.min(3))),
            })
            .collect(),
        best_epoch: Some(3),
        examples: vec![WorkedExample {
            liked: vec!["夜の散歩".to_owned(), "<b>Bold</b> & Co".to_owned()],
            recommended: vec![
                RecommendedTitle {
                    title: "First".to_owned(),
                    hit: false,
                },
                RecommendedTitle {
                    title: "Second".to_owned(),
                    hit: true,
                },
            ],
            held_out: 2,
        }],
        hyperparameters: vec![fact("embedding_dim", "64"), fact("epochs", "20")],
        data: vec![fact("videos", "1,682"), fact("likes", "55,375")],
    }
}

/// The same with two models, of which the first is better.
pub(super) fn of_two_models() -> ReportData {
    let mut data = data();
    let models = [
        evaluation("model 2", 0.09, 0.3),
        evaluation("model 1", 0.07, 0.2),
    ];
    data.comparison.evaluations.splice(..1, models);
    data.comparison.models = 2;
    data
}

/// 60 users, every fifth one cold, whose metrics scatter around `level`; cold users are the same
/// for every recommender.
fn evaluation(name: &str, level: f64, coverage: f64) -> Evaluation {
    let users: Vec<UserEvaluation> = (0..60u32)
        .map(|user| {
            let warm = user % 5 != 0;
            let level = if warm { level } else { 0.03 };
            let scatter = f64::from(user * 7 % 11) / 10.0;
            let mut metrics =
                [1.0, 1.2, 0.2, 2.0, 2.6, 0.0, 0.0].map(|n| n * level * (0.5 + scatter));
            let lucky = (user as usize + name.len()).is_multiple_of(3);
            metrics[Metric::RecallAt50 as usize] = if lucky { 0.6 } else { 0.3 };
            metrics[Metric::Auc as usize] = 0.9 - level * (1.0 + scatter);
            UserEvaluation {
                user,
                warm,
                served: warm,
                metrics,
                top: vec![],
            }
        })
        .collect();
    let cohort = |keep: &dyn Fn(&UserEvaluation) -> bool| {
        let rows: Vec<_> = users
            .iter()
            .filter(|u| keep(u))
            .map(|u| u.metrics)
            .collect();
        let estimates = Bootstrap::default().estimates(&rows);
        let estimate = |metric: Metric| estimates[metric as usize];
        CohortSummary {
            users: rows.len(),
            ndcg_at_10: estimate(Metric::NdcgAt10),
            ndcg_at_20: estimate(Metric::NdcgAt20),
            precision_at_10: estimate(Metric::PrecisionAt10),
            recall_at_10: estimate(Metric::RecallAt10),
            recall_at_20: estimate(Metric::RecallAt20),
            recall_at_50: estimate(Metric::RecallAt50),
            auc: estimate(Metric::Auc),
            coverage_at_10: coverage,
            popularity_percentile_at_10: 1.0 - coverage / 2.0,
            exposure_gini_at_10: 0.95 - coverage,
            novelty_at_10: 2.0 + coverage,
        }
    };
    Evaluation {
        name: name.to_owned(),
        summary: Summary {
            all: cohort(&|_| true),
            warm: Some(cohort(&|user| user.warm)),
            cold: Some(cohort(&|user| !user.warm)),
        },
        users,
    }
}
