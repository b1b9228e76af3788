use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// An independent generator for each part, so that a part's numbers do not depend on how many
/// another part took.
pub(super) fn generator(seed: u64, part: u64) -> Pcg64 {
    // The multiplier is 2⁶⁴ divided by the golden ratio, made odd.
    Pcg64::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(part))
}

/// A number in (0, 1).
pub(super) fn unit(random: &mut Pcg64) -> f32 {
    (random.random_range(0..1_u32 << 23) as f32 + 0.5) / (1_u32 << 23) as f32
}

/// Standard normal (Box & Muller 1958).
pub(super) fn normal(random: &mut Pcg64) -> f32 {
    let radius = (-2.0 * unit(random).ln()).sqrt();
    radius * (std::f32::consts::TAU * unit(random)).cos()
}

/// Standard Gumbel. Adding it to logarithms of weights and sorting draws without replacement.
pub(super) fn gumbel(random: &mut Pcg64) -> f32 {
    -(-unit(random).ln()).ln()
}

/// Exponential with mean 1.
pub(super) fn exponential(random: &mut Pcg64) -> f32 {
    -unit(random).ln()
}

/// One of `n`, the first ones more often: the density falls as the inverse square root.
pub(super) fn skewed(random: &mut Pcg64, n: usize) -> usize {
    let u = unit(random);
    ((u * u * n as f32) as usize).min(n - 1)
}

/// One element of a non-empty list.
pub(super) fn pick<'a, T>(random: &mut Pcg64, list: &'a [T]) -> &'a T {
    &list[random.random_range(0..list.len())]
}

/// Draws positions with probability proportional to their weights.
#[derive(Debug)]
pub(super) struct Weighted {
    cumulative: Vec<f32>,
}

impl Weighted {
    pub(super) fn new(weights: impl Iterator<Item = f32>) -> Self {
        let mut sum = 0.0;
        let cumulative = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        Self { cumulative }
    }

    pub(super) fn draw(&self, random: &mut Pcg64) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let at = unit(random) * total;
        let position = self.cumulative.partition_point(|sum| *sum <= at);
        position.min(self.cumulative.len().saturating_sub(1))
    }
}
