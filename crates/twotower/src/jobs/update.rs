//! A model's vectors into the database: only what changed, then the index, a check, and one switch.

mod target;

mod plan;

mod writer;

use super::gate::{Challenger, Gate};
use super::generation::{Completed, Generation, Switching, Wanted};
use super::publisher::{Publisher, Publishing};
use super::{Interrupt, Retry};
use crate::config::Update;
use anyhow::Context;
use plan::Plan;
pub(super) use plan::{TablePlan, fingerprint};
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
use twotower_store::{LeaseHolder, Snapshot, SnapshotOptions, Source, Store};
use uuid::Uuid;
use writer::Writer;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateMode {
    /// Read everything, write nothing, say what would change.
    DryRun,
    /// Write the vectors; a version that is not active becomes a candidate.
    Load,
    /// Make the version the one that readers see, too.
    Activate,
}

/// How to update.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateOptions {
    /// `models/<version>`, or a folder of models: of these a new one is taken if there is one, else the active one.
    pub model_path: PathBuf,
    /// How far to go.
    pub mode: UpdateMode,
    /// Recompute what has not changed, too.
    pub full: bool,
    /// Asked before a version becomes active.
    pub gate: Option<Gate>,
    /// Make it active whatever the gate says.
    pub force: bool,
    /// Kept with the activation.
    pub reason: String,
    /// Days without a like or skip after which a user gets no vector; 0 gives all users theirs.
    pub user_vector_days: u32,
    /// Batches, index, lease.
    pub settings: Update,
}

/// What changed (or would change) of one kind of vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Rows that were not there.
    pub new: usize,
    /// Rows whose inputs changed.
    pub changed: usize,
    /// Rows whose video or user is gone, or whose user is dormant.
    pub removed: usize,
    /// Rows left alone.
    pub unchanged: usize,
    /// Users without a row, since they have not been there for long.
    pub dormant: usize,
}

impl Changes {
    /// Rows there are afterwards.
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

/// What an update did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateReport {
    /// Version of the model.
    pub version: i64,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Video vectors.
    pub videos: Changes,
    /// User vectors.
    pub users: Changes,
    /// Whether readers were switched to this version.
    pub activated: bool,
    /// The version that readers see now.
    pub active_version: Option<i64>,
    /// The experiment that a switch would have ended, so that the version waits as a candidate.
    pub held_back_by: Option<i64>,
    /// What the quality gate said, if it was asked.
    pub verdict: Option<Verdict>,
    /// Of an update of the active version: the vectors of the one that a running experiment tries against it.
    pub challenger: Option<Box<ChallengerReport>>,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// What changed of the vectors of an experiment's challenger, which some of the users are served.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ChallengerReport {
    /// Number of the experiment.
    pub experiment: i64,
    /// Version that is tried.
    pub version: i64,
    /// Video vectors.
    pub videos: Changes,
    /// User vectors.
    pub users: Changes,
}

/// What came of an update.
#[derive(Debug, Clone)]
pub enum Updated {
    /// It was done.
    Done(UpdateReport),
    /// Nothing, since another process publishes.
    Held(LeaseHolder),
}

