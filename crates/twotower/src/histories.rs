//! Likes and skips of all users, and what of them is seen when.

mod events;

mod snapshot;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use twotower_core::interaction::Event;
use twotower_core::split::{HeldOut, HeldOutUser, Phase};
use twotower_core::timeline::{Timeline, Timelines};

pub(crate) use events::{Events, EventsWriter};

/// How many of a user's likes, and how many of the skips, are seen before validation, before test, and in all. What is seen is
/// always the earlier part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) likes: [u32; 3],
    pub(crate) skips: [u32; 3],
}

/// Where a user's likes and skips begin, and how many of them are seen: 40 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) likes: u64,
    pub(crate) skips: u64,
    pub(crate) counts: Counts,
}

/// All users, in the order in which a snapshot numbers them: by the first like, those without one after all others by the
/// first skip.
#[derive(Debug)]
pub(crate) struct Histories {
    pub(crate) records: Vec<Record>,
    pub(crate) events: Events,
    /// Time of the latest like seen before test, seconds since 1970.
    pub(crate) learned_until: Option<u32>,
}

impl Histories {
    /// What is seen before `phase`.
    pub(crate) fn timelines(self: &Arc<Self>, phase: Phase) -> Arc<dyn Timelines> {
        Arc::new(Seen {
            histories: self.clone(),
            part: part(phase),
        })
    }

    /// The users of whom a like is held out in `phase`; with `warm` only those of whom one is seen.
    pub(crate) fn held_out_users(&self, phase: Phase, warm: bool) -> Vec<usize> {
        let part = part(phase);
        (0..self.records.len())
            .filter(|&user| {
                let likes = self.records[user].counts.likes;
                likes[part + 1] > likes[part] && (!warm || likes[part] > 0)
            })
            .collect()
    }

    /// What is seen of `users` before `phase`, and what is to be found.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn held_out(&self, phase: Phase, users: &[usize]) -> io::Result<HeldOut> {
        let part = part(phase);
        let mut events = Vec::new();
        let mut items = |first: u64, range: Range<u32>| {
            events.clear();
            let first = first + u64::from(range.start);
            self.events.read(first, range.len(), &mut events)?;
            let items = events.iter().map(|event: &Event| event.item);
            io::Result::Ok(items.collect())
        };
        let mut of_user = |user: usize| {
            let Record {
                likes,
                skips,
                counts,
            } = self.records[user];
            Ok(HeldOutUser {
                user: user as u32,
                likes: items(likes, 0..counts.likes[part])?,
                skips: items(skips, 0..counts.skips[part])?,
                targets: items(likes, counts.likes[part]..counts.likes[part + 1])?,
            })
        };
        let users = users.iter().map(|&user| of_user(user));
        Ok(HeldOut {
            users: users.collect::<io::Result<_>>()?,
        })
    }
}

/// Index into [`Counts`].
fn part(phase: Phase) -> usize {
    match phase {
        Phase::Validation => 0,
        Phase::Test => 1,
    }
}

/// What is seen before a phase.
#[derive(Debug)]
struct Seen {
    histories: Arc<Histories>,
    part: usize,
}

impl Timelines for Seen {
    fn users(&self) -> usize {
        self.histories.records.len()
    }

    fn lengths(&self, user: usize) -> (usize, usize) {
        let Counts { likes, skips } = self.histories.records[user].counts;
        (likes[self.part] as usize, skips[self.part] as usize)
    }

    fn held(&self, user: usize) -> Option<Timeline<'_>> {
        let Histories {
            records, events, ..
        } = &*self.histories;
        let record = records.get(user)?;
        let (likes, skips) = self.lengths(user);
        Some(Timeline {
            likes: events.held(record.likes, likes)?,
            skips: events.held(record.skips, skips)?,
        })
    }

    fn read(&self, user: usize, events: &mut Vec<Event>) -> io::Result<()> {
        let record = self.histories.records[user];
        let (likes, skips) = self.lengths(user);
        let source = &self.histories.events;
        source.read(record.likes, likes, events)?;
        source.read(record.skips, skips, events)
    }

    fn bytes(&self) -> usize {
        self.histories.events.bytes() + size_of_val(&self.histories.records[..])
    }
}
