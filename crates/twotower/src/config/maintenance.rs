use super::{ConfigError, Setting};
use crate::operations::maintain::Window;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Section `[maintenance]`: upkeep of the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Maintenance {
    /// When work may be done, as `03:30-06:00`, in the time zone of the schedule; it may go past midnight.
    pub window: String,
    /// Milliseconds to wait for somebody who keeps a table locked, before giving way.
    pub lock_ms: u32,
    /// Dead rows, percent of a table, from which on it is vacuumed; changed rows, from which on statistics are made; free space of the embedded
    /// database's file, from which on it is written anew.
    pub dead_percent: u32,
    /// Size of an HNSW index, percent of what its rows need, from which on it is rebuilt.
    pub bloat_percent: u32,
    /// Days that runs of jobs are remembered.
    pub run_days: u32,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            window: "03:30-06:00".into(),
            lock_ms: 2000,
            dead_percent: 10,
            bloat_percent: 200,
            run_days: 400,
        }
    }
}

impl Maintenance {
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let settings = [
            ("lock_ms", self.lock_ms, 1, 60_000),
            ("dead_percent", self.dead_percent, 1, 100),
            ("bloat_percent", self.bloat_percent, 110, 10_000),
            ("run_days", self.run_days, 8, 36_500),
        ];
        for (key, value, minimum, maximum) in settings {
            let setting = Setting {
                section: "maintenance",
                key,
                value,
                minimum,
                maximum,
            };
            setting.check(path)?;
        }
        match Window::parse(&self.window) {
            Some(_) => Ok(()),
            None => Err(ConfigError::Window {
                path: path.to_owned(),
                window: self.window.clone(),
            }),
        }
    }
}

/// Section `[backup]`: copies of what is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// Folder of backups, each in a folder of its own.
    pub folder: PathBuf,
    /// Backups to keep; older ones are removed after a new one is complete. 0 keeps all.
    pub keep: u32,
    /// Copy events, too.
    pub events: bool,
    /// Copy the folders of the models that are served. Not needed where they are in a bucket.
    pub models: bool,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("backups"),
            keep: 14,
            events: false,
            models: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn a_window_that_is_none_is_refused() {
        let refused = |text: &str| {
            let error = Config::parse(&format!("[maintenance]\n{text}"), Path::new("x.toml"));
            error.unwrap_err().to_string()
        };
        let window = refused("window = \"3:30 to 6\"");
        assert!(window.contains("03:30-06:00"), "{window}");
        assert_eq!(
            refused("bloat_percent = 100"),
            "configuration x.toml, section [maintenance]: bloat_percent is 100, expected 110 to 10000"
        );
    }
}
