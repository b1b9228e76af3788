//! Likes in, a trained model out: the number of epochs is chosen on validation, then everything seen is learned.

mod watch;

use super::checkpoint::Checkpoints;
use super::cohorts::{Cohort, cohorts};
use super::train::BaseModel;
use super::training_set::TrainingSet;
use super::{Interrupt, JobError, Resume, TrainOptions, size};
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_core::split::Phase;
use twotower_core::train::{
    self, Base, FineTuneError, Goal, ResumeError, Run, TrainError, Trained, TrainingData,
};
use watch::Watch;

/// One epoch as the manifest keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EpochLog {
    /// From 1.
    pub(super) epoch: usize,
    /// Mean loss, nats.
    pub(super) loss: f32,
    /// Wall time of the epoch, validation included, seconds; not known of an epoch before a resumption.
    pub(super) seconds: Option<f64>,
    /// Examples per second; of an epoch that was cut off in the middle, of its rest.
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
    /// Of the run that chose the epoch; where none did, of the only one.
    pub(super) log: Vec<EpochLog>,
}

/// Chooses the number of epochs on validation, then trains afresh on training and validation likes for as many. Where nobody in
/// validation is known from training nothing can be chosen, and all epochs are run once.
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
        let chosen = if ranked {
            Some(trainer.run(Phase::Validation, Goal::Best(&held_out))?)
        } else {
            tracing::info!(
                "nobody who is known from the training part has a like in the validation part: all {} epochs are run, and none is chosen",
                hyperparameters.epochs
            );
            None
        };
        let (best_epoch, validation_ndcg_at_10) = match &chosen {
            Some((chosen, ..)) => (chosen.best_epoch, validation_ndcg_at_10(chosen)),
            None => (hyperparameters.epochs, None),
        };
        // Its model is not needed any more.
        let log_of_choice = chosen.map(|(.., log)| log);
        let (trained, optimizer, log) = trainer.run(Phase::Test, Goal::Epochs(best_epoch))?;
        let cohorts = cohorts(&trained.model, data)?;
        Ok(Fit {
            model: trained.model,
            optimizer,
            learned_until: data.learned_until(),
            best_epoch,
            validation_ndcg_at_10,
            cohorts,
            log: log_of_choice.unwrap_or(log),
        })
    })
}

