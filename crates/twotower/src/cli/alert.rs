//! `twotower alert`.

use super::args::GlobalArgs;
use crate::config::Config;
use crate::jobs::Interrupt;
use clap::Args;

/// Arguments of `twotower alert`.
#[derive(Debug, Clone, Args)]
pub struct AlertArgs {}

pub(super) async fn run(
    _args: &AlertArgs,
    _config: &Config,
    _global: &GlobalArgs,
    _interrupt: &Interrupt,
) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
