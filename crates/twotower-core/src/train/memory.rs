//! Memory that training takes, by a formula that is known before the first step.

use super::prefix_states::PrefixStates;
use super::read_ahead::BATCHES_HELD;
use super::run::{Goal, Run};
use super::window::{SKIPPED_NEGATIVES, Window};
use crate::feature::ItemFeatures;
use crate::timeline::Timeline;
use std::fmt;

const FLOAT: usize = 4;

/// Bytes that a run holds at its peak, without the caller's snapshot.
///
/// In the formulas P is the number of weights, D the number of those in dense layers, R the number
/// of rows of the tables, V the number of videos, K the number of their terms, W the number of
/// windows, B the number of examples of a batch (`batch_size`, or those of the longest window if
/// there are more), and C the largest number of candidates.
///
/// While fine-tuning begins, the base's weights and optimiser state are in memory too. Together
/// they are less than `checkpoint`, and no checkpoint is written meanwhile; the caller frees them
/// before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights, and with validation also those of the best epoch: 4 P or 8 P.
    pub weights: usize,
    /// Gradients and both moments of dense layers, and one accumulator per row: 12 D + 4 R.
    pub optimizer: usize,
    /// Vectors of all videos, 4 V d; features, 40 V + 4 K; frequencies that candidates are drawn
    /// by, 12 V, or 16 V with `popularity`; and 4 bytes for each video that may be a negative,
    /// unless all may.
    pub videos: usize,
    /// Windows in two orders, 32 W, and the timelines. Timelines in memory take 4 bytes per like, 8
    /// per skip and 12 to 32 per user; timelines elsewhere take their index, and on average the few
    /// batches that are read ahead. Long histories take one state per 1,024 likes in addition.
    pub interactions: usize,
    /// Buffers of a step: proportional to B + C, and the logits of at most 512 rows. C counts liked
    /// and drawn videos, and skipped ones if skips have a weight.
    pub step: usize,
    /// A checkpoint while it is written: weights, state of the optimisers, vectors, and the largest
    /// tensor once more.
    pub checkpoint: usize,
}

impl Memory {
    /// Their sum.
    pub fn total(&self) -> usize {
        self.weights
            + self.optimizer
            + self.videos
            + self.interactions
            + self.step
            + self.checkpoint
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        write!(
            f,
            "{:.0} MB: weights {:.1}, optimiser {:.1}, videos {:.1}, interactions {:.1}, step {:.1}, a checkpoint {:.1}",
            mb(self.total()),
            mb(self.weights),
            mb(self.optimizer),
            mb(self.videos),
            mb(self.interactions),
            mb(self.step),
            mb(self.checkpoint)
        )
    }
}

impl Run<'_> {
    /// Memory of this run, by the formula.
    pub fn memory(&mut self) -> Memory {
        let sizes: Vec<usize> = self
            .model
            .tensors_mut()
            .iter()
            .map(|(_, _, data)| data.len())
            .collect();
        // The first two tensors are the tables.
        let weights: usize = sizes.iter().sum();
        let dense: usize = sizes[2..].iter().sum();
        let tables = &self.model.item_tower;
        let rows = tables.id_table.rows() + tables.term_table.rows();
        let copies = match self.goal {
            Goal::Best(_) => 2,
            Goal::Epochs(_) => 1,
        };
        let hyper = &self.model.hyperparameters;
        let (videos, terms) = (self.features.len(), self.features.terms_len());
        let vectors = videos * hyper.embedding_dim;
        let drawn_by = if hyper.popularity == 0.0 { 3 } else { 4 };
        let largest = sizes.iter().copied().max().unwrap_or(0).max(vectors);
        Memory {
            weights: copies * FLOAT * weights,
            optimizer: FLOAT * (3 * dense + rows),
            videos: FLOAT * (vectors + terms + self.eligible.unwrap_or(0))
                + (ItemFeatures::VIDEO_BYTES + drawn_by * FLOAT) * videos,
            interactions: self.timelines.bytes()
                + 2 * size_of::<Window>() * (self.windows.len() + self.replayed.len())
                + self.read_ahead_bytes()
                + PrefixStates::bytes(&*self.timelines, &self.model.user_tower),
            step: self.step_bytes(),
            checkpoint: FLOAT * (copies * weights + 2 * dense + rows + vectors + largest),
        }
    }
}

impl Run<'_> {
    /// Timelines of the batches in memory at once, on average, as if each window came with its
    /// whole timeline. It is less if several windows of a batch are of one user, because they share
    /// it.
    fn read_ahead_bytes(&self) -> usize {
        let windows = || self.windows.iter().chain(&self.replayed);
        if self.timelines.held(0).is_some() {
            return 0;
        }
        let numbers = |window: &Window| {
            let (likes, skips) = self.timelines.lengths(window.user as usize);
            Timeline::numbers(likes, skips)
        };
        let examples: usize = windows().map(|window| window.examples()).sum();
        let batches = (examples / self.model.hyperparameters.batch_size).max(1);
        BATCHES_HELD * size_of::<u32>() * (windows().map(numbers).sum::<usize>() / batches)
    }
}

