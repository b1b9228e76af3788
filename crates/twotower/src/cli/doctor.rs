//! `twotower doctor`.

use super::args::GlobalArgs;
use crate::config::Config;
use crate::jobs::Interrupt;
use clap::Args;

/// Arguments of `twotower doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {}

pub(super) async fn run(
    _args: &DoctorArgs,
    _config: &Config,
    _global: &GlobalArgs,
    _interrupt: &Interrupt,
) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
