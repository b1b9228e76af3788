//! Configuration: defaults < file < environment < flag, checked once, at start-up.

mod alerts;

mod checks;

mod database;

mod events;

mod maintenance;

mod retention;

mod rules;

mod run;

mod serve;

mod storage;

pub use alerts::Alerts;
pub use checks::Checks;
pub use database::Database;
pub use events::Events;
pub use maintenance::{Backup, Maintenance};
pub use retention::{Erase, Prune};
pub use rules::{Choice, Conditions, Range, Rules};
pub use run::{Run, Schedule};
pub use serve::Serve;
pub use storage::Storage;

use crate::operations::plan::PlanError;
use crate::serve::OriginError;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use twotower_core::gate::GateOptions;
use twotower_core::hyperparameters::{HyperparameterError, Hyperparameters};
use twotower_core::split::SplitKind;
use twotower_store::Source;

/// The file that is read from the working directory if no other is named.
pub const DEFAULT_FILE: &str = "twotower.toml";

/// `twotower.toml` as written. Secrets do not belong there: the database address is given by `DATABASE_URL`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    hyperparameters: Hyperparameters,
    training: Training,
    update: Update,
    gate: GateOptions,
    storage: Storage,
    erase: Erase,
    prune: Prune,
    serve: Serve,
    rules: Rules,
    database: Database,
    events: Events,
    run: Run,
    schedule: Schedule,
    checks: Checks,
    alerts: Alerts,
    maintenance: Maintenance,
    backup: Backup,
    source: RawSource,
}

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
}

impl Default for Training {
    fn default() -> Self {
        Self {
            split: SplitKind::Temporal,
            max_age_days: None,
            threads: 2,
            output_dir: PathBuf::from("models"),
            checkpoint_minutes: 5,
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

/// Section `[source]`: where rows are read from, one SELECT each. A query that is not given reads our own table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSource {
    videos: Option<String>,
    video_tags: Option<String>,
    video_performers: Option<String>,
    likes: Option<String>,
    skips: Option<String>,
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not what it should be; names line and column.
    #[error("configuration {path}: {error}{hint}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: Box<toml::de::Error>,
        /// The key that was probably meant.
        hint: String,
    },
    /// A number is outside its range.
    #[error("configuration {path}, section [hyperparameters]: {source}")]
    Range {
        /// The file.
        path: PathBuf,
        /// Which number.
        source: HyperparameterError,
    },
    /// A statement that would touch everybody's rows.
    #[error(
        "configuration {path}, section [erase]: the statement `{statement}` does not name the user as $1, so that it would not delete \
         their rows alone: add `where … = $1`"
    )]
    Statement {
        /// The file.
        path: PathBuf,
        /// As written.
        statement: String,
    },
    /// A setting outside its range.
    #[error(
        "configuration {path}, section [{}]: {} is {}, expected {} to {}",
        setting.section, setting.key, setting.value, setting.minimum, setting.maximum
    )]
    Setting {
        /// The file.
        path: PathBuf,
        /// Which one.
        setting: Setting,
    },
    /// A schedule that cannot be kept.
    #[error("configuration {path}, section [schedule]: {source}")]
    Schedule {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PlanError,
    },
    /// An origin that no browser sends.
    #[error("configuration {path}, section [serve], cors_origins: {source}")]
    Origin {
        /// The file.
        path: PathBuf,
        /// What is wrong with which.
        source: OriginError,
    },
    /// What should be a mail address and is none.
    #[error("configuration {path}, section [alerts]: {key} has `{text}`, which is no mail address")]
    Mailbox {
        /// The file.
        path: PathBuf,
        /// Of which key.
        key: &'static str,
        /// As written.
        text: String,
    },
    /// Nothing says how rows are deleted where they are read.
    #[error(
        "nothing was erased: section [source] reads likes or skips from other tables, and nothing says how a user's rows are deleted \
         there. Name every statement in section [erase], as in statements = [\"delete from favourites where member_id = $1\"]"
    )]
    ErasesHalf,
}

/// A whole number of a section, and what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    section: &'static str,
    key: &'static str,
    value: u32,
    minimum: u32,
    maximum: u32,
}

