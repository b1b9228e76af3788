//! `twotower run`.

use super::args::{Cli, GlobalArgs};
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::log_file::LogFile;
use crate::operations::{self, Job, Place, Program, RunOptions, RunReport};
use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use std::ffi::OsString;
use twotower_store::RunState;

/// Arguments of `twotower run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Job to run
    #[arg(value_name = "JOB")]
    pub(crate) job: Job,

    /// For retrain: continue training the active model with the likes that came in since, instead of training a new one
    #[arg(long)]
    pub(crate) fine_tune: bool,

    /// For maintain: do not wait for the maintenance window
    #[arg(long)]
    pub(crate) now: bool,

    /// Scheduled time that this run is for, in microseconds since 1970; set by `twotower schedule`
    #[arg(long, value_name = "TIMESTAMP")]
    pub(crate) due: Option<i64>,
}

pub(super) async fn run(
    args: &RunArgs,
    config: &Config,
    global: &GlobalArgs,
    log_file: Option<LogFile>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    for (given, flag, job) in [
        (args.fine_tune, "--fine-tune", Job::Retrain),
        (args.now, "--now", Job::Maintain),
    ] {
        if given && args.job != job {
            let message = format!("{flag} is of {job} alone");
            let error = Cli::command().error(ErrorKind::ArgumentConflict, message);
            error.exit();
        }
    }
    let (place, program) = at_home(config, global, log_file)?;
    let options = RunOptions {
        job: args.job,
        fine_tune: args.fine_tune,
        now: args.now,
        due_at_us: args.due,
    };
    let (report, error) = operations::run(&place, &program, options, interrupt).await?;
    print(global.json, &report, &describe(&report))?;
    error.map_or(Ok(()), |error| Err(error.into()))
}

/// The place of this process, and the program with the flags to start commands with.
pub(super) fn at_home(
    config: &Config,
    global: &GlobalArgs,
    log_file: Option<LogFile>,
) -> anyhow::Result<(Place, Program)> {
    let place = global.place(config);
    let path = std::env::current_exe().context("find this program")?;
    let mut flags: Vec<OsString> = Vec::new();
    if let Some(format) = global.log_format.to_possible_value() {
        flags.extend(["--log-format".into(), format.get_name().into()]);
    }
    flags.extend((0..global.verbose).map(|_| "--verbose".into()));
    let program = Program::new(path, &place, flags, log_file);
    Ok((place, program))
}

fn describe(report: &RunReport) -> String {
    let RunReport {
        job,
        state,
        attempts,
        model_version,
        message,
        seconds,
        ..
    } = report;
    let model = model_version.map_or(String::new(), |version| format!(", model {version}"));
    let tries = if *attempts == 1 { "try" } else { "tries" };
    // The log says why it failed or was skipped.
    let message = message
        .as_ref()
        .filter(|_| *state == RunState::Succeeded)
        .map_or(String::new(), |message| format!("\n{message}"));
    format!("{job}: {state}{model}, {attempts} {tries}, {seconds:.1} s{message}")
}
