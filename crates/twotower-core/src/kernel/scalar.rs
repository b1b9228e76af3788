//! The bodies of the kernels, in plain safe code.

use super::{AdamStep, LANES, Rows, TablePart, Uses};
use crate::tower::GELU_SLOPE;

/// Columns of a sum that are computed at a time: as many as fit the registers, so that each is
/// written once.
const COLUMNS: usize = 8 * LANES;

/// See [`super::dot`].
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// See [`super::axpy`].
#[inline(always)]
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

/// See [`super::decay_and_add`].
#[inline(always)]
pub fn decay_and_add(decay: f32, x: &[f32], sum: &mut [f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum = decay * *sum + x;
    }
}

/// See [`super::decay_and_add_all`].
#[inline(always)]
pub fn decay_and_add_all(decay: f32, xs: &[&[f32]], sum: &mut [f32]) {
    let (blocks, rest) = sum.as_chunks_mut::<COLUMNS>();
    let done = blocks.len() * COLUMNS;
    for (n, block) in blocks.iter_mut().enumerate() {
        let mut sums = *block;
        for x in xs {
            decay_and_add(decay, &x[n * COLUMNS..][..COLUMNS], &mut sums);
        }
        *block = sums;
    }
    if rest.is_empty() {
        return;
    }
    for x in xs {
        decay_and_add(decay, &x[done..], rest);
    }
}

/// See [`super::exp_sum`].
#[inline(always)]
pub fn exp_sum(x: &mut [f32], bias: &[f32], shift: f32) -> f32 {
    // Two vectors at a time: an exponential is a long chain of dependent operations.
    const WIDE: usize = 2 * LANES;
    let mut lanes = [0.0; WIDE];
    let (blocks, rest) = x.as_chunks_mut::<WIDE>();
    let (bias_blocks, bias_rest) = bias.as_chunks::<WIDE>();
    for (block, bias) in blocks.iter_mut().zip(bias_blocks) {
        for lane in 0..WIDE {
            block[lane] = super::exp(block[lane] + bias[lane] - shift);
        }
        for lane in 0..WIDE {
            lanes[lane] += block[lane];
        }
    }
    let mut sum = lanes.iter().sum::<f32>();
    for (x, bias) in rest.iter_mut().zip(bias_rest) {
        *x = super::exp(*x + bias - shift);
        sum += *x;
    }
    sum
}

/// See [`super::weighted_sum`].
#[inline(always)]
pub fn weighted_sum(table: Rows<'_>, rows: &[u32], weights: &[f32], sum: &mut [f32]) {
    // Rows are prefetched this far ahead: they are scattered in a table that is larger than the
    // inner caches.
    const ROWS_AHEAD: usize = 4;
    let (blocks, rest) = sum.as_chunks_mut::<COLUMNS>();
    for (n, block) in blocks.iter_mut().enumerate() {
        let mut sums = [[0.0; LANES]; COLUMNS / LANES];
        for (place, (&row, &weight)) in rows.iter().zip(weights).enumerate() {
            if let Some(&soon) = rows.get(place + ROWS_AHEAD) {
                super::prefetch(&table.at(soon, n * COLUMNS)[..COLUMNS]);
            }
            let (x, _) = table.at(row, n * COLUMNS)[..COLUMNS].as_chunks::<LANES>();
            for (sums, x) in sums.iter_mut().zip(x) {
                for lane in 0..LANES {
                    sums[lane] += weight * x[lane];
                }
            }
        }
        for (block, sums) in block.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            *block = sums;
        }
    }
    let done = blocks.len() * COLUMNS;
    if rest.is_empty() {
        return;
    }
    rest.fill(0.0);
    for (&row, &weight) in rows.iter().zip(weights) {
        for (sum, x) in rest.iter_mut().zip(table.at(row, done)) {
            *sum += weight * x;
        }
    }
}

/// See [`super::drop_out`].
#[inline(always)]
pub fn drop_out(x: &mut [f32], bytes: &[u8], threshold: u32, keep: f32) {
    for (x, &byte) in x.iter_mut().zip(bytes) {
        *x *= if u32::from(byte) < threshold {
            0.0
        } else {
            keep
        };
    }
}

/// See [`super::gelu`].
#[inline(always)]
pub fn gelu(x: &mut [f32], y: &mut [f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        let gate = super::sigmoid(GELU_SLOPE * *x);
        *y = *x * gate;
        *x = gate * (1.0 + GELU_SLOPE * *x * (1.0 - gate));
    }
}

/// See [`super::argmax`].
#[inline(always)]
pub fn argmax(x: &[f32]) -> usize {
    // Find the largest of each block by lanes, then look only into the block that has it.
    const BLOCK: usize = 8 * LANES;
    let (mut best, mut block) = (f32::NEG_INFINITY, 0);
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    for (n, x) in blocks.iter().enumerate() {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for x in x.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                lanes[lane] = if x[lane] > lanes[lane] {
                    x[lane]
                } else {
                    lanes[lane]
                };
            }
        }
        let largest = lanes.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        if largest > best {
            (best, block) = (largest, n);
        }
    }
    let largest = rest.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    if largest > best {
        (best, block) = (largest, blocks.len());
    }
    let from = block * BLOCK;
    x[from.min(x.len())..]
        .iter()
        .position(|&x| x >= best)
        .map_or(0, |position| from + position)
}

/// See [`super::adagrad`].
#[inline(always)]
pub fn adagrad(
    part: TablePart<'_>,
    uses: Uses<'_>,
    gradients: Rows<'_>,
    rate: f32,
    sum: &mut [f32],
) {
    // Rows are prefetched this far ahead: they are scattered in a table that is larger than the
    // caches.
    const ROWS_AHEAD: usize = 4;
    // Gradients are prefetched this many uses ahead.
    const USES_AHEAD: usize = 8;
    // Keeps the first step of a row finite.
    const EPSILON: f32 = 1e-8;
    let dim = sum.len();
    let TablePart {
        first,
        parameters,
        accumulators,
    } = part;
    for (n, &row) in uses.rows.iter().enumerate() {
        if let Some(&soon) = uses.rows.get(n + ROWS_AHEAD) {
            let soon = soon as usize - first;
            super::prefetch(&parameters[soon * dim..][..dim]);
            super::prefetch(&accumulators[soon..=soon]);
        }
        let (sources, weights) = uses.of(n);
        // Most rows have few uses, and those of the next row are next to them.
        let later = uses
            .sources
            .iter()
            .skip(uses.ends[n] + USES_AHEAD - sources.len());
        for &soon in later.take(sources.len()) {
            gradients.prefetch(soon, dim);
        }
        weighted_sum(gradients, sources, weights, sum);
        let mean_square = dot(sum, sum) / dim as f32;
        if mean_square > 0.0 {
            let row = row as usize - first;
            accumulators[row] += mean_square;
            let step = -rate / (accumulators[row] + EPSILON).sqrt();
            axpy(step, sum, &mut parameters[row * dim..][..dim]);
        }
    }
}

/// See [`super::adam`].
#[inline(always)]
pub fn adam(
    parameters: &mut [f32],
    moments: (&mut [f32], &mut [f32]),
    gradient: &[f32],
    step: AdamStep,
) {
    let (first, second) = moments;
    for (((p, m), v), g) in parameters.iter_mut().zip(first).zip(second).zip(gradient) {
        *m = step.beta1 * *m + (1.0 - step.beta1) * g;
        *v = step.beta2 * *v + (1.0 - step.beta2) * g * g;
        *p -= step.rate * *m / ((*v * step.second_correction).sqrt() + 1e-8) + step.decay * *p;
    }
}
