//! Forward with dropout and backward of a tower's [`Head`], by hand, in tiles of rows.

use crate::kernel::{self, View};
use crate::scratch;
use crate::tower::{Head, MIN_NORM};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

/// At most this many rows per task, and this many rows of a weight per task that computes its
/// gradient. Fixed, so that every sum has the same order with any number of threads.
const TILE: usize = 128;

/// Where nothing else decides about their number, tiles come in multiples of this, so that two or
/// four threads get equal shares.
const TILES_TOGETHER: usize = 4;

/// Parameters of dropout: rates, and a seed for each step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dropout {
    /// Share of inputs set to zero.
    pub(super) input: f32,
    /// Share of hidden units set to zero.
    pub(super) hidden: f32,
    /// Seed of this step.
    pub(super) seed: u64,
}

impl Dropout {
    /// Rows per tile for n rows in all. With dropout each tile has its own random numbers, so that
    /// the size is fixed.
    fn tile(self, n: usize) -> usize {
        if self.input > 0.0 || self.hidden > 0.0 {
            return TILE;
        }
        let tiles = n.div_ceil(TILE).max(1).next_multiple_of(TILES_TOGETHER);
        // The matrix product takes eight rows at a time.
        n.div_ceil(tiles).max(1).next_multiple_of(8)
    }

    /// Random numbers of one tile. Inputs take theirs first.
    fn random(self, tile: usize) -> Pcg64Mcg {
        Pcg64Mcg::seed_from_u64(self.seed.wrapping_add(tile as u64))
    }
}

/// Results of a forward pass over n rows that the backward pass needs.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadPass {
    /// Inputs `[n, x]`, filled by the caller; dropout is applied in place.
    pub(super) x: Vec<f32>,
    /// Pre-activations `[n, h]`; later the factors of the backward pass, GELU' times dropout.
    slopes: Vec<f32>,
    /// Activations after dropout `[n, h]`.
    y: Vec<f32>,
    /// Outputs `[n, d]`, unit norm.
    pub(super) out: Vec<f32>,
    /// Norms before normalising `[n]`, at least [`MIN_NORM`]. Rows at that minimum pass no
    /// gradient.
    norms: Vec<f32>,
    /// Gradient with respect to z `[n, d]`.
    dz: Vec<f32>,
    /// Gradient with respect to pre-activations `[n, h]`.
    da: Vec<f32>,
    /// Gradient with respect to x before dropout `[n, x]`.
    pub(super) dx: Vec<f32>,
    /// W₁ᵀ, W₂ᵀ and W₃ᵀ, which each tile would otherwise compute again.
    transposes: [Vec<f32>; 3],
}

/// Gradients of a head's weights, in the order of [`weights`].
pub(super) type HeadGradients = [Vec<f32>; 5];

/// The weights of a head, in the order of [`HeadGradients`]: W₁, b₁, W₂, b₂, W₃.
pub(super) fn weights(head: &mut Head) -> [&mut [f32]; 5] {
    [
        head.hidden.weight.as_mut_slice(),
        &mut head.hidden.bias,
        head.output.weight.as_mut_slice(),
        &mut head.output.bias,
        head.residual.as_mut_slice(),
    ]
}

/// Zeros in the shapes of `head`.
pub(super) fn zero_gradients(head: &mut Head) -> HeadGradients {
    weights(head).map(|weight| vec![0.0; weight.len()])
}

/// Multiplies each number by 0 with probability `rate`, else by 1 / (1 - rate), and the numbers of
/// `also`, of equal length, by the same factors.
fn drop(rate: f32, random: &mut Pcg64Mcg, values: &mut [f32], mut also: Option<&mut [f32]>) {
    // One random byte per number.
    let threshold = (rate * 256.0).round();
    let keep = 256.0 / (256.0 - threshold);
    let mut bytes = [0; 1024];
    for (n, values) in values.chunks_mut(bytes.len()).enumerate() {
        random.fill_bytes(&mut bytes);
        kernel::drop_out(values, &bytes, threshold as u32, keep);
        if let Some(also) = &mut also {
            let also = &mut also[n * bytes.len()..][..values.len()];
            kernel::drop_out(also, &bytes, threshold as u32, keep);
        }
    }
}

impl HeadPass {
    /// Resizes the buffers to `n` rows. The caller fills `x`.
    pub(super) fn resize(&mut self, head: &Head, n: usize) {
        let (x, h, d) = (head.inputs(), head.hidden_units(), head.outputs());
        for (buffer, len) in [
            (&mut self.x, n * x),
            (&mut self.slopes, n * h),
            (&mut self.y, n * h),
            (&mut self.out, n * d),
            (&mut self.norms, n),
            (&mut self.dz, n * d),
            (&mut self.da, n * h),
            (&mut self.dx, n * x),
        ] {
            scratch::resize(buffer, len);
        }
    }

