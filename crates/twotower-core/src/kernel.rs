//! The inner loops: matrix product, inner product, products of byte codes, exponential, steps of
//! optimisers.
//!
//! Each loop is written once, as plain safe code, and compiled for the target's baseline, for AVX2
//! and for AVX-512. One of the three is chosen at run time. No operation is reordered or fused
//! between them, so that their results agree to the bit; a property test compares them. Two loops
//! are written with intrinsics: the matrix product for AVX-512, and the products of codes.

#![expect(
    clippy::inline_always,
    reason = "a body must be compiled inside the function that enables the instructions"
)]
#![expect(
    unsafe_code,
    reason = "the one place of it: loads and stores of registers, calls of code for instructions that were detected"
)]

mod codes;
mod prefetch;
mod product;
pub mod scalar;
mod view;

use crate::matrix::Matrix;
use crate::scratch;
use rayon::prelude::*;

pub use codes::{CODE_BLOCK, CODES_AHEAD, code_products, code_products_at};
pub use prefetch::{CACHE_LINE, prefetch};
pub use product::gemm;
pub use view::View;

/// Defines a kernel from its body in [`scalar`]: the function dispatches, and tests compare it with
/// the body.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        $(#[$doc])*
        pub fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    scalar::$name($($argument),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    scalar::$name($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the only requirement is the feature, which was just detected.
                    return unsafe { avx512($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the only requirement is the feature, which was just detected.
                    return unsafe { avx2($($argument),*) };
                }
            }
            scalar::$name($($argument),*)
        }
    };
}

const LANES: usize = 8;

/// Writes the transpose of `rows` `[n, cols]` into `into` `[cols, n]`, on the current rayon pool.
pub fn transpose(rows: &[f32], cols: usize, into: &mut Vec<f32>) {
    // The numbers of one cache line: each task takes this many columns, and this many rows at a
    // time.
    const BLOCK: usize = CACHE_LINE / size_of::<f32>();
    let n = rows.len() / cols;
    scratch::resize(into, rows.len());
    let tasks = into.par_chunks_mut((n * BLOCK).max(1)).enumerate();
    tasks.for_each(|(task, into)| {
        let columns = task * BLOCK..(task * BLOCK + BLOCK).min(cols);
        for (block, block_rows) in rows.chunks(BLOCK * cols).enumerate() {
            let next = rows.get((block + 1) * BLOCK * cols..).unwrap_or_default();
            for row in next.chunks_exact(cols).take(BLOCK) {
                prefetch(&row[columns.clone()]);
            }
            for (to, column) in into.chunks_exact_mut(n).zip(columns.clone()) {
                let to = to[block * BLOCK..].iter_mut();
                for (to, row) in to.zip(block_rows.chunks_exact(cols)) {
                    *to = row[column];
                }
            }
        }
    });
}

kernel! {
    /// Inner product of two slices of equal length (the shorter counts), summed in eight lanes.
    dot(a: &[f32], b: &[f32]) -> f32
}

kernel! {
    /// y ← y + alpha x
    axpy(alpha: f32, x: &[f32], y: &mut [f32])
}

kernel! {
    /// sum ← decay · sum + x
    decay_and_add(decay: f32, x: &[f32], sum: &mut [f32])
}

kernel! {
    /// Applies [`decay_and_add`] for one x after the other, each as long as the sum, with the same
    /// bits, but keeps the sum in registers.
    decay_and_add_all(decay: f32, xs: &[&[f32]], sum: &mut [f32])
}

kernel! {
    /// x ← exp(x + bias - shift), both slices of equal length; returns the sum. See [`exp`] for its
    /// error.
    exp_sum(x: &mut [f32], bias: &[f32], shift: f32) -> f32
}

kernel! {
    /// sum ← Σ weight · x over the rows x of `table` that `rows` names, in their order.
    weighted_sum(table: Rows<'_>, rows: &[u32], weights: &[f32], sum: &mut [f32])
}

kernel! {
    /// Multiplies x by 0 where its byte is below `threshold` (0 to 255), else by `keep`.
    drop_out(x: &mut [f32], bytes: &[u8], threshold: u32, keep: f32)
}

kernel! {
    /// y ← GELU(x) in its sigmoid approximation, x ← GELU'(x).
    gelu(x: &mut [f32], y: &mut [f32])
}

kernel! {
    /// Position of the largest number, of the first one if there are several; 0 for an empty slice.
    /// NaN is never the largest.
    argmax(x: &[f32]) -> usize
}

kernel! {
    /// One step of [`crate::optimizer::RowAdagrad`] with the learning rate `rate` over the rows of
    /// the table that `uses` names. `gradients` has the rows that are summed. `sum` `[d]` is a
    /// buffer.
    adagrad(part: TablePart<'_>, uses: Uses<'_>, gradients: Rows<'_>, rate: f32, sum: &mut [f32])
}

kernel! {
    /// One step of Adam (Kingma & Ba 2015, algorithm 1) with decoupled weight decay. The bias
    /// corrections are part of `step`.
    adam(parameters: &mut [f32], moments: (&mut [f32], &mut [f32]), gradient: &[f32], step: AdamStep)
}

/// Rows of equal length inside a slice; each may be part of a longer row.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The whole slice.
    pub data: &'a [f32],
    /// From the start of a row to the start of the next.
    pub stride: usize,
    /// Where the first row starts.
    pub offset: usize,
}

impl<'a> From<&'a Matrix> for Rows<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        Self {
            data: matrix.as_slice(),
            stride: matrix.cols(),
            offset: 0,
        }
    }
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn at(self, row: u32, column: usize) -> &'a [f32] {
        &self.data[row as usize * self.stride + self.offset + column..]
    }

    /// Prefetches the first `columns` numbers of row `row`.
    pub fn prefetch(self, row: u32, columns: usize) {
        prefetch(&self.at(row, 0)[..columns]);
    }
}

