//! `twotower load`.

use super::args::GlobalArgs;
use super::commands::connect_patiently;
use super::output::{print, print_held};
use super::update::{self, IndexArgs, LEFT_ALONE};
use crate::config::{Config, Update};
use crate::jobs::{self, Gate, Interrupt, LoadOptions, LoadReport, Published, Retry};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `twotower load`.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Folder of the model that the vectors were computed with, as models/7
    #[arg(long, value_name = "FOLDER")]
    pub model: PathBuf,

    /// Folder of vectors that `twotower embed` wrote
    #[arg(long, value_name = "FOLDER")]
    pub from: PathBuf,

    /// Connections to PostgreSQL that write beside each other
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,

    /// Load the version without making it active, for `twotower models promote`
    #[arg(long)]
    pub no_activate: bool,

    /// Make the version active although the quality gate refuses it, which the history tells, or an experiment ends with it
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub index: IndexArgs,
}

impl LoadArgs {
    fn options(&self, config: &Config) -> LoadOptions {
        let file = &config.update;
        LoadOptions {
            model: self.model.clone(),
            from: self.from.clone(),
            connections: self.connections,
            activate: !self.no_activate,
            gate: Gate::of(config),
            force: self.force,
            settings: Update {
                index: file.index && !self.index.no_index,
                index_memory_mb: self.index.index_memory_mb.unwrap_or(file.index_memory_mb),
                ..file.clone()
            },
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
