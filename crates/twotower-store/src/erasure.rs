//! Users who were erased: what is left of each is a hash that only this database can compute.

use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use uuid::Uuid;

/// What an erasure deletes besides what is always deleted: vectors of all versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasePlan {
    /// Whether rows of our own tables `likes` and `skips` are deleted.
    pub application_tables: bool,
    /// The operator's own statements, in this order and in the same transaction, with the id of the user as `$1`.
    pub statements: Vec<String>,
}

/// What an erasure deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// When the user was erased for the first time, microseconds since 1970.
    pub erased_at_us: i64,
    /// Number of that first erasure: higher than that of any before.
    #[serde(skip)]
    pub number: i64,
    /// Whether this was the first time.
    pub first_time: bool,
    /// Likes deleted.
    pub likes: u64,
    /// Skips deleted.
    pub skips: u64,
    /// Vectors deleted, of all versions.
    pub user_vectors: u64,
    /// Rows that each statement of [`ErasePlan::statements`] touched.
    pub statements: Vec<u64>,
}

/// Where rows of a database were searched for an id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SearchedRows {
    /// Columns looked at, as `schema.table.column`.
    pub searched: Vec<String>,
    /// Columns in which the id was found, and in how many rows.
    pub found: Vec<(String, u64)>,
    /// Whether a video has this id, too, as where ids of users and of videos are numbers.
    pub is_video: bool,
    /// Then the columns of videos' ids in which it was found, and in how many rows: it is the video's there.
    pub passed_over: Vec<(String, u64)>,
    /// Tables that could not be looked at, and why.
    pub not_searched: Vec<(String, String)>,
}

/// A column that was looked at.
pub(crate) struct SearchedColumn {
    pub(crate) name: String,
    /// Whether it holds videos' ids and none of users.
    pub(crate) of_videos: bool,
    /// Rows in which the id was found.
    pub(crate) rows: i64,
}

impl SearchedRows {
    /// Takes what was counted in the columns of a table.
    pub(crate) fn add(&mut self, table: &str, columns: impl Iterator<Item = SearchedColumn>) {
        for column in columns {
            let name = format!("{table}.{}", column.name);
            if column.rows > 0 {
                let is_video = self.is_video && column.of_videos;
                let places = if is_video {
                    &mut self.passed_over
                } else {
                    &mut self.found
                };
                places.push((name.clone(), column.rows as u64));
            }
            self.searched.push(name);
        }
    }

    /// Where in [`Self::passed_over`] a column is.
    pub(crate) fn passed_over(&self, column: &str) -> Option<usize> {
        self.passed_over.iter().position(|(name, _)| name == column)
    }

    /// `rows` of a column that was passed over hold something else than videos' ids.
    pub(crate) fn found_again(&mut self, passed: usize, rows: i64) {
        let (column, all) = &mut self.passed_over[passed];
        let rows = rows as u64;
        if rows > 0 {
            self.found.push((column.clone(), rows));
        }
        *all = all.saturating_sub(rows);
        if *all == 0 {
            self.passed_over.remove(passed);
        }
    }
}

/// All tombstones as of one moment.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    salt: Vec<u8>,
    hashes: HashSet<Vec<u8>>,
    /// The highest number among them, 0 without any.
    pub(crate) last: i64,
}

impl Tombstones {
    pub(crate) fn new(salt: Vec<u8>, rows: impl IntoIterator<Item = (Vec<u8>, i64)>) -> Self {
        let mut tombstones = Self {
            salt,
            ..Self::default()
        };
        for (hash, number) in rows {
            tombstones.hashes.insert(hash);
            tombstones.last = tombstones.last.max(number);
        }
        tombstones
    }

    /// Covers nobody: for rows that the database has left out already, and whose pseudonyms may look like anybody's id.
    pub(crate) fn for_pseudonyms(self) -> Self {
        Self {
            hashes: HashSet::new(),
            ..self
        }
    }

    /// Whether `user` was erased. Costs nothing while nobody was.
    pub(crate) fn cover(&self, user: Uuid) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&user_hash(&self.salt, user)[..])
    }
}

/// SHA-256 over the salt and the 16 bytes of the id.
pub(crate) fn user_hash(salt: &[u8], user: Uuid) -> [u8; 32] {
    let hash = Sha256::new()
        .chain_update(salt)
        .chain_update(user.as_bytes());
    hash.finalize().into()
}
