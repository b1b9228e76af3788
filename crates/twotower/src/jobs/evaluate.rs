//! A model against the baselines, on likes it has not seen.

use super::fit::{EpochLog, fit};
use super::training_set::TrainingSet;
use super::{Interrupt, Resume, TrainOptions, check_sufficiency};
use crate::shards;
use anyhow::Context;
use std::path::{Path, PathBuf};
use twotower_core::evaluate::{BaselineOptions, Comparison, compare};
use twotower_core::interaction::Dataset;
use twotower_core::model::{Model, TwoTower};
use twotower_core::split::{Phase, Split, SplitKind};
use twotower_store::model_files::{self, Manifest, Origin, TrainedOn};
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
    /// Why a model was trained afresh for it, if one was, and what to do to have the model itself judged.
    pub retrained: Option<String>,
    /// The towers first, then the baselines.
    pub comparison: Comparison,
    /// Where the report was written.
    pub report: PathBuf,
    /// The data, for callers who know more about them.
    pub dataset: Dataset,
    /// Ids of the data's users; none where they were read from shards, which know no ids.
    pub users: Vec<uuid::Uuid>,
}

/// Ranks the held-out likes of `split` by the model and by every baseline, in one run, and writes `report.html` into the
/// model's folder.
///
/// A model may only be judged on likes that it has not seen. If it was trained on another split or from shards, or the data have changed
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
    let loaded = load(&options.model_path).await?;
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
    judge(loaded, data, options, interrupt).await
}

