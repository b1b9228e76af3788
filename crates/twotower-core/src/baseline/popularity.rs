use crate::interaction::{History, Interaction};
use crate::recommend::Recommender;
use crate::timeline::{self, Timelines};
use std::io;

/// The number of likes of each video, the same for all users. It also serves users without a like.
#[derive(Debug, Clone, PartialEq)]
pub struct Popularity {
    like_counts: Vec<u32>,
    scores: Vec<f32>,
    users: usize,
}

impl Popularity {
    /// Counts the likes of each of the `items` videos.
    ///
    /// # Panics
    /// If a like names a video outside `0..items`.
    pub fn fit(items: usize, likes: &[Interaction]) -> Self {
        let mut like_counts = vec![0u32; items];
        let mut users: Vec<u32> = Vec::with_capacity(likes.len());
        for like in likes {
            like_counts[like.item as usize] += 1;
            users.push(like.user);
        }
        users.sort_unstable();
        users.dedup();
        Self::of_counts(like_counts, users.len())
    }

    /// The same for likes that are grouped by user.
    ///
    /// # Errors
    /// If a timeline cannot be read.
    pub fn count(items: usize, timelines: &dyn Timelines) -> io::Result<Self> {
        let mut like_counts = vec![0u32; items];
        let mut users = 0;
        timeline::for_each(timelines, |_, timeline| {
            users += usize::from(!timeline.likes.is_empty());
            for &like in timeline.likes {
                like_counts[like as usize] += 1;
            }
        })?;
        Ok(Self::of_counts(like_counts, users))
    }

    fn of_counts(like_counts: Vec<u32>, users: usize) -> Self {
        Self {
            scores: like_counts.iter().map(|&count| count as f32).collect(),
            like_counts,
            users,
        }
    }

    /// Likes of each video, `[V]`.
    pub fn like_counts(&self) -> &[u32] {
        &self.like_counts
    }

    /// Number of users with at least one of these likes.
    pub fn users(&self) -> usize {
        self.users
    }
}

impl Recommender for Popularity {
    fn name(&self) -> &'static str {
        "popularity"
    }

    fn items(&self) -> usize {
        self.scores.len()
    }

    fn score(&self, _: History<'_>, scores: &mut [f32]) {
        scores.copy_from_slice(&self.scores);
    }
}
