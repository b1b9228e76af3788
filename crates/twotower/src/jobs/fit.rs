//! Likes in, a trained model out: the number of epochs is chosen on validation, then everything seen is learned.

use super::checkpoint::Checkpoints;
use super::cohorts::{Cohort, cohorts};
use super::train::BaseModel;
use super::training_set::TrainingSet;
use super::{Interrupt, JobError, Resume, TrainOptions, size};
use crate::progress::Progress;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_core::split::Phase;
use twotower_core::train::{
    self, Base, EpochRecord, FineTuneError, Goal, ResumeError, Run, Trained, TrainingData,
};

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
    /// What fine-tuning goes on from.
    pub(super) optimizer: Vec<u8>,
    /// Time of the latest like learned, seconds since 1970.
    pub(super) learned_until: Option<u32>,
    pub(super) best_epoch: usize,
    pub(super) validation_ndcg_at_10: Option<f64>,
    /// On what is held out for test, which nothing was chosen by.
    pub(super) cohorts: Vec<Cohort>,
    /// Of the run that chose the epoch.
    pub(super) log: Vec<EpochLog>,
}

/// Chooses the number of epochs on validation, then trains afresh on training and validation likes for as many.
pub(super) fn fit(
    data: &TrainingSet,
    options: &TrainOptions,
    checkpoints: Option<&Checkpoints>,
    interrupt: &Interrupt,
) -> anyhow::Result<Fit> {
    threads(options.threads)?.install(|| {
        let hyperparameters = &options.hyperparameters;
        let trainer = Trainer {
            data,
            hyperparameters,
            base: None,
            memory_limit: memory_limit(options),
            checkpoints,
            interrupt,
        };
        trainer.check_size()?;
        let held_out = data.validation_users()?;
        let ranked = held_out.users.iter().any(|user| !user.likes.is_empty());
        let goal = if ranked {
            Goal::Best(&held_out)
        } else {
            Goal::Epochs(hyperparameters.epochs)
        };
        let (chosen, _, log) = trainer.run(Phase::Validation, goal)?;
        let best_epoch = chosen.best_epoch;
        let validation_ndcg_at_10 = chosen
            .epochs
            .get(best_epoch - 1)
            .and_then(|epoch| epoch.validation)
            .map(|score| score.ndcg_at_10);
        let (trained, optimizer, _) = trainer.run(Phase::Test, Goal::Epochs(best_epoch))?;
        let cohorts = cohorts(&trained.model, data)?;
        Ok(Fit {
            model: trained.model,
            optimizer,
            learned_until: data.learned_until(),
            best_epoch,
            validation_ndcg_at_10,
            cohorts,
            log,
        })
    })
}

/// Goes on from `base` with what came in since and is not held out for test. Nothing is chosen on validation, parts of which
/// the model has learned already.
pub(super) fn fine_tune(
    data: &TrainingSet,
    base: &BaseModel,
    options: &TrainOptions,
    checkpoints: Option<&Checkpoints>,
    interrupt: &Interrupt,
) -> anyhow::Result<Fit> {
    threads(options.threads)?.install(|| {
        let trainer = Trainer {
            data,
            hyperparameters: &base.model.hyperparameters,
            base: Some(base),
            memory_limit: memory_limit(options),
            checkpoints,
            interrupt,
        };
        trainer.check_size()?;
        let (tuned, optimizer, log) = trainer.run(Phase::Test, Goal::Epochs(base.epochs))?;
        let cohorts = cohorts(&tuned.model, data)?;
        Ok(Fit {
            model: tuned.model,
            optimizer,
            learned_until: data.learned_until(),
            best_epoch: base.epochs,
            validation_ndcg_at_10: None,
            cohorts,
            log,
        })
    })
}

fn memory_limit(options: &TrainOptions) -> Option<u64> {
    options
        .shards
        .as_ref()
        .and_then(|shards| shards.memory_limit)
}

fn threads(number: usize) -> anyhow::Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(number.max(1))
        .build()
        .context("start training threads")
}

/// Trains on what is seen before a phase.
struct Trainer<'a> {
    data: &'a TrainingSet,
    hyperparameters: &'a Hyperparameters,
    /// What to go on from instead of first weights.
    base: Option<&'a BaseModel>,
    /// Most bytes that a run may take.
    memory_limit: Option<u64>,
    checkpoints: Option<&'a Checkpoints>,
    interrupt: &'a Interrupt,
}

