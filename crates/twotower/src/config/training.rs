use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use twotower_core::split::SplitKind;

/// Section `[training]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// How likes are cut into training, validation and test.
    pub split: SplitKind,
    /// Leave out likes and skips older than so many days before the latest one.
    pub max_age_days: Option<u32>,
    /// Threads; the result does not depend on it.
    pub threads: usize,
    /// Folder of models.
    pub output_dir: PathBuf,
    /// Minutes between two checkpoints of training; 0 writes none.
    pub checkpoint_minutes: u32,
    /// Let `min_users` be less than [`LEAST_USERS`](twotower_core::hyperparameters::LEAST_USERS).
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

/// Section `[update]`: how vectors come into the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Update {
    /// Vectors a transaction.
    pub batch_size: usize,
    /// Ask the quality gate before a version becomes active.
    pub gate: bool,
    /// Build the index of a version's video vectors before readers see it.
    pub index: bool,
    /// Most memory to build it in, megabytes.
    pub index_memory_mb: u64,
    /// How long others wait for a publisher that says nothing; it speaks four times as often.
    pub lease_seconds: u32,
    /// Tries of a call while the database is away.
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
