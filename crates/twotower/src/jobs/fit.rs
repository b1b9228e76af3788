//! Trains a model: chooses the number of epochs on validation, then learns everything that is not
//! held out for test.

#[cfg(test)]
mod tests;

mod watch;

use super::checkpoint::Checkpoints;
use super::cohorts::{Cohort, cohorts};
use super::train::BaseModel;
use super::training_set::TrainingSet;
use super::{JobError, Resume, TrainOptions, size};
use crate::interrupt::Interrupt;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;
use twotower_core::evaluate::QuickEvaluation;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_core::split::Phase;
use twotower_core::train::{
    self, Base, FineTuneError, Goal, ResumeError, Run, TrainError, Trained, TrainingData,
};
use watch::Watch;

/// One epoch in the training log of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EpochLog {
    /// From 1.
    pub(super) epoch: usize,
    /// Mean loss, nats.
    pub(super) loss: f32,
    /// Wall time of the epoch, validation included, seconds; `None` for an epoch before a
    /// resumption.
    pub(super) seconds: Option<f64>,
    /// Examples per second; for an epoch that was interrupted, only of its rest.
    pub(super) examples_per_second: Option<f64>,
    /// Metrics on validation.
    pub(super) validation: BTreeMap<String, f64>,
}

/// A trained model and how it was trained.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) model: Model,
    /// State of the optimizer, from which fine-tuning continues.
    pub(super) optimizer: Vec<u8>,
    /// Time of the latest like that was learned, seconds since 1970.
    pub(super) learned_until: Option<u32>,
    pub(super) best_epoch: usize,
    pub(super) validation_ndcg_at_10: Option<f64>,
    /// Measured on the likes held out for test, which nothing was chosen by.
    pub(super) cohorts: Vec<Cohort>,
    /// Log of the run that chose the epoch, or of the only run if nothing was chosen.
    pub(super) log: Vec<EpochLog>,
}

/// Validation metrics of the best epoch.
fn best_validation(trained: &Trained) -> Option<QuickEvaluation> {
    let best = trained.epochs.get(trained.best_epoch.checked_sub(1)?)?;
    best.validation
}

fn threads(number: usize) -> anyhow::Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(number.max(1))
        .build()
        .context("start training threads")
}

/// One run of training.
struct Outcome {
    trained: Trained,
    /// State of the optimizer, from which fine-tuning continues.
    optimizer: Vec<u8>,
    log: Vec<EpochLog>,
}

/// The number of epochs that validation chose.
struct Choice {
    epochs: usize,
    /// NDCG@10 after that epoch.
    ndcg_at_10: Option<f64>,
    /// Log of the run that chose.
    log: Vec<EpochLog>,
}

/// Trains a model, afresh or from a base.
pub(super) struct Trainer<'a> {
    pub(super) data: &'a TrainingSet,
    /// The model to go on from instead of first weights, with its hyperparameters.
    pub(super) base: Option<BaseModel>,
    pub(super) options: &'a TrainOptions,
    pub(super) checkpoints: Option<&'a Checkpoints>,
    pub(super) interrupt: &'a Interrupt,
}

