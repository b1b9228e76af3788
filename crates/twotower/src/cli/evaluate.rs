//! `twotower evaluate`.

use super::args::{GlobalArgs, SplitArg, threads};
use super::commands::connect;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::{self, Against, EvaluateOptions, Evaluated};
use crate::report::{comparison_table, model_against_model};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use twotower_core::evaluate::{Comparison, Evaluation, Metric};
use twotower_core::metric::Bootstrap;

/// Arguments of `twotower evaluate`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EvaluateArgs {
    /// One model's folder, or a folder of models, of which the newest is taken [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) model_path: Option<PathBuf>,

    /// Compare with another model on likes that neither has learned: its folder, or its version beside the first one
    #[arg(long, value_name = "MODEL", conflicts_with = "split")]
    pub(crate) against: Option<PathBuf>,

    /// How likes are split [default: as the model was trained]
    #[arg(long, value_name = "SPLIT")]
    pub(crate) split: Option<SplitArg>,

    /// Leave out likes and skips more than this many days older than the latest one
    #[arg(long, value_name = "DAYS")]
    pub(crate) max_age_days: Option<u32>,

    /// Evaluate on shards made by `twotower prepare` instead of the database
    #[arg(long = "data", value_name = "FOLDER", conflicts_with = "max_age_days")]
    pub(crate) shards: Option<PathBuf>,

    /// Number of threads [default: 2]
    #[arg(long, value_name = "N", value_parser = threads())]
    pub(crate) threads: Option<usize>,
}

impl EvaluateArgs {
    /// The options: flags override the configuration.
    pub(crate) fn options(&self, config: &Config) -> EvaluateOptions {
        EvaluateOptions {
            model_path: config.training.models(self.model_path.as_ref()),
            against: self.against.clone(),
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
    let against = evaluated.against.as_ref();
    json!({
        "model_version": evaluated.version,
        "split": evaluated.split,
        "retrained": evaluated.retrained,
        "against": against.map(|against| against_as_json(against, &evaluated.comparison)),
        "recommenders": recommenders,
        "report": evaluated.report,
    })
}

/// The other model, and the difference of the two models in each metric.
fn against_as_json(against: &Against, comparison: &Comparison) -> serde_json::Value {
    let metrics: serde_json::Map<_, _> = Metric::ALL
        .into_iter()
        .filter_map(|metric| {
            let between = model_against_model(comparison, metric, &Bootstrap::default())?;
            let of = |evaluation: &Evaluation| json!(evaluation.summary.all.metric(metric));
            let value = json!({
                "model": of(between.model),
                "against": of(between.other),
                "difference": between.mean,
                "interval": between.interval.map(|interval| [interval.low, interval.high]),
                "verdict": between.verdict,
            });
            Some((metric.key().to_owned(), value))
        })
        .collect();
    json!({
        "model_version": against.version,
        "folder": against.folder,
        "hold_out": against.hold_out,
        "metrics": metrics,
    })
}

pub(super) fn as_text(evaluated: &Evaluated) -> String {
    let again = (evaluated.retrained.as_ref()).map_or(String::new(), |reason| {
        format!("\n{reason}: the towers were trained afresh for this split")
    });
    let hold_out = (evaluated.against.as_ref()).map_or(String::new(), |against| {
        format!("\nto be found: {}", against.hold_out)
    });
    format!(
        "{}{again}{hold_out}\nreport: {}",
        comparison_table(&evaluated.comparison, &Bootstrap::default()),
        evaluated.report.display()
    )
}

#[cfg(test)]
mod tests {
    use super::super::args::Cli;
    use clap::Parser;

    /// Two models are judged on likes held out of both, whatever their splits.
    #[test]
    fn a_comparison_names_one_other_model_and_no_split() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("twotower evaluate --model-path models/2 --against 1").is_ok());
        assert!(parse("twotower evaluate --against models/1 --data shards").is_ok());
        let error = parse("twotower evaluate --against 1 --split llo").unwrap_err();
        assert!(error.to_string().contains("cannot be used with"), "{error}");
    }
}
