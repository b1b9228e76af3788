//! Sampled softmax with logQ correction (Yi et al. 2019), forward and backward in tiles of rows.

#[cfg(test)]
mod golden;

use crate::kernel::{self, View};
use crate::negative::Candidates;
use crate::scratch;
use rayon::prelude::*;

/// Rows whose logits one task computes.
const TILE: usize = 128;

/// Rows whose logits are held at once.
const BLOCK: usize = 512;

/// One row of the loss.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Column of the target.
    pub target: usize,
    /// Columns of candidates that the row's user likes, which are no negatives. The target may be
    /// among them.
    pub known: &'a [u32],
    /// Columns of candidates that the row's user skipped: negatives with more weight.
    pub skipped: &'a [u32],
}

/// Buffers that are kept from step to step.
#[derive(Debug, Clone, Default)]
pub struct SampledSoftmax {
    logits: Vec<f32>,
    /// User vectors, each divided by B and the denominator of its row.
    scaled: Vec<f32>,
    /// Vectors of candidates `[d, C]`, transposed once for all tiles.
    by_dimension: Vec<f32>,
}

/// Gradients of the loss.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// `[B, d]`, written.
    pub users: &'a mut [f32],
    /// `[C, d]`, added to.
    pub candidates: &'a mut [f32],
}

/// Operands of the loss.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// `[B, d]`, unit norm.
    pub users: &'a [f32],
    /// `[C, d]`, unit norm.
    pub vectors: &'a [f32],
    /// Biases of the C candidates.
    pub candidates: &'a Candidates,
    /// Dimension d.
    pub dim: usize,
    /// Temperature τ.
    pub temperature: f32,
}

impl SampledSoftmax {
    /// Mean over the B rows of -log softmax of the target, in nats, and its gradients with respect
    /// to users `[B, d]` and candidates `[C, d]`. The logit of row b and candidate c is ⟨u, v⟩ / τ
    /// of their vectors plus the candidate's bias.
    pub fn forward_backward<'r>(
        &mut self,
        operands: Operands<'_>,
        row: impl Fn(usize) -> Row<'r> + Sync,
        gradients: &mut Gradients<'_>,
    ) -> f32 {
        let (candidates, dim) = (operands.candidates, operands.dim);
        let (rows, columns) = (operands.users.len() / dim, candidates.len());
        // Vectors have unit norm, so that this bounds every logit, and no pass is needed to find
        // the maximum.
        let bias = candidates
            .negative_bias
            .iter()
            .chain(&candidates.positive_bias)
            .chain(&candidates.skipped_bias);
        let bias = bias.fold(f32::NEG_INFINITY, |max, &b| max.max(b));
        kernel::transpose(operands.vectors, dim, &mut self.by_dimension);
        let step = Step {
            operands,
            by_dimension: &self.by_dimension,
            shift: 1.0 / operands.temperature + bias,
            scale: 1.0 / (rows as f32),
        };
        let mut loss = 0.0_f64;
        for first in (0..rows).step_by(BLOCK) {
            let n = BLOCK.min(rows - first);
            scratch::resize(&mut self.logits, n * columns);
            scratch::resize(&mut self.scaled, n * dim);
            let tiles = self
                .logits
                .par_chunks_mut(TILE * columns)
                .zip(self.scaled.par_chunks_mut(TILE * dim))
                .zip(gradients.users[first * dim..(first + n) * dim].par_chunks_mut(TILE * dim));
            let losses: Vec<f64> = tiles
                .enumerate()
                .map(|(tile, ((logits, scaled), user_gradients))| {
                    let tile = Tile {
                        first: first + tile * TILE,
                        logits,
                        scaled,
                        user_gradients,
                    };
                    step.tile(&row, tile)
                })
                .collect();
            loss += losses.iter().sum::<f64>();
            step.add_candidate_gradients(&self.logits, &self.scaled, gradients.candidates);
        }
        (loss / rows as f64) as f32
    }
}

