//! The command line: arguments, the command that each subcommand runs, and exit codes.

mod alert;

mod args;

mod backup;

mod commands;

mod demo;

mod doctor;

mod erase;

mod evaluate;

mod experiment;

mod export;

mod load;

mod maintain;

mod migrate;

mod models;

mod output;

mod prune;

mod restore;

mod run;

mod scale;

mod schedule;

mod shell;

mod size;

mod storage;

mod train;

mod tune;

mod update;

pub(crate) use args::Cli;

use crate::config::ConfigError;
use crate::exit_code::{FAILED, INTERRUPTED, REFUSED, TOO_LITTLE_DATA, UNAVAILABLE, WRONG_USAGE};
use crate::jobs::JobError;
use crate::jobs::storage::StorageUsage;
use crate::operations::RunError;
use crate::serve::{UsageError, auth};
use clap::Parser;
use output::Logging;
use std::process::ExitCode;
use std::time::Duration;
use twotower_core::hyperparameters::HyperparameterError;
use twotower_store::model_storage::StorageError;
use twotower_store::{ErrorClass, StoreError};

/// After a check, threads that have not ended get this long to finish.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the command line. Returns 0, or a code of [`crate::exit_code`].
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let Logging { lines, file } = output::start_logging(&cli.global);
    let log_file = match file {
        Ok(log_file) => log_file,
        Err(error) => {
            tracing::error!("{}", output::said(&error));
            return ended(WRONG_USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let looks_around = cli.command.looks_around();
    let code = match runtime.block_on(commands::run(cli, log_file)) {
        Ok(()) if output::lost() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", output::said(&error));
            ended(exit_code(&error))
        }
    };
    if looks_around {
        // A check may leave a thread behind that waits for an unresponsive file system. Other
        // commands are waited for: their threads may be in the middle of writing a file.
        runtime.shutdown_timeout(LAST_WORDS);
    } else {
        drop(runtime);
    }
    lines.flush();
    code
}

/// The system takes eight bits of a code.
fn ended(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn exit_code(error: &anyhow::Error) -> i32 {
    let is_usage = error.is::<ConfigError>()
        || error.is::<HyperparameterError>()
        || error.is::<StorageUsage>()
        || error.is::<UsageError>()
        || error.is::<auth::ConfigError>()
        || matches!(error.downcast_ref(), Some(alert::AlertError::NoChannel(_)));
    if is_usage {
        return WRONG_USAGE;
    }
    if let Some(error) = error.downcast_ref::<RunError>() {
        return error.exit_code();
    }
    if let Some(error) = error.downcast_ref::<JobError>() {
        return match error {
            JobError::TooFewLikes { .. } | JobError::NothingNew { .. } => TOO_LITTLE_DATA,
            JobError::Held { .. } => UNAVAILABLE,
            JobError::Refused { .. } | JobError::UnreadableVerdict { .. } => REFUSED,
            JobError::Overdue { .. } | JobError::Found { .. } => FAILED,
            JobError::Interrupted => INTERRUPTED,
        };
    }
    if let Some(error) = error.downcast_ref::<StorageError>() {
        return match error {
            StorageError::Interrupted => INTERRUPTED,
            error if error.is_usage() => WRONG_USAGE,
            error if error.is_outage() => UNAVAILABLE,
            _ => FAILED,
        };
    }
    match error.downcast_ref().map(StoreError::class) {
        Some(ErrorClass::Usage) => WRONG_USAGE,
        Some(ErrorClass::Unavailable | ErrorClass::Superseded) => UNAVAILABLE,
        Some(ErrorClass::Cancelled | ErrorClass::Certificate | ErrorClass::Failure) | None => {
            FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause<T: From<std::io::Error>>() -> T {
        std::io::Error::other("reset").into()
    }

    /// Of every kind in docs/configuration.md, "Exit codes".
    #[test]
    fn errors_of_the_store_have_the_documented_codes() {
        let operation = "read";
        let errors = [
            (StoreError::Url("x".into()), WRONG_USAGE),
            (StoreError::Connection(cause()), UNAVAILABLE),
            (StoreError::Busy(cause()), UNAVAILABLE),
            (StoreError::Cancelled(cause()), FAILED),
            (StoreError::ReadOnly(cause()), UNAVAILABLE),
            (StoreError::Standby, UNAVAILABLE),
            (StoreError::LeaseLost, UNAVAILABLE),
            (
                StoreError::Deadline {
                    operation,
                    limit: LAST_WORDS,
                },
                UNAVAILABLE,
            ),
            (
                StoreError::Certificate {
                    server: String::new(),
                    cause: cause(),
                },
                FAILED,
            ),
            (StoreError::ErasedUser, FAILED),
        ];
        for (error, code) in errors {
            let error = anyhow::Error::from(error).context("read the registry");
            assert_eq!(exit_code(&error), code, "{error:#}");
        }
    }
}
