//! `twotower run`.

use super::args::GlobalArgs;
use crate::config::Config;
use crate::jobs::Interrupt;
use clap::Args;

/// Arguments of `twotower run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {}

pub(super) async fn run(
    _args: &RunArgs,
    _config: &Config,
    _global: &GlobalArgs,
    _interrupt: &Interrupt,
) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
