//! `twotower backup`.

use super::args::GlobalArgs;
use super::commands::connect_patiently;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::Retry;
use crate::operations::backup::{BackupOptions, BackupReport, back_up, verify};
use anyhow::ensure;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `twotower backup`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupArgs {
    /// Folder of backups; each gets a folder of its own, named by its time [default: backups]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: Option<PathBuf>,

    /// Folder of models [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) model_path: Option<PathBuf>,

    /// Check every byte of these backups instead of making one
    #[arg(long, value_name = "BACKUP", num_args = 1.., conflicts_with_all = ["to", "model_path"])]
    pub(crate) verify: Vec<PathBuf>,
}

impl BackupArgs {
    fn options(&self, config: &Config) -> anyhow::Result<BackupOptions> {
        let folder = self.to.as_ref().unwrap_or(&config.backup.folder);
        ensure!(
            !folder.display().to_string().contains("://"),
            "{} is no folder: back up into one, and have it copied from there",
            folder.display()
        );
        let models = config.training.models(self.model_path.as_ref());
        Ok(BackupOptions {
            folder: folder.clone(),
            models: config.backup.models.then_some(models),
            events: config.backup.events,
            keep: config.backup.keep,
            attempts: config.update.attempts,
        })
    }
}

pub(super) async fn run(
    args: &BackupArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    if !args.verify.is_empty() {
        return verify_all(args, global).await;
    }
    let options = args.options(config)?;
    let retry = Retry::new(options.attempts);
    let store = connect_patiently(global, config, &retry, true).await?;
    let report = Box::pin(back_up(&store, &options, interrupt)).await?;
    print(global.json, &report, &describe(&report))
}

async fn verify_all(args: &BackupArgs, global: &GlobalArgs) -> anyhow::Result<()> {
    let mut verified = Vec::new();
    let mut lines = Vec::new();
    for folder in &args.verify {
        let manifest = verify(folder).await?;
        lines.push(format!(
            "{}: {} files, {} bytes, as they were written",
            folder.display(),
            manifest.files.len(),
            manifest.bytes()
        ));
        verified.push(json!({ "folder": folder, "manifest": manifest }));
    }
    print(
        global.json,
        &json!({ "verified": verified }),
        &lines.join("\n"),
    )
}

fn describe(report: &BackupReport) -> String {
    let mut text = format!(
        "{}: {} bytes, {:.1} s\n{}",
        report.folder.display(),
        report.bytes,
        report.seconds,
        rows(&report.rows)
    );
    for folder in &report.removed {
        text.push_str("\nremoved ");
        text.push_str(&folder.display().to_string());
    }
    text
}

/// `models 3, tombstones 1, …`
pub(super) fn rows(rows: &BTreeMap<String, u64>) -> String {
    let tables: Vec<String> = rows
        .iter()
        .map(|(table, rows)| format!("{table} {rows}"))
        .collect();
    tables.join(", ")
}
