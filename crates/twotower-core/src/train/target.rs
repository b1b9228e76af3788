//! How often each video is a target: the frequencies that the logQ correction uses.

use super::window::{Window, soon};
use crate::timeline::Timeline;

/// How often each video is a target in one epoch.
///
/// The correction uses the probability of a video in a batch (Yi et al. 2019), and a batch consists
/// of targets. Likes are distributed differently: the first like of a user is no example unless a
/// skip came before it, and fine-tuning learns the new likes and few of the others.
#[derive(Debug)]
pub(super) struct Targets {
    lookahead: usize,
    videos: usize,
    new: Counts,
    replayed: Counts,
}

/// Counts over some of the windows.
#[derive(Debug, Default)]
struct Counts {
    /// Expected number of times each video is a target, `[V]`: with a lookahead an example has
    /// several possible targets. Empty before the first example.
    of_videos: Vec<f64>,
    examples: usize,
    windows: usize,
    /// Sum of the squares of the windows' numbers of examples.
    squares: f64,
    /// Prefix sums over the likes of the current user: each example is divided among its possible
    /// targets.
    before: Vec<f64>,
}

impl Targets {
    /// Zero counts, for `videos` videos.
    pub(super) fn new(videos: usize, lookahead: usize) -> Self {
        Self {
            lookahead,
            videos,
            new: Counts::default(),
            replayed: Counts::default(),
        }
    }

    /// Counts the targets of one user. `windows` are new where `is_new` holds, and replayed
    /// otherwise.
    pub(super) fn count(
        &mut self,
        windows: &[Window],
        timeline: Timeline<'_>,
        is_new: impl Fn(&Window) -> bool,
    ) {
        for (counts, new) in [(&mut self.new, true), (&mut self.replayed, false)] {
            let of_these = windows.iter().filter(|window| is_new(window) == new);
            if counts.share_out(of_these, timeline.likes.len(), self.lookahead) {
                counts.of_videos.resize(self.videos, 0.0);
                counts.add(timeline.likes, self.lookahead);
            }
        }
    }

    /// Expected targets of an epoch, `[V]`: each new window once, and whole replayed windows until
    /// these have as many examples, or all of them.
    pub(super) fn of_an_epoch(self) -> Vec<f64> {
        let (new, replayed) = (self.new, self.replayed);
        let share = replayed.drawn(new.examples) / replayed.examples.max(1) as f64;
        let mut targets = new.of_videos;
        targets.resize(self.videos, 0.0);
        for (target, replayed) in targets.iter_mut().zip(replayed.of_videos) {
            *target += share.min(1.0) * replayed;
        }
        targets
    }
}

impl Counts {
    /// Expected number of examples when whole windows are drawn in random order until there are
    /// `wanted`: at least one window. The last window exceeds `wanted` by half of its examples on
    /// average, and long windows are more likely to be the last (renewal theory: Feller 1971,
    /// XI.4).
    fn drawn(&self, wanted: usize) -> f64 {
        if self.windows == 0 {
            return 0.0;
        }
        let examples = self.examples as f64;
        let beyond = (self.squares / examples - 1.0) / 2.0;
        (wanted as f64 + beyond).max(examples / self.windows as f64)
    }

