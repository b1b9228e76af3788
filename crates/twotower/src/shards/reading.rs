//! Reads shards into histories in one pass.

use super::cut::Cuts;
use super::manifest::Manifest;
use super::rows::{Row, check_counts, each_user};
use super::{Clock, Keep};
use crate::histories::{Histories, NumbersWriter, Record};
use crate::progress::Progress;
use anyhow::Context;
use std::path::Path;
use twotower_core::time::SECOND_US;
use twotower_core::timeline::Timeline;

/// Times of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// Time of the earliest like, seconds since 1970.
    pub(super) earliest_like: Option<u32>,
    /// Time of the latest like or skip that is not in the future, microseconds since 1970.
    pub(super) latest_come_us: Option<i64>,
}

/// Reads the rows of all shards.
pub(super) fn read(
    folder: &Path,
    manifest: &Manifest,
    cuts: &Cuts,
    clock: Clock,
    keep: Keep<'_>,
) -> anyhow::Result<(Histories, Times)> {
    check_counts(folder, manifest)?;
    let events = manifest.likes + manifest.skips;
    let mut writer = match keep {
        Keep::InMemory => NumbersWriter::in_memory(Timeline::numbers(
            manifest.likes as usize,
            manifest.skips as usize,
        )),
        Keep::InFolder(folder) => NumbersWriter::in_folder(folder)
            .with_context(|| format!("make a file in {}", folder.display()))?,
    };
    let mut progress = Progress::start("reading shards", events);
    let mut records = Vec::with_capacity(manifest.users as usize);
    // (has no like, time of the first row, rank of the id)
    let mut order: Vec<(bool, i64, u32)> = Vec::with_capacity(manifest.users as usize);
    let (mut times, mut seen_until) = (Times::default(), [None; 2]);
    let mut known = Vec::new();
    let (mut start, mut read) = (0, 0);
    each_user(folder, manifest, |rows| {
        let counts = cuts.of(rows);
        let second = |row: &Row| (row.at_us / SECOND_US) as u32;
        let likes_until = |second_of_skip: u32| {
            let until = |like: &Row| second(like) <= second_of_skip;
            rows.likes.partition_point(until) as u32
        };
        let videos = rows.likes.iter().chain(&rows.skips).map(|row| row.video);
        let likes_before = rows.skips.iter().map(|skip| likes_until(second(skip)));
        for number in videos.chain(likes_before) {
            writer.push(number).context("write likes and skips")?;
        }
        known.extend(clock.base_until.map(likes_until));
        let first = rows.likes.first().or(rows.skips.first());
        let at_us = first.map_or(0, |row| row.at_us);
        order.push((rows.likes.is_empty(), at_us, rows.user));
        let time = |row: Option<&Row>| row.map(second);
        times.earliest_like = earliest(times.earliest_like, time(rows.likes.first()));
        for kind in [&rows.likes, &rows.skips] {
            let come = kind.partition_point(|row| row.at_us <= clock.now_us);
            let latest = kind[..come].last().map(|row| row.at_us);
            times.latest_come_us = times.latest_come_us.max(latest);
        }
        for (until, seen) in seen_until.iter_mut().zip(counts.likes) {
            *until = (*until).max(time(rows.likes[..seen as usize].last()));
        }
        records.push(Record { start, counts });
        start += Timeline::numbers(rows.likes.len(), rows.skips.len()) as u64;
        read += (rows.likes.len() + rows.skips.len()) as u64;
        if rows.user % (1 << 12) == 0 {
            progress.set(read, "");
        }
        Ok(())
    })?;
    progress.finish(&format!("{events} likes and skips"));
    order.sort_unstable();
    let users = order.iter().map(|&(.., user)| user as usize);
    let histories = Histories {
        records: users.clone().map(|user| records[user]).collect(),
        known: users.filter_map(|user| known.get(user).copied()).collect(),
        numbers: writer.finish().context("write likes and skips")?,
        seen_until,
    };
    Ok((histories, times))
}

fn earliest(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    [a, b].into_iter().flatten().min()
}
