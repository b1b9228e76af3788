//! A snapshot in, a model folder out.

use super::{Interrupt, JobError, check_sufficiency, now_us};
use crate::progress::Progress;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::Dataset;
use twotower_core::split::{HeldOut, Phase, Split, SplitKind};
use twotower_core::train::{self, EpochRecord, TrainError, Trained, TrainingData};
use twotower_store::model_files::{self, ModelInfo, TrainedOn};
use twotower_store::{Snapshot, SnapshotOptions, Source, Store, snapshot_sha256};

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
    let snapshot = store
        .read_snapshot(
            source,
            SnapshotOptions {
                max_age_days: options.max_age_days,
            },
        )
        .await
        .context("read likes and videos")?;
    describe(&snapshot);
    for shortage in check_sufficiency(&snapshot.dataset)? {
        tracing::warn!("few data: {shortage}");
    }
    let sha = snapshot_sha256(&snapshot.dataset);
    let (fit, dataset) = {
        let (options, interrupt) = (options.clone(), interrupt.clone());
        let dataset = snapshot.dataset;
        tokio::task::spawn_blocking(move || {
            fit(&dataset, &options, &interrupt).map(|fit| (fit, dataset))
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
    let trained = fit.trained;
    let path =
        tokio::task::spawn_blocking(move || model_files::save(&output_dir, &trained.model, &info))
            .await?
            .context("save the model")?
            .0;
    Ok(TrainReport {
        version,
        path,
        best_epoch: fit.best_epoch,
        validation_ndcg_at_10: fit.validation_ndcg_at_10,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn describe(snapshot: &Snapshot) {
    let dataset = &snapshot.dataset;
    tracing::info!(
        "{} likes, {} skips, {} users, {} videos",
        dataset.likes.len(),
        dataset.skips.len(),
        dataset.users,
        dataset.catalogue.len()
    );
    if snapshot.orphans > 0 {
        tracing::warn!(
            "{} likes and skips name a video that is not in the catalogue and were left out",
            snapshot.orphans
        );
    }
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

/// A model and how it came to be.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) trained: Trained,
    pub(super) best_epoch: usize,
    pub(super) validation_ndcg_at_10: Option<f64>,
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
    let split = Split::new(dataset, options.split);
    let held_out = split.held_out_users(Phase::Validation);
    let validation =
        Some(&held_out).filter(|held_out| held_out.users.iter().any(|user| !user.likes.is_empty()));
    let selected = pool.install(|| {
        run(
            dataset,
            &split,
            Phase::Validation,
            &options.hyperparameters,
            validation,
            "training",
            interrupt,
        )
    })?;
    let best_epoch = selected.0.best_epoch;
    let validation_ndcg_at_10 = selected
        .0
        .epochs
        .get(best_epoch - 1)
        .and_then(|epoch| epoch.validation_ndcg_at_10);
    let final_run = Hyperparameters {
        epochs: best_epoch,
        ..options.hyperparameters.clone()
    };
    let (mut trained, _) = pool.install(|| {
        run(
            dataset,
            &split,
            Phase::Test,
            &final_run,
            None,
            "refit",
            interrupt,
        )
    })?;
    trained.model.hyperparameters = options.hyperparameters.clone();
    Ok(Fit {
        trained,
        best_epoch,
        validation_ndcg_at_10,
        log: selected.1,
    })
}

/// Trains on what is seen before `phase`, with progress.
fn run(
    dataset: &Dataset,
    split: &Split,
    phase: Phase,
    hyperparameters: &Hyperparameters,
    validation: Option<&HeldOut>,
    title: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<(Trained, Vec<EpochLog>)> {
    let (likes, skips) = (split.seen(phase), split.seen_skips(phase));
    let data = TrainingData {
        catalogue: &dataset.catalogue,
        users: dataset.users,
        likes: &likes,
        skips: &skips,
    };
    let mut log = Vec::new();
    let mut progress: Option<Progress> = None;
    let mut last_validation = String::new();
    let mut epoch_started = Instant::now();
    let trained = train::train(data, hyperparameters, validation, &mut |event| {
        match event {
            train::Progress::Step {
                epoch,
                examples,
                of,
                loss,
            } => {
                let progress = progress.get_or_insert_with(|| {
                    Progress::start(title, (of * hyperparameters.epochs) as u64)
                });
                let done = ((epoch - 1) * of + examples) as u64;
                progress.set(
                    done,
                    &format!(
                        "epoch {epoch}/{} loss {loss:.4}{last_validation}",
                        hyperparameters.epochs
                    ),
                );
            }
            train::Progress::Epoch(record) => {
                let seconds = epoch_started.elapsed().as_secs_f64();
                epoch_started = Instant::now();
                let entry = epoch_log(record, seconds);
                if let Some(ndcg) = record.validation_ndcg_at_10 {
                    last_validation = format!(" NDCG@10 {ndcg:.4}");
                    if let Some(progress) = &progress {
                        progress.line(&format!(
                            "epoch {}: loss {:.4}, validation NDCG@10 {ndcg:.4}, {:.0} examples/s",
                            record.epoch, record.loss, entry.examples_per_second
                        ));
                    }
                }
                log.push(entry);
            }
        }
        if interrupt.is_set() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let trained = match trained {
        Err(TrainError::Interrupted) => return Err(JobError::Interrupted.into()),
        trained => trained?,
    };
    if let Some(progress) = progress {
        progress.finish(&format!(
            "{} epochs, the best is {}",
            trained.epochs.len(),
            trained.best_epoch
        ));
    }
    Ok((trained, log))
}

fn epoch_log(record: &EpochRecord, seconds: f64) -> EpochLog {
    EpochLog {
        epoch: record.epoch,
        loss: record.loss,
        seconds,
        examples_per_second: record.examples as f64 / seconds.max(1e-9),
        validation: record
            .validation_ndcg_at_10
            .map(|ndcg| ("ndcg_at_10".to_owned(), ndcg))
            .into_iter()
            .collect(),
    }
}
