use super::ConfigError;
use super::error::Section;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use twotower_core::split::SplitKind;

/// More than machines have cores.
pub(crate) const MAX_THREADS: usize = 4096;

/// PostgreSQL's largest `maintenance_work_mem`, megabytes.
pub(crate) const MAX_INDEX_MEMORY_MB: u64 = 2_097_151;

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

impl Training {
    /// The folder of models: `flag` if given, else that of the file.
    #[must_use]
    pub fn models(&self, flag: Option<&PathBuf>) -> PathBuf {
        flag.unwrap_or(&self.output_dir).clone()
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let section = Section {
            path,
            name: "training",
        };
        section.within("threads", self.threads, 1..=MAX_THREADS)
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

impl Update {
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let section = Section {
            path,
            name: "update",
        };
        section.within("batch_size", self.batch_size, 1..=100_000)?;
        section.within(
            "index_memory_mb",
            self.index_memory_mb,
            1..=MAX_INDEX_MEMORY_MB,
        )?;
        section.within("lease_seconds", self.lease_seconds, 1..=3600)?;
        section.within("attempts", self.attempts, 1..=100)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn no_threads_and_no_rows_do_no_work() {
        for (section, key, least, most) in [
            ("training", "threads", 1, 4096),
            ("update", "batch_size", 1, 100_000),
            ("update", "index_memory_mb", 1, 2_097_151),
            ("update", "lease_seconds", 1, 3600),
            ("update", "attempts", 1, 100),
            ("storage", "deadline_minutes", 1, 10_080),
        ] {
            let parse = |value: u32| {
                let text = format!("[{section}]\n{key} = {value}");
                Config::parse(&text, Path::new("x.toml"))
            };
            for value in [least - 1, most + 1] {
                let expected = format!(
                    "configuration x.toml, section [{section}]: {key} is {value}, expected {least} to {most}"
                );
                assert_eq!(parse(value).unwrap_err().to_string(), expected);
            }
            for value in [least, most] {
                parse(value).unwrap();
            }
        }
    }
}