impl Trainer<'_> {
    /// Trains the model.
    ///
    /// Afresh: chooses the number of epochs on validation, then trains once more, on training and
    /// validation likes, for as many. If no user in validation is known from training, nothing can
    /// be chosen, and all epochs are run once. From a base: learns what came in since and is not
    /// held out for test; nothing is chosen on validation, parts of which the base has learned
    /// already.
    ///
    /// # Errors
    /// If the model would be too large, training takes too much memory or diverges, a file fails,
    /// or there is an interrupt.
    pub(super) fn fit(&mut self) -> anyhow::Result<Fit> {
        threads(self.options.threads)?.install(|| {
            self.check_size()?;
            if let Some(epochs) = self.base.as_ref().map(|base| base.epochs) {
                return self.learn(epochs);
            }
            let Some(choice) = self.choose()? else {
                return self.learn(self.hyperparameters().epochs);
            };
            Ok(Fit {
                validation_ndcg_at_10: choice.ndcg_at_10,
                log: choice.log,
                ..self.learn(choice.epochs)?
            })
        })
    }

    fn hyperparameters(&self) -> &Hyperparameters {
        let base = self.base.as_ref();
        base.map_or(&self.options.hyperparameters, |base| {
            &base.model.hyperparameters
        })
    }

    /// Trains on training likes, and chooses the best epoch on validation; `None` if there is
    /// nobody to choose by.
    fn choose(&mut self) -> anyhow::Result<Option<Choice>> {
        let held_out = self.data.validation_users()?;
        if held_out.users.iter().all(|user| user.likes.is_empty()) {
            tracing::info!(
                "nobody who is known from the training part has a like in the validation part: all {} epochs are run, and none is chosen",
                self.hyperparameters().epochs
            );
            return Ok(None);
        }
        let Outcome { trained, log, .. } = self.run(Phase::Validation, Goal::Best(&held_out))?;
        let selection = self.hyperparameters().selection;
        if best_validation(&trained).is_some_and(|score| selection.of(&score) <= 0.0) {
            tracing::info!(
                "no epoch ranks a like of the validation part high enough to score: all {} epochs are run, and none is chosen",
                trained.best_epoch
            );
        }
        Ok(Some(Choice {
            epochs: trained.best_epoch,
            ndcg_at_10: best_validation(&trained).map(|score| score.ndcg_at_10),
            log,
        }))
    }

    /// Learns everything that is not held out for test, in this number of epochs.
    fn learn(&mut self, epochs: usize) -> anyhow::Result<Fit> {
        let Outcome {
            trained,
            optimizer,
            log,
        } = self.run(Phase::Test, Goal::Epochs(epochs))?;
        let cohorts = cohorts(&trained.model, self.data)?;
        Ok(Fit {
            model: trained.model,
            optimizer,
            learned_until: self.data.learned_until(),
            best_epoch: epochs,
            validation_ndcg_at_10: None,
            cohorts,
            log,
        })
    }

    /// Refuses a model that could not be saved. The model that is saved has learned everything
    /// before test, and so has the most rows.
    fn check_size(&self) -> anyhow::Result<()> {
        let base = self.base.as_ref().map(|base| &base.model);
        let known = base.map_or(0, |base| base.preprocessing.table_rows());
        size::check(&self.data.catalogue, self.hyperparameters(), known, || {
            let data = self.data.seen_before(Phase::Test);
            Ok(train::table_rows(&data, self.hyperparameters(), base)?)
        })
    }

    /// Trains on what is seen before `phase`, with progress and checkpoints.
    fn run(&mut self, phase: Phase, goal: Goal<'_>) -> anyhow::Result<Outcome> {
        let mut run = self.begin(phase, self.data.seen_before(phase), goal)?;
        if let Some(base) = &mut self.base {
            base.free_weights();
        }
        let memory = run.memory();
        tracing::info!("memory of training: {memory}");
        let shards = self.options.shards.as_ref();
        if let Some(limit) = shards.and_then(|shards| shards.memory_limit) {
            ensure!(
                memory.total() as u64 <= limit,
                "training takes {memory}, and --memory-limit is {:.0} MB: raise it, or {}",
                limit as f64 / 1e6,
                self.instead("lower --embedding-dim, --batch-size or ngram_buckets")
            );
        }
        let title = match (phase, &self.base) {
            (_, Some(_)) => "fine-tuning",
            (Phase::Validation, None) => "training",
            (Phase::Test, None) => "refit",
        };
        let epochs = match goal {
            Goal::Best(_) => self.hyperparameters().epochs,
            Goal::Epochs(epochs) => epochs,
        };
        let mut watch = Watch::new(title, epochs, run.epochs(), run.examples());
        let mut saved = Instant::now();
        while let Some(progress) = self.advance(&mut run)? {
            watch.see(&progress);
            if self.interrupt.is_set() {
                self.save(phase, &mut run)?;
                return Err(JobError::Interrupted.into());
            }
            if let Some(checkpoints) = self.checkpoints
                && saved.elapsed() >= checkpoints.interval
            {
                self.save(phase, &mut run)?;
                saved = Instant::now();
            }
        }
        if phase == Phase::Validation {
            // A run that is resumed during the refit must not choose the number of epochs again.
            self.save(phase, &mut run)?;
        }
        let optimizer = run.optimizer_state()?;
        let trained = run.finish();
        let log = watch.finish(&trained);
        Ok(Outcome {
            trained,
            optimizer,
            log,
        })
    }

    /// Advice on hyperparameters: `change`, unless they come from the base and cannot be changed.
    fn instead(&self, change: &str) -> String {
        self.base.as_ref().map_or_else(
            || change.to_owned(),
            |base| {
                format!(
                    "train afresh, without --from, and {change}: what goes on from version {} keeps its hyperparameters",
                    base.version
                )
            },
        )
    }

    fn advance(&self, run: &mut Run<'_>) -> anyhow::Result<Option<train::Progress>> {
        run.advance().map_err(|error| match error {
            TrainError::Diverged { .. } => {
                let change = self.instead("lower --learning-rate or raise --temperature");
                anyhow::Error::from(error).context(format!("training diverged; {change}"))
            }
            error => error.into(),
        })
    }

    /// A run from the beginning.
    fn fresh<'g>(&self, data: TrainingData<'_>, goal: Goal<'g>) -> anyhow::Result<Run<'g>> {
        let Some(base) = &self.base else {
            return Ok(Run::new(data, self.hyperparameters(), goal)?);
        };
        let seen = self.data.histories.known.iter();
        let learned: Vec<u32> = seen.map(|&likes| base.split.learned(likes)).collect();
        let from = Base {
            model: &base.model,
            optimizer: &base.optimizer,
            learned: &learned,
        };
        Run::fine_tune(data, from, base.epochs).map_err(|error| match error {
            FineTuneError::NothingNew => JobError::NothingNew {
                version: base.version,
            }
            .into(),
            error => error.into(),
        })
    }

    /// A run from the beginning, or from the checkpoint of a run that was interrupted.
    fn begin<'g>(
        &self,
        phase: Phase,
        data: TrainingData<'_>,
        goal: Goal<'g>,
    ) -> anyhow::Result<Run<'g>> {
        let run = self.fresh(data.clone(), goal)?;
        let Some(checkpoints) = self.checkpoints else {
            return Ok(run);
        };
        let Some(bytes) = checkpoints.load(phase)? else {
            return Ok(run);
        };
        match run.resume(&checkpoints.tag(phase), &bytes) {
            Ok(run) => {
                tracing::info!("resumed after {} whole epochs", run.epochs().len());
                Ok(run)
            }
            // An unattended run cannot wait for somebody to remove a checkpoint that is of other
            // data, of another version, or damaged.
            Err(error) if checkpoints.resume == Resume::IfSame => {
                let path = checkpoints.path(phase);
                let path = path.display();
                if matches!(error, ResumeError::Other { .. }) {
                    tracing::info!("{path} is left: {error}; training begins afresh");
                } else {
                    tracing::warn!(
                        "{path} cannot be gone on from: {error}; training begins afresh"
                    );
                }
                self.fresh(data, goal)
            }
            Err(error) => Err(error).with_context(|| {
                format!(
                    "resume from {}; without --resume training starts afresh",
                    checkpoints.path(phase).display()
                )
            }),
        }
    }

    fn save(&self, phase: Phase, run: &mut Run<'_>) -> anyhow::Result<()> {
        let Some(checkpoints) = self.checkpoints else {
            return Ok(());
        };
        let bytes = run.checkpoint(&checkpoints.tag(phase))?;
        checkpoints.save(phase, &bytes)
    }
}
