//! Each user's likes and skips in the order of time: in memory, or elsewhere and read when needed.

use crate::interaction::Interaction;
use std::fmt::Debug;
use std::io;

/// Passes that move the rows to timelines and free their memory.
const PASSES: usize = 8;

/// One user's likes and skips, each oldest first, and their relative order. Times are not kept,
/// because training uses only the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline<'a> {
    /// Liked videos, as positions in the catalogue.
    pub likes: &'a [u32],
    /// Skipped videos.
    pub skips: &'a [u32],
    /// For each skip the number of likes before it, including those of the same second.
    pub likes_before: &'a [u32],
}

impl<'a> Timeline<'a> {
    /// A timeline from its numbers: `likes` liked videos, `skips` skipped videos, then for each
    /// skip the number of likes before it.
    ///
    /// # Panics
    /// If there are more or fewer numbers.
    pub fn of_numbers(numbers: &'a [u32], likes: usize, skips: usize) -> Self {
        assert_eq!(numbers.len(), Self::numbers(likes, skips));
        let (likes, rest) = numbers.split_at(likes);
        let (skips, likes_before) = rest.split_at(skips);
        Self {
            likes,
            skips,
            likes_before,
        }
    }

    /// How many numbers a timeline of `likes` likes and `skips` skips has.
    pub fn numbers(likes: usize, skips: usize) -> usize {
        likes + 2 * skips
    }

    /// The user's liked videos, then the skipped ones.
    pub fn items(self) -> impl Iterator<Item = u32> + 'a {
        self.likes.iter().chain(self.skips).copied()
    }

    /// Number of skips at least a second before like `like`.
    pub fn skips_before(self, like: usize) -> usize {
        self.likes_before
            .partition_point(|&likes| likes as usize <= like)
    }
}

/// Likes and skips of all users. Training gives the same model wherever they are kept.
pub trait Timelines: Debug + Send + Sync {
    /// Number of users, including those without a like or skip.
    fn users(&self) -> usize;

    /// Number of likes and number of skips of `user`.
    fn lengths(&self, user: usize) -> (usize, usize);

    /// The timeline of `user` if timelines are in memory. Either all are or none.
    fn held(&self, user: usize) -> Option<Timeline<'_>>;

    /// Appends the numbers of `user`, in the order of [`Timeline::of_numbers`].
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&self, user: usize, numbers: &mut Vec<u32>) -> io::Result<()>;

    /// Bytes of memory that the timelines hold.
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
    let mut numbers = Vec::new();
    for user in 0..timelines.users() {
        visit(user, held_or_read(timelines, user, &mut numbers)?);
    }
    Ok(())
}

/// The timeline of `user`, read into `numbers` unless it is in memory.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn held_or_read<'t>(
    timelines: &'t dyn Timelines,
    user: usize,
    numbers: &'t mut Vec<u32>,
) -> io::Result<Timeline<'t>> {
    if let Some(timeline) = timelines.held(user) {
        return Ok(timeline);
    }
    numbers.clear();
    timelines.read(user, numbers)?;
    let (likes, skips) = timelines.lengths(user);
    Ok(Timeline::of_numbers(numbers, likes, skips))
}

/// Timelines in memory: 4 bytes per like, 8 per skip and 12 per user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldTimelines {
    /// Start of each user's numbers, and the end of all.
    pub starts: Vec<usize>,
    /// Number of likes of each user.
    pub likes: Vec<u32>,
    /// Numbers of [`Timeline::of_numbers`], user by user.
    pub numbers: Vec<u32>,
}

impl HeldTimelines {
    /// Groups likes and skips, in the order of a [`crate::interaction::Dataset`], by user. Frees
    /// the memory of the rows as that of the timelines grows, so that both together take hardly
    /// more than the rows.
    ///
    /// # Panics
    /// If an interaction names a user outside `0..users`, or if there are skips and the likes are
    /// not in the order of time.
    pub fn new(
        users: usize,
        likes: impl Into<Vec<Interaction>>,
        skips: impl Into<Vec<Interaction>>,
    ) -> Self {
        let (mut likes, mut skips) = (likes.into(), skips.into());
        let (like_counts, skip_counts) = order(users, &likes, &mut skips);
        let mut starts = Vec::with_capacity(users + 1);
        let mut total = 0;
        starts.push(total);
        for (&likes, &skips) in like_counts.iter().zip(&skip_counts) {
            total += Timeline::numbers(likes as usize, skips as usize);
            starts.push(total);
        }
        // Reserved memory is not used before it is written.
        let mut numbers = Vec::with_capacity(total);
        let mut next_like = starts.clone();
        let mut next_skip: Vec<usize> = (starts.iter().zip(&like_counts))
            .map(|(start, &likes)| start + likes as usize)
            .collect();
        let mut first = 0;
        for pass in 1..=PASSES {
            // Each pass takes the users of about an equal share of the numbers.
            let share = total * pass / PASSES;
            let end = starts.partition_point(|&start| start <= share) - 1;
            numbers.resize(starts[end], 0);
            let mut take =
                |rows: &mut Vec<Interaction>, put: &mut dyn FnMut(&Interaction, &mut [u32])| {
                    rows.retain(|row| {
                        let is_now = (first..end).contains(&(row.user as usize));
                        if is_now {
                            put(row, &mut numbers);
                        }
                        !is_now
                    });
                    rows.shrink_to_fit();
                };
            take(&mut likes, &mut |like, numbers| {
                let place = &mut next_like[like.user as usize];
                numbers[*place] = like.item;
                *place += 1;
            });
            take(&mut skips, &mut |skip, numbers| {
                let user = skip.user as usize;
                let place = &mut next_skip[user];
                numbers[*place] = skip.item;
                numbers[*place + skip_counts[user] as usize] = skip.at;
                *place += 1;
            });
            first = end;
        }
        Self {
            starts,
            likes: like_counts,
            numbers,
        }
    }

