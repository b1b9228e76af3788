//! What tables and indexes need so that they stay as fast as on their first day.

use serde::Serialize;
use std::time::Duration;

/// A table of ours, by the server's own statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableHealth {
    /// As `schema.table`.
    pub name: String,
    /// Rows, about.
    pub live_rows: u64,
    /// Rows that were deleted or replaced and still take room, about.
    pub dead_rows: u64,
    /// Rows that changed since the planner's statistics were made.
    pub changed_rows: u64,
    /// Size with indexes.
    pub bytes: u64,
    /// Last vacuum, by hand or by itself, microseconds since 1970.
    pub vacuumed_at_us: Option<i64>,
    /// Last time that statistics were made, microseconds since 1970.
    pub analyzed_at_us: Option<i64>,
    /// Whether the role may do upkeep on it.
    pub permitted: bool,
}

/// An HNSW index of video vectors, or an invalid index of any kind on one of our tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexHealth {
    /// As `schema.index`.
    pub name: String,
    /// As `schema.table`.
    pub table: String,
    /// Size.
    pub bytes: u64,
    /// What its rows need in a new one; `None` where that is not known.
    pub needed_bytes: Option<u64>,
    /// Rows that belong into it.
    pub rows: u64,
    /// Dimension of their vectors, 0 where that is not known.
    pub dim: usize,
    /// Whether queries use it.
    pub valid: bool,
    /// What a rebuild that was cut off has left beside the index that it was to replace.
    pub leftover: bool,
    /// Whether the role may do upkeep on its table.
    pub permitted: bool,
}

/// The file of the embedded store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FileHealth {
    /// Size.
    pub bytes: u64,
    /// Of that, unused.
    pub free_bytes: u64,
}

/// What there is to look after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Our tables; none in the embedded store.
    pub tables: Vec<TableHealth>,
    /// See [`IndexHealth`].
    pub indexes: Vec<IndexHealth>,
    /// Of the embedded store.
    pub file: Option<FileHealth>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// Make room of dead rows, and statistics. The table is not cut short, which would lock everybody out.
    Vacuum {
        /// [`TableHealth::name`]
        table: String,
    },
    /// Make statistics for the planner.
    Analyze {
        /// [`TableHealth::name`]
        table: String,
    },
    /// Build an index anew beside the old one, and then exchange them.
    Rebuild {
        /// Which.
        index: IndexHealth,
    },
    /// Drop what a rebuild has left.
    Drop {
        /// [`IndexHealth::name`]
        index: String,
    },
    /// Delete answers for Edge Functions that were made before so long.
    DeleteAnswers {
        /// Age.
        age: Duration,
    },
    /// Delete runs of jobs that ended before so long.
    DeleteRuns {
        /// Age.
        age: Duration,
    },
    /// Make statistics where the embedded engine finds them old.
    Optimize,
    /// Read the whole file of the embedded store for damage.
    CheckFile,
    /// Write the file of the embedded store anew, without free space.
    ShrinkFile,
}

/// What one thing may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimits {
    /// Waiting for others to let go of a table: then the step gives way.
    pub lock: Duration,
    /// In all.
    pub statement: Duration,
    /// Most memory to build an index in, megabytes.
    pub memory_mb: u64,
}

/// Usable bytes of a page: 8 KiB without its header and what HNSW keeps at its end.
const PAGE: u64 = 8192 - 24 - 8;

/// Bytes that a new HNSW index of pgvector takes for `rows` vectors of `dim` numbers and `m` neighbours a layer.
///
/// Each vector has an element (72 bytes, 8 of the vector, its numbers) and a list of neighbours (4 bytes, 6 a neighbour, twice m in the lowest
/// layer and m in each higher one, of which a vector has 1 / (m - 1) on the average), aligned to 8 bytes, each with 4 bytes of the page's
/// directory, both in one page where they fit (hnsw.h, hnswbuild.c of pgvector 0.8).
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
    // The first page says where the graph begins.
    (pages + 1) * 8192
}

/// What PostgreSQL gives any maintenance by default, megabytes; enough for what needs no memory to speak of.
pub(crate) const LEAST_MB: u64 = 64;

/// Bytes of an element of an HNSW graph that is being built besides its numbers: neighbours on all layers (m = 16), and what allocation
/// adds.
const BUILT_ELEMENT: u64 = 1024;

/// Memory in which the whole HNSW graph of `rows` vectors of `dim` numbers is built, if `cap_mb` allows it, megabytes. In less it is built
/// all the same, but slowly.
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
        // 14 of 64 dimensions in a page.
        assert_eq!(hnsw_bytes(140, 64, 16), 11 * 8192);
        // One of 1536 dimensions.
        assert_eq!(hnsw_bytes(10, 1536, 16), 11 * 8192);
        // Element and neighbours in pages of their own.
        assert_eq!(hnsw_bytes(38, 2000, 16), (38 + 1 + 1) * 8192);
    }

    #[test]
    fn memory_for_a_build_follows_rows_and_dimension_up_to_the_cap() {
        let memory = |rows, dim| hnsw_build_mb(rows, dim, 1024);
        assert_eq!(memory(1000, 64), 64);
        assert_eq!(memory(500_000, 64), 611);
        assert_eq!(memory(500_000, 128), 733);
        assert_eq!(memory(10_000_000, 64), 1024);
        // A cap below what any maintenance gets.
        assert_eq!(hnsw_build_mb(500_000, 64, 1), 64);
    }
}
