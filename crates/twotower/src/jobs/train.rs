//! Trains a model from a snapshot or shards, and saves it in a folder.

#[cfg(test)]
mod tests;

use super::Retry;
use super::card::Card;
use super::checkpoint::Checkpoints;
use super::data::{read_data, read_shards};
use super::fit::{Fit, Trainer};
use super::training_set::TrainingSet;
use crate::files::lock_folder;
use crate::interrupt::Interrupt;
use crate::shards::Shards;
use crate::time::now_us;
use anyhow::Context;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use twotower_core::hyperparameters::{Hyperparameters, LEAST_USERS};
use twotower_core::model::Model;
use twotower_core::split::SplitKind;
use twotower_core::time::SECOND_US;
use twotower_core::tower::{ItemTower, UserTower};
use twotower_store::model_files::{self, ModelInfo, Origin, TrainedOn};
use twotower_store::{Snapshot, Source, Store, StoreError, snapshot_sha256};

/// Default number of passes over new likes and as many old ones.
pub(crate) const FINE_TUNING_EPOCHS: usize = 2;

/// A model to go on from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FineTuning {
    /// The model's folder, or a folder of models, of which the newest is taken.
    pub(crate) folder: PathBuf,
    /// Passes over the new likes.
    pub(crate) epochs: usize,
}

/// What to do with the checkpoint of a run that was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Ignore it: training begins afresh.
    No,
    /// Go on from it if it is of the same data and hyperparameters, else begin afresh.
    IfSame,
    /// Go on from it, and fail if it is of other data or hyperparameters.
    Always,
}

/// Options of training.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrainOptions {
    /// Hyperparameters.
    pub(crate) hyperparameters: Hyperparameters,
    /// How likes are split.
    pub(crate) split: SplitKind,
    /// Leave out older likes and skips.
    pub(crate) max_age_days: Option<u32>,
    /// Threads.
    pub(crate) threads: usize,
    /// Folder of models.
    pub(crate) output_dir: PathBuf,
    /// Minutes between two checkpoints; 0 turns them off.
    pub(crate) checkpoint_minutes: u32,
    /// Whether to go on from the checkpoint of a run that was interrupted, if there is one.
    pub(crate) resume: Resume,
    /// Go on from a model, with its hyperparameters and its split, instead of training afresh.
    pub(crate) from: Option<FineTuning>,
    /// Learn from a folder of shards instead of the database.
    pub(crate) shards: Option<ShardOptions>,
}

/// Shards to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardOptions {
    /// Their folder.
    pub(crate) folder: PathBuf,
    /// At most this many bytes of memory for training; likes and skips are then read from disk
    /// while they are learned.
    pub(crate) memory_limit: Option<u64>,
}

/// The result of training.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TrainReport {
    /// Version of the model.
    pub(crate) version: i64,
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Epoch chosen on validation; the last one after fine-tuning, or if none was chosen because
    /// there was nobody to choose by or no epoch scored above 0.
    pub(crate) best_epoch: usize,
    /// Version that the model was fine-tuned from.
    pub(crate) fine_tuned_from: Option<i64>,
    /// Validation NDCG@10 of that epoch over warm users.
    pub(crate) validation_ndcg_at_10: Option<f64>,
    /// Wall time, seconds.
    pub(crate) seconds: f64,
}

