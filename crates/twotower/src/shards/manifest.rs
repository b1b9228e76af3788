//! `shards.json`: what is in a folder of shards. It is written last, so that a folder without it is none.

use crate::sha256;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Name of the file.
pub const MANIFEST: &str = "shards.json";

/// The format that is read here.
const FORMAT: u32 = 1;

/// A like's place among all likes in the order of a snapshot: microseconds since 1970, the user's place among all ids, the
/// video's position.
pub(crate) type Key = (i64, u32, u32);

/// First likes of the parts of a split by time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Temporal {
    /// The like from which on likes are validation.
    pub(crate) validation: Option<Key>,
    /// The like from which on they are test.
    pub(crate) test: Option<Key>,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) rows: u64,
    /// Users whose rows it holds; not of the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<u64>,
    pub(crate) sha256: String,
}

impl FileEntry {
    /// Compares the content of `path` with the sum.
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

/// What `shards.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) users: u64,
    pub(crate) likes: u64,
    pub(crate) skips: u64,
    pub(crate) videos: u64,
    /// Rows that named a video which is not in the catalogue, and were left out.
    pub(crate) orphans: u64,
    /// Time of the latest like or skip, microseconds since 1970.
    pub(crate) latest_at_us: Option<i64>,
    /// Number of the last erasure that the source knew of; 0 where it knew of none.
    #[serde(default)]
    pub(crate) erasures_seen: i64,
    pub(crate) temporal: Temporal,
    pub(crate) catalogue: FileEntry,
    /// Likes and skips, in the order of users.
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
        Ok((manifest, sha256::of_bytes(&bytes)))
    }

    /// Refuses counts that do not fit together, before memory is taken for as many.
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
        // A user is a number of 32 bits.
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