    /// Computes `out` from `x`.
    pub(super) fn forward(&mut self, head: &Head, dropout: Dropout) {
        let (x, h, d) = (head.inputs(), head.hidden_units(), head.outputs());
        let rows = dropout.tile(self.norms.len());
        self.x
            .par_chunks_mut(rows * x)
            .zip(self.slopes.par_chunks_mut(rows * h))
            .zip(self.y.par_chunks_mut(rows * h))
            .zip(self.out.par_chunks_mut(rows * d))
            .zip(self.norms.par_chunks_mut(rows))
            .enumerate()
            .for_each(|(tile, ((((x, slopes), y), out), norms))| {
                let mut random = dropout.random(tile);
                if dropout.input > 0.0 {
                    drop(dropout.input, &mut random, x, None);
                }
                head.hidden.forward(x, slopes);
                kernel::gelu(slopes, y);
                if dropout.hidden > 0.0 {
                    drop(dropout.hidden, &mut random, y, Some(slopes));
                }
                head.project(x, y, out, norms);
            });
    }

    /// Computes `dx` from the gradient `dout` `[n, d]` with respect to `out`. `dropout` is that of
    /// the forward pass.
    pub(super) fn backward(&mut self, head: &Head, dropout: Dropout, dout: &[f32]) {
        let (x, h, d) = (head.inputs(), head.hidden_units(), head.outputs());
        let rows = dropout.tile(self.norms.len());
        let weights = [&head.hidden.weight, &head.output.weight, &head.residual];
        let transposes = weights.into_par_iter().zip(&mut self.transposes);
        transposes.for_each(|(weight, into)| {
            kernel::transpose(weight.as_slice(), weight.cols(), into);
        });
        let [hidden, output, residual] = &self.transposes;
        self.dz
            .par_chunks_mut(rows * d)
            .zip(self.da.par_chunks_mut(rows * h))
            .zip(self.dx.par_chunks_mut(rows * x))
            .zip(self.slopes.par_chunks(rows * h))
            .zip(dout.par_chunks(rows * d))
            .zip(self.out.par_chunks(rows * d))
            .zip(self.norms.par_chunks(rows))
            .enumerate()
            .for_each(|(tile, ((((((dz, da), dx), slopes), dout), out), norms))| {
                for (((dz, dout), out), norm) in dz
                    .chunks_exact_mut(d)
                    .zip(dout.chunks_exact(d))
                    .zip(out.chunks_exact(d))
                    .zip(norms)
                {
                    // The output of an input of zeros: no direction is better than another, and a
                    // division by so small a norm would give a huge gradient.
                    if *norm <= MIN_NORM {
                        dz.fill(0.0);
                        continue;
                    }
                    // v = z / ‖z‖, hence dz = (dv - v ⟨v, dv⟩) / ‖z‖.
                    let along = kernel::dot(out, dout);
                    for ((dz, dout), out) in dz.iter_mut().zip(dout).zip(out) {
                        *dz = (dout - along * out) / norm;
                    }
                }
                kernel::gemm(1.0, View::rows(dz, d), View::rows(output, h), 0.0, da);
                for (da, slope) in da.iter_mut().zip(slopes) {
                    *da *= slope;
                }
                kernel::gemm(1.0, View::rows(da, h), View::rows(hidden, x), 0.0, dx);
                kernel::gemm(1.0, View::rows(dz, d), View::rows(residual, x), 1.0, dx);
                if dropout.input > 0.0 {
                    // The same random bytes as in the forward pass.
                    drop(dropout.input, &mut dropout.random(tile), dx, None);
                }
            });
    }

