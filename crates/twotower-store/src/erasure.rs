//! Erased users. Each leaves a hash that only this database can compute.

use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use uuid::Uuid;

/// What an erasure deletes besides blocks, events, kept answers and vectors of all versions, which
/// always go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasePlan {
    /// Whether rows of our own table `likes` are deleted.
    pub likes: bool,
    /// Whether rows of our own table `skips` are deleted.
    pub skips: bool,
    /// The operator's statements. They run in this order, in the transaction of the erasure, with
    /// the id of the user as `$1`.
    pub statements: Vec<String>,
}

impl ErasePlan {
    /// Whether statements delete from one of `likes` and `skips`, and an erasure from the other.
    pub(crate) fn leaves_rest_to_statements(&self) -> bool {
        self.likes != self.skips && !self.statements.is_empty()
    }
}

/// Logs that an erasure does not delete from `table` itself.
pub(crate) fn left_to_statements(table: &str) {
    tracing::warn!(
        "{table} is a view, or twotower may not delete all of its rows: the erasure leaves it to the statements of [erase]"
    );
}

/// What an erasure deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// When the user was erased for the first time, microseconds since 1970.
    pub erased_at_us: i64,
    /// Number of that first erasure, higher than that of any earlier one.
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
    /// Number of rows that each statement of [`ErasePlan::statements`] affected.
    pub statements: Vec<u64>,
}

/// Result of a search for an id in the rows of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SearchedRows {
    /// Columns that were searched, as `schema.table.column`.
    pub searched: Vec<String>,
    /// Columns in which the id was found, with the number of rows.
    pub found: Vec<(String, u64)>,
    /// Whether a video has this id as well, which happens where users and videos are both numbered.
    pub is_video: bool,
    /// If so, columns of videos' ids in which it was found, with the number of rows. There it is
    /// the video's id.
    pub passed_over: Vec<(String, u64)>,
    /// Tables that could not be searched, and why.
    pub not_searched: Vec<(String, String)>,
}

/// A column that was searched.
pub(crate) struct SearchedColumn {
    pub(crate) name: String,
    /// Whether it holds videos' ids and none of users.
    pub(crate) of_videos: bool,
    /// Number of rows in which the id was found.
    pub(crate) rows: i64,
}

impl SearchedRows {
    /// Adds the counts of the columns of a table.
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

    /// Index of a column in [`Self::passed_over`].
    pub(crate) fn passed_over(&self, column: &str) -> Option<usize> {
        self.passed_over.iter().position(|(name, _)| name == column)
    }

    /// Moves `rows` of a column that was passed over to [`Self::found`]: they hold something other
    /// than videos' ids.
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

/// All tombstones at one moment.
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

    /// The same number of erasures, covering nobody. For rows from which the database has already
    /// left erased users out: pseudonyms may equal anybody's id.
    pub(crate) fn for_pseudonyms(self) -> Self {
        Self {
            hashes: HashSet::new(),
            ..self
        }
    }

    /// Whether `user` was erased. No hash is computed while nobody was.
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
