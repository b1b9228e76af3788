//! What ran when, and how it ended.

use crate::StoreError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Most characters of a message that are kept.
const MESSAGE_LIMIT: usize = 2000;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// At work, or killed without a word.
    Running,
    /// Done.
    Succeeded,
    /// Given up.
    Failed,
    /// Done, and the quality gate refused the model.
    Refused,
    /// Left to another process that was at the same work.
    Skipped,
}

/// A run that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Which job: lower-case letters and hyphens.
    pub job: String,
    /// The moment of the schedule that it is the run of, microseconds since 1970.
    pub due_at_us: Option<i64>,
    /// Machine.
    pub host: String,
    /// Process.
    pub pid: u32,
    /// A run of the same job that has been at work for longer than this was killed, whatever the machine.
    pub presumed_dead: Duration,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedRun {
    /// Anything but [`RunState::Running`].
    pub state: RunState,
    /// Tries it took.
    pub attempts: u32,
    /// Of the last try; none if a signal ended it.
    pub exit_code: Option<i32>,
    /// The model that it was about.
    pub model_version: Option<i64>,
    /// The last error, for people: no personal data. Cut to 2,000 characters.
    pub message: Option<String>,
}

impl FinishedRun {
    /// The message, as long as it may be.
    pub(crate) fn message(&self) -> Option<String> {
        self.message.as_deref().map(kept)
    }
}

/// What is kept of a message.
pub(crate) fn kept(message: &str) -> String {
    // PostgreSQL's text cannot hold NUL.
    let characters = message.chars().filter(|&character| character != '\0');
    characters.take(MESSAGE_LIMIT).collect()
}

/// A run as it is kept. Times are the database's, in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// Ascending.
    pub id: i64,
    /// Which job.
    pub job: String,
    /// How far it has come.
    pub state: RunState,
    /// See [`NewRun::due_at_us`].
    pub due_at_us: Option<i64>,
    /// Beginning.
    pub started_at_us: i64,
    /// End.
    pub finished_at_us: Option<i64>,
    /// Machine.
    pub host: String,
    /// Process.
    pub pid: u32,
    /// Tries.
    pub attempts: u32,
    /// Of the last try.
    pub exit_code: Option<i32>,
    /// The model that it was about.
    pub model_version: Option<i64>,
    /// The last error.
    pub message: Option<String>,
}

impl RunState {
    /// As the database spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RunState {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        let states = [
            Self::Running,
            Self::Succeeded,
            Self::Failed,
            Self::Refused,
            Self::Skipped,
        ];
        states
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or_else(|| StoreError::Row {
                query: "job_runs",
                column: "state",
                reason: format!("is `{name}`, which this version of twotower does not know"),
            })
    }
}

/// What both engines select of a run: id, job, state, when it was due, started and finished, host, process, attempts, exit code, version, message.
pub(crate) type Row = (
    i64,
    String,
    String,
    Option<i64>,
    i64,
    Option<i64>,
    String,
    i64,
    i32,
    Option<i32>,
    Option<i64>,
    Option<String>,
);

impl TryFrom<Row> for RunRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let (
            id,
            job,
            state,
            due_at_us,
            started_at_us,
            finished_at_us,
            host,
            pid,
            attempts,
            exit_code,
            model_version,
            message,
        ) = row;
        Ok(Self {
            id,
            job,
            state: state.parse()?,
            due_at_us,
            started_at_us,
            finished_at_us,
            host,
            pid: pid as u32,
            attempts: attempts as u32,
            exit_code,
            model_version,
            message,
        })
    }
}

/// What is said of a run that ended without a word.
pub(crate) const KILLED: &str = "ended without a word: killed, or its machine went down";
