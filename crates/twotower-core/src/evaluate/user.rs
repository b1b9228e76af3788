use super::EvaluationError;
use crate::metric;
use crate::recommend::{self, Recommender, Scored};
use crate::split::{HeldOut, HeldOutUser};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Length of the list that coverage, popularity and novelty are measured on.
pub const TOP: usize = 10;

/// Length of the longest list that a metric needs.
const LONGEST: usize = 50;

/// Metrics of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// [`metric::ndcg_at_k`], k = 10.
    #[serde(rename = "ndcg_at_10")]
    NdcgAt10,
    /// [`metric::ndcg_at_k`], k = 20.
    #[serde(rename = "ndcg_at_20")]
    NdcgAt20,
    /// [`metric::precision_at_k`], k = 10.
    #[serde(rename = "precision_at_10")]
    PrecisionAt10,
    /// [`metric::recall_at_k`], k = 10.
    #[serde(rename = "recall_at_10")]
    RecallAt10,
    /// [`metric::recall_at_k`], k = 20.
    #[serde(rename = "recall_at_20")]
    RecallAt20,
    /// [`metric::recall_at_k`], k = 50.
    #[serde(rename = "recall_at_50")]
    RecallAt50,
    /// [`metric::auc`]; ½ for a user without anything to compare targets with.
    Auc,
}

impl Metric {
    /// All metrics, in the order of tables.
    pub const ALL: [Self; 7] = [
        Self::NdcgAt10,
        Self::NdcgAt20,
        Self::PrecisionAt10,
        Self::RecallAt10,
        Self::RecallAt20,
        Self::RecallAt50,
        Self::Auc,
    ];

    /// Name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::NdcgAt10 => "ndcg_at_10",
            Self::NdcgAt20 => "ndcg_at_20",
            Self::PrecisionAt10 => "precision_at_10",
            Self::RecallAt10 => "recall_at_10",
            Self::RecallAt20 => "recall_at_20",
            Self::RecallAt50 => "recall_at_50",
            Self::Auc => "auc",
        }
    }

    /// Name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::NdcgAt10 => "NDCG@10",
            Self::NdcgAt20 => "NDCG@20",
            Self::PrecisionAt10 => "P@10",
            Self::RecallAt10 => "R@10",
            Self::RecallAt20 => "R@20",
            Self::RecallAt50 => "R@50",
            Self::Auc => "AUC",
        }
    }
}

/// Ranking of one held-out user.
#[derive(Debug, Clone, PartialEq)]
pub struct UserEvaluation {
    /// Number of the user within the snapshot.
    pub user: u32,
    /// Whether a like of theirs was seen.
    pub warm: bool,
    /// Whether the recommender ranked for them, and not popularity.
    pub served: bool,
    /// In the order of [`Metric::ALL`].
    pub metrics: [f64; Metric::ALL.len()],
    /// The first [`TOP`] videos of the list, best first.
    pub top: Vec<u32>,
}

impl UserEvaluation {
    /// One metric of this user.
    pub fn metric(&self, metric: Metric) -> f64 {
        self.metrics[metric as usize]
    }
}

/// Buffers for ranking one user after another: scores `[V]` and exclusions `[V]`.
pub(super) struct Ranking {
    scores: Vec<f32>,
    excluded: Vec<bool>,
}

impl Ranking {
    pub(super) fn new(videos: usize) -> Self {
        Self {
            scores: vec![0.0; videos],
            excluded: vec![false; videos],
        }
    }

    /// Scores the catalogue for `user` and excludes the likes that were seen.
    pub(super) fn rank(
        &mut self,
        recommender: &dyn Recommender,
        user: &HeldOutUser,
    ) -> Result<(), EvaluationError> {
        recommender.score(user.history(), &mut self.scores);
        if self.scores.iter().any(|score| !score.is_finite()) {
            return Err(EvaluationError::NotFinite {
                name: recommender.name().to_owned(),
            });
        }
        self.excluded.fill(false);
        for &item in &user.likes {
            self.excluded[item as usize] = true;
        }
        Ok(())
    }

    fn list(&self, k: usize) -> Vec<Scored> {
        recommend::top_k(&self.scores, &self.excluded, k)
    }

    /// Evaluates a user that the recommender itself ranked.
    pub(super) fn evaluate(&self, user: &HeldOutUser) -> UserEvaluation {
        let list = self.list(LONGEST);
        let hits = hits(&list, user);
        let targets = user.targets.len();
        let value = |metric| match metric {
            Metric::NdcgAt10 => metric::ndcg_at_k(&hits, targets, 10),
            Metric::NdcgAt20 => metric::ndcg_at_k(&hits, targets, 20),
            Metric::PrecisionAt10 => metric::precision_at_k(&hits, 10),
            Metric::RecallAt10 => metric::recall_at_k(&hits, targets, 10),
            Metric::RecallAt20 => metric::recall_at_k(&hits, targets, 20),
            Metric::RecallAt50 => metric::recall_at_k(&hits, targets, 50),
            Metric::Auc => metric::auc(&self.scores, &self.excluded, &user.targets).unwrap_or(0.5),
        };
        UserEvaluation {
            user: user.user,
            warm: !user.likes.is_empty(),
            served: true,
            metrics: Metric::ALL.map(value),
            top: list.iter().take(TOP).map(|scored| scored.item).collect(),
        }
    }
}

fn hits(list: &[Scored], user: &HeldOutUser) -> Vec<bool> {
    list.iter()
        .map(|scored| user.targets.contains(&scored.item))
        .collect()
}

/// Validation metrics of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QuickEvaluation {
    /// Number of warm users that were ranked.
    pub users: usize,
    /// Mean NDCG@10 over them.
    pub ndcg_at_10: f64,
    /// Mean Recall@20 over them.
    pub recall_at_20: f64,
}

/// Ranks at most `users_limit` warm users, evenly spread over `held_out` and the same each time,
/// without AUC and without resampling. Cold users are left out: of some only skips are known, and
/// popularity serves the others whatever the model.
///
/// # Errors
/// [`EvaluationError::NotFinite`] if a score is NaN or infinite.
pub fn quick_evaluate(
    recommender: &dyn Recommender,
    held_out: &HeldOut,
    users_limit: usize,
) -> Result<QuickEvaluation, EvaluationError> {
    let warm: Vec<&HeldOutUser> = held_out
        .users
        .iter()
        .filter(|user| !user.likes.is_empty())
        .collect();
    let users = warm.len().min(users_limit);
    let rows: Vec<(f64, f64)> = (0..users)
        .into_par_iter()
        .map_init(
            || Ranking::new(recommender.items()),
            |ranking, n| {
                let user = warm[n * warm.len() / users];
                ranking.rank(recommender, user)?;
                let hits = hits(&ranking.list(20), user);
                let targets = user.targets.len();
                Ok((
                    metric::ndcg_at_k(&hits, targets, 10),
                    metric::recall_at_k(&hits, targets, 20),
                ))
            },
        )
        .collect::<Result<_, _>>()?;
    let n = users.max(1) as f64;
    Ok(QuickEvaluation {
        users,
        ndcg_at_10: rows.iter().map(|row| row.0).sum::<f64>() / n,
        recall_at_20: rows.iter().map(|row| row.1).sum::<f64>() / n,
    })
}