/// Rows of a table, and for each the rows elsewhere whose weighted sum is its gradient.
#[derive(Debug, Clone, Copy)]
pub struct Uses<'a> {
    /// Rows of the table, strictly ascending, `[n]`.
    pub rows: &'a [u32],
    /// For each of them the end of its part of `sources` and `weights`, `[n]`.
    pub ends: &'a [usize],
    /// Where the part of the first one begins. Others begin where the one before ends.
    pub begin: usize,
    /// Rows of the gradients.
    pub sources: &'a [u32],
    /// Their weights.
    pub weights: &'a [f32],
}

impl<'a> Uses<'a> {
    /// The same, `size` rows of the table at a time.
    pub fn chunks(self, size: usize) -> impl Iterator<Item = Self> {
        let chunks = self.rows.chunks(size).zip(self.ends.chunks(size));
        chunks.enumerate().map(move |(chunk, (rows, ends))| Self {
            rows,
            ends,
            begin: (chunk * size)
                .checked_sub(1)
                .map_or(self.begin, |last| self.ends[last]),
            ..self
        })
    }

    /// Sources of the `n`-th row and their weights.
    pub fn of(self, n: usize) -> (&'a [u32], &'a [f32]) {
        let begin = n.checked_sub(1).map_or(self.begin, |n| self.ends[n]);
        let uses = begin..self.ends[n];
        (&self.sources[uses.clone()], &self.weights[uses])
    }
}

/// Adjacent rows of a table, and their Adagrad accumulators.
#[derive(Debug)]
pub struct TablePart<'a> {
    /// Number of the first row.
    pub first: usize,
    /// `[n, d]`
    pub parameters: &'a mut [f32],
    /// `[n]`
    pub accumulators: &'a mut [f32],
}

/// The numbers of one Adam step that all parameters share.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Learning rate divided by 1 - β₁ᵗ.
    pub rate: f32,
    /// 1 / (1 - β₂ᵗ)
    pub second_correction: f32,
    /// Learning rate times weight decay.
    pub decay: f32,
}

/// e^x. Relative error below 2e-7 where the result is a normal number; 0 below -87.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // exp(x) = 2^n · exp(r) with n = round(x / ln 2), |r| ≤ ln 2 / 2; exp(r) is its Taylor
    // polynomial of degree 7. Branches and saturating conversions would keep a loop over this
    // function from being vectorised, so there are none.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 · 2^23 rounds to the nearest integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0
                    + r * (1.0 / 24.0
                        + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))))));
    let scale = f32::from_bits((rounded.to_bits().wrapping_add(127)) << 23);
    let all_bits_unless_tiny = u32::from(x < -87.0).wrapping_sub(1);
    f32::from_bits((p * scale).to_bits() & all_bits_unless_tiny)
}

