//! Cutting sequences into windows and packing windows into batches.

use super::history::Step;
use super::prefix_states::PrefixStates;
use crate::timeline::{self, Timeline, Timelines};
use crate::tower::{HistoryState, UserTower};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_pcg::Pcg64Mcg;
use std::io;
use std::ops::Range;

/// At most this many skipped videos of a window are used as negatives.
pub(super) const SKIPPED_NEGATIVES: usize = 64;

/// Likes `start..end` of one user, each an example.
///
/// The likes before `start` enter through running sums, which are computed from the vectors of the
/// start of the epoch and pass no gradient (truncated back-propagation, Williams & Peng 1990). The
/// first like of a user without earlier skips is no example: nothing is known at that point, and
/// popularity serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) user: u32,
    start: u32,
    pub(super) end: u32,
    /// Whether like `start` is an example.
    first_counts: bool,
    /// Whether later likes count as history too, because the order is not known.
    unordered: bool,
}

impl Window {
    /// Number of the user's likes before it.
    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    /// Number of examples.
    pub(super) fn examples(self) -> usize {
        self.positions().len()
    }

    /// Positions of its examples among the user's likes.
    pub(super) fn positions(self) -> Range<usize> {
        self.start as usize + usize::from(!self.first_counts)..self.end as usize
    }

    /// The window together with the likes that it is cut from.
    pub(super) fn of(self, timeline: Timeline<'_>) -> Excerpt<'_> {
        Excerpt {
            window: self,
            timeline,
        }
    }
}

/// A window and the timeline of its user.
#[derive(Debug, Clone, Copy)]
pub(super) struct Excerpt<'t> {
    window: Window,
    timeline: Timeline<'t>,
}

impl Excerpt<'_> {
    /// Number of examples.
    pub(super) fn examples(self) -> usize {
        self.window.examples()
    }

    /// The columns of `candidates` that the user likes, at any time, in no order. `column` finds
    /// the column of a video.
    pub(super) fn known(
        self,
        prefixes: &PrefixStates,
        candidates: &[u32],
        column: impl Fn(u32) -> Option<usize>,
    ) -> Vec<u32> {
        let columns = candidates.len() as u32;
        if let Some(liked) = prefixes.searched(self.window.user, candidates.len()) {
            let is_liked = |&column: &u32| {
                let item = &candidates[column as usize];
                liked.binary_search(item).is_ok()
            };
            return (0..columns).filter(is_liked).collect();
        }
        let likes = self.timeline.likes.iter();
        let known = likes.filter_map(|&like| column(like).map(|column| column as u32));
        known.filter(|&column| column < columns).collect()
    }

    /// The liked videos of the window, oldest first.
    pub(super) fn items(self) -> impl ExactSizeIterator<Item = u32> {
        let Window { start, end, .. } = self.window;
        self.timeline.likes[start as usize..end as usize]
            .iter()
            .copied()
    }

    /// The videos to be predicted, one per example. Each is drawn from the next `lookahead` likes
    /// (the "dense all action loss" of Pancha et al. 2022, `PinnerFormer`), so that the tower
    /// learns what the user likes soon, not just next.
    pub(super) fn targets(self, lookahead: usize, random: &mut impl Rng) -> Vec<u32> {
        let positions = self.window.positions();
        positions
            .map(|position| {
                let likes = self.timeline.likes;
                match &likes[soon(position, likes.len(), lookahead)] {
                    [next] => *next,
                    soon => soon[random.random_range(0..soon.len())],
                }
            })
            .collect()
    }

    /// The videos that the user skipped before the end of the window, at most the latest
    /// [`SKIPPED_NEGATIVES`].
    pub(super) fn skipped(self) -> impl Iterator<Item = u32> {
        let end = if self.window.unordered {
            self.timeline.skips.len()
        } else {
            self.timeline.skips_before(self.window.end as usize - 1)
        };
        self.timeline.skips[end.saturating_sub(SKIPPED_NEGATIVES)..end]
            .iter()
            .copied()
    }

    /// The user's state at the start of the window, and the number of skips that it includes.
    /// `vectors` `[V, d]` are those of the start of the epoch, and `prefixes` are computed from
    /// them.
    pub(super) fn state_before(
        self,
        tower: &UserTower,
        vectors: &[f32],
        prefixes: &PrefixStates,
    ) -> (HistoryState, usize) {
        let dim = tower.dim();
        let vector = |item: u32| &vectors[item as usize * dim..(item as usize + 1) * dim];
        let Timeline { likes, skips, .. } = self.timeline;
        let (start, end) = (self.window.start(), self.window.end as usize);
        if self.window.unordered {
            if let Some(all) = prefixes.latest(self.window.user, likes.len()) {
                let own = likes[start..end].iter();
                let others = own.fold(all.state.clone(), |state, &like| {
                    state.without(vector(like))
                });
                return (others, skips.len());
            }
            let (before, after) = (&likes[..start], &likes[end..]);
            let mut state = tower.empty_history();
            for &like in before.iter().chain(after) {
                state.like(tower, vector(like));
            }
            for &skip in skips {
                state.skip(tower, vector(skip));
            }
            return (state, skips.len());
        }
        let (mut state, liked_first, skipped_first) = match prefixes.latest(self.window.user, start)
        {
            Some(prefix) => (prefix.state.clone(), prefix.likes, prefix.skips),
            None => (tower.empty_history(), 0, 0),
        };
        for &like in &likes[liked_first..start] {
            state.like(tower, vector(like));
        }
        // Likes and skips are averaged separately, so that only the order within each kind matters.
        let skipped = self.timeline.skips_before(start);
        for &skip in &skips[skipped_first..skipped] {
            state.skip(tower, vector(skip));
        }
        (state, skipped)
    }

    /// The script of the window: before each like the skips up to it, and a prediction if the like
    /// is an example. `live` gives the column and the vector of a liked video in this step,
    /// `vectors` the vectors of the start of the epoch.
    pub(super) fn script<'a>(
        self,
        mut skipped: usize,
        live: impl Fn(u32) -> (usize, &'a [f32]),
        vectors: impl Fn(u32) -> &'a [f32],
    ) -> Vec<Step<'a>> {
        let Timeline {
            likes,
            skips,
            likes_before,
        } = self.timeline;
        let mut script = Vec::with_capacity(2 * (self.window.end - self.window.start) as usize);
        if self.window.unordered {
            let liked = || self.items().map(&live);
            script.extend(liked().map(|(row, vector)| Step::Like { vector, row }));
            script.extend(liked().map(|(row, vector)| Step::PredictFromOthers { vector, row }));
            return script;
        }
        for position in self.window.start..self.window.end {
            while skipped < skips.len() && likes_before[skipped] <= position {
                script.push(Step::Skip {
                    vector: vectors(skips[skipped]),
                });
                skipped += 1;
            }
            if position > self.window.start || self.window.first_counts {
                script.push(Step::Predict);
            }
            if position + 1 < self.window.end {
                let (row, vector) = live(likes[position as usize]);
                script.push(Step::Like { vector, row });
            }
        }
        script
    }
}

