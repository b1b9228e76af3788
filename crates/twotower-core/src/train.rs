//! Training: both towers from likes and skips, epoch by epoch, the best epoch kept.

mod head;

mod history;

mod initialise;

mod step;

mod table;

mod window;

use crate::embedding::{EmbeddingError, Embeddings};
use crate::evaluate::{EvaluationError, quick_evaluate};
use crate::feature::{Catalogue, Preprocessing, PreprocessingOptions};
use crate::hyperparameters::Hyperparameters;
use crate::interaction::{Interaction, Sequences};
use crate::model::{Model, TwoTower};
use crate::split::HeldOut;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use step::{StepData, Stepper};
use thiserror::Error;
use window::Timelines;

/// At most so many users are ranked after each epoch, the same ones each time.
const VALIDATION_USERS: usize = 5_000;

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
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
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
    Epoch(&'a EpochRecord),
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
    /// Validation NDCG@10 over warm users, if there is a validation part.
    pub validation_ndcg_at_10: Option<f64>,
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

/// Trains with `hyperparameters`. With `validation` the epoch with the best NDCG@10 is kept and training stops after
/// `patience` epochs without a better one; without it all epochs are run. `observer` sees every step and may stop it.
///
/// Runs on the current rayon pool; the result does not depend on its number of threads.
///
/// # Errors
/// [`TrainError`]
pub fn train(
    data: TrainingData<'_>,
    hyperparameters: &Hyperparameters,
    validation: Option<&HeldOut>,
    observer: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let mut like_counts = vec![0u32; data.catalogue.len()];
    let mut seen = vec![false; data.catalogue.len()];
    for like in data.likes {
        like_counts[like.item as usize] += 1;
    }
    for interaction in data.likes.iter().chain(data.skips) {
        seen[interaction.item as usize] = true;
    }
    let options = PreprocessingOptions {
        min_term_videos: hyperparameters.min_term_videos,
        ngram_buckets: hyperparameters.ngram_buckets,
    };
    let preprocessing = Preprocessing::fit(data.catalogue, |item| seen[item], options);
    let features = preprocessing.features(data.catalogue.videos());
    let mut random = Pcg64Mcg::seed_from_u64(hyperparameters.seed);
    let mut model = Model::zeros(hyperparameters.clone(), preprocessing);
    initialise::initialise(&mut model, &mut random);

    let timelines = Timelines {
        likes: Sequences::new(data.users, data.likes),
        skips: Sequences::new(data.users, data.skips),
    };
    let mut windows = window::windows(&timelines, hyperparameters.window);
    let of = windows.iter().map(|window| window.examples()).sum();
    if of == 0 {
        return Err(TrainError::NoExamples);
    }
    let mut stepper = Stepper::new(&mut model, &like_counts);
    let mut epochs: Vec<EpochRecord> = Vec::new();
    let mut best: Option<(f64, usize, Model)> = None;
    for epoch in 1..=hyperparameters.epochs {
        let vectors = model.item_tower.embed_all(&features);
        let step_data = StepData {
            features: &features,
            timelines: &timelines,
            vectors: &vectors,
        };
        let (mut total, mut examples) = (0.0_f64, 0);
        for batch in window::batches(&mut windows, hyperparameters.batch_size, &mut random) {
            let (loss, n) = stepper.step(&mut model, step_data, batch, &mut random);
            if !loss.is_finite() {
                return Err(TrainError::Diverged { epoch, loss });
            }
            total += f64::from(loss) * n as f64;
            examples += n;
            let loss = (total / examples as f64) as f32;
            if observer(Progress::Step {
                epoch,
                examples,
                of,
                loss,
            })
            .is_break()
            {
                return Err(TrainError::Interrupted);
            }
        }
        let score = match validation {
            Some(held_out) => Some(validation_ndcg(
                &model,
                model.item_tower.embed_all(&features),
                held_out,
            )?),
            None => None,
        };
        let record = EpochRecord {
            epoch,
            loss: (total / of as f64) as f32,
            examples: of,
            validation_ndcg_at_10: score,
        };
        let stop = observer(Progress::Epoch(&record)).is_break();
        epochs.push(record);
        if let Some(score) = score
            && best.as_ref().is_none_or(|(highest, ..)| score > *highest)
        {
            best = Some((score, epoch, model.clone()));
        }
        if stop {
            return Err(TrainError::Interrupted);
        }
        if best
            .as_ref()
            .is_some_and(|(_, at, _)| epoch - at >= hyperparameters.patience)
        {
            break;
        }
    }
    let (best_epoch, model) = match best {
        Some((_, epoch, model)) => (epoch, model),
        None => (epochs.len(), model),
    };
    Ok(Trained {
        model,
        best_epoch,
        epochs,
    })
}

fn validation_ndcg(
    model: &Model,
    vectors: Vec<f32>,
    held_out: &HeldOut,
) -> Result<f64, TrainError> {
    let videos = Embeddings::from_rows(model.hyperparameters.embedding_dim, vectors)?;
    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: &videos,
    };
    Ok(quick_evaluate(&towers, held_out, VALIDATION_USERS)?.ndcg_at_10)
}