impl Trainer<'_> {
    /// Refuses what could not be saved. Saved is what has learned all that is seen before the test, and so has the most rows.
    fn check_size(&self) -> anyhow::Result<()> {
        let known = self.base.map_or(0, |base| size::rows(&base.model));
        size::check(&self.data.catalogue, self.hyperparameters, known, || {
            let data = self.seen_before(Phase::Test);
            let base = self.base.map(|base| &base.model);
            Ok(train::table_rows(&data, self.hyperparameters, base)?)
        })
    }

    fn seen_before(&self, phase: Phase) -> TrainingData<'_> {
        TrainingData {
            catalogue: &self.data.catalogue,
            timelines: self.data.timelines(phase),
        }
    }

    /// Trains on what is seen before `phase`, with progress and checkpoints.
    fn run(
        &self,
        phase: Phase,
        goal: Goal<'_>,
    ) -> anyhow::Result<(Trained, Vec<u8>, Vec<EpochLog>)> {
        let mut run = self.begin(phase, self.seen_before(phase), goal)?;
        let memory = run.memory();
        tracing::info!("memory of training: {memory}");
        if let Some(limit) = self.memory_limit {
            ensure!(
                memory.total() as u64 <= limit,
                "training takes {memory}, and --memory-limit is {:.0} MB: raise it, or lower --embedding-dim, --batch-size or ngram_buckets",
                limit as f64 / 1e6
            );
        }
        let title = match (phase, self.base) {
            (_, Some(_)) => "fine-tuning",
            (Phase::Validation, None) => "training",
            (Phase::Test, None) => "refit",
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
        let optimizer = run.optimizer_state()?;
        let trained = run.finish();
        let log = watch.finish(&trained);
        Ok((trained, optimizer, log))
    }

    /// A run from the beginning.
    fn fresh<'g>(&self, data: TrainingData<'_>, goal: Goal<'g>) -> anyhow::Result<Run<'g>> {
        let Some(base) = self.base else {
            return Ok(Run::new(data, self.hyperparameters, goal)?);
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

    /// A run from the beginning, or from the checkpoint of one that was cut off.
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
            Err(error @ ResumeError::Other { .. }) if checkpoints.resume == Resume::IfSame => {
                tracing::info!(
                    "{} is left: {error}; training begins afresh",
                    checkpoints.path(phase).display()
                );
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use twotower_core::feature::{Catalogue, Video};
    use twotower_core::interaction::{Dataset, Interaction};
    use twotower_core::split::SplitKind;
    use uuid::Uuid;

    const VIDEOS: u32 = 20;

    /// Twelve users, each of whom likes another video a day.
    fn likes_of(days: u32, base_until: Option<u32>) -> TrainingSet {
        let videos = (0..VIDEOS).map(|n| Video {
            id: Uuid::from_u128(u128::from(n)),
            ..Video::default()
        });
        let like = |user: u32, at: u32| Interaction {
            user,
            item: (user + at) % VIDEOS,
            at,
        };
        let dataset = Dataset {
            catalogue: Catalogue::new(videos).unwrap(),
            users: 12,
            likes: (0..days)
                .flat_map(|at| (0..12).map(move |user| like(user, at)))
                .collect(),
            skips: Vec::new(),
        };
        TrainingSet::of_snapshot(dataset, SplitKind::Llo, base_until)
    }

    /// The like that leave-last-out held out of the base is new to it once another one has come.
    #[test]
    fn one_more_like_of_each_user_is_something_to_fine_tune_with() {
        let options = TrainOptions {
            hyperparameters: Hyperparameters {
                embedding_dim: 4,
                user_hidden: 4,
                item_hidden: 4,
                epochs: 1,
                min_users: 1,
                ngram_buckets: 8,
                ..Hyperparameters::default()
            },
            split: SplitKind::Llo,
            max_age_days: None,
            threads: 1,
            output_dir: PathBuf::new(),
            checkpoint_minutes: 0,
            resume: Resume::No,
            from: None,
            shards: None,
        };
        let interrupt = Interrupt::default();
        let Fit {
            model, optimizer, ..
        } = fit(&likes_of(5, None), &options, None, &interrupt).unwrap();
        let base = BaseModel {
            model,
            optimizer,
            version: 1,
            split: SplitKind::Llo,
            seen_until: 4,
            learned_since_us: None,
            epochs: 1,
            erasures_seen: 0,
        };
        let tuned = |days: u32| {
            let data = likes_of(days, Some(base.seen_until));
            fine_tune(&data, &base, &options, None, &interrupt)
        };
        assert_eq!(tuned(6).unwrap().learned_until, Some(4));
        let error = tuned(5).unwrap_err();
        assert!(matches!(
            error.downcast_ref(),
            Some(JobError::NothingNew { version: 1 })
        ));
    }
}
