//! Splits a snapshot into training, validation and test, so that nothing from the future reaches
//! training.

use crate::interaction::{Dataset, History, Interaction, Sequences};
use serde::{Deserialize, Serialize};

/// How likes are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitKind {
    /// By time: with n likes, train = [0, ⌊8n/10⌋), validation = [⌊8n/10⌋, ⌊9n/10⌋), test = the
    /// rest.
    Temporal,
    /// Leave-last-out: the last like of a user with at least three is test, the one before it
    /// validation.
    Llo,
}

impl SplitKind {
    /// Name in flags and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temporal => "temporal",
            Self::Llo => "llo",
        }
    }

    /// Number of a user's `likes` that a model trained for test has learned, if there were no
    /// others. Leave-last-out has held out the last of three or more. A split by time counts likes
    /// up to the last like learned, so that all are.
    pub fn learned(self, likes: u32) -> u32 {
        match self {
            Self::Llo if likes >= LLO_LIKES => likes - 1,
            Self::Llo | Self::Temporal => likes,
        }
    }
}

/// Leave-last-out holds nothing out of users with fewer likes.
const LLO_LIKES: u32 = 3;

/// Positions of the first likes of validation and of test in a split by time, among `likes` likes
/// in the order of time.
pub fn temporal_cuts(likes: usize) -> [usize; 2] {
    [likes * 8 / 10, likes * 9 / 10]
}

/// The time from which on skips are unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SkipCut {
    /// The first held-out like of any user.
    OneForAll,
    /// The first held-out like of the same user.
    PerUser,
}

/// The held-out part that is ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The model has seen train; validation is ranked.
    Validation,
    /// The model has seen train and validation; test is ranked.
    Test,
}

/// A snapshot in three parts. Each keeps the order of the snapshot.
#[derive(Debug, Clone)]
pub struct Split {
    skip_cut: SkipCut,
    users: usize,
    /// Likes to learn from.
    pub train: Vec<Interaction>,
    /// Likes to choose hyperparameters and the number of epochs on.
    pub validation: Vec<Interaction>,
    /// Likes to report on, once.
    pub test: Vec<Interaction>,
    skips: Vec<Interaction>,
}

impl Split {
    /// Splits the likes of `dataset`.
    pub fn new(dataset: &Dataset, kind: SplitKind) -> Self {
        let likes = &dataset.likes;
        let (mut train, mut validation, mut test) = (Vec::new(), Vec::new(), Vec::new());
        match kind {
            SplitKind::Temporal => {
                let [first, second] = temporal_cuts(likes.len());
                train.extend_from_slice(&likes[..first]);
                validation.extend_from_slice(&likes[first..second]);
                test.extend_from_slice(&likes[second..]);
            }
            SplitKind::Llo => {
                let mut left = vec![0u32; dataset.users];
                for like in likes {
                    left[like.user as usize] += 1;
                }
                let enough: Vec<bool> = left.iter().map(|&n| n >= LLO_LIKES).collect();
                for &like in likes {
                    let user = like.user as usize;
                    match (enough[user], left[user]) {
                        (true, 1) => test.push(like),
                        (true, 2) => validation.push(like),
                        _ => train.push(like),
                    }
                    left[user] -= 1;
                }
            }
        }
        Self {
            skip_cut: match kind {
                SplitKind::Temporal => SkipCut::OneForAll,
                SplitKind::Llo => SkipCut::PerUser,
            },
            users: dataset.users,
            train,
            validation,
            test,
            skips: dataset.skips.clone(),
        }
    }

    /// A frozen hold-out: everything until `cut`, seconds since 1970, is seen, and later likes are
    /// targets. Training and validation are one part.
    pub fn after(dataset: &Dataset, cut: u32) -> Self {
        let (train, test) = dataset.likes.iter().partition(|like| like.at <= cut);
        Self {
            skip_cut: SkipCut::OneForAll,
            users: dataset.users,
            train,
            validation: Vec::new(),
            test,
            skips: dataset.skips.clone(),
        }
    }

    /// A split made elsewhere, such as those published with data sets. Each part is in the order of
    /// a [`Dataset`].
    pub fn from_parts(
        users: usize,
        train: Vec<Interaction>,
        validation: Vec<Interaction>,
        test: Vec<Interaction>,
    ) -> Self {
        Self {
            skip_cut: SkipCut::PerUser,
            users,
            train,
            validation,
            test,
            skips: Vec::new(),
        }
    }

    /// The likes that a model has seen before `phase` is ranked, in the order of time, and those of
    /// a user in the order of the [`Dataset`].
    pub fn seen(&self, phase: Phase) -> Vec<Interaction> {
        match phase {
            Phase::Validation => self.train.clone(),
            Phase::Test => {
                let mut seen = self.train.clone();
                seen.extend(&self.validation);
                // Stable: within a second the order of the rows is that of the source.
                seen.sort_by_key(|like| like.at);
                seen
            }
        }
    }

    fn held_out(&self, phase: Phase) -> &[Interaction] {
        match phase {
            Phase::Validation => &self.validation,
            Phase::Test => &self.test,
        }
    }

    /// For each user the time from which on skips are unseen in `phase`: that of the first held-out
    /// like of all users or of this user (`u32::MAX` without one).
    fn cut_off(&self, phase: Phase) -> Vec<u32> {
        match self.skip_cut {
            SkipCut::OneForAll => {
                let first = self
                    .held_out(phase)
                    .first()
                    .map_or(u32::MAX, |like| like.at);
                vec![first; self.users]
            }
            SkipCut::PerUser => {
                let mut cut = vec![u32::MAX; self.users];
                for like in self.held_out(phase) {
                    let first = &mut cut[like.user as usize];
                    *first = like.at.min(*first);
                }
                cut
            }
        }
    }

