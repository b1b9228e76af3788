//! The user tower's input along a sequence, by running sums, forward and backward.

use crate::kernel;
use crate::tower::{HistoryState, UserTower};

/// An event of a user's history or a prediction, in the order of time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// A like of a video.
    Like {
        /// `[d]`
        vector: &'a [f32],
        /// Column of the video among the step's items.
        row: usize,
    },
    /// A skip of a video. Skips pass no gradient.
    Skip {
        /// `[d]`
        vector: &'a [f32],
    },
    /// A like to be predicted: the current input is an example.
    Predict,
    /// A like among earlier ones, to be predicted from all the others. Requires a tower whose only
    /// decay is 1.
    PredictFromOthers {
        /// `[d]`
        vector: &'a [f32],
        /// Column of the video among the step's items.
        row: usize,
    },
}

/// Follows `steps` from `state` on. Writes one input row `[x]` per example into `x`, and into
/// `factors` `[examples, k]` for each scale of likes the factor 1 / (sum of weights) at that
/// moment, which [`backward`] needs.
pub(super) fn forward<'a>(
    tower: &UserTower,
    mut state: HistoryState,
    steps: impl Iterator<Item = Step<'a>>,
    x: &mut [f32],
    factors: &mut [f32],
) {
    let scales = tower.decays.len();
    let mut rows = x
        .chunks_exact_mut(tower.inputs())
        .zip(factors.chunks_exact_mut(scales));
    for step in steps {
        match step {
            Step::Like { vector, .. } => state.like(tower, vector),
            Step::Skip { vector } => state.skip(tower, vector),
            Step::Predict => {
                if let Some((x, factors)) = rows.next() {
                    state.input(x);
                    for (scale, factor) in factors.iter_mut().enumerate() {
                        *factor = state.factor(scale);
                    }
                }
            }
            Step::PredictFromOthers { vector, .. } => {
                if let Some((x, factors)) = rows.next() {
                    let others = state.without(vector);
                    others.input(x);
                    factors.fill(others.factor(0));
                }
            }
        }
    }
}

/// Follows `steps` backward, from the gradients `dx` `[examples, x]` of the inputs to those of the
/// liked vectors. Calls `add(row, gradient)` from the last like to the first.
///
/// With sums S ← δ S + v and input S / w, the gradient of a liked vector is the running sum G of
/// the gradients of all later inputs, each divided by its w and decayed by δ for every like in
/// between.
pub(super) fn backward<'a>(
    tower: &UserTower,
    steps: impl DoubleEndedIterator<Item = Step<'a>>,
    dx: &[f32],
    factors: &[f32],
    mut add: impl FnMut(usize, &[f32]),
) {
    let (scales, dim) = (tower.decays.len(), tower.dim());
    let mut rows = dx
        .chunks_exact(tower.inputs())
        .zip(factors.chunks_exact(scales))
        .rev();
    let mut sums = vec![0.0; scales * dim];
    let mut total = vec![0.0; dim];
    for step in steps.rev() {
        match step {
            Step::Predict => {
                if let Some((dx, factors)) = rows.next() {
                    for ((sum, dx), &factor) in sums
                        .chunks_exact_mut(dim)
                        .zip(dx.chunks_exact(dim))
                        .zip(factors)
                    {
                        kernel::axpy(factor, dx, sum);
                    }
                }
            }
            Step::Like { row, .. } => {
                total.fill(0.0);
                for (sum, &decay) in sums.chunks_exact_mut(dim).zip(&tower.decays) {
                    for (total, sum) in total.iter_mut().zip(sum) {
                        *total += *sum;
                        *sum *= decay;
                    }
                }
                add(row, &total);
            }
            Step::PredictFromOthers { row, .. } => {
                if let Some((dx, factors)) = rows.next() {
                    total.fill(0.0);
                    kernel::axpy(-factors[0], &dx[..dim], &mut total);
                    add(row, &total);
                    kernel::axpy(factors[0], &dx[..dim], &mut sums);
                }
            }
            Step::Skip { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::tower::{Dense, Head};
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    const SKIPPED: [f32; 3] = [0.3, -0.2, 0.6];

    /// A like, then a prediction before each further like, and a skip somewhere between.
    fn script(vectors: &[f32]) -> Vec<Step<'_>> {
        let mut script = Vec::new();
        for (row, vector) in vectors.chunks_exact(3).enumerate() {
            if row > 0 {
                script.push(Step::Predict);
            }
            script.push(Step::Like { vector, row });
            if row == 2 {
                script.push(Step::Skip { vector: &SKIPPED });
            }
        }
        script
    }

    /// All likes, then a prediction of each from the others.
    fn unordered_script(vectors: &[f32]) -> Vec<Step<'_>> {
        let rows = || vectors.chunks_exact(3).enumerate();
        let likes = rows().map(|(row, vector)| Step::Like { vector, row });
        let examples = rows().skip(1);
        likes
            .chain(examples.map(|(row, vector)| Step::PredictFromOthers { vector, row }))
            .collect()
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        check(&[0.0, 0.5, 1.0], script);
        check(&[1.0], unordered_script);
    }

    fn check(decays: &[f32], script: fn(&[f32]) -> Vec<Step<'_>>) {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let (dim, likes) = (3, 6);
        let head = Head {
            output: Dense {
                weight: Matrix::zeros(1, dim),
                bias: vec![0.0; dim],
            },
            ..Head::default()
        };
        let tower = UserTower {
            decays: decays.to_vec(),
            skip_decay: 0.9,
            head,
        };
        let mut vectors: Vec<f32> = (0..likes * dim)
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        let before: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
        let weights: Vec<f32> = (0..(likes - 1) * tower.inputs())
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        let value = |vectors: &[f32]| -> (f64, Vec<f32>) {
            let mut x = vec![0.0; (likes - 1) * tower.inputs()];
            let mut factors = vec![0.0; (likes - 1) * tower.decays.len()];
            let mut state = tower.empty_history();
            state.like(&tower, &before);
            forward(
                &tower,
                state,
                script(vectors).into_iter(),
                &mut x,
                &mut factors,
            );
            (
                x.iter()
                    .zip(&weights)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum(),
                factors,
            )
        };
        let (_, factors) = value(&vectors);
        let mut gradients = vec![0.0; likes * dim];
        backward(
            &tower,
            script(&vectors).into_iter(),
            &weights,
            &factors,
            |row, gradient| {
                kernel::axpy(1.0, gradient, &mut gradients[row * dim..(row + 1) * dim]);
            },
        );
        for i in 0..vectors.len() {
            let mut at = |delta: f32| {
                vectors[i] += delta;
                let value = value(&vectors).0;
                vectors[i] -= delta;
                value
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!(
                (numeric - f64::from(gradients[i])).abs() < 1e-3,
                "component {i}: {numeric} against {}",
                gradients[i]
            );
        }
    }
}
