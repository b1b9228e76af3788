//! `twotower evaluate`.

use super::args::{GlobalArgs, SplitArg};
use super::commands::connect;
use super::output::print;
use crate::config::Config;
use crate::jobs::{self, EvaluateOptions, Evaluated, Interrupt};
use crate::report::comparison_table;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use twotower_core::metric::Bootstrap;

/// Arguments of `twotower evaluate`.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// A model's folder, or a folder of models, whose newest is taken [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub model_path: Option<PathBuf>,

    /// How likes are cut [default: as the model was trained]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<SplitArg>,

    /// Leave out likes and skips older than so many days before the latest one
    #[arg(long, value_name = "DAYS")]
    pub max_age_days: Option<u32>,

    /// Judge by the shards that `twotower prepare` made instead of the database, which is not asked then
    #[arg(long = "data", value_name = "FOLDER", conflicts_with = "max_age_days")]
    pub shards: Option<PathBuf>,

    /// Threads [default: 2]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl EvaluateArgs {
    /// Flags over configuration.
    pub fn options(&self, config: &Config) -> EvaluateOptions {
        EvaluateOptions {
            model_path: self
                .model_path
                .clone()
                .unwrap_or_else(|| config.training.output_dir.clone()),
            split: self.split.map(Into::into),
            max_age_days: self.max_age_days.or(config.training.max_age_days),
            threads: self.threads.unwrap_or(config.training.threads),
        }
    }
}

pub(super) async fn run(
    args: &EvaluateArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let options = args.options(config);
    let evaluated = if let Some(shards) = &args.shards {
        jobs::evaluate_shards(shards, &options, interrupt).await?
    } else {
        let store = connect(global, config).await?;
        jobs::evaluate(&store, &config.source, &options, interrupt).await?
    };
    print(global.json, &as_json(&evaluated), &as_text(&evaluated))?;
    Ok(())
}

pub(super) fn as_json(evaluated: &Evaluated) -> serde_json::Value {
    let recommenders: serde_json::Map<_, _> = evaluated
        .comparison
        .evaluations
        .iter()
        .map(|evaluation| (evaluation.name.clone(), json!(evaluation.summary)))
        .collect();
    json!({
        "model_version": evaluated.version,
        "split": evaluated.split,
        "retrained": evaluated.retrained,
        "recommenders": recommenders,
        "report": evaluated.report,
    })
}

pub(super) fn as_text(evaluated: &Evaluated) -> String {
    let again = (evaluated.retrained.as_ref()).map_or(String::new(), |reason| {
        format!("\n{reason}: the towers were trained afresh for this split")
    });
    format!(
        "{}{again}\nreport: {}",
        comparison_table(&evaluated.comparison, &Bootstrap::default()),
        evaluated.report.display()
    )
}
