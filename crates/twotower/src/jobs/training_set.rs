//! Data to train and judge a model with, from a database or from shards.

use super::cohorts::spread;
use crate::histories::Histories;
use std::io;
use std::sync::Arc;
use twotower_core::baseline::Popularity;
use twotower_core::feature::Catalogue;
use twotower_core::interaction::Dataset;
use twotower_core::split::{HeldOut, Phase, SplitKind};
use twotower_core::timeline::Timelines;
use twotower_core::train::{TrainingData, VALIDATION_USERS};

/// Data split into training, validation and test. Errors are those of reading.
#[derive(Debug)]
pub(super) struct TrainingSet {
    /// All videos.
    pub(super) catalogue: Catalogue,
    pub(super) histories: Arc<Histories>,
}

impl TrainingSet {
    /// A snapshot of a database, held in memory: 4 bytes per like, 8 per skip. `base_until`: the
    /// base of fine-tuning has seen likes up to this second, whether it learned them or held them
    /// out.
    pub(super) fn of_snapshot(dataset: Dataset, split: SplitKind, base_until: Option<u32>) -> Self {
        let Dataset {
            catalogue,
            users,
            likes,
            skips,
        } = dataset;
        Self {
            catalogue,
            histories: Arc::new(Histories::of_snapshot(
                users, likes, skips, split, base_until,
            )),
        }
    }

    /// Likes and skips before `phase`.
    pub(super) fn timelines(&self, phase: Phase) -> Arc<dyn Timelines> {
        self.histories.timelines(phase)
    }

    /// Users for the validation after every epoch.
    pub(super) fn validation_users(&self) -> io::Result<HeldOut> {
        // The same selection as in `quick_evaluate`.
        let users = self.histories.held_out_users(Phase::Validation, true);
        let kept = users.len().min(VALIDATION_USERS);
        let drawn: Vec<usize> = (0..kept).map(|n| users[n * users.len() / kept]).collect();
        self.histories.held_out(Phase::Validation, &drawn)
    }

    /// At most `most` test users, evenly spaced.
    pub(super) fn test_users(&self, most: usize) -> io::Result<HeldOut> {
        let mut users = self.histories.held_out_users(Phase::Test, false);
        spread(&mut users, most);
        self.histories.held_out(Phase::Test, &users)
    }

    /// Number of likes of each video before test.
    pub(super) fn popularity(&self) -> io::Result<Popularity> {
        Popularity::count(self.catalogue.len(), &*self.timelines(Phase::Test))
    }

    /// Data to learn for `phase`.
    pub(super) fn seen_before(&self, phase: Phase) -> TrainingData<'_> {
        TrainingData {
            catalogue: &self.catalogue,
            timelines: self.timelines(phase),
            until: self.histories.seen_until(phase),
        }
    }

    /// Time of the latest like before test, seconds since 1970.
    pub(super) fn learned_until(&self) -> Option<u32> {
        self.histories.seen_until(Phase::Test)
    }
}
