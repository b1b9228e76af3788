//! A snapshot in, a model folder out.

use super::checkpoint::Checkpoints;
use super::data::read_data;
use super::fit::fit;
use super::{Interrupt, now_us};
use anyhow::Context;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::Dataset;
use twotower_core::split::SplitKind;
use twotower_store::model_files::{self, ModelInfo, TrainedOn};
use twotower_store::{Source, Store, snapshot_sha256};

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
    /// Go on from the checkpoint of a run that was cut off, if there is one.
    pub resume: bool,
}

/// What was trained.
#[derive(Debug, Clone, Serialize)]
pub struct TrainReport {
    /// Version of the model.
    pub version: i64,
    /// Its folder.
    pub path: PathBuf,
    /// Epoch chosen on validation.
    pub best_epoch: usize,
    /// Validation NDCG@10 of that epoch over warm users.
    pub validation_ndcg_at_10: Option<f64>,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// Reads a snapshot, trains on it and saves the model.
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
    let snapshot = read_data(store, source, options.max_age_days).await?;
    let sha = snapshot_sha256(&snapshot.dataset);
    let checkpoints = checkpoints(options, &sha);
    if let Some(checkpoints) = checkpoints.as_ref().filter(|_| !options.resume) {
        checkpoints.clear()?;
    }
    let (fit, dataset) = {
        let (options, interrupt) = (options.clone(), interrupt.clone());
        let (dataset, checkpoints) = (snapshot.dataset, checkpoints.clone());
        tokio::task::spawn_blocking(move || {
            fit(&dataset, &options, checkpoints.as_ref(), &interrupt).map(|fit| (fit, dataset))
        })
        .await??
    };
    let version = store
        .next_model_version()
        .await
        .context("number the model")?;
    let info = ModelInfo {
        version,
        created_at_us: now_us(),
        trained_on: trained_on(&dataset, snapshot.cut_off_us, sha, options),
        metrics: json!({
            "best_epoch": fit.best_epoch,
            "validation": { "ndcg_at_10": fit.validation_ndcg_at_10 },
        }),
        training_log: serde_json::to_value(&fit.log)?,
    };
    let output_dir = options.output_dir.clone();
    let model = fit.model;
    let path = tokio::task::spawn_blocking(move || model_files::save(&output_dir, &model, &info))
        .await?
        .context("save the model")?
        .0;
    if let Some(checkpoints) = checkpoints {
        checkpoints.clear()?;
    }
    Ok(TrainReport {
        version,
        path,
        best_epoch: fit.best_epoch,
        validation_ndcg_at_10: fit.validation_ndcg_at_10,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Where checkpoints go, unless none are wanted.
fn checkpoints(options: &TrainOptions, snapshot_sha256: &str) -> Option<Checkpoints> {
    let minutes = u64::from(options.checkpoint_minutes);
    (minutes > 0).then(|| Checkpoints {
        folder: options.output_dir.clone(),
        data: format!("{snapshot_sha256} {}", split_name(options.split)),
        resume: options.resume,
        interval: Duration::from_secs(60 * minutes),
    })
}

fn trained_on(
    dataset: &Dataset,
    cut_off_us: Option<i64>,
    snapshot_sha256: String,
    options: &TrainOptions,
) -> TrainedOn {
    TrainedOn {
        cut_off_us,
        snapshot_sha256,
        likes: dataset.likes.len() as u64,
        skips: dataset.skips.len() as u64,
        users: dataset.users as u64,
        videos: dataset.catalogue.len() as u64,
        split: split_name(options.split).into(),
    }
}

/// As in flags and files.
pub(super) fn split_name(split: SplitKind) -> &'static str {
    match split {
        SplitKind::Temporal => "temporal",
        SplitKind::Llo => "llo",
    }
}