/// The same by the shards in `folder`, without a database. A model that was trained from them, or from a database with the same rows, is
/// judged itself.
///
/// # Errors
/// As [`evaluate`], and if a file of the shards is missing, damaged, or not what a shard is.
pub async fn evaluate_shards(
    folder: &Path,
    options: &EvaluateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Evaluated> {
    let loaded = load(&options.model_path).await?;
    let folder = folder.to_owned();
    let (dataset, sha256) = tokio::task::spawn_blocking(move || shards::snapshot(&folder))
        .await?
        .context("read the shards")?;
    let data = Data {
        dataset,
        users: Vec::new(),
        shards_sha256: Some(sha256),
    };
    judge(loaded, data, options, interrupt).await
}

/// A model as its folder has it.
struct Loaded {
    folder: PathBuf,
    model: Model,
    manifest: Manifest,
}

async fn load(path: &Path) -> anyhow::Result<Loaded> {
    let path = path.to_owned();
    let read = move || {
        // Once: a newer version may get its name meanwhile.
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

/// What a model is judged by.
struct Data {
    dataset: Dataset,
    users: Vec<uuid::Uuid>,
    /// Of the manifest, where it was read from shards.
    shards_sha256: Option<String>,
}

async fn judge(
    loaded: Loaded,
    data: Data,
    options: &EvaluateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Evaluated> {
    let Data {
        dataset,
        users,
        shards_sha256,
    } = data;
    check_sufficiency((&dataset).into())?;
    let (options, interrupt) = (options.clone(), interrupt.clone());
    tokio::task::spawn_blocking(move || {
        let Loaded { folder, model, manifest } = loaded;
        let split = options.split.unwrap_or(manifest.trained_on.split);
        let read = Read {
            split,
            max_age_days: options.max_age_days,
            origin: if shards_sha256.is_some() { Origin::Shards } else { Origin::Database },
            sha256: [Some(snapshot_sha256(&dataset)), shards_sha256],
        };
        let retrained = read.other_than(&manifest.trained_on);
        let (model, log, best_epoch) = match &retrained {
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
        let judged = Judged { model: &model, log, best_epoch, manifest: &manifest, split, is_retrained: retrained.is_some() };
        let (comparison, html) = pool.install(|| judged.judge(&dataset))?;
        let report = write_report(&folder, &html)?;
        Ok(Evaluated { version: manifest.version, split, retrained, comparison, report, dataset, users })
    })
    .await?
}

/// What is read to judge a model by.
struct Read {
    split: SplitKind,
    max_age_days: Option<u32>,
    origin: Origin,
    /// Of the rows, and of the shards' manifest where that is where they are from.
    sha256: [Option<String>; 2],
}

impl Read {
    /// Why it is not what a model was `trained_on`, if it is not.
    fn other_than(&self, trained_on: &TrainedOn) -> Option<String> {
        if self.split != trained_on.split {
            return Some("the model was trained on another split".to_owned());
        }
        if (self.sha256.iter().flatten()).any(|sha256| *sha256 == trained_on.snapshot_sha256) {
            return None;
        }
        let age = |days: Option<u32>| {
            days.map_or_else(
                || "without --max-age-days".to_owned(),
                |days| format!("with --max-age-days {days}"),
            )
        };
        if self.origin == Origin::Shards {
            return Some("the model was not trained from these shards, nor from a database with the same rows".to_owned());
        }
        let reason = match trained_on.origin {
            Some(Origin::Shards) => {
                "the model was trained from shards (--data), and what is in them cannot be compared with the database, which is read here \
                 (`twotower evaluate --data` with the same shards judges the model itself)"
                    .to_owned()
            }
            Some(Origin::Database) if trained_on.max_age_days != self.max_age_days => format!(
                "the model was trained {}, and is judged {} (or max_age_days of [training]): with the same it is judged itself, \
                 unless the data have changed since",
                age(trained_on.max_age_days),
                age(self.max_age_days)
            ),
            Some(Origin::Database) => "the data have changed since the model was trained".to_owned(),
            None => "the data have changed since the model was trained, or it was trained with another --max-age-days or from shards"
                .to_owned(),
        };
        Some(reason)
    }
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
    is_retrained: bool,
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
        let again = if self.is_retrained {
            ", trained afresh for this split"
        } else {
            ""
        };
        let html = render(&ReportData {
            title: format!("Model {}", self.manifest.version),
            protocol: format!("{} split, test{again}", self.split.name()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_data_of_a_model_is_named() {
        let trained_on = |origin: Option<Origin>, max_age_days| TrainedOn {
            cut_off_us: None,
            learned_until_us: None,
            learned_since_us: None,
            fine_tuned_from: None,
            snapshot_sha256: "ab".into(),
            likes: 3,
            skips: 4,
            users: 5,
            videos: 6,
            split: SplitKind::Temporal,
            erasures_seen: None,
            origin,
            max_age_days,
        };
        let (database, shards) = (Some(Origin::Database), Some(Origin::Shards));
        let read = |sha256: &str, max_age_days| Read {
            split: SplitKind::Temporal,
            max_age_days,
            origin: Origin::Database,
            sha256: [Some(sha256.into()), None],
        };
        let other = |read: &Read, trained_on| read.other_than(&trained_on).unwrap();
        for origin in [None, database, shards] {
            let same = read("ab", Some(9)).other_than(&trained_on(origin, None));
            assert_eq!(same, None);
        }
        let llo = Read {
            split: SplitKind::Llo,
            ..read("ab", None)
        };
        assert!(other(&llo, trained_on(None, None)).ends_with("another split"));
        let later = read("cd", Some(9));
        assert!(other(&later, trained_on(shards, None)).contains("from shards"));
        let of_shards = |manifest: &str| Read {
            origin: Origin::Shards,
            sha256: [Some("cd".into()), Some(manifest.into())],
            ..read("", None)
        };
        assert_eq!(of_shards("ab").other_than(&trained_on(shards, None)), None);
        assert!(other(&of_shards("ef"), trained_on(database, None)).contains("these shards"));
        assert_eq!(
            other(&later, trained_on(database, Some(9))),
            "the data have changed since the model was trained"
        );
        let aged = other(&later, trained_on(database, Some(30)));
        assert!(
            aged.contains("trained with --max-age-days 30, and is judged with --max-age-days 9"),
            "{aged}"
        );
        let whole = other(&later, trained_on(database, None));
        assert!(whole.contains("trained without --max-age-days"), "{whole}");
        assert!(other(&later, trained_on(None, None)).contains("or from shards"));
    }
}