    /// The skips that a model may have seen before `phase` is ranked.
    pub fn seen_skips(&self, phase: Phase) -> Vec<Interaction> {
        let cut = self.cut_off(phase);
        self.skips
            .iter()
            .filter(|skip| skip.at < cut[skip.user as usize])
            .copied()
            .collect()
    }

    /// The users to rank for in `phase`, with their history and targets.
    pub fn held_out_users(&self, phase: Phase) -> HeldOut {
        let likes = Sequences::new(self.users, &self.seen(phase));
        let skips = Sequences::new(self.users, &self.seen_skips(phase));
        let targets = Sequences::new(self.users, self.held_out(phase));
        let parts = [&self.train, &self.validation, &self.test];
        let items = parts.into_iter().flatten().map(|like| like.item as usize);
        // For each video, the last user in the loop who was seen to like it.
        let mut liked_by = vec![usize::MAX; items.max().map_or(0, |last| last + 1)];
        let users = (0..self.users)
            .filter_map(|user| {
                let seen = likes.of(user);
                for &item in seen {
                    liked_by[item as usize] = user;
                }
                let mut targets = targets.of(user).to_vec();
                targets.retain(|&item| liked_by[item as usize] != user);
                (!targets.is_empty()).then(|| HeldOutUser {
                    user: user as u32,
                    likes: seen.to_vec(),
                    skips: skips.of(user).to_vec(),
                    targets,
                })
            })
            .collect();
        HeldOut { users }
    }
}

/// The users of one phase who have at least one target.
#[derive(Debug, Clone, Default)]
pub struct HeldOut {
    /// In ascending order of the user's number.
    pub users: Vec<HeldOutUser>,
}

/// One user of a phase.
#[derive(Debug, Clone)]
pub struct HeldOutUser {
    /// Number of the user in the snapshot.
    pub user: u32,
    /// Likes seen, oldest first. Empty: the user is *cold*.
    pub likes: Vec<u32>,
    /// Skips seen, oldest first.
    pub skips: Vec<u32>,
    /// Held-out likes that are not among the seen ones; never empty.
    pub targets: Vec<u32>,
}

impl HeldOutUser {
    /// The history that a recommender gets of this user.
    pub fn history(&self) -> History<'_> {
        History {
            likes: &self.likes,
            skips: &self.skips,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(likes: &[(u32, u32, u32)], skips: &[(u32, u32, u32)]) -> Dataset {
        let rows = |rows: &[(u32, u32, u32)]| {
            rows.iter()
                .map(|&(user, item, at)| Interaction { user, item, at })
                .collect()
        };
        Dataset {
            users: 3,
            likes: rows(likes),
            skips: rows(skips),
            ..Dataset::default()
        }
    }

    #[test]
    fn temporal_cuts_by_time_and_hides_later_skips() {
        let likes: Vec<_> = (0..10).map(|n| (n % 2, n, 100 + n)).collect();
        let split = Split::new(
            &dataset(&likes, &[(0, 20, 107), (0, 21, 108), (1, 22, 109)]),
            SplitKind::Temporal,
        );
        assert_eq!(
            (split.train.len(), split.validation.len(), split.test.len()),
            (8, 1, 1)
        );
        let validation = split.held_out_users(Phase::Validation);
        assert_eq!(validation.users.len(), 1);
        assert_eq!(validation.users[0].likes, [0, 2, 4, 6]);
        assert_eq!(
            validation.users[0].skips,
            [20],
            "a skip of the moment of the first held-out like is the future"
        );
        let test = split.held_out_users(Phase::Test);
        assert_eq!(
            (test.users[0].user, test.users[0].targets.as_slice()),
            (1, &[9][..])
        );
    }

    #[test]
    fn what_is_seen_keeps_the_order_within_a_second() {
        let likes = [
            (0, 9, 5),
            (0, 3, 5),
            (0, 1, 5),
            (1, 8, 6),
            (1, 2, 6),
            (1, 4, 7),
        ];
        let split = Split::new(&dataset(&likes, &[]), SplitKind::Llo);
        let seen = split.seen(Phase::Test);
        let items: Vec<u32> = seen.iter().map(|like| like.item).collect();
        assert_eq!(items, [9, 3, 8, 2]);
    }

    #[test]
    fn leave_last_out_needs_three_likes() {
        let split = Split::new(
            &dataset(
                &[(0, 1, 1), (1, 1, 1), (1, 2, 2), (1, 3, 3), (0, 4, 5)],
                &[(1, 7, 1), (1, 8, 2)],
            ),
            SplitKind::Llo,
        );
        assert_eq!(split.train.len(), 3);
        for (user, likes) in [(0, 2), (1, 3)] {
            let seen = split.seen(Phase::Test);
            let learned = seen.iter().filter(|like| like.user == user).count();
            assert_eq!(SplitKind::Llo.learned(likes) as usize, learned);
        }
        let test = split.held_out_users(Phase::Test);
        assert_eq!(test.users.len(), 1);
        assert_eq!(
            (
                test.users[0].likes.as_slice(),
                test.users[0].targets.as_slice()
            ),
            (&[1, 2][..], &[3][..])
        );
        assert_eq!(split.held_out_users(Phase::Validation).users[0].skips, [7]);
    }
}
