use super::Head;
use crate::kernel;

/// History → a point of the common space. The tower has no table: its only inputs from a user are
/// the vectors of the videos that the user liked and skipped.
///
/// For each decay δ the liked vectors are averaged with weight δ^age, where the latest like has age
/// 0, so that δ = 0 gives the last like alone and δ = 1 the plain mean. Skipped vectors are
/// averaged with a decay of their own. x = [mean for each δ ‖ mean of skips ‖ ln(1 + likes) / 5 ‖
/// ln(1 + skips) / 5], where an empty mean is zero, and the [`Head`] computes the output.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UserTower {
    /// Decay per like, `[k]`, each in 0..=1.
    pub decays: Vec<f32>,
    /// Decay per skip, in 0..=1.
    pub skip_decay: f32,
    /// x `[(k + 1) d + 2]` → `[d]`
    pub head: Head,
}

/// Vectors of a history that are added to one scale before the next: they stay in the first-level
/// cache.
const ROWS_AT_ONCE: usize = 64;

/// Counts enter as ln(1 + n) / 5, about 1 for a typical history.
pub const COUNT_SCALE: f32 = 0.2;

impl UserTower {
    /// All weights zero: k decays, h hidden units, d dimensions.
    pub fn zeros(decays: Vec<f32>, skip_decay: f32, hidden: usize, dim: usize) -> Self {
        Self {
            head: Head::zeros((decays.len() + 1) * dim + 2, hidden, dim),
            decays,
            skip_decay,
        }
    }

    /// Embedding dimension d.
    pub fn dim(&self) -> usize {
        self.head.output.bias.len()
    }

    /// Length of x: (k + 1) d + 2.
    pub fn inputs(&self) -> usize {
        (self.decays.len() + 1) * self.dim() + 2
    }

    /// The state of a user without likes and skips.
    pub fn empty_history(&self) -> HistoryState {
        let scales = self.decays.len() + 1;
        HistoryState {
            dim: self.dim(),
            sums: vec![0.0; scales * self.dim()],
            weights: vec![0.0; scales],
            counts: [0; 2],
        }
    }

    /// The state after `likes` and `skips`, vectors `[d]` each, oldest first.
    pub fn history<'a>(
        &self,
        likes: impl IntoIterator<Item = &'a [f32]>,
        skips: impl IntoIterator<Item = &'a [f32]>,
    ) -> HistoryState {
        let mut state = self.empty_history();
        let (likes, skips) = (Vec::from_iter(likes), Vec::from_iter(skips));
        // Chunks that stay in the first-level cache from one scale to the next.
        for likes in likes.chunks(ROWS_AT_ONCE) {
            for (scale, &decay) in self.decays.iter().enumerate() {
                state.decay_and_add_all(scale, decay, likes);
            }
        }
        state.decay_and_add_all(self.decays.len(), self.skip_decay, &skips);
        state.counts = [likes.len() as u32, skips.len() as u32];
        state
    }

    /// Embeds one state: `[d]`, unit norm. `None` without a like or skip, where popularity serves
    /// better.
    pub fn embed(&self, state: &HistoryState) -> Option<Vec<f32>> {
        if state.is_empty() {
            return None;
        }
        let mut x = vec![0.0; self.inputs()];
        state.input(&mut x);
        let mut out = vec![0.0; self.dim()];
        self.head.embed(&x, &mut out);
        Some(out)
    }
}

/// Running sums over a history. Adding a like or skip costs O(k d), however long the history is.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryState {
    dim: usize,
    /// Decayed sums, `[k + 1, d]`; the last row is for skips.
    sums: Vec<f32>,
    /// Sums of the weights, `[k + 1]`.
    weights: Vec<f32>,
    /// Numbers of likes and skips.
    counts: [u32; 2],
}

impl HistoryState {
    /// Whether there is no like or skip.
    pub fn is_empty(&self) -> bool {
        self.counts == [0; 2]
    }

    /// Adds a like of the video with this vector `[d]`.
    pub fn like(&mut self, tower: &UserTower, vector: &[f32]) {
        for (scale, &decay) in tower.decays.iter().enumerate() {
            self.decay_and_add(scale, decay, vector);
        }
        self.counts[0] += 1;
    }

