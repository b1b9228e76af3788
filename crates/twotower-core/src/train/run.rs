//! A training run that advances step by step, so that its owner can observe it, save a checkpoint
//! or stop between steps.

use super::plan::{Batch, Frequencies};
use super::prefix_states::PrefixStates;
use super::prepared::Inputs;
use super::read_ahead::ReadAhead;
use super::step::{StepData, Stepper};
use super::target::Targets;
use super::window::{self, Window};
use super::{EpochRecord, Progress, Tally, TrainError, Trained, TrainingData, initialise};
use crate::embedding::Embeddings;
use crate::evaluate::{QuickEvaluation, quick_evaluate};
use crate::feature::{ItemFeatures, Preprocessing};
use crate::hyperparameters::Hyperparameters;
use crate::model::{Model, TwoTower};
use crate::split::HeldOut;
use crate::timeline::{Timeline, Timelines};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use std::ops::Range;
use std::sync::Arc;

/// At most this many users are ranked after each epoch, the same ones each time.
pub const VALIDATION_USERS: usize = 5_000;

/// When a run is done.
#[derive(Debug, Clone, Copy)]
pub enum Goal<'a> {
    /// The best epoch on validation: after all epochs, or after `patience` epochs without a better
    /// one. Epochs that score 0 are neither chosen nor counted towards `patience` while none has
    /// scored more.
    Best(&'a HeldOut),
    /// This many of the epochs that the learning rate is planned for.
    Epochs(usize),
}

/// The model of the best epoch so far.
#[derive(Debug, Clone)]
pub(super) struct Best {
    pub(super) score: f64,
    pub(super) epoch: usize,
    pub(super) model: Model,
}

/// Where a run stands. With the weights and the state of the optimisers, this is all that a
/// checkpoint keeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Position {
    /// Epochs that are done.
    pub(super) epochs: Vec<EpochRecord>,
    /// Steps of the current epoch that are done.
    pub(super) step: usize,
    /// Sum of the loss over the examples of the current epoch, nats.
    pub(super) loss: f64,
    /// Examples of the current epoch that are done.
    pub(super) examples: usize,
}

/// Training, between two steps.
///
/// All randomness of a step follows from the seed and the number of the step, so that a run that is
/// resumed from a checkpoint ends with the same bytes as one that was never interrupted.
pub struct Run<'a> {
    pub(super) goal: Goal<'a>,
    pub(super) features: Arc<ItemFeatures>,
    pub(super) timelines: Arc<dyn Timelines>,
    /// Number of videos that may be negatives, if they are not all.
    pub(super) eligible: Option<usize>,
    /// Windows that every epoch learns, in the order of users, as all lists of windows are.
    pub(super) windows: Vec<Window>,
    /// Windows of which every epoch draws as many examples again.
    pub(super) replayed: Vec<Window>,
    /// Epochs that the learning rate is planned for.
    pub(super) planned: usize,
    /// Windows in the order of the current epoch.
    shuffled: Arc<Vec<Window>>,
    /// Batches of the current epoch, as ranges of `shuffled`.
    pub(super) batches: Vec<Range<usize>>,
    /// The batches of the current epoch that are left, if timelines are not in memory.
    read_ahead: Option<ReadAhead>,
    /// Examples of an epoch.
    of: usize,
    pub(super) model: Model,
    pub(super) stepper: Stepper,
    /// The batch that is being learned, and the one that is being planned.
    pair: [Batch; 2],
    pub(super) position: Position,
    /// Vectors of all videos at the start of the current epoch, `[V, d]`; empty before its first
    /// step.
    pub(super) vectors: Vec<f32>,
    /// Computed from `vectors`.
    prefix_states: PrefixStates,
    pub(super) best: Option<Best>,
}

impl<'a> Run<'a> {
    /// A run from first weights.
    ///
    /// # Errors
    /// [`TrainError::NoExamples`], [`TrainError::Read`]
    pub fn new(
        data: TrainingData<'_>,
        hyperparameters: &Hyperparameters,
        goal: Goal<'a>,
    ) -> Result<Self, TrainError> {
        let tally = Tally::of(&data)?;
        let preprocessing = super::vocabularies(&data, &tally, hyperparameters)?;
        let inputs = Inputs::new(data, &tally, &preprocessing);
        Self::first(inputs, preprocessing, hyperparameters, goal)
    }

