use super::ConfigError;
use super::error::Section;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Section `[checks]`: what `twotower doctor` and the alerts check, and the thresholds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checks {
    /// Address of `twotower serve`: `http://127.0.0.1:8080`.
    pub server: Option<String>,
    /// Address of its metrics, without a token: `http://127.0.0.1:9464/metrics`.
    pub server_metrics: Option<String>,
    /// Metrics of the database's machine in Prometheus text format: from `node_exporter`, or a
    /// Supabase project's privileged metrics.
    pub database_metrics: Option<String>,
    /// Hosts whose certificates are checked for expiry, with a port unless that is 443.
    pub certificate_hosts: Vec<String>,
    /// Files of keys and secrets, in addition to those that the environment names.
    pub key_files: Vec<PathBuf>,
    /// Log files, in addition to the one that `TWOTOWER_LOG_FILE` names.
    pub log_files: Vec<PathBuf>,
    /// Least number of likes.
    pub likes: u32,
    /// Least number of users who like something.
    pub users: u32,
    /// Least number of videos.
    pub videos: u32,
    /// The AUC of the active model must be above this.
    pub auc: f64,
    /// The Precision@10 of the active model must be above this.
    pub precision_at_10: f64,
    /// Connections of all clients to the database server must be fewer than this.
    pub connections: u32,
    /// CPU use of the database's machine must be below this, percent.
    pub database_cpu_percent: u32,
    /// The 99th percentile of the latency of recommendations must be below this, milliseconds.
    pub latency_ms: u32,
    /// Share of answers with status 500 or above must be below this, percent.
    pub error_percent: f64,
    /// Least recall of the vector index: share of the exact top ten that it finds, 0 to 1.
    pub recall: f64,
    /// An update that takes this long or longer is slow, minutes.
    pub update_minutes: u32,
    /// A run that has not begun this long after it was due is missed, minutes.
    pub missed_minutes: u32,
    /// The vectors that readers see are stale if they were neither written nor checked for this
    /// long, hours.
    pub stale_hours: u32,
    /// At most this share of the videos may lack a vector, percent.
    pub missing_percent: f64,
    /// Greatest age of the last backup, hours.
    pub backup_hours: u32,
    /// A rate of likes this far below that of the four weeks before is drift, percent of that rate.
    pub drift_percent: u32,
    /// Drift is judged only if at least this many videos were shown in the last week, each counted
    /// once per user.
    pub drift_impressions: u32,
    /// Least free space where models, state, backups and an embedded database are kept, megabytes.
    pub disk_mb: u32,
    /// Least available memory, megabytes.
    pub memory_mb: u32,
    /// Greatest difference between our clock and the database's, seconds.
    pub clock_seconds: u32,
    /// Greatest age of a key, days.
    pub key_days: u32,
    /// A certificate must be valid for at least this long, days.
    pub certificate_days: u32,
    /// Greatest size of a log file, megabytes.
    pub log_mb: u32,
}

impl Default for Checks {
    /// The values of the deployment guide, where it gives one.
    fn default() -> Self {
        Self {
            server: None,
            server_metrics: None,
            database_metrics: None,
            certificate_hosts: Vec::new(),
            key_files: Vec::new(),
            log_files: Vec::new(),
            likes: 100_000,
            users: 1_000,
            videos: 10_000,
            auc: 0.65,
            precision_at_10: 0.15,
            connections: 100,
            database_cpu_percent: 80,
            latency_ms: 200,
            error_percent: 1.0,
            recall: 0.9,
            update_minutes: 30,
            missed_minutes: 30,
            stale_hours: 36,
            missing_percent: 1.0,
            backup_hours: 36,
            drift_percent: 20,
            drift_impressions: 5_000,
            disk_mb: 2_048,
            memory_mb: 512,
            clock_seconds: 2,
            key_days: 180,
            certificate_days: 14,
            log_mb: 1_024,
        }
    }
}

impl Checks {
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let section = Section {
            path,
            name: "checks",
        };
        section.within("connections", self.connections, 1..=100_000)?;
        section.within("database_cpu_percent", self.database_cpu_percent, 1..=100)?;
        section.within("latency_ms", self.latency_ms, 1..=30_000)?;
        section.within("update_minutes", self.update_minutes, 1..=10_080)?;
        section.within("missed_minutes", self.missed_minutes, 1..=10_080)?;
        section.within("stale_hours", self.stale_hours, 1..=8_784)?;
        section.within("backup_hours", self.backup_hours, 1..=8_784)?;
        section.within("drift_percent", self.drift_percent, 1..=100)?;
        section.within(
            "drift_impressions",
            self.drift_impressions,
            1..=1_000_000_000,
        )?;
        section.within("clock_seconds", self.clock_seconds, 1..=100_000_000)?;
        section.within("key_days", self.key_days, 1..=36_500)?;
        section.within("certificate_days", self.certificate_days, 0..=3_650)?;
        section.within("log_mb", self.log_mb, 1..=1_000_000)?;
        // `NaN` would pass every later check; a fraction above 1, such as a percentage, would pass
        // none.
        section.within("auc", self.auc, 0.0..=1.0)?;
        section.within("precision_at_10", self.precision_at_10, 0.0..=1.0)?;
        section.within("recall", self.recall, 0.0..=1.0)?;
        section.within("error_percent", self.error_percent, 0.0..=100.0)?;
        section.within("missing_percent", self.missing_percent, 0.0..=100.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn figures_outside_their_range_are_refused() {
        let refused = |text: &str| {
            let parsed = Config::parse(&format!("[checks]\n{text}"), Path::new("x.toml"));
            parsed.unwrap_err().to_string()
        };
        assert_eq!(
            refused("database_cpu_percent = 101"),
            "configuration x.toml, section [checks]: database_cpu_percent is 101, expected 1 to 100"
        );
        assert_eq!(
            refused("auc = 65.0"),
            "configuration x.toml, section [checks]: auc is 65, expected 0 to 1"
        );
        assert!(refused("servers = 1").contains("did you mean `server`?"));
    }

    /// Keys, and the maximum of each.
    const SHARES: [(&str, u32); 5] = [
        ("auc", 1),
        ("precision_at_10", 1),
        ("recall", 1),
        ("error_percent", 100),
        ("missing_percent", 100),
    ];

    #[test]
    fn what_is_no_share_is_refused_by_name() {
        for (key, most) in SHARES {
            let parse = |value: &str| {
                let text = format!("[checks]\n{key} = {value}");
                Config::parse(&text, Path::new("x.toml"))
            };
            for value in ["nan", "-nan", "inf", "-inf", "-0.5", "100.5"] {
                let said = parse(value).unwrap_err().to_string();
                let begin = format!("configuration x.toml, section [checks]: {key} is ");
                assert!(said.starts_with(&begin), "{said}");
                let end = format!(", expected 0 to {most}");
                assert!(said.ends_with(&end), "{said}");
            }
            for value in ["0.0", "0.5", "1.0"] {
                parse(value).unwrap();
            }
        }
        let defaults = toml::Table::try_from(Config::default().checks).unwrap();
        let floats = defaults.iter().filter(|(_, value)| value.is_float());
        assert_eq!(floats.count(), SHARES.len());
    }
}
