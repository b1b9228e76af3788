//! What a model is learned from and judged on, wherever it is kept.

use super::cohorts::spread;
use crate::shards::Shards;
use std::io;
use std::sync::Arc;
use twotower_core::baseline::Popularity;
use twotower_core::feature::Catalogue;
use twotower_core::interaction::Dataset;
use twotower_core::split::{HeldOut, Phase, Split};
use twotower_core::timeline::{HeldTimelines, Timelines};
use twotower_core::train::VALIDATION_USERS;

/// Data cut into training, validation and test. The errors are those of reading.
pub(super) trait TrainingSet: Sync {
    /// All videos.
    fn catalogue(&self) -> &Catalogue;

    /// Likes and skips that are seen before `phase`.
    fn timelines(&self, phase: Phase) -> io::Result<Arc<dyn Timelines>>;

    /// The users that every epoch is judged by.
    fn validation_users(&self) -> io::Result<HeldOut>;

    /// At most `most` of the users that nothing is chosen by, evenly drawn.
    fn test_users(&self, most: usize) -> io::Result<HeldOut>;

    /// Likes of each video that are seen before test.
    fn popularity(&self) -> io::Result<Popularity>;

    /// Time of the latest like seen before test, seconds since 1970.
    fn learned_until(&self) -> Option<u32>;
}

/// A snapshot of a database, in memory.
#[derive(Debug)]
pub(super) struct SnapshotSet<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) split: Split,
}

impl TrainingSet for SnapshotSet<'_> {
    fn catalogue(&self) -> &Catalogue {
        &self.dataset.catalogue
    }

    fn timelines(&self, phase: Phase) -> io::Result<Arc<dyn Timelines>> {
        let (likes, skips) = (self.split.seen(phase), self.split.seen_skips(phase));
        let timelines = HeldTimelines::new(self.dataset.users, &likes, &skips);
        Ok(Arc::new(timelines))
    }

    fn validation_users(&self) -> io::Result<HeldOut> {
        Ok(self.split.held_out_users(Phase::Validation))
    }

    fn test_users(&self, most: usize) -> io::Result<HeldOut> {
        let mut held_out = self.split.held_out_users(Phase::Test);
        spread(&mut held_out.users, most);
        Ok(held_out)
    }

    fn popularity(&self) -> io::Result<Popularity> {
        let videos = self.dataset.catalogue.len();
        Ok(Popularity::fit(videos, &self.split.seen(Phase::Test)))
    }

    fn learned_until(&self) -> Option<u32> {
        let seen = self.split.train.iter().chain(&self.split.validation);
        seen.map(|like| like.at).max()
    }
}

impl TrainingSet for Shards {
    fn catalogue(&self) -> &Catalogue {
        self.catalogue()
    }

    fn timelines(&self, phase: Phase) -> io::Result<Arc<dyn Timelines>> {
        Ok(self.timelines(phase))
    }

    fn validation_users(&self) -> io::Result<HeldOut> {
        // As `quick_evaluate` draws them.
        let users = self.held_out_users(Phase::Validation, true);
        let kept = users.len().min(VALIDATION_USERS);
        let drawn: Vec<usize> = (0..kept).map(|n| users[n * users.len() / kept]).collect();
        self.held_out(Phase::Validation, &drawn)
    }

    fn test_users(&self, most: usize) -> io::Result<HeldOut> {
        let mut users = self.held_out_users(Phase::Test, false);
        spread(&mut users, most);
        self.held_out(Phase::Test, &users)
    }

    fn popularity(&self) -> io::Result<Popularity> {
        Popularity::count(self.catalogue().len(), &*self.timelines(Phase::Test))
    }

    fn learned_until(&self) -> Option<u32> {
        self.learned_until()
    }
}
