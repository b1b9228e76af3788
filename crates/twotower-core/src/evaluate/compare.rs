use super::{Evaluation, EvaluationError, Metric, evaluate, paired_bootstrap};
use crate::baseline::{Ease, EaseOptions, Ials, IalsOptions, ItemKnn, ItemKnnOptions, Popularity};
use crate::metric::{Bootstrap, Interval};
use crate::recommend::Recommender;
use crate::split::{Phase, Split};

/// How the baselines are fitted and the means resampled.
#[derive(Debug, Clone, Copy, Default)]
pub struct BaselineOptions {
    /// Nearest neighbours.
    pub item_knn: ItemKnnOptions,
    /// Matrix factorisation.
    pub ials: IalsOptions,
    /// Full item-item matrix; left out where the catalogue is above its limit.
    pub ease: EaseOptions,
    /// Resampling of users.
    pub bootstrap: Bootstrap,
}

/// Evaluations of the same users in the same run.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The model first, if there is one, then the baselines.
    pub evaluations: Vec<Evaluation>,
    /// How many of `evaluations` are models; the rest are baselines.
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

    /// The paired difference model − `baseline` of `metric`; `None` without a model.
    ///
    /// # Errors
    /// [`EvaluationError`] if `baseline` is not of this comparison.
    pub fn difference(
        &self,
        baseline: &Evaluation,
        metric: Metric,
        bootstrap: &Bootstrap,
    ) -> Result<Option<Interval>, EvaluationError> {
        self.evaluations[..self.models]
            .first()
            .map(|model| paired_bootstrap(model, baseline, metric, bootstrap))
            .transpose()
    }
}

/// Fits every baseline on what `split` has seen in `phase` and evaluates `model` and them on its held-out users.
///
/// `items`: videos of the catalogue.
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
    let held_out = split.held_out_users(phase);
    let seen = split.seen(phase);
    let popularity = Popularity::fit(items, &seen);
    let item_knn = ItemKnn::fit(items, &seen, &options.item_knn);
    let ials = Ials::fit(items, &seen, &options.ials);
    let ease = Ease::fit(items, &seen, &options.ease).ok();
    let evaluations = model
        .into_iter()
        .chain([&popularity as &dyn Recommender, &item_knn, &ials])
        .chain(ease.iter().map(|ease| ease as &dyn Recommender))
        .map(|recommender| evaluate(recommender, &popularity, &held_out, &options.bootstrap))
        .collect::<Result<_, _>>()?;
    Ok(Comparison {
        evaluations,
        models: usize::from(model.is_some()),
    })
}
