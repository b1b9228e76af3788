//! Likes and skips, as compact rows of indices.

use crate::feature::Catalogue;

/// One like or one skip: 12 bytes.
///
/// `user` and `item` are positions, not identifiers: `item` is the video's position in the [`Catalogue`]
/// (ascending video id), `user` a number given for this snapshot only. `at` is seconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interaction {
    /// Number of the user within this snapshot.
    pub user: u32,
    /// Position of the video in the catalogue.
    pub item: u32,
    /// Seconds since 1970-01-01 UTC.
    pub at: u32,
}

/// One consistent snapshot of what a recommender learns from.
///
/// Likes and skips stand in the order (time, user id, video id), to the full resolution of the source; within a second
/// the order of the rows is what is left of it, so it is never sorted again by `at` alone with an unstable sort.
/// A pair (user, item) occurs at most once among the likes and at most once among the skips.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    /// All videos, also those nobody has touched.
    pub catalogue: Catalogue,
    /// Number of users; every `user` below it.
    pub users: usize,
    /// Likes in the order (time, user id, video id).
    pub likes: Vec<Interaction>,
    /// Skips in the order (time, user id, video id).
    pub skips: Vec<Interaction>,
}

/// What a user did, oldest first, as positions in the catalogue.
#[derive(Debug, Clone, Copy, Default)]
pub struct History<'a> {
    /// Liked videos, oldest first.
    pub likes: &'a [u32],
    /// Skipped videos, oldest first.
    pub skips: &'a [u32],
}

/// One event of a user's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Position of the video in the catalogue.
    pub item: u32,
    /// Seconds since 1970-01-01 UTC.
    pub at: u32,
}

/// Interactions grouped by user, each user's in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Sequences {
    offsets: Vec<usize>,
    events: Vec<Event>,
}

/// Passes in which rows give way to the sequences that are made of them.
const PASSES: usize = 8;

/// Where each user's events begin, and at last where those of all users end.
fn offsets(users: usize, interactions: &[Interaction]) -> Vec<usize> {
    let mut offsets = vec![0; users + 1];
    for interaction in interactions {
        offsets[interaction.user as usize + 1] += 1;
    }
    for user in 0..users {
        offsets[user + 1] += offsets[user];
    }
    offsets
}

impl Sequences {
    /// Groups `interactions` by user with a counting sort, which keeps the order within a user.
    ///
    /// # Panics
    /// If an interaction names a user outside `0..users`.
    pub fn new(users: usize, interactions: &[Interaction]) -> Self {
        let offsets = offsets(users, interactions);
        let mut next = offsets.clone();
        let mut events = vec![Event { item: 0, at: 0 }; interactions.len()];
        for interaction in interactions {
            let slot = &mut next[interaction.user as usize];
            events[*slot] = Event {
                item: interaction.item,
                at: interaction.at,
            };
            *slot += 1;
        }
        Self { offsets, events }
    }

    /// The same, out of rows that are not needed any more: their memory is given back while that of the sequences fills, so that both
    /// together take 13 bytes a row at most instead of 20.
    ///
    /// # Panics
    /// If an interaction names a user outside `0..users`.
    pub fn taking(users: usize, mut interactions: Vec<Interaction>) -> Self {
        let offsets = offsets(users, &interactions);
        let mut next = offsets.clone();
        // Memory that was reserved is none that is used before it is written.
        let mut events = Vec::with_capacity(interactions.len());
        let mut first = 0;
        for pass in 1..=PASSES {
            // The users of about as many events in each pass.
            let share = offsets[users] * pass / PASSES;
            let end = offsets.partition_point(|&offset| offset <= share) - 1;
            events.resize(offsets[end], Event { item: 0, at: 0 });
            interactions.retain(|interaction| {
                let user = interaction.user as usize;
                let is_now = (first..end).contains(&user);
                if is_now {
                    events[next[user]] = Event {
                        item: interaction.item,
                        at: interaction.at,
                    };
                    next[user] += 1;
                }
                !is_now
            });
            interactions.shrink_to_fit();
            first = end;
        }
        Self { offsets, events }
    }

    /// Where each user's events begin and at last where those of all users end, and the events of one user after the other.
    pub fn into_parts(self) -> (Vec<usize>, Vec<Event>) {
        (self.offsets, self.events)
    }

    /// Number of users, those without an event included.
    pub fn users(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Number of events of all users.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event at all.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events of one user, oldest first.
    pub fn of(&self, user: usize) -> &[Event] {
        &self.events[self.offsets[user]..self.offsets[user + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn sequences_keep_the_order_within_a_user() {
        let rows = [(1, 5, 10), (0, 3, 10), (1, 4, 11), (1, 9, 11)];
        let rows = rows.map(|(user, item, at)| Interaction { user, item, at });
        let sequences = Sequences::new(3, &rows);
        assert_eq!(sequences.users(), 3);
        assert_eq!(
            sequences.of(1).iter().map(|e| e.item).collect::<Vec<_>>(),
            [5, 4, 9]
        );
        assert_eq!(sequences.of(0).len(), 1);
        assert!(sequences.of(2).is_empty());
    }

    proptest! {
        #[test]
        fn rows_that_are_taken_make_the_same_sequences(
            rows in vec((0u32..40, any::<u32>(), any::<u32>()), 0..200), users in 40usize..60,
        ) {
            let rows: Vec<Interaction> = rows
                .into_iter()
                .map(|(user, item, at)| Interaction { user, item, at })
                .collect();
            let expected = Sequences::new(users, &rows).into_parts();
            prop_assert_eq!(Sequences::taking(users, rows).into_parts(), expected);
        }
    }
}
