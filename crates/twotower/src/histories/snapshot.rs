//! Histories from the rows of a snapshot in memory.

use super::{Counts, Histories, Numbers, Record};
use twotower_core::interaction::Interaction;
use twotower_core::split::{SplitKind, temporal_cuts};
use twotower_core::timeline::HeldTimelines;

impl Histories {
    /// Groups the rows of a [`twotower_core::interaction::Dataset`] by user, and reuses its memory:
    /// 4 bytes per like, 8 per skip and 32 per user. The splits are those of
    /// [`twotower_core::split::Split`]. A base model has seen likes up to the second `base_until`.
    pub(crate) fn of_snapshot(
        users: usize,
        likes: Vec<Interaction>,
        skips: Vec<Interaction>,
        split: SplitKind,
        base_until: Option<u32>,
    ) -> Self {
        let likes_seen = likes_seen(users, &likes, split);
        let known = base_until.map(|until| {
            let known = likes.partition_point(|like| like.at <= until);
            count(users, &likes[..known])
        });
        let seen_until = [0, 1].map(|part| seen_until(users, &likes, &likes_seen, part));
        let skips_seen = match split {
            SplitKind::Temporal => Some(temporal_skips_seen(users, &likes, &skips)),
            SplitKind::Llo => None,
        };
        let timelines = HeldTimelines::new(users, likes, skips);
        let record = |user: usize| {
            let timeline = timelines.of(user);
            let seen = likes_seen[user];
            let skips_seen = match &skips_seen {
                Some(skips_seen) => skips_seen[user],
                // Skips before the first held-out like; all of them for a user without one.
                None => seen.map(|likes| timeline.skips_before(likes as usize) as u32),
            };
            Record {
                start: timelines.starts[user] as u64,
                counts: Counts {
                    likes: [seen[0], seen[1], timeline.likes.len() as u32],
                    skips: [skips_seen[0], skips_seen[1], timeline.skips.len() as u32],
                },
            }
        };
        Self {
            records: (0..users).map(record).collect(),
            numbers: Numbers::Memory(timelines.numbers),
            seen_until,
            known: known.unwrap_or_default(),
        }
    }
}

/// Number of rows per user.
fn count(users: usize, rows: &[Interaction]) -> Vec<u32> {
    let mut counts = vec![0; users];
    for row in rows {
        counts[row.user as usize] += 1;
    }
    counts
}

/// Number of each user's skips seen before validation and before test, for splits at the same time
/// for all users.
fn temporal_skips_seen(
    users: usize,
    likes: &[Interaction],
    skips: &[Interaction],
) -> Vec<[u32; 2]> {
    let [validation, test] = temporal_cuts(likes.len());
    let [validation, test] = [validation..test, test..likes.len()].map(|held_out| {
        let cut = likes[held_out].first().map(|like| like.at);
        let seen = cut.map_or(skips.len(), |cut| {
            skips.partition_point(|skip| skip.at < cut)
        });
        count(users, &skips[..seen])
    });
    let both = validation.into_iter().zip(test);
    both.map(|(validation, test)| [validation, test]).collect()
}

/// Time of the latest like that is seen before `part`; `likes_seen` is the number of seen likes per
/// user.
fn seen_until(
    users: usize,
    likes: &[Interaction],
    likes_seen: &[[u32; 2]],
    part: usize,
) -> Option<u32> {
    let mut left = count(users, likes);
    for (left, seen) in left.iter_mut().zip(likes_seen) {
        *left -= seen[part];
    }
    // Backwards from the latest, past those that are not seen.
    let latest_seen = likes.iter().rev().find(|like| {
        let left = &mut left[like.user as usize];
        let is_seen = *left == 0;
        *left = left.saturating_sub(1);
        is_seen
    });
    latest_seen.map(|like| like.at)
}

/// Number of each user's likes seen before validation and before test.
fn likes_seen(users: usize, likes: &[Interaction], split: SplitKind) -> Vec<[u32; 2]> {
    let mut seen = vec![[0; 2]; users];
    match split {
        SplitKind::Temporal => {
            for (part, cut) in temporal_cuts(likes.len()).into_iter().enumerate() {
                for like in &likes[..cut] {
                    seen[like.user as usize][part] += 1;
                }
            }
        }
        SplitKind::Llo => {
            for like in likes {
                seen[like.user as usize][0] += 1;
            }
            for seen in &mut seen {
                *seen = match seen[0] {
                    n @ 3.. => [n - 2, n - 1],
                    n => [n; 2],
                };
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use std::sync::Arc;
    use twotower_core::interaction::Dataset;
    use twotower_core::split::{Phase, Split};

    const USERS: usize = 6;

    /// Likes and skips in order of time, one per pair, many of them in the same second.
    fn rows() -> impl Strategy<Value = Vec<Interaction>> {
        let pairs = btree_set((0u32..USERS as u32, 0u32..30), 0..60);
        (pairs, vec(0u32..20, 60)).prop_map(|(pairs, mut times)| {
            times.sort_unstable();
            let rows = pairs.into_iter().zip(times);
            rows.map(|((user, item), at)| Interaction { user, item, at })
                .collect()
        })
    }

    /// `pairs` yields rows sorted by user; this mixes users over time.
    fn mixed(mut rows: Vec<Interaction>) -> Vec<Interaction> {
        let times: Vec<u32> = rows.iter().map(|row| row.at).collect();
        rows.sort_by_key(|row| (row.item, row.user));
        for (row, at) in rows.iter_mut().zip(times) {
            row.at = at;
        }
        rows
    }

    proptest! {
        #[test]
        fn what_is_seen_is_what_the_split_says(likes in rows(), skips in rows(), llo in any::<bool>()) {
            let (likes, skips) = (mixed(likes), mixed(skips));
            let kind = if llo { SplitKind::Llo } else { SplitKind::Temporal };
            let dataset = Dataset { users: USERS, likes: likes.clone(), skips: skips.clone(), ..Dataset::default() };
            let split = Split::new(&dataset, kind);
            let until = 9;
            let known = |user: usize| likes.iter().filter(|like| like.user as usize == user && like.at <= until).count();
            let known: Vec<u32> = (0..USERS).map(|user| known(user) as u32).collect();
            let histories = Arc::new(Histories::of_snapshot(USERS, likes, skips, kind, Some(until)));
            prop_assert_eq!(&histories.known, &known);
            for phase in [Phase::Validation, Phase::Test] {
                let expected = HeldTimelines::new(USERS, split.seen(phase), split.seen_skips(phase));
                let timelines = histories.timelines(phase);
                for user in 0..USERS {
                    let (seen, expected) = (timelines.held(user).unwrap(), expected.of(user));
                    prop_assert_eq!((seen.likes, seen.skips), (expected.likes, expected.skips));
                    for like in 0..seen.likes.len() {
                        prop_assert_eq!(seen.skips_before(like), expected.skips_before(like));
                    }
                }
                let users = histories.held_out_users(phase, false);
                let found = histories.held_out(phase, &users).unwrap().users;
                let expected = split.held_out_users(phase).users;
                let shown = |users: &[twotower_core::split::HeldOutUser]| format!("{users:?}");
                prop_assert_eq!(shown(&found), shown(&expected));
                let latest = split.seen(phase).iter().map(|like| like.at).max();
                prop_assert_eq!(histories.seen_until(phase), latest);
            }
        }
    }
}