/// Of the best epoch.
fn validation_ndcg_at_10(trained: &Trained) -> Option<f64> {
    let best = trained.epochs.get(trained.best_epoch.checked_sub(1)?)?;
    best.validation.map(|score| score.ndcg_at_10)
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
        let known = self
            .base
            .map_or(0, |base| base.model.preprocessing.table_rows());
        size::check(&self.data.catalogue, self.hyperparameters, known, || {
            let data = self.data.seen_before(Phase::Test);
            let base = self.base.map(|base| &base.model);
            Ok(train::table_rows(&data, self.hyperparameters, base)?)
        })
    }

    /// Trains on what is seen before `phase`, with progress and checkpoints.
    fn run(
        &self,
        phase: Phase,
        goal: Goal<'_>,
    ) -> anyhow::Result<(Trained, Vec<u8>, Vec<EpochLog>)> {
        let mut run = self.begin(phase, self.data.seen_before(phase), goal)?;
        let memory = run.memory();
        tracing::info!("memory of training: {memory}");
        if let Some(limit) = self.memory_limit {
            ensure!(
                memory.total() as u64 <= limit,
                "training takes {memory}, and --memory-limit is {:.0} MB: raise it, or {}",
                limit as f64 / 1e6,
                self.instead("lower --embedding-dim, --batch-size or ngram_buckets")
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
            // Resuming during the refit must not choose the number of epochs again.
            self.save(phase, &mut run)?;
        }
        let optimizer = run.optimizer_state()?;
        let trained = run.finish();
        let log = watch.finish(&trained);
        Ok((trained, optimizer, log))
    }

    /// What else to do about hyperparameters: `change` them, unless they are those of the model that is gone on from.
    fn instead(&self, change: &str) -> String {
        self.base.map_or_else(
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
            // Nobody is there to remove what cannot be gone on from: of other data, or written by another version, or damaged.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::time::Duration;
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

    fn options(resume: Resume) -> TrainOptions {
        TrainOptions {
            hyperparameters: Hyperparameters {
                embedding_dim: 4,
                user_hidden: 4,
                item_hidden: 4,
                epochs: 1,
                batch_size: 4,
                min_users: 1,
                ngram_buckets: 8,
                ..Hyperparameters::default()
            },
            split: SplitKind::Llo,
            max_age_days: None,
            threads: 1,
            output_dir: PathBuf::new(),
            checkpoint_minutes: 0,
            resume,
            from: None,
            shards: None,
        }
    }

    fn base_of(fit: Fit) -> BaseModel {
        BaseModel {
            model: fit.model,
            optimizer: fit.optimizer,
            version: 1,
            split: SplitKind::Llo,
            seen_until: 4,
            learned_since_us: None,
            epochs: 1,
            erasures_seen: 0,
        }
    }

    /// The like that leave-last-out held out of the base is new to it once another one has come.
    #[test]
    fn one_more_like_of_each_user_is_something_to_fine_tune_with() {
        let (options, interrupt) = (options(Resume::No), Interrupt::default());
        let base = base_of(fit(&likes_of(5, None), &options, None, &interrupt).unwrap());
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

    /// What goes on from a model cannot be given other hyperparameters, so that no flag for them is named alone.
    #[test]
    fn what_diverges_is_told_what_can_be_done() {
        let interrupt = Interrupt::default();
        let mut wild = options(Resume::No);
        let base = fit(&likes_of(5, None), &wild, None, &interrupt).unwrap();
        wild.hyperparameters.learning_rate = 1e30;
        let afresh = fit(&likes_of(5, None), &wild, None, &interrupt).unwrap_err();
        let afresh = format!("{afresh:#}");
        assert!(
            afresh.contains("diverged; lower --learning-rate or raise --temperature"),
            "{afresh}"
        );
        let mut base = base_of(base);
        base.model.hyperparameters.learning_rate = 1e30;
        let data = likes_of(6, Some(base.seen_until));
        let tuned = fine_tune(&data, &base, &wild, None, &interrupt).unwrap_err();
        let tuned = format!("{tuned:#}");
        assert!(
            tuned.contains("train afresh, without --from, and lower --learning-rate"),
            "{tuned}"
        );
    }

    fn checkpoints(folder: &Path, resume: Resume) -> Checkpoints {
        Checkpoints {
            folder: folder.to_owned(),
            data: "likes".into(),
            resume,
            interval: Duration::from_hours(1),
        }
    }

    /// Nobody is there at night to remove it.
    #[test]
    fn what_cannot_be_gone_on_from_does_not_stop_a_run_that_may_begin_afresh() {
        let folder = tempfile::tempdir().unwrap();
        let interrupt = Interrupt::default();
        let data = likes_of(5, None);
        let learn = |resume: Resume| {
            let checkpoints = checkpoints(folder.path(), resume);
            fit(&data, &options(resume), Some(&checkpoints), &interrupt)
        };
        let bytes = |fit: Fit| fit.model.to_safetensors().unwrap();
        let expected = bytes(learn(Resume::No).unwrap());
        let path = checkpoints(folder.path(), Resume::No).path(Phase::Validation);
        let whole = std::fs::read(&path).unwrap();
        let cut = whole[..whole.len() / 2].to_vec();
        let mut of_another_version = whole.clone();
        let tag = whole.windows(3).position(|word| word == b"tag").unwrap();
        of_another_version[tag..tag + 3].copy_from_slice(b"gat");
        for damaged in [cut, of_another_version, b"no file of tensors".to_vec()] {
            std::fs::write(&path, &damaged).unwrap();
            assert!(learn(Resume::Always).is_err());
            assert!(bytes(learn(Resume::IfSame).unwrap()) == expected);
        }
    }

    /// With nobody to choose epochs by there is one run, of all epochs.
    #[test]
    fn where_nothing_can_be_chosen_training_runs_once() {
        let folder = tempfile::tempdir().unwrap();
        let (interrupt, checkpoints) =
            (Interrupt::default(), checkpoints(folder.path(), Resume::No));
        let learn = |data: &TrainingSet| {
            let mut options = options(Resume::No);
            options.hyperparameters.epochs = 2;
            fit(data, &options, Some(&checkpoints), &interrupt).unwrap()
        };
        // Leave-last-out holds nothing out of two likes.
        let fit = learn(&likes_of(2, None));
        assert_eq!((fit.best_epoch, fit.log.len()), (2, 2));
        assert_eq!(fit.validation_ndcg_at_10, None);
        let chosen = checkpoints.path(Phase::Validation);
        assert!(!chosen.exists());
        learn(&likes_of(5, None));
        assert!(chosen.exists(), "the run that chose keeps its end");
    }
}
