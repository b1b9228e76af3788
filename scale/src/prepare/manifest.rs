use super::shard::Packed;
use crate::output::FileEntry;
use serde::{Deserialize, Serialize};

/// The manifest's name.
pub(crate) const NAME: &str = "shards.json";

/// Version of the layout.
const FORMAT: u32 = 1;

/// `shards.json`, written last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout; 1.
    pub format: u32,
    /// Users with a like or skip; every `user` is below it.
    pub users: u64,
    /// Rows of kind 0.
    pub likes: u64,
    /// Rows of kind 1.
    pub skips: u64,
    /// Rows of the catalogue.
    pub videos: u64,
    /// Rows of the source that were left out because they name no video of the catalogue.
    pub orphans: u64,
    /// The latest like or skip, microseconds since 1970; `None` without any.
    pub latest_at_us: Option<i64>,
    /// Number of the last erasure that the source knew of: of who was erased until then there is nothing here; 0 where it knew
    /// of none.
    pub erasures_seen: i64,
    /// Where a temporal split cuts.
    pub temporal: Temporal,
    /// The catalogue.
    pub catalogue: FileEntry,
    /// The shards, in order.
    pub files: Vec<ShardEntry>,
}

/// Keys (microseconds since 1970, user, video) of the likes at which held-out parts begin; `None` without likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Temporal {
    /// The like at place ⌊8 n / 10⌋ of n in the order of keys.
    pub validation: Option<(i64, u32, u32)>,
    /// The like at place ⌊9 n / 10⌋.
    pub test: Option<(i64, u32, u32)>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Name in the folder.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Users, none of whom is in another shard.
    pub users: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

impl Manifest {
    pub(super) fn new(
        packed: Packed,
        orphans: u64,
        temporal: Temporal,
        catalogue: FileEntry,
    ) -> Self {
        Self {
            format: FORMAT,
            users: packed.users,
            likes: packed.likes,
            skips: packed.skips,
            videos: catalogue.rows,
            orphans,
            latest_at_us: packed.latest_at_us,
            erasures_seen: 0,
            temporal,
            catalogue,
            files: packed.files,
        }
    }
}
