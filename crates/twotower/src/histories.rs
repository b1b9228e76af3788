//! Likes and skips of all users, and what of them is seen when.

mod numbers;

mod snapshot;

use std::io;
use std::sync::Arc;
use twotower_core::split::{HeldOut, HeldOutUser, Phase};
use twotower_core::timeline::{Timeline, Timelines};

pub(crate) use numbers::{Numbers, NumbersWriter};

/// How many of a user's likes, and how many of the skips, are seen before validation, before test, and in all. What is seen is
/// always the earlier part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) likes: [u32; 3],
    pub(crate) skips: [u32; 3],
}

impl Counts {
    /// Likes and skips seen before `part`; part 2 is after all.
    fn seen(self, part: usize) -> (usize, usize) {
        (self.likes[part] as usize, self.skips[part] as usize)
    }
}

/// Where a user's numbers begin, and how many likes and skips are seen: 32 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) start: u64,
    pub(crate) counts: Counts,
}

impl Record {
    /// How many numbers the user has.
    fn len(self) -> usize {
        let (likes, skips) = self.counts.seen(ALL);
        Timeline::numbers(likes, skips)
    }

    /// What of all numbers of the user is seen before `part`.
    fn seen(self, numbers: &[u32], part: usize) -> Timeline<'_> {
        let (likes, skips) = self.counts.seen(ALL);
        let all = Timeline::of_numbers(numbers, likes, skips);
        let (likes, skips) = self.counts.seen(part);
        Timeline {
            likes: &all.likes[..likes],
            skips: &all.skips[..skips],
            likes_before: &all.likes_before[..skips],
        }
    }
}

/// All users, in the order in which a snapshot numbers them: by the first like, those without one after all others by the
/// first skip.
#[derive(Debug)]
pub(crate) struct Histories {
    pub(crate) records: Vec<Record>,
    /// All numbers of each user's timeline, as [`Timeline::of_numbers`] takes them.
    pub(crate) numbers: Numbers,
    /// Time of the latest like seen before validation and before test, seconds since 1970.
    pub(crate) seen_until: [Option<u32>; 2],
    /// How many of each user's likes the model has seen that is gone on from, to learn or to hold out; without one, none of anybody.
    pub(crate) known: Vec<u32>,
}

impl Histories {
    /// What is seen before `phase`.
    pub(crate) fn timelines(self: &Arc<Self>, phase: Phase) -> Arc<dyn Timelines> {
        Arc::new(Seen {
            histories: self.clone(),
            part: part(phase),
        })
    }

    /// Time of the latest like that is seen before `phase`, seconds since 1970.
    pub(crate) fn seen_until(&self, phase: Phase) -> Option<u32> {
        self.seen_until[part(phase)]
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
        let of_user = |user: usize| {
            let record = self.records[user];
            let numbers = self.numbers.read(record.start, record.len())?;
            let (seen, later) = (record.seen(&numbers, part), record.seen(&numbers, part + 1));
            io::Result::Ok(HeldOutUser {
                user: user as u32,
                likes: seen.likes.to_vec(),
                skips: seen.skips.to_vec(),
                targets: later.likes[seen.likes.len()..].to_vec(),
            })
        };
        let users = users.iter().map(|&user| of_user(user));
        Ok(HeldOut {
            users: users.collect::<io::Result<_>>()?,
        })
    }
}

/// Index of all likes and skips into [`Counts`].
const ALL: usize = 2;

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
        self.histories.records[user].counts.seen(self.part)
    }

    fn held(&self, user: usize) -> Option<Timeline<'_>> {
        let record = self.histories.records.get(user)?;
        let numbers = self.histories.numbers.held(record.start, record.len())?;
        Some(record.seen(numbers, self.part))
    }

    fn read(&self, user: usize, numbers: &mut Vec<u32>) -> io::Result<()> {
        let record = self.histories.records[user];
        let own = self.histories.numbers.read(record.start, record.len())?;
        let seen = record.seen(&own, self.part);
        for part in [seen.likes, seen.skips, seen.likes_before] {
            numbers.extend_from_slice(part);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.histories.numbers.bytes() + size_of_val(&self.histories.records[..])
    }
}
