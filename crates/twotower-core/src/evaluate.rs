//! Evaluation: every held-out user ranked against the whole catalogue, one protocol for every
//! recommender.
//!
//! Candidates of a user are the catalogue without the likes seen of them; skipped and cold videos
//! are candidates. A user is ranked by the recommender, or by popularity if the history contains
//! nothing that the recommender uses ([`Recommender::serves`]): baselines use likes only, the
//! towers likes or skips, as when they serve. *Warm* users have at least one seen like, *cold* ones
//! none. Means over users are unweighted and over all users. Users ranked by popularity say nothing
//! about the recommender; [`UserEvaluation::served`] tells them apart.

mod summary;

mod user;

mod compare;

pub use compare::{BaselineOptions, Comparison, Distance, FEWEST_USERS, compare, compare_models};
pub use summary::{CohortSummary, Summary};
pub use user::{Metric, QuickEvaluation, TOP, UserEvaluation, quick_evaluate};

use crate::baseline::Popularity;
use crate::metric::{Bootstrap, Interval, PopularityScale};
use crate::recommend::Recommender;
use crate::split::HeldOut;
use rayon::prelude::*;
use thiserror::Error;
use user::Ranking;

/// One recommender on one set of held-out users.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Name of the recommender.
    pub name: String,
    /// One row per held-out user, in the order of [`HeldOut::users`].
    pub users: Vec<UserEvaluation>,
    /// Means over cohorts.
    pub summary: Summary,
}

/// Why something cannot be evaluated or compared.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EvaluationError {
    /// A score is NaN or infinite: it cannot be ranked by.
    #[error("`{name}` gives scores that are not finite")]
    NotFinite {
        /// Name of the recommender.
        name: String,
    },
    /// The evaluations are not of the same users in the same order.
    #[error(
        "`{a}` and `{b}` were not evaluated on the same users: a paired difference has no meaning"
    )]
    Users {
        /// One recommender.
        a: String,
        /// The other one.
        b: String,
    },
}

/// Ranks every user of `held_out` and averages. The recommender scores once per user. Users run in
/// parallel; the result does not depend on the number of threads.
///
/// `popularity`, fitted on the same seen likes, serves the users that the recommender does not, and
/// is the scale of popularity bias and novelty.
///
/// # Errors
/// [`EvaluationError::NotFinite`] if a score is NaN or infinite, as those of a diverged model.
///
/// # Panics
/// If the recommender and `popularity` rank catalogues of different sizes.
pub fn evaluate(
    recommender: &dyn Recommender,
    popularity: &Popularity,
    held_out: &HeldOut,
    bootstrap: &Bootstrap,
) -> Result<Evaluation, EvaluationError> {
    let videos = recommender.items();
    assert_eq!(
        videos,
        popularity.items(),
        "recommender and fallback rank the same catalogue"
    );
    let users: Vec<UserEvaluation> = held_out
        .users
        .par_iter()
        .map_init(
            || Ranking::new(videos),
            |ranking, user| {
                let served = recommender.serves(user.history());
                ranking.rank(if served { recommender } else { popularity }, user)?;
                Ok(UserEvaluation {
                    served,
                    ..ranking.evaluate(user)
                })
            },
        )
        .collect::<Result<_, _>>()?;
    let scale = PopularityScale::new(popularity.like_counts(), popularity.users());
    Ok(Evaluation {
        name: recommender.name().to_owned(),
        summary: Summary::new(&users, videos, &scale, bootstrap),
        users,
    })
}

/// The mean difference a − b of `metric` over the same users, with its 95 % bootstrap interval.
///
/// # Errors
/// [`EvaluationError::Users`] if the two were evaluated on different users.
pub fn paired_bootstrap(
    a: &Evaluation,
    b: &Evaluation,
    metric: Metric,
    bootstrap: &Bootstrap,
) -> Result<Interval, EvaluationError> {
    Ok(bootstrap.interval(&differences(a, b, metric)?))
}

/// a − b of `metric`, user by user.
fn differences(
    a: &Evaluation,
    b: &Evaluation,
    metric: Metric,
) -> Result<Vec<f64>, EvaluationError> {
    let number = |user: &UserEvaluation| user.user;
    if !a.users.iter().map(number).eq(b.users.iter().map(number)) {
        return Err(EvaluationError::Users {
            a: a.name.clone(),
            b: b.name.clone(),
        });
    }
    let pairs = a.users.iter().zip(&b.users);
    let difference =
        |(a, b): (&UserEvaluation, &UserEvaluation)| a.metric(metric) - b.metric(metric);
    Ok(pairs.map(difference).collect())
}
