//! Backups of our own data that cannot be computed again; a backup is complete or absent.

use crate::interrupt::Interrupt;
use crate::jobs::Retry;
use crate::time::rfc3339;
use anyhow::Context;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use twotower_core::external::time;
use twotower_store::{
    Backup, BackupError, BackupManifest, BackupWriter, Store, complete_backups, remove_backup,
};

/// What to back up, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupOptions {
    /// Folder of backups.
    pub folder: PathBuf,
    /// Folder of models; `None` copies none.
    pub models: Option<PathBuf>,
    /// Whether events are copied.
    pub events: bool,
    /// Number of backups to keep; 0 keeps all.
    pub keep: u32,
    /// Tries in all while the database is away.
    pub attempts: u32,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupReport {
    /// The backup's own folder.
    pub folder: PathBuf,
    /// The time of its snapshot, microseconds since 1970.
    pub taken_at_us: i64,
    /// The active version.
    pub active_version: Option<i64>,
    /// Versions whose vectors are in it.
    pub versions: Vec<i64>,
    /// Versions whose folders are in it.
    pub models: Vec<i64>,
    /// Number of rows by table.
    pub rows: BTreeMap<String, u64>,
    /// Size in bytes.
    pub bytes: u64,
    /// Older backups that were removed.
    pub removed: Vec<PathBuf>,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// Copies our own data into a new folder that is named by the time, and removes the oldest backups
/// beyond the number to keep.
///
/// # Errors
/// If the database, the active model's folder or the file system fails; nothing is left of the new
/// backup then.
pub async fn back_up(
    store: &Store,
    options: &BackupOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<BackupReport> {
    let started = Instant::now();
    let now = SystemTime::now();
    let number = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut writer = Some(begin(options, now, number as i64)?);
    let mut tries = 0;
    let moment = loop {
        let Some(begun) = &mut writer else {
            writer = Some(begin(options, now, number as i64)?);
            continue;
        };
        tries += 1;
        let copied = Box::pin(store.back_up(begun, options.events));
        match interrupt.cut(copied).await? {
            // A partly written file cannot be continued, so the backup starts over.
            Err(BackupError::Store(error)) if error.may_pass() && tries < options.attempts => {
                tracing::warn!(
                    "copy the database: {error}; try {tries} of {}",
                    options.attempts
                );
                writer = None;
                tokio::time::sleep(Retry::new(options.attempts).first_pause).await;
            }
            moment => break moment.map_err(plain).context("copy the database")?,
        }
    };
    let mut writer = writer.context("the backup was begun")?;
    if let Some(models) = options.models.clone() {
        let kept = moment.versions.clone();
        let active = moment.active_version;
        let copied = tokio::task::spawn_blocking(move || {
            for one in &kept {
                let found = writer
                    .add_model(&models, one.version, &one.manifest_sha256)
                    .map_err(plain)
                    .with_context(|| format!("copy the folder of version {}", one.version))?;
                let name = models.join(one.version.to_string());
                let name = name.display();
                anyhow::ensure!(
                    found || Some(one.version) != active,
                    "{name} does not hold the model of version {}, which is active: name the folder of models with --model-path, get it with \
                     `twotower fetch`, or set `models = false` in section [backup] where a bucket keeps it",
                    one.version
                );
                if !found {
                    tracing::warn!(
                        "{name} does not hold version {}: a rollback to it needs that folder",
                        one.version
                    );
                }
            }
            Ok(writer)
        });
        writer = interrupt.cut(copied).await???;
    }
    let (folder, manifest) = store.finish_backup(writer, &moment).map_err(plain)?;
    let removed = remove_old(&options.folder, &folder, options.keep)?;
    Ok(BackupReport {
        folder,
        taken_at_us: manifest.taken_at_us,
        active_version: manifest.active_version,
        versions: manifest.versions.clone(),
        models: manifest.models.clone(),
        rows: manifest.rows(),
        bytes: manifest.bytes(),
        removed,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn begin(options: &BackupOptions, now: SystemTime, number: i64) -> anyhow::Result<BackupWriter> {
    let name = next_name(&options.folder, now).context("begin the backup")?;
    BackupWriter::create(&options.folder, &name, number)
        .map_err(plain)
        .context("begin the backup")
}

/// Name of the next backup: the time, or, if the newest backup has the same or a later name, one
/// second after that. Names tell which backup is the newest, which `restore` takes, and which are
/// the oldest, to be removed; a backup made by a clock that was ahead must not stay the newest
/// after the clock is corrected.
fn next_name(root: &Path, now: SystemTime) -> anyhow::Result<String> {
    let by_clock = name(now);
    let newest = complete_backups(root).map_err(plain)?.pop();
    let newest = newest.as_deref().and_then(Path::file_name);
    let Some(newest) = newest.and_then(|newest| newest.to_str()) else {
        return Ok(by_clock);
    };
    // A name that is not a valid time was given by hand.
    let Some(after) = time_of(newest).map(|at| at + Duration::from_secs(1)) else {
        return Ok(by_clock);
    };
    if *newest > *by_clock {
        tracing::warn!(
            "the clock has not reached the time that names the newest backup, {}: this one is named by the second after it",
            root.join(newest).display()
        );
    }
    Ok(name(after.max(now)))
}

/// `20260131T033000Z`
fn name(at: SystemTime) -> String {
    // 2026-01-31T03:30:00.000Z
    let mut name = rfc3339(at).replace([':', '-'], "");
    name.truncate("20260131T033000".len());
    name.push('Z');
    name
}

/// The time that a name states.
fn time_of(name: &str) -> Option<SystemTime> {
    let (date, of_day) = name.split_once('T')?;
    let [year, month, day] = [date.get(..4)?, date.get(4..6)?, date.get(6..)?];
    let [hour, minute, second] = [of_day.get(..2)?, of_day.get(2..4)?, of_day.get(4..)?];
    let us = time::parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}"))?;
    UNIX_EPOCH.checked_add(Duration::from_micros(u64::try_from(us).ok()?))
}

/// Verifies the checksum of every file in a backup.
///
/// # Errors
/// If it is damaged, or cannot be read.
pub async fn verify(folder: &Path) -> anyhow::Result<BackupManifest> {
    let folder = folder.to_owned();
    let checked = tokio::task::spawn_blocking(move || {
        let backup = Backup::open(&folder)?;
        backup.verify()?;
        Ok::<_, BackupError>(backup.manifest().clone())
    });
    checked.await?.map_err(plain)
}

fn remove_old(root: &Path, newest: &Path, keep: u32) -> anyhow::Result<Vec<PathBuf>> {
    if keep == 0 {
        return Ok(Vec::new());
    }
    let mut old = complete_backups(root).map_err(plain)?;
    old.truncate(old.len().saturating_sub(keep as usize));
    // The new backup stays, whatever names others were given by hand.
    old.retain(|folder| folder != newest);
    for folder in &old {
        remove_backup(root, folder)
            .map_err(plain)
            .with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(old)
}

/// Unwraps the store's own error, which callers examine for outages.
pub(super) fn plain(error: BackupError) -> anyhow::Error {
    match error {
        BackupError::Store(error) => error.into(),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_backup_has_the_last_name() {
        let root = tempfile::tempdir().unwrap();
        let at = |text: &str| time_of(text).unwrap();
        let next = |now: &str| next_name(root.path(), at(now)).unwrap();
        let make = |name: &str| {
            std::fs::create_dir(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join("backup.json"), "{}").unwrap();
        };
        assert_eq!(next("20260131T033000Z"), "20260131T033000Z");
        make("20260131T033000Z");
        assert_eq!(next("20260201T033000Z"), "20260201T033000Z");
        // Two backups within a second, and a clock that was set back over the end of a year.
        assert_eq!(next("20260131T033000Z"), "20260131T033001Z");
        make("20261231T235959Z");
        assert_eq!(next("20260201T033000Z"), "20270101T000000Z");
        // A thirteenth month does not exist.
        make("20271301T000000Z");
        assert_eq!(next("20260201T033000Z"), "20260201T033000Z");
    }
}
