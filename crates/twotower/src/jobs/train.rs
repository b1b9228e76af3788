//! A snapshot or shards in, a model folder out.

use super::card::Card;
use super::checkpoint::Checkpoints;
use super::data::{read_data, read_shards};
use super::file::lock_folder;
use super::fit::{Fit, fine_tune, fit};
use super::training_set::TrainingSet;
use super::{Interrupt, Retry, now_us};
use anyhow::Context;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use twotower_core::hyperparameters::{Hyperparameters, LEAST_USERS};
use twotower_core::model::Model;
use twotower_core::split::SplitKind;
use twotower_core::time::SECOND_US;
use twotower_store::model_files::{self, ModelInfo, Origin, TrainedOn};
use twotower_store::{Source, Store, StoreError, snapshot_sha256};

/// Passes over new likes and as many old ones, unless the caller says otherwise.
pub const FINE_TUNING_EPOCHS: usize = 2;

/// A model to go on from.
#[derive(Debug, Clone, PartialEq)]
pub struct FineTuning {
    /// Its folder, or a folder of models, whose newest is taken.
    pub folder: PathBuf,
    /// Passes over the new likes.
    pub epochs: usize,
}

/// What becomes of the checkpoint of a run that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Nothing: training begins afresh.
    No,
    /// Training goes on from it if it is of the same data and hyperparameters, else it begins afresh.
    IfSame,
    /// Training goes on from it, and fails if it is of others.
    Always,
}

/// What to train and where to put it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Hyperparameters.
    pub hyperparameters: Hyperparameters,
    /// How likes are cut.
    pub split: SplitKind,
    /// Leave out older likes and skips.
    pub max_age_days: Option<u32>,
    /// Threads.
    pub threads: usize,
    /// Folder of models.
    pub output_dir: PathBuf,
    /// Minutes between two checkpoints; 0: none.
    pub checkpoint_minutes: u32,
    /// Whether to go on from the checkpoint of a run that was cut off, if there is one.
    pub resume: Resume,
    /// Go on from a model, with its hyperparameters and its split, instead of training afresh.
    pub from: Option<FineTuning>,
    /// Learn from a folder of shards instead of the database.
    pub shards: Option<ShardOptions>,
}

/// Shards to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardOptions {
    /// Their folder.
    pub folder: PathBuf,
    /// Most memory that training may take, bytes; likes and skips are then read from disk while they are learned.
    pub memory_limit: Option<u64>,
}

