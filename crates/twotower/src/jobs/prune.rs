//! Removes what is no longer needed: vectors of old versions and of dormant users, and the folders
//! of old models.

mod plan;

use super::dormant::{is_dormant, latest};
use super::identity::{host, parent};
use super::models::retire_by;
use super::publisher::{Published, Publisher};
use super::{JobError, Retry};
use crate::config::{Prune, Update};
use crate::interrupt::Interrupt;
use crate::time::{day, now_us};
use anyhow::{Context, ensure};
pub(crate) use plan::Reason;
use plan::{Doomed, Rules, doomed};
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use twotower_core::time::{DAY, DAY_SECONDS, SECOND_US};
use twotower_store::{
    ModelRecord, ModelState, RunRecord, RunState, Source, Store, StoreError, VectorAge,
    VectorTable, model_files, version_before,
};
use uuid::Uuid;

/// A transaction deletes this many times the batch size of an update, because deleting a row is
/// less work than writing one.
const BATCHES: usize = 10;

/// Number of latest retrainings that are read. Runs that were skipped, because another one was at
/// work, count as well.
const RUNS: u32 = 50;

const TABLES: [VectorTable; 2] = [VectorTable::Videos, VectorTable::Users];

/// Options of pruning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PruneOptions {
    /// Folder of models.
    pub(crate) model_path: PathBuf,
    /// Read everything, write nothing, report what would be removed.
    pub(crate) dry_run: bool,
    /// What is kept, and for how long.
    pub(crate) settings: Prune,
    /// Days from an erasure until a version trained before it is removed.
    pub(crate) retire_days: u32,
    /// Maximum duration of a retraining.
    pub(crate) retraining: Duration,
    /// After this many days events are deleted; 0 keeps all.
    pub(crate) event_days: u32,
    /// Batch size and lease.
    pub(crate) update: Update,
}

/// A version whose vectors were removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PrunedVersion {
    /// Version of the model.
    pub(crate) version: i64,
    /// Why it was removed.
    pub(crate) reason: Reason,
    /// Number of video vectors.
    pub(crate) video_vectors: u64,
    /// Number of user vectors.
    pub(crate) user_vectors: u64,
    /// Folder of the model, if there was one.
    pub(crate) folder: Option<PathBuf>,
}

/// An active version that should have been replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Overdue {
    /// Version of the model.
    pub(crate) version: i64,
    /// Time by which it had to be replaced, microseconds since 1970.
    pub(crate) retire_by_us: i64,
}

impl Overdue {
    /// As an error, so that the command fails.
    pub(crate) fn error(self) -> JobError {
        JobError::Overdue {
            version: self.version,
            by: day(self.retire_by_us),
        }
    }
}

/// The result of pruning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PruneReport {
    /// Whether nothing was written.
    pub(crate) dry_run: bool,
    /// Removed versions, ascending.
    pub(crate) versions: Vec<PrunedVersion>,
    /// Number of vectors of dormant users removed from the versions that stay.
    pub(crate) dormant_vectors: u64,
    /// Number of events removed.
    pub(crate) events: u64,
    /// The active version or a version of the running experiment, if it should have been replaced.
    pub(crate) overdue: Option<Overdue>,
    /// Wall time, seconds.
    pub(crate) seconds: f64,
}

/// Removes what is no longer needed. Likes, skips, catalogue, tombstones, the rows of the registry
/// and the active version stay.
///
/// Safe to interrupt and to run again: a version is marked in the registry before anything of it is
/// removed, so that nobody goes back to half of it. The next run removes the rest.
///
/// # Errors
/// If the store or the file system fails.
pub(crate) async fn prune(
    store: &Store,
    source: &Source,
    options: &PruneOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Published<PruneReport>> {
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
        return Ok(Published::Done(run(store).run().await?));
    }
    let publisher = match Publisher::begin(store, &options.update).await? {
        Ok(publisher) => publisher,
        Err(holder) => return Ok(Published::Held(holder)),
    };
    let store = publisher.store().clone();
    let report = publisher.publish(Box::pin(run(&store).run())).await;
    report.map(Published::Done).map_err(whose_work)
}

/// Explains a missing permission: the role of updates may publish, but not delete rows of others.
fn whose_work(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::Permission(_)) => error.context("prune runs as the owner of the tables"),
        _ => error,
    }
}

/// A pruning in progress.
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
        let records = self
            .retry
            .call("read the registry", || store.models())
            .await?;
        let history = self
            .retry
            .call("read the registry", || store.activations())
            .await?;
        let retire_by = self
            .retry
            .call("read the registry", || {
                retire_by(store, options.retire_days)
            })
            .await?;
        let experiment = self
            .retry
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
            // A retraining only matters for versions that are due.
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

    /// Whether a retraining is running on any machine. The row of a killed run counts until its
    /// time limit is over. If a retraining runs this process, that one does not count: it has
    /// nothing left to make active.
    async fn is_retraining(&self, now_us: i64) -> anyhow::Result<bool> {
        let runs = self
            .retry
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

    /// Ages of the vectors in each table, by version.
    async fn ages(&self) -> anyhow::Result<[HashMap<i64, VectorAge>; 2]> {
        let mut ages = [HashMap::new(), HashMap::new()];
        for (table, ages) in TABLES.into_iter().zip(&mut ages) {
            let found = self
                .retry
                .call("count the vectors", || self.store.vector_ages(table))
                .await?;
            ages.extend(found.into_iter().map(|age| (age.version, age)));
        }
        Ok(ages)
    }

    /// Removes everything of a version except its row in the registry; `None` if nothing was left
    /// to remove.
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
            self.retry
                .call("mark the version", || store.prune_model(version))
                .await?;
        }
        // The index goes first, or every deleted row would be removed from it.
        self.retry
            .call("drop the index", || store.drop_vector_index(version))
            .await?;
        for table in TABLES {
            let stored = self
                .retry
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
            self.retry
                .call("delete vectors", || {
                    self.store.delete_embeddings(table, version, batch)
                })
                .await?;
            self.interrupt.check()?;
        }
        Ok(())
    }

    /// Removes the folder of a registered version; with `ask`, only finds it. A folder of another
    /// model stays, and so does one that holds foreign files.
    async fn folder(
        &self,
        record: Option<&ModelRecord>,
        ask: bool,
    ) -> anyhow::Result<Option<PathBuf>> {
        let Some(version) = record.map(|record| record.version) else {
            return Ok(None);
        };
        let details = self
            .retry
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

    /// Deletes the vectors of dormant users from `versions`. Returns their number.
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
                .retry
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

    /// Deletes events that are past their retention. Returns their number.
    async fn events(&self) -> anyhow::Result<u64> {
        let options = self.options;
        if options.event_days == 0 {
            return Ok(0);
        }
        let age = DAY * options.event_days;
        if options.dry_run {
            return self
                .retry
                .call("count old events", || self.store.count_events(age))
                .await;
        }
        let batch = u32::try_from(options.update.batch_size.max(1) * BATCHES).unwrap_or(u32::MAX);
        let mut deleted = 0;
        loop {
            let part = self
                .retry
                .call("delete old events", || self.store.delete_events(age, batch))
                .await?;
            deleted += part;
            if part < u64::from(batch) {
                return Ok(deleted);
            }
            self.interrupt.check()?;
        }
    }

    /// For each user with a like or skip, whether their vector may be removed: they are dormant,
    /// and have no like within `active_days`.
    async fn last_seen_may_go(&self) -> anyhow::Result<HashMap<Uuid, bool>> {
        let settings = &self.options.settings;
        let seen = self
            .retry
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
