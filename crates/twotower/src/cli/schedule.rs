//! `twotower schedule`.

use super::args::GlobalArgs;
use super::output::print;
use super::run::at_home;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::log_file::LogFile;
use crate::operations::{self, ScheduleError, ScheduleOptions};
use clap::Args;
use twotower_store::{Store, StoreError, database_file};

/// Arguments of `twotower schedule`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScheduleArgs {
    /// Run what is due now, wait for it, and exit; for a timer that calls every few minutes
    #[arg(long)]
    pub(crate) once: bool,
}

pub(super) async fn run(
    args: &ScheduleArgs,
    config: &Config,
    global: &GlobalArgs,
    log_file: Option<LogFile>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    refuse_missing_file(config, global).await?;
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

/// Refuses a SQLite file that does not exist: the scheduler waits for a database that is away, and
/// would wait for that file in vain.
async fn refuse_missing_file(config: &Config, global: &GlobalArgs) -> anyhow::Result<()> {
    if database_file(&global.db_url).is_some() {
        let opened = Store::connect_existing(&global.db_url, config.database.options()).await;
        match opened {
            Err(error @ StoreError::NoFile(_)) => return Err(error.into()),
            Err(_) => {}
            Ok(store) => store.close().await,
        }
    }
    Ok(())
}
