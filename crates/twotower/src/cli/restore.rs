//! `twotower restore`.

use super::args::GlobalArgs;
use super::backup::rows;
use super::commands::check_schema;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::Retry;
use crate::operations::restore::{RestoreJob, RestoreReport, restore};
use clap::Args;
use std::path::PathBuf;
use twotower_store::{Store, StoreError};

/// Arguments of `twotower restore`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// A backup, or a folder of backups, of which the newest is taken
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: PathBuf,

    /// Folder of models, into which the models of the backup are copied [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) model_path: Option<PathBuf>,

    /// Restore even if the database holds newer data
    #[arg(long)]
    pub(crate) replace: bool,

    /// Check the backup and the database, write nothing, print what would be restored
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(super) async fn run(
    args: &RestoreArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let job = RestoreJob {
        folder: args.backup.clone(),
        models: config.training.models(args.model_path.as_ref()),
        replace: args.replace,
        dry_run: args.dry_run,
        update: config.update.clone(),
        source: config.source.clone(),
    };
    let (url, options) = (&global.db_url, config.database.options());
    let retry = Retry::new(config.update.attempts);
    let what = "connect to the database";
    // The database may be empty, and the file may be new.
    let (store, migrations) = if args.dry_run {
        let connect = || Store::connect_existing(url, options);
        looked_at(retry.run(what, connect).await, config).await?
    } else {
        let store = retry.run(what, || Store::connect(url, options)).await?;
        let migrations = store.migrate().await?;
        check_schema(&store).await?;
        (store, migrations)
    };
    let mut report = restore(&store, &job, interrupt).await?;
    report.migrations = migrations;
    print(global.json, &report, &describe(&report))
}

/// The database that a dry run inspects, and the migrations that the restore would apply first. A
/// database without any table of ours, or a file that does not exist, is replaced by an empty
/// database, for which all migrations are pending. With only some migrations applied, a dry run is
/// not possible.
async fn looked_at(
    connected: Result<Store, StoreError>,
    config: &Config,
) -> anyhow::Result<(Store, Vec<String>)> {
    match connected {
        Err(StoreError::NoFile(_)) => {
            let empty = empty(config).await?;
            let all = empty.migrate().await?;
            Ok((empty, all))
        }
        connected => {
            let store = connected?;
            let pending = store.pending_migrations().await?;
            if pending.is_empty() {
                return Ok((store, pending));
            }
            // Tables of an older schema have to be compared with the backup, and cannot be read
            // before they are migrated.
            anyhow::ensure!(
                store.has_nothing_of_ours().await?,
                "the schema lacks {} migrations ({}): a dry run applies none, and can tell what the database holds only once they are there. Run \
                 `twotower migrate` first, and then this again; without --dry-run, `twotower restore` applies them itself before it restores",
                pending.len(),
                pending.join(", ")
            );
            let empty = empty(config).await?;
            empty.migrate().await?;
            Ok((empty, pending))
        }
    }
}

async fn empty(config: &Config) -> Result<Store, StoreError> {
    Store::connect("sqlite::memory:", config.database.options()).await
}

fn describe(report: &RestoreReport) -> String {
    let restored = &report.restored;
    let mut lines = vec![format!(
        "{} ({:.1} s)\n{}",
        report.folder.display(),
        report.seconds,
        rows(&restored.rows)
    )];
    match restored.active_version {
        Some(version) => lines.push(format!("readers see version {version}")),
        None => lines.push("no version is active".into()),
    }
    if restored.erased_left_out > 0 {
        lines.push(format!(
            "{} vectors of users who were erased were left out",
            restored.erased_left_out
        ));
    }
    if restored.erased_deleted > 0 {
        lines.push(format!(
            "{} rows that the database held of users who were erased were deleted",
            restored.erased_deleted
        ));
    }
    match restored.erased_remaining {
        Some(0) => {}
        Some(rows) => lines.push(format!(
            "{rows} likes and skips of users who were erased are left, in tables that `[source]` reads instead of twotower's, \
             that this role may not delete from, or where the deletion failed (see the log): delete them there, or run `twotower erase` for these users again"
        )),
        None if report.dry_run => {}
        None => lines.push(
            "likes and skips of users who were erased could not be counted (see the log): run `twotower erase` for these users again"
                .into(),
        ),
    }
    for version in &report.without_user_tower {
        lines.push(format!(
            "no folder of version {version} to write its user tower from: `twotower update` does that once the folder is there \
             (--model-path); until then recommend_videos goes by the stored vectors of users"
        ));
    }
    for newer in &restored.newer {
        lines.push(format!("newer than the backup: {newer}"));
    }
    if !report.migrations.is_empty() {
        lines.push(format!(
            "the schema lacked {} migrations, which are applied first",
            report.migrations.len()
        ));
    }
    if report.dry_run {
        lines.push("dry run, nothing was written".into());
    } else {
        lines.push("start `twotower serve` anew where it runs".into());
    }
    lines.join("\n")
}