/// Reads a snapshot or shards, trains on it and saves the model.
///
/// # Errors
/// If the data are too few, the store or the disk fails, or `interrupt` is set; no model folder is
/// left then.
pub(crate) async fn train(
    store: &Store,
    source: &Source,
    options: &TrainOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<TrainReport> {
    let started = Instant::now();
    let base = match &options.from {
        Some(tuning) => Some(read_base(tuning).await?),
        None => None,
    };
    warn_of_few_users(base.as_ref(), options);
    let input = read_input(store, source, options, base.as_ref()).await?;
    let mut trained_on = input.trained_on;
    let checkpoints = checkpoints(options, base.as_ref(), &trained_on);
    let _lock = match &checkpoints {
        Some(checkpoints) => Some(lock_folder(&checkpoints.folder, "training")?),
        None => None,
    };
    if let Some(checkpoints) = checkpoints
        .as_ref()
        .filter(|_| options.resume == Resume::No)
    {
        checkpoints.clear()?;
    }
    let fit = {
        let (options, interrupt) = (options.clone(), interrupt.clone());
        let checkpoints = checkpoints.clone();
        tokio::task::spawn_blocking(move || {
            Trainer {
                data: &input.data,
                base,
                options: &options,
                checkpoints: checkpoints.as_ref(),
                interrupt: &interrupt,
            }
            .fit()
        })
        .await??
    };
    let version = next_version(store, &options.output_dir, interrupt).await?;
    let created_at_us = now_us();
    trained_on.learned_until_us = fit.learned_until.map(to_us);
    let fine_tuned_from = trained_on.fine_tuned_from;
    let card = Card {
        version,
        created_at_us,
        model: &fit.model,
        trained_on: &trained_on,
        since_us: input.earliest_like_us,
        cohorts: &fit.cohorts,
    };
    let info = ModelInfo {
        version,
        created_at_us,
        card: card.render(),
        trained_on,
        metrics: json!({
            "best_epoch": fit.best_epoch,
            "validation": { "ndcg_at_10": fit.validation_ndcg_at_10 },
            "cohorts": fit.cohorts,
        }),
        training_log: serde_json::to_value(&fit.log)?,
    };
    let output_dir = options.output_dir.clone();
    let Fit {
        model, optimizer, ..
    } = fit;
    let save = move || model_files::save(&output_dir, &model, &optimizer, &info);
    let (path, _) = tokio::task::spawn_blocking(save)
        .await?
        .context("save the model")?;
    if let Some(checkpoints) = checkpoints {
        checkpoints.clear()?;
    }
    Ok(TrainReport {
        version,
        path,
        best_epoch: fit.best_epoch,
        fine_tuned_from,
        validation_ndcg_at_10: fit.validation_ndcg_at_10,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Warns if rows of the model's files may describe fewer people than the default allows.
fn warn_of_few_users(base: Option<&BaseModel>, options: &TrainOptions) {
    let hyperparameters = base.map_or(&options.hyperparameters, |base| &base.model.hyperparameters);
    if hyperparameters.min_users < LEAST_USERS {
        tracing::warn!(
            "min_users is {}: rows of the model's files may tell of so few people, and are to be kept as the likes are",
            hyperparameters.min_users
        );
    }
}

/// For asking for the number of a trained model: some eight minutes. Repeating the whole job
/// instead would read newer data, which no checkpoint fits, and train for hours once more.
const PATIENCE: Retry = Retry {
    attempts: 11,
    first_pause: Duration::from_millis(500),
};

/// Most numbers that are drawn for one model. A folder whose number is further ahead has it from
/// elsewhere.
const MAX_DRAWS: i64 = 1000;

/// The next version number above all versions that there are. A database that was restored, or
/// lost its last writes, gives numbers again whose models lie in the folder.
async fn next_version(store: &Store, models: &Path, interrupt: &Interrupt) -> anyhow::Result<i64> {
    let registered = patiently(interrupt, || store.models()).await?;
    // There may be no such folder yet.
    let mut taken = model_files::versions(models).unwrap_or_default();
    taken.extend(registered.iter().map(|record| record.version));
    // Taking two numbers for one model is harmless.
    let mut version = patiently(interrupt, || store.next_model_version()).await?;
    let within_reach = version.saturating_add(MAX_DRAWS);
    let (near, far): (Vec<i64>, Vec<i64>) = taken.into_iter().partition(|&it| it < within_reach);
    if let Some(far) = far.into_iter().max() {
        tracing::warn!(
            "the new model's version is below {far}, which there is already: `twotower update` takes only the newest of a folder, so \
             name the new one with --model-path"
        );
    }
    let highest = near.into_iter().max();
    while highest.is_some_and(|highest| version <= highest) {
        interrupt.check()?;
        version = patiently(interrupt, || store.next_model_version()).await?;
    }
    Ok(version)
}

/// Asks the store with [`PATIENCE`], also again if it does not answer in time.
async fn patiently<T, F>(interrupt: &Interrupt, ask: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let passes = |error: &StoreError| error.may_pass() || error.is_deadline();
    let answer = match ask().await {
        Err(error) if passes(&error) => {
            let again = PATIENCE.run_while(passes, "number the model", &ask);
            interrupt.cut(again).await?
        }
        answer => answer,
    };
    answer.context("number the model")
}

/// Data to learn from, and what the manifest says of them.
struct Input {
    data: TrainingSet,
    /// `learned_until_us` is filled in after training.
    trained_on: TrainedOn,
    /// Time of the earliest like, microseconds since 1970.
    earliest_like_us: Option<i64>,
}

/// Reads the database, or shards if there are any in `options`.
async fn read_input(
    store: &Store,
    source: &Source,
    options: &TrainOptions,
    base: Option<&BaseModel>,
) -> anyhow::Result<Input> {
    let split = base.map_or(options.split, |base| base.split);
    let seen_until = base.map(|base| base.seen_until);
    let mut input = if let Some(shards) = options.shards.clone() {
        let scratch = options.output_dir.clone();
        let read = move || read_shards(&shards, split, seen_until, &scratch);
        let shards = tokio::task::spawn_blocking(read).await?;
        of_shards(shards.context("read the shards")?, split)
    } else {
        let snapshot = read_data(store, source, options.max_age_days).await?;
        of_snapshot(snapshot, options, split, seen_until)
    };
    if let Some(base) = base {
        base.add_to(&mut input.trained_on);
    }
    Ok(input)
}

fn of_snapshot(
    snapshot: Snapshot,
    options: &TrainOptions,
    split: SplitKind,
    seen_until: Option<u32>,
) -> Input {
    let dataset = snapshot.dataset;
    let earliest_like_us = dataset.likes.iter().map(|like| to_us(like.at)).min();
    let trained_on = TrainedOn {
        cut_off_us: snapshot.cut_off_us,
        learned_until_us: None,
        learned_since_us: earliest_like_us,
        fine_tuned_from: None,
        snapshot_sha256: snapshot_sha256(&dataset),
        likes: dataset.likes.len() as u64,
        skips: dataset.skips.len() as u64,
        users: dataset.users as u64,
        videos: dataset.catalogue.len() as u64,
        split,
        erasures_seen: Some(snapshot.erasures_seen),
        origin: Some(Origin::Database),
        max_age_days: options.max_age_days,
    };
    Input {
        data: TrainingSet::of_snapshot(dataset, split, seen_until),
        trained_on,
        earliest_like_us,
    }
}

fn of_shards(shards: Shards, split: SplitKind) -> Input {
    let earliest_like_us = shards.earliest_like.map(to_us);
    let manifest = shards.manifest;
    Input {
        data: TrainingSet {
            catalogue: shards.catalogue,
            histories: Arc::new(shards.histories),
        },
        trained_on: TrainedOn {
            cut_off_us: shards.cut_off_us,
            learned_until_us: None,
            learned_since_us: earliest_like_us,
            fine_tuned_from: None,
            snapshot_sha256: shards.sha256,
            likes: manifest.likes,
            skips: manifest.skips,
            users: manifest.users,
            videos: manifest.videos,
            split,
            erasures_seen: Some(manifest.erasures_seen),
            origin: Some(Origin::Shards),
            max_age_days: None,
        },
        earliest_like_us,
    }
}

/// Seconds to microseconds.
fn to_us(at: u32) -> i64 {
    i64::from(at) * SECOND_US
}

/// The place of checkpoints, unless `options` turns them off.
fn checkpoints(
    options: &TrainOptions,
    base: Option<&BaseModel>,
    trained_on: &TrainedOn,
) -> Option<Checkpoints> {
    let from = base.map_or(String::new(), |base| format!(" {}", base.tag()));
    let minutes = u64::from(options.checkpoint_minutes);
    (minutes > 0).then(|| Checkpoints {
        folder: options.output_dir.clone(),
        data: format!(
            "{} {}{from}",
            trained_on.snapshot_sha256,
            trained_on.split.name()
        ),
        resume: options.resume,
        interval: Duration::from_secs(60 * minutes),
    })
}

/// The model to go on from, as it is in its folder.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct BaseModel {
    pub(super) model: Model,
    pub(super) optimizer: Vec<u8>,
    pub(super) version: i64,
    /// Checksum of its manifest.
    pub(super) checksum: String,
    pub(super) split: SplitKind,
    /// Time up to which the base has seen likes, seconds since 1970. It learned those that
    /// [`SplitKind::learned`] says.
    pub(super) seen_until: u32,
    /// See [`TrainedOn::learned_since_us`].
    pub(super) learned_since_us: Option<i64>,
    /// Passes over the new likes.
    pub(super) epochs: usize,
    /// See [`TrainedOn::erasures_seen`]; 0 if its manifest does not say.
    pub(super) erasures_seen: i64,
}

impl BaseModel {
    /// Names the base in checkpoints, with the number of epochs, which determines the learning rate
    /// of each.
    pub(super) fn tag(&self) -> String {
        let Self {
            version,
            checksum,
            epochs,
            ..
        } = self;
        format!("from {version} {checksum}, {epochs} epochs")
    }

    /// Frees the weights and the state of the optimiser, once a run has copied them.
    pub(super) fn free_weights(&mut self) {
        self.model.item_tower = ItemTower::default();
        self.model.user_tower = UserTower::default();
        self.optimizer = Vec::new();
    }

    /// Adds what the fine-tuned model has from its base.
    fn add_to(&self, trained_on: &mut TrainedOn) {
        trained_on.fine_tuned_from = Some(self.version);
        trained_on.learned_since_us = self.learned_since_us;
        // The base may have learned from a user who was erased since, and so does the fine-tuned
        // model.
        trained_on.erasures_seen = trained_on
            .erasures_seen
            .map(|seen| seen.min(self.erasures_seen));
    }
}

async fn read_base(tuning: &FineTuning) -> anyhow::Result<BaseModel> {
    let FineTuning { folder, epochs } = tuning.clone();
    let read = move || -> anyhow::Result<BaseModel> {
        let folder = model_files::resolve(&folder)?;
        let (model, manifest) = model_files::load(&folder)?;
        let trained_on = &manifest.trained_on;
        let split = trained_on.split;
        let seen_until = match split {
            SplitKind::Temporal => trained_on.learned_until_us,
            // The manifest of an old model may name a date in the future.
            SplitKind::Llo => trained_on
                .cut_off_us
                .map(|at_us| at_us.min(manifest.created_at_us)),
        };
        let seen_until = seen_until.with_context(|| {
            format!(
                "{} does not say until when it has learned: train afresh",
                folder.display()
            )
        })?;
        Ok(BaseModel {
            optimizer: model_files::load_optimizer(&folder)?,
            version: manifest.version,
            checksum: manifest.checksum,
            split,
            seen_until: u32::try_from(seen_until / SECOND_US)
                .context("the time until which the model has learned")?,
            learned_since_us: trained_on.learned_since_us,
            epochs,
            erasures_seen: trained_on.erasures_seen.unwrap_or(0),
            model,
        })
    };
    tokio::task::spawn_blocking(read)
        .await?
        .context("read the model to go on from")
}
