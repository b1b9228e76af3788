//! Configuration: defaults < file < environment < flag, checked once, at start-up.

use anyhow::{Context, anyhow};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use twotower_core::hyperparameters::Hyperparameters;
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
    source: RawSource,
}

/// Section `[training]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
}

impl Default for Training {
    fn default() -> Self {
        Self {
            split: SplitKind::Temporal,
            max_age_days: None,
            threads: 2,
            output_dir: PathBuf::from("models"),
        }
    }
}

/// Section `[source]`: where rows are read from, one SELECT each. A query that is not given reads our own table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSource {
    videos: Option<String>,
    video_tags: Option<String>,
    video_performers: Option<String>,
    likes: Option<String>,
    skips: Option<String>,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Section `[hyperparameters]`.
    pub hyperparameters: Hyperparameters,
    /// Section `[training]`.
    pub training: Training,
    /// Section `[source]`.
    pub source: Source,
}

impl Config {
    /// Reads `file`; without one, [`DEFAULT_FILE`] if it is there.
    ///
    /// # Errors
    /// If the file cannot be read, names a key that does not exist, or holds a value outside its range.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let path = match file {
            Some(path) => Some(path),
            None => Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()),
        };
        match path {
            None => Self::check(Raw::default()),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("read configuration {}", path.display()))?;
                Self::parse(&text).with_context(|| format!("configuration {}", path.display()))
            }
        }
    }

    /// Parses the text of a configuration file.
    ///
    /// # Errors
    /// If it names a key that does not exist, or holds a value outside its range.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let raw =
            toml::from_str::<Raw>(text).map_err(|error| match nearest_key(error.message()) {
                Some(nearest) => anyhow!("{error}did you mean `{nearest}`?"),
                None => anyhow!(error),
            })?;
        Self::check(raw)
    }

    fn check(raw: Raw) -> anyhow::Result<Self> {
        raw.hyperparameters
            .validate()
            .context("section [hyperparameters]")?;
        let ours = Source::default();
        Ok(Self {
            hyperparameters: raw.hyperparameters,
            training: raw.training,
            source: Source {
                videos: raw.source.videos.unwrap_or(ours.videos),
                video_tags: raw.source.video_tags.unwrap_or(ours.video_tags),
                video_performers: raw.source.video_performers.unwrap_or(ours.video_performers),
                likes: raw.source.likes.unwrap_or(ours.likes),
                skips: raw.source.skips.unwrap_or(ours.skips),
            },
        })
    }
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
        let config = Config::parse("[hyperparameters]\nepochs = 3\n[training]\nsplit = \"llo\"\n[source]\nlikes = \"SELECT 1\"").unwrap();
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
    fn an_unknown_key_names_its_line_and_the_nearest_one() {
        let error = format!(
            "{:#}",
            Config::parse("[hyperparameters]\n\nembeding_dim = 3").unwrap_err()
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
            Config::parse("[hyperparameters]\ntemperature = 0").unwrap_err()
        );
        assert_eq!(
            error,
            "section [hyperparameters]: temperature is 0, expected 0.03 to 10"
        );
    }
}
