//! Compares a model with the baselines, or with another model, on likes that it has not seen.

mod against;

mod read;

pub(crate) use against::Against;

use super::fit::{EpochLog, Trainer};
use super::training_set::TrainingSet;
use super::{Resume, TrainOptions, check_sufficiency};
use crate::files::write_whole;
use crate::interrupt::Interrupt;
use crate::report::{EpochRow, Fact, ReportData, render, worked_examples};
use crate::shards;
use anyhow::Context;
use read::Read;
use std::path::{Path, PathBuf};
use twotower_core::evaluate::{BaselineOptions, Comparison, compare};
use twotower_core::interaction::Dataset;
use twotower_core::model::{Model, TwoTower};
use twotower_core::split::{HeldOut, Phase, Split, SplitKind};
use twotower_store::model_files::{self, Manifest};
use twotower_store::{SnapshotOptions, Source, Store};

/// Name of the report for the split that the model was trained with.
const REPORT: &str = "report.html";

/// Number of example users in a report.
const EXAMPLES: usize = 4;

/// Options of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EvaluateOptions {
    /// `models/<version>`, or a folder of models, of which the highest version is taken.
    pub(crate) model_path: PathBuf,
    /// Another model to compare with: its folder, or the number of a version beside the first
    /// model. Neither is trained afresh then, and the split is one that suits both.
    pub(crate) against: Option<PathBuf>,
    /// How likes are split; if `None`, as for the training of the model.
    pub(crate) split: Option<SplitKind>,
    /// As for training.
    pub(crate) max_age_days: Option<u32>,
    /// Number of threads.
    pub(crate) threads: usize,
}

/// Results of an evaluation.
#[derive(Debug, Clone)]
pub(crate) struct Evaluated {
    /// Version of the model.
    pub(crate) version: i64,
    /// The split used.
    pub(crate) split: SplitKind,
    /// If a model was trained afresh for the evaluation: why, and how to have the model itself
    /// judged.
    pub(crate) retrained: Option<String>,
    /// The model that it was compared with, if any.
    pub(crate) against: Option<Against>,
    /// The towers first, then the other model if there is one, then the baselines.
    pub(crate) comparison: Comparison,
    /// Path of the report.
    pub(crate) report: PathBuf,
    /// The data, for callers that need more than the metrics.
    pub(crate) dataset: Dataset,
    /// Ids of the users of the data; empty for shards, which contain no ids.
    pub(crate) users: Vec<uuid::Uuid>,
}

