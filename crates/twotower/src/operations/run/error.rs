use crate::exit_code::{FAILED, INTERRUPTED, REFUSED};
use crate::operations::Job;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a run did not succeed.
#[derive(Debug, Error)]
pub enum RunError {
    /// The program cannot be started.
    #[error("`twotower {step}` cannot be started: {cause}")]
    Start {
        /// The command.
        step: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A command failed for good.
    #[error("`twotower {step}` ended {}: {message}", ending(*code))]
    Failed {
        /// The command.
        step: String,
        /// Its exit code; `None` if a signal killed it.
        code: Option<i32>,
        /// Its last error.
        message: String,
    },
    /// A command succeeded, but its output cannot be parsed.
    #[error(
        "`twotower {step}` printed a result without {missing}: are two versions of twotower mixed up?"
    )]
    Result {
        /// The command.
        step: String,
        /// What is missing in it.
        missing: &'static str,
    },
    /// The quality gate refused the model.
    #[error("{message}")]
    Refused {
        /// The gate's verdict.
        message: String,
    },
    /// The time limit of the run was reached.
    #[error(
        "`twotower {step}` was stopped, as the time of the run was over: {minutes} minutes, `{job}_minutes` of section [run]"
    )]
    TimedOut {
        /// The command.
        step: String,
        /// The job.
        job: Job,
        /// The limit, minutes.
        minutes: u64,
    },
    /// Meanwhile an operator has decided about the model.
    #[error(
        "version {version} is {found} by now, so that somebody has decided about it: it is left as it is, and the next retraining begins afresh"
    )]
    Decided {
        /// Version of the new model.
        version: i64,
        /// Its state, or why it cannot be promoted.
        found: String,
    },
    /// The progress of a retraining cannot be saved.
    #[error("{path}: {cause}")]
    Progress {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Ctrl-C, SIGTERM, or the end of the parent process.
    #[error("interrupted; started again, the run goes on where it was")]
    Interrupted,
}

impl RunError {
    /// Exit code of `twotower run`: usually that of the command that failed.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Failed {
                code: Some(code), ..
            } => *code,
            Self::Refused { .. } => REFUSED,
            Self::Interrupted => INTERRUPTED,
            Self::Start { .. }
            | Self::Failed { code: None, .. }
            | Self::Result { .. }
            | Self::TimedOut { .. }
            | Self::Decided { .. }
            | Self::Progress { .. } => FAILED,
        }
    }
}

fn ending(code: Option<i32>) -> String {
    code.map_or("by a signal".into(), |code| {
        format!("with exit code {code}")
    })
}
