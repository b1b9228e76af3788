use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use twotower_core::split::SplitKind;

/// Section `[training]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// How likes are split into training, validation and test.
    pub split: SplitKind,
    /// Leaves out likes and skips more than this many days older than the latest one.
    pub max_age_days: Option<u32>,
    /// Number of threads; the result does not depend on it.
    pub threads: usize,
    /// Folder of models.
    pub output_dir: PathBuf,
    /// Minutes between two checkpoints of training; 0 writes none.
    pub checkpoint_minutes: u32,
    /// Allows `min_users` to be less than
    /// [`LEAST_USERS`](twotower_core::hyperparameters::LEAST_USERS).
    pub allow_few_users: bool,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            split: SplitKind::Temporal,
            max_age_days: None,
            threads: 2,
            output_dir: PathBuf::from("models"),
            checkpoint_minutes: 5,
            allow_few_users: false,
        }
    }
}

/// Section `[update]`: how vectors are loaded into the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Update {
    /// Number of vectors per transaction.
    pub batch_size: usize,
    /// Whether the quality gate judges a version before it becomes active.
    pub gate: bool,
    /// Whether the index of a version's video vectors is built before readers see it.
    pub index: bool,
    /// Memory limit of building it, megabytes.
    pub index_memory_mb: u64,
    /// TTL of a publisher's lease, seconds; it is renewed four times within it.
    pub lease_seconds: u32,
    /// Tries in all of a call while the database is away.
    pub attempts: u32,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            batch_size: 1000,
            gate: true,
            index: true,
            index_memory_mb: 1024,
            lease_seconds: 60,
            attempts: 5,
        }
    }
}
