use super::catalogue::Item;
use super::latent::DIM;
use super::taste::{Segment, User};
use twotower_core::kernel;
use uuid::Uuid;

/// Increase of the score for a video that is one standard deviation more appealing.
const APPEAL: f32 = 0.16;

/// The truth behind the generated likes. For measuring how close a model comes, never for training
/// one.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// Ids of users, ascending.
    users: Vec<Uuid>,
    segments: Vec<Vec<Segment>>,
    /// `[DIM, V]`: dimension-major.
    items: Vec<f32>,
    /// General appeal, `[V]`.
    appeal: Vec<f32>,
}

impl Oracle {
    pub(super) fn new(users: &[User], items: &[Item]) -> Self {
        Self {
            users: users.iter().map(|user| user.id).collect(),
            segments: users.iter().map(|user| user.segments.clone()).collect(),
            items: (0..DIM)
                .flat_map(|dim| items.iter().map(move |item| item.vector[dim]))
                .collect(),
            appeal: items.iter().map(|item| APPEAL * item.appeal).collect(),
        }
    }

    /// True scores of all videos, ascending by id, for the interest of `user` at `at_us`
    /// (microseconds since 1970 UTC); before the user joined, for the first one. `None` for an
    /// unknown user.
    ///
    /// Whether a video is published or liked already does not matter: a higher score means a higher
    /// probability of a like.
    pub fn scores(&self, user: Uuid, at_us: i64) -> Option<Vec<f32>> {
        let user = self.users.binary_search(&user).ok()?;
        Some(self.scores_of(self.segment(user, at_us)))
    }

    /// True score of the video at position `item` of the catalogue for the user at position `user`
    /// in ascending order of ids.
    ///
    /// # Panics
    /// If there is no such user or video.
    pub fn score(&self, user: usize, item: usize, at_us: i64) -> f32 {
        let videos = self.appeal.len();
        let taste = self.segment(user, at_us).taste;
        let position = |dim: usize| self.items[dim * videos + item];
        let inner: f32 = taste
            .iter()
            .enumerate()
            .map(|(dim, x)| x * position(dim))
            .sum();
        inner + self.appeal[item]
    }

    pub(super) fn scores_of(&self, segment: &Segment) -> Vec<f32> {
        let mut scores = self.appeal.clone();
        for (x, column) in segment
            .taste
            .iter()
            .zip(self.items.chunks_exact(scores.len().max(1)))
        {
            kernel::axpy(*x, column, &mut scores);
        }
        scores
    }

    /// Scores of all videos for a user of whom only these likes are known, with perfect knowledge
    /// of the videos.
    #[cfg(test)]
    pub(super) fn near(&self, likes: impl Iterator<Item = usize>) -> Vec<f32> {
        let mut taste = [0.0; DIM];
        let videos = self.appeal.len();
        for item in likes {
            for (dim, x) in taste.iter_mut().enumerate() {
                *x += self.items[dim * videos + item];
            }
        }
        let taste = super::latent::normalised(taste);
        self.scores_of(&Segment { from_us: 0, taste })
    }

    fn segment(&self, user: usize, at_us: i64) -> &Segment {
        let segments = &self.segments[user];
        let after = segments.partition_point(|segment| segment.from_us <= at_us);
        &segments[after.saturating_sub(1)]
    }
}
