use crate::kernel::{self, View};
use crate::matrix::Matrix;
use crate::tensors::{Tensor, matrix, vector};

/// y = x W + b with `weight` W `[inputs, outputs]` and `bias` b `[outputs]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dense {
    /// `[inputs, outputs]`
    pub weight: Matrix,
    /// `[outputs]`
    pub bias: Vec<f32>,
}

impl Dense {
    /// All weights zero.
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        Self {
            weight: Matrix::zeros(inputs, outputs),
            bias: vec![0.0; outputs],
        }
    }

    /// Writes x W + b for `x` `[n, inputs]` into `y` `[n, outputs]`.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        for row in y.chunks_exact_mut(self.bias.len()) {
            row.copy_from_slice(&self.bias);
        }
        kernel::gemm(1.0, View::rows(x, self.weight.rows()), &self.weight, 1.0, y);
    }
}

/// The upper part, which has the same form in both towers but its own weights in each: z = GELU(x
/// W₁ + b₁) W₂ + b₂ + x W₃, and the output is z / max(‖z‖, [`MIN_NORM`]).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Head {
    /// W₁ `[x, h]`, b₁ `[h]`
    pub hidden: Dense,
    /// W₂ `[h, d]`, b₂ `[d]`
    pub output: Dense,
    /// W₃ `[x, d]`
    pub residual: Matrix,
}

/// GELU in its sigmoid approximation is x σ(1.702 x) (Hendrycks & Gimpel 2016, section 2).
pub const GELU_SLOPE: f32 = 1.702;

/// Smaller norms count as this one, so that there is no division by zero.
pub const MIN_NORM: f32 = 1e-6;

impl Head {
    /// All weights zero: x inputs, h hidden units, d outputs.
    pub fn zeros(inputs: usize, hidden: usize, outputs: usize) -> Self {
        Self {
            hidden: Dense::zeros(inputs, hidden),
            output: Dense::zeros(hidden, outputs),
            residual: Matrix::zeros(inputs, outputs),
        }
    }

    /// Every weight with its name, which begins with that of the `tower`, and its shape, in the
    /// order of the file.
    pub(crate) fn tensors_mut(&mut self, tower: &str) -> [Tensor<'_>; 5] {
        let name = |layer: &str| format!("{tower}.{layer}");
        [
            matrix(name("hidden.weight"), &mut self.hidden.weight),
            vector(name("hidden.bias"), &mut self.hidden.bias),
            matrix(name("output.weight"), &mut self.output.weight),
            vector(name("output.bias"), &mut self.output.bias),
            matrix(name("residual"), &mut self.residual),
        ]
    }

    /// Length of x.
    pub fn inputs(&self) -> usize {
        self.residual.rows()
    }

    /// Number of hidden units h.
    pub fn hidden_units(&self) -> usize {
        self.hidden.bias.len()
    }

    /// Length d of the output.
    pub fn outputs(&self) -> usize {
        self.output.bias.len()
    }

    /// Embeds x `[n, x]` into `out` `[n, d]`, rows of unit norm.
    pub fn embed(&self, x: &[f32], out: &mut [f32]) {
        let n = out.len() / self.outputs();
        if n == 1 {
            return self.embed_one(x, out);
        }
        let mut y = vec![0.0; n * self.hidden_units()];
        self.hidden.forward(x, &mut y);
        for y in &mut y {
            *y *= kernel::sigmoid(GELU_SLOPE * *y);
        }
        self.project(x, &y, out, &mut vec![0.0; n]);
    }

    /// Embeds one x `[x]`. A matrix product would copy the weights first, which takes longer than
    /// using them once.
    fn embed_one(&self, x: &[f32], out: &mut [f32]) {
        let product = |(rows, x): (&[u32], &[f32]), weight: &Matrix, y: &mut [f32]| {
            kernel::weighted_sum(weight.into(), rows, x, y);
        };
        // Some inputs are 0 for users without skips.
        let (rows, x) = nonzero(x);
        let mut y = vec![0.0; self.hidden_units()];
        product((&rows, &x), &self.hidden.weight, &mut y);
        for (y, bias) in y.iter_mut().zip(&self.hidden.bias) {
            *y += bias;
            *y *= kernel::sigmoid(GELU_SLOPE * *y);
        }
        product((&rows, &x), &self.residual, out);
        let units: Vec<u32> = (0..y.len() as u32).collect();
        let mut projected = vec![0.0; out.len()];
        product((&units, &y), &self.output.weight, &mut projected);
        for ((out, projected), bias) in out.iter_mut().zip(projected).zip(&self.output.bias) {
            *out += projected + bias;
        }
        let scale = 1.0 / kernel::dot(out, out).sqrt().max(MIN_NORM);
        for x in out {
            *x *= scale;
        }
    }

    /// The second half: from x `[n, x]` and activations `y` `[n, h]` to outputs `[n, d]` of unit
    /// norm and their previous `norms` `[n]`. It is separate because training drops hidden units
    /// before it.
    pub(crate) fn project(&self, x: &[f32], y: &[f32], out: &mut [f32], norms: &mut [f32]) {
        self.output.forward(y, out);
        kernel::gemm(1.0, View::rows(x, self.inputs()), &self.residual, 1.0, out);
        for (row, norm) in out.chunks_exact_mut(self.outputs()).zip(norms) {
            *norm = kernel::dot(row, row).sqrt().max(MIN_NORM);
            let scale = 1.0 / *norm;
            for x in row {
                *x *= scale;
            }
        }
    }
}

/// Positions of the numbers that are not 0, and the numbers. Without branches, which would take
/// twice as long.
fn nonzero(x: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let (mut places, mut numbers) = (vec![0; x.len()], vec![0.0; x.len()]);
    let mut found = 0;
    for (place, &number) in (0..).zip(x) {
        places[found] = place;
        numbers[found] = number;
        found += usize::from(number != 0.0);
    }
    places.truncate(found);
    numbers.truncate(found);
    (places, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zeros_are_left_out() {
        let x = [0.0, 1.5, -0.0, 0.0, f32::MIN_POSITIVE, -3.0, 0.0];
        let expected = (vec![1, 4, 5], vec![1.5, f32::MIN_POSITIVE, -3.0]);
        assert_eq!(nonzero(&x), expected);
        assert_eq!(nonzero(&[0.0]), (vec![], vec![]));
        assert_eq!(nonzero(&[2.0]), (vec![0], vec![2.0]));
    }
}
