//! Likes in, a trained model out: the number of epochs is chosen on validation, then everything seen is learned.

use super::checkpoint::Checkpoints;
use super::{Interrupt, JobError, TrainOptions};
use crate::progress::Progress;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::Dataset;
use twotower_core::model::Model;
use twotower_core::split::{Phase, Split};
use twotower_core::train::{self, EpochRecord, Goal, Run, Trained, TrainingData};

/// One epoch as the manifest keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EpochLog {
    /// From 1.
    pub(super) epoch: usize,
    /// Mean loss, nats.
    pub(super) loss: f32,
    /// Wall time of the epoch, validation included, seconds; not known of an epoch before a resumption.
    pub(super) seconds: Option<f64>,
    /// Examples per second.
    pub(super) examples_per_second: Option<f64>,
    /// Metrics on validation.
    pub(super) validation: BTreeMap<String, f64>,
}

/// A model and how it came to be.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) model: Model,
    pub(super) best_epoch: usize,
    pub(super) validation_ndcg_at_10: Option<f64>,
    /// Of the run that chose the epoch.
    pub(super) log: Vec<EpochLog>,
}

/// Chooses the number of epochs on validation, then trains afresh on training and validation likes for as many.
pub(super) fn fit(
    dataset: &Dataset,
    options: &TrainOptions,
    checkpoints: Option<&Checkpoints>,
    interrupt: &Interrupt,
) -> anyhow::Result<Fit> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .build()
        .context("start training threads")?;
    pool.install(|| {
        let hyperparameters = &options.hyperparameters;
        let trainer = Trainer {
            dataset,
            hyperparameters,
            split: Split::new(dataset, options.split),
            checkpoints,
            interrupt,
        };
        let held_out = trainer.split.held_out_users(Phase::Validation);
        let ranked = held_out.users.iter().any(|user| !user.likes.is_empty());
        let goal = if ranked {
            Goal::Best(&held_out)
        } else {
            Goal::Epochs(hyperparameters.epochs)
        };
        let (chosen, log) = trainer.run(Phase::Validation, goal)?;
        let best_epoch = chosen.best_epoch;
        let validation_ndcg_at_10 = chosen
            .epochs
            .get(best_epoch - 1)
            .and_then(|epoch| epoch.validation)
            .map(|score| score.ndcg_at_10);
        let (trained, _) = trainer.run(Phase::Test, Goal::Epochs(best_epoch))?;
        Ok(Fit {
            model: trained.model,
            best_epoch,
            validation_ndcg_at_10,
            log,
        })
    })
}

/// Trains on parts of one split.
struct Trainer<'a> {
    dataset: &'a Dataset,
    hyperparameters: &'a Hyperparameters,
    split: Split,
    checkpoints: Option<&'a Checkpoints>,
    interrupt: &'a Interrupt,
}

