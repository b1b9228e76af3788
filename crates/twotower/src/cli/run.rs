//! `twotower run`.

use super::args::{Cli, GlobalArgs};
use super::output::print;
use crate::config::Config;
use crate::jobs::Interrupt;
use crate::log_file::LogFile;
use crate::operations::{self, Job, Place, Program, RunOptions, RunReport};
use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use std::ffi::OsString;
use twotower_store::RunState;

/// Arguments of `twotower run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Which job
    #[arg(value_name = "JOB")]
    pub job: Job,

    /// Of retrain: go on from the model that is served with the likes that came in since, instead of training afresh
    #[arg(long)]
    pub fine_tune: bool,

    /// Of maintain: do not wait for the window of the configuration
    #[arg(long)]
    pub now: bool,

    /// The moment of the schedule that it is the run of, as `twotower schedule` says it: microseconds since 1970
    #[arg(long, value_name = "TIMESTAMP")]
    pub due: Option<i64>,
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
    let place = Place {
        db_url: global.db_url.clone(),
        config_file: global.config.clone(),
        config: config.clone(),
    };
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
