//! Training: both towers from likes and skips, epoch by epoch, the best epoch kept.

mod checkpoint;

mod fine_tune;

mod head;

mod history;

mod initialise;

mod marks;

mod memory;

mod plan;

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
use std::ops::ControlFlow;
use std::sync::Arc;
use thiserror::Error;

pub use checkpoint::{ResumeError, Training};
pub use fine_tune::{Base, FineTuneError};
pub use memory::Memory;
pub use prepared::Prepared;
pub use run::{Goal, Run, VALIDATION_USERS};

/// What is learned from.
#[derive(Debug, Clone)]
pub struct TrainingData<'a> {
    /// All videos; vocabularies and statistics are taken from those liked or skipped in training alone.
    pub catalogue: &'a Catalogue,
    /// Training likes and skips, user by user.
    pub timelines: Arc<dyn Timelines>,
    /// Time of the latest of these likes, seconds since 1970. A video that was published later, and that nobody has liked or
    /// skipped, is no negative; where no time is given, every video may be one.
    pub until: Option<u32>,
}

impl<'a> TrainingData<'a> {
    /// From likes and skips in memory, in the order of a [`crate::interaction::Dataset`].
    ///
    /// # Panics
    /// If an interaction names a user outside `0..users`, or if there are skips and likes are not in the order of time.
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

/// Where training stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A step is done.
    Step {
        /// From 1.
        epoch: usize,
        /// Examples of this epoch so far.
        examples: usize,
        /// Examples of an epoch.
        of: usize,
        /// Mean loss of this epoch so far, nats.
        loss: f32,
    },
    /// An epoch is done.
    Epoch(EpochRecord),
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean loss over its examples, nats.
    pub loss: f32,
    /// Number of examples.
    pub examples: usize,
    /// Over warm users, if there is a validation part.
    pub validation: Option<QuickEvaluation>,
}

/// Outcome of training.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model of the best epoch (of the last one without validation).
    pub model: Model,
    /// That epoch, from 1.
    pub best_epoch: usize,
    /// All epochs.
    pub epochs: Vec<EpochRecord>,
}

/// Why there is no model.
#[derive(Debug, Error)]
pub enum TrainError {
    /// No like has anything before it.
    #[error(
        "no user has two likes, or a skip before a like: there is nothing to learn a next like from"
    )]
    NoExamples,
    /// The loss is not finite.
    #[error(
        "the loss became {loss} in epoch {epoch}: the learning rate is too high, or the temperature too low"
    )]
    Diverged {
        /// From 1.
        epoch: usize,
        /// What it became.
        loss: f32,
    },
    /// The towers give vectors that are none.
    #[error("the towers gave a vector that is not usable: {0}")]
    Embedding(EmbeddingError),
    /// The towers give scores that nothing can be ranked by.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Likes and skips that are kept elsewhere cannot be read.
    #[error("read the likes and skips of a user: {0}")]
    Read(io::Error),
    /// The observer asked to stop.
    #[error("training was interrupted")]
    Interrupted,
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

/// What the timelines say of each video, `[V]`.
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

    /// The videos that may be negatives, ascending, unless all may: those liked or skipped, and those that were there, or may have
    /// been, by the time of the latest like. One that came later nobody could like, and drawn in every step it would teach that
    /// what is late is never liked, and so hold down the newest uploads of all.
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

/// Rows of both tables, of ids and of terms, that a model will have which learns `data`, from first weights or going on from `base`.
/// Takes no more memory than vocabularies do.
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

/// Trains until `goal` is reached. `observer` sees every step and may stop it.
///
/// Runs on the current rayon pool; the result does not depend on its number of threads.
///
/// # Errors
/// [`TrainError`]
pub fn train(
    data: TrainingData<'_>,
    hyperparameters: &Hyperparameters,
    goal: Goal<'_>,
    observer: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let mut run = Run::new(data, hyperparameters, goal)?;
    while let Some(progress) = run.advance()? {
        if observer(&progress).is_break() {
            return Err(TrainError::Interrupted);
        }
    }
    Ok(run.finish())
}
