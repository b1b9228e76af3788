//! Training: both towers from likes and skips, epoch by epoch, the best epoch kept.

mod checkpoint;

mod fine_tune;

mod head;

mod history;

mod initialise;

mod memory;

mod run;

mod step;

mod table;

mod window;

use crate::embedding::EmbeddingError;
use crate::evaluate::{EvaluationError, QuickEvaluation};
use crate::feature::{Audience, Catalogue, Preprocessing, PreprocessingOptions};
use crate::hyperparameters::Hyperparameters;
use crate::interaction::{Interaction, Sequences};
use crate::model::Model;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use thiserror::Error;

pub use checkpoint::ResumeError;
pub use fine_tune::{Base, FineTuneError};
pub use memory::Memory;
pub use run::{Goal, Run};

/// What is learned from. Likes and skips in the order of a [`crate::interaction::Dataset`].
#[derive(Debug, Clone, Copy)]
pub struct TrainingData<'a> {
    /// All videos; vocabularies and statistics are taken from those liked or skipped in training alone.
    pub catalogue: &'a Catalogue,
    /// Number of users.
    pub users: usize,
    /// Training likes.
    pub likes: &'a [Interaction],
    /// Training skips.
    pub skips: &'a [Interaction],
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
        "the loss became {loss} in epoch {epoch}: lower --learning-rate or raise --temperature"
    )]
    Diverged {
        /// From 1.
        epoch: usize,
        /// What it became.
        loss: f32,
    },
    /// The towers give vectors that are none.
    #[error("the towers gave a vector that is not usable: {0}")]
    Embedding(#[from] EmbeddingError),
    /// The towers give scores that nothing can be ranked by.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The observer asked to stop.
    #[error("training was interrupted")]
    Interrupted,
}

/// Vocabularies and statistics of the videos that are liked or skipped in `data`.
fn vocabularies(data: TrainingData<'_>, hyperparameters: &Hyperparameters) -> Preprocessing {
    let mut seen = vec![false; data.catalogue.len()];
    for interaction in data.likes.iter().chain(data.skips) {
        seen[interaction.item as usize] = true;
    }
    let options = PreprocessingOptions {
        min_term_videos: hyperparameters.min_term_videos,
        ngram_buckets: hyperparameters.ngram_buckets,
    };
    let fitted = Preprocessing::fit(data.catalogue, |item| seen[item], options);
    if hyperparameters.min_users <= 1 {
        return fitted;
    }
    let of_users = |interactions| Sequences::new(data.users, interactions);
    let audience = Audience::count(
        &fitted,
        data.catalogue,
        &[of_users(data.likes), of_users(data.skips)],
    );
    fitted.known_to(&audience, hyperparameters.min_users)
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
