//! How much memory training takes: a formula, known before the first step.

use super::marks::Marks;
use super::read_ahead::BATCHES_HELD;
use super::run::{Goal, Run};
use super::window::Window;
use crate::feature::ItemFeatures;
use crate::hyperparameters::Hyperparameters;
use crate::timeline::Timeline;
use std::fmt;

const FLOAT: usize = 4;

/// Bytes that a run holds at its peak, the caller's snapshot apart.
///
/// With P weights, of which D in dense layers, R rows of tables, V videos with K terms in all,
/// W windows of likes, batches of B examples and at most C candidates: see the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights, and with validation those of the best epoch: 4 P or 8 P.
    pub weights: usize,
    /// Gradients and both moments of dense layers, an accumulator a row: 12 D + 4 R.
    pub optimizer: usize,
    /// Vectors of all videos: 4 V d; features: 40 V + 4 K; and what candidates are drawn by: 12 V.
    pub videos: usize,
    /// 32 W for windows in two orders, and the timelines: in memory 4 bytes a like, 8 a skip and 12 to 32 a user; kept elsewhere what finds
    /// them there, and as much of the few batches that are read ahead. Of long histories also a state every 1,024 likes.
    pub interactions: usize,
    /// Buffers of a step: proportional to B + C, and the logits of at most 512 rows.
    pub step: usize,
    /// A checkpoint while it is written: weights, what the optimiser remembers, vectors, and its largest tensor once more.
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
    /// What this run takes.
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
        let largest = sizes.iter().copied().max().unwrap_or(0).max(vectors);
        Memory {
            weights: copies * FLOAT * weights,
            optimizer: FLOAT * (3 * dense + rows),
            videos: FLOAT * (vectors + terms) + (ItemFeatures::VIDEO_BYTES + 3 * FLOAT) * videos,
            interactions: self.timelines.bytes()
                + 2 * size_of::<Window>() * (self.windows.len() + self.replayed.len())
                + self.read_ahead_bytes()
                + Marks::bytes(&*self.timelines, &self.model.user_tower),
            step: step_bytes(
                hyper,
                tables.inputs(),
                self.model.user_tower.inputs(),
                videos,
            ),
            checkpoint: FLOAT * (copies * weights + 2 * dense + rows + vectors + largest),
        }
    }
}

impl Run<'_> {
    /// Timelines of the batches in memory at once, on average: each window comes with all that its user did.
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

/// Buffers of a step over B examples and C candidates: input and its gradient, hidden layer, its slopes and their gradient,
/// output and its gradients for each row of each tower, and the logits.
fn step_bytes(
    hyper: &Hyperparameters,
    item_inputs: usize,
    user_inputs: usize,
    videos: usize,
) -> usize {
    let batch = hyper.batch_size;
    let candidates = (2 * batch + hyper.negatives).min(videos);
    let row = |inputs: usize, hidden: usize| 2 * inputs + 3 * hidden + 3 * hyper.embedding_dim;
    let users = batch * row(user_inputs, hyper.user_hidden);
    let items = candidates * row(item_inputs, hyper.item_hidden);
    let logits = batch.min(512) * candidates;
    FLOAT * (users + items + logits)
}
