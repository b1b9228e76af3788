use super::ConfigError;
use super::error::Section;
use crate::operations::{Job, Plan};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use twotower_core::time::DAY_MINUTES;

/// Section `[run]`: how jobs run unattended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Folder of locks, of the progress of a retraining, and of the state of alerts.
    pub state_dir: PathBuf,
    /// Tries in all of a step while the database or the storage is out of reach, or after a signal
    /// killed it.
    pub attempts: u32,
    /// Pause before the second try, seconds; each later pause is twice as long, and each is
    /// multiplied by a random factor from 0.5 to 1.5.
    pub pause_seconds: u32,
    /// Time between asking a command to stop and killing it, seconds.
    pub grace_seconds: u32,
    /// Time limit of a whole update, minutes.
    pub update_minutes: u32,
    /// Time limit of a whole retraining, minutes.
    pub retrain_minutes: u32,
    /// Time limit of a whole maintenance, minutes.
    pub maintain_minutes: u32,
    /// Time limit of a whole backup, minutes.
    pub backup_minutes: u32,
    /// Whether the newest model is fetched from the storage before an update.
    pub fetch: bool,
    /// Whether a newly trained model is evaluated before the gate judges it.
    pub evaluate: bool,
    /// File of the private key that signs retrained models.
    pub signing_key: Option<PathBuf>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("state"),
            attempts: 3,
            pause_seconds: 60,
            grace_seconds: 20,
            update_minutes: 120,
            retrain_minutes: 1440,
            maintain_minutes: 120,
            backup_minutes: 120,
            fetch: false,
            evaluate: true,
            signing_key: None,
        }
    }
}

impl Run {
    /// Time limit of a run of `job`, all tries together.
    pub fn limit(&self, job: Job) -> Duration {
        let minutes = match job {
            Job::Update => self.update_minutes,
            Job::Retrain => self.retrain_minutes,
            Job::Maintain => self.maintain_minutes,
            Job::Backup => self.backup_minutes,
        };
        Duration::from_mins(minutes.into())
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let week = 7 * u32::from(DAY_MINUTES);
        let section = Section { path, name: "run" };
        section.within("attempts", self.attempts, 1..=100)?;
        section.within("pause_seconds", self.pause_seconds, 0..=3600)?;
        section.within("grace_seconds", self.grace_seconds, 0..=3600)?;
        section.within("update_minutes", self.update_minutes, 1..=week)?;
        section.within("retrain_minutes", self.retrain_minutes, 1..=week)?;
        section.within("maintain_minutes", self.maintain_minutes, 1..=week)?;
        section.within("backup_minutes", self.backup_minutes, 1..=week)
    }
}

/// Section `[schedule]`: when jobs run. Each value is a cron expression of five fields; an empty
/// one never runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Name in the IANA time zone database.
    pub time_zone: String,
    /// `twotower run update`.
    pub update: String,
    /// `twotower run retrain`.
    pub retrain: String,
    /// `twotower run retrain --fine-tune`.
    pub fine_tune: String,
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
            fine_tune: String::new(),
            maintain: "30 4 * * *".into(),
            backup: "30 1 * * *".into(),
        }
    }
}

impl Schedule {
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        Plan::new(self).map_err(|cause| ConfigError::Schedule {
            path: path.to_owned(),
            cause,
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let refused = |text: &str| {
            let error = Config::parse(text, Path::new("x.toml")).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            refused("[run]\nupdate_minutes = 0"),
            "configuration x.toml, section [run]: update_minutes is 0, expected 1 to 10080"
        );
        let error = refused("[schedule]\nupdate = \"0 25 * * *\"");
        assert!(
            error.starts_with(
                "configuration x.toml, section [schedule]: update = \"0 25 * * *\": `25` is no hour"
            ),
            "{error}"
        );
    }
}
