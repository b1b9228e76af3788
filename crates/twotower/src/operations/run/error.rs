use crate::operations::Job;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a run did not get to its end.
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
        /// Its exit code; none if a signal ended it.
        code: Option<i32>,
        /// Its last error.
        message: String,
    },
    /// A command that ended well said what cannot be understood.
    #[error(
        "`twotower {step}` printed a result without {missing}: are two versions of twotower mixed up?"
    )]
    Result {
        /// The command.
        step: String,
        /// What was looked for.
        missing: &'static str,
    },
    /// The quality gate says no.
    #[error("{message}")]
    Refused {
        /// What was asked and what was found.
        message: String,
    },
    /// The time limit was over.
    #[error(
        "`twotower {step}` was stopped, as the time of the run was over: {minutes} minutes, `{job}_minutes` of section [run]"
    )]
    TimedOut {
        /// The command.
        step: String,
        /// Of which job.
        job: Job,
        /// The limit.
        minutes: u64,
    },
    /// An operator has decided about the model meanwhile.
    #[error(
        "version {version} is {found} by now, so that somebody has decided about it: it is left as it is, and the next retraining begins afresh"
    )]
    Decided {
        /// The new model.
        version: i64,
        /// Its state, or that of the registry.
        found: String,
    },
    /// How far a retraining has come cannot be kept.
    #[error("{path}: {cause}")]
    Progress {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Ctrl-C or SIGTERM, or whoever started this process is gone.
    #[error("interrupted; started again, the run goes on where it was")]
    Interrupted,
}

impl RunError {
    /// Of `twotower run`: that of the command that failed, as a rule.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed {
                code: Some(code), ..
            } => u8::try_from(*code).unwrap_or(1),
            Self::Refused { .. } => 5,
            Self::Interrupted => 130,
            Self::Start { .. }
            | Self::Failed { code: None, .. }
            | Self::Result { .. }
            | Self::TimedOut { .. }
            | Self::Decided { .. }
            | Self::Progress { .. } => 1,
        }
    }
}

fn ending(code: Option<i32>) -> String {
    code.map_or("by a signal".into(), |code| {
        format!("with exit code {code}")
    })
}
