//! States of long histories, kept for one epoch: a window starts from the latest kept state, a
//! bounded number of likes before it, instead of from the beginning of the history.

use crate::timeline::{self, Timeline, Timelines};
use crate::tower::{HistoryState, UserTower};
use rayon::prelude::*;
use std::collections::HashMap;
use std::io;

/// Likes between two states that are kept.
const INTERVAL: usize = 1024;

/// Up to this many likes, looking at each is quicker than a binary search for each candidate.
const MAX_LIKES_SCANNED: usize = 16 * INTERVAL;

/// The state of a user after a prefix of the history.
#[derive(Debug)]
pub(super) struct PrefixState {
    /// Likes in the prefix.
    pub(super) likes: usize,
    /// Skips in the prefix.
    pub(super) skips: usize,
    pub(super) state: HistoryState,
}

/// What is kept of one user with a long history.
#[derive(Debug)]
struct LongHistory {
    /// In ascending order of likes.
    prefixes: Vec<PrefixState>,
    /// The liked videos, ascending; empty with at most [`MAX_LIKES_SCANNED`] likes.
    liked: Vec<u32>,
}

/// Prefix states of the users with more than [`INTERVAL`] likes.
#[derive(Debug, Default)]
pub(super) struct PrefixStates(HashMap<u32, LongHistory>);

impl PrefixStates {
    /// From `vectors` `[V, d]` of the start of the epoch. Where the order of likes is not known,
    /// each user has one state, that after all likes.
    ///
    /// # Errors
    /// If a timeline cannot be read.
    pub(super) fn new(
        timelines: &dyn Timelines,
        tower: &UserTower,
        vectors: &[f32],
        unordered: bool,
    ) -> io::Result<Self> {
        let long = (0..timelines.users()).filter(|&user| timelines.lengths(user).0 > INTERVAL);
        let long: Vec<usize> = long.collect();
        let of_user = |user: usize| {
            let mut numbers = Vec::new();
            let timeline = timeline::held_or_read(timelines, user, &mut numbers)?;
            let history = LongHistory::new(timeline, tower, vectors, unordered);
            io::Result::Ok((user as u32, history))
        };
        let histories = long.into_par_iter().map(of_user);
        histories.collect::<io::Result<_>>().map(Self)
    }

    /// The last state kept of `user` after at most `likes` likes.
    pub(super) fn latest(&self, user: u32, likes: usize) -> Option<&PrefixState> {
        let prefixes = &self.0.get(&user)?.prefixes;
        let reached = prefixes.partition_point(|prefix| prefix.likes <= likes);
        prefixes[..reached].last()
    }

    /// The videos that `user` has liked, ascending, if a binary search for each of `candidates`
    /// candidates costs less than a scan of the likes.
    pub(super) fn searched(&self, user: u32, candidates: usize) -> Option<&[u32]> {
        let liked = &self.0.get(&user)?.liked[..];
        let steps = candidates * liked.len().checked_ilog2()? as usize;
        (steps < liked.len()).then_some(liked)
    }

    /// Bytes held during an epoch.
    pub(super) fn bytes(timelines: &dyn Timelines, tower: &UserTower) -> usize {
        let state = size_of::<f32>() * tower.inputs();
        let of_user = |user: usize| match timelines.lengths(user).0 {
            likes @ ..=MAX_LIKES_SCANNED => likes.saturating_sub(1) / INTERVAL * state,
            likes => likes / INTERVAL * state + size_of::<u32>() * likes,
        };
        (0..timelines.users()).map(of_user).sum()
    }
}

