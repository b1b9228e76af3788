//! `twotower prune`.

use super::args::GlobalArgs;
use super::commands::connect_patiently;
use super::output::{print, print_held};
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::{self, PruneOptions, PruneReport, PrunedVersion, Published, Retry};
use crate::operations::Job;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `twotower prune`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PruneArgs {
    /// Folder of models [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) model_path: Option<PathBuf>,

    /// Read everything, write nothing, print what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl PruneArgs {
    fn options(&self, config: &Config) -> PruneOptions {
        PruneOptions {
            model_path: config.training.models(self.model_path.as_ref()),
            dry_run: self.dry_run,
            settings: config.prune.clone(),
            retire_days: config.erase.retire_days,
            retraining: config.run.limit(Job::Retrain),
            event_days: config.events.retention_days,
            update: config.update.clone(),
        }
    }
}

/// Prunes; then fails if a version is served that should have been replaced.
pub(super) async fn run(
    args: &PruneArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let options = args.options(config);
    let retry = Retry::new(options.update.attempts);
    let store = connect_patiently(global, config, &retry, !options.dry_run).await?;
    match jobs::prune(&store, &config.source, &options, interrupt).await? {
        Published::Held(holder) => print_held(global.json, &holder, "nothing was removed"),
        Published::Done(report) => {
            print(global.json, &report, &describe(&report))?;
            match report.overdue {
                None => Ok(()),
                Some(overdue) => Err(overdue.error().into()),
            }
        }
    }
}

fn describe(report: &PruneReport) -> String {
    let mut lines: Vec<String> = report.versions.iter().map(version).collect();
    lines.push(format!(
        "vectors of dormant users: {}",
        report.dormant_vectors
    ));
    lines.push(format!("events: {}", report.events));
    if report.dry_run {
        lines.push("dry run, nothing was removed".into());
    }
    lines.join("\n")
}

fn version(pruned: &PrunedVersion) -> String {
    let folder = pruned.folder.as_ref();
    let folder = folder.map_or(String::new(), |folder| format!(", {}", folder.display()));
    format!(
        "version {} ({}): {} vectors of videos, {} of users{folder}",
        pruned.version, pruned.reason, pruned.video_vectors, pruned.user_vectors
    )
}
