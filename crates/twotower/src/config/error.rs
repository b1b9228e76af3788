use crate::operations::plan::PlanError;
use crate::serve::OriginError;
use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use thiserror::Error;
use twotower_core::hyperparameters::{HyperparameterError, LEAST_USERS};

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
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
    #[error("configuration {path}, section [hyperparameters]: {cause}")]
    Range {
        /// The file.
        path: PathBuf,
        /// Which number.
        cause: HyperparameterError,
    },
    /// Rows that would tell of a few people.
    #[error(
        "configuration {path}, section [hyperparameters]: min_users is {min_users}, and a video or term gets a row of its own in the model's files from \
         {LEAST_USERS} users on, since one that fewer have taught tells of them. Take min_users away; or, if the data are nobody's secret, as published \
         ones, or you answer for the model's files as for the likes themselves, add allow_few_users = true in section [training]"
    )]
    FewUsers {
        /// The file.
        path: PathBuf,
        /// As written.
        min_users: usize,
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
    /// A number that is none, or outside its range.
    #[error("configuration {path}, section [{section}]: {key} is {value}, expected {expected}")]
    Number {
        /// The file.
        path: PathBuf,
        /// Which section.
        section: &'static str,
        /// Which key.
        key: &'static str,
        /// What it is.
        value: Box<str>,
        /// What it may be.
        expected: Box<str>,
    },
    /// A part of the day that is none.
    #[error(
        "configuration {path}, section [maintenance]: window is `{window}`, expected two times of a day as in 03:30-06:00, or 00:00-24:00"
    )]
    Window {
        /// The file.
        path: PathBuf,
        /// As written.
        window: String,
    },
    /// A schedule that cannot be kept.
    #[error("configuration {path}, section [schedule]: {cause}")]
    Schedule {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: PlanError,
    },
    /// An origin that no browser sends.
    #[error("configuration {path}, section [serve], cors_origins: {cause}")]
    Origin {
        /// The file.
        path: PathBuf,
        /// What is wrong with which.
        cause: OriginError,
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
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) value: u32,
    pub(super) minimum: u32,
    pub(super) maximum: u32,
}

impl Setting {
    pub(super) fn check(self, path: &Path) -> Result<(), ConfigError> {
        if (self.minimum..=self.maximum).contains(&self.value) {
            return Ok(());
        }
        Err(ConfigError::Setting {
            path: path.to_owned(),
            setting: self,
        })
    }
}

/// A number of a section that need not be whole, and what it may be. `NaN` is in no range, and infinity in none that has bounds.
#[derive(Debug)]
pub(super) struct Number<T> {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) value: T,
    pub(super) range: RangeInclusive<T>,
}

impl<T: PartialOrd + Display> Number<T> {
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        if self.range.contains(&self.value) {
            return Ok(());
        }
        Err(ConfigError::Number {
            path: path.to_owned(),
            section: self.section,
            key: self.key,
            value: self.value.to_string().into(),
            expected: format!("{} to {}", self.range.start(), self.range.end()).into(),
        })
    }
}

impl ConfigError {
    /// A text that is not what it should be.
    pub(super) fn parse(path: &Path, error: toml::de::Error) -> Self {
        let hint = nearest_key(error.message())
            .map_or_else(String::new, |nearest| format!("did you mean `{nearest}`?"));
        Self::Parse {
            path: path.to_owned(),
            error: Box::new(error),
            hint,
        }
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
