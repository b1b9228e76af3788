//! Arguments, and the command that each of them calls.

mod args;

mod commands;

mod output;

pub use args::{Cli, Command};

use crate::jobs::JobError;
use clap::Parser;
use std::process::ExitCode;

/// Runs the command line.
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage, 3 too little data, 130 interrupted.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    output::start_logging(cli.global.verbose, cli.global.log_format);
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
    match runtime.block_on(commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            match error.downcast_ref::<JobError>() {
                Some(JobError::TooFewLikes { .. }) => ExitCode::from(3),
                Some(JobError::Interrupted) => ExitCode::from(130),
                None => ExitCode::FAILURE,
            }
        }
    }
}
