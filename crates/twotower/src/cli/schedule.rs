//! `twotower schedule`.

use super::args::GlobalArgs;
use crate::config::Config;
use crate::jobs::Interrupt;
use clap::Args;

/// Arguments of `twotower schedule`.
#[derive(Debug, Clone, Args)]
pub struct ScheduleArgs {}

pub(super) async fn run(
    _args: &ScheduleArgs,
    _config: &Config,
    _global: &GlobalArgs,
    _interrupt: &Interrupt,
) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
