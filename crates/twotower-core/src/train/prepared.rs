//! Inputs that are computed before the first weights: vocabularies, features of all videos, and the
//! videos that may be negatives.

use super::checkpoint::{self, ResumeError, Training};
use super::memory::Memory;
use super::run::{Goal, Run};
use super::{Tally, TrainError, TrainingData};
use crate::feature::{ItemFeatures, Preprocessing};
use crate::hyperparameters::Hyperparameters;
use crate::model::Model;
use crate::timeline::Timelines;
use std::sync::Arc;

/// The inputs of a run, whatever its weights start from. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    pub(super) timelines: Arc<dyn Timelines>,
    /// Features of all videos.
    pub(super) features: Arc<ItemFeatures>,
    /// Training likes of each video, `[V]`.
    pub(super) like_counts: Arc<[u32]>,
    /// See [`Tally::eligible`].
    pub(super) eligible: Option<Arc<[u32]>>,
}

impl Inputs {
    pub(super) fn new(
        data: TrainingData<'_>,
        tally: &Tally,
        preprocessing: &Preprocessing,
    ) -> Self {
        Self {
            features: Arc::new(preprocessing.features(data.catalogue.videos())),
            like_counts: tally.likes[..].into(),
            eligible: tally.eligible(&data),
            timelines: data.timelines,
        }
    }
}

/// Data prepared once for several runs, as in a search for hyperparameters: reading a catalogue's
/// texts takes longer than a short run.
#[derive(Debug)]
pub struct Prepared<'a> {
    data: TrainingData<'a>,
    preprocessing: Preprocessing,
    inputs: Inputs,
    vocabulary: Vocabulary,
}

/// The hyperparameters that vocabularies depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vocabulary {
    min_term_videos: usize,
    min_users: usize,
    ngram_buckets: u32,
}

impl Vocabulary {
    fn of(hyperparameters: &Hyperparameters) -> Self {
        Self {
            min_term_videos: hyperparameters.min_term_videos,
            min_users: hyperparameters.min_users,
            ngram_buckets: hyperparameters.ngram_buckets,
        }
    }
}

impl<'a> Prepared<'a> {
    /// Prepares the vocabularies that `hyperparameters` ask for.
    ///
    /// # Errors
    /// [`TrainError::Read`]
    pub fn new(
        data: TrainingData<'a>,
        hyperparameters: &Hyperparameters,
    ) -> Result<Self, TrainError> {
        let tally = Tally::of(&data)?;
        let preprocessing = super::vocabularies(&data, &tally, hyperparameters)?;
        Ok(Self {
            inputs: Inputs::new(data.clone(), &tally, &preprocessing),
            vocabulary: Vocabulary::of(hyperparameters),
            preprocessing,
            data,
        })
    }

    /// A run from first weights, the same as [`Run::new`] over the same data. Hyperparameters that
    /// ask for other vocabularies get them.
    ///
    /// # Errors
    /// [`TrainError::NoExamples`], [`TrainError::Read`]
    pub fn run<'g>(
        &self,
        hyperparameters: &Hyperparameters,
        goal: Goal<'g>,
    ) -> Result<Run<'g>, TrainError> {
        if self.vocabulary != Vocabulary::of(hyperparameters) {
            return Run::new(self.data.clone(), hyperparameters, goal);
        }
        let preprocessing = self.preprocessing.clone();
        Run::first(self.inputs.clone(), preprocessing, hyperparameters, goal)
    }

    /// Memory of a run at its peak, including the prepared inputs. Sets up a run without training
    /// it.
    ///
    /// # Errors
    /// As [`Prepared::run`]
    pub fn memory(
        &self,
        hyperparameters: &Hyperparameters,
        goal: Goal<'_>,
    ) -> Result<Memory, TrainError> {
        let mut memory = self.run(hyperparameters, goal)?.memory();
        // A run that owns its data drops the counts once it has each video's share.
        memory.videos += size_of_val(&self.inputs.like_counts[..]);
        Ok(memory)
    }

    /// How a run with these hyperparameters trains.
    pub fn training(&self, hyperparameters: &Hyperparameters) -> Training {
        Training::new(hyperparameters, self.eligible())
    }

    fn eligible(&self) -> Option<usize> {
        self.inputs.eligible.as_ref().map(|list| list.len())
    }

    /// Checks that a run with these hyperparameters could [`Run::resume`] from `checkpoint`,
    /// without setting up a run and without reading its numbers. The hyperparameters must ask for
    /// the prepared vocabularies.
    ///
    /// # Errors
    /// [`ResumeError`] if it could not.
    pub fn check_checkpoint(
        &self,
        hyperparameters: &Hyperparameters,
        tag: &str,
        checkpoint: &[u8],
    ) -> Result<(), ResumeError> {
        let mut model = Model::zeros(hyperparameters.clone(), self.preprocessing.clone());
        checkpoint::check(checkpoint, tag, &mut model, self.eligible())
    }
}
