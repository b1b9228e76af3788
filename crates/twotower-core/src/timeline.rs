//! What each user did, in the order of time: in memory, or kept elsewhere and read when it is needed.

use crate::interaction::{Event, Interaction, Sequences};
use std::fmt::Debug;
use std::io;

/// One user's likes and skips, each oldest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline<'a> {
    /// Likes.
    pub likes: &'a [Event],
    /// Skips.
    pub skips: &'a [Event],
}

/// Likes and skips of all users. What is learned from them does not depend on where they are kept.
pub trait Timelines: Debug + Send + Sync {
    /// Number of users, those without an event included.
    fn users(&self) -> usize;

    /// Number of likes and number of skips of `user`.
    fn lengths(&self, user: usize) -> (usize, usize);

    /// The timeline of `user`, if timelines are in memory. Either all are or none.
    fn held(&self, user: usize) -> Option<Timeline<'_>>;

    /// Appends the likes of `user`, then the skips.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&self, user: usize, events: &mut Vec<Event>) -> io::Result<()>;

    /// Bytes of memory that are held for as long as the timelines are.
    fn bytes(&self) -> usize;
}

/// Calls `visit` with every user in ascending order.
///
/// # Errors
/// If a timeline cannot be read.
pub fn for_each(
    timelines: &dyn Timelines,
    mut visit: impl FnMut(usize, Timeline<'_>),
) -> io::Result<()> {
    let mut events = Vec::new();
    for user in 0..timelines.users() {
        if let Some(timeline) = timelines.held(user) {
            visit(user, timeline);
            continue;
        }
        events.clear();
        timelines.read(user, &mut events)?;
        let (likes, skips) = events.split_at(timelines.lengths(user).0);
        visit(user, Timeline { likes, skips });
    }
    Ok(())
}

/// Timelines in memory: 8 bytes an event and 16 a user.
#[derive(Debug, Clone, Default)]
pub struct HeldTimelines {
    likes: Sequences,
    skips: Sequences,
}

impl HeldTimelines {
    /// Groups likes and skips, in the order of a [`crate::interaction::Dataset`], by user.
    ///
    /// # Panics
    /// If an interaction names a user outside `0..users`.
    pub fn new(users: usize, likes: &[Interaction], skips: &[Interaction]) -> Self {
        Self::of_sequences(Sequences::new(users, likes), Sequences::new(users, skips))
    }

    /// Of likes and skips that are grouped already, of as many users.
    ///
    /// # Panics
    /// If they are not of as many users.
    pub fn of_sequences(likes: Sequences, skips: Sequences) -> Self {
        assert_eq!(
            likes.users(),
            skips.users(),
            "likes and skips are of the same users"
        );
        Self { likes, skips }
    }

    /// The timeline of `user`.
    pub fn of(&self, user: usize) -> Timeline<'_> {
        Timeline {
            likes: self.likes.of(user),
            skips: self.skips.of(user),
        }
    }
}

impl Timelines for HeldTimelines {
    fn users(&self) -> usize {
        self.likes.users()
    }

    fn lengths(&self, user: usize) -> (usize, usize) {
        (self.likes.of(user).len(), self.skips.of(user).len())
    }

    fn held(&self, user: usize) -> Option<Timeline<'_>> {
        Some(self.of(user))
    }

    fn read(&self, user: usize, events: &mut Vec<Event>) -> io::Result<()> {
        events.extend_from_slice(self.likes.of(user));
        events.extend_from_slice(self.skips.of(user));
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of::<Event>() * (self.likes.len() + self.skips.len())
            + 2 * size_of::<usize>() * self.users()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_read_is_the_one_held() {
        let rows = |rows: &[(u32, u32, u32)]| -> Vec<Interaction> {
            let row = |&(user, item, at): &(u32, u32, u32)| Interaction { user, item, at };
            rows.iter().map(row).collect()
        };
        let likes = rows(&[(0, 1, 10), (2, 4, 11), (0, 2, 12)]);
        let timelines = HeldTimelines::new(3, &likes, &rows(&[(2, 5, 9)]));
        let mut users = 0;
        for_each(&timelines, |user, timeline| {
            users += 1;
            let mut events = Vec::new();
            timelines.read(user, &mut events).unwrap();
            assert_eq!(events, [timeline.likes, timeline.skips].concat());
            assert_eq!(
                timelines.lengths(user),
                (timeline.likes.len(), timeline.skips.len())
            );
        })
        .unwrap();
        assert_eq!((users, timelines.bytes()), (3, 8 * 4 + 16 * 3));
    }
}
