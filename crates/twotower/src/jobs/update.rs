//! Writes a model's vectors into the database: only those that changed, then the index, a check,
//! and one switch.

mod target;

mod plan;

mod writer;

use super::Retry;
use super::check::Expected;
use super::gate::{Challenger, Gate};
use super::generation::{Finished, Generation, Switching};
use super::publisher::{Published, Publisher};
use crate::config::Update;
use crate::interrupt::Interrupt;
use anyhow::Context;
use plan::Plan;
pub(super) use plan::{Scope, TablePlan, fingerprint};
use serde::Serialize;
use std::fmt;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::time::Instant;
use target::model_folder;
use twotower_core::embedding::Embeddings;
use twotower_core::gate::Verdict;
use twotower_core::model::Model;
use twotower_store::model_files::{self, Manifest};
use twotower_store::{Snapshot, SnapshotOptions, Source, Store};
use uuid::Uuid;
use writer::Writer;

/// How far an update goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateMode {
    /// Read everything, write nothing, report what would change.
    DryRun,
    /// Write the vectors; a version that is not active becomes a candidate.
    Load,
    /// Also make the version the one that readers see.
    Activate,
}

/// New models of a folder that an update does not take, since they are a retraining's to publish
/// and to make active.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LeftAlone {
    /// None.
    #[default]
    Nothing,
    /// The one of this version.
    Version(i64),
    /// All: one of them may be of a training that is at work.
    AllNew,
}

/// Options of an update.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UpdateOptions {
    /// `models/<version>`, or a folder of models; of these, a new model is taken if there is one,
    /// else the active one.
    pub(crate) model_path: PathBuf,
    /// Which of a folder's models are not for this update.
    pub(crate) left_alone: LeftAlone,
    /// How far to go.
    pub(crate) mode: UpdateMode,
    /// Also recompute vectors whose inputs have not changed.
    pub(crate) full: bool,
    /// Judges a version before it becomes active.
    pub(crate) gate: Option<Gate>,
    /// Make the version active even if the gate refuses it or an experiment ends with it.
    pub(crate) force: bool,
    /// Recorded with the activation.
    pub(crate) reason: String,
    /// After this many days without a like or skip, a user gets no vector; 0: never.
    pub(crate) user_vector_days: u32,
    /// Batch size, index and lease.
    pub(crate) settings: Update,
}

/// What changed, or would change, in the vectors of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Changes {
    /// Rows that did not exist before.
    pub(crate) new: usize,
    /// Rows whose inputs changed.
    pub(crate) changed: usize,
    /// Rows whose video or user is gone, or whose user is dormant.
    pub(crate) removed: usize,
    /// Rows left as they are.
    pub(crate) unchanged: usize,
    /// Users without a row, because they have been inactive for too long.
    pub(crate) dormant: usize,
}

impl Changes {
    /// Number of rows afterwards.
    pub(super) fn total(&self) -> usize {
        self.new + self.changed + self.unchanged
    }
}

impl AddAssign for Changes {
    fn add_assign(&mut self, other: Self) {
        self.new += other.new;
        self.changed += other.changed;
        self.removed += other.removed;
        self.unchanged += other.unchanged;
        self.dormant += other.dormant;
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            new,
            changed,
            removed,
            unchanged,
            dormant,
        } = self;
        write!(
            formatter,
            "{new} new, {changed} changed, {removed} removed, {unchanged} unchanged"
        )?;
        if *dormant > 0 {
            write!(formatter, ", {dormant} dormant")?;
        }
        Ok(())
    }
}

/// The result of an update.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UpdateReport {
    /// Version of the model.
    pub(crate) version: i64,
    /// Whether nothing was written.
    pub(crate) dry_run: bool,
    /// Video vectors.
    pub(crate) videos: Changes,
    /// User vectors.
    pub(crate) users: Changes,
    /// Whether readers were switched to this version.
    pub(crate) activated: bool,
    /// The version that readers see now.
    pub(crate) active_version: Option<i64>,
    /// The experiment that a switch would have ended, so that the version stays a candidate.
    pub(crate) held_back_by: Option<i64>,
    /// The quality gate's verdict, if it was asked.
    pub(crate) verdict: Option<Verdict>,
    /// After an update of the active version: the vectors of the challenger that a running
    /// experiment compares with it.
    pub(crate) challenger: Option<Box<ChallengerReport>>,
    /// Wall time, seconds.
    pub(crate) seconds: f64,
}

