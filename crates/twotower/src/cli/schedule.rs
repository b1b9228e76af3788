//! `twotower schedule`.

use super::args::GlobalArgs;
use super::output::print;
use super::run::at_home;
use crate::config::Config;
use crate::jobs::Interrupt;
use crate::log_file::LogFile;
use crate::operations::{self, ScheduleError, ScheduleOptions};
use clap::Args;

/// Arguments of `twotower schedule`.
#[derive(Debug, Clone, Args)]
pub struct ScheduleArgs {
    /// Run what is due now, wait for it, and end; for a timer that calls every few minutes
    #[arg(long)]
    pub once: bool,
}

pub(super) async fn run(
    args: &ScheduleArgs,
    config: &Config,
    global: &GlobalArgs,
    log_file: Option<LogFile>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let (place, program) = at_home(config, global, log_file)?;
    let options = ScheduleOptions { once: args.once };
    let ran = operations::schedule(&place, &program, options, interrupt).await?;
    if args.once {
        print(global.json, &ran, "")?;
        if !ran.failed.is_empty() {
            return Err(ScheduleError::Failed(ran.failed).into());
        }
    }
    Ok(())
}