    /// A run from first weights over prepared inputs.
    pub(super) fn first(
        inputs: Inputs,
        preprocessing: Preprocessing,
        hyperparameters: &Hyperparameters,
        goal: Goal<'a>,
    ) -> Result<Self, TrainError> {
        let mut model = Model::zeros(hyperparameters.clone(), preprocessing);
        initialise::initialise(&mut model, &mut generator(hyperparameters.seed, 0, 0));
        Self::from_model(inputs, model, goal, &[])
    }

    /// A run from the weights of `model`, with its hyperparameters; `inputs` were made by its
    /// preprocessing. `learned`: for each user the number of oldest likes that these weights know,
    /// 0 beyond its end. Windows of known likes only are replayed.
    pub(super) fn from_model(
        inputs: Inputs,
        mut model: Model,
        goal: Goal<'a>,
        learned: &[u32],
    ) -> Result<Self, TrainError> {
        let hyper = &model.hyperparameters;
        let Inputs {
            timelines,
            features,
            like_counts,
            eligible,
        } = inputs;
        let is_new = |window: &Window| {
            let learned = learned.get(window.user as usize);
            window.end > learned.copied().unwrap_or(0)
        };
        let mut targets = Targets::new(features.len(), hyper.lookahead);
        let count = |windows: &[Window], timeline: Timeline<'_>| {
            targets.count(windows, timeline, is_new);
        };
        let mut windows = window::windows(&*timelines, hyper.window, !hyper.ordered, count)?;
        if windows.is_empty() {
            return Err(TrainError::NoExamples);
        }
        let mut replayed = Vec::new();
        if !learned.is_empty() {
            (windows, replayed) = windows.into_iter().partition(is_new);
        }
        let videos = Frequencies {
            targets: &targets.of_an_epoch(),
            likes: &like_counts,
            eligible: eligible.clone(),
        };
        Ok(Self {
            goal,
            features,
            timelines,
            eligible: eligible.as_ref().map(|list| list.len()),
            windows,
            replayed,
            planned: hyper.epochs,
            shuffled: Arc::default(),
            batches: Vec::new(),
            read_ahead: None,
            of: 0,
            pair: Batch::pair(hyper, videos),
            stepper: Stepper::new(&mut model),
            model,
            position: Position::default(),
            vectors: Vec::new(),
            prefix_states: PrefixStates::default(),
            best: None,
        })
    }

    /// One step, or the end of an epoch after its last step. `None` once the run is done.
    ///
    /// Runs on the current rayon pool; the result does not depend on its number of threads.
    ///
    /// # Errors
    /// [`TrainError`]
    pub fn advance(&mut self) -> Result<Option<Progress>, TrainError> {
        if self.is_done() {
            return Ok(None);
        }
        if self.batches.is_empty() {
            self.begin_epoch()?;
        }
        if self.position.step < self.batches.len() {
            self.step().map(Some)
        } else {
            self.end_epoch().map(Progress::Epoch).map(Some)
        }
    }

    fn is_done(&self) -> bool {
        let done = self.position.epochs.len();
        let planned = self.planned;
        match self.goal {
            Goal::Epochs(epochs) => done >= epochs.min(planned),
            Goal::Best(_) => {
                let patience = self.model.hyperparameters.patience;
                let waited = self.best.as_ref().map_or(0, |best| done - best.epoch);
                done >= planned || waited >= patience
            }
        }
    }

    /// Shuffles the windows, and embeds the videos unless the vectors come from a checkpoint within
    /// the epoch.
    fn begin_epoch(&mut self) -> Result<(), TrainError> {
        let (seed, epoch) = (
            self.model.hyperparameters.seed,
            self.position.epochs.len() + 1,
        );
        let mut random = generator(seed, epoch, 0);
        // Drop the order of the previous epoch first, and the thread that reads ahead in it: the
        // memory formula has room for one order beside `windows`.
        self.read_ahead = None;
        self.shuffled = Arc::default();
        let mut shuffled = Vec::with_capacity(self.windows.len() + self.replayed.len());
        shuffled.extend_from_slice(&self.windows);
        window::replay(&mut shuffled, &self.replayed, &mut random);
        self.of = shuffled.iter().map(|window| window.examples()).sum();
        let batch_size = self.model.hyperparameters.batch_size;
        self.batches = window::batches(&mut shuffled, batch_size, &mut random);
        self.shuffled = Arc::new(shuffled);
        self.read_ahead = self.timelines.held(0).is_none().then(|| {
            let left = self.batches[self.position.step.min(self.batches.len())..].to_vec();
            ReadAhead::start(self.timelines.clone(), self.shuffled.clone(), left)
        });
        if self.vectors.is_empty() {
            self.vectors = self.model.item_tower.embed_all(&self.features);
        }
        let unordered = !self.model.hyperparameters.ordered;
        let tower = &self.model.user_tower;
        self.prefix_states = PrefixStates::new(&*self.timelines, tower, &self.vectors, unordered)?;
        for batch in &mut self.pair {
            batch.forget();
        }
        Ok(())
    }

    /// Learns one batch, and plans the next one in parallel.
    fn step(&mut self) -> Result<Progress, TrainError> {
        let epoch = self.position.epochs.len() + 1;
        let hyper = &self.model.hyperparameters;
        let share_done = self.position.step as f32 / self.batches.len() as f32;
        let progress = ((epoch - 1) as f32 + share_done) / self.planned as f32;
        self.stepper
            .set_rate_factor(1.0 - (1.0 - hyper.final_rate) * progress);
        let (seed, step) = (hyper.seed, self.position.step);
        let windows = |step: usize| {
            self.batches
                .get(step)
                .map(|range| &self.shuffled[range.clone()])
        };
        let (timelines, features) = (&*self.timelines, &*self.features);
        let mut read_ahead = self.read_ahead.as_mut();
        let mut plan = |batch: &mut Batch, step: usize| match windows(step) {
            Some(windows) => {
                let random = generator(seed, epoch, step + 1);
                let read_ahead = read_ahead.as_deref_mut();
                batch.prepare(step, windows, timelines, read_ahead, features, random)
            }
            None => Ok(()),
        };
        let [batch, next] = &mut self.pair;
        if !batch.is_for(step) {
            plan(batch, step)?;
        }
        let (loss, planned) = rayon::join(
            || {
                let data = StepData {
                    features,
                    vectors: &self.vectors,
                    prefix_states: &self.prefix_states,
                    batch: &batch.excerpts(windows(step).unwrap_or_default(), timelines),
                    plan: &batch.plan,
                };
                self.stepper.step(&mut self.model, data)
            },
            || plan(next, step + 1),
        );
        let examples = batch.plan.targets.len();
        batch.forget();
        self.pair.swap(0, 1);
        if !loss.is_finite() {
            return Err(TrainError::Diverged { epoch, loss });
        }
        let position = &mut self.position;
        position.step += 1;
        position.loss += f64::from(loss) * examples as f64;
        position.examples += examples;
        planned?;
        Ok(Progress::Step {
            epoch,
            examples: position.examples,
            of: self.of,
            loss: (position.loss / position.examples as f64) as f32,
        })
    }

    fn end_epoch(&mut self) -> Result<EpochRecord, TrainError> {
        // Free the old vectors before the new ones are computed.
        self.vectors = Vec::new();
        self.prefix_states = PrefixStates::default();
        self.vectors = self.model.item_tower.embed_all(&self.features);
        let validation = match self.goal {
            Goal::Best(held_out) => Some(self.validate(held_out)?),
            Goal::Epochs(_) => None,
        };
        let epoch = self.position.epochs.len() + 1;
        let record = EpochRecord {
            epoch,
            loss: (self.position.loss / self.of as f64) as f32,
            examples: self.of,
            validation,
        };
        let score = validation.map(|score| self.model.hyperparameters.selection.of(&score));
        // A score of 0 chooses nothing: with few held-out likes among many videos all epochs may
        // have it.
        let to_beat = self.best.as_ref().map_or(0.0, |best| best.score);
        if let Some(score) = score
            && score > to_beat
        {
            self.best = Some(Best {
                score,
                epoch,
                model: self.model.clone(),
            });
        }
        self.position = Position {
            epochs: std::mem::take(&mut self.position.epochs),
            ..Position::default()
        };
        self.position.epochs.push(record.clone());
        self.batches.clear();
        Ok(record)
    }

    fn validate(&mut self, held_out: &HeldOut) -> Result<QuickEvaluation, TrainError> {
        let dim = self.model.hyperparameters.embedding_dim;
        let videos = Embeddings::from_rows(dim, std::mem::take(&mut self.vectors))?;
        let towers = TwoTower {
            user_tower: &self.model.user_tower,
            videos: &videos,
        };
        let score = quick_evaluate(&towers, held_out, VALIDATION_USERS)?;
        self.vectors = videos.into_rows();
        Ok(score)
    }

    /// Examples of the current epoch that are done.
    pub fn examples(&self) -> usize {
        self.position.examples
    }

    /// The epochs that are done.
    pub fn epochs(&self) -> &[EpochRecord] {
        &self.position.epochs
    }

    /// The model of the best epoch, of the last one if no epoch scored above 0 on validation, or
    /// without a validation part.
    pub fn finish(self) -> Trained {
        let epochs = self.position.epochs;
        let (best_epoch, model) = match self.best {
            Some(best) => (best.epoch, best.model),
            None => (epochs.len(), self.model),
        };
        Trained {
            model,
            best_epoch,
            epochs,
        }
    }
}