/// What all tiles of a step share.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    operands: Operands<'a>,
    /// `[d, C]`, vectors of candidates.
    by_dimension: &'a [f32],
    /// Upper bound of all logits.
    shift: f32,
    /// 1 / B.
    scale: f32,
}

/// The n rows that one task computes.
#[derive(Debug)]
struct Tile<'a> {
    /// Number of the first row.
    first: usize,
    /// `[n, C]`, written: gradients with respect to the logits, each row times B and the
    /// denominator of its softmax.
    logits: &'a mut [f32],
    /// `[n, d]`, written: the users' vectors, each divided by B and the denominator of its row.
    scaled: &'a mut [f32],
    /// `[n, d]`, written.
    user_gradients: &'a mut [f32],
}

impl Step<'_> {
    /// Returns the sum of the rows' losses, in nats.
    fn tile<'r>(&self, row: impl Fn(usize) -> Row<'r>, tile: Tile<'_>) -> f64 {
        let Operands {
            users,
            vectors,
            candidates,
            dim,
            temperature,
        } = self.operands;
        let Tile {
            first,
            logits,
            scaled,
            user_gradients,
        } = tile;
        let columns = candidates.len();
        let users = &users[first * dim..][..user_gradients.len()];
        kernel::gemm(
            1.0 / temperature,
            View::rows(users, dim),
            View::rows(self.by_dimension, columns),
            0.0,
            logits,
        );
        let mut loss = 0.0;
        let mut held_back = Vec::new();
        let mut factors = [0.0; TILE];
        for (n, logits) in logits.chunks_exact_mut(columns).enumerate() {
            let (nats, sum) = softmax_row(
                logits,
                row(first + n),
                candidates,
                self.shift,
                &mut held_back,
            );
            loss += nats;
            factors[n] = self.scale / sum;
        }
        kernel::gemm(
            1.0 / temperature,
            View::rows(logits, columns),
            View::rows(vectors, dim),
            0.0,
            user_gradients,
        );
        // It is cheaper to divide the d numbers at both ends of the products than the C logits
        // between.
        let rows = scaled
            .chunks_exact_mut(dim)
            .zip(users.chunks_exact(dim))
            .zip(user_gradients.chunks_exact_mut(dim))
            .zip(factors);
        for (((scaled, user), gradient), factor) in rows {
            for ((scaled, user), gradient) in scaled.iter_mut().zip(user).zip(gradient) {
                *scaled = factor * user;
                *gradient *= factor;
            }
        }
        loss
    }

    /// Adds the gradients that the rows of a block give the candidates to `gradients` `[C, d]`.
    /// `logits` `[n, C]` and `scaled` `[n, d]` are as [`Tile`]s leave them.
    fn add_candidate_gradients(&self, logits: &[f32], scaled: &[f32], gradients: &mut [f32]) {
        let Operands {
            candidates,
            dim,
            temperature,
            ..
        } = self.operands;
        gradients
            .par_chunks_mut(TILE * dim)
            .enumerate()
            .for_each(|(tile, gradients)| {
                let by_column = View::rows(logits, candidates.len())
                    .columns(tile * TILE, gradients.len() / dim)
                    .t();
                kernel::gemm(
                    1.0 / temperature,
                    by_column,
                    View::rows(scaled, dim),
                    1.0,
                    gradients,
                );
            });
    }
}

