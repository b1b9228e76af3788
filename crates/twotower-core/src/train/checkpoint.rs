//! Serialises a run to the bytes of one file, and restores it to the bit.

use super::EpochRecord;
use super::run::{Best, Position, Run};
use crate::hyperparameters::Hyperparameters;
use crate::model::Model;
use crate::tensors::{self, Tensor, TensorError};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Key of the metadata in the file.
const METADATA: &str = "run";

/// Prefix of the names of a model's tensors.
const MODEL: &str = "model";

/// The difference of two runs whose negatives are drawn from other videos.
const NEGATIVES: &str = "videos that may be negatives";

/// The difference of two runs whose logQ corrections use other frequencies.
const CORRECTIONS: &str = "probabilities of targets";

/// Frequencies that the logQ correction uses. Files without this field used likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Correction {
    /// See [`super::target::Targets`].
    Targets,
}

/// Properties of a version's training that decide whether scores of its runs can be compared with
/// those of other versions; part of every [`Run::checkpoint`]. The default stands for versions that
/// did not record them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Number of videos that may be negatives, if they are not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eligible: Option<usize>,
    /// `None` without logQ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correction: Option<Correction>,
}

impl Training {
    pub(super) fn new(hyperparameters: &Hyperparameters, eligible: Option<usize>) -> Self {
        Self {
            eligible,
            correction: Correction::of(hyperparameters),
        }
    }

    /// The difference between two ways to train, in words; `None` if there is none.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.eligible != other.eligible {
            Some(NEGATIVES)
        } else if self.correction != other.correction {
            Some(CORRECTIONS)
        } else {
            None
        }
    }
}

impl Correction {
    fn of(hyperparameters: &Hyperparameters) -> Option<Self> {
        hyperparameters.log_q.then_some(Self::Targets)
    }
}

/// Why a run cannot be resumed from a checkpoint.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// The file is damaged, or its tensors are not those of this run.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The metadata do not say where the run stood.
    #[error("the checkpoint does not say where its run stood: {0}")]
    Metadata(String),
    /// The checkpoint is of another run.
    #[error("the checkpoint is of another run: its {what} differ")]
    Other {
        /// What differs.
        what: &'static str,
    },
}

impl ResumeError {
    /// Whether the checkpoint is sound but of a version that trains differently, as far as can be
    /// told: with other negatives, logQ or tensors, or with metadata that this version does not
    /// understand. Scores of the two versions' runs cannot be compared.
    pub fn is_other_training(&self) -> bool {
        match self {
            Self::Tensor(TensorError::Shape { .. }) | Self::Metadata(_) => true,
            Self::Other { what } => [NEGATIVES, CORRECTIONS].contains(what),
            Self::Tensor(_) => false,
        }
    }
}

/// The metadata of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Names the data and the purpose of the run.
    tag: String,
    hyperparameters: Hyperparameters,
    epochs: Vec<EpochRecord>,
    step: usize,
    loss: f64,
    examples: usize,
    adam_steps: i32,
    best: Option<(f64, usize)>,
    has_vectors: bool,
    /// As in [`Training`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eligible: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correction: Option<Correction>,
}

impl State {
    fn of(checkpoint: &[u8]) -> Result<Self, ResumeError> {
        let (_, header) = SafeTensors::read_metadata(checkpoint).map_err(TensorError::from)?;
        let text = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(METADATA))
            .ok_or_else(|| ResumeError::Metadata(format!("no metadata `{METADATA}`")))?;
        serde_json::from_str(text).map_err(|error| ResumeError::Metadata(error.to_string()))
    }

    /// Checks that the checkpoint is of the run that is described.
    fn check(
        &self,
        tag: &str,
        hyperparameters: &Hyperparameters,
        eligible: Option<usize>,
    ) -> Result<(), ResumeError> {
        let what = if self.tag != tag {
            "data"
        } else if self.hyperparameters != *hyperparameters {
            "hyperparameters"
        } else {
            let there = Training {
                eligible: self.eligible,
                correction: self.correction,
            };
            match there.difference(&Training::new(hyperparameters, eligible)) {
                None => return Ok(()),
                Some(what) => what,
            }
        };
        Err(ResumeError::Other { what })
    }
}

