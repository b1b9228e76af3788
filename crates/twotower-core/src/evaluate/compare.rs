use super::{
    Evaluation, EvaluationError, Metric, UserEvaluation, differences, evaluate, paired_bootstrap,
};
use crate::baseline::{Ease, EaseOptions, Ials, IalsOptions, ItemKnn, ItemKnnOptions, Popularity};
use crate::metric::{Bootstrap, Interval, ONE_IN};
use crate::recommend::Recommender;
use crate::split::{Phase, Split};

/// At least this many users that a recommender ranks for are needed to tell a difference from
/// chance. Resampling a handful of users gives intervals that are far too narrow, and resampling
/// one gives none (Hesterberg 2015).
pub const FEWEST_USERS: usize = 20;

/// Options of the baselines and of resampling.
#[derive(Debug, Clone, Copy, Default)]
pub struct BaselineOptions {
    /// Nearest neighbours.
    pub item_knn: ItemKnnOptions,
    /// Matrix factorisation.
    pub ials: IalsOptions,
    /// Full item-item matrix; left out if the catalogue is above its limit.
    pub ease: EaseOptions,
    /// Resampling of users.
    pub bootstrap: Bootstrap,
}

/// Evaluations of the same users in the same run.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Models first, if there are any, then baselines.
    pub evaluations: Vec<Evaluation>,
    /// Number of models among `evaluations`; the rest are baselines.
    pub models: usize,
}

impl Comparison {
    /// The baseline with the highest mean of `metric` over all users.
    pub fn best_baseline(&self, metric: Metric) -> Option<&Evaluation> {
        let mean = |evaluation: &Evaluation| evaluation.summary.all.metric(metric).mean;
        self.evaluations[self.models..]
            .iter()
            .max_by(|a, b| mean(a).total_cmp(&mean(b)))
    }

    /// The paired difference of `metric` between the model and the best baseline; `None` without a
    /// model or without a baseline.
    ///
    /// The best baseline is chosen on the same users, so that its mean is biased upwards, and the
    /// interval of the model and that baseline alone is not valid. The difference to the best is
    /// the least of the differences to all baselines. So its lower end is the least of their lower
    /// ends, including that of the best (an intersection-union test, Berger 1982). Its upper end is
    /// the least of their upper ends, each at a level at which all of them hold together
    /// (Bonferroni).
    ///
    /// # Errors
    /// [`EvaluationError::Users`] if they are not of the same users, which [`compare`] never gives.
    pub fn to_best(
        &self,
        metric: Metric,
        bootstrap: &Bootstrap,
    ) -> Result<Option<Distance<'_>>, EvaluationError> {
        let (models, baselines) = self.evaluations.split_at(self.models);
        let (Some(model), Some(baseline)) = (models.first(), self.best_baseline(metric)) else {
            return Ok(None);
        };
        let mut to_best = Distance {
            model,
            other: baseline,
            interval: Interval {
                mean: 0.0,
                low: f64::INFINITY,
                high: f64::INFINITY,
            },
            users: 0,
        };
        let mut known = vec![false; model.users.len()];
        for other in baselines {
            let differences = differences(model, other, metric)?;
            let Interval { mean, low, high } =
                bootstrap.interval_within(&differences, ONE_IN, ONE_IN * baselines.len());
            let interval = &mut to_best.interval;
            if std::ptr::eq(other, baseline) {
                interval.mean = mean;
            }
            (interval.low, interval.high) = (interval.low.min(low), interval.high.min(high));
            for ((known, a), b) in known.iter_mut().zip(&model.users).zip(&other.users) {
                *known |= a.served || b.served;
            }
        }
        to_best.users = known.into_iter().filter(|&known| known).count();
        Ok(Some(to_best))
    }

    /// The paired difference of `metric` between the first and the second model; `None` unless
    /// there are two.
    ///
    /// # Errors
    /// [`EvaluationError::Users`] if they are not of the same users, which [`compare_models`] never
    /// gives.
    pub fn between_models(
        &self,
        metric: Metric,
        bootstrap: &Bootstrap,
    ) -> Result<Option<Distance<'_>>, EvaluationError> {
        let [model, other] = &self.evaluations[..self.models] else {
            return Ok(None);
        };
        let served = |(a, b): &(&UserEvaluation, &UserEvaluation)| a.served || b.served;
        Ok(Some(Distance {
            model,
            other,
            interval: paired_bootstrap(model, other, metric, bootstrap)?,
            users: model.users.iter().zip(&other.users).filter(served).count(),
        }))
    }
}