    /// Adds a skip of the video with this vector `[d]`.
    pub fn skip(&mut self, tower: &UserTower, vector: &[f32]) {
        self.decay_and_add(tower.decays.len(), tower.skip_decay, vector);
        self.counts[1] += 1;
    }

    /// The state after this history and then `later`, of the same tower. O(k d).
    #[must_use]
    pub fn then(&self, tower: &UserTower, later: &Self) -> Self {
        let mut both = later.clone();
        let [likes, skips] = later.counts;
        for scale in 0..self.weights.len() {
            let factor = match tower.decays.get(scale) {
                Some(decay) => decay.powi(likes as i32),
                None => tower.skip_decay.powi(skips as i32),
            };
            let range = scale * self.dim..(scale + 1) * self.dim;
            for (sum, x) in both.sums[range.clone()].iter_mut().zip(&self.sums[range]) {
                *sum += factor * x;
            }
            both.weights[scale] += factor * self.weights[scale];
        }
        for (count, earlier) in both.counts.iter_mut().zip(self.counts) {
            *count += earlier;
        }
        both
    }

    /// The state without one like, of the video with this vector, if likes are not decayed.
    pub(crate) fn without(&self, vector: &[f32]) -> Self {
        let mut others = self.clone();
        for (sum, x) in others.sums.iter_mut().zip(vector) {
            *sum -= x;
        }
        others.weights[0] -= 1.0;
        others.counts[0] -= 1;
        others
    }

    fn decay_and_add(&mut self, scale: usize, decay: f32, vector: &[f32]) {
        let sum = &mut self.sums[scale * self.dim..(scale + 1) * self.dim];
        kernel::decay_and_add(decay, vector, sum);
        self.weights[scale] = decay * self.weights[scale] + 1.0;
    }

    /// The same for one vector after the other, to the bit.
    fn decay_and_add_all(&mut self, scale: usize, decay: f32, vectors: &[&[f32]]) {
        let sum = &mut self.sums[scale * self.dim..(scale + 1) * self.dim];
        kernel::decay_and_add_all(decay, vectors, sum);
        for _ in vectors {
            self.weights[scale] = decay * self.weights[scale] + 1.0;
        }
    }

    /// Factor that turns the sum of scale `scale` into a mean: 1 / (sum of weights), or 0 for an
    /// empty sum.
    pub(crate) fn factor(&self, scale: usize) -> f32 {
        if self.weights[scale] > 0.0 {
            1.0 / self.weights[scale]
        } else {
            0.0
        }
    }

    /// Writes the user tower's input x, `[(k + 1) d + 2]`.
    pub fn input(&self, x: &mut [f32]) {
        let (means, counts) = x.split_at_mut(self.sums.len());
        for (scale, mean) in means.chunks_exact_mut(self.dim).enumerate() {
            let factor = self.factor(scale);
            for (mean, sum) in mean.iter_mut().zip(&self.sums[scale * self.dim..]) {
                *mean = factor * sum;
            }
        }
        for (out, &count) in counts.iter_mut().zip(&self.counts) {
            *out = COUNT_SCALE * (count as f32).ln_1p();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_at_once_is_that_of_one_after_the_other_to_the_bit() {
        for (dim, likes, skips) in [(64, 150, 3), (70, 64, 65), (5, 65, 0), (130, 0, 2)] {
            let tower = UserTower::zeros(vec![0.0, 0.5, 0.95, 1.0], 0.9, 1, dim);
            let numbers =
                |n: usize| -> Vec<f32> { (0..n * dim).map(|i| (i as f32 * 0.37).sin()).collect() };
            let (liked, skipped) = (numbers(likes), numbers(skips));
            let mut expected = tower.empty_history();
            for vector in liked.chunks_exact(dim) {
                expected.like(&tower, vector);
            }
            for vector in skipped.chunks_exact(dim) {
                expected.skip(&tower, vector);
            }
            let history = tower.history(liked.chunks_exact(dim), skipped.chunks_exact(dim));
            assert_eq!(history, expected, "{likes} and {skips} of {dim}");
        }
    }
}
