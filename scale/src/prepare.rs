//! Likes and skips of any number → training shards.
//!
//! The engine sorts by (user, kind, time, video), which is all that needs one. What comes out is read once: one user's videos
//! are all that is kept of it.

mod catalogue;

mod plan;

mod merge;

mod packer;

mod shard;

mod rank;

mod age;

mod database;

mod manifest;

pub use manifest::{Manifest, ShardEntry, Temporal};

pub(crate) use catalogue::{read as read_catalogue, write as write_catalogue, write_videos};
pub(crate) use plan::interactions;

use crate::engine::{Engine, EngineArguments};
use crate::output::Output;
use crate::source::{Source, SourceArguments};
use anyhow::Context;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures_util::StreamExt;
use merge::Merge;
use packer::Packer;
use shard::{Packed, ShardWriter};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tracing::{info, warn};
use twotower_core::feature::Catalogue;

/// Batches of sorted rows that wait for the one who packs them.
const WAITING: usize = 16;

/// `twotower-scale prepare`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    /// Folder to write, which must not exist yet or be empty
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    #[command(flatten)]
    engine: EngineArguments,
    /// Leave out likes and skips older than this, counted back from the latest that is not dated in the future
    #[arg(long, value_name = "N")]
    max_age_days: Option<u32>,
    /// Rows of a shard, at least: a user is never cut over two
    #[arg(long, default_value_t = 8_388_608, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    shard_rows: u64,
}

/// Writes the shards and prints what they hold.
///
/// # Errors
/// If the source cannot be read or holds what is no like, skip or video; if the engine or the disk refuses. Nothing of that
/// name is there then.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let output = Output::create(&arguments.to)?;
    let source = if arguments.source.is_database() {
        database::export(&arguments.source.from, &output).await?
    } else {
        arguments.source.resolve()?
    };
    let engine = Engine::new(&arguments.engine, &output.spill()).await?;
    let catalogue = Arc::new(read_catalogue(&engine.here, &source.videos).await?);
    info!(videos = catalogue.len(), "read the catalogue");

    let mut attempt = 1;
    let (packed, orphans) = loop {
        match pack(&engine, &source, &catalogue, &output, arguments).await {
            Ok(packed) => break packed,
            Err(error) if attempt < engine.attempts => {
                warn!(
                    "attempt {attempt} of {}: {error:#}: beginning again",
                    engine.attempts
                );
                attempt += 1;
                output.restart()?;
            }
            Err(error) => return Err(error),
        }
    };
    let entry = write_catalogue(&output, &catalogue)?;
    // Beside this task, which hears meanwhile that it is to stop.
    let shards = output.folder().to_owned();
    let ranking = tokio::task::spawn_blocking(move || {
        rank::temporal(&shards, &packed).map(|temporal| (packed, temporal))
    });
    let (packed, temporal) = ranking.await.context("find where to split")??;
    let manifest = Manifest {
        erasures_seen: source.erasures_seen,
        ..Manifest::new(packed, orphans, temporal, entry)
    };
    let folder = output.finish(manifest::NAME, &manifest)?;
    println!(
        "{} likes and {} skips of {} users, {} videos; {} rows name no video of the catalogue and were left out",
        manifest.likes, manifest.skips, manifest.users, manifest.videos, manifest.orphans
    );
    println!("prepare of {} completed successfully", folder.display());
    Ok(())
}

/// Sorts, packs and cuts off what is too old; returns what was written and the number of orphans.
async fn pack(
    engine: &Engine,
    source: &Source,
    catalogue: &Arc<Catalogue>,
    output: &Output,
    arguments: &Arguments,
) -> anyhow::Result<(Packed, u64)> {
    let mut reading = Vec::new();
    let mut merge = Merge::default();
    for rows in plan::sorted(&engine.context, source).await? {
        let stream = rows.execute_stream().await.context("start the sort")?;
        let (sender, receiver) = mpsc::channel(WAITING);
        reading.push(tokio::spawn(forward(stream, sender)));
        merge.add(receiver);
    }
    // The folder alone: whoever holds the output can give it up while this thread is in the middle of a file.
    let (catalogue, output) = (catalogue.clone(), output.folder().to_owned());
    let (shard_rows, max_age_days) = (arguments.shard_rows, arguments.max_age_days);
    let packing = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let folder = match max_age_days {
            None => output.clone(),
            Some(_) => age::folder(&output)?,
        };
        let shards = ShardWriter::new(&folder, shard_rows).at(now_us());
        let mut packer = Packer::new(&catalogue, shards);
        merge.rows(|row| packer.push(row))?;
        let (packed, orphans) = packer.finish()?;
        let packed = match max_age_days {
            None => packed,
            Some(days) => age::cut(&output, &packed, days, shard_rows)?,
        };
        Ok((packed, orphans))
    });
    // Whoever still packs must end before anybody begins again.
    let packed = packing.await.context("pack the rows")?;
    for reading in reading {
        // A stream that broke off without an error would look like one that ended.
        reading.await.context("read the sorted rows")?;
    }
    packed
}

/// Microseconds since 1970.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}

/// Hands the batches of a stream on, until it ends, fails or nobody takes them.
async fn forward(
    mut stream: SendableRecordBatchStream,
    sender: mpsc::Sender<Result<RecordBatch, DataFusionError>>,
) {
    while let Some(batch) = stream.next().await {
        let failed = batch.is_err();
        if sender.send(batch).await.is_err() || failed {
            break;
        }
    }
}
