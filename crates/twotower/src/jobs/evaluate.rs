//! A model against the baselines, on likes it has not seen.

use super::fit::{EpochLog, fit};
use super::train::{split_name, split_named};
use super::training_set::TrainingSet;
use super::{Interrupt, Resume, TrainOptions, check_sufficiency};
use anyhow::Context;
use std::path::{Path, PathBuf};
use twotower_core::evaluate::{BaselineOptions, Comparison, compare};
use twotower_core::interaction::Dataset;
use twotower_core::model::{Model, TwoTower};
use twotower_core::split::{Phase, Split, SplitKind};
use twotower_store::model_files::{self, Manifest};
use twotower_store::{SnapshotOptions, Source, Store, snapshot_sha256};

use crate::report::{EpochRow, Fact, ReportData, render, worked_examples};

/// Users that a report shows.
const EXAMPLES: usize = 4;

/// What to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluateOptions {
    /// `models/<version>`, or a folder of models, whose highest version is taken.
    pub model_path: PathBuf,
    /// How likes are cut; as the model was trained if not given.
    pub split: Option<SplitKind>,
    /// As for training.
    pub max_age_days: Option<u32>,
    /// Threads.
    pub threads: usize,
}

/// An evaluation.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// Version of the model.
    pub version: i64,
    /// The split used.
    pub split: SplitKind,
    /// Why a model was trained afresh for it, if one was.
    pub retrained: Option<&'static str>,
    /// The towers first, then the baselines.
    pub comparison: Comparison,
    /// Where the report was written.
    pub report: PathBuf,
    /// The data, for callers who know more about them.
    pub dataset: Dataset,
    /// Ids of the data's users.
    pub users: Vec<uuid::Uuid>,
}

/// Ranks the held-out likes of `split` by the model and by every baseline, in one run, and writes `report.html` into the
/// model's folder.
///
/// A model may only be judged on likes that it has not seen. If it was trained on another split, or the data have changed
/// since, its *recipe* is judged: a model is trained afresh with its hyperparameters on what the split shows, and the result
/// says so.
///
/// # Errors
/// If the model cannot be read, the data are too few, or `interrupt` is set.
pub async fn evaluate(
    store: &Store,
    source: &Source,
    options: &EvaluateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Evaluated> {
    let path = options.model_path.clone();
    let read = move || {
        // Once: a newer version may get its name meanwhile.
        let folder = model_files::resolve(&path)?;
        model_files::load(&folder).map(|(model, manifest)| (folder, model, manifest))
    };
    let (folder, model, manifest) = tokio::task::spawn_blocking(read)
        .await?
        .context("load the model")?;
    let snapshot = store
        .read_snapshot(
            source,
            SnapshotOptions {
                max_age_days: options.max_age_days,
                pseudonyms: false,
            },
        )
        .await
        .context("read likes and videos")?;
    let trained_split = split_named(&manifest.trained_on.split);
    let split = options.split.unwrap_or(trained_split);
    check_sufficiency((&snapshot.dataset).into())?;
    let (options, interrupt) = (options.clone(), interrupt.clone());
    let users = snapshot.users;
    let dataset = snapshot.dataset;
    tokio::task::spawn_blocking(move || {
        let retrained = if split != trained_split {
            Some("the model was trained on another split")
        } else if snapshot_sha256(&dataset) != manifest.trained_on.snapshot_sha256 {
            Some("the data have changed since the model was trained")
        } else {
            None
        };
        let (model, log, best_epoch) = match retrained {
            None => (model, serde_json::from_value(manifest.training_log.clone()).unwrap_or_default(), best_epoch(&manifest)),
            Some(reason) => {
                tracing::warn!("{reason}: judged is a model trained afresh with its hyperparameters on what the split shows");
                let train = TrainOptions {
                    hyperparameters: model.hyperparameters.clone(),
                    split,
                    max_age_days: options.max_age_days,
                    threads: options.threads,
                    output_dir: PathBuf::new(),
                    checkpoint_minutes: 0,
                    resume: Resume::No,
                    from: None,
                    shards: None,
                };
                let data = TrainingSet::of_snapshot(dataset.clone(), split, None);
                let fit = fit(&data, &train, None, &interrupt)?;
                (fit.model, fit.log, Some(fit.best_epoch))
            }
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads.max(1)).build()?;
        let judged = Judged { model: &model, log, best_epoch, manifest: &manifest, split, retrained };
        let (comparison, html) = pool.install(|| judged.judge(&dataset))?;
        let report = write_report(&folder, &html)?;
        Ok(Evaluated { version: manifest.version, split, retrained, comparison, report, dataset, users })
    })
    .await?
}

fn best_epoch(manifest: &Manifest) -> Option<usize> {
    manifest.metrics["best_epoch"]
        .as_u64()
        .map(|epoch| epoch as usize)
}

/// A model and what a report says of it.
struct Judged<'a> {
    model: &'a Model,
    log: Vec<EpochLog>,
    best_epoch: Option<usize>,
    manifest: &'a Manifest,
    split: SplitKind,
    retrained: Option<&'static str>,
}

impl Judged<'_> {
    fn judge(&self, dataset: &Dataset) -> anyhow::Result<(Comparison, String)> {
        let split = Split::new(dataset, self.split);
        let videos = self
            .model
            .embed_videos(dataset.catalogue.videos())
            .context("embed the videos")?;
        let towers = TwoTower {
            user_tower: &self.model.user_tower,
            videos: &videos,
        };
        let options = BaselineOptions::default();
        let comparison = compare(
            dataset.catalogue.len(),
            &split,
            Phase::Test,
            Some(&towers),
            &options,
        )?;
        let held_out = split.held_out_users(Phase::Test);
        let examples = worked_examples(
            &comparison.evaluations[0],
            &held_out,
            &dataset.catalogue,
            EXAMPLES,
        );
        let again = if self.retrained.is_some() {
            ", trained afresh for this split"
        } else {
            ""
        };
        let html = render(&ReportData {
            title: format!("Model {}", self.manifest.version),
            protocol: format!("{} split, test{again}", split_name(self.split)),
            comparison: comparison.clone(),
            bootstrap: options.bootstrap,
            epochs: self.log.iter().map(epoch_row).collect(),
            best_epoch: self.best_epoch,
            examples,
            hyperparameters: facts(&serde_json::to_value(&self.model.hyperparameters)?),
            data: facts(&serde_json::to_value(&self.manifest.trained_on)?),
        })?;
        Ok((comparison, html))
    }
}

fn epoch_row(log: &EpochLog) -> EpochRow {
    EpochRow {
        epoch: log.epoch,
        loss: f64::from(log.loss),
        seconds: log.seconds,
        examples_per_second: log.examples_per_second,
        validation_ndcg_at_10: log.validation.get("ndcg_at_10").copied(),
    }
}

fn facts(value: &serde_json::Value) -> Vec<Fact> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(name, value)| Fact {
            name: name.clone(),
            value: value.to_string().trim_matches('"').to_owned(),
        })
        .collect()
}

/// Writes beside and renames, so that a reader sees the old report or the new one.
fn write_report(folder: &Path, html: &str) -> anyhow::Result<PathBuf> {
    let (temporary, path) = (folder.join(".report.html.tmp"), folder.join("report.html"));
    std::fs::write(&temporary, html).with_context(|| format!("write {}", temporary.display()))?;
    std::fs::rename(&temporary, &path).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
