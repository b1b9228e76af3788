//! Restoring a backup.

use super::backup::plain;
use crate::config::Update;
use crate::interrupt::Interrupt;
use crate::jobs::{Publisher, Retry, index, operator};
use anyhow::Context;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;
use twotower_store::{
    Backup, BackupError, IndexPlan, RestoreOptions, Restored, Source, Store, StoreKind,
    VectorTable, complete_backups, model_files,
};

/// What to restore.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreJob {
    /// A backup's own folder, or a folder of backups, of which the newest is taken.
    pub folder: PathBuf,
    /// Folder of models, which receives the copies.
    pub models: PathBuf,
    /// Restores even if the database holds newer data.
    pub replace: bool,
    /// Verifies everything and writes nothing.
    pub dry_run: bool,
    /// Lease and index settings.
    pub update: Update,
    /// Where likes and skips are read, of which those of erased users go.
    pub source: Source,
}

/// What was restored, or would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreReport {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Folder of the backup.
    pub folder: PathBuf,
    /// The time of its snapshot, microseconds since 1970.
    pub taken_at_us: i64,
    /// Migrations that were missing and are applied before the restore. In a dry run all or none:
    /// it applies nothing, so it refuses a schema that lacks some.
    pub migrations: Vec<String>,
    /// Versions whose folders are present now.
    pub models: Vec<i64>,
    /// Versions whose user tower is missing in the database because their model folder is missing.
    pub without_user_tower: Vec<i64>,
    /// Number of rows, and what was newer.
    #[serde(flatten)]
    pub restored: Restored,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// Verifies the checksums of a backup, copies the models into their folder, and writes the rest to
/// the database in one transaction while it holds the publisher's lease. Then it writes the user
/// towers from the model folders, and builds what derives from vectors: the index and statistics.
/// It may be interrupted and repeated.
///
/// # Errors
/// If the backup is damaged; if the database holds newer data and `replace` is not set; if another
/// process publishes; if the store or the file system fails.
pub async fn restore(
    store: &Store,
    job: &RestoreJob,
    interrupt: &Interrupt,
) -> anyhow::Result<RestoreReport> {
    let started = Instant::now();
    let folder = resolve(&job.folder)?;
    let checked = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || {
            let backup = Backup::open(&folder)?;
            backup.verify()?;
            Ok::<_, BackupError>(backup)
        }
    });
    let backup = interrupt
        .cut(checked)
        .await??
        .map_err(plain)
        .context("check the backup")?;
    let options = RestoreOptions {
        replace: job.replace,
        dry_run: true,
        by: operator(),
        reason: format!("restored from {}", folder.display()),
        source: job.source.clone(),
    };
    // This checks all reasons to refuse before anything is written, including model folders.
    let seen = store.restore(&backup, &options).await.map_err(plain)?;
    let manifest = backup.manifest().clone();
    let (restored, without_user_tower) = if job.dry_run {
        (seen, Vec::new())
    } else {
        let publisher = Publisher::begin_or_fail(store, &job.update).await?;
        let publishing = publisher.store().clone();
        let options = RestoreOptions {
            dry_run: false,
            ..options
        };
        let work = write(&publishing, &backup, &options, job, interrupt);
        publisher.publish(Box::pin(work)).await?
    };
    Ok(RestoreReport {
        dry_run: job.dry_run,
        folder,
        taken_at_us: manifest.taken_at_us,
        migrations: Vec::new(),
        models: manifest.models,
        without_user_tower,
        restored,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Copies models first, so that every registered version has its folder. Also returns the versions
/// without a user tower.
async fn write(
    store: &Store,
    backup: &Backup,
    options: &RestoreOptions,
    job: &RestoreJob,
    interrupt: &Interrupt,
) -> anyhow::Result<(Restored, Vec<i64>)> {
    let (copies, models) = (backup.clone(), job.models.clone());
    let copied = tokio::task::spawn_blocking(move || {
        for &version in &copies.manifest().models {
            copies.restore_model(version, &models)?;
        }
        Ok::<_, BackupError>(())
    });
    copied.await?.map_err(plain).context("copy the models")?;
    let restored = Box::pin(store.restore(backup, options));
    let restored = interrupt.cut(restored).await?;
    let restored = restored.map_err(plain).context("write the database")?;
    let retry = Retry::new(job.update.attempts);
    let without = write_user_towers(store, &retry, backup, &job.models).await?;
    if let Some(active) = store.active_model().await? {
        let counts = store.count_vectors(VectorTable::Videos).await?;
        let rows = counts
            .iter()
            .find(|(version, _)| *version == active.version);
        let plan = IndexPlan {
            version: active.version,
            dim: active.embedding_dim,
            rows: rows.map_or(0, |(_, rows)| *rows),
            memory_cap_mb: job.update.index_memory_mb,
        };
        index::build(store, &retry, &job.update, &plan).await?;
        index::refresh_statistics(store, &retry).await;
    }
    Ok((restored, without))
}

/// Writes the user tower of each version of the backup from its model folder: backups hold none,
/// and without it `recommend_videos` does not take recent likes into account. Returns the versions
/// without a folder of the registered model.
async fn write_user_towers(
    store: &Store,
    retry: &Retry,
    backup: &Backup,
    models: &Path,
) -> anyhow::Result<Vec<i64>> {
    let mut without = Vec::new();
    // SQLite does not use user towers.
    if store.kind() == StoreKind::Sqlite {
        return Ok(without);
    }
    for &version in &backup.manifest().versions {
        let record = retry
            .call("read the registry", || store.model_details(version))
            .await?
            .record;
        let folder = models.join(version.to_string());
        let loaded = tokio::task::spawn_blocking(move || {
            let (tower, manifest) = model_files::load_user_tower(&folder)?;
            record.is_model(&manifest.checksum)?;
            Ok::<_, anyhow::Error>(tower)
        });
        match loaded.await? {
            Ok(tower) => {
                retry
                    .call("write the user tower", || {
                        store.write_user_tower(version, &tower)
                    })
                    .await?;
            }
            Err(error) => {
                tracing::warn!("no user tower of version {version}: {error:#}");
                without.push(version);
            }
        }
    }
    Ok(without)
}

/// The folder itself if it is a backup, else the newest backup in it.
fn resolve(folder: &Path) -> anyhow::Result<PathBuf> {
    // Any other error, such as one of the disk, is reported when the backup is read.
    if !matches!(Backup::open(folder), Err(BackupError::Missing(_))) {
        return Ok(folder.to_owned());
    }
    let mut backups = complete_backups(folder).map_err(plain)?;
    let newest = backups.pop();
    newest.with_context(|| {
        format!(
            "{} holds no complete backup: name the folder that `twotower backup` has made",
            folder.display()
        )
    })
}