/// Turns the products of one row into the gradient with respect to its logits, times the
/// denominator of its softmax. Returns the row's loss and that denominator.
fn softmax_row(
    logits: &mut [f32],
    row: Row<'_>,
    candidates: &Candidates,
    shift: f32,
    held_back: &mut Vec<f32>,
) -> (f64, f32) {
    // Columns with another bias than negatives: exclude them here, with exp(-∞) = 0 in their
    // places.
    let target = logits[row.target] + candidates.positive_bias[row.target] - shift;
    logits[row.target] = f32::NEG_INFINITY;
    for &known in row.known {
        logits[known as usize] = f32::NEG_INFINITY;
    }
    for &skipped in row.skipped {
        held_back.push(std::mem::replace(
            &mut logits[skipped as usize],
            f32::NEG_INFINITY,
        ));
    }
    let mut sum = kernel::exp_sum(logits, &candidates.negative_bias, shift);
    for (&skipped, logit) in row.skipped.iter().zip(held_back.drain(..)) {
        let skipped = skipped as usize;
        let term = kernel::exp(logit + candidates.skipped_bias[skipped] - shift);
        logits[skipped] += term;
        sum += term;
    }
    let term = kernel::exp(target);
    sum += term;
    logits[row.target] = term - sum;
    (f64::from(sum.ln() - target), sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Vec<f32>, Vec<f32>, Candidates) {
        let unit = |seed: u32| {
            let raw: Vec<f32> = (0..4)
                .map(|i| ((seed * 37 + i * 11) % 17) as f32 - 8.0)
                .collect();
            let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
            raw.into_iter().map(move |x| x / norm)
        };
        let users: Vec<f32> = (0..3).flat_map(unit).collect();
        let vectors: Vec<f32> = (3..8).flat_map(unit).collect();
        let candidates = Candidates {
            items: (0..5).collect(),
            negative_bias: vec![0.1, -0.2, 0.3, 0.0, 0.5],
            positive_bias: vec![-0.1, -0.3, 0.2, 0.0, 0.4],
            skipped_bias: vec![0.6, 0.7, 0.8, 0.9, 1.0],
        };
        (users, vectors, candidates)
    }

    const KNOWN: [&[u32]; 3] = [&[0, 3], &[], &[2, 4]];
    const SKIPPED: [&[u32]; 3] = [&[1, 3], &[], &[0]];

    fn row(b: usize) -> Row<'static> {
        Row {
            target: [0, 1, 4][b],
            known: KNOWN[b],
            skipped: SKIPPED[b],
        }
    }

    /// The loss by its definition, in 64 bits.
    fn reference(users: &[f32], vectors: &[f32], candidates: &Candidates) -> f64 {
        let mut loss = 0.0;
        for (b, user) in users.chunks_exact(4).enumerate() {
            let row = row(b);
            let logits: Vec<f64> = vectors
                .chunks_exact(4)
                .enumerate()
                .map(|(c, vector)| {
                    let score: f64 = user
                        .iter()
                        .zip(vector)
                        .map(|(x, y)| f64::from(*x) * f64::from(*y))
                        .sum();
                    let bias = match c == row.target {
                        true => candidates.positive_bias[c],
                        false if row.known.contains(&(c as u32)) => f32::NEG_INFINITY,
                        false if row.skipped.contains(&(c as u32)) => candidates.skipped_bias[c],
                        false => candidates.negative_bias[c],
                    };
                    score / 0.2 + f64::from(bias)
                })
                .collect();
            loss += logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[row.target];
        }
        loss / 3.0
    }

    #[test]
    fn agrees_with_its_definition_and_its_finite_differences() {
        let (users, vectors, candidates) = example();
        let mut gradients = (vec![0.0; users.len()], vec![0.0; vectors.len()]);
        let loss = SampledSoftmax::default().forward_backward(
            Operands {
                users: &users,
                vectors: &vectors,
                candidates: &candidates,
                dim: 4,
                temperature: 0.2,
            },
            row,
            &mut Gradients {
                users: &mut gradients.0,
                candidates: &mut gradients.1,
            },
        );
        assert!((f64::from(loss) - reference(&users, &vectors, &candidates)).abs() < 1e-5);
        let step = 1e-3_f32;
        for i in 0..users.len() + vectors.len() {
            let at = |delta: f32| {
                let (mut users, mut vectors) = (users.clone(), vectors.clone());
                if i < users.len() {
                    users[i] += delta;
                } else {
                    vectors[i - users.len()] += delta;
                }
                reference(&users, &vectors, &candidates)
            };
            let numeric = (at(step) - at(-step)) / (2.0 * f64::from(step));
            let analytic = f64::from(if i < users.len() {
                gradients.0[i]
            } else {
                gradients.1[i - users.len()]
            });
            assert!(
                (numeric - analytic).abs() < 1e-3,
                "component {i}: {numeric} against {analytic}"
            );
        }
    }
}