/// What was trained.
#[derive(Debug, Clone, Serialize)]
pub struct TrainReport {
    /// Version of the model.
    pub version: i64,
    /// Its folder.
    pub path: PathBuf,
    /// Epoch chosen on validation; of fine-tuning all.
    pub best_epoch: usize,
    /// Version that it was fine-tuned from.
    pub fine_tuned_from: Option<i64>,
    /// Validation NDCG@10 of that epoch over warm users.
    pub validation_ndcg_at_10: Option<f64>,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// Reads a snapshot or shards, trains on it and saves the model.
///
/// # Errors
/// If the data are too few, the store or the disk fails, or `interrupt` is set; no model folder is left then.
pub async fn train(
    store: &Store,
    source: &Source,
    options: &TrainOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<TrainReport> {
    let started = Instant::now();
    let base = match &options.from {
        Some(tuning) => Some(base(tuning).await?),
        None => None,
    };
    warn_of_few_users(base.as_ref(), options);
    let split = base.as_ref().map_or(options.split, |base| base.split);
    let fine_tuned_from = base.as_ref().map(|base| base.version);
    let base_until = base.as_ref().map(|base| base.seen_until);
    let base_since = base.as_ref().map(|base| base.learned_since_us);
    let (data, facts) = read(store, source, options, split, base_until).await?;
    // Who was erased since the base was trained may be in the base, and so in what comes of it.
    let erasures_seen = base
        .as_ref()
        .map_or(i64::MAX, |base| base.erasures_seen)
        .min(facts.erasures_seen);
    let earliest = facts.earliest_like.map(|at| i64::from(at) * SECOND_US);
    let learned_since_us = base_since.unwrap_or(earliest);
    let checkpoints = checkpoints(options, split, base.as_ref(), &facts.sha256);
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
        tokio::task::spawn_blocking(move || match &base {
            Some(base) => fine_tune(&data, base, &options, checkpoints.as_ref(), &interrupt),
            None => fit(&data, &options, checkpoints.as_ref(), &interrupt),
        })
        .await??
    };
    let version = number(store, interrupt).await?;
    let created_at_us = now_us();
    let trained_on = TrainedOn {
        cut_off_us: facts.cut_off_us,
        learned_until_us: fit.learned_until.map(|at| i64::from(at) * SECOND_US),
        learned_since_us,
        fine_tuned_from,
        snapshot_sha256: facts.sha256,
        likes: facts.likes,
        skips: facts.skips,
        users: facts.users,
        videos: facts.videos,
        split,
        erasures_seen: Some(erasures_seen),
        origin: Some(if options.shards.is_some() {
            Origin::Shards
        } else {
            Origin::Database
        }),
        max_age_days: (options.max_age_days).filter(|_| options.shards.is_none()),
    };
    let card = Card {
        version,
        created_at_us,
        model: &fit.model,
        trained_on: &trained_on,
        since_us: earliest,
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

/// Says that rows of the model's files will tell of fewer people than they may by default.
fn warn_of_few_users(base: Option<&BaseModel>, options: &TrainOptions) {
    let hyperparameters = base.map_or(&options.hyperparameters, |base| &base.model.hyperparameters);
    if hyperparameters.min_users < LEAST_USERS {
        tracing::warn!(
            "min_users is {}: rows of the model's files may tell of so few people, and are to be kept as the likes are",
            hyperparameters.min_users
        );
    }
}

/// For the number of what was trained, some eight minutes. A next try of the whole would learn from data of its own, so that no checkpoint fits
/// them, and train for hours once more.
const PATIENCE: Retry = Retry {
    attempts: 11,
    first_pause: Duration::from_millis(500),
};

/// The next number of a model. Two for one model do no harm, so that a server which does not answer is asked again as well.
async fn number(store: &Store, interrupt: &Interrupt) -> anyhow::Result<i64> {
    let passes = |error: &StoreError| error.may_pass() || error.is_deadline();
    let numbered = match store.next_model_version().await {
        Err(error) if passes(&error) => {
            let next = || store.next_model_version();
            let again = PATIENCE.run_while(passes, "number the model", next);
            interrupt.cut(again).await?
        }
        numbered => numbered,
    };
    numbered.context("number the model")
}

/// What a manifest says of what is learned from.
struct Facts {
    sha256: String,
    /// Microseconds since 1970.
    cut_off_us: Option<i64>,
    /// Seconds since 1970.
    earliest_like: Option<u32>,
    likes: u64,
    skips: u64,
    users: u64,
    videos: u64,
    erasures_seen: i64,
}

/// Reads the database, or shards where they are asked for.
async fn read(
    store: &Store,
    source: &Source,
    options: &TrainOptions,
    split: SplitKind,
    base_until: Option<u32>,
) -> anyhow::Result<(TrainingSet, Facts)> {
    let Some(shards) = options.shards.clone() else {
        let snapshot = read_data(store, source, options.max_age_days).await?;
        let dataset = &snapshot.dataset;
        let facts = Facts {
            sha256: snapshot_sha256(dataset),
            cut_off_us: snapshot.cut_off_us,
            earliest_like: dataset.likes.iter().map(|like| like.at).min(),
            likes: dataset.likes.len() as u64,
            skips: dataset.skips.len() as u64,
            users: dataset.users as u64,
            videos: dataset.catalogue.len() as u64,
            erasures_seen: snapshot.erasures_seen,
        };
        let data = TrainingSet::of_snapshot(snapshot.dataset, split, base_until);
        return Ok((data, facts));
    };
    let scratch = options.output_dir.clone();
    let read = move || read_shards(&shards, split, base_until, &scratch);
    let shards = tokio::task::spawn_blocking(read)
        .await?
        .context("read the shards")?;
    let manifest = &shards.manifest;
    let facts = Facts {
        sha256: shards.sha256,
        cut_off_us: shards.cut_off_us,
        earliest_like: shards.earliest_like,
        likes: manifest.likes,
        skips: manifest.skips,
        users: manifest.users,
        videos: manifest.videos,
        erasures_seen: manifest.erasures_seen,
    };
    let data = TrainingSet {
        catalogue: shards.catalogue,
        histories: Arc::new(shards.histories),
    };
    Ok((data, facts))
}

/// Where checkpoints go, unless none are wanted.
fn checkpoints(
    options: &TrainOptions,
    split: SplitKind,
    base: Option<&BaseModel>,
    snapshot_sha256: &str,
) -> Option<Checkpoints> {
    // How many epochs there will be decides about the learning rate of each.
    let from = base.map_or(String::new(), |base| {
        format!(" from {}, {} epochs", base.version, base.epochs)
    });
    let minutes = u64::from(options.checkpoint_minutes);
    (minutes > 0).then(|| Checkpoints {
        folder: options.output_dir.clone(),
        data: format!("{snapshot_sha256} {}{from}", split.name()),
        resume: options.resume,
        interval: Duration::from_secs(60 * minutes),
    })
}

/// The model to go on from, as its folder has it.
#[derive(Debug)]
pub(super) struct BaseModel {
    pub(super) model: Model,
    pub(super) optimizer: Vec<u8>,
    pub(super) version: i64,
    pub(super) split: SplitKind,
    /// Until when likes were there of which it knows those that [`SplitKind::learned`] says; seconds since 1970.
    pub(super) seen_until: u32,
    /// See [`TrainedOn::learned_since_us`].
    pub(super) learned_since_us: Option<i64>,
    /// Passes over the new likes.
    pub(super) epochs: usize,
    /// See [`TrainedOn::erasures_seen`]; 0 of a model that does not know.
    pub(super) erasures_seen: i64,
}

async fn base(tuning: &FineTuning) -> anyhow::Result<BaseModel> {
    let FineTuning { folder, epochs } = tuning.clone();
    let read = move || -> anyhow::Result<BaseModel> {
        let folder = model_files::resolve(&folder)?;
        let (model, manifest) = model_files::load(&folder)?;
        let trained_on = &manifest.trained_on;
        let split = trained_on.split;
        let seen_until = match split {
            SplitKind::Temporal => trained_on.learned_until_us,
            // Models of before dates of the future were left out may name one.
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
