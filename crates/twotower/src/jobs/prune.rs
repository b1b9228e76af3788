//! What is no longer needed goes: vectors of old versions and of users who stay away, and the folders of old models.

mod plan;

use super::dormant::{is_dormant, latest};
use super::identity::{day, host, parent};
use super::models::retire_by;
use super::publisher::{Publisher, Publishing};
use super::{Interrupt, JobError, Retry, now_us};
use crate::config::{Prune, Update};
use anyhow::{Context, ensure};
pub use plan::Reason;
use plan::{Doomed, Rules, doomed};
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use twotower_core::time::{DAY, DAY_SECONDS, SECOND_US};
use twotower_store::{
    LeaseHolder, ModelRecord, ModelState, RunRecord, RunState, Source, Store, StoreError,
    VectorAge, VectorTable, model_files, version_before,
};
use uuid::Uuid;

/// Deleting a row is less work than writing one: so many times the rows of a batch of an update are a transaction.
const BATCHES: usize = 10;

/// Latest rows of retrainings that are looked at: each that another one kept from its work has one, too.
const RUNS: u32 = 50;

const TABLES: [VectorTable; 2] = [VectorTable::Videos, VectorTable::Users];

/// What to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneOptions {
    /// Folder of models.
    pub model_path: PathBuf,
    /// Read everything, write nothing, say what would go.
    pub dry_run: bool,
    /// What is kept, and how long.
    pub settings: Prune,
    /// Days from an erasure until a version trained before it is removed.
    pub retire_days: u32,
    /// Longest that a retraining is at work.
    pub retraining: Duration,
    /// Days after which events are deleted; 0 keeps all.
    pub event_days: u32,
    /// Batches, lease.
    pub update: Update,
}

/// A version whose vectors were removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedVersion {
    /// Version.
    pub version: i64,
    /// Why.
    pub reason: Reason,
    /// Vectors of videos.
    pub video_vectors: u64,
    /// Vectors of users.
    pub user_vectors: u64,
    /// The model's own folder, if it was there.
    pub folder: Option<PathBuf>,
}

/// An active version that should have been replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Overdue {
    /// Version.
    pub version: i64,
    /// By when, microseconds since 1970.
    pub retire_by_us: i64,
}

impl Overdue {
    /// As an error, for those who must hear of it.
    pub fn error(self) -> JobError {
        JobError::Overdue {
            version: self.version,
            by: day(self.retire_by_us),
        }
    }
}

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PruneReport {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Versions, ascending.
    pub versions: Vec<PrunedVersion>,
    /// Vectors of dormant users in the versions that stay.
    pub dormant_vectors: u64,
    /// Events that were kept long enough.
    pub events: u64,
    /// The active version or one of the running experiment, if it should have been replaced.
    pub overdue: Option<Overdue>,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Pruned {
    /// It was done.
    Done(PruneReport),
    /// Nothing, since another process publishes.
    Held(LeaseHolder),
}

/// Removes what is no longer needed. Likes, skips, catalogue, tombstones and the registry's rows stay, and so does the active
/// version.
///
/// Safe to cut off and to run again: a version is marked in the registry before anything of it goes, so that nobody goes back to
/// half of it, and the next run does what is left.
///
/// # Errors
/// If the store or the file system fails.
pub async fn prune(
    store: &Store,
    source: &Source,
    options: &PruneOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Pruned> {
    ensure!(
        !model_files::is_model(&options.model_path),
        "{} is the folder of one model: name the folder that holds the folders of all versions",
        options.model_path.display()
    );
    let run = |store| Run {
        store,
        source,
        options,
        retry: Retry::new(options.update.attempts),
        interrupt,
    };
    if options.dry_run {
        return Ok(Pruned::Done(run(store).run().await?));
    }
    match Publisher::begin(store, &options.update).await? {
        Publishing::Held(holder) => Ok(Pruned::Held(holder)),
        Publishing::Begun(publisher) => {
            let store = publisher.store().clone();
            let report = publisher.publish(Box::pin(run(&store).run())).await;
            report.map(Pruned::Done).map_err(whose_work)
        }
    }
}

/// The role of updates may publish, but not delete what others have written.
fn whose_work(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::Permission(_)) => error.context("prune runs as the owner of the tables"),
        _ => error,
    }
}

