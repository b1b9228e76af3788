//! `twotower load`.

use super::args::GlobalArgs;
use super::commands::connect_patiently;
use super::output::{print, print_held};
use super::update::{self, IndexArgs, LEFT_ALONE};
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::{self, Gate, LoadOptions, LoadReport, Published, Retry};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `twotower load`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// Folder of the model that the vectors were computed with, such as models/7
    #[arg(long, value_name = "FOLDER")]
    pub(crate) model: PathBuf,

    /// Folder of vectors that `twotower embed` wrote
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: PathBuf,

    /// Number of connections to PostgreSQL that write in parallel
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) connections: u32,

    /// Load the version without making it active; `twotower models promote` does that later
    #[arg(long)]
    pub(crate) no_activate: bool,

    /// Make the version active even if the quality gate refuses it, which the history records, or an experiment ends by it
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) index: IndexArgs,
}

impl LoadArgs {
    fn options(&self, config: &Config) -> LoadOptions {
        LoadOptions {
            model: self.model.clone(),
            from: self.from.clone(),
            connections: self.connections,
            activate: !self.no_activate,
            gate: Gate::of(config),
            force: self.force,
            settings: self.index.over(&config.update),
        }
    }
}

pub(super) async fn run(
    args: &LoadArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let options = args.options(config);
    let retry = Retry::new(options.settings.attempts);
    let store = connect_patiently(global, config, &retry, true).await?;
    match Box::pin(jobs::load(&store, &config.source, &options, interrupt)).await? {
        Published::Done(report) => print(global.json, &report, &describe(&report)),
        Published::Held(holder) => print_held(global.json, &holder, LEFT_ALONE),
    }
}

fn describe(report: &LoadReport) -> String {
    let mut lines = vec![update::describe(&report.update)];
    if report.unknown_videos > 0 {
        lines.push(format!(
            "left out: {} videos that are not in the catalogue any more",
            report.unknown_videos
        ));
    }
    if report.erased_users > 0 {
        lines.push(format!(
            "left out: {} users who were erased",
            report.erased_users
        ));
    }
    lines.join("\n")
}