/// Checks that a run from `model`, whose weights do not matter, can be resumed from `checkpoint`.
/// `eligible`: see [`Training`]. Does not read the numbers.
pub(super) fn check(
    checkpoint: &[u8],
    tag: &str,
    model: &mut Model,
    eligible: Option<usize>,
) -> Result<(), ResumeError> {
    let file = SafeTensors::deserialize(checkpoint).map_err(TensorError::from)?;
    State::of(checkpoint)?.check(tag, &model.hyperparameters, eligible)?;
    for (name, shape, _) in model.tensors_mut() {
        tensors::find(&file, &format!("{MODEL}.{name}"), &shape)?;
    }
    Ok(())
}

impl Run<'_> {
    /// Everything that the rest of the run depends on besides the data. `tag` names the data and
    /// the purpose of the run.
    ///
    /// # Errors
    /// [`TensorError::Format`] if the format refuses the tensors, which it never should.
    pub fn checkpoint(&mut self, tag: &str) -> Result<Vec<u8>, TensorError> {
        let state = State {
            tag: tag.to_owned(),
            hyperparameters: self.model.hyperparameters.clone(),
            epochs: self.position.epochs.clone(),
            step: self.position.step,
            loss: self.position.loss,
            examples: self.position.examples,
            adam_steps: self.stepper.adam_steps(),
            best: self.best.as_ref().map(|best| (best.score, best.epoch)),
            has_vectors: !self.vectors.is_empty(),
            eligible: self.eligible,
            correction: Correction::of(&self.model.hyperparameters),
        };
        let text = serde_json::to_string(&state).map_err(|error| TensorError::Shape {
            name: METADATA.to_owned(),
            expected: Vec::new(),
            found: error.to_string(),
        })?;
        tensors::write(&self.tensors(), &[(METADATA, text)])
    }

    /// Restores the state in `checkpoint`, whatever this run has done so far. Both runs must have
    /// begun in the same way, with the same `tag`.
    ///
    /// # Errors
    /// [`ResumeError`]
    pub fn resume(mut self, tag: &str, checkpoint: &[u8]) -> Result<Self, ResumeError> {
        let file = SafeTensors::deserialize(checkpoint).map_err(TensorError::from)?;
        let state = State::of(checkpoint)?;
        state.check(tag, &self.model.hyperparameters, self.eligible)?;
        if let Some((_, epoch)) = state.best
            && !(1..=state.epochs.len()).contains(&epoch)
        {
            return Err(ResumeError::Metadata(format!(
                "the best epoch is {epoch} of {}",
                state.epochs.len()
            )));
        }
        self.position = Position {
            epochs: state.epochs,
            step: state.step,
            loss: state.loss,
            examples: state.examples,
        };
        self.stepper.set_adam_steps(state.adam_steps);
        // Checkpoints of older versions may have kept an epoch that scored 0.
        let best = state.best.filter(|&(score, _)| score > 0.0);
        self.best = best.map(|(score, epoch)| Best {
            score,
            epoch,
            model: self.model.clone(),
        });
        let vectors = self.features.len() * self.model.hyperparameters.embedding_dim;
        self.vectors.clear();
        self.vectors
            .resize(if state.has_vectors { vectors } else { 0 }, 0.0);
        self.batches.clear();
        tensors::fill(&file, self.tensors())?;
        Ok(self)
    }

    fn tensors(&mut self) -> Vec<Tensor<'_>> {
        let named = |prefix: &'static str| {
            move |(name, shape, data)| -> Tensor<'_> { (format!("{prefix}.{name}"), shape, data) }
        };
        let mut tensors: Vec<Tensor<'_>> = Vec::new();
        tensors.extend(self.model.tensors_mut().into_iter().map(named(MODEL)));
        tensors.extend(
            self.stepper
                .tensors_mut()
                .into_iter()
                .map(named("optimizer")),
        );
        if let Some(best) = &mut self.best {
            tensors.extend(best.model.tensors_mut().into_iter().map(named("best")));
        }
        if !self.vectors.is_empty() {
            let shape = vec![self.vectors.len()];
            tensors.push(("vectors".to_owned(), shape, &mut self.vectors));
        }
        tensors
    }
}
