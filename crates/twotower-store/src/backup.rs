//! A copy of what is ours and cannot be made again: a folder of JSON lines, one file a table, with the folders of the models that are served.
//!
//! JSON lines, since a backup is read when all else is gone: any tool of any year reads them, a row at a time, and what was written from one
//! engine is read into the other. Ids are UUIDs, times microseconds since 1970 (UTC), bytes hexadecimal, vectors Base64 of little-endian
//! 32-bit floats. `backup.json` is written last and holds the SHA-256 of every other file, and its own.

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
    TOMBSTONES, Table, VECTORS,
};
pub use write::BackupWriter;
pub(crate) use write::StoredVector;

use crate::StoreError;
use crate::model_files::ModelFilesError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the layout that this program writes and reads.
const FORMAT: u32 = 1;

const MANIFEST: &str = "backup.json";

/// The folder of models in a backup.
const MODEL_FOLDER: &str = "models";

/// Where a backup lists a file of a model.
fn model_file(version: i64, name: &str) -> String {
    format!("{MODEL_FOLDER}/{version}/{name}")
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
    /// Lines, of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    /// SHA-256 (hex) of this file itself with these 64 digits taken out. Always the first field.
    pub checksum: String,
    /// Of the layout; 1.
    pub format: u32,
    /// Version of twotower that wrote it.
    pub twotower: String,
    /// `postgresql` or `sqlite`.
    pub engine: String,
    /// The last migration of the database.
    pub schema: String,
    /// The moment that it shows, microseconds since 1970 by the database's clock.
    pub taken_at_us: i64,
    /// The version that readers saw.
    pub active_version: Option<i64>,
    /// The last version number that was given away.
    pub last_version: i64,
    /// Versions whose vectors are in it: the active one, the one that a rollback leads to, those of a running experiment.
    pub versions: Vec<i64>,
    /// Versions whose folders are in it.
    pub models: Vec<i64>,
    /// Every other file by its path.
    pub files: BTreeMap<String, BackupFile>,
}

impl BackupManifest {
    /// Rows of each table.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        let tables = self.files.iter();
        tables
            .filter_map(|(name, file)| Some((table::of_file(name)?.to_owned(), file.rows?)))
            .collect()
    }

    /// Size of all files but this one.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// A version that is served, or may be at any moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVersion {
    /// Version.
    pub version: i64,
    /// The checksum that the manifest of its folder states of itself.
    pub manifest_sha256: String,
}

/// What the database says of itself at the moment of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970.
    pub taken_at_us: i64,
    /// The version that readers see.
    pub active_version: Option<i64>,
    /// The last version number that was given away.
    pub last_version: i64,
    /// See [`BackupManifest::versions`].
    pub versions: Vec<KeptVersion>,
}

/// How to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Also where the database holds what is newer.
    pub replace: bool,
    /// Look at everything, write nothing.
    pub dry_run: bool,
    /// Who restores; kept with the activation, where one is needed.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What a restoration wrote, or would write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// Rows of users who were erased, which were left out.
    pub erased_left_out: u64,
    /// The version that readers see now.
    pub active_version: Option<i64>,
    /// What the database held that is newer, in words; replaced if that was asked for.
    pub newer: Vec<String>,
}

/// Why there is no backup, or none was restored.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of a model.
    #[error(transparent)]
    Model(#[from] ModelFilesError),
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Nothing there.
    #[error("{0} holds no complete backup: it has no backup.json")]
    Missing(PathBuf),
    /// A file is not what was written.
    #[error(
        "{path} {reason}: the backup is damaged, take another copy or an older one; nothing was restored"
    )]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by another version of twotower.
    #[error(
        "{path} has format {format}, and this version of twotower reads format {FORMAT}: restore it with the version that wrote it, then upgrade"
    )]
    Format {
        /// Manifest.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// The database holds what the backup does not know.
    #[error(
        "the database holds what is newer than the backup, and nothing was written: {}. --replace goes back all the same",
        newer.join("; ")
    )]
    Newer {
        /// What, in words.
        newer: Vec<String>,
    },
    /// Two models of one number.
    #[error(
        "version {version} of the database is another model than that of the backup: they come from two databases, restore into an empty one"
    )]
    OtherModel {
        /// Which.
        version: i64,
    },
    /// Tombstones that cannot be put together.
    #[error(
        "{erased} users were erased in the database under another salt than the backup's, so that one of the two sets of tombstones would no \
         longer hold: restore into a database in which nobody was erased"
    )]
    OtherSalt {
        /// Tombstones of the database.
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