    /// Records the examples of one user's `windows`; `false` if there are none.
    fn share_out<'w>(
        &mut self,
        windows: impl Iterator<Item = &'w Window>,
        likes: usize,
        lookahead: usize,
    ) -> bool {
        self.before.clear();
        self.before.resize(likes + 1, 0.0);
        let mut examples = 0;
        for window in windows {
            for position in window.positions() {
                let among = soon(position, likes, lookahead).len();
                self.before[position + 1] = 1.0 / among as f64;
            }
            examples += window.examples();
            self.windows += 1;
            self.squares += (window.examples() as f64).powi(2);
        }
        let mut sum = 0.0;
        for before in &mut self.before {
            sum += *before;
            *before = sum;
        }
        self.examples += examples;
        examples > 0
    }

    /// Adds to each like its part of the recorded examples: those at its own position and at the
    /// `lookahead` - 1 before it.
    fn add(&mut self, likes: &[u32], lookahead: usize) {
        for (position, &like) in likes.iter().enumerate() {
            let end = position + 1;
            let asked = self.before[end] - self.before[end.saturating_sub(lookahead)];
            self.of_videos[like as usize] += asked;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{replay, windows};
    use super::*;
    use crate::interaction::Interaction;
    use crate::timeline::HeldTimelines;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    const VIDEOS: u32 = 12;

    fn timelines(likes: &[(u32, u32)], skips: &[(u32, u32)]) -> HeldTimelines {
        let rows = |rows: &[(u32, u32)]| -> Vec<Interaction> {
            let row = |(at, &(user, item)): (usize, &(u32, u32))| Interaction {
                user,
                item,
                at: 2 * at as u32,
            };
            rows.iter().enumerate().map(row).collect()
        };
        HeldTimelines::new(5, rows(likes), rows(skips))
    }

    /// Mean number of times each video is a target over `epochs` epochs, as training draws them.
    fn drawn(
        timelines: &HeldTimelines,
        (new, replayed): &(Vec<Window>, Vec<Window>),
        lookahead: usize,
        epochs: usize,
    ) -> Vec<f64> {
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let mut counts = vec![0.0; VIDEOS as usize];
        for _ in 0..epochs {
            let mut epoch = new.clone();
            replay(&mut epoch, replayed, &mut random);
            for window in epoch {
                let excerpt = window.of(timelines.of(window.user as usize));
                for target in excerpt.targets(lookahead, &mut random) {
                    counts[target as usize] += 1.0 / epochs as f64;
                }
            }
        }
        counts
    }

    /// A first like without anything before it is no target, whatever its video.
    #[test]
    fn a_first_like_is_no_target() {
        // All users begin with video 0; user 2 has skipped something before.
        let likes = [(0, 0), (0, 3), (1, 0), (1, 3), (2, 0), (2, 4)];
        let timelines = HeldTimelines::new(
            3,
            likes.map(|(user, item)| Interaction { user, item, at: 2 }),
            [Interaction {
                user: 2,
                item: 9,
                at: 1,
            }],
        );
        let mut targets = Targets::new(12, 1);
        let count = |windows: &[Window], timeline: Timeline<'_>| {
            targets.count(windows, timeline, |_| true);
        };
        windows(&timelines, 64, false, count).unwrap();
        let mut expected = vec![0.0; 12];
        (expected[0], expected[3], expected[4]) = (1.0, 2.0, 1.0);
        assert_eq!(targets.of_an_epoch(), expected);
    }

    /// With few new examples, the replayed windows weigh more than the new ones.
    #[test]
    fn few_new_likes_come_with_whole_windows_of_others() {
        // Four users with up to 45 likes, all learned, and one with two new likes.
        let learned = (0..4).flat_map(|user| (0..15 + 10 * user).map(move |n| (user, n % 11)));
        for new in [2, 9, 40] {
            let likes: Vec<_> = learned.clone().chain((0..new).map(|_| (4, 11))).collect();
            let timelines = timelines(&likes, &[]);
            let is_new = |window: &Window| window.user == 4;
            let mut targets = Targets::new(VIDEOS as usize, 1);
            let count = |windows: &[Window], timeline: Timeline<'_>| {
                targets.count(windows, timeline, is_new);
            };
            let parts = windows(&timelines, 64, false, count)
                .unwrap()
                .into_iter()
                .partition(is_new);
            let counted: f64 = targets.of_an_epoch().iter().sum();
            let drawn: f64 = drawn(&timelines, &parts, 1, 400).iter().sum();
            assert!(
                (counted / drawn - 1.0).abs() < 0.15,
                "{new} new: {counted}, drawn {drawn}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn counted_is_what_epochs_ask_for(
            likes in proptest::collection::vec((0u32..5, 0..VIDEOS), 1..60),
            skips in proptest::collection::vec((0u32..5, 0..VIDEOS), 0..10),
            learned in proptest::collection::vec(0u32..20, 5),
            length in 2usize..6,
            lookahead in 1usize..9,
            goes_on in any::<bool>(),
            unordered in any::<bool>(),
        ) {
            let timelines = timelines(&likes, &skips);
            let lookahead = if unordered { 1 } else { lookahead };
            let is_new = |window: &Window| !goes_on || window.end > learned[window.user as usize];
            let mut targets = Targets::new(VIDEOS as usize, lookahead);
            let count = |windows: &[Window], timeline: Timeline<'_>| targets.count(windows, timeline, is_new);
            let all = windows(&timelines, length, unordered, count).unwrap();
            let parts: (Vec<_>, Vec<_>) = all.into_iter().partition(is_new);
            let examples = |windows: &[Window]| windows.iter().map(|window| window.examples()).sum::<usize>();
            let (new, replayed) = (examples(&parts.0), examples(&parts.1));
            let counted = targets.of_an_epoch();
            let total: f64 = counted.iter().sum();
            let least = new + new.min(replayed);
            prop_assert!((least as f64 - 1e-9..=(new + replayed) as f64 + 1e-9).contains(&total), "{total}");
            // Replayed windows are drawn whole, and the last one exceeds what is wanted, so that
            // the counts are exact only if all are drawn.
            if replayed <= new {
                let epochs = if lookahead == 1 { 1 } else { 400 };
                for (counted, drawn) in counted.iter().zip(drawn(&timelines, &parts, lookahead, epochs)) {
                    let tolerance = if lookahead == 1 { 1e-9 } else { 1.0 };
                    prop_assert!((counted - drawn).abs() < tolerance, "{counted}, drawn {drawn}");
                }
            }
        }
    }
}