/// Ranks the held-out likes of `split` with the model and every baseline, and writes `report.html`
/// into the folder of the model. For a split other than that of the model, the file is
/// `report-<split>.html`; for a comparison, `report-against.html`.
///
/// A model may only be judged on likes that it has not seen. If it was trained on another split or
/// from shards, or if the data have changed since, its *recipe* is judged instead: a model is
/// trained afresh with its hyperparameters on the training part of the split, and the result says
/// so.
///
/// # Errors
/// If the model cannot be read, the data are too few, a comparison has no likes that are new to
/// both models, or `interrupt` is set.
pub(crate) async fn evaluate(
    store: &Store,
    source: &Source,
    options: &EvaluateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Evaluated> {
    let models = Models::load(options).await?;
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
    let data = Data {
        dataset: snapshot.dataset,
        users: snapshot.users,
        shards_sha256: None,
    };
    judge(models, data, options, interrupt).await
}

/// As [`evaluate`], with the shards in `folder` instead of a database. A model that was trained
/// from these shards, or from a database with the same rows, is judged itself.
///
/// # Errors
/// As [`evaluate`], and if a file of the shards is missing or damaged.
pub(crate) async fn evaluate_shards(
    folder: &Path,
    options: &EvaluateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Evaluated> {
    let models = Models::load(options).await?;
    let folder = folder.to_owned();
    let (dataset, sha256) = tokio::task::spawn_blocking(move || shards::snapshot(&folder))
        .await?
        .context("read the shards")?;
    let data = Data {
        dataset,
        users: Vec::new(),
        shards_sha256: Some(sha256),
    };
    judge(models, data, options, interrupt).await
}

/// A model and its folder.
struct Loaded {
    folder: PathBuf,
    model: Model,
    manifest: Manifest,
}

async fn load(path: &Path) -> anyhow::Result<Loaded> {
    let path = path.to_owned();
    let read = move || {
        // Resolved once: a newer version may appear meanwhile.
        let folder = model_files::resolve(&path)?;
        let (model, manifest) = model_files::load(&folder)?;
        anyhow::Ok(Loaded {
            folder,
            model,
            manifest,
        })
    };
    tokio::task::spawn_blocking(read)
        .await?
        .context("load the model")
}

/// The model, and the one to compare with.
struct Models {
    model: Loaded,
    other: Option<Loaded>,
}

impl Models {
    async fn load(options: &EvaluateOptions) -> anyhow::Result<Self> {
        let model = load(&options.model_path).await?;
        let other = match &options.against {
            Some(named) => Some(against::load_other(named, &model).await?),
            None => None,
        };
        Ok(Self { model, other })
    }
}

/// Data for judging a model.
struct Data {
    dataset: Dataset,
    users: Vec<uuid::Uuid>,
    /// SHA-256 of the manifest, if the data were read from shards.
    shards_sha256: Option<String>,
}

async fn judge(
    models: Models,
    data: Data,
    options: &EvaluateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Evaluated> {
    check_sufficiency((&data.dataset).into())?;
    let (options, interrupt) = (options.clone(), interrupt.clone());
    tokio::task::spawn_blocking(move || judge_at_once(models, data, &options, &interrupt)).await?
}

/// As [`judge`], blocking.
fn judge_at_once(
    models: Models,
    data: Data,
    options: &EvaluateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Evaluated> {
    let loaded = match models {
        Models {
            model,
            other: Some(other),
        } => return against::judge(model, other, data, options),
        Models { model, other: None } => model,
    };
    let own = loaded.manifest.trained_on.split;
    let split = options.split.unwrap_or(own);
    let read = Read::of(&data, split, options.max_age_days);
    let Data { dataset, users, .. } = data;
    let retrained = read.other_than(&loaded.manifest.trained_on);
    let judged = match &retrained {
        None => Judged::as_trained(loaded),
        Some(reason) => {
            tracing::warn!(
                "{reason}: judged is a model trained afresh with its hyperparameters on what the split shows"
            );
            Judged::trained_afresh(loaded, &dataset, split, options, interrupt)?
        }
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .build()?;
    let (comparison, html) = pool.install(|| judged.judge(&dataset, split))?;
    // `report.html`, which the console shows, is only of the model as it was trained.
    let name = if split == own {
        REPORT.to_owned()
    } else {
        format!("report-{}.html", split.name())
    };
    Ok(Evaluated {
        version: judged.manifest.version,
        split,
        retrained,
        against: None,
        comparison,
        report: write_report(&judged.folder, &name, &html)?,
        dataset,
        users,
    })
}

fn best_epoch(manifest: &Manifest) -> Option<usize> {
    manifest.metrics["best_epoch"]
        .as_u64()
        .map(|epoch| epoch as usize)
}

/// A model, and the facts that a report gives about it.
struct Judged {
    folder: PathBuf,
    model: Model,
    log: Vec<EpochLog>,
    best_epoch: Option<usize>,
    manifest: Manifest,
    is_retrained: bool,
}

impl Judged {
    fn as_trained(loaded: Loaded) -> Self {
        let Loaded {
            folder,
            model,
            manifest,
        } = loaded;
        Self {
            folder,
            model,
            log: serde_json::from_value(manifest.training_log.clone()).unwrap_or_default(),
            best_epoch: best_epoch(&manifest),
            manifest,
            is_retrained: false,
        }
    }

    /// A model with the same hyperparameters, trained on the training part of `split`.
    fn trained_afresh(
        loaded: Loaded,
        dataset: &Dataset,
        split: SplitKind,
        options: &EvaluateOptions,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let train = TrainOptions {
            hyperparameters: loaded.model.hyperparameters,
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
        let mut trainer = Trainer {
            data: &data,
            base: None,
            options: &train,
            checkpoints: None,
            interrupt,
        };
        let fit = trainer.fit()?;
        Ok(Self {
            folder: loaded.folder,
            model: fit.model,
            log: fit.log,
            best_epoch: Some(fit.best_epoch),
            manifest: loaded.manifest,
            is_retrained: true,
        })
    }

    fn judge(&self, dataset: &Dataset, kind: SplitKind) -> anyhow::Result<(Comparison, String)> {
        let split = Split::new(dataset, kind);
        let videos = self
            .model
            .embed_videos(dataset.catalogue.videos())
            .context("embed the videos")?;
        let towers = TwoTower {
            user_tower: &self.model.user_tower,
            videos: &videos,
        };
        let comparison = compare(
            dataset.catalogue.len(),
            &split,
            Phase::Test,
            Some(&towers),
            &BaselineOptions::default(),
        )?;
        let again = if self.is_retrained {
            ", trained afresh for this split"
        } else {
            ""
        };
        let heading = (
            format!("Model {}", self.manifest.version),
            format!("{} split, test{again}", kind.name()),
        );
        let html = self.report(
            heading,
            &comparison,
            dataset,
            &split.held_out_users(Phase::Test),
        )?;
        Ok((comparison, html))
    }

    /// Renders the page about `comparison`, of which this is the first model.
    fn report(
        &self,
        (title, protocol): (String, String),
        comparison: &Comparison,
        dataset: &Dataset,
        held_out: &HeldOut,
    ) -> anyhow::Result<String> {
        render(&ReportData {
            title,
            protocol,
            comparison: comparison.clone(),
            bootstrap: BaselineOptions::default().bootstrap,
            epochs: self.log.iter().map(epoch_row).collect(),
            best_epoch: self.best_epoch,
            examples: worked_examples(
                &comparison.evaluations[0],
                held_out,
                &dataset.catalogue,
                EXAMPLES,
            ),
            hyperparameters: facts(&serde_json::to_value(&self.model.hyperparameters)?),
            data: facts(&serde_json::to_value(&self.manifest.trained_on)?),
        })
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

/// Replaces a report. Its temporary file has one of the names that [`model_files::removable`]
/// expects in a model's folder.
fn write_report(folder: &Path, name: &str, html: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    write_whole(&path, html.as_bytes()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
