//! Configuration: defaults < file < environment < flag, validated once at start-up.

mod alerts;

mod checks;

mod database;

mod error;

mod events;

mod gate;

mod maintenance;

mod retention;

mod rules;

mod run;

mod serve;

mod source;

mod storage;

mod training;

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests;

pub use alerts::Alerts;
pub use checks::Checks;
pub use database::Database;
pub use error::ConfigError;
pub use events::Events;
pub use maintenance::{Backup, Maintenance};
pub use retention::{Erase, Prune};
pub use rules::{Choice, Conditions, Range, Rules};
pub use run::{Run, Schedule};
pub use serve::Serve;
pub use storage::Storage;
pub(crate) use training::{MAX_INDEX_MEMORY_MB, MAX_THREADS};
pub use training::{Training, Update};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use twotower_core::gate::GateOptions;
use twotower_core::hyperparameters::{Hyperparameters, LEAST_USERS};
use twotower_store::Source;

/// File that is read from the working directory if no other is named.
pub const DEFAULT_FILE: &str = "twotower.toml";

const HYPERPARAMETERS: &str = "hyperparameters";

/// A validated `twotower.toml`. Secrets do not belong there: `DATABASE_URL` gives the address of
/// the database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Section `[hyperparameters]`.
    pub hyperparameters: Hyperparameters,
    /// Section `[training]`.
    pub training: Training,
    /// Section `[update]`.
    pub update: Update,
    /// Section `[gate]`.
    pub gate: GateOptions,
    /// Section `[storage]`.
    pub storage: Storage,
    /// Section `[erase]`.
    pub erase: Erase,
    /// Section `[prune]`.
    pub prune: Prune,
    /// Section `[serve]`.
    pub serve: Serve,
    /// Section `[rules]`.
    pub rules: Rules,
    /// Section `[database]`.
    pub database: Database,
    /// Section `[events]`.
    pub events: Events,
    /// Section `[run]`.
    pub run: Run,
    /// Section `[schedule]`.
    pub schedule: Schedule,
    /// Section `[checks]`.
    pub checks: Checks,
    /// Section `[alerts]`.
    pub alerts: Alerts,
    /// Section `[maintenance]`.
    pub maintenance: Maintenance,
    /// Section `[backup]`.
    pub backup: Backup,
    /// Section `[source]`.
    #[serde(with = "source")]
    pub source: Source,
}

impl Config {
    /// Reads `file`; without one, [`DEFAULT_FILE`] if it is there.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(cause) => Err(ConfigError::Read {
                path: path.to_owned(),
                cause,
            }),
        }
    }

    /// Parses `text`, the content of the configuration file `path`.
    ///
    /// # Errors
    /// [`ConfigError`] if it names a key that does not exist, or holds a value outside its range.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::parse(path, error))?;
        config
            .hyperparameters
            .validate()
            .map_err(|cause| ConfigError::Range {
                path: path.to_owned(),
                cause,
            })?;
        let min_users = config.hyperparameters.min_users;
        if min_users < LEAST_USERS && !config.training.allow_few_users {
            return Err(ConfigError::FewUsers {
                path: path.to_owned(),
                min_users,
            });
        }
        config.training.check(path)?;
        config.update.check(path)?;
        gate::check(&config.gate, path)?;
        config.storage.check(path)?;
        config.erase.check(path)?;
        config.serve.check(path)?;
        config.database.check(path)?;
        config.run.check(path)?;
        config.schedule.check(path)?;
        config.checks.check(path)?;
        config.alerts.check(path)?;
        config.maintenance.check(path)?;
        Ok(config)
    }

    /// The text of a file that gives this configuration. It holds what differs from the defaults,
    /// and the hyperparameters named in `always`, so that a later version with other defaults does
    /// not change them.
    ///
    /// # Errors
    /// If a number is too large for TOML.
    pub fn to_toml(&self, always: &[&str]) -> anyhow::Result<String> {
        let defaults = Self::default().sections()?;
        let mut texts = Vec::new();
        for (name, keys) in self.sections()? {
            let toml::Value::Table(mut keys) = keys else {
                continue;
            };
            let default = defaults.get(&name);
            let always = if name == HYPERPARAMETERS { always } else { &[] };
            keys.retain(|key, value| {
                always.contains(&key) || default.and_then(|keys| keys.get(key)) != Some(value)
            });
            if !keys.is_empty() {
                let section = toml::Table::from_iter([(name.clone(), keys.into())]);
                texts.push((name, toml::to_string(&section)?));
            }
        }
        // The hyperparameters come first: they are what the search was about.
        texts.sort_by_key(|(name, _)| name != HYPERPARAMETERS);
        let texts: Vec<_> = texts.into_iter().map(|(_, text)| text).collect();
        Ok(texts.join("\n"))
    }

    /// Every section with all its keys, except those without a value.
    fn sections(&self) -> anyhow::Result<toml::Table> {
        // Goes through text because there a float32 has no more digits than it needs.
        let text = toml::to_string(self).context("write the configuration as TOML")?;
        Ok(toml::from_str(&text)?)
    }
}
