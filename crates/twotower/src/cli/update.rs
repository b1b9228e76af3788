//! `twotower update`.

use super::args::GlobalArgs;
use super::commands::{connect_patiently, done};
use super::output::{held, print};
use crate::config::{Config, Update};
use crate::jobs::{
    self, Gate, Interrupt, Published, Retry, UpdateMode, UpdateOptions, UpdateReport,
};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `twotower update`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Args)]
pub struct UpdateArgs {
    /// A model's folder, or a folder of models: of these a new one is made active, else the active one is kept up to date [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub model_path: Option<PathBuf>,

    /// Read everything, write nothing, print what would change
    #[arg(long)]
    pub dry_run: bool,

    /// Recompute what has not changed, too
    #[arg(long)]
    pub full: bool,

    /// Load a version without making it active, for `twotower models promote`
    #[arg(long)]
    pub no_activate: bool,

    /// Make a version active although the quality gate refuses it, which the history tells, or an experiment ends with it
    #[arg(long)]
    pub force: bool,

    /// Vectors a transaction [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub batch_size: Option<usize>,

    #[command(flatten)]
    pub index: IndexArgs,
}

/// The index for those who search in SQL.
#[derive(Debug, Clone, Args)]
pub struct IndexArgs {
    /// Build no index of the video vectors; only those who search in SQL miss it
    #[arg(long)]
    pub no_index: bool,

    /// Most memory for PostgreSQL to build the index in, megabytes [default: 1024]
    #[arg(long, value_name = "MB")]
    pub index_memory_mb: Option<u64>,
}

impl UpdateArgs {
    /// The options: flags override the configuration.
    pub fn options(&self, config: &Config) -> UpdateOptions {
        let file = &config.update;
        UpdateOptions {
            model_path: self
                .model_path
                .clone()
                .unwrap_or_else(|| config.training.output_dir.clone()),
            mode: match (self.dry_run, self.no_activate) {
                (true, _) => UpdateMode::DryRun,
                (false, true) => UpdateMode::Load,
                (false, false) => UpdateMode::Activate,
            },
            full: self.full,
            gate: Gate::of(config),
            force: self.force,
            reason: "update".into(),
            user_vector_days: config.prune.user_vector_days,
            settings: Update {
                batch_size: self.batch_size.unwrap_or(file.batch_size),
                index: file.index && !self.index.no_index,
                index_memory_mb: self.index.index_memory_mb.unwrap_or(file.index_memory_mb),
                ..file.clone()
            },
        }
    }
}

pub(super) async fn run(
    args: &UpdateArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let options = args.options(config);
    let retry = Retry::new(options.settings.attempts);
    let store =
        connect_patiently(global, config, &retry, options.mode != UpdateMode::DryRun).await?;
    let updated = jobs::update(&store, &config.source, &options, interrupt).await?;
    let (value, text) = outcome(&updated);
    print(global.json, &value, &text)?;
    match &updated {
        Published::Done(report) if waits_refused(report) => tracing::warn!(
            "update has loaded model {0}, which the quality gate refused: readers keep what they see, and `twotower models show {0}` says why",
            report.version
        ),
        _ => done("update"),
    }
    Ok(())
}

/// Whether the gate refused the version, and `--force` did not overrule it.
fn waits_refused(report: &UpdateReport) -> bool {
    let refused = report.verdict.as_ref().is_some_and(|it| !it.passed());
    refused && !report.activated && report.active_version != Some(report.version)
}

/// What is printed where another process publishes.
pub(super) const LEFT_ALONE: &str = "the database was left alone";

/// JSON and text of an update.
pub(super) fn outcome(updated: &Published<UpdateReport>) -> (serde_json::Value, String) {
    match updated {
        Published::Done(report) => (json!(report), describe(report)),
        Published::Held(holder) => held(holder, LEFT_ALONE),
    }
}

pub(super) fn describe(report: &UpdateReport) -> String {
    let outcome = match report {
        report if report.dry_run => "dry run, nothing was written".into(),
        report if report.activated => "readers were switched to it".into(),
        report if report.active_version == Some(report.version) => "readers see it already".into(),
        UpdateReport {
            held_back_by: Some(experiment),
            version,
            ..
        } => format!(
            "loaded, but not made active: that would end experiment {experiment}; `twotower models promote {version}` does"
        ),
        report if waits_refused(report) => {
            "loaded, but refused by the quality gate; `twotower models promote --force` switches readers to it all the same".into()
        }
        _ => "loaded; `twotower models promote` switches readers to it".into(),
    };
    let mut lines = vec![
        format!(
            "model {} ({outcome}), {:.1} s",
            report.version, report.seconds
        ),
        format!("videos: {}\nusers: {}", report.videos, report.users),
    ];
    lines.extend(report.challenger.as_ref().map(|challenger| {
        format!(
            "model {} (the challenger of experiment {})\nvideos: {}\nusers: {}",
            challenger.version, challenger.experiment, challenger.videos, challenger.users
        )
    }));
    lines.join("\n")
}
