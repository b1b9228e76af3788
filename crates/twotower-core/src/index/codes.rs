use crate::kernel::{self, CODE_BLOCK, CODES_AHEAD};
use crate::pages::Bytes;
use rayon::prelude::*;
use std::ops::Range;

/// A code byte stands for x = step · (byte - ZERO).
const ZERO: i32 = 128;

/// Rows that one task quantises.
const TILE: usize = 1024;

/// Vectors as bytes, with a bound on the error.
#[derive(Debug)]
pub(super) struct Codes {
    /// `[n, stride]`. A row as long as a cache line is aligned to one.
    bytes: Bytes,
    stride: usize,
    step: f64,
    bound: Bound,
}

/// Maxima over all rows.
#[derive(Debug, Clone, Copy, Default)]
struct Bound {
    /// Norm of the difference between a vector and its codes.
    residual: f64,
    /// Norm of the codes.
    norm: f64,
    /// Norm of the vector.
    vector_norm: f64,
}

/// A query as signed bytes, and how its products with [`Codes`] become scores.
#[derive(Debug, Default)]
pub(super) struct QueryCodes {
    bytes: Vec<i8>,
    /// Score of one unit of the product.
    unit: f64,
    /// Product of a vector of zeros.
    zero: i64,
    /// Upper bound on the difference between an estimated score and the inner product in 32-bit
    /// floats.
    error: f64,
}

impl Codes {
    /// Quantises `n` vectors `[dim]`, given by `row`, with one step for all of them.
    pub(super) fn new<'a>(n: usize, dim: usize, row: impl Fn(usize) -> &'a [f32] + Sync) -> Self {
        let stride = dim.next_multiple_of(CODE_BLOCK);
        let largest = (0..n)
            .into_par_iter()
            .with_min_len(TILE)
            .map(|n| row(n).iter().fold(0.0f32, |most, x| most.max(x.abs())))
            .reduce(|| 0.0, f32::max);
        let step = if largest > 0.0 {
            f64::from(largest) / f64::from(ZERO - 1)
        } else {
            1.0
        };
        let mut bytes = Bytes::zeroed(n * stride);
        let bound = bytes
            .par_chunks_mut(TILE * stride)
            .enumerate()
            .map(|(tile, codes)| {
                let mut bound = Bound::default();
                for (n, codes) in codes.chunks_exact_mut(stride).enumerate() {
                    bound = bound.max(quantise(row(tile * TILE + n), step, codes));
                }
                bound
            })
            .reduce(Bound::default, Bound::max);
        Self {
            bytes,
            stride,
            step,
            bound,
        }
    }

    /// Bytes from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// All rows, `[n, stride]`.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Prefetches the first of some `rows`. The later ones are prefetched while these are read.
    pub(super) fn prefetch(&self, rows: Range<usize>) {
        let end = rows.end.min(rows.start + CODES_AHEAD);
        kernel::prefetch(&self.as_slice()[rows.start * self.stride..end * self.stride]);
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Quantises `query` for products with these codes. Neighbouring numbers add up to 128 at most,
    /// as the kernel requires.
    ///
    /// With x̂ for the codes of x and q̂ for those of q, q·x = q̂·x̂ + (q - q̂)·x̂ + q·(x - x̂). By
    /// the Cauchy-Schwarz inequality the last two terms are at most |q - q̂| |x̂| + |q| |x - x̂|.
    /// Sums in 32-bit floats add their rounding errors.
    pub(super) fn prepare(&self, query: &[f32], prepared: &mut QueryCodes) {
        let pair = |pair: &[f32]| pair.iter().map(|x| f64::from(x.abs())).sum::<f64>();
        let widest = query.chunks(2).map(pair).fold(0.0, f64::max);
        // Rounding adds at most a half to each of two neighbours.
        let step = if widest > 0.0 { widest / 127.0 } else { 1.0 };
        prepared.bytes.clear();
        prepared.bytes.resize(self.stride, 0);
        let (mut norm, mut residual, mut sum) = (0.0, 0.0, 0);
        for (byte, &x) in prepared.bytes.iter_mut().zip(query) {
            let code = (f64::from(x) / step).round();
            *byte = code as i8;
            sum += i64::from(*byte);
            norm += f64::from(x).powi(2);
            residual += (f64::from(x) - step * code).powi(2);
        }
        prepared.unit = step * self.step;
        prepared.zero = sum * i64::from(ZERO);
        let (norm, residual) = (norm.sqrt(), residual.sqrt());
        let terms = query.len() as f64;
        let rounding = (terms + 16.0)
            * (f64::from(f32::EPSILON) * norm * self.bound.vector_norm
                + f64::from(f32::MIN_POSITIVE));
        prepared.error =
            (norm * self.bound.residual + residual * self.bound.norm) * (1.0 + 1e-9) + rounding;
    }
}