impl Setting {
    fn check(self, path: &Path) -> Result<(), ConfigError> {
        if (self.minimum..=self.maximum).contains(&self.value) {
            return Ok(());
        }
        Err(ConfigError::Setting {
            path: path.to_owned(),
            setting: self,
        })
    }
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
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
                Self::parse("", path)
            }
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Parses the text of the configuration file `path`.
    ///
    /// # Errors
    /// [`ConfigError`] if it names a key that does not exist, or holds a value outside its range.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw = toml::from_str::<Raw>(text).map_err(|error| {
            let hint = nearest_key(error.message())
                .map_or_else(String::new, |nearest| format!("did you mean `{nearest}`?"));
            ConfigError::Parse {
                path: path.to_owned(),
                error: Box::new(error),
                hint,
            }
        })?;
        raw.hyperparameters
            .validate()
            .map_err(|source| ConfigError::Range {
                path: path.to_owned(),
                source,
            })?;
        raw.erase.check(path)?;
        raw.serve.check(path)?;
        raw.database.check(path)?;
        raw.run.check(path)?;
        raw.schedule.check(path)?;
        raw.alerts.check(path)?;
        let ours = Source::default();
        Ok(Self {
            hyperparameters: raw.hyperparameters,
            training: raw.training,
            update: raw.update,
            gate: raw.gate,
            storage: raw.storage,
            erase: raw.erase,
            prune: raw.prune,
            serve: raw.serve,
            rules: raw.rules,
            database: raw.database,
            events: raw.events,
            run: raw.run,
            schedule: raw.schedule,
            checks: raw.checks,
            alerts: raw.alerts,
            maintenance: raw.maintenance,
            backup: raw.backup,
            source: Source {
                videos: raw.source.videos.unwrap_or(ours.videos),
                video_tags: raw.source.video_tags.unwrap_or(ours.video_tags),
                video_performers: raw.source.video_performers.unwrap_or(ours.video_performers),
                likes: raw.source.likes.unwrap_or(ours.likes),
                skips: raw.source.skips.unwrap_or(ours.skips),
            },
        })
    }

    /// The text of a file that gives this configuration: what differs from the defaults, and the hyperparameters named in
    /// `always`, which are not to change with the defaults of a later version.
    ///
    /// # Errors
    /// If a number is too large for TOML.
    pub fn to_toml(&self, always: &[&str]) -> anyhow::Result<String> {
        let sections = [
            (
                "hyperparameters",
                changed(&self.hyperparameters, &Hyperparameters::default(), always)?,
            ),
            (
                "training",
                changed(&self.training, &Training::default(), &[])?,
            ),
            ("update", changed(&self.update, &Update::default(), &[])?),
            ("gate", changed(&self.gate, &GateOptions::default(), &[])?),
            ("storage", changed(&self.storage, &Storage::default(), &[])?),
            ("erase", changed(&self.erase, &Erase::default(), &[])?),
            ("prune", changed(&self.prune, &Prune::default(), &[])?),
            ("serve", changed(&self.serve, &Serve::default(), &[])?),
            ("rules", changed(&self.rules, &Rules::default(), &[])?),
            (
                "database",
                changed(&self.database, &Database::default(), &[])?,
            ),
            ("events", changed(&self.events, &Events::default(), &[])?),
            ("run", changed(&self.run, &Run::default(), &[])?),
            (
                "schedule",
                changed(&self.schedule, &Schedule::default(), &[])?,
            ),
            ("checks", changed(&self.checks, &Checks::default(), &[])?),
            ("alerts", changed(&self.alerts, &Alerts::default(), &[])?),
            (
                "maintenance",
                changed(&self.maintenance, &Maintenance::default(), &[])?,
            ),
            ("backup", changed(&self.backup, &Backup::default(), &[])?),
            (
                "source",
                changed(
                    &raw_source(&self.source),
                    &raw_source(&Source::default()),
                    &[],
                )?,
            ),
        ];
        let sections = sections
            .into_iter()
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(name, keys)| {
                let section = toml::Table::from_iter([(name.to_owned(), keys.into())]);
                Ok(toml::to_string(&section)?)
            });
        let sections: Vec<String> = sections.collect::<anyhow::Result<_>>()?;
        Ok(sections.join("\n"))
    }
}

fn raw_source(source: &Source) -> RawSource {
    let source = source.clone();
    RawSource {
        videos: Some(source.videos),
        video_tags: Some(source.video_tags),
        video_performers: Some(source.video_performers),
        likes: Some(source.likes),
        skips: Some(source.skips),
    }
}

/// The keys of `section` whose values are not those of `default`, and those in `always`.
fn changed<T: Serialize>(section: &T, default: &T, always: &[&str]) -> anyhow::Result<toml::Table> {
    // By way of text, where a float32 has no more digits than it needs.
    let table = |section: &T| -> anyhow::Result<toml::Table> {
        let text = toml::to_string(section).context("write the configuration as TOML")?;
        Ok(toml::from_str(&text)?)
    };
    let (mut keys, default) = (table(section)?, table(default)?);
    keys.retain(|key, value| always.contains(&key) || default.get(key) != Some(value));
    Ok(keys)
}