impl Trainer<'_> {
    /// Trains on what is seen before `phase`, with progress and checkpoints.
    fn run(&self, phase: Phase, goal: Goal<'_>) -> anyhow::Result<(Trained, Vec<EpochLog>)> {
        let (likes, skips) = (self.split.seen(phase), self.split.seen_skips(phase));
        let data = TrainingData {
            catalogue: &self.dataset.catalogue,
            users: self.dataset.users,
            likes: &likes,
            skips: &skips,
        };
        let mut run = self.begin(phase, data, goal)?;
        tracing::info!("memory of training: {}", run.memory());
        let title = match phase {
            Phase::Validation => "training",
            Phase::Test => "refit",
        };
        let epochs = match goal {
            Goal::Best(_) => self.hyperparameters.epochs,
            Goal::Epochs(epochs) => epochs,
        };
        let mut watch = Watch::new(title, epochs, run.epochs());
        let mut saved = Instant::now();
        while let Some(progress) = run.advance()? {
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
            // Resuming during the refit must not choose the number of epochs again.
            self.save(phase, &mut run)?;
        }
        let trained = run.finish();
        let log = watch.finish(&trained);
        Ok((trained, log))
    }

    /// A run from the beginning, or from the checkpoint of one that was cut off.
    fn begin<'g>(
        &self,
        phase: Phase,
        data: TrainingData<'_>,
        goal: Goal<'g>,
    ) -> anyhow::Result<Run<'g>> {
        let run = Run::new(data, self.hyperparameters, goal)?;
        let Some(checkpoints) = self.checkpoints else {
            return Ok(run);
        };
        let Some(bytes) = checkpoints.load(phase)? else {
            return Ok(run);
        };
        let run = run
            .resume(&checkpoints.tag(phase), &bytes)
            .with_context(|| {
                format!(
                    "resume from {}; without --resume training starts afresh",
                    checkpoints.path(phase).display()
                )
            })?;
        tracing::info!("resumed after {} whole epochs", run.epochs().len());
        Ok(run)
    }

    fn save(&self, phase: Phase, run: &mut Run<'_>) -> anyhow::Result<()> {
        let Some(checkpoints) = self.checkpoints else {
            return Ok(());
        };
        let bytes = run.checkpoint(&checkpoints.tag(phase))?;
        checkpoints.save(phase, &bytes)
    }
}

/// Shows training and keeps its log.
struct Watch {
    title: &'static str,
    epochs: usize,
    progress: Option<Progress>,
    validation: String,
    epoch_started: Instant,
    log: Vec<EpochLog>,
}

impl Watch {
    /// `done` are the epochs of a run that was cut off.
    fn new(title: &'static str, epochs: usize, done: &[EpochRecord]) -> Self {
        Self {
            title,
            epochs,
            progress: None,
            validation: String::new(),
            epoch_started: Instant::now(),
            log: done.iter().map(|record| log_of(record, None)).collect(),
        }
    }

    fn see(&mut self, event: &train::Progress) {
        match *event {
            train::Progress::Step {
                epoch,
                examples,
                of,
                loss,
            } => {
                let progress = self
                    .progress
                    .get_or_insert_with(|| Progress::start(self.title, (of * self.epochs) as u64));
                let done = ((epoch - 1) * of + examples) as u64;
                progress.set(
                    done,
                    &format!(
                        "epoch {epoch}/{} loss {loss:.4}{}",
                        self.epochs, self.validation
                    ),
                );
            }
            train::Progress::Epoch(ref record) => self.epoch(record),
        }
    }

    fn epoch(&mut self, record: &EpochRecord) {
        let seconds = self.epoch_started.elapsed().as_secs_f64();
        self.epoch_started = Instant::now();
        if let Some(score) = record.validation {
            self.validation = format!(" NDCG@10 {:.4}", score.ndcg_at_10);
            if let Some(progress) = &self.progress {
                progress.line(&format!(
                    "epoch {}: loss {:.4}, validation NDCG@10 {:.4}, {:.0} examples/s",
                    record.epoch,
                    record.loss,
                    score.ndcg_at_10,
                    record.examples as f64 / seconds.max(1e-9)
                ));
            }
        }
        self.log.push(log_of(record, Some(seconds)));
    }

    fn finish(self, trained: &Trained) -> Vec<EpochLog> {
        if let Some(progress) = self.progress {
            progress.finish(&format!(
                "{} epochs, the best is {}",
                trained.epochs.len(),
                trained.best_epoch
            ));
        }
        self.log
    }
}

fn log_of(record: &EpochRecord, seconds: Option<f64>) -> EpochLog {
    let validation = record.validation.map(|score| {
        [
            ("ndcg_at_10", score.ndcg_at_10),
            ("recall_at_20", score.recall_at_20),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    });
    EpochLog {
        epoch: record.epoch,
        loss: record.loss,
        seconds,
        examples_per_second: seconds.map(|seconds| record.examples as f64 / seconds.max(1e-9)),
        validation: validation.into_iter().flatten().collect(),
    }
}
