//! Training: both towers learn from likes and skips, epoch by epoch, and the best epoch is kept.

mod checkpoint;

mod fine_tune;

mod head;

mod history;

mod initialise;

mod memory;

mod plan;

mod prefix_states;

mod prepared;

mod read_ahead;

mod run;

mod step;

mod table;

mod target;

mod window;

use crate::embedding::EmbeddingError;
use crate::evaluate::{EvaluationError, QuickEvaluation};
use crate::feature::{Audience, Catalogue, Preprocessing, PreprocessingOptions};
use crate::hyperparameters::Hyperparameters;
use crate::interaction::Interaction;
use crate::model::Model;
use crate::time::SECOND_US;
use crate::timeline::{self, HeldTimelines, Timelines};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use thiserror::Error;

pub use checkpoint::{ResumeError, Training};
pub use fine_tune::{Base, FineTuneError};
pub use memory::Memory;
pub use prepared::Prepared;
pub use run::{Goal, Run, VALIDATION_USERS};

/// Data to learn from.
#[derive(Debug, Clone)]
pub struct TrainingData<'a> {
    /// All videos. Vocabularies and statistics are taken only from those that are liked or skipped
    /// in training.
    pub catalogue: &'a Catalogue,
    /// Training likes and skips, user by user.
    pub timelines: Arc<dyn Timelines>,
    /// Time of the latest of these likes, seconds since 1970. Videos that were published later, and
    /// that nobody has liked or skipped, are no negatives. Without a time, every video may be a
    /// negative.
    pub until: Option<u32>,
}

impl<'a> TrainingData<'a> {
    /// From likes and skips in memory, in the order of a [`crate::interaction::Dataset`].
    ///
    /// # Panics
    /// If an interaction names a user outside `0..users`, or if there are skips and likes are not
    /// in the order of time.
    pub fn held(
        catalogue: &'a Catalogue,
        users: usize,
        likes: impl Into<Vec<Interaction>>,
        skips: impl Into<Vec<Interaction>>,
    ) -> Self {
        let likes = likes.into();
        Self {
            catalogue,
            until: likes.iter().map(|like| like.at).max(),
            timelines: Arc::new(HeldTimelines::new(users, likes, skips)),
        }
    }
}

/// Progress of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A step is done.
    Step {
        /// Number of the epoch, from 1.
        epoch: usize,
        /// Examples of this epoch so far.
        examples: usize,
        /// Examples of the whole epoch.
        of: usize,
        /// Mean loss of this epoch so far, nats.
        loss: f32,
    },
    /// An epoch is done.
    Epoch(EpochRecord),
}

/// Record of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the epoch's examples, nats.
    pub loss: f32,
    /// Number of examples.
    pub examples: usize,
    /// Validation metrics over warm users, if there is a validation part.
    pub validation: Option<QuickEvaluation>,
}

/// Outcome of training.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model of the best epoch, of the last one if no epoch scored above 0 on validation, or
    /// without a validation part.
    pub model: Model,
    /// That epoch, from 1.
    pub best_epoch: usize,
    /// All epochs.
    pub epochs: Vec<EpochRecord>,
}

/// Why training failed.
#[derive(Debug, Error)]
pub enum TrainError {
    /// No like has a like or skip before it.
    #[error(
        "no user has two likes, or a skip before a like: there is nothing to learn a next like from"
    )]
    NoExamples,
    /// The loss is not finite.
    #[error(
        "the loss became {loss} in epoch {epoch}: the learning rate is too high, or the temperature too low"
    )]
    Diverged {
        /// Number of the epoch, from 1.
        epoch: usize,
        /// The loss.
        loss: f32,
    },
    /// The towers gave a vector that is no embedding.
    #[error("the towers gave a vector that is not usable: {0}")]
    Embedding(EmbeddingError),
    /// The towers gave scores that nothing can be ranked by.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Timelines that are not in memory cannot be read.
    #[error("read the likes and skips of a user: {0}")]
    Read(io::Error),
}

impl From<EmbeddingError> for TrainError {
    fn from(cause: EmbeddingError) -> Self {
        Self::Embedding(cause)
    }
}

impl From<io::Error> for TrainError {
    fn from(cause: io::Error) -> Self {
        Self::Read(cause)
    }
}

/// Which videos the timelines contain, `[V]` each.
struct Tally {
    likes: Vec<u32>,
    seen: Vec<bool>,
}

impl Tally {
    fn of(data: &TrainingData<'_>) -> io::Result<Self> {
        let mut tally = Self {
            likes: vec![0; data.catalogue.len()],
            seen: vec![false; data.catalogue.len()],
        };
        timeline::for_each(&*data.timelines, |_, timeline| {
            for &like in timeline.likes {
                tally.likes[like as usize] += 1;
            }
            for item in timeline.items() {
                tally.seen[item as usize] = true;
            }
        })?;
        Ok(tally)
    }

    /// The videos that may be negatives, ascending; `None` if all may. These are the videos that
    /// are liked or skipped, and those that were, or may have been, published by the time of the
    /// latest like. A later video could not be liked; as a negative in every step, it would teach
    /// that late videos are never liked and push down the newest uploads.
    fn eligible(&self, data: &TrainingData<'_>) -> Option<Arc<[u32]>> {
        let until = i64::from(data.until?);
        let may = |&item: &u32| {
            let item = item as usize;
            let published = data.catalogue.video(item).published_at_us;
            self.seen[item] || published.is_none_or(|at| at.div_euclid(SECOND_US) <= until)
        };
        let videos = 0..data.catalogue.len() as u32;
        if videos.clone().all(|item| may(&item)) {
            return None;
        }
        Some(videos.filter(may).collect())
    }
}

/// Vocabularies and statistics of the videos that are liked or skipped in `data`.
fn vocabularies(
    data: &TrainingData<'_>,
    tally: &Tally,
    hyperparameters: &Hyperparameters,
) -> io::Result<Preprocessing> {
    let options = PreprocessingOptions {
        min_term_videos: hyperparameters.min_term_videos,
        ngram_buckets: hyperparameters.ngram_buckets,
    };
    let fitted = Preprocessing::fit(data.catalogue, |item| tally.seen[item], options);
    if hyperparameters.min_users <= 1 {
        return Ok(fitted);
    }
    let audience = Audience::count(&fitted, data.catalogue, &*data.timelines)?;
    Ok(fitted.known_to(&audience, hyperparameters.min_users))
}

/// Number of rows of both tables, of ids and of terms, that a model will have after learning
/// `data`, from first weights or from `base`. Takes no more memory than the vocabularies.
///
/// # Errors
/// [`TrainError::Read`]
pub fn table_rows(
    data: &TrainingData<'_>,
    hyperparameters: &Hyperparameters,
    base: Option<&Model>,
) -> Result<usize, TrainError> {
    let mut preprocessing = vocabularies(data, &Tally::of(data)?, hyperparameters)?;
    if let Some(base) = base {
        preprocessing = base.preprocessing.extended(&preprocessing);
    }
    Ok(preprocessing.table_rows())
}