/// Brings the vectors of a model up to date, and makes it the version that readers see unless that is not wanted.
///
/// Safe to cut off and to run again: vectors of a version that is not active are seen by nobody, and each batch is one
/// transaction of idempotent writes. Safe to run twice at once: the second run does nothing and says so.
///
/// # Errors
/// If the model cannot be read, another one is registered under its number, its vectors do not pass the check, or the store fails; the
/// active version stays then.
pub async fn update(
    store: &Store,
    source: &Source,
    options: &UpdateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Updated> {
    let run = |store| Run {
        store,
        source,
        options,
        retry: Retry::new(options.settings.attempts),
        interrupt,
    };
    if options.mode == UpdateMode::DryRun {
        return Ok(Updated::Done(Box::pin(run(store).run()).await?));
    }
    match Publisher::begin(store, &options.settings).await? {
        Publishing::Held(holder) => Ok(Updated::Held(holder)),
        Publishing::Begun(publisher) => {
            let store = publisher.store().clone();
            // On the heap: it holds what every step of an update needs.
            let report = publisher.publish(Box::pin(run(&store).run_all())).await;
            report.map(Updated::Done)
        }
    }
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
    /// One update, and another one of what readers go on to see if a new version is held back.
    async fn run_all(&self) -> anyhow::Result<UpdateReport> {
        let mut report = self.run().await?;
        // A version that was named is all that was asked for.
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
        let folder = model_folder(store, &self.options.model_path, retry).await?;
        let models = folder.parent().unwrap_or(Path::new("")).to_owned();
        let (model, manifest) = load(folder).await?;
        let version = manifest.version;
        let active = retry
            .run("read the registry", || store.active_model())
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
            generation.is_not_older(&self.options.model_path)?;
        }
        generation.is_registered_as(&manifest).await?;
        let snapshot = retry
            .run("read likes and videos", || {
                store.read_snapshot(self.source, SnapshotOptions::default())
            })
            .await
            .context("read likes and videos")?;
        let plan = Plan::new(store, retry, &snapshot, version, self.options).await?;
        let mut report = UpdateReport {
            version,
            dry_run: mode == UpdateMode::DryRun,
            videos: plan.videos.changes,
            users: plan.users.changes,
            activated: false,
            active_version: active,
            held_back_by: None,
            verdict: None,
            challenger: None,
            seconds: 0.0,
        };
        if generation.live() {
            if mode != UpdateMode::DryRun {
                self.write(&generation, &model, &plan, &snapshot).await?;
            }
            drop((model, plan));
            report.challenger = self.follow(&generation, &models, &snapshot).await?;
        } else if mode != UpdateMode::DryRun {
            generation.register(&manifest).await?;
            let videos = self.write(&generation, &model, &plan, &snapshot).await?;
            let (videos_kept, users_kept) = (&plan.videos.kept, &plan.users.kept);
            let wanted = Wanted {
                videos: videos_kept.len() as u64,
                users: Some(users_kept.len() as u64),
            };
            generation
                .check(wanted, async || self.erased(users_kept).await)
                .await?;
            let challenger = Challenger {
                model,
                manifest,
                videos,
            };
            report.verdict = generation
                .ask_gate(self.options.gate.as_ref(), challenger, &models, snapshot)
                .await?;
            let switching = Switching {
                switch: mode == UpdateMode::Activate,
                force: self.options.force,
                reason: &self.options.reason,
            };
            let Completed {
                activated,
                held_back_by,
            } = generation
                .complete(&switching, report.verdict.as_ref())
                .await?;
            (report.activated, report.held_back_by) = (activated, held_back_by);
            report.active_version = if activated { Some(version) } else { active };
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Writes what is planned, and what readers need besides. Returns the vectors of all videos.
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

    /// What a running experiment tries against the active version is served, too: its vectors follow.
    async fn follow(
        &self,
        active: &Generation<'_>,
        models: &Path,
        snapshot: &Snapshot,
    ) -> anyhow::Result<Option<Box<ChallengerReport>>> {
        let store = self.store;
        let running = self
            .retry
            .run("look for an experiment", || store.running_experiment())
            .await
            .context("look for an experiment")?;
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
            generation.is_registered_as(&manifest).await?;
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

    /// How many of `users` were erased since the snapshot was read.
    async fn erased(&self, users: &[Uuid]) -> anyhow::Result<u64> {
        let erased = self
            .retry
            .run("ask who was erased", || self.store.erased_users(users))
            .await
            .context("ask who was erased")?;
        Ok(erased.len() as u64)
    }
}

async fn load(folder: PathBuf) -> anyhow::Result<(Model, Manifest)> {
    let (model, manifest) = tokio::task::spawn_blocking(move || model_files::load(&folder))
        .await?
        .context("load the model")?;
    Ok((model, manifest))
}