/// The likes, of `likes` in all, that the target at `position` may be drawn from.
pub(super) fn soon(position: usize, likes: usize, lookahead: usize) -> Range<usize> {
    position..likes.min(position + lookahead)
}

/// All windows of at most `length` likes with at least one example, in the order of users. `count`
/// is called with each user's windows and the timeline that they are cut from.
pub(super) fn windows(
    timelines: &dyn Timelines,
    length: usize,
    unordered: bool,
    mut count: impl FnMut(&[Window], Timeline<'_>),
) -> io::Result<Vec<Window>> {
    let mut windows = Vec::new();
    timeline::for_each(timelines, |user, timeline| {
        let Timeline { likes, skips, .. } = timeline;
        let first = windows.len();
        for start in (0..likes.len()).step_by(length.max(2)) {
            let window = Window {
                user: user as u32,
                start: start as u32,
                end: (start + length.max(2)).min(likes.len()) as u32,
                first_counts: if unordered {
                    likes.len() > 1 || !skips.is_empty()
                } else {
                    start > 0 || timeline.skips_before(0) > 0
                },
                unordered,
            };
            if window.examples() > 0 {
                windows.push(window);
            }
        }
        count(&windows[first..], timeline);
    })?;
    Ok(windows)
}

/// Adds windows drawn from `replayed` to `windows` until these have twice as many examples. If
/// `windows` has the capacity for both, nothing is allocated.
pub(super) fn replay(windows: &mut Vec<Window>, replayed: &[Window], random: &mut Pcg64Mcg) {
    let new = windows.len();
    let examples: usize = windows.iter().map(|window| window.examples()).sum();
    windows.extend_from_slice(replayed);
    windows[new..].shuffle(random);
    let (mut added, mut kept) = (0, new);
    while kept < windows.len() && added < examples {
        added += windows[kept].examples();
        kept += 1;
    }
    windows.truncate(kept);
}

/// Shuffles `windows` and cuts them into batches of at most `batch_size` examples (or of one
/// window, if that is longer).
pub(super) fn batches(
    windows: &mut [Window],
    batch_size: usize,
    random: &mut Pcg64Mcg,
) -> Vec<Range<usize>> {
    windows.shuffle(random);
    let mut batches = Vec::new();
    let (mut first, mut examples) = (0, 0);
    for (position, window) in windows.iter().enumerate() {
        if examples > 0 && examples + window.examples() > batch_size {
            batches.push(first..position);
            (first, examples) = (position, 0);
        }
        examples += window.examples();
    }
    if examples > 0 {
        batches.push(first..windows.len());
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::Interaction;
    use crate::timeline::HeldTimelines;
    use rand::SeedableRng;
    use std::collections::HashSet;

    fn timelines() -> HeldTimelines {
        let row = |(user, item, at)| Interaction { user, item, at };
        let likes: Vec<Interaction> = (0..5).map(|n| row((0, n, 10 + n))).collect();
        let likes = [vec![row((1, 7, 3)), row((2, 8, 9))], likes].concat();
        HeldTimelines::new(3, likes, [row((2, 9, 1)), row((0, 6, 12))])
    }

    #[test]
    fn with_a_lookahead_targets_are_any_of_the_next_likes_of_the_user() {
        let timelines = timelines();
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let mut drawn = vec![HashSet::new(); 4];
        for _ in 0..100 {
            let targets = windows(&timelines, 2, false, |_, _| ())
                .unwrap()
                .into_iter()
                .filter(|window| window.user == 0)
                .flat_map(|window| excerpt(window, &timelines).targets(2, &mut random))
                .collect::<Vec<_>>();
            for (drawn, target) in drawn.iter_mut().zip(targets) {
                drawn.insert(target);
            }
        }
        let expected = [vec![1, 2], vec![2, 3], vec![3, 4], vec![4]];
        assert_eq!(drawn, expected.map(HashSet::from_iter));
    }

    #[test]
    fn every_like_with_something_before_it_is_one_example() {
        let timelines = timelines();
        let mut windows = windows(&timelines, 2, false, |_, _| ()).unwrap();
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let targets: Vec<u32> = windows
            .iter()
            .flat_map(|&window| excerpt(window, &timelines).targets(1, &mut random))
            .collect();
        assert_eq!(
            targets,
            [1, 2, 3, 4, 8],
            "user 1's only like has nothing before it, user 2's has a skip"
        );
        let batches = batches(&mut windows, 3, &mut Pcg64Mcg::seed_from_u64(1));
        let batches: Vec<&[Window]> = batches.into_iter().map(|range| &windows[range]).collect();
        assert_eq!(
            batches
                .iter()
                .flat_map(|batch| batch.iter())
                .map(|w| w.examples())
                .sum::<usize>(),
            5
        );
        assert!(
            batches
                .iter()
                .all(|batch| batch.iter().map(|w| w.examples()).sum::<usize>() <= 3)
        );
    }

    /// The order is that of drawing from a shuffled copy: models depend on it to the byte.
    #[test]
    fn replay_takes_shuffled_windows_until_there_are_as_many_examples() {
        let timelines = timelines();
        let all = windows(&timelines, 2, false, |_, _| ()).unwrap();
        let (new, old) = all.split_at(1);
        let mut drawn = Vec::with_capacity(all.len());
        drawn.extend_from_slice(new);
        let room = drawn.capacity();
        replay(&mut drawn, old, &mut Pcg64Mcg::seed_from_u64(4));
        let mut copy = old.to_vec();
        copy.shuffle(&mut Pcg64Mcg::seed_from_u64(4));
        let enough = 1
            + (1..copy.len())
                .position(|n| {
                    copy[..n].iter().map(|w| w.examples()).sum::<usize>() >= new[0].examples()
                })
                .unwrap();
        assert_eq!(drawn, [new, &copy[..enough]].concat());
        assert_eq!(drawn.capacity(), room);
    }

    fn excerpt(window: Window, timelines: &HeldTimelines) -> Excerpt<'_> {
        window.of(timelines.of(window.user as usize))
    }

    fn shown(window: Window, timelines: &HeldTimelines) -> Vec<String> {
        let vector: &[f32] = &[0.0];
        let script =
            excerpt(window, timelines).script(0, |item| (item as usize, vector), |_| vector);
        script
            .iter()
            .map(|step| match step {
                Step::Like { row, .. } => format!("like {row}"),
                Step::Skip { .. } => "skip".into(),
                Step::Predict => "?".into(),
                Step::PredictFromOthers { row, .. } => format!("{row}?"),
            })
            .collect()
    }

    #[test]
    fn a_script_shows_nothing_of_the_future() {
        let timelines = timelines();
        assert_eq!(
            shown(
                windows(&timelines, 64, false, |_, _| ()).unwrap()[0],
                &timelines
            ),
            [
                "like 0", "?", "like 1", "?", "like 2", "skip", "?", "like 3", "?"
            ]
        );
    }

    #[test]
    fn without_an_order_each_like_is_predicted_from_the_others() {
        let timelines = timelines();
        let windows = windows(&timelines, 3, true, |_, _| ()).unwrap();
        assert_eq!(windows.iter().map(|w| w.examples()).sum::<usize>(), 6);
        assert_eq!(
            shown(windows[0], &timelines),
            ["like 0", "like 1", "like 2", "0?", "1?", "2?"]
        );
        assert_eq!(
            shown(windows[1], &timelines),
            ["like 3", "like 4", "3?", "4?"]
        );
    }
}