impl Run<'_> {
    /// Buffers of a step with B examples and C candidates: for each row of each tower input and its
    /// gradient, hidden layer, its slopes and their gradient, output and its gradients; and the
    /// logits.
    fn step_bytes(&self) -> usize {
        let hyper = &self.model.hyperparameters;
        let windows = || self.windows.iter().chain(&self.replayed);
        let longest = windows().map(|window| window.examples()).max().unwrap_or(0);
        let batch = hyper.batch_size.max(longest);
        let skipped = if hyper.skip_weight > 0.0 {
            self.most_skipped(batch)
        } else {
            0
        };
        let videos = self.features.len();
        let candidates = (2 * batch + hyper.negatives + skipped).min(videos);
        let row = |inputs: usize, hidden: usize| 2 * inputs + 3 * hidden + 3 * hyper.embedding_dim;
        let users = batch * row(self.model.user_tower.inputs(), hyper.user_hidden);
        let items = candidates * row(self.model.item_tower.inputs(), hyper.item_hidden);
        let logits = batch.min(512) * candidates;
        FLOAT * (users + items + logits)
    }

    /// Upper bound on the number of skipped videos among the candidates of a batch of `batch`
    /// examples. The shortest windows make the batch with the most windows.
    fn most_skipped(&self, batch: usize) -> usize {
        let windows = || self.windows.iter().chain(&self.replayed);
        let skips = |window: &Window| self.timelines.lengths(window.user as usize).1;
        let most = windows().map(skips).max().unwrap_or(0);
        let mut by_length = vec![0; batch + 1];
        for window in windows() {
            by_length[window.examples()] += 1;
        }
        let (mut left, mut in_batch) = (batch, 0);
        for (length, number) in by_length.into_iter().enumerate().skip(1) {
            let fit = (left / length).min(number);
            in_batch += fit;
            left -= fit * length;
        }
        most.min(SKIPPED_NEGATIVES) * in_batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{Catalogue, Video};
    use crate::hyperparameters::Hyperparameters;
    use crate::interaction::Interaction;
    use crate::train::TrainingData;
    use uuid::Uuid;

    const VIDEOS: u32 = 400;

    /// The buffers of a step over 6 users who like 50 videos each, one after the other, and have
    /// skipped 30 others before.
    fn step(change: impl FnOnce(&mut Hyperparameters)) -> usize {
        let videos = (0..VIDEOS).map(|n| Video {
            id: Uuid::from_u128(u128::from(n)),
            ..Video::default()
        });
        let catalogue = Catalogue::new(videos).unwrap();
        let rows = |from: u32, number: u32| -> Vec<Interaction> {
            let of_user = |user: u32| {
                (0..number).map(move |n| Interaction {
                    user,
                    item: (from + 50 * user + n) % VIDEOS,
                    at: from + n,
                })
            };
            let mut rows: Vec<_> = (0..6).flat_map(of_user).collect();
            rows.sort_by_key(|row| row.at);
            rows
        };
        let mut hyper = Hyperparameters {
            embedding_dim: 4,
            user_hidden: 4,
            item_hidden: 4,
            batch_size: 10,
            negatives: 0,
            min_users: 1,
            ngram_buckets: 4,
            window: 5,
            ..Hyperparameters::default()
        };
        change(&mut hyper);
        let data = TrainingData::held(&catalogue, 6, rows(100, 50), rows(0, 30));
        let mut run = Run::new(data, &hyper, Goal::Epochs(1)).unwrap();
        run.memory().step
    }

    #[test]
    fn a_window_longer_than_a_batch_is_a_batch() {
        let short = step(|_| ());
        assert_eq!(step(|hyper| hyper.window = 10), short);
        let long = step(|hyper| hyper.window = 50);
        assert_eq!(long, step(|hyper| hyper.batch_size = 50));
        assert!(long > 4 * short, "{long} {short}");
    }

    #[test]
    fn skipped_videos_are_candidates_where_skips_weigh_something() {
        let without = step(|_| ());
        // A batch of ten has two windows of five examples, of users with 30 skips each.
        let with = step(|hyper| hyper.skip_weight = 1.0);
        assert_eq!(with, step(|hyper| hyper.negatives = 60));
        assert!(with > without);
    }

    /// Bytes of training on 100,000 videos, each liked once.
    fn large_catalogue(change: impl FnOnce(&mut Hyperparameters)) -> usize {
        const LIKES: u32 = 100;
        const USERS: u32 = 1_000;
        let videos = (0..USERS * LIKES).map(|n| Video {
            id: Uuid::from_u128(u128::from(n)),
            ..Video::default()
        });
        let catalogue = Catalogue::new(videos).unwrap();
        let likes = (0..USERS * LIKES).map(|n| Interaction {
            user: n % USERS,
            item: n,
            at: n,
        });
        let mut hyper = Hyperparameters {
            min_users: 1,
            ..Hyperparameters::default()
        };
        change(&mut hyper);
        let likes: Vec<Interaction> = likes.collect();
        let skips = Vec::<Interaction>::new();
        let data = TrainingData::held(&catalogue, USERS as usize, likes, skips);
        let mut run = Run::new(data, &hyper, Goal::Epochs(1)).unwrap();
        run.memory().total()
    }

    /// As docs/deployment.md says under "Out of memory".
    #[test]
    fn the_dimension_saves_more_memory_than_the_batch() {
        let before = large_catalogue(|_| ()) as f64;
        let batch = large_catalogue(|hyper| hyper.batch_size = 256) as f64;
        let dimension = large_catalogue(|hyper| hyper.embedding_dim = 32) as f64;
        assert!(batch > 0.95 * before, "{batch} {before}");
        assert!(dimension < 0.75 * before, "{dimension} {before}");
    }
}
