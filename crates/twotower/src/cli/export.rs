//! `twotower export`.

use super::args::GlobalArgs;
use super::commands::connect_patiently;
use super::output::print;
use crate::config::Config;
use crate::export::{ExportOptions, ExportReport, export};
use crate::interrupt::Interrupt;
use crate::jobs::Retry;
use crate::progress::Progress;
use clap::Args;
use std::path::PathBuf;
use std::sync::Mutex;

/// Arguments of `twotower export`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// Folder to create, with `videos/`, `likes/`, `skips/` and `export.json`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: PathBuf,

    /// Leave out likes and skips more than this many days older than the latest one
    #[arg(long, value_name = "DAYS")]
    pub(crate) max_age_days: Option<u32>,

    /// Write users' own ids instead of pseudonyms, for `twotower embed --users` and for another database
    #[arg(long)]
    pub(crate) user_ids: bool,

    /// Maximum number of rows in a file
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows_per_file: u64,
}

pub(super) async fn run(
    args: &ExportArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let options = ExportOptions {
        to: args.to.clone(),
        max_age_days: args.max_age_days,
        user_ids: args.user_ids,
        rows_per_file: args.rows_per_file,
    };
    let retry = Retry::new(config.update.attempts);
    let store = connect_patiently(global, config, &retry, false).await?;
    let progress = Mutex::new(Progress::start("export", 0));
    let report = export(
        &store,
        &config.source,
        &options,
        interrupt,
        &|rows, kind| {
            if let Ok(mut progress) = progress.lock() {
                progress.set(rows, kind);
            }
        },
    )
    .await?;
    if let Ok(progress) = progress.into_inner() {
        progress.finish("written");
    }
    print(global.json, &report, &describe(&report))
}

fn describe(report: &ExportReport) -> String {
    let folder = report.folder.as_ref();
    let folder = folder.map_or_else(String::new, |folder| folder.display().to_string());
    let mut lines = vec![
        format!(
            "{folder}: {} videos, {} likes, {} skips, {:.1} s",
            report.videos.rows,
            report.likes.rows,
            report.skips.rows,
            report.seconds.unwrap_or_default()
        ),
        if report.pseudonyms {
            "users: pseudonyms; --user-ids writes their own ids".to_owned()
        } else {
            "users: their own ids".to_owned()
        },
    ];
    if report.orphans > 0 {
        lines.push(format!(
            "left out: {} likes and skips of videos that are not in the catalogue",
            report.orphans
        ));
    }
    lines.join("\n")
}
