use super::random::normal;
use rand_pcg::Pcg64;

/// Number of dimensions of the hidden space, in which scores are inner products.
pub(super) const DIM: usize = 6;

/// A point of that space.
pub(super) type Vector = [f32; DIM];

/// A uniformly distributed direction.
pub(super) fn direction(random: &mut Pcg64) -> Vector {
    let mut vector = [0.0; DIM];
    vector.fill_with(|| normal(random));
    normalised(vector)
}

/// Adds `weight * other`.
pub(super) fn add(vector: &mut Vector, weight: f32, other: &Vector) {
    for (x, y) in vector.iter_mut().zip(other) {
        *x += weight * y;
    }
}

/// Adds `weight` times the mean of `others`, scaled so that the length does not depend on their
/// number.
pub(super) fn add_mean<'a>(
    vector: &mut Vector,
    weight: f32,
    others: impl ExactSizeIterator<Item = &'a Vector>,
) {
    let weight = weight / (others.len().max(1) as f32).sqrt();
    for other in others {
        add(vector, weight, other);
    }
}

/// The vector of length 1 in the same direction.
pub(super) fn normalised(mut vector: Vector) -> Vector {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
    for x in &mut vector {
        *x /= norm;
    }
    vector
}
