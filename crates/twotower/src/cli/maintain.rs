//! `twotower maintain`.

use super::args::GlobalArgs;
use crate::config::Config;
use crate::jobs::Interrupt;
use clap::Args;

/// Arguments of `twotower maintain`.
#[derive(Debug, Clone, Args)]
pub struct MaintainArgs {}

pub(super) async fn run(
    _args: &MaintainArgs,
    _config: &Config,
    _global: &GlobalArgs,
    _interrupt: &Interrupt,
) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
