//! `twotower backup`.

use super::args::GlobalArgs;
use crate::config::Config;
use crate::jobs::Interrupt;
use clap::Args;

/// Arguments of `twotower backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {}

pub(super) async fn run(
    _args: &BackupArgs,
    _config: &Config,
    _global: &GlobalArgs,
    _interrupt: &Interrupt,
) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
