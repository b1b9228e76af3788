//! Likes and skips, as compact rows of indices.

use crate::feature::Catalogue;

/// One like or one skip: 12 bytes.
///
/// `user` and `item` are positions, not identifiers: `item` is the video's position in the
/// [`Catalogue`] (ascending video id), `user` a number given for this snapshot only. `at` is
/// seconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interaction {
    /// Number of the user within this snapshot.
    pub user: u32,
    /// Position of the video in the catalogue.
    pub item: u32,
    /// Seconds since 1970-01-01 UTC.
    pub at: u32,
}

/// One consistent snapshot of the data that recommenders learn from.
///
/// Likes and skips are in the order (time, user id, video id), at the full resolution of the
/// source. Within a second only the order of the rows preserves it, so that they are never sorted
/// by `at` with an unstable sort. A pair (user, item) occurs at most once among the likes and at
/// most once among the skips.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    /// All videos, including those without a like or skip.
    pub catalogue: Catalogue,
    /// Number of users; every `user` is below it.
    pub users: usize,
    /// Likes in the order (time, user id, video id).
    pub likes: Vec<Interaction>,
    /// Skips in the order (time, user id, video id).
    pub skips: Vec<Interaction>,
}

/// A user's history as positions in the catalogue.
#[derive(Debug, Clone, Copy, Default)]
pub struct History<'a> {
    /// Liked videos, oldest first.
    pub likes: &'a [u32],
    /// Skipped videos, oldest first.
    pub skips: &'a [u32],
}

/// Videos grouped by user, those of a user in the order of the rows.
#[derive(Debug, Clone, Default)]
pub struct Sequences {
    offsets: Vec<usize>,
    items: Vec<u32>,
}

impl Sequences {
    /// Groups `interactions` by user with a counting sort, which keeps the order within a user.
    ///
    /// # Panics
    /// If an interaction names a user outside `0..users`.
    pub fn new(users: usize, interactions: &[Interaction]) -> Self {
        let mut offsets = vec![0; users + 1];
        for interaction in interactions {
            offsets[interaction.user as usize + 1] += 1;
        }
        for user in 0..users {
            offsets[user + 1] += offsets[user];
        }
        let mut next = offsets.clone();
        let mut items = vec![0; interactions.len()];
        for interaction in interactions {
            let slot = &mut next[interaction.user as usize];
            items[*slot] = interaction.item;
            *slot += 1;
        }
        Self { offsets, items }
    }

    /// Number of users, including those without a row.
    pub fn users(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The videos of one user, oldest first.
    pub fn of(&self, user: usize) -> &[u32] {
        &self.items[self.offsets[user]..self.offsets[user + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_keep_the_order_within_a_user() {
        let rows = [(1, 5, 10), (0, 3, 10), (1, 4, 11), (1, 9, 11)];
        let rows = rows.map(|(user, item, at)| Interaction { user, item, at });
        let sequences = Sequences::new(3, &rows);
        assert_eq!(sequences.users(), 3);
        assert_eq!(sequences.of(1), [5, 4, 9]);
        assert_eq!(sequences.of(0), [3]);
        assert!(sequences.of(2).is_empty());
    }
}
