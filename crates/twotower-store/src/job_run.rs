//! Runs of jobs: when they ran, and how they ended.

use crate::StoreError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Maximum number of characters of a message that are kept.
const MESSAGE_LIMIT: usize = 2000;

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// In progress, or killed without a trace.
    Running,
    /// Succeeded.
    Succeeded,
    /// Failed.
    Failed,
    /// Completed, but the quality gate refused the model.
    Refused,
    /// Skipped, because another process was doing the same work.
    Skipped,
}

/// A run to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Name of the job: lower-case letters and hyphens.
    pub job: String,
    /// Scheduled time of this run, microseconds since 1970.
    pub due_at_us: Option<i64>,
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// A run of the same job that has been in progress for longer than this counts as killed, on
    /// whatever host.
    pub presumed_dead: Duration,
}

/// Outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedRun {
    /// Any state but [`RunState::Running`].
    pub state: RunState,
    /// Number of tries.
    pub attempts: u32,
    /// Exit code of the last try; `None` if a signal ended it.
    pub exit_code: Option<i32>,
    /// Model version that the run was about.
    pub model_version: Option<i64>,
    /// Last error, for people, without personal data. Cut to 2,000 characters.
    pub message: Option<String>,
}

impl FinishedRun {
    /// The message, cut to the maximum length.
    pub(crate) fn message(&self) -> Option<String> {
        self.message.as_deref().map(kept)
    }
}

/// The stored form of a message.
pub(crate) fn kept(message: &str) -> String {
    // PostgreSQL's text cannot contain NUL.
    let characters = message.chars().filter(|&character| character != '\0');
    characters.take(MESSAGE_LIMIT).collect()
}

/// A recorded run. Times are by the database's clock, in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// Id; ascending.
    pub id: i64,
    /// Name of the job.
    pub job: String,
    /// State.
    pub state: RunState,
    /// See [`NewRun::due_at_us`].
    pub due_at_us: Option<i64>,
    /// When it started.
    pub started_at_us: i64,
    /// When it ended.
    pub finished_at_us: Option<i64>,
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Number of tries.
    pub attempts: u32,
    /// Exit code of the last try.
    pub exit_code: Option<i32>,
    /// Model version that the run was about.
    pub model_version: Option<i64>,
    /// Last error.
    pub message: Option<String>,
}

impl RunState {
    /// Spelling in the database.
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

/// Columns of a run, the same in both engines: id, job, state, due, started and finished times,
/// host, process, attempts, exit code, version, message.
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

/// The message of a run that was killed without a trace.
pub(crate) const KILLED: &str = "ended without a word: killed, or its machine went down";
