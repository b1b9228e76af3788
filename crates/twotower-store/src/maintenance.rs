//! Maintenance of tables and indexes, so that they stay fast.

use serde::Serialize;
use std::time::Duration;

/// A table of ours, according to the server's statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableHealth {
    /// Name as `schema.table`.
    pub name: String,
    /// Estimated number of rows.
    pub live_rows: u64,
    /// Estimated number of dead rows.
    pub dead_rows: u64,
    /// Rows changed since the last ANALYZE.
    pub changed_rows: u64,
    /// Size with indexes, bytes.
    pub bytes: u64,
    /// Last vacuum, manual or automatic, microseconds since 1970.
    pub vacuumed_at_us: Option<i64>,
    /// Last ANALYZE, manual or automatic, microseconds since 1970.
    pub analyzed_at_us: Option<i64>,
    /// Whether the role may maintain it.
    pub permitted: bool,
}

/// An HNSW index of video vectors, or an invalid index of any kind on one of our tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexHealth {
    /// Name as `schema.index`.
    pub name: String,
    /// Table as `schema.table`.
    pub table: String,
    /// Size, bytes.
    pub bytes: u64,
    /// Size that a new index of its rows would have, bytes; `None` if unknown.
    pub needed_bytes: Option<u64>,
    /// Number of rows that it covers.
    pub rows: u64,
    /// Dimension of their vectors; 0 if unknown.
    pub dim: usize,
    /// Whether queries can use it.
    pub valid: bool,
    /// Whether it is the remnant of an interrupted rebuild, beside the index that it was to
    /// replace.
    pub leftover: bool,
    /// Whether the role may maintain its table.
    pub permitted: bool,
}

/// The SQLite file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FileHealth {
    /// Size, bytes.
    pub bytes: u64,
    /// Unused bytes of those.
    pub free_bytes: u64,
}

/// State of everything that can be maintained.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Our tables; none in SQLite.
    pub tables: Vec<TableHealth>,
    /// See [`IndexHealth`].
    pub indexes: Vec<IndexHealth>,
    /// The SQLite file.
    pub file: Option<FileHealth>,
}

/// One maintenance step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// Vacuum and analyze a table, without truncating it, which would lock everybody out.
    Vacuum {
        /// [`TableHealth::name`]
        table: String,
    },
    /// Analyze a table.
    Analyze {
        /// [`TableHealth::name`]
        table: String,
    },
    /// Rebuild an index concurrently.
    Rebuild {
        /// The index.
        index: IndexHealth,
    },
    /// Drop the remnant of a rebuild.
    Drop {
        /// [`IndexHealth::name`]
        index: String,
    },
    /// Delete cached answers for Edge Functions that are older than this.
    DeleteAnswers {
        /// Age.
        age: Duration,
    },
    /// Delete runs of jobs that ended longer ago than this.
    DeleteRuns {
        /// Age.
        age: Duration,
    },
    /// Refresh SQLite's statistics where they are out of date.
    Optimize,
    /// Check the whole SQLite file for damage.
    CheckFile,
    /// Rewrite the SQLite file without free space.
    ShrinkFile,
}

/// Limits of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimits {
    /// Maximum wait for a lock on a table before the step gives up.
    pub lock: Duration,
    /// Maximum duration.
    pub statement: Duration,
    /// Maximum memory for building an index, megabytes.
    pub memory_mb: u64,
}

/// Usable bytes of a page: 8 KiB without the page header and HNSW's special space.
const PAGE: u64 = 8192 - 24 - 8;

/// Bytes of a new pgvector HNSW index for `rows` vectors of `dim` numbers and `m` neighbours per
/// layer.
///
/// Each vector has an element tuple (72 bytes, 8 of the vector's header, its numbers) and a
/// neighbour tuple (4 bytes, 6 per neighbour, 2 m of them in the lowest layer and m in each higher
/// one, of which a vector has 1 / (m - 1) on average). Both are aligned to 8 bytes, have a 4-byte
/// line pointer each, and share a page where they fit (hnsw.h, hnswbuild.c of pgvector 0.8).
pub(crate) fn hnsw_bytes(rows: u64, dim: u64, m: u64) -> u64 {
    let m = m.max(2);
    let element = (72 + 8 + 4 * dim).next_multiple_of(8) + 4;
    let lowest = (4 + 2 * m * 6).next_multiple_of(8) + 4;
    let neighbours = lowest + 6 * m / (m - 1);
    let pages = if element + neighbours <= PAGE {
        rows.div_ceil(PAGE / (element + neighbours))
    } else {
        rows.div_ceil((PAGE / element).max(1)) + rows.div_ceil((PAGE / neighbours).max(1))
    };
    // The first page is the metapage.
    (pages + 1) * 8192
}

/// PostgreSQL's default `maintenance_work_mem`, megabytes; enough for steps that need little
/// memory.
pub(crate) const LEAST_MB: u64 = 64;

/// Bytes per element of an HNSW graph under construction besides its numbers: neighbours on all
/// layers (m = 16) and allocation overhead.
const BUILT_ELEMENT: u64 = 1024;

/// Memory that holds the whole HNSW graph of `rows` vectors of `dim` numbers, at most `cap_mb`,
/// megabytes. With less memory the build is much slower.
pub(crate) fn hnsw_build_mb(rows: u64, dim: usize, cap_mb: u64) -> u64 {
    let needed = rows * (4 * dim as u64 + BUILT_ELEMENT);
    needed.div_ceil(1 << 20).min(cap_mb).max(LEAST_MB)
}

#[cfg(test)]
mod tests {
    use super::{hnsw_build_mb, hnsw_bytes};

    #[test]
    fn an_index_needs_what_its_rows_do() {
        assert_eq!(hnsw_bytes(0, 64, 16), 8192);
        // 14 vectors of 64 dimensions per page.
        assert_eq!(hnsw_bytes(140, 64, 16), 11 * 8192);
        // One vector of 1536 dimensions per page.
        assert_eq!(hnsw_bytes(10, 1536, 16), 11 * 8192);
        // Element and neighbours on separate pages.
        assert_eq!(hnsw_bytes(38, 2000, 16), (38 + 1 + 1) * 8192);
    }

    #[test]
    fn memory_for_a_build_follows_rows_and_dimension_up_to_the_cap() {
        let memory = |rows, dim| hnsw_build_mb(rows, dim, 1024);
        assert_eq!(memory(1000, 64), 64);
        assert_eq!(memory(500_000, 64), 611);
        assert_eq!(memory(500_000, 128), 733);
        assert_eq!(memory(10_000_000, 64), 1024);
        // A cap below PostgreSQL's default.
        assert_eq!(hnsw_build_mb(500_000, 64, 1), 64);
    }
}
