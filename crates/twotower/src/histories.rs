//! Likes and skips of all users, and which of them are seen in each phase.

mod numbers;

mod snapshot;

use std::io;
use std::sync::Arc;
use twotower_core::split::{HeldOut, HeldOutUser, Phase};
use twotower_core::timeline::{Timeline, Timelines};

pub(crate) use numbers::{Numbers, NumbersWriter};

/// Number of a user's likes and skips that are seen before validation, before test, and in all.
/// What is seen is always a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) likes: [u32; 3],
    pub(crate) skips: [u32; 3],
}

impl Counts {
    /// Likes and skips seen before `part`; part 2 means all.
    fn seen(self, part: usize) -> (usize, usize) {
        (self.likes[part] as usize, self.skips[part] as usize)
    }
}

/// Where a user's numbers begin, and how many likes and skips are seen; 32 bytes.
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

    /// The part of the user's numbers that is seen before `part`.
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

/// All users, numbered as in a snapshot: by the first like; those without one after all others, by
/// the first skip.
#[derive(Debug)]
pub(crate) struct Histories {
    pub(crate) records: Vec<Record>,
    /// The numbers of each user's timeline, in the layout of [`Timeline::of_numbers`].
    pub(crate) numbers: Numbers,
    /// Time of the latest like seen before validation and before test, seconds since 1970.
    pub(crate) seen_until: [Option<u32>; 2],
    /// For each user, the number of likes that the base model has seen, for training or held out; 0
    /// for all without a base model.
    pub(crate) known: Vec<u32>,
}

impl Histories {
    /// The timelines seen before `phase`.
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

    /// Users with a like held out in `phase`; with `warm` only those who also have a seen like.
    pub(crate) fn held_out_users(&self, phase: Phase, warm: bool) -> Vec<usize> {
        let part = part(phase);
        (0..self.records.len())
            .filter(|&user| {
                let likes = self.records[user].counts.likes;
                likes[part + 1] > likes[part] && (!warm || likes[part] > 0)
            })
            .collect()
    }

    /// What is seen of `users` before `phase`, and their held-out likes.
    ///
    /// # Errors
    /// If the numbers cannot be read.
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

/// Index into [`Counts`] for all likes and skips.
const ALL: usize = 2;

/// Index into [`Counts`] for a phase.
fn part(phase: Phase) -> usize {
    match phase {
        Phase::Validation => 0,
        Phase::Test => 1,
    }
}

/// The timelines seen before a phase.
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
