//! Imports files into the database.
//!
//! A format yields rows of cells in the order of our columns; a row becomes a video, a like or a
//! skip, or a [`Fault`] that names file, line and column; batches of rows go to the store while the
//! next ones are parsed. Every write is idempotent, so an import may be repeated, and restarted
//! after an interruption.

mod args;

mod kind;

mod layout;

mod reader;

mod lines;

mod csv;

mod jsonl;

mod parquet;

mod movielens;

mod cell;

/// Ids that need not be UUIDs.
pub mod id;

pub use twotower_core::external::time;

mod row;

mod pipeline;

mod report;

#[cfg(test)]
mod fuzz;

pub(crate) use self::parquet::{Value, values};
pub use args::{ImportArgs, OnError, Preset};
pub use cell::Fault;
pub use kind::FileKind;
pub use layout::{ColumnRule, LayoutError};
pub use report::{FileReport, NothingImported, Report};

use crate::import::layout::Names;
use crate::import::pipeline::Rules;
use crate::import::reader::{Format, Input};
use crate::interrupt::Interrupt;
use anyhow::{Context, bail, ensure};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use twotower_core::feature::Video;
use twotower_store::Store;

/// Called after each batch with the number of rows of the current file in the database, and the
/// file's name.
pub type Progress<'a> = &'a (dyn Fn(u64, &str) + Send + Sync);

/// Imports the files that `args` name into a migrated store; videos first, whatever the order of
/// the arguments. On an interrupt it stops before the next batch.
///
/// # Errors
/// Before anything is read: if the kind or format of a file is unknown. Later: if a file cannot be
/// read, a row is invalid (unless such rows are to be skipped), the store fails, or with
/// [`crate::jobs::JobError::Interrupted`]. Batches written before stay; repeating the import is
/// safe.
pub async fn run(
    store: &Store,
    args: &ImportArgs,
    interrupt: &Interrupt,
    progress: Progress<'_>,
) -> anyhow::Result<Report> {
    let mut inputs = inputs(args)?;
    inputs.sort_by_key(|input| input.names.kind);

    let mut report = Report::default();
    let mut known = None;
    for input in inputs {
        let known = match (input.names.kind, &known) {
            (FileKind::Videos, _) if input.format == Format::JsonLines => videos(store).await?,
            (FileKind::Videos, _) => Arc::default(),
            (_, Some(known)) => Arc::clone(known),
            (_, None) => Arc::clone(known.insert(catalogue(store).await?)),
        };
        let rules = Rules {
            on_error: args.on_error,
            default_time_us: args.default_time,
            known,
        };
        report
            .files
            .push(pipeline::import(store, input, rules, interrupt, progress).await?);
    }
    Ok(report)
}

/// Checks that the files that `args` name exist and that their kind is known; called before a
/// database is created for them.
///
/// # Errors
/// If a file does not exist, or its kind or format is unknown.
pub fn check(args: &ImportArgs) -> anyhow::Result<()> {
    inputs(args).map(drop)
}

fn inputs(args: &ImportArgs) -> anyhow::Result<Vec<Input>> {
    match args.preset {
        Some(Preset::MovieLens) => movielens_inputs(args),
        None => args.files.iter().map(|path| input(path, args)).collect(),
    }
}

fn input(path: &Path, args: &ImportArgs) -> anyhow::Result<Input> {
    let Some(kind) = args.kind.or_else(|| FileKind::from_file_name(path)) else {
        bail!(
            "{}: the name does not begin with videos, likes or skips; say what it holds with --as",
            path.display()
        );
    };
    ensure!(path.is_file(), "{}: there is no such file", path.display());
    let format = Format::of(path, args.delimiter)?;
    ensure!(
        args.header.is_empty() || matches!(format, Format::Csv { .. }),
        "{}: --header names the columns of .csv and .tsv files, and this one names its own",
        path.display()
    );
    let names = Names::new(kind, &args.columns, args.default_time.is_some());
    Ok(Input {
        path: path.to_owned(),
        format,
        names: names.with_header(&args.header),
    })
}

fn movielens_inputs(args: &ImportArgs) -> anyhow::Result<Vec<Input>> {
    let [folder] = &args.files[..] else {
        bail!("--preset takes one folder");
    };
    let release = movielens::Release::of(folder)?;
    FileKind::ALL
        .into_iter()
        .map(|kind| {
            let path = folder.join(release.file(kind));
            ensure!(path.is_file(), "{}: there is no such file", path.display());
            Ok(Input {
                path,
                format: Format::MovieLens,
                names: Names::new(kind, &[], false),
            })
        })
        .collect()
}

/// Passes every video of a Parquet file with our column names to `take`.
///
/// # Errors
/// If the file cannot be read, or with a [`Fault`] that names a row that is not a valid video.
pub(crate) fn videos_of_parquet(path: &Path, take: impl FnMut(Video)) -> anyhow::Result<()> {
    let input = Input {
        path: path.to_owned(),
        format: Format::Parquet,
        names: Names::new(FileKind::Videos, &[], false),
    };
    pipeline::videos(&input, take)
}

/// Ids of all videos. With them a like of an unknown video is a fault that names its line, long
/// before the database would reject it.
async fn catalogue(store: &Store) -> anyhow::Result<Arc<HashSet<uuid::Uuid>>> {
    let known = videos(store).await?;
    ensure!(
        !known.is_empty(),
        "the database has no videos yet, and a like needs its video: import videos first"
    );
    Ok(known)
}

async fn videos(store: &Store) -> anyhow::Result<Arc<HashSet<uuid::Uuid>>> {
    let titles = store.video_titles().await.context("read the catalogue")?;
    Ok(Arc::new(titles.into_iter().map(|(id, _)| id).collect()))
}