impl Bound {
    fn max(self, other: Self) -> Self {
        Self {
            residual: self.residual.max(other.residual),
            norm: self.norm.max(other.norm),
            vector_norm: self.vector_norm.max(other.vector_norm),
        }
    }
}

impl QueryCodes {
    /// The query's bytes, as long as a row of codes.
    pub(super) fn as_slice(&self) -> &[i8] {
        &self.bytes
    }

    /// Score of `product`.
    #[inline]
    pub(super) fn score(&self, product: i32) -> f64 {
        self.unit * (i64::from(product) - self.zero) as f64
    }

    /// The same in 32-bit floats, which loops compute some at a time: good enough to decide where to
    /// look.
    #[inline]
    pub(super) fn approximate_score(&self, product: i32) -> f32 {
        self.unit as f32 * (product - self.zero as i32) as f32
    }

    /// Upper bound on the difference between [`QueryCodes::score`] and the inner product in 32-bit
    /// floats.
    pub(super) fn error(&self) -> f64 {
        self.error
    }

    /// The smallest whole number of units that covers `scores`.
    pub(super) fn units(&self, scores: f64) -> i32 {
        (scores / self.unit).ceil() as i32
    }
}

fn quantise(row: &[f32], step: f64, codes: &mut [u8]) -> Bound {
    let (mut residual, mut norm, mut vector_norm) = (0.0, 0.0, 0.0);
    let (codes, padding) = codes.split_at_mut(row.len());
    padding.fill(ZERO as u8);
    for (code, &x) in codes.iter_mut().zip(row) {
        let x = f64::from(x);
        let number = (x / step).round();
        *code = (number as i32 + ZERO) as u8;
        residual += (x - step * number).powi(2);
        norm += (step * number).powi(2);
        vector_norm += x * x;
    }
    Bound {
        residual: residual.sqrt(),
        norm: norm.sqrt(),
        vector_norm: vector_norm.sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_score_is_no_farther_off_than_the_bound_says(
            dim in 1usize..70, seed in any::<u32>(), scale in -44i32..30,
        ) {
            let number = |i: usize| (i as f32 * 1.7 + seed as f32 * 1e-6).sin().powi(3);
            let rows: Vec<f32> = (0..9 * dim).map(number).collect();
            let scale = 10f32.powi(scale);
            let query: Vec<f32> = (0..dim).map(|i| number(i + 1000) * scale).collect();
            let codes = Codes::new(9, dim, |n| &rows[n * dim..(n + 1) * dim]);
            prop_assert_eq!(codes.as_slice().as_ptr().align_offset(kernel::CACHE_LINE), 0);
            let mut prepared = QueryCodes::default();
            codes.prepare(&query, &mut prepared);
            let pairs = prepared.as_slice().as_chunks::<2>().0;
            prop_assert!(pairs.iter().all(|[a, b]| a.unsigned_abs() as u32 + b.unsigned_abs() as u32 <= 128));
            let mut products = [0; 9];
            kernel::code_products(codes.as_slice(), prepared.as_slice(), &mut products);
            for (n, &product) in products.iter().enumerate() {
                let exact = f64::from(kernel::dot(&query, &rows[n * dim..(n + 1) * dim]));
                prop_assert!((prepared.score(product) - exact).abs() <= prepared.error());
            }
        }
    }
}