/// The difference between a model and the best baseline, or another model.
#[derive(Debug, Clone, Copy)]
pub struct Distance<'a> {
    /// The model.
    pub model: &'a Evaluation,
    /// The baseline with the highest mean on these users, or the other model.
    pub other: &'a Evaluation,
    /// Model − other. For the best baseline it allows for the choice among them.
    pub interval: Interval,
    /// Number of users for whom at least one of those compared ranked itself: the model and the
    /// other model, or the model and any of the baselines. For all others popularity ranked in
    /// place of all of them, and every difference is 0.
    pub users: usize,
}

/// Fits every baseline on what `split` has seen in `phase`, and evaluates `model` and the baselines
/// on its held-out users.
///
/// `items`: number of videos in the catalogue.
///
/// # Errors
/// [`EvaluationError::NotFinite`] if `model` gives a score that is NaN or infinite.
///
/// # Panics
/// If `model` ranks another number of videos.
pub fn compare(
    items: usize,
    split: &Split,
    phase: Phase,
    model: Option<&dyn Recommender>,
    options: &BaselineOptions,
) -> Result<Comparison, EvaluationError> {
    let models: Vec<&dyn Recommender> = model.into_iter().collect();
    compare_models(items, split, phase, &models, options)
}

/// As [`compare`], for any number of models.
///
/// # Errors
/// As [`compare`].
///
/// # Panics
/// As [`compare`].
pub fn compare_models(
    items: usize,
    split: &Split,
    phase: Phase,
    models: &[&dyn Recommender],
    options: &BaselineOptions,
) -> Result<Comparison, EvaluationError> {
    let held_out = split.held_out_users(phase);
    let seen = split.seen(phase);
    let popularity = Popularity::fit(items, &seen);
    let item_knn = ItemKnn::fit(items, &seen, &options.item_knn);
    let ials = Ials::fit(items, &seen, &options.ials);
    let ease = Ease::fit(items, &seen, &options.ease).ok();
    let evaluations = models
        .iter()
        .copied()
        .chain([&popularity as &dyn Recommender, &item_knn, &ials])
        .chain(ease.iter().map(|ease| ease as &dyn Recommender))
        .map(|recommender| evaluate(recommender, &popularity, &held_out, &options.bootstrap))
        .collect::<Result<_, _>>()?;
    Ok(Comparison {
        evaluations,
        models: models.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Summary;
    use super::*;
    use crate::metric::PopularityScale;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    const FEW: Bootstrap = Bootstrap {
        resamples: 400,
        seed: 7,
    };

    fn evaluation(name: &str, values: impl Iterator<Item = f64>) -> Evaluation {
        let user = |(user, value)| UserEvaluation {
            user,
            warm: true,
            served: true,
            metrics: [value; Metric::ALL.len()],
            top: Vec::new(),
        };
        let users: Vec<UserEvaluation> = (0..).zip(values).map(user).collect();
        let quick = Bootstrap {
            resamples: 2,
            seed: 1,
        };
        Evaluation {
            name: name.to_owned(),
            summary: Summary::new(&users, 1, &PopularityScale::new(&[1], 1), &quick),
            users,
        }
    }

    fn comparison(evaluations: Vec<Evaluation>) -> Comparison {
        Comparison {
            evaluations,
            models: 1,
        }
    }

    /// The luckiest of four baselines that are as good as the model is above it beyond doubt more
    /// often than one of them would be. The model should be called worse in 2.5 % of cases; an
    /// interval that ignores the choice would be wrong about four times as often.
    #[test]
    fn the_luckiest_of_equal_baselines_does_not_make_a_model_worse() {
        let (mut worse, mut worse_if_named) = (0, 0);
        for seed in 0..300 {
            let mut generator = Pcg64::seed_from_u64(seed);
            let names = ["model", "a", "b", "c", "d"];
            let chance = |name: &&str| {
                let values = (0..40).map(|_| generator.random_range(0.0..1.0));
                evaluation(name, values)
            };
            let comparison = comparison(names.iter().map(chance).collect());
            let metric = Metric::NdcgAt10;
            let to_best = comparison.to_best(metric, &FEW).unwrap().unwrap();
            let named = paired_bootstrap(to_best.model, to_best.other, metric, &FEW);
            worse += usize::from(to_best.interval.high < 0.0);
            worse_if_named += usize::from(named.unwrap().high < 0.0);
        }
        assert!(
            worse <= 15 && worse_if_named >= 20,
            "{worse}, {worse_if_named}"
        );
    }

    #[test]
    fn what_is_above_or_below_all_is_told() {
        let noise = |level: f64, n: u32| (0..30).map(move |user| level + f64::from(user * n % 7));
        let to_best = |model: f64, level: f64| {
            let comparison = comparison(vec![
                evaluation("model", noise(model, 3)),
                evaluation("a", noise(level, 5)),
                evaluation("b", noise(level - 0.5, 2)),
            ]);
            let to_best = comparison.to_best(Metric::Auc, &FEW).unwrap().unwrap();
            assert_eq!(to_best.other.name, "a");
            assert!((to_best.interval.mean - (model - level)).abs() < 0.4);
            to_best.interval
        };
        assert!(to_best(20.0, 10.0).low > 0.0);
        assert!(to_best(10.0, 20.0).high < 0.0);
        assert!(!to_best(10.0, 10.0).excludes_zero());
    }

    /// Where popularity ranks in place of both there is no difference.
    #[test]
    fn users_of_whom_nothing_is_known_do_not_count() {
        let mut evaluations: Vec<Evaluation> = ["model", "a", "b"]
            .iter()
            .map(|name| evaluation(name, (0..30).map(f64::from)))
            .collect();
        let mut served = |evaluation: usize, users: std::ops::Range<u32>| {
            for user in &mut evaluations[evaluation].users {
                user.served = users.contains(&user.user);
            }
        };
        served(0, 0..3);
        served(1, 2..5);
        served(2, 20..21);
        let comparison = comparison(evaluations);
        let to_best = comparison.to_best(Metric::Auc, &FEW).unwrap().unwrap();
        assert_eq!(to_best.users, 6);
    }

    #[test]
    fn without_a_model_or_a_baseline_there_is_nothing_to_tell() {
        let alone = |models| {
            let evaluations = vec![evaluation("a", (0..30).map(f64::from))];
            let comparison = Comparison {
                evaluations,
                models,
            };
            comparison.to_best(Metric::Auc, &FEW).unwrap().is_none()
        };
        assert!(alone(0) && alone(1));
    }

    /// Users ranked by popularity add no difference, and do not count as users.
    #[test]
    fn two_models_are_compared_user_by_user() {
        let better = |user: u32| f64::from(user % 5) + 0.1 * f64::from(user % 3);
        let mut evaluations = vec![
            evaluation("model 2", (0..30).map(better)),
            evaluation("model 1", (0..30).map(|user| f64::from(user % 5))),
            evaluation("a", (0..30).map(f64::from)),
        ];
        for user in &mut evaluations[0].users {
            user.served = user.user < 25;
        }
        for user in &mut evaluations[1].users {
            user.served = user.user < 24;
        }
        let mut comparison = comparison(evaluations);
        let between = comparison.between_models(Metric::Auc, &FEW).unwrap();
        assert!(between.is_none(), "there is one model alone");
        comparison.models = 2;
        let between = comparison.between_models(Metric::Auc, &FEW);
        let between = between.unwrap().unwrap();
        assert_eq!(
            (between.other.name.as_str(), between.users),
            ("model 1", 25)
        );
        assert!((between.interval.mean - 0.1).abs() < 1e-9);
        assert!(
            between.interval.low > 0.0,
            "though each of both varies by more"
        );
        let to_best = comparison.to_best(Metric::Auc, &FEW).unwrap().unwrap();
        assert_eq!(to_best.other.name, "a", "no model is a baseline");
    }
}
