use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Section `[run]`: how jobs run that nobody looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Folder of locks, of how far a retraining has come, and of which alerts were sent.
    pub state_dir: PathBuf,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("state"),
        }
    }
}

/// Section `[schedule]`: when jobs run. Five fields of cron each; an empty one never runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Name in the IANA time zone database.
    pub time_zone: String,
    /// `twotower run update`.
    pub update: String,
    /// `twotower run retrain`.
    pub retrain: String,
    /// `twotower run maintain`.
    pub maintain: String,
    /// `twotower run backup`.
    pub backup: String,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            time_zone: "UTC".into(),
            update: "0 2 * * *".into(),
            retrain: "0 3 * * 0".into(),
            maintain: "30 4 * * *".into(),
            backup: "30 1 * * *".into(),
        }
    }
}
