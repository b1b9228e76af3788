use crate::kernel;

/// The least-squares problem of one row of a factorisation, (G + Σ yᵢ yᵢᵀ + λ I) x = Σ yᵢ, solved
/// by conjugate gradients without forming the matrix (Takács, Pilászy & Tikk, Recommender Systems
/// 2011).
pub(super) struct Problem<'a> {
    /// G, symmetric, `[d, d]`.
    pub gram: &'a [f32],
    /// Factors `[n, d]`; the yᵢ are the rows in `observed`.
    pub factors: &'a [f32],
    /// Regularisation λ, positive.
    pub regularisation: f32,
}

/// The iteration ends when residuals are below this share of the right-hand side.
const TOLERANCE: f32 = 1e-5;

impl Problem<'_> {
    /// Improves `x` `[d]` by at most `steps` steps.
    pub(super) fn solve(
        &self,
        observed: &(impl Iterator<Item = u32> + Clone),
        x: &mut [f32],
        steps: usize,
    ) {
        let dim = x.len();
        let row = |item: u32| &self.factors[item as usize * dim..(item as usize + 1) * dim];
        let multiply = |v: &[f32], out: &mut [f32]| {
            for ((out, gram), &v_i) in out.iter_mut().zip(self.gram.chunks_exact(dim)).zip(v) {
                *out = kernel::dot(gram, v) + self.regularisation * v_i;
            }
            for item in observed.clone() {
                kernel::axpy(kernel::dot(row(item), v), row(item), out);
            }
        };
        let mut residual = vec![0.0; dim];
        for item in observed.clone() {
            kernel::axpy(1.0, row(item), &mut residual);
        }
        let enough = TOLERANCE * TOLERANCE * kernel::dot(&residual, &residual);
        let mut product = vec![0.0; dim];
        multiply(x, &mut product);
        kernel::axpy(-1.0, &product, &mut residual);
        let mut direction = residual.clone();
        let mut error = kernel::dot(&residual, &residual);
        for _ in 0..steps {
            multiply(&direction, &mut product);
            let curvature = kernel::dot(&direction, &product);
            // Strong regularisation drives all factors towards zero: stop before the numbers lose
            // their precision.
            if error <= enough || curvature < f32::MIN_POSITIVE {
                break;
            }
            let length = error / curvature;
            kernel::axpy(length, &direction, x);
            kernel::axpy(-length, &product, &mut residual);
            let next = kernel::dot(&residual, &residual);
            for (direction, residual) in direction.iter_mut().zip(&residual) {
                *direction = residual + next / error * *direction;
            }
            error = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solution_solves() {
        let factors = [1.0, 0.5, -0.25, 2.0, 0.0, 1.0];
        let problem = Problem {
            gram: &[2.0, 0.5, 0.5, 1.0],
            factors: &factors,
            regularisation: 0.1,
        };
        let mut x = [0.0; 2];
        problem.solve(&[0u32, 2].into_iter(), &mut x, 2);
        // A = G + y₀y₀ᵀ + y₂y₂ᵀ + λ I, b = y₀ + y₂
        let left = [3.1 * x[0] + 1.0 * x[1], 1.0 * x[0] + 2.35 * x[1]];
        assert!((left[0] - 1.0).abs() < 1e-5 && (left[1] - 1.5).abs() < 1e-5);
    }

    #[test]
    fn vanishing_factors_stay_finite() {
        let problem = Problem {
            gram: &[0.0; 4],
            factors: &[1e-30; 2],
            regularisation: 1.0,
        };
        let mut x = [1e-30; 2];
        problem.solve(&[0u32].into_iter(), &mut x, 5);
        assert!(x.iter().all(|x| x.is_finite()));
    }
}
