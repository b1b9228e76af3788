use crate::operations::plan::PlanError;
use crate::serve::OriginError;
use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use thiserror::Error;
use twotower_core::hyperparameters::{HyperparameterError, LEAST_USERS};

/// The configuration cannot be used.
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
    /// The text is not valid; names line and column.
    #[error("configuration {path}: {error}{hint}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: Box<toml::de::Error>,
        /// Suggestion of the key that was probably meant.
        hint: String,
    },
    /// A hyperparameter is outside its range.
    #[error("configuration {path}, section [hyperparameters]: {cause}")]
    Range {
        /// The file.
        path: PathBuf,
        /// Which number.
        cause: HyperparameterError,
    },
    /// Rows trained on few users would reveal what those users like.
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
    /// An erasure statement would touch the rows of all users.
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
    /// A value is not a number, or outside its range.
    #[error("configuration {path}, section [{section}]: {key} is {value}, expected {expected}")]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// Which section.
        section: &'static str,
        /// Which key.
        key: &'static str,
        /// What it is.
        value: Box<str>,
        /// The values that are allowed.
        expected: Box<str>,
    },
    /// The maintenance window cannot be parsed.
    #[error(
        "configuration {path}, section [maintenance]: window is `{window}`, expected two times of a day as in 03:30-06:00, or 00:00-24:00"
    )]
    Window {
        /// The file.
        path: PathBuf,
        /// As written.
        window: String,
    },
    /// The schedule is invalid.
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
        /// What is wrong, and with which origin.
        cause: OriginError,
    },
    /// A mail address cannot be parsed.
    #[error("configuration {path}, section [alerts]: {key} has `{text}`, which is no mail address")]
    Mailbox {
        /// The file.
        path: PathBuf,
        /// The key that holds it.
        key: &'static str,
        /// As written.
        text: String,
    },
    /// Rows are read from the application's tables, and nothing says how to delete them there.
    #[error(
        "nothing was erased: section [source] reads likes or skips from other tables, and nothing says how a user's rows are deleted \
         there. Name every statement in section [erase], as in statements = [\"delete from favourites where member_id = $1\"]"
    )]
    ErasesHalf,
}

/// A section whose values are checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'static str,
}

impl Section<'_> {
    /// Refuses a value outside `range`. `NaN` is in no range; infinity is in none that has bounds.
    pub(super) fn within<T: PartialOrd + Display + Copy>(
        self,
        key: &'static str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<(), ConfigError> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(ConfigError::OutOfRange {
            path: self.path.to_owned(),
            section: self.name,
            key,
            value: value.to_string().into(),
            expected: format!("{} to {}", range.start(), range.end()).into(),
        })
    }
}

impl ConfigError {
    /// The text is not valid TOML, or does not fit the configuration.
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

/// Takes serde's "unknown field `x`, expected one of `a`, `b`", and returns the candidate closest
/// to x.
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