impl UpdateReport {
    /// Of vectors that were written, or would be; readers see what they saw before.
    pub(super) fn of_vectors(generation: &Generation<'_>, videos: Changes, users: Changes) -> Self {
        Self {
            version: generation.version,
            dry_run: false,
            videos,
            users,
            activated: false,
            active_version: generation.active,
            held_back_by: None,
            verdict: None,
            challenger: None,
            seconds: 0.0,
        }
    }

    /// Adds how the version was finished.
    pub(super) fn add(&mut self, finished: Finished) {
        let Finished {
            activated,
            held_back_by,
            verdict,
        } = finished;
        if activated {
            self.active_version = Some(self.version);
        }
        self.activated = activated;
        self.held_back_by = held_back_by;
        self.verdict = verdict;
    }
}

/// What changed in the vectors of an experiment's challenger, which a share of the users is served.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ChallengerReport {
    /// Number of the experiment.
    pub(crate) experiment: i64,
    /// Version of the challenger.
    pub(crate) version: i64,
    /// Video vectors.
    pub(crate) videos: Changes,
    /// User vectors.
    pub(crate) users: Changes,
}

/// Brings the vectors of a model up to date, and makes it the version that readers see, as
/// [`UpdateOptions::mode`] says.
///
/// Safe to interrupt and to run again: nobody reads the vectors of a version that is not active,
/// and each batch is one transaction of idempotent writes. Safe to run twice at once: the second
/// run does nothing and says so.
///
/// # Errors
/// If the model cannot be read, another model is registered under its number, its vectors do not
/// pass the check, the gate refuses it, or the store fails. The active version stays then.
pub(crate) async fn update(
    store: &Store,
    source: &Source,
    options: &UpdateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Published<UpdateReport>> {
    let run = |store| Run {
        store,
        source,
        options,
        retry: Retry::new(options.settings.attempts),
        interrupt,
    };
    if options.mode == UpdateMode::DryRun {
        return Ok(Published::Done(Box::pin(run(store).run()).await?));
    }
    let publisher = match Publisher::begin(store, &options.settings).await? {
        Ok(publisher) => publisher,
        Err(holder) => return Ok(Published::Held(holder)),
    };
    let store = publisher.store().clone();
    // Boxed, because the future holds what every step of an update needs.
    let report = publisher.publish(Box::pin(run(&store).run_all())).await;
    report.map(Published::Done)
}

/// One update.
struct Run<'a> {
    store: &'a Store,
    source: &'a Source,
    options: &'a UpdateOptions,
    retry: Retry,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    /// One update; if a new version is held back, another one of the version that readers go on to
    /// see.
    async fn run_all(&self) -> anyhow::Result<UpdateReport> {
        let mut report = self.run().await?;
        // If the caller named a version, only that one is updated.
        if report.held_back_by.is_some() && !model_files::is_model(&self.options.model_path) {
            let served = self.run().await?;
            tracing::info!(
                "model {}, which readers see: videos {}; users {}",
                served.version,
                served.videos,
                served.users
            );
            report.challenger = served.challenger;
        }
        Ok(report)
    }

    async fn run(&self) -> anyhow::Result<UpdateReport> {
        let started = Instant::now();
        let (store, retry, mode) = (self.store, &self.retry, self.options.mode);
        let UpdateOptions {
            model_path,
            left_alone,
            ..
        } = self.options;
        let folder = model_folder(store, model_path, *left_alone, retry).await?;
        let models = folder.parent().unwrap_or(Path::new("")).to_owned();
        let (model, manifest) = load(folder).await?;
        let version = manifest.version;
        let active = retry
            .call("read the registry", || store.active_model())
            .await?
            .map(|record| record.version);
        let generation = Generation {
            store,
            retry,
            settings: &self.options.settings,
            version,
            dim: manifest.hyperparameters.embedding_dim,
            active,
        };
        if mode != UpdateMode::Load {
            generation.ensure_not_older(&self.options.model_path)?;
        }
        generation.ensure_registered_as(&manifest).await?;
        let snapshot = retry
            .call("read likes and videos", || {
                store.read_snapshot(self.source, SnapshotOptions::default())
            })
            .await?;
        let plan = Plan::new(store, retry, &snapshot, version, self.options).await?;
        let (videos, users) = (plan.videos.changes, plan.users.changes);
        let mut report = UpdateReport {
            dry_run: mode == UpdateMode::DryRun,
            ..UpdateReport::of_vectors(&generation, videos, users)
        };
        if generation.is_live() {
            if mode != UpdateMode::DryRun {
                self.write(&generation, &model, &plan, &snapshot).await?;
            }
            drop((model, plan));
            report.challenger = self.follow(&generation, &models, &snapshot).await?;
        } else if mode != UpdateMode::DryRun {
            generation.register(&manifest).await?;
            let videos = self.write(&generation, &model, &plan, &snapshot).await?;
            let (videos_kept, users_kept) = (&plan.videos.kept, &plan.users.kept);
            let expected = Expected {
                videos: videos_kept.len() as u64,
                users: Some(users_kept.len() as u64),
            };
            let erased = async || self.erased(users_kept).await;
            let challenger = async {
                let challenger = Challenger {
                    model,
                    manifest,
                    videos,
                };
                anyhow::Ok((challenger, snapshot))
            };
            let switching = Switching {
                switch: mode == UpdateMode::Activate,
                force: self.options.force,
                reason: &self.options.reason,
                gate: self.options.gate.as_ref(),
                models: &models,
            };
            let finished = generation.finish(&switching, expected, erased, challenger);
            report.add(Box::pin(finished).await?);
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Writes the planned vectors, and what readers need besides. Returns the vectors of all
    /// videos.
    async fn write(
        &self,
        generation: &Generation<'_>,
        model: &Model,
        plan: &Plan,
        snapshot: &Snapshot,
    ) -> anyhow::Result<Embeddings> {
        let writer = Writer {
            store: self.store,
            retry: &self.retry,
            snapshot,
            model,
            plan,
            version: generation.version,
            batch_size: self.options.settings.batch_size,
            interrupt: self.interrupt,
        };
        let videos = writer.write().await?;
        let rows = plan.videos.changes.total() as u64;
        generation.prepare(model, rows).await?;
        Ok(videos)
    }

    /// Updates the challenger of a running experiment, which is served beside the active version.
    async fn follow(
        &self,
        active: &Generation<'_>,
        models: &Path,
        snapshot: &Snapshot,
    ) -> anyhow::Result<Option<Box<ChallengerReport>>> {
        let store = self.store;
        let running = self
            .retry
            .call("look for an experiment", || store.running_experiment())
            .await?;
        let Some(experiment) = running.filter(|it| it.is_against(Some(active.version))) else {
            return Ok(None);
        };
        let version = experiment.challenger;
        let followed = async {
            let (model, manifest) = load(models.join(version.to_string())).await?;
            let generation = Generation {
                version,
                dim: manifest.hyperparameters.embedding_dim,
                ..*active
            };
            generation.ensure_registered_as(&manifest).await?;
            let plan = Plan::new(store, &self.retry, snapshot, version, self.options).await?;
            if self.options.mode != UpdateMode::DryRun {
                self.write(&generation, &model, &plan, snapshot).await?;
            }
            anyhow::Ok(Box::new(ChallengerReport {
                experiment: experiment.id,
                version,
                videos: plan.videos.changes,
                users: plan.users.changes,
            }))
        };
        let report = followed.await.with_context(|| {
            format!(
                "version {} is up to date, but not version {version}, which experiment {} tries; `twotower experiment stop` ends that",
                active.version, experiment.id
            )
        })?;
        Ok(Some(report))
    }

    /// Number of `users` who were erased since the snapshot was read.
    async fn erased(&self, users: &[Uuid]) -> anyhow::Result<u64> {
        let erased = self
            .retry
            .call("ask who was erased", || self.store.erased_users(users))
            .await?;
        Ok(erased.len() as u64)
    }
}

async fn load(folder: PathBuf) -> anyhow::Result<(Model, Manifest)> {
    let (model, manifest) = tokio::task::spawn_blocking(move || model_files::load(&folder))
        .await?
        .context("load the model")?;
    Ok((model, manifest))
}
