use super::ConfigError;
use super::error::Section;
use crate::operations::maintain::Window;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Section `[maintenance]`: maintenance of the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Maintenance {
    /// Part of the day in which work may be done, such as `03:30-06:00`, in the time zone of the
    /// schedule; it may span midnight.
    pub window: String,
    /// Time to wait for a lock on a table before giving up, milliseconds.
    pub lock_ms: u32,
    /// Threshold in percent of a table: of dead rows for a vacuum, of changed rows for new
    /// statistics, and of free space in the embedded database's file for writing it anew.
    pub dead_percent: u32,
    /// An HNSW index larger than this percentage of what its rows need is rebuilt.
    pub bloat_percent: u32,
    /// Records of runs are kept for this many days.
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
        let section = Section {
            path,
            name: "maintenance",
        };
        section.within("lock_ms", self.lock_ms, 1..=60_000)?;
        section.within("dead_percent", self.dead_percent, 1..=100)?;
        section.within("bloat_percent", self.bloat_percent, 110..=10_000)?;
        section.within("run_days", self.run_days, 8..=36_500)?;
        match Window::parse(&self.window) {
            Some(_) => Ok(()),
            None => Err(ConfigError::Window {
                path: path.to_owned(),
                window: self.window.clone(),
            }),
        }
    }
}

/// Section `[backup]`: copies of our own data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// Folder of backups; each has a folder of its own in it.
    pub folder: PathBuf,
    /// Number of backups to keep; older ones are removed after a new one is complete. 0 keeps all.
    pub keep: u32,
    /// Whether events are copied too.
    pub events: bool,
    /// Whether the model folders of served versions are copied; unnecessary where a bucket holds
    /// them.
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
