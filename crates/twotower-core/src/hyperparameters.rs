//! Hyperparameters: one struct, checked once, saved inside the model.

use crate::evaluate::QuickEvaluation;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use thiserror::Error;

/// pgvector builds no index over vectors of more dimensions.
pub(crate) const MAX_DIM: usize = 2000;

/// At most this many scales of recency.
pub(crate) const MAX_DECAYS: usize = 16;

/// At most this many rows for n-grams. With more, the tables alone would fill a large machine, and
/// hardly any n-grams share a row.
const MAX_NGRAM_BUCKETS: usize = 1 << 24;

/// Default of `min_users`. It may be lowered only for data that are declared not secret: a row
/// learned from fewer users could reveal what they did.
pub const LEAST_USERS: usize = 10;

/// Everything that shapes a model besides the data; saved inside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hyperparameters {
    /// Dimension d of the common space.
    pub embedding_dim: usize,
    /// Hidden units of the user tower.
    pub user_hidden: usize,
    /// Hidden units of the item tower.
    pub item_hidden: usize,
    /// Decays per like of the user tower's averages; 0 is the last like alone, 1 the plain mean.
    pub decays: Vec<f32>,
    /// Whether the order of a user's likes is known. If not, each like is predicted from all the
    /// others, and the only decay is 1.
    pub ordered: bool,
    /// Number of next likes from which the one to predict is drawn; 1 is the next like.
    pub lookahead: usize,
    /// Decay per skip of the average of skips.
    pub skip_decay: f32,
    /// Examples (likes to predict) per step.
    pub batch_size: usize,
    /// At most this many passes over the training likes.
    pub epochs: usize,
    /// Validation metric by which the best epoch is chosen.
    pub selection: Selection,
    /// Training stops after this many epochs without a better one.
    pub patience: usize,
    /// Softmax temperature τ.
    pub temperature: f32,
    /// Videos drawn uniformly per step as negatives, besides the batch's own.
    pub negatives: usize,
    /// A skipped video counts as this many more videos among the negatives of the user who skipped
    /// it, in addition to itself.
    pub skip_weight: f32,
    /// Whether logits are corrected by the log of a candidate's expected count (logQ).
    pub log_q: bool,
    /// Weight β of popularity beyond that in the likes: towers learn ln p(video | user) + β ln
    /// p(video). Below 0 rare videos rank higher.
    pub popularity: f32,
    /// Learning rate of Adam for dense layers.
    pub learning_rate: f32,
    /// Learning rate of row-wise Adagrad for tables.
    pub table_learning_rate: f32,
    /// Share of both learning rates that is left at the end of the last epoch; they decrease
    /// linearly.
    pub final_rate: f32,
    /// Decoupled weight decay of dense layers.
    pub weight_decay: f32,
    /// Share of videos whose id is hidden in a step, so that the features must suffice.
    pub id_dropout: f32,
    /// Dropout on the user tower's input.
    pub input_dropout: f32,
    /// Dropout on the user tower's hidden layer.
    pub hidden_dropout: f32,
    /// Likes of one user per window. Earlier likes enter through running sums.
    pub window: usize,
    /// Terms (tags, performers, …) of fewer videos are left out.
    pub min_term_videos: usize,
    /// Videos and terms that fewer users have liked or skipped get no row of their own, so that no
    /// row reveals what few people did.
    pub min_users: usize,
    /// Number of rows for hashed character n-grams.
    pub ngram_buckets: u32,
    /// Seed of all random numbers.
    pub seed: u64,
}

/// Validation metric that chooses the best epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// NDCG@10
    #[serde(rename = "ndcg_at_10")]
    NdcgAt10,
    /// Recall@20
    #[serde(rename = "recall_at_20")]
    RecallAt20,
}

impl Selection {
    /// The value of the metric.
    pub fn of(self, validation: &QuickEvaluation) -> f64 {
        match self {
            Self::NdcgAt10 => validation.ndcg_at_10,
            Self::RecallAt20 => validation.recall_at_20,
        }
    }
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self {
            embedding_dim: 64,
            user_hidden: 128,
            item_hidden: 128,
            decays: vec![0.0, 0.5, 0.8, 0.95, 1.0],
            ordered: true,
            lookahead: 1,
            skip_decay: 0.9,
            selection: Selection::NdcgAt10,
            batch_size: 512,
            epochs: 20,
            patience: 8,
            temperature: 0.1,
            negatives: 512,
            skip_weight: 0.0,
            log_q: true,
            popularity: 0.0,
            learning_rate: 2e-3,
            table_learning_rate: 0.05,
            final_rate: 0.0,
            weight_decay: 1e-2,
            id_dropout: 0.1,
            input_dropout: 0.3,
            hidden_dropout: 0.3,
            window: 64,
            min_term_videos: 2,
            min_users: LEAST_USERS,
            ngram_buckets: 1 << 15,
            seed: 42,
        }
    }
}