impl LongHistory {
    fn new(timeline: Timeline<'_>, tower: &UserTower, vectors: &[f32], unordered: bool) -> Self {
        let Timeline { likes, skips, .. } = timeline;
        let dim = tower.dim();
        let vector = |item: u32| &vectors[item as usize * dim..(item as usize + 1) * dim];
        // No window begins after all likes.
        let ends: Vec<usize> = if unordered {
            vec![likes.len()]
        } else {
            (INTERVAL..likes.len()).step_by(INTERVAL).collect()
        };
        let mut state = tower.empty_history();
        let (mut likes_done, mut skips_done) = (0, 0);
        let prefix = |likes_end: usize| {
            let skips_end = if unordered {
                skips.len()
            } else {
                timeline.skips_before(likes_end)
            };
            for &like in &likes[likes_done..likes_end] {
                state.like(tower, vector(like));
            }
            for &skip in &skips[skips_done..skips_end] {
                state.skip(tower, vector(skip));
            }
            (likes_done, skips_done) = (likes_end, skips_end);
            PrefixState {
                likes: likes_end,
                skips: skips_end,
                state: state.clone(),
            }
        };
        let prefixes = ends.into_iter().map(prefix).collect();
        let mut liked = Vec::new();
        if likes.len() > MAX_LIKES_SCANNED {
            liked.extend(likes);
            liked.sort_unstable();
        }
        Self { prefixes, liked }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{Window, windows};
    use super::*;
    use crate::interaction::Interaction;
    use crate::timeline::HeldTimelines;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    const VIDEOS: u32 = 20_000;

    /// A user with many likes, each of another video, and skips between them.
    fn timelines(likes: u32) -> HeldTimelines {
        let row = |user: u32, item: u32, at: u32| Interaction { user, item, at };
        let few = (0..100).map(|at| row(0, at, at));
        let many = (0..likes).map(|at| row(1, at * 7919 % VIDEOS, 100 + at));
        let skips = (0..likes / 3).map(|n| row(1, n % VIDEOS, 95 + 3 * n));
        HeldTimelines::new(
            2,
            few.chain(many).collect::<Vec<_>>(),
            skips.collect::<Vec<_>>(),
        )
    }

    fn tower(decays: &[f32]) -> (UserTower, Vec<f32>) {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let vectors = (0..VIDEOS * 2).map(|_| random.random_range(-1.0..1.0));
        let tower = UserTower::zeros(decays.to_vec(), 0.9, 1, 2);
        (tower, vectors.collect())
    }

    /// Every window of the timelines, its state with and without prefix states.
    fn states(
        timelines: &HeldTimelines,
        decays: &[f32],
        unordered: bool,
    ) -> Vec<(Window, HistoryState, HistoryState)> {
        let (tower, vectors) = tower(decays);
        let prefixes = PrefixStates::new(timelines, &tower, &vectors, unordered).unwrap();
        let windows = windows(timelines, 50, unordered, |_, _| ()).unwrap();
        let states = windows.into_iter().map(|window| {
            let excerpt = window.of(timelines.of(window.user as usize));
            let [with, without] = [&prefixes, &PrefixStates::default()]
                .map(|prefixes| excerpt.state_before(&tower, &vectors, prefixes));
            assert_eq!(with.1, without.1, "skips used up");
            (window, with.0, without.0)
        });
        states.collect()
    }

    #[test]
    fn a_state_from_a_prefix_equals_that_of_the_whole_history_to_the_bit() {
        let timelines = timelines(3000);
        let states = states(&timelines, &[0.0, 0.5, 0.95, 1.0], false);
        assert_eq!(states.len(), 62);
        for (window, with, without) in states {
            assert!(with == without, "{window:?}");
        }
    }

    #[test]
    fn no_window_is_far_from_a_prefix_state() {
        let timelines = timelines(20_000);
        let (tower, vectors) = tower(&[1.0]);
        let prefixes = PrefixStates::new(&timelines, &tower, &vectors, false).unwrap();
        let windows = windows(&timelines, 64, false, |_, _| ()).unwrap();
        let walked = windows.iter().map(|window| {
            let start = window.start();
            let prefix = prefixes.latest(window.user, start);
            start - prefix.map_or(0, |prefix| prefix.likes)
        });
        // From the beginning each time it would be 20,000² / (2 · 64) likes, 3.1 million.
        let walked: Vec<usize> = walked.collect();
        assert!(walked.iter().all(|&likes| likes < INTERVAL));
        assert!(walked.iter().sum::<usize>() < 20_000 * INTERVAL / (2 * 64) + 100);
    }

    #[test]
    fn without_an_order_it_is_the_state_of_all_others_but_for_rounding() {
        let states = states(&timelines(1500), &[1.0], true);
        assert_eq!(states.len(), 32);
        let (tower, _) = tower(&[1.0]);
        for (window, with, without) in states {
            let [with, without] = [with, without].map(|state| {
                let mut x = vec![0.0; tower.inputs()];
                state.input(&mut x);
                x
            });
            for (with, without) in with.iter().zip(without) {
                assert!((with - without).abs() < 1e-5, "{window:?}");
            }
        }
    }

    #[test]
    fn liked_candidates_are_the_same_searched_or_not() {
        let timelines = timelines(17_000);
        let (tower, vectors) = tower(&[1.0]);
        let prefixes = PrefixStates::new(&timelines, &tower, &vectors, false).unwrap();
        let candidates: Vec<u32> = (0..300).map(|n| n * 61).collect();
        let column = |item: u32| candidates.iter().position(|&candidate| candidate == item);
        assert!(prefixes.searched(1, 300).is_some() && prefixes.searched(1, 3000).is_none());
        assert!(prefixes.searched(0, 1).is_none());
        for window in windows(&timelines, 5000, false, |_, _| ()).unwrap() {
            let excerpt = window.of(timelines.of(window.user as usize));
            let [mut with, mut without] = [&prefixes, &PrefixStates::default()]
                .map(|prefixes| excerpt.known(prefixes, &candidates, column));
            with.sort_unstable();
            without.sort_unstable();
            assert!(!with.is_empty() && with.len() < 300);
            assert_eq!(with, without);
        }
    }
}