/// 1 / (1 + e^-x)
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(first: usize, table: &mut (Vec<f32>, Vec<f32>)) -> TablePart<'_> {
        TablePart {
            first,
            parameters: &mut table.0,
            accumulators: &mut table.1,
        }
    }

    proptest! {
        #[test]
        fn kernels_equal_their_scalar_twins_to_the_bit(
            a in prop::collection::vec(-20.0f32..20.0, 0..70), alpha in -2.0f32..2.0,
        ) {
            let b: Vec<f32> = a.iter().rev().map(|x| x * 0.7 - 0.1).collect();
            prop_assert_eq!(dot(&a, &b).to_bits(), scalar::dot(&a, &b).to_bits());
            let (mut x, mut y) = (b.clone(), b.clone());
            axpy(alpha, &a, &mut x);
            scalar::axpy(alpha, &a, &mut y);
            prop_assert_eq!(&x, &y);
            decay_and_add(alpha, &a, &mut x);
            scalar::decay_and_add(alpha, &a, &mut y);
            prop_assert_eq!(&x, &y);
            let (rows, mut z) = ([&a[..], &b, &a], x.clone());
            for row in rows {
                scalar::decay_and_add(alpha, row, &mut z);
            }
            decay_and_add_all(alpha, &rows, &mut x);
            scalar::decay_and_add_all(alpha, &rows, &mut y);
            prop_assert_eq!(&x, &y);
            prop_assert_eq!(&x, &z);
            prop_assert_eq!(exp_sum(&mut x, &a, alpha).to_bits(), scalar::exp_sum(&mut y, &a, alpha).to_bits());
            prop_assert_eq!(&x, &y);
            let bytes: Vec<u8> = a.iter().map(|x| (x * 7.0) as i32 as u8).collect();
            drop_out(&mut x, &bytes, 100, alpha);
            scalar::drop_out(&mut y, &bytes, 100, alpha);
            prop_assert_eq!(&x, &y);
            let (mut x, mut y) = ((a.clone(), b.clone()), (a.clone(), b.clone()));
            gelu(&mut x.0, &mut x.1);
            scalar::gelu(&mut y.0, &mut y.1);
            prop_assert_eq!(&x, &y);
            let step = AdamStep { beta1: 0.9, beta2: 0.999, rate: 0.01, second_correction: 1.5, decay: 1e-4 };
            let second: Vec<f32> = a.iter().map(|x| x * x).collect();
            let (mut x, mut y) = ((a.clone(), b.clone(), second.clone()), (a.clone(), b.clone(), second));
            adam(&mut x.0, (&mut x.1, &mut x.2), &b, step);
            scalar::adam(&mut y.0, (&mut y.1, &mut y.2), &b, step);
            prop_assert_eq!(x, y);
        }

        #[test]
        fn weighted_sums_equal_their_definition_and_their_twin_to_the_bit(
            (dim, offset) in (1usize..140, 0usize..3), rows in prop::collection::vec(0u32..9, 0..12),
        ) {
            let data: Vec<f32> = (0..9 * (dim + 3)).map(|i| (i as f32 * 0.37).sin()).collect();
            let table = Rows { data: &data, stride: dim + 3, offset };
            let weights: Vec<f32> = rows.iter().map(|&row| row as f32 - 3.3).collect();
            let (mut x, mut y, mut z) = (vec![7.0; dim], vec![8.0; dim], vec![0.0; dim]);
            weighted_sum(table, &rows, &weights, &mut x);
            scalar::weighted_sum(table, &rows, &weights, &mut y);
            for (&row, &weight) in rows.iter().zip(&weights) {
                axpy(weight, &table.at(row, 0)[..dim], &mut z);
            }
            prop_assert_eq!(&x, &y);
            prop_assert_eq!(&x, &z);
        }

        #[test]
        fn a_step_of_adagrad_equals_its_definition_and_its_twin_to_the_bit(
            (dim, first) in (1usize..140, 0usize..4), uses in prop::collection::vec(0u32..9, 1..30),
        ) {
            let data: Vec<f32> = (0..9 * dim).map(|i| (i as f32 * 0.37).sin()).collect();
            let gradients = Rows { data: &data, stride: dim, offset: 0 };
            let weights: Vec<f32> = uses.iter().map(|&source| source as f32 - 3.3).collect();
            // One row of the table for each three uses, every second one of the table.
            let numbers = 0..uses.len().div_ceil(3);
            let rows: Vec<u32> = numbers.clone().map(|n| (first + 2 * n) as u32).collect();
            let ends: Vec<usize> = numbers.map(|n| (3 * n + 3).min(uses.len())).collect();
            let uses = Uses { rows: &rows, ends: &ends, begin: 0, sources: &uses, weights: &weights };
            let table = || (vec![0.5; 2 * rows.len() * dim], vec![0.1; 2 * rows.len()]);
            let (mut x, mut y, mut z) = (table(), table(), table());
            let mut sum = vec![7.0; dim];
            adagrad(part(first, &mut x), uses, gradients, 0.1, &mut sum);
            scalar::adagrad(part(first, &mut y), uses, gradients, 0.1, &mut sum);
            for n in 0..rows.len() {
                let (sources, weights) = uses.of(n);
                weighted_sum(gradients, sources, weights, &mut sum);
                let mean_square = dot(&sum, &sum) / dim as f32;
                if mean_square > 0.0 {
                    z.1[2 * n] += mean_square;
                    axpy(-0.1 / (z.1[2 * n] + 1e-8).sqrt(), &sum, &mut z.0[2 * n * dim..][..dim]);
                }
            }
            prop_assert_eq!(&x, &y);
            prop_assert_eq!(&x, &z);
        }

        #[test]
        fn argmax_is_the_first_of_the_largest(x in prop::collection::vec(-9i8..9, 0..300)) {
            let x: Vec<f32> = x.into_iter().map(f32::from).collect();
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let expected = x.iter().position(|&x| x >= largest).unwrap_or(0);
            prop_assert_eq!(argmax(&x), expected);
            prop_assert_eq!(scalar::argmax(&x), expected);
        }

        #[test]
        fn exp_is_close(x in -87.0f32..88.0) {
            let exact = f64::from(x).exp();
            prop_assert!(((f64::from(exp(x)) - exact) / exact).abs() < 2e-7);
        }
    }

    #[test]
    fn exp_of_minus_infinity_is_zero() {
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0.0_f32.to_bits());
        assert_eq!(
            exp_sum(&mut [f32::NEG_INFINITY, 0.5], &[1.0, -0.5], 0.0).to_bits(),
            1.0_f32.to_bits()
        );
    }
}
