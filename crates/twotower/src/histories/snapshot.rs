//! Histories of a snapshot in memory, out of its rows.

use super::{Counts, Events, Histories, Record};
use twotower_core::interaction::{Event, Interaction, Sequences};
use twotower_core::split::{SplitKind, temporal_cuts};

impl Histories {
    /// Groups the rows of a [`twotower_core::interaction::Dataset`], whose memory becomes that of the histories: 8 bytes an
    /// event and 40 a user. The cuts are those of [`twotower_core::split::Split`].
    pub(crate) fn of_snapshot(
        users: usize,
        likes: Vec<Interaction>,
        skips: Vec<Interaction>,
        split: SplitKind,
    ) -> Self {
        let likes_seen = likes_seen(users, &likes, split);
        // From which second on a skip is unseen, where that is the same for all users.
        let [validation, test] = temporal_cuts(likes.len());
        let cuts = [validation..test, test..likes.len()]
            .map(|held_out| likes[held_out].first().map(|like| like.at));
        let (like_offsets, mut events) = Sequences::taking(users, likes).into_parts();
        let (skip_offsets, skips) = Sequences::taking(users, skips).into_parts();
        let first_skip = events.len();
        let records: Vec<Record> = (0..users)
            .map(|user| {
                let own_likes = &events[like_offsets[user]..like_offsets[user + 1]];
                let own_skips = &skips[skip_offsets[user]..skip_offsets[user + 1]];
                let seen = likes_seen[user];
                let skips_seen = [0, 1].map(|part| {
                    let cut = match split {
                        SplitKind::Temporal => cuts[part],
                        SplitKind::Llo => own_likes.get(seen[part] as usize).map(|like| like.at),
                    };
                    cut.map_or(own_skips.len(), |cut| {
                        own_skips.partition_point(|skip| skip.at < cut)
                    }) as u32
                });
                Record {
                    likes: like_offsets[user] as u64,
                    skips: (first_skip + skip_offsets[user]) as u64,
                    counts: Counts {
                        likes: [seen[0], seen[1], own_likes.len() as u32],
                        skips: [skips_seen[0], skips_seen[1], own_skips.len() as u32],
                    },
                }
            })
            .collect();
        let last_learned = |(user, seen): (usize, &[u32; 2])| -> Option<u32> {
            let own: &[Event] = &events[like_offsets[user]..][..seen[1] as usize];
            own.last().map(|like| like.at)
        };
        let learned_until = likes_seen.iter().enumerate().filter_map(last_learned).max();
        events.extend(skips);
        Self {
            records,
            events: Events::Memory(events),
            learned_until,
        }
    }
}

/// How many of each user's likes are seen before validation and before test.
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
    use twotower_core::timeline::{HeldTimelines, Timelines};

    const USERS: usize = 6;

    /// Likes and skips in the order of time, of each pair one, many of them in the same second.
    fn rows() -> impl Strategy<Value = Vec<Interaction>> {
        let pairs = btree_set((0u32..USERS as u32, 0u32..30), 0..60);
        (pairs, vec(0u32..20, 60)).prop_map(|(pairs, mut times)| {
            times.sort_unstable();
            let rows = pairs.into_iter().zip(times);
            rows.map(|((user, item), at)| Interaction { user, item, at })
                .collect()
        })
    }

    /// Rows of `pairs` come sorted by user; time has to go across users.
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
            let histories = Arc::new(Histories::of_snapshot(USERS, likes, skips, kind));
            for phase in [Phase::Validation, Phase::Test] {
                let expected = HeldTimelines::new(USERS, &split.seen(phase), &split.seen_skips(phase));
                let timelines = histories.timelines(phase);
                for user in 0..USERS {
                    prop_assert_eq!(timelines.held(user), expected.held(user));
                }
                let users = histories.held_out_users(phase, false);
                let found = histories.held_out(phase, &users).unwrap().users;
                let expected = split.held_out_users(phase).users;
                let shown = |users: &[twotower_core::split::HeldOutUser]| format!("{users:?}");
                prop_assert_eq!(shown(&found), shown(&expected));
            }
            let seen = split.seen(Phase::Test);
            prop_assert_eq!(histories.learned_until, seen.iter().map(|like| like.at).max());
        }
    }
}
