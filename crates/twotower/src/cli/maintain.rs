//! `twotower maintain`.

use super::args::GlobalArgs;
use super::commands::connect_patiently;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::Retry;
use crate::operations::check::count_at_night;
use crate::operations::maintain::{
    MaintainOptions, MaintainReport, Outcome, Step, Window, maintain,
};
use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;

/// Arguments of `twotower maintain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MaintainArgs {
    /// Inspect everything, do nothing, print what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Do not wait for the maintenance window
    #[arg(long)]
    pub(crate) now: bool,
}

impl MaintainArgs {
    fn options(&self, config: &Config) -> anyhow::Result<MaintainOptions> {
        let window = Window::parse(&config.maintenance.window).context("read the window")?;
        Ok(MaintainOptions {
            settings: config.maintenance.clone(),
            window: (!self.now).then_some(window),
            time_zone: TimeZone::get(&config.schedule.time_zone)
                .context("look up the time zone of the schedule")?,
            index_memory_mb: config.update.index_memory_mb,
            dry_run: self.dry_run,
        })
    }
}

pub(super) async fn run(
    args: &MaintainArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let options = args.options(config)?;
    let retry = Retry::new(config.update.attempts);
    let store = connect_patiently(global, config, &retry, !args.dry_run).await?;
    let report = maintain(&store, &options, interrupt).await?;
    let window = &config.maintenance.window;
    print(global.json, &report, &describe(&report, window))?;
    if report.in_window && !report.dry_run {
        let place = global.place(config);
        // The upkeep is complete, whether or not this is interrupted.
        let _ = interrupt.cut(Box::pin(count_at_night(&place))).await;
    }
    match report.trouble() {
        Some(trouble) => anyhow::bail!(trouble),
        None => Ok(()),
    }
}

fn describe(report: &MaintainReport, window: &str) -> String {
    let mut lines: Vec<String> = report.steps.iter().map(step).collect();
    if !report.in_window {
        lines.push(format!(
            "outside of the window {window} nothing is done; --now does it at any time"
        ));
    } else if report.dry_run {
        lines.push("dry run, nothing was done".into());
    }
    lines.join("\n")
}

fn step(step: &Step) -> String {
    let Step {
        action,
        target,
        reason,
        ..
    } = step;
    let outcome = match step.outcome {
        Outcome::Done => "done",
        Outcome::Planned => "to be done",
        Outcome::GaveWay => "gave way, somebody keeps it locked",
        Outcome::NoTime => "no time left",
        Outcome::Failed => "failed",
    };
    let mut parts = vec![format!("{action} {target}: {outcome} ({reason})")];
    if step.rows > 0 {
        parts.push(format!("{} rows", step.rows));
    }
    let changed = [
        ("dead rows", step.dead_rows_before, step.dead_rows_after),
        ("bytes", step.bytes_before, step.bytes_after),
    ];
    for (what, before, after) in changed {
        if let (Some(before), Some(after)) = (before, after) {
            parts.push(format!("{what} {before} → {after}"));
        }
    }
    parts.join(", ")
}
