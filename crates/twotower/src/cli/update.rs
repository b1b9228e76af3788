//! `twotower update`.

use super::args::GlobalArgs;
use super::commands::{connect_patiently, done};
use super::output::{held, print};
use crate::config::{Config, MAX_INDEX_MEMORY_MB, Update};
use crate::interrupt::Interrupt;
use crate::jobs::{
    self, Gate, LeftAlone, Published, Retry, UpdateMode, UpdateOptions, UpdateReport,
};
use crate::operations::left_to_retraining;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `twotower update`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Args)]
pub(crate) struct UpdateArgs {
    /// One model's folder, or a folder of models. From the latter a newer model is made active; if there is none, the active one is brought up to date [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) model_path: Option<PathBuf>,

    /// Read everything, write nothing, print what would change
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Also recompute what has not changed
    #[arg(long)]
    pub(crate) full: bool,

    /// Load the version without making it active; `twotower models promote` does that later
    #[arg(long)]
    pub(crate) no_activate: bool,

    /// Make the version active even if the quality gate refuses it, which the history records, or an experiment ends by it
    #[arg(long)]
    pub(crate) force: bool,

    /// Number of vectors per transaction [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub(crate) batch_size: Option<usize>,

    #[command(flatten)]
    pub(crate) index: IndexArgs,
}

/// The index for those who search in SQL.
#[derive(Debug, Clone, Args)]
pub(crate) struct IndexArgs {
    /// Build no index of the video vectors; only searches in SQL need it
    #[arg(long)]
    pub(crate) no_index: bool,

    /// Memory limit of PostgreSQL for building the index, megabytes [default: 1024]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=MAX_INDEX_MEMORY_MB))]
    pub(crate) index_memory_mb: Option<u64>,
}

impl IndexArgs {
    /// The section `[update]` of the configuration, overridden by flags.
    pub(super) fn over(&self, file: &Update) -> Update {
        Update {
            index: file.index && !self.no_index,
            index_memory_mb: self.index_memory_mb.unwrap_or(file.index_memory_mb),
            ..file.clone()
        }
    }
}

impl UpdateArgs {
    /// The options: flags override the configuration.
    pub(crate) fn options(&self, config: &Config) -> UpdateOptions {
        let file = &config.update;
        UpdateOptions {
            model_path: config.training.models(self.model_path.as_ref()),
            left_alone: LeftAlone::Nothing,
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
                ..self.index.over(file)
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
    let options = UpdateOptions {
        left_alone: left_to_retraining(config),
        ..options
    };
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
