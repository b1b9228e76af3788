//! Backups of the data that twotower owns and cannot compute again: a folder of JSON lines, one
//! file per table, with the folders of the served models.
//!
//! JSON lines are readable by any tool, one row at a time, when nothing else is left, and a backup
//! of one engine can be restored into the other. Ids are UUIDs, times microseconds since 1970
//! (UTC), bytes hexadecimal, vectors Base64 of little-endian 32-bit floats. `backup.json` is
//! written last and holds the SHA-256 of every other file and its own.

mod compare;

mod read;

mod remove;

mod table;

mod write;

pub(crate) use compare::{RestorePlan, Target, Tombstone, compare};
pub use read::Backup;
pub(crate) use read::VectorRow;
pub use remove::{complete_backups, remove_backup};
pub(crate) use table::{
    ACTIVATIONS, BLOCKS, Column, EVENTS, EXPERIMENTS, JOB_RUNS, Kind, MODELS, TOMBSTONE_SALT,
    TOMBSTONES, Table,
};
pub use write::BackupWriter;
pub(crate) use write::StoredVector;

use crate::model_files::ModelFilesError;
use crate::{Source, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the layout that this program writes and reads.
const FORMAT: u32 = 1;

const MANIFEST: &str = "backup.json";

/// Folder of the models inside a backup.
const MODEL_FOLDER: &str = "models";

/// Path of a model's file, as the manifest lists it.
fn model_file(version: i64, name: &str) -> String {
    format!("{MODEL_FOLDER}/{version}/{name}")
}

/// A file of a backup, as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// SHA-256, hex.
    pub sha256: String,
    /// Size, bytes.
    pub bytes: u64,
    /// Number of lines, for a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// The manifest, `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    /// SHA-256 (hex) of this file without these 64 digits. Always the first field.
    pub checksum: String,
    /// Version of the layout: 1.
    pub format: u32,
    /// Version of twotower that wrote the backup.
    pub twotower: String,
    /// `postgresql` or `sqlite`.
    pub engine: String,
    /// Last migration of the database.
    pub schema: String,
    /// Moment that the backup shows, microseconds since 1970 by the database's clock.
    pub taken_at_us: i64,
    /// Active version at that moment.
    pub active_version: Option<i64>,
    /// Last version number that was allocated.
    pub last_version: i64,
    /// Versions whose vectors are in the backup: the active one, the rollback target, and those of
    /// a running experiment.
    pub versions: Vec<i64>,
    /// Versions whose model folders are in the backup.
    pub models: Vec<i64>,
    /// Every other file, by path.
    pub files: BTreeMap<String, BackupFile>,
}

impl BackupManifest {
    /// Number of rows per table.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        let tables = self.files.iter();
        tables
            .filter_map(|(name, file)| Some((table::of_file(name)?.to_owned(), file.rows?)))
            .collect()
    }

    /// Total size of all files except this one, bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// A version that is served now or can be at any moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVersion {
    /// Version number.
    pub version: i64,
    /// Checksum of the manifest of its model, as in [`crate::NewModel::manifest_sha256`].
    pub manifest_sha256: String,
}

/// State of the database at the moment of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970.
    pub taken_at_us: i64,
    /// Active version.
    pub active_version: Option<i64>,
    /// Last version number that was allocated.
    pub last_version: i64,
    /// See [`BackupManifest::versions`].
    pub versions: Vec<KeptVersion>,
}

/// Options of a restoration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Restore even if the database holds newer data.
    pub replace: bool,
    /// Check everything and write nothing.
    pub dry_run: bool,
    /// Operator, recorded with the activation if one is needed.
    pub by: String,
    /// Reason, recorded with the activation.
    pub reason: String,
    /// Where likes and skips are read. Those of erased users are deleted from our own tables, and
    /// counted in others.
    pub source: Source,
}

/// Outcome of a restoration, or of a dry run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Rows written per table.
    pub rows: BTreeMap<String, u64>,
    /// User vectors of the backup that were left out because their users were erased.
    pub erased_left_out: u64,
    /// Rows deleted from the database because their users were erased.
    pub erased_deleted: u64,
    /// Likes and skips of erased users that remain, for example in the application's own tables.
    /// `None` if they could not be counted, and in a dry run.
    pub erased_remaining: Option<u64>,
    /// Active version afterwards.
    pub active_version: Option<i64>,
    /// Newer data that the database held, in words; replaced if [`RestoreOptions::replace`] was
    /// set.
    pub newer: Vec<String>,
}

/// Why a backup could not be written, read or restored.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model folder cannot be read or written.
    #[error(transparent)]
    Model(#[from] ModelFilesError),
    /// The file system failed.
    #[error("{path}: {cause}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// There is no complete backup in the folder.
    #[error("{0} holds no complete backup: it has no backup.json")]
    Missing(PathBuf),
    /// A file differs from what was written.
    #[error(
        "{path} {reason}: the backup is damaged, take another copy or an older one; nothing was restored"
    )]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The backup has the layout of another version of twotower.
    #[error(
        "{path} has format {format}, and this version of twotower reads format {FORMAT}: restore it with the version that wrote it, then upgrade"
    )]
    Format {
        /// Path of the manifest.
        path: PathBuf,
        /// Its layout version.
        format: u64,
    },
    /// The database holds data that the backup does not have.
    #[error(
        "the database holds what is newer than the backup, and nothing was written: {}. --replace goes back all the same",
        newer.join("; ")
    )]
    Newer {
        /// The newer data, in words.
        newer: Vec<String>,
    },
    /// The database and the backup have different models under one version number.
    #[error(
        "version {version} of the database is another model than that of the backup: they come from two databases, restore into an empty one"
    )]
    OtherModel {
        /// Version number.
        version: i64,
    },
    /// The tombstones of the database and of the backup have different salts, so they cannot be
    /// merged.
    #[error(
        "{erased} users were erased in the database under another salt than the backup's, so that one of the two sets of tombstones would no \
         longer hold: restore into a database in which nobody was erased"
    )]
    OtherSalt {
        /// Number of tombstones in the database.
        erased: u64,
    },
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl BackupError {
    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |cause| BackupError::Io { path, cause }
}