    /// Computes the gradients of the weights. Call it after [`HeadPass::backward`].
    pub(super) fn weight_gradients(&self, head: &Head, gradients: &mut HeadGradients) {
        let (x, h, d) = (head.inputs(), head.hidden_units(), head.outputs());
        let [w1, b1, w2, b2, w3] = gradients;
        let products = [
            (w1, &self.x, x, &self.da, h),
            (w2, &self.y, h, &self.dz, d),
            (w3, &self.x, x, &self.dz, d),
        ];
        let products = products
            .into_par_iter()
            .flat_map(|(gradient, left, rows, right, cols)| {
                let tiles = gradient.par_chunks_mut(TILE * cols).enumerate();
                tiles.map(move |(tile, gradient)| {
                    (
                        gradient,
                        View::rows(left, rows),
                        tile,
                        View::rows(right, cols),
                        cols,
                    )
                })
            });
        let sum_products = || {
            products.for_each(|(gradient, left, tile, right, cols)| {
                kernel::gemm(
                    1.0,
                    left.columns(tile * TILE, gradient.len() / cols).t(),
                    right,
                    0.0,
                    gradient,
                );
            });
        };
        let sum_rows = || {
            for (bias, rows) in [(b1, &self.da), (b2, &self.dz)] {
                bias.fill(0.0);
                for row in rows.chunks_exact(bias.len()) {
                    kernel::axpy(1.0, row, bias);
                }
            }
        };
        rayon::join(sum_products, sum_rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::tower::Dense;
    use rand::RngExt;

    fn random_head(random: &mut Pcg64Mcg) -> Head {
        let mut head = Head {
            hidden: Dense {
                weight: Matrix::zeros(5, 7),
                bias: vec![0.0; 7],
            },
            output: Dense {
                weight: Matrix::zeros(7, 3),
                bias: vec![0.0; 3],
            },
            residual: Matrix::zeros(5, 3),
        };
        for weight in weights(&mut head) {
            weight.fill_with(|| random.random_range(-0.7..0.7));
        }
        head
    }

    /// Σ ⟨out, target⟩, whose gradient with respect to out is `target`.
    fn objective(head: &Head, x: &[f32], target: &[f32], dropout: Dropout) -> f64 {
        let mut pass = HeadPass::default();
        pass.resize(head, target.len() / 3);
        pass.x.copy_from_slice(x);
        pass.forward(head, dropout);
        pass.out
            .iter()
            .zip(target)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for dropout in [
            Dropout::default(),
            Dropout {
                input: 0.3,
                hidden: 0.4,
                seed: 5,
            },
        ] {
            let mut random = Pcg64Mcg::seed_from_u64(3);
            let mut head = random_head(&mut random);
            let mut x: Vec<f32> = (0..70 * 5)
                .map(|_| random.random_range(-1.0..1.0))
                .collect();
            let target: Vec<f32> = (0..70 * 3)
                .map(|_| random.random_range(-1.0..1.0))
                .collect();
            let mut pass = HeadPass::default();
            pass.resize(&head, 70);
            pass.x.copy_from_slice(&x);
            pass.forward(&head, dropout);
            let mut gradients = zero_gradients(&mut head);
            pass.backward(&head, dropout, &target);
            pass.weight_gradients(&head, &mut gradients);
            let step = 1e-2;
            let check = |numeric: f64, analytic: f32, what: &str| {
                let error = (numeric - f64::from(analytic)).abs();
                assert!(
                    error < 2e-3 * (1.0 + numeric.abs()),
                    "{what}: {numeric} against {analytic}"
                );
            };
            for (layer, gradient) in gradients.iter().enumerate() {
                for (i, &analytic) in gradient.iter().enumerate() {
                    let mut at = |delta: f32| {
                        weights(&mut head)[layer][i] += delta;
                        let value = objective(&head, &x, &target, dropout);
                        weights(&mut head)[layer][i] -= delta;
                        value
                    };
                    let numeric = (at(step) - at(-step)) / (2.0 * f64::from(step));
                    check(numeric, analytic, &format!("layer {layer}, weight {i}"));
                }
            }
            for i in (0..x.len()).step_by(7) {
                let mut at = |delta: f32| {
                    x[i] += delta;
                    let value = objective(&head, &x, &target, dropout);
                    x[i] -= delta;
                    value
                };
                let numeric = (at(step) - at(-step)) / (2.0 * f64::from(step));
                check(numeric, pass.dx[i], &format!("input {i}"));
            }
        }
    }

    /// A video without id, terms or numbers, in a step with other videos: its gradient is zero, and
    /// the others do not change.
    #[test]
    fn what_has_no_length_passes_no_gradient_back() {
        let mut random = Pcg64Mcg::seed_from_u64(4);
        let mut head = random_head(&mut random);
        head.hidden.bias.fill(0.0);
        head.output.bias.fill(0.0);
        let x: Vec<f32> = (0..5).map(|_| random.random_range(-1.0..1.0)).collect();
        let (zeros, target) = ([0.0; 5], [0.5, -0.3, 0.2]);
        let mut gradients_of = |x: &[f32], dout: &[f32]| {
            let mut pass = HeadPass::default();
            pass.resize(&head, dout.len() / 3);
            pass.x.copy_from_slice(x);
            pass.forward(&head, Dropout::default());
            pass.backward(&head, Dropout::default(), dout);
            let mut gradients = zero_gradients(&mut head);
            pass.weight_gradients(&head, &mut gradients);
            (pass.dx, gradients)
        };
        let (dx, alone) = gradients_of(&x, &target);
        let both = [&x[..], &zeros].concat();
        let (dx_both, with_zeros) = gradients_of(&both, &[target, target].concat());
        let expected = [&dx[..], &zeros].concat();
        let all = |dx: Vec<f32>, gradients: &HeadGradients| [&[dx][..], gradients].concat();
        let expected = all(expected, &alone);
        let found = all(dx_both, &with_zeros);
        for (expected, found) in expected.iter().flatten().zip(found.iter().flatten()) {
            assert!((expected - found).abs() < 1e-6, "{expected} {found}");
        }
        assert!(alone.iter().flatten().any(|gradient| gradient.abs() > 0.01));
    }
}
