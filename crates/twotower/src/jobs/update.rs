//! A model's vectors into the database: only what changed, then the index, a check, and one switch.

mod target;

mod plan;

mod writer;

use super::check::{Expected, VectorFault, check_vectors};
use super::gate::{Challenger, Gate};
use super::identity::operator;
use super::index;
use super::publisher::{Publisher, Publishing};
use super::{Interrupt, JobError, Retry};
use crate::config::Update;
use anyhow::{Context, bail};
use plan::Plan;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use target::model_folder;
use twotower_core::gate::Verdict;
use twotower_core::model::Model;
use twotower_store::model_files::{self, Manifest};
use twotower_store::{
    Activation, ActivationKind, IndexPlan, LeaseHolder, ModelState, NewModel, Snapshot,
    SnapshotOptions, Source, Store, StoreKind,
};
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
    fn total(&self) -> usize {
        self.new + self.changed + self.unchanged
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
    /// What the quality gate said, if it was asked.
    pub verdict: Option<Verdict>,
    /// Wall time, seconds.
    pub seconds: f64,
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
/// If the model cannot be read, its vectors do not pass the check, or the store fails; the active version stays then.
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
            let report = publisher.publish(Box::pin(run(&store).run())).await;
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
    async fn run(&self) -> anyhow::Result<UpdateReport> {
        let started = Instant::now();
        let (store, retry, mode) = (self.store, &self.retry, self.options.mode);
        let folder = model_folder(store, &self.options.model_path, retry).await?;
        let models = folder.parent().unwrap_or(Path::new("")).to_owned();
        let (model, manifest) = tokio::task::spawn_blocking(move || model_files::load(&folder))
            .await?
            .context("load the model")?;
        let version = manifest.version;
        let active = retry
            .run("read the registry", || store.active_model())
            .await?
            .map(|record| record.version);
        if let Some(active) = active.filter(|&active| active > version && mode != UpdateMode::Load)
        {
            bail!(
                "version {active} is served already and newer than version {version} of {}: name the newer model's folder, or add \
                 --no-activate and then run `twotower rollback --to {version}`",
                self.options.model_path.display()
            );
        }
        let snapshot = retry
            .run("read likes and videos", || {
                store.read_snapshot(self.source, SnapshotOptions::default())
            })
            .await
            .context("read likes and videos")?;
        let plan = Plan::new(store, retry, &snapshot, version, self.options).await?;
        let live = active == Some(version);
        let switch = !live && mode == UpdateMode::Activate;
        let mut report = UpdateReport {
            version,
            dry_run: mode == UpdateMode::DryRun,
            videos: plan.videos.changes,
            users: plan.users.changes,
            activated: switch,
            active_version: if switch { Some(version) } else { active },
            verdict: None,
            seconds: 0.0,
        };
        if mode != UpdateMode::DryRun {
            if !live {
                let new = new_model(&manifest);
                retry
                    .run("register the model", || store.register_model(&new))
                    .await
                    .context("register the model")?;
            }
            let writer = Writer {
                store,
                retry,
                snapshot: &snapshot,
                model: &model,
                plan: &plan,
                version,
                batch_size: self.options.settings.batch_size,
                interrupt: self.interrupt,
            };
            let videos = writer.write().await?;
            let dim = manifest.hyperparameters.embedding_dim;
            let settings = &self.options.settings;
            let of_index = IndexPlan {
                version,
                dim,
                rows: report.videos.total() as u64,
                memory_cap_mb: settings.index_memory_mb,
            };
            index::build(store, retry, settings, &of_index).await?;
            self.write_user_tower(version, &model).await?;
            index::refresh_statistics(store, retry).await;
            if !live {
                self.check(version, dim, &plan).await?;
                let challenger = Challenger {
                    model,
                    manifest,
                    videos,
                };
                let champion = active.map(|active| (active, models.join(active.to_string())));
                report.verdict = self.ask_gate(challenger, champion, snapshot).await?;
                self.complete(version, switch, report.verdict.as_ref())
                    .await?;
            }
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }

    /// The user tower for those who ask in SQL, also of a version that became active before there was a place for it.
    async fn write_user_tower(&self, version: i64, model: &Model) -> anyhow::Result<()> {
        let written = self
            .retry
            .run("write the user tower", || {
                self.store.write_user_tower(version, &model.user_tower)
            })
            .await
            .context("write the user tower")?;
        if !written && self.store.kind() == StoreKind::Postgres {
            tracing::warn!(
                "the user tower is too wide for pgvector's vectors: recommend_videos blends the vectors of users whose stored one is older \
                 than their last like"
            );
        }
        Ok(())
    }

    /// Looks at all vectors before anybody else does. Missing ones are the next run's to add; bad ones are the model's fault.
    async fn check(&self, version: i64, dim: usize, plan: &Plan) -> anyhow::Result<()> {
        let store = self.store;
        let mut erased = self.erased(&plan.users.kept).await?;
        let verdict = loop {
            let expected = Expected {
                videos: plan.videos.kept.len() as u64,
                users: plan.users.kept.len() as u64 - erased,
            };
            let verdict = self
                .retry
                .run("check the vectors", || {
                    check_vectors(store, version, dim, Some(expected))
                })
                .await
                .context("check the vectors")?;
            // Somebody may have been erased while the vectors were counted.
            let before = std::mem::replace(&mut erased, self.erased(&plan.users.kept).await?);
            if verdict.is_ok() || before == erased {
                break verdict;
            }
        };
        let Err(fault) = verdict else {
            return Ok(());
        };
        if let VectorFault::Wrong { .. } = fault {
            let reason = fault.to_string();
            self.retry
                .run("give up the version", || store.fail_model(version, &reason))
                .await?;
        }
        Err(fault).context("readers are not switched")
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

    /// The gate's verdict, which is kept in the registry.
    async fn ask_gate(
        &self,
        challenger: Challenger,
        champion: Option<(i64, PathBuf)>,
        snapshot: Snapshot,
    ) -> anyhow::Result<Option<Verdict>> {
        let Some(gate) = self.options.gate.clone() else {
            return Ok(None);
        };
        let version = challenger.manifest.version;
        let verdict = tokio::task::spawn_blocking(move || {
            gate.judge(&challenger, champion, &snapshot.dataset)
        })
        .await?
        .context("judge the model")?;
        tracing::info!("the quality gate: {verdict}");
        let (store, kept) = (self.store, serde_json::to_value(&verdict)?);
        self.retry
            .run("keep the verdict", || store.record_verdict(version, &kept))
            .await?;
        Ok(Some(verdict))
    }

    /// Loading is over. With the switch in one transaction, so that nobody takes it for a candidate that was held back.
    async fn complete(
        &self,
        version: i64,
        switch: bool,
        verdict: Option<&Verdict>,
    ) -> anyhow::Result<()> {
        let store = self.store;
        let refused = verdict.filter(|verdict| !verdict.passed());
        if !switch || (refused.is_some() && !self.options.force) {
            let candidate = || store.set_model_state(version, ModelState::Candidate);
            self.retry.run("keep the candidate", candidate).await?;
            return match refused.filter(|_| switch) {
                Some(verdict) => Err(JobError::Refused {
                    version,
                    verdict: verdict.clone(),
                }
                .into()),
                None => Ok(()),
            };
        }
        let activation = Activation {
            version,
            kind: ActivationKind::Loaded,
            by: operator(),
            reason: self.options.reason.clone(),
            forced: refused.is_some(),
        };
        self.retry
            .run("switch readers", || store.activate_model(&activation))
            .await
            .context("switch readers to the model")
    }
}

fn new_model(manifest: &Manifest) -> NewModel {
    NewModel {
        version: manifest.version,
        embedding_dim: manifest.hyperparameters.embedding_dim,
        cut_off_us: manifest.trained_on.cut_off_us,
        snapshot_sha256: manifest.trained_on.snapshot_sha256.clone(),
        hyperparameters: serde_json::to_value(&manifest.hyperparameters).unwrap_or_default(),
        metrics: manifest.metrics.clone(),
        manifest_sha256: manifest.checksum.clone(),
        erasures_seen: manifest.trained_on.erasures_seen,
    }
}