/// From serde's "unknown field `x`, expected one of `a`, `b`" the candidate that is most like x.
fn nearest_key(message: &str) -> Option<&str> {
    let mut quoted = message
        .strip_prefix("unknown field ")?
        .split('`')
        .skip(1)
        .step_by(2);
    let unknown = quoted.next()?;
    let (similarity, nearest) = quoted
        .map(|candidate| (strsim::jaro_winkler(unknown, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    (similarity > 0.7).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_overrides_defaults_and_nothing_else() {
        let config = Config::parse("[hyperparameters]\nepochs = 3\n[training]\nsplit = \"llo\"\n[source]\nlikes = \"SELECT 1\"", Path::new("x.toml")).unwrap();
        assert_eq!(
            config.hyperparameters,
            Hyperparameters {
                epochs: 3,
                ..Hyperparameters::default()
            }
        );
        assert_eq!(
            config.training,
            Training {
                split: SplitKind::Llo,
                ..Training::default()
            }
        );
        assert_eq!(
            config.source,
            Source {
                likes: "SELECT 1".into(),
                ..Source::default()
            }
        );
    }

    #[test]
    fn a_configuration_survives_being_written() {
        let config = Config {
            hyperparameters: Hyperparameters {
                temperature: 0.0837,
                weight_decay: 1e-5,
                epochs: 3,
                ..Hyperparameters::default()
            },
            training: Training {
                split: SplitKind::Llo,
                max_age_days: Some(90),
                ..Training::default()
            },
            update: Update {
                index: false,
                ..Update::default()
            },
            gate: GateOptions {
                min_precision_at_10: 0.02,
                ..GateOptions::default()
            },
            storage: Storage {
                url: Some("s3://models".into()),
                trusted_keys: vec!["ed25519:a".into(), "ed25519:b".into()],
                ..Storage::default()
            },
            erase: Erase {
                statements: vec!["delete from b where \"a\" = $1".into()],
                ..Erase::default()
            },
            rules: Rules {
                max_per_maker: 2,
                only: Conditions {
                    tags: Choice {
                        none: vec!["a".into()],
                        ..Choice::default()
                    },
                    ..Conditions::default()
                },
                ..Rules::default()
            },
            serve: Serve {
                request_seconds: 5,
                ..Serve::default()
            },
            database: Database {
                max_connections: 4,
                ..Database::default()
            },
            events: Events {
                store: twotower_store::EventPolicy::LikesAndSkips,
                ..Events::default()
            },
            prune: Prune {
                keep_versions: 1,
                ..Prune::default()
            },
            run: Run {
                state_dir: "elsewhere".into(),
                ..Run::default()
            },
            schedule: Schedule {
                retrain: String::new(),
                ..Schedule::default()
            },
            checks: Checks::default(),
            alerts: Alerts {
                repeat_hours: 12,
                command: vec!["/usr/local/bin/page".into(), "--team".into()],
                ..Alerts::default()
            },
            maintenance: Maintenance::default(),
            backup: Backup::default(),
            source: Source {
                likes: "SELECT 'it''s', \"a\"\nFROM b".into(),
                ..Source::default()
            },
        };
        let text = config.to_toml(&["temperature", "negatives"]).unwrap();
        assert_eq!(Config::parse(&text, Path::new("x.toml")).unwrap(), config);
        let begin =
            "[hyperparameters]\nepochs = 3\nnegatives = 512\ntemperature = 0.0837\nweight_decay = ";
        assert!(text.starts_with(begin), "{text}");
        assert!(
            !text.contains("embedding_dim") && !text.contains("videos"),
            "{text}"
        );
        let default = Config::parse("", Path::new("x.toml")).unwrap();
        assert_eq!(default.to_toml(&[]).unwrap(), "");
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_one() {
        let error = format!(
            "{:#}",
            Config::parse("[hyperparameters]\n\nembeding_dim = 3", Path::new("x.toml"))
                .unwrap_err()
        );
        assert!(
            error.contains("line 3") && error.contains("did you mean `embedding_dim`?"),
            "{error}"
        );
    }

    #[test]
    fn a_value_outside_its_range_is_refused() {
        let error = format!(
            "{:#}",
            Config::parse("[hyperparameters]\ntemperature = 0", Path::new("x.toml")).unwrap_err()
        );
        assert_eq!(
            error,
            "configuration x.toml, section [hyperparameters]: temperature is 0, expected 0.03 to 10"
        );
    }
}
