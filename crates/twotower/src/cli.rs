//! Arguments, and the command that each of them calls.

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

pub use args::{Cli, Command, Itself, Job, Scale};

use crate::config::ConfigError;
use crate::jobs::JobError;
use crate::jobs::storage::StorageUsage;
use crate::operations::RunError;
use crate::serve::{UsageError, auth};
use clap::Parser;
use output::Logging;
use std::process::ExitCode;
use std::time::Duration;
use twotower_core::hyperparameters::HyperparameterError;
use twotower_store::StoreError;
use twotower_store::model_storage::StorageError;

/// So long threads of checks have for what they are about to say.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the command line.
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 too little data, 4 database or storage out of reach or busy,
/// 5 refused by the quality gate, 130 interrupted.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let Logging { lines, file } = output::start_logging(&cli.global);
    let log_file = match file {
        Ok(log_file) => log_file,
        Err(error) => {
            tracing::error!("{}", output::said(&error));
            return ExitCode::from(2);
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
            exit_code(&error)
        }
    };
    if looks_around {
        // What a check has left behind, since a file system does not answer it, would be waited for. Of other commands it may be half of a file.
        runtime.shutdown_timeout(LAST_WORDS);
    } else {
        drop(runtime);
    }
    lines.flush();
    code
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    let is_usage = error.is::<ConfigError>()
        || error.is::<HyperparameterError>()
        || error.is::<StorageUsage>()
        || error.is::<UsageError>()
        || error.is::<auth::ConfigError>()
        || error
            .downcast_ref::<StoreError>()
            .is_some_and(StoreError::is_usage);
    if is_usage {
        return ExitCode::from(2);
    }
    if let Some(alert::AlertError::NoChannel(_)) = error.downcast_ref() {
        return ExitCode::from(2);
    }
    if let Some(error) = error.downcast_ref::<RunError>() {
        return ExitCode::from(error.exit_code());
    }
    if let Some(error) = error.downcast_ref::<JobError>() {
        return match error {
            JobError::TooFewLikes { .. } | JobError::NothingNew { .. } => ExitCode::from(3),
            JobError::Held { .. } => ExitCode::from(4),
            JobError::Refused { .. } | JobError::UnreadableVerdict { .. } => ExitCode::from(5),
            JobError::Overdue { .. } | JobError::Found { .. } => ExitCode::FAILURE,
            JobError::Interrupted => ExitCode::from(130),
        };
    }
    match error.downcast_ref::<StorageError>() {
        Some(StorageError::Interrupted) => return ExitCode::from(130),
        Some(error) if error.is_usage() => return ExitCode::from(2),
        Some(error) if error.is_outage() => return ExitCode::from(4),
        _ => {}
    }
    let out_of_reach = error.downcast_ref::<StoreError>().is_some_and(|error| {
        use StoreError::{
            Busy, Connect, Connection, Deadline, EraseLocked, LeaseLost, MigrationLocked, ReadOnly,
        };
        matches!(
            error,
            Connect { .. }
                | Connection(_)
                | Busy(_)
                | Deadline { .. }
                | LeaseLost
                | EraseLocked { .. }
                | MigrationLocked { .. }
                | ReadOnly(_)
        )
    });
    if out_of_reach {
        ExitCode::from(4)
    } else {
        ExitCode::FAILURE
    }
}
