//! `twotower restore`.

use super::args::GlobalArgs;
use crate::config::Config;
use crate::jobs::Interrupt;
use clap::Args;

/// Arguments of `twotower restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {}

pub(super) async fn run(
    _args: &RestoreArgs,
    _config: &Config,
    _global: &GlobalArgs,
    _interrupt: &Interrupt,
) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
