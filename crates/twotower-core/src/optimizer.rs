//! Optimisers: row-wise Adagrad for tables, of which a step changes few rows, and Adam for dense
//! layers.

use crate::kernel::{self, AdamStep, Rows, TablePart, Uses};
use crate::matrix::Matrix;
use rayon::prelude::*;

/// Rows that one task updates.
const ROWS_PER_TASK: usize = 256;

/// Adagrad (Duchi, Hazan & Singer 2011) with one accumulator per row: the sum of the mean squares
/// of its gradients, as in Facebook's DLRM (Naumov et al. 2019). This takes 4 bytes of state per
/// row instead of 4 d.
#[derive(Debug, Clone)]
pub struct RowAdagrad {
    accumulators: Vec<f32>,
    learning_rate: f32,
    rate_factor: f32,
}

impl RowAdagrad {
    /// For a table `[rows, d]`.
    pub fn new(rows: usize, learning_rate: f32) -> Self {
        Self {
            accumulators: vec![0.0; rows],
            learning_rate,
            rate_factor: 1.0,
        }
    }

    /// Sets the learning rate to `factor` times the one given to `new`.
    pub fn set_rate_factor(&mut self, factor: f32) {
        self.rate_factor = factor;
    }

    /// The accumulators, `[rows]`.
    pub fn accumulators_mut(&mut self) -> &mut [f32] {
        &mut self.accumulators
    }

    /// Updates the rows of `table` that `uses` names. The gradient of each is the weighted sum of
    /// its sources among `gradients`. It is computed when the row is updated, so that it stays in
    /// the cache.
    pub fn step(&mut self, table: &mut Matrix, uses: Uses<'_>, gradients: Rows<'_>) {
        let dim = table.cols();
        let rate = self.learning_rate * self.rate_factor;
        let mut left: (&mut [f32], &mut [f32]) = (table.as_mut_slice(), &mut self.accumulators);
        let mut first = 0;
        // Split the table behind the last row of each task, so that each row belongs to one task.
        let mut parts = Vec::with_capacity(uses.rows.len().div_ceil(ROWS_PER_TASK));
        for uses in uses.chunks(ROWS_PER_TASK) {
            let end = uses.rows.last().map_or(first, |&row| row as usize + 1);
            let (parameters, parameters_left) = left.0.split_at_mut((end - first) * dim);
            let (accumulators, accumulators_left) = left.1.split_at_mut(end - first);
            let part = TablePart {
                first,
                parameters,
                accumulators,
            };
            parts.push((part, uses));
            left = (parameters_left, accumulators_left);
            first = end;
        }
        let parts = parts.into_par_iter();
        parts.for_each_init(
            || vec![0.0; dim],
            |sum, (part, uses)| kernel::adagrad(part, uses, gradients, rate, sum),
        );
    }
}

/// Parameters that one task of Adam updates.
const PARAMETERS_PER_TASK: usize = 1 << 14;

/// Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019).
#[derive(Debug, Clone)]
pub struct Adam {
    moments: Vec<(Vec<f32>, Vec<f32>)>,
    learning_rate: f32,
    rate_factor: f32,
    weight_decay: f32,
    steps: i32,
}

impl Adam {
    const BETA1: f32 = 0.9;
    const BETA2: f32 = 0.999;

    /// For layers of these numbers of parameters.
    pub fn new(
        sizes: impl IntoIterator<Item = usize>,
        learning_rate: f32,
        weight_decay: f32,
    ) -> Self {
        let moments = sizes
            .into_iter()
            .map(|n| (vec![0.0; n], vec![0.0; n]))
            .collect();
        Self {
            moments,
            learning_rate,
            rate_factor: 1.0,
            weight_decay,
            steps: 0,
        }
    }

    /// Sets the learning rate to `factor` times the one given to `new`.
    pub fn set_rate_factor(&mut self, factor: f32) {
        self.rate_factor = factor;
    }

    /// Number of steps so far.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// Sets the number of steps so far.
    pub fn set_steps(&mut self, steps: i32) {
        self.steps = steps;
    }

    /// First and second moments of each layer, in the order and of the sizes of [`Adam::new`].
    pub fn moments_mut(&mut self) -> &mut [(Vec<f32>, Vec<f32>)] {
        &mut self.moments
    }

    /// One step for all layers: the parameters and the gradient of each, in the order and of the
    /// sizes of [`Adam::new`].
    pub fn step(&mut self, layers: Vec<(&mut [f32], &[f32])>) {
        self.steps += 1;
        let learning_rate = self.learning_rate * self.rate_factor;
        let step = AdamStep {
            beta1: Self::BETA1,
            beta2: Self::BETA2,
            rate: learning_rate / (1.0 - Self::BETA1.powi(self.steps)),
            second_correction: 1.0 / (1.0 - Self::BETA2.powi(self.steps)),
            decay: learning_rate * self.weight_decay,
        };
        let layers = layers.into_par_iter().zip(&mut self.moments);
        let parts = layers.flat_map(|((parameters, gradient), (first, second))| {
            let parameters = parameters.par_chunks_mut(PARAMETERS_PER_TASK);
            parameters
                .zip(gradient.par_chunks(PARAMETERS_PER_TASK))
                .zip(first.par_chunks_mut(PARAMETERS_PER_TASK))
                .zip(second.par_chunks_mut(PARAMETERS_PER_TASK))
        });
        parts.for_each(|(((parameters, gradient), first), second)| {
            kernel::adam(parameters, (first, second), gradient, step);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adagrad_touches_named_rows_only_and_shrinks_its_steps() {
        let mut table = Matrix::zeros(4, 2);
        let mut adagrad = RowAdagrad::new(4, 0.1);
        let gradients = Rows {
            data: &[1.0, 1.0, 2.0, 0.0],
            stride: 2,
            offset: 0,
        };
        let uses = Uses {
            rows: &[1, 3],
            ends: &[1, 2],
            begin: 0,
            sources: &[0, 1],
            weights: &[1.0, 1.0],
        };
        adagrad.step(&mut table, uses, gradients);
        assert_eq!(table.row(0), [0.0, 0.0]);
        assert_eq!(table.row(2), [0.0, 0.0]);
        assert!(
            (table.row(1)[0] + 0.1).abs() < 1e-6,
            "the first step is the learning rate times the sign"
        );
        assert!((table.row(3)[0] + 0.1 * 2.0_f32.sqrt()).abs() < 1e-6);
        let first_again = uses.chunks(1).next().unwrap();
        adagrad.step(&mut table, first_again, gradients);
        assert!((table.row(1)[0] + 0.1 + 0.1 / 2.0_f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn adam_first_step_is_the_learning_rate() {
        let mut adam = Adam::new([2], 0.01, 0.0);
        let mut parameters = [1.0, 1.0];
        adam.step(vec![(&mut parameters, &[3.0, -0.5])]);
        assert!((parameters[0] - 0.99).abs() < 1e-5 && (parameters[1] - 1.01).abs() < 1e-5);
    }
}
