//! `twotower experiment …`.

use super::args::GlobalArgs;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::experiment::{self, MetricReport, Report, StartOptions};
use crate::jobs::operator;
use crate::time::day;
use clap::{Args, Subcommand};
use serde_json::json;
use std::num::ParseFloatError;
use thiserror::Error;
use twotower_core::ab_test::Estimate;
use twotower_store::Store;

/// Arguments of `twotower experiment`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExperimentArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ExperimentCommand,
}

/// What to do with experiments.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ExperimentCommand {
    /// Serve a complete version to a share of the users, and the active one to the others; models trained meanwhile stay candidates
    Start(StartArgs),
    /// End the running experiment: everybody gets the active version again. Making another version active ends it, too
    Stop,
    /// Report what users did in either arm, and whether there is a significant difference
    Report(ReportArgs),
}

impl ExperimentCommand {
    /// Name in the line on success.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "experiment start",
            Self::Stop => "experiment stop",
            Self::Report(_) => "experiment report",
        }
    }
}

/// Arguments of `twotower experiment start`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StartArgs {
    /// Version to try: a candidate or a retired one
    #[arg(long, value_name = "VERSION")]
    pub(crate) challenger: i64,

    /// Share of the users who get it, between 0 and 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    pub(crate) share: f64,

    /// Reason, for the record
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    pub(crate) reason: String,

    /// Name of the person, for the record [default: the user of the operating system]
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

/// Why a text is not a share.
#[derive(Debug, Error)]
enum ShareError {
    #[error(transparent)]
    Number(#[from] ParseFloatError),
    #[error("expected more than 0 and less than 1")]
    Range,
}

fn share(text: &str) -> Result<f64, ShareError> {
    let share: f64 = text.parse()?;
    if share > 0.0 && share < 1.0 {
        Ok(share)
    } else {
        Err(ShareError::Range)
    }
}

/// Arguments of `twotower experiment report`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReportArgs {
    /// Number of the experiment [default: the latest]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) id: Option<i64>,
}

/// Runs one of them.
pub(super) async fn run(
    command: ExperimentCommand,
    store: &Store,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    match command {
        ExperimentCommand::Start(args) => {
            let options = StartOptions {
                challenger: args.challenger,
                share: args.share,
                by: args.by.unwrap_or_else(operator),
                reason: args.reason,
            };
            let started = experiment::start(store, &options, &config.update, interrupt).await?;
            let text = format!(
                "experiment {}: version {} for {} of the users, version {} for the others",
                started.id, started.challenger, started.share, started.control
            );
            print(global.json, &started, &text)
        }
        ExperimentCommand::Stop => {
            let id = experiment::stop(store).await?;
            let text = format!("experiment {id} is over: everybody gets the active version");
            print(global.json, &json!({ "stopped": id }), &text)
        }
        ExperimentCommand::Report(args) => {
            // Videos are read as by the server and its console.
            let store = store.with_source(&config.source).await?;
            let report = experiment::report(&store, args.id).await?;
            print(global.json, &report, &describe(&report))
        }
    }
}

fn describe(report: &Report) -> String {
    let experiment = &report.experiment;
    let mut lines = vec![format!(
        "experiment {}, {} to {}, by {}: {}",
        experiment.id,
        day(experiment.started_at_us),
        experiment.ended_at_us.map_or("now".into(), day),
        experiment.by,
        experiment.reason
    )];
    lines.extend(
        report
            .warning()
            .map(|warning| format!("WARNING: {warning}")),
    );
    lines.extend(report.arms.iter().map(|arm| {
        format!(
            "{:<11} version {}: {} users, {} videos shown to them, {} distinct ones of {} in the catalogue",
            arm.arm.as_str(),
            arm.version,
            arm.users,
            arm.shown,
            arm.coverage.videos,
            arm.coverage.catalogue
        )
    }));
    lines.extend(report.metrics.iter().map(line));
    lines.join("\n")
}

fn line(metric: &MetricReport) -> String {
    // Valid even if somebody looked at the report before.
    let told = metric.difference.zip(metric.at_any_time);
    let difference = told.map_or(String::new(), |(difference, found)| {
        format!(
            ", difference {:+.4} ({:+.4} to {:+.4}), p = {:.4}",
            difference.value, found.low, found.high, found.p_value
        )
    });
    format!(
        "{:<20} {} → {}{difference}: {}",
        metric.metric,
        estimate(metric.control),
        estimate(metric.challenger),
        metric.verdict()
    )
}

/// `0.1234 (0.1200 to 0.1268)`
fn estimate(estimate: Option<Estimate>) -> String {
    estimate.map_or("-".into(), |estimate| {
        let (low, high) = estimate.interval();
        format!("{:.4} ({low:.4} to {high:.4})", estimate.value)
    })
}
