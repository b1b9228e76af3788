//! What is too old: known only once the latest row is, so that the shards are written a second time.

use super::shard::{self, Packed, ShardWriter};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};

const DAY_US: i64 = 86_400_000_000;

/// Where the shards stand until then.
const NAME: &str = ".of-any-age";

/// Creates the folder for shards of any age.
pub(super) fn folder(output: &Path) -> anyhow::Result<PathBuf> {
    let folder = output.join(NAME);
    fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Writes those rows again that are at most `days` older than the latest that has come, users being numbered anew: one that is
/// dated in the future makes nothing old.
pub(super) fn cut(
    output: &Path,
    all: &Packed,
    days: u32,
    shard_rows: u64,
) -> anyhow::Result<Packed> {
    let from = output.join(NAME);
    let oldest = all
        .come_us
        .map_or(i64::MIN, |come| come - i64::from(days) * DAY_US);
    let mut shards = ShardWriter::new(output, shard_rows);
    let mut current = None;
    let mut users = 0;
    shard::read(&from, &all.files, |row| {
        if row.at_us < oldest {
            return Ok(());
        }
        if current != Some(row.user) {
            current = Some(row.user);
            users += 1;
        }
        shards.push(shard::Row {
            user: users - 1,
            ..row
        })
    })?;
    fs::remove_dir_all(&from).with_context(|| format!("remove {}", from.display()))?;
    shards.finish()
}
