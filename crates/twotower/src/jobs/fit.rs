//! Likes in, a trained model out: the number of epochs is chosen on validation, then everything seen is learned.

use super::{Interrupt, JobError, TrainOptions};
use crate::progress::Progress;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::Dataset;
use twotower_core::model::Model;
use twotower_core::split::{HeldOut, Phase, Split};
use twotower_core::train::{self, EpochRecord, TrainError, Trained, TrainingData};

/// One epoch as the manifest keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EpochLog {
    /// From 1.
    pub(super) epoch: usize,
    /// Mean loss, nats.
    pub(super) loss: f32,
    /// Wall time of the epoch, validation included, seconds.
    pub(super) seconds: f64,
    /// Examples per second.
    pub(super) examples_per_second: f64,
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
    interrupt: &Interrupt,
) -> anyhow::Result<Fit> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .build()
        .context("start training threads")?;
    pool.install(|| {
        let trainer = Trainer {
            dataset,
            split: Split::new(dataset, options.split),
            interrupt,
        };
        let held_out = trainer.split.held_out_users(Phase::Validation);
        let ranked = held_out.users.iter().any(|user| !user.likes.is_empty());
        let validation = ranked.then_some(&held_out);
        let (chosen, log) = trainer.run(Phase::Validation, &options.hyperparameters, validation)?;
        let best_epoch = chosen.best_epoch;
        let validation_ndcg_at_10 = chosen
            .epochs
            .get(best_epoch - 1)
            .and_then(|epoch| epoch.validation_ndcg_at_10);
        let as_long = Hyperparameters {
            epochs: best_epoch,
            ..options.hyperparameters.clone()
        };
        let (trained, _) = trainer.run(Phase::Test, &as_long, None)?;
        let model = Model {
            hyperparameters: options.hyperparameters.clone(),
            ..trained.model
        };
        Ok(Fit {
            model,
            best_epoch,
            validation_ndcg_at_10,
            log,
        })
    })
}

/// Trains on parts of one split.
struct Trainer<'a> {
    dataset: &'a Dataset,
    split: Split,
    interrupt: &'a Interrupt,
}

impl Trainer<'_> {
    /// Trains on what is seen before `phase`, with progress.
    fn run(
        &self,
        phase: Phase,
        hyperparameters: &Hyperparameters,
        validation: Option<&HeldOut>,
    ) -> anyhow::Result<(Trained, Vec<EpochLog>)> {
        let (likes, skips) = (self.split.seen(phase), self.split.seen_skips(phase));
        let data = TrainingData {
            catalogue: &self.dataset.catalogue,
            users: self.dataset.users,
            likes: &likes,
            skips: &skips,
        };
        let title = match phase {
            Phase::Validation => "training",
            Phase::Test => "refit",
        };
        let mut watch = Watch::new(title, hyperparameters.epochs);
        let trained = train::train(data, hyperparameters, validation, &mut |event| {
            watch.see(event);
            if self.interrupt.is_set() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match trained {
            Err(TrainError::Interrupted) => Err(JobError::Interrupted.into()),
            trained => {
                let trained = trained?;
                let log = watch.finish(&trained);
                Ok((trained, log))
            }
        }
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
    fn new(title: &'static str, epochs: usize) -> Self {
        Self {
            title,
            epochs,
            progress: None,
            validation: String::new(),
            epoch_started: Instant::now(),
            log: Vec::new(),
        }
    }

    fn see(&mut self, event: train::Progress<'_>) {
        match event {
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
            train::Progress::Epoch(record) => self.epoch(record),
        }
    }

    fn epoch(&mut self, record: &EpochRecord) {
        let seconds = self.epoch_started.elapsed().as_secs_f64();
        self.epoch_started = Instant::now();
        let examples_per_second = record.examples as f64 / seconds.max(1e-9);
        let mut validation = BTreeMap::new();
        if let Some(ndcg) = record.validation_ndcg_at_10 {
            validation.insert("ndcg_at_10".to_owned(), ndcg);
            self.validation = format!(" NDCG@10 {ndcg:.4}");
            if let Some(progress) = &self.progress {
                progress.line(&format!(
                    "epoch {}: loss {:.4}, validation NDCG@10 {ndcg:.4}, {examples_per_second:.0} examples/s",
                    record.epoch, record.loss
                ));
            }
        }
        self.log.push(EpochLog {
            epoch: record.epoch,
            loss: record.loss,
            seconds,
            examples_per_second,
            validation,
        });
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