/// Random numbers of one step (from 1) of one epoch. Step 0 is the beginning of the epoch, epoch 0
/// that of the run.
fn generator(seed: u64, epoch: usize, step: usize) -> Pcg64Mcg {
    // Neighbouring numbers give unrelated generators: `seed_from_u64` hashes its argument, and the
    // sum is injective in practice.
    let stream = (epoch as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (step as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
    Pcg64Mcg::seed_from_u64(seed ^ stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{Catalogue, Video};
    use crate::interaction::Interaction;
    use crate::train::Base;
    use uuid::Uuid;

    const USERS: u32 = 8;

    /// All users like videos 0, 1, 2 … one after the other; nobody likes or skips the hundred
    /// others.
    fn data(catalogue: &Catalogue, likes: u32) -> TrainingData<'_> {
        let like = |item: u32| {
            (0..USERS).map(move |user| Interaction {
                user,
                item,
                at: item,
            })
        };
        let likes: Vec<Interaction> = (0..likes).flat_map(like).collect();
        TrainingData::held(catalogue, USERS as usize, likes, [])
    }

    /// For each video the share that the step's candidates are corrected by, `[V]`; 0 for videos
    /// that are no candidates.
    fn shares(run: &mut Run<'_>) -> Vec<f32> {
        let mut shares = vec![0.0; run.features.len()];
        while let Some(Progress::Step { .. }) = run.advance().unwrap() {
            // The batch that was learned last.
            let plan = &run.pair[1].plan;
            let examples = plan.targets.len() as f32;
            let candidates = &plan.candidates;
            for (&item, bias) in candidates.items.iter().zip(&candidates.positive_bias) {
                shares[item as usize] = (-bias).exp() / examples;
            }
        }
        shares
    }

    fn assert_shares(run: &mut Run<'_>, expected: &[f32]) {
        let shares = shares(run);
        for (video, (share, expected)) in shares.iter().zip(expected).enumerate() {
            assert!(
                (share - expected).abs() < 1e-5,
                "video {video}: {share}, expected {expected}"
            );
        }
    }

    #[test]
    fn the_correction_goes_by_what_an_epoch_asks_for() {
        let videos = (0..108u32).map(|n| Video {
            id: Uuid::from_u128(u128::from(n)),
            ..Video::default()
        });
        let catalogue = Catalogue::new(videos).unwrap();
        let hyper = Hyperparameters {
            embedding_dim: 4,
            user_hidden: 4,
            item_hidden: 4,
            batch_size: 8,
            negatives: 0,
            min_users: 1,
            ngram_buckets: 4,
            window: 2,
            epochs: 1,
            ..Hyperparameters::default()
        };
        let mut run = Run::new(data(&catalogue, 6), &hyper, Goal::Epochs(1)).unwrap();
        // The first like of a user is never a target.
        assert_shares(&mut run, &[0.0, 0.2, 0.2, 0.2, 0.2, 0.2]);
        let optimizer = run.optimizer_state().unwrap();
        let base = run.finish().model;
        let from = Base {
            model: &base,
            optimizer: &optimizer,
            learned: &[6; USERS as usize],
        };
        // 16 examples of the two new videos, and 16.4 of the 40 others: of three windows two have
        // two examples, and four times out of ten the last window drawn exceeds the wanted number
        // by one.
        let mut run = Run::fine_tune(data(&catalogue, 8), from, 1).unwrap();
        let (new, other) = (8.0 / 32.4, 0.41 * 8.0 / 32.4);
        assert_shares(
            &mut run,
            &[0.0, other, other, other, other, other, new, new],
        );
    }
}
