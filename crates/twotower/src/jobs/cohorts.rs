//! Quality of a model for groups of users: test users, which nothing was chosen by, grouped by the
//! number of their known likes.

use super::training_set::TrainingSet;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use twotower_core::evaluate::{Evaluation, EvaluationError, Metric, evaluate};
use twotower_core::metric::Bootstrap;
use twotower_core::model::{Model, TwoTower};
use twotower_core::split::HeldOut;

/// At most this many users are ranked.
const MAX_USERS: usize = 5_000;

/// Name of the cohort of all users.
pub(super) const ALL_USERS: &str = "all";

/// Minimum number of known likes of the users of each cohort, and its name.
const COHORTS: [(usize, &str); 4] = [
    (0, "no like yet (by their skips, or popular videos)"),
    (1, "1 to 4 likes"),
    (5, "5 to 19 likes"),
    (20, "20 likes and more"),
];

/// Means over the users of a cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Cohort {
    /// Name of the cohort.
    pub(super) name: String,
    /// Number of users ranked.
    pub(super) users: usize,
    /// NDCG@10
    pub(super) ndcg_at_10: f64,
    /// Recall@10
    pub(super) recall_at_10: f64,
    /// AUC
    pub(super) auc: f64,
}

/// All users first, then each cohort with at least one user. Empty if the split holds nothing out.
pub(super) fn cohorts(model: &Model, data: &TrainingSet) -> anyhow::Result<Vec<Cohort>> {
    let held_out = data.test_users(MAX_USERS)?;
    if held_out.users.is_empty() {
        return Ok(Vec::new());
    }
    let videos = model.embed_videos(data.catalogue.videos());
    let videos = videos.context("embed the videos")?;
    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: &videos,
    };
    let popularity = data.popularity()?;
    let evaluation = evaluate(&towers, &popularity, &held_out, &Bootstrap::default());
    // The gate, not training, refuses a model without usable scores.
    match evaluation {
        Ok(evaluation) => Ok(by_history(&evaluation, &held_out)),
        Err(EvaluationError::NotFinite { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn by_history(evaluation: &Evaluation, held_out: &HeldOut) -> Vec<Cohort> {
    let cohort_of = |likes: usize| COHORTS.iter().rposition(|&(least, _)| likes >= least);
    let known: Vec<_> = held_out
        .users
        .iter()
        .map(|user| cohort_of(user.likes.len()))
        .collect();
    let mean_of = |name: &str, cohort: Option<usize>| {
        let rows = evaluation.users.iter().zip(&known);
        let rows: Vec<_> = rows
            .filter(|&(_, of)| cohort.is_none() || cohort == *of)
            .map(|(row, _)| row)
            .collect();
        let mean =
            |metric| rows.iter().map(|row| row.metric(metric)).sum::<f64>() / rows.len() as f64;
        (!rows.is_empty()).then(|| Cohort {
            name: name.to_owned(),
            users: rows.len(),
            ndcg_at_10: mean(Metric::NdcgAt10),
            recall_at_10: mean(Metric::RecallAt10),
            auc: mean(Metric::Auc),
        })
    };
    let each = COHORTS.iter().enumerate();
    std::iter::once(mean_of(ALL_USERS, None))
        .chain(each.map(|(cohort, (_, name))| mean_of(name, Some(cohort))))
        .flatten()
        .collect()
}

/// Keeps at most `most` rows, evenly spaced.
pub(super) fn spread<T>(rows: &mut Vec<T>, most: usize) {
    let n = rows.len();
    if n > most {
        let mut row = 0;
        rows.retain(|_| {
            row += 1;
            row * most / n > (row - 1) * most / n
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_drawn_evenly() {
        let drawn = |most| {
            let mut rows: Vec<usize> = (0..10).collect();
            spread(&mut rows, most);
            rows
        };
        assert_eq!(drawn(10), (0..10).collect::<Vec<_>>());
        assert_eq!(drawn(5), [1, 3, 5, 7, 9]);
        assert_eq!(drawn(3), [3, 6, 9]);
        assert_eq!(drawn(0), Vec::<usize>::new());
    }
}
