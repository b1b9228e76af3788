//! Shards read once, into histories.

use super::Keep;
use super::cut::Cuts;
use super::manifest::Manifest;
use super::rows::{Row, each_user};
use crate::histories::{EventsWriter, Histories, Record};
use crate::progress::Progress;
use anyhow::Context;
use std::path::Path;
use twotower_core::interaction::Event;

const SECOND_US: i64 = 1_000_000;

/// Reads the rows of all shards. With them comes the time of the earliest like, seconds since 1970.
pub(super) fn read(
    folder: &Path,
    manifest: &Manifest,
    cuts: &Cuts,
    keep: Keep<'_>,
) -> anyhow::Result<(Histories, Option<u32>)> {
    let events = manifest.likes + manifest.skips;
    let mut writer = match keep {
        Keep::InMemory => EventsWriter::in_memory(events as usize),
        Keep::InFolder(folder) => EventsWriter::in_folder(folder)
            .with_context(|| format!("make a file in {}", folder.display()))?,
    };
    let mut progress = Progress::start("reading shards", events);
    let mut records = Vec::with_capacity(manifest.users as usize);
    // (without a like, time of the first one, place among ids)
    let mut order: Vec<(bool, i64, u32)> = Vec::with_capacity(manifest.users as usize);
    let (mut earliest_like, mut learned_until) = (None, None);
    let mut start = 0;
    each_user(folder, manifest, |rows| {
        let counts = cuts.of(rows);
        let event = |row: &Row| Event {
            item: row.video,
            at: (row.at_us / SECOND_US) as u32,
        };
        for row in rows.likes.iter().chain(&rows.skips) {
            writer.push(event(row)).context("write likes and skips")?;
        }
        let first = rows.likes.first().or(rows.skips.first());
        let at_us = first.map_or(0, |row| row.at_us);
        order.push((rows.likes.is_empty(), at_us, rows.user));
        let time = |row: Option<&Row>| row.map(|row| event(row).at);
        earliest_like = earliest(earliest_like, time(rows.likes.first()));
        let learned = &rows.likes[..counts.likes[1] as usize];
        learned_until = learned_until.max(time(learned.last()));
        let skips = start + rows.likes.len() as u64;
        records.push(Record {
            likes: start,
            skips,
            counts,
        });
        start = skips + rows.skips.len() as u64;
        if rows.user % (1 << 12) == 0 {
            progress.set(start, "");
        }
        Ok(())
    })?;
    progress.finish(&format!("{events} likes and skips"));
    order.sort_unstable();
    let histories = Histories {
        records: order
            .iter()
            .map(|&(.., user)| records[user as usize])
            .collect(),
        events: writer.finish().context("write likes and skips")?,
        learned_until,
    };
    Ok((histories, earliest_like))
}

fn earliest(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    [a, b].into_iter().flatten().min()
}