/// A hyperparameter outside its range.
#[derive(Debug, Error, PartialEq)]
#[error("{name} is {value}, expected {expected}")]
pub struct HyperparameterError {
    /// Name of the field.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The accepted values.
    pub expected: &'static str,
}

impl Hyperparameters {
    /// Checks every range.
    ///
    /// # Errors
    /// [`HyperparameterError`] of the first field outside its range.
    pub fn validate(&self) -> Result<(), HyperparameterError> {
        let count = |name: &'static str, n: usize, range: RangeInclusive<usize>, expected| {
            (name, n.to_string(), expected, range.contains(&n))
        };
        let number = |name: &'static str, x: f32, range: RangeInclusive<f32>, expected| {
            (name, x.to_string(), expected, range.contains(&x))
        };
        let step = |name: &'static str, x: f32| {
            let holds = x.is_finite() && x > 0.0;
            (name, x.to_string(), "above 0", holds)
        };
        let decays = (
            "decays",
            format!("{:?}", self.decays),
            "1 to 16 numbers between 0 and 1",
            (1..=MAX_DECAYS).contains(&self.decays.len())
                && self.decays.iter().all(|x| (0.0..=1.0).contains(x)),
        );
        let (most, no_end) = (1_000_000, usize::MAX);
        let checks: [(&'static str, String, &'static str, bool); 24] = [
            count(
                "embedding_dim",
                self.embedding_dim,
                1..=MAX_DIM,
                "1 to 2000",
            ),
            count("user_hidden", self.user_hidden, 1..=8192, "1 to 8192"),
            count("item_hidden", self.item_hidden, 1..=8192, "1 to 8192"),
            decays,
            (
                "decays",
                format!("{:?}", self.decays),
                "[1.0] where ordered is false",
                self.ordered || self.decays == [1.0],
            ),
            count("lookahead", self.lookahead, 1..=most, "1 to 1000000"),
            (
                "lookahead",
                self.lookahead.to_string(),
                "1 where ordered is false",
                self.ordered || self.lookahead == 1,
            ),
            number("skip_decay", self.skip_decay, 0.0..=1.0, "0 to 1"),
            count("batch_size", self.batch_size, 2..=most, "2 to 1000000"),
            count("epochs", self.epochs, 1..=10_000, "1 to 10000"),
            count("patience", self.patience, 1..=no_end, "at least 1"),
            // The softmax is computed without a pass that finds the maximum, which float32 allows
            // down to this value.
            number("temperature", self.temperature, 0.03..=10.0, "0.03 to 10"),
            count("negatives", self.negatives, 0..=most, "0 to 1000000"),
            number("skip_weight", self.skip_weight, 0.0..=1e6, "0 to 1000000"),
            number("popularity", self.popularity, -1.0..=1.0, "-1 to 1"),
            step("learning_rate", self.learning_rate),
            step("table_learning_rate", self.table_learning_rate),
            number("final_rate", self.final_rate, 0.0..=1.0, "0 to 1"),
            number("weight_decay", self.weight_decay, 0.0..=1.0, "0 to 1"),
            number("id_dropout", self.id_dropout, 0.0..=1.0, "0 to 1"),
            number("input_dropout", self.input_dropout, 0.0..=0.9, "0 to 0.9"),
            number("hidden_dropout", self.hidden_dropout, 0.0..=0.9, "0 to 0.9"),
            // A window is in memory as a whole, like a batch.
            count("window", self.window, 2..=most, "2 to 1000000"),
            count(
                "ngram_buckets",
                self.ngram_buckets as usize,
                0..=MAX_NGRAM_BUCKETS,
                "0 to 16777216",
            ),
        ];
        match checks.into_iter().find(|check| !check.3) {
            Some((name, value, expected, _)) => Err(HyperparameterError {
                name,
                value,
                expected,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_nan_is_not() {
        assert_eq!(Hyperparameters::default().validate(), Ok(()));
        for broken in [
            Hyperparameters {
                temperature: f32::NAN,
                ..Hyperparameters::default()
            },
            Hyperparameters {
                decays: vec![1.5],
                ..Hyperparameters::default()
            },
            Hyperparameters {
                batch_size: 1,
                ..Hyperparameters::default()
            },
            Hyperparameters {
                lookahead: usize::MAX,
                ..Hyperparameters::default()
            },
            Hyperparameters {
                ngram_buckets: u32::MAX,
                ..Hyperparameters::default()
            },
            Hyperparameters {
                window: 1_000_001,
                ..Hyperparameters::default()
            },
        ] {
            assert!(broken.validate().is_err());
        }
    }
}
