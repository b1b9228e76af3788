//! `shards.json`: contents of a folder of shards. It is written last, so a folder without it is
//! incomplete.

use crate::sha256;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Name of the file.
pub(crate) const MANIFEST: &str = "shards.json";

/// The version of the format that is supported.
const FORMAT: u32 = 1;

/// Sort key of a like in the order of a snapshot: microseconds since 1970, rank of the user's id,
/// position of the video.
pub(crate) type Key = (i64, u32, u32);

/// First likes of the parts of a temporal split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Temporal {
    /// First like of validation.
    pub(crate) validation: Option<Key>,
    /// First like of test.
    pub(crate) test: Option<Key>,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) rows: u64,
    /// Number of users whose rows it holds; not given for the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<u64>,
    pub(crate) sha256: String,
}

impl FileEntry {
    /// Compares the SHA-256 of `path` with the manifest's.
    pub(crate) fn check(&self, path: &Path) -> anyhow::Result<()> {
        let found = sha256::of_file(path, || Ok(()))?;
        ensure!(
            found == self.sha256,
            "{}: its SHA-256 is {found}, and {MANIFEST} says {}: it was damaged or replaced; prepare the shards again",
            path.display(),
            self.sha256
        );
        Ok(())
    }
}

/// The content of `shards.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) users: u64,
    pub(crate) likes: u64,
    pub(crate) skips: u64,
    pub(crate) videos: u64,
    /// Number of rows that named a video outside the catalogue and were left out.
    pub(crate) orphans: u64,
    /// Time of the latest like or skip, microseconds since 1970.
    pub(crate) latest_at_us: Option<i64>,
    /// Number of the last erasure that the source had seen; 0 if none.
    #[serde(default)]
    pub(crate) erasures_seen: i64,
    pub(crate) temporal: Temporal,
    pub(crate) catalogue: FileEntry,
    /// Files of likes and skips, ordered by user.
    pub(crate) files: Vec<FileEntry>,
}

impl Manifest {
    /// The manifest of `folder`, and its SHA-256.
    pub(super) fn read(folder: &Path) -> anyhow::Result<(Self, String)> {
        let path = folder.join(MANIFEST);
        let bytes = fs::read(&path).with_context(|| {
            let path = path.display();
            format!("read {path}; a folder of shards is made by `twotower prepare`, which writes {MANIFEST} last")
        })?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: this is no manifest of shards", path.display()))?;
        ensure!(
            manifest.format == FORMAT,
            "{}: format {} is not known here, {FORMAT} is: prepare the shards with this version of twotower",
            path.display(),
            manifest.format
        );
        let named = manifest.files.iter().chain([&manifest.catalogue]);
        for file in named {
            let plain = Path::new(&file.name).components().count() == 1;
            ensure!(
                plain && !file.name.starts_with('.'),
                "{}: `{}` is no name of a file in the folder",
                path.display(),
                file.name
            );
        }
        manifest
            .check_counts()
            .with_context(|| path.display().to_string())?;
        Ok((manifest, twotower_store::sha256(&bytes)))
    }

    /// Refuses inconsistent counts before memory is allocated for them.
    fn check_counts(&self) -> anyhow::Result<()> {
        let rows = self.likes.checked_add(self.skips);
        let of_files = self
            .files
            .iter()
            .try_fold(0u64, |sum, file| sum.checked_add(file.rows));
        ensure!(
            rows.is_some() && rows == of_files,
            "{} likes and {} skips are not the rows of its files: prepare the shards again",
            self.likes,
            self.skips
        );
        // Users are numbered with 32 bits.
        let most = rows.unwrap_or(0).min(u64::from(u32::MAX));
        ensure!(
            self.users <= most,
            "{} users cannot have {} likes and skips: prepare the shards again",
            self.users,
            rows.unwrap_or(0)
        );
        Ok(())
    }
}
