//! Likes and skips of all users, and what of them is seen when.

use super::Keep;
use super::cut::{self, Cuts};
use super::events::{Events, EventsWriter};
use super::manifest::Manifest;
use super::rows::{Row, each_user};
use crate::progress::Progress;
use anyhow::Context;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use twotower_core::interaction::Event;
use twotower_core::split::Phase;
use twotower_core::timeline::{Timeline, Timelines};

const SECOND_US: i64 = 1_000_000;

/// Where a user's events begin, likes first, and how many of them are seen: 32 bytes.
#[derive(Debug, Clone, Copy)]
struct Record {
    start: u64,
    seen: cut::Seen,
}

/// All users, in the order in which a snapshot numbers them: by the first like, those without one after all others by the
/// first skip.
#[derive(Debug)]
pub(super) struct Histories {
    records: Vec<Record>,
    events: Events,
    /// Seconds since 1970.
    pub(super) earliest_like: Option<u32>,
    /// Time of the latest like seen before test, seconds since 1970.
    pub(super) learned_until: Option<u32>,
}

impl Histories {
    /// Reads the rows of all shards once.
    pub(super) fn read(
        folder: &Path,
        manifest: &Manifest,
        cuts: &Cuts,
        keep: Keep<'_>,
    ) -> anyhow::Result<Self> {
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
            let seen = cuts.of(rows);
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
            let learned = &rows.likes[..seen.likes[1] as usize];
            learned_until = learned_until.max(time(learned.last()));
            records.push(Record { start, seen });
            start += (rows.likes.len() + rows.skips.len()) as u64;
            if rows.user % (1 << 12) == 0 {
                progress.set(start, "");
            }
            Ok(())
        })?;
        progress.finish(&format!("{events} likes and skips"));
        order.sort_unstable();
        Ok(Self {
            records: order
                .iter()
                .map(|&(.., user)| records[user as usize])
                .collect(),
            events: writer.finish().context("write likes and skips")?,
            earliest_like,
            learned_until,
        })
    }
}

fn earliest(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    [a, b].into_iter().flatten().min()
}

/// What is seen before a phase.
#[derive(Debug)]
pub(super) struct Seen {
    histories: Arc<Histories>,
    /// Index into the counts of a [`cut::Seen`].
    phase: usize,
}

/// Places of a user's parts among events that were read.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) likes: Range<usize>,
    pub(super) skips: Range<usize>,
    /// Likes held out in the phase.
    pub(super) targets: Range<usize>,
}

impl Seen {
    pub(super) fn new(histories: Arc<Histories>, phase: Phase) -> Self {
        let phase = match phase {
            Phase::Validation => 0,
            Phase::Test => 1,
        };
        Self { histories, phase }
    }

    /// Number of likes of `user` that are held out in the phase.
    pub(super) fn held_out(&self, user: usize) -> usize {
        let likes = self.histories.records[user].seen.likes;
        (likes[self.phase + 1] - likes[self.phase]) as usize
    }

    /// Appends everything that `user` did.
    pub(super) fn read_held_out(&self, user: usize, events: &mut Vec<Event>) -> io::Result<Parts> {
        let Record { start, seen } = self.histories.records[user];
        let [likes, skips] = [seen.likes, seen.skips].map(|counts| counts.map(|n| n as usize));
        let first = events.len();
        self.histories
            .events
            .read(start, likes[2] + skips[2], events)?;
        let all_likes = first + likes[2];
        Ok(Parts {
            likes: first..first + likes[self.phase],
            skips: all_likes..all_likes + skips[self.phase],
            targets: first + likes[self.phase]..first + likes[self.phase + 1],
        })
    }
}

impl Timelines for Seen {
    fn users(&self) -> usize {
        self.histories.records.len()
    }

    fn lengths(&self, user: usize) -> (usize, usize) {
        let seen = self.histories.records[user].seen;
        (
            seen.likes[self.phase] as usize,
            seen.skips[self.phase] as usize,
        )
    }

    fn held(&self, user: usize) -> Option<Timeline<'_>> {
        let Histories {
            records, events, ..
        } = &*self.histories;
        let Record { start, seen } = *records.get(user)?;
        let (likes, skips) = self.lengths(user);
        Some(Timeline {
            likes: events.held(start, likes)?,
            skips: events.held(start + u64::from(seen.likes[2]), skips)?,
        })
    }

    fn read(&self, user: usize, events: &mut Vec<Event>) -> io::Result<()> {
        let Record { start, seen } = self.histories.records[user];
        let (likes, skips) = self.lengths(user);
        let source = &self.histories.events;
        source.read(start, likes, events)?;
        source.read(start + u64::from(seen.likes[2]), skips, events)
    }

    fn bytes(&self) -> usize {
        self.histories.events.bytes() + size_of_val(&self.histories.records[..])
    }
}
