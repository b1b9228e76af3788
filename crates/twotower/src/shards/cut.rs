//! Splits the rows of a user into what is seen before validation and before test.

use super::manifest::{Key, Temporal};
use super::rows::UserRows;
use crate::histories::Counts;
use twotower_core::split::SplitKind;
use twotower_core::time::SECOND_US;

/// The split of [`twotower_core::split::Split`], applied to one user's rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cuts {
    /// Temporal split: the first like of validation and of test.
    Temporal([Option<Key>; 2]),
    /// Leave-last-out.
    Llo,
}

impl Cuts {
    pub(super) fn new(split: SplitKind, temporal: &Temporal) -> Self {
        match split {
            SplitKind::Temporal => Self::Temporal([temporal.validation, temporal.test]),
            SplitKind::Llo => Self::Llo,
        }
    }

    pub(super) fn of(&self, rows: &UserRows) -> Counts {
        let (likes, skips) = (rows.likes.len(), rows.skips.len());
        let skips_before = |at_us: i64| {
            // By seconds, like all of training: a skip in the same second belongs to the future.
            let second = at_us.div_euclid(SECOND_US);
            rows.skips
                .partition_point(|skip| skip.at_us.div_euclid(SECOND_US) < second)
        };
        let (likes_seen, skips_seen) = match *self {
            Self::Temporal(cuts) => (
                cuts.map(|cut| {
                    cut.map_or(likes, |cut| {
                        let key = |like: &super::rows::Row| (like.at_us, rows.user, like.video);
                        rows.likes.partition_point(|like| key(like) < cut)
                    })
                }),
                cuts.map(|cut| cut.map_or(skips, |(at_us, ..)| skips_before(at_us))),
            ),
            Self::Llo if likes >= 3 => (
                [likes - 2, likes - 1],
                [2, 1].map(|back| skips_before(rows.likes[likes - back].at_us)),
            ),
            Self::Llo => ([likes; 2], [skips; 2]),
        };
        let with_all =
            |[validation, test]: [usize; 2], all: usize| [validation, test, all].map(|n| n as u32);
        Counts {
            likes: with_all(likes_seen, likes),
            skips: with_all(skips_seen, skips),
        }
    }
}