    /// The timeline of `user`.
    pub fn of(&self, user: usize) -> Timeline<'_> {
        let (likes, skips) = self.lengths(user);
        let numbers = &self.numbers[self.starts[user]..self.starts[user + 1]];
        Timeline::of_numbers(numbers, likes, skips)
    }
}

/// Numbers of likes and skips of each user. Replaces the time of each skip by the number of likes
/// of its user before it.
fn order(users: usize, likes: &[Interaction], skips: &mut [Interaction]) -> (Vec<u32>, Vec<u32>) {
    let (mut like_counts, mut skip_counts) = (vec![0; users], vec![0; users]);
    assert!(
        skips.is_empty() || likes.is_sorted_by_key(|like| like.at),
        "likes are in the order of time"
    );
    let mut likes = likes.iter().peekable();
    for skip in skips {
        while let Some(like) = likes.next_if(|like| like.at <= skip.at) {
            like_counts[like.user as usize] += 1;
        }
        skip.at = like_counts[skip.user as usize];
        skip_counts[skip.user as usize] += 1;
    }
    for like in likes {
        like_counts[like.user as usize] += 1;
    }
    (like_counts, skip_counts)
}

impl Timelines for HeldTimelines {
    fn users(&self) -> usize {
        self.likes.len()
    }

    fn lengths(&self, user: usize) -> (usize, usize) {
        let likes = self.likes[user] as usize;
        (
            likes,
            (self.starts[user + 1] - self.starts[user] - likes) / 2,
        )
    }

    fn held(&self, user: usize) -> Option<Timeline<'_>> {
        Some(self.of(user))
    }

    fn read(&self, user: usize, numbers: &mut Vec<u32>) -> io::Result<()> {
        numbers.extend_from_slice(&self.numbers[self.starts[user]..self.starts[user + 1]]);
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.numbers[..])
            + size_of_val(&self.likes[..])
            + size_of_val(&self.starts[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn rows(rows: &[(u32, u32, u32)]) -> Vec<Interaction> {
        let row = |&(user, item, at): &(u32, u32, u32)| Interaction { user, item, at };
        rows.iter().map(row).collect()
    }

    #[test]
    fn a_timeline_read_is_the_one_held() {
        let likes = rows(&[(0, 1, 10), (2, 4, 11), (0, 2, 12)]);
        let timelines = HeldTimelines::new(3, likes, rows(&[(2, 5, 9), (0, 6, 10)]));
        let mut users = 0;
        for_each(&timelines, |user, timeline| {
            users += 1;
            let mut numbers = Vec::new();
            timelines.read(user, &mut numbers).unwrap();
            let (likes, skips) = timelines.lengths(user);
            assert_eq!(Timeline::of_numbers(&numbers, likes, skips), timeline);
        })
        .unwrap();
        assert_eq!((users, timelines.bytes()), (3, 4 * 3 + 8 * 2 + 12 * 3 + 8));
    }

    #[test]
    #[should_panic(expected = "in the order of time")]
    fn likes_out_of_order_are_refused() {
        HeldTimelines::new(1, rows(&[(0, 1, 10), (0, 2, 9)]), rows(&[(0, 3, 9)]));
    }

    proptest! {
        #[test]
        fn all_rows_are_there_and_skips_lie_where_their_times_say(
            likes in vec((0u32..40, any::<u32>(), 0u32..50), 0..200),
            skips in vec((0u32..40, any::<u32>(), 0u32..50), 0..100),
            users in 40usize..60,
        ) {
            let sorted = |mut triples: Vec<(u32, u32, u32)>| {
                triples.sort_by_key(|&(_, _, at)| at);
                rows(&triples)
            };
            let (likes, skips) = (sorted(likes), sorted(skips));
            let timelines = HeldTimelines::new(users, likes.clone(), skips.clone());
            prop_assert_eq!(timelines.users(), users);
            for user in 0..users {
                let own = |rows: &[Interaction]| -> Vec<Interaction> {
                    rows.iter().filter(|row| row.user as usize == user).copied().collect()
                };
                let items = |rows: &[Interaction]| rows.iter().map(|row| row.item).collect::<Vec<_>>();
                let (likes, skips) = (own(&likes), own(&skips));
                let timeline = timelines.of(user);
                prop_assert_eq!(timeline.likes, items(&likes));
                prop_assert_eq!(timeline.skips, items(&skips));
                for (position, like) in likes.iter().enumerate() {
                    let before = skips.iter().filter(|skip| skip.at < like.at).count();
                    prop_assert_eq!(timeline.skips_before(position), before);
                }
            }
        }
    }
}