/// One pruning.
struct Run<'a> {
    store: &'a Store,
    source: &'a Source,
    options: &'a PruneOptions,
    retry: Retry,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    async fn run(&self) -> anyhow::Result<PruneReport> {
        let started = Instant::now();
        let (store, options) = (self.store, self.options);
        let records = self.call("read the registry", || store.models()).await?;
        let history = self
            .call("read the registry", || store.activations())
            .await?;
        let retire_by = self
            .call("read the registry", || {
                retire_by(store, options.retire_days)
            })
            .await?;
        let experiment = self
            .call("read the experiments", || store.running_experiment())
            .await?
            .map(|running| [running.control, running.challenger]);
        let ages = self.ages().await?;
        let now_us = now_us();
        let any_due = retire_by.values().any(|&by| by <= now_us);
        let rules = Rules {
            settings: &options.settings,
            rollback_target: version_before(&history),
            experiment,
            retire_by: &retire_by,
            // Decides about these alone.
            retraining: any_due && self.is_retraining(now_us).await?,
            now_us,
        };
        let doomed = doomed(&records, &ages, &rules);
        let mut versions = Vec::new();
        for one in &doomed {
            versions.extend(self.version(one, &records, &ages).await?);
        }
        if !options.dry_run {
            let models = options.model_path.clone();
            tokio::task::spawn_blocking(move || model_files::remove_rest(&models)).await??;
        }
        let staying: Vec<i64> = records
            .iter()
            .filter(|record| doomed.iter().all(|one| one.version != record.version))
            .filter(|record| record.state != ModelState::Loading)
            .map(|record| record.version)
            .collect();
        let active = records
            .iter()
            .find(|record| record.state == ModelState::Active)
            .map(|record| record.version);
        let served = active.into_iter().chain(experiment.into_iter().flatten());
        let overdue = served
            .filter_map(|version| {
                let retire_by_us = *retire_by.get(&version)?;
                Some(Overdue {
                    version,
                    retire_by_us,
                })
            })
            .find(|overdue| overdue.retire_by_us <= now_us);
        Ok(PruneReport {
            dry_run: options.dry_run,
            versions,
            dormant_vectors: self.dormant(&staying).await?,
            events: self.events().await?,
            overdue,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    async fn call<T, F>(&self, what: &'static str, operation: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.retry.run(what, operation).await.context(what)
    }

    /// Whether a retraining is at work, on whichever machine. The row of one that was killed says so until its time is over; one of which this
    /// is the last step has nothing left to make active.
    async fn is_retraining(&self, now_us: i64) -> anyhow::Result<bool> {
        let runs = self
            .call("read the runs", || self.store.runs(Some("retrain"), RUNS))
            .await?;
        let longest_us = self.options.retraining.as_micros() as i64;
        let (host, parent) = (host(), parent());
        let is_own = |run: &RunRecord| run.host == host && run.pid == parent;
        let at_work = |run: &&RunRecord| {
            run.state == RunState::Running && now_us - run.started_at_us <= longest_us
        };
        Ok(runs.iter().filter(at_work).any(|run| !is_own(run)))
    }

    /// Of each table, by version.
    async fn ages(&self) -> anyhow::Result<[HashMap<i64, VectorAge>; 2]> {
        let mut ages = [HashMap::new(), HashMap::new()];
        for (table, ages) in TABLES.into_iter().zip(&mut ages) {
            let found = self
                .call("count the vectors", || self.store.vector_ages(table))
                .await?;
            ages.extend(found.into_iter().map(|age| (age.version, age)));
        }
        Ok(ages)
    }

    /// Removes all but the registry's row; `None` if there is nothing left to remove.
    async fn version(
        &self,
        one: &Doomed,
        records: &[ModelRecord],
        ages: &[HashMap<i64, VectorAge>; 2],
    ) -> anyhow::Result<Option<PrunedVersion>> {
        let (store, version) = (self.store, one.version);
        let rows = |table: usize| ages[table].get(&version).map_or(0, |age| age.rows);
        let record = records.iter().find(|record| record.version == version);
        let mut pruned = PrunedVersion {
            version,
            reason: one.reason,
            video_vectors: rows(0),
            user_vectors: rows(1),
            folder: self.folder(record, true).await?,
        };
        let vectors = pruned.video_vectors + pruned.user_vectors;
        let marked = record.is_none_or(|record| record.pruned_at_us.is_some());
        if vectors == 0 && pruned.folder.is_none() && marked {
            return Ok(None);
        }
        if self.options.dry_run {
            return Ok(Some(pruned));
        }
        if record.is_some() {
            self.call("mark the version", || store.prune_model(version))
                .await?;
        }
        // Before the vectors: every row that goes would be taken out of it.
        self.call("drop the index", || store.drop_vector_index(version))
            .await?;
        for table in TABLES {
            let stored = self
                .call("read what is stored", || {
                    store.read_fingerprints(table, version)
                })
                .await?;
            let ids: Vec<Uuid> = stored.into_iter().map(|(id, _)| id).collect();
            self.delete(table, version, &ids).await?;
        }
        pruned.folder = self.folder(record, false).await?;
        Ok(Some(pruned))
    }

    async fn delete(&self, table: VectorTable, version: i64, ids: &[Uuid]) -> anyhow::Result<()> {
        let rows = self.options.update.batch_size.max(1) * BATCHES;
        for batch in ids.chunks(rows) {
            self.call("delete vectors", || {
                self.store.delete_embeddings(table, version, batch)
            })
            .await?;
            if self.interrupt.is_set() {
                return Err(JobError::Interrupted.into());
            }
        }
        Ok(())
    }

    /// The folder of a registered version's very model; removed, unless it is only asked for. A folder that holds other things
    /// too stays as it is.
    async fn folder(
        &self,
        record: Option<&ModelRecord>,
        ask: bool,
    ) -> anyhow::Result<Option<PathBuf>> {
        let Some(version) = record.map(|record| record.version) else {
            return Ok(None);
        };
        let details = self
            .call("read the registry", || self.store.model_details(version))
            .await?;
        let models = self.options.model_path.clone();
        let removed = tokio::task::spawn_blocking(move || {
            let checksum = &details.record.manifest_sha256;
            if ask {
                model_files::removable(&models, version, checksum)
            } else {
                model_files::remove(&models, version, checksum)
            }
        });
        match removed.await? {
            Err(error @ model_files::ModelFilesError::Foreign { .. }) => {
                if !ask || self.options.dry_run {
                    tracing::warn!("{error}");
                }
                Ok(None)
            }
            removed => removed.with_context(|| format!("remove the folder of version {version}")),
        }
    }

    /// Deletes the vectors of dormant users from `versions`; returns how many.
    async fn dormant(&self, versions: &[i64]) -> anyhow::Result<u64> {
        let settings = &self.options.settings;
        if settings.user_vector_days == 0 {
            return Ok(0);
        }
        let age = DAY * settings.user_vector_days;
        let mut seen = None;
        let mut deleted = 0;
        for &version in versions {
            let mut ids = self
                .call("look for old vectors", || {
                    self.store
                        .unwritten_vectors(VectorTable::Users, version, age)
                })
                .await?;
            if ids.is_empty() {
                continue;
            }
            if seen.is_none() {
                seen = Some(self.last_seen_may_go().await?);
            }
            if let Some(seen) = &seen {
                ids.retain(|user| seen.get(user).is_none_or(|&may_go| may_go));
            }
            deleted += ids.len() as u64;
            if !self.options.dry_run {
                self.delete(VectorTable::Users, version, &ids).await?;
            }
        }
        Ok(deleted)
    }

    /// Deletes events that were kept long enough; returns how many.
    async fn events(&self) -> anyhow::Result<u64> {
        let options = self.options;
        if options.event_days == 0 {
            return Ok(0);
        }
        let age = DAY * options.event_days;
        if options.dry_run {
            return self
                .call("count old events", || self.store.count_events(age))
                .await;
        }
        let batch = u32::try_from(options.update.batch_size.max(1) * BATCHES).unwrap_or(u32::MAX);
        let mut deleted = 0;
        loop {
            let part = self
                .call("delete old events", || self.store.delete_events(age, batch))
                .await?;
            deleted += part;
            if part < u64::from(batch) {
                return Ok(deleted);
            }
            if self.interrupt.is_set() {
                return Err(JobError::Interrupted.into());
            }
        }
    }

    /// Who has liked or skipped anything, and whether their vector may go: dormant, and without a like within `active_days`.
    async fn last_seen_may_go(&self) -> anyhow::Result<HashMap<Uuid, bool>> {
        let settings = &self.options.settings;
        let seen = self
            .call("read when users were there last", || {
                self.store.last_seen(self.source)
            })
            .await?;
        let seconds = |at_us: i64| at_us.div_euclid(SECOND_US);
        let times = seen.iter().map(|seen| seconds(seen.at_us));
        let latest = latest(times, seconds(now_us()));
        Ok(seen
            .iter()
            .map(|seen| {
                let asleep = is_dormant(seconds(seen.at_us), latest, settings.user_vector_days);
                let active_after = latest - i64::from(settings.active_days) * DAY_SECONDS;
                let active = seen.like_us.is_some_and(|at| seconds(at) > active_after);
                (seen.user, asleep && !active)
            })
            .collect())
    }
}
