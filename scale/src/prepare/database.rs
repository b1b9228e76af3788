use crate::output::Output;
use crate::source::{Source, SourceArguments};
use anyhow::{Context, ensure};
use std::env;
use std::process::Stdio;
use tokio::process::Command;
use tracing::info;

/// Where rows of a database stand until they are sorted.
const FOLDER: &str = ".source";

/// Fetches videos, likes and skips with `twotower export`, which knows the database and its settings. The address travels in
/// the environment, where others on the machine do not see it. The folder goes with what the sort has spilled. The export stops when this
/// process is gone, however that ended: nobody holds the other end of its standard input then.
pub(super) async fn export(from: &str, output: &Output) -> anyhow::Result<Source> {
    let program = env::var_os("TWOTOWER_PROGRAM").unwrap_or_else(|| "twotower".into());
    let folder = output.spill().join(FOLDER);
    let mut command = Command::new(&program);
    command
        .arg("export")
        .arg("--to")
        .arg(&folder)
        .arg("--supervised")
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    if from.contains("://") {
        command.env("DATABASE_URL", from);
    } else {
        let address = env::var("DATABASE_URL").unwrap_or_default();
        ensure!(
            address.starts_with("postgres"),
            "--from postgres: set DATABASE_URL to the address of the database, postgresql://USER@HOST/NAME"
        );
    }
    info!("exporting the database");
    let failed = || format!("run {} export", program.display());
    let mut child = command.spawn().with_context(failed)?;
    // Waiting would close it.
    let held = child.stdin.take();
    let status = child.wait().await.with_context(failed)?;
    drop(held);
    ensure!(
        status.success(),
        "`twotower export` failed ({status}): what it said stands above"
    );
    SourceArguments {
        from: folder.to_str().context("a path that is UTF-8")?.to_owned(),
        skips: None,
        videos: None,
    }
    .resolve()
}
