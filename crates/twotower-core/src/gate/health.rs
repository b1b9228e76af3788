use crate::embedding::Embeddings;
use crate::kernel;
use rayon::prelude::*;
use std::ops::Range;

/// At most this many videos are looked at, spread evenly over the catalogue, each compared with all
/// others. The share is then within 4.5 percentage points of that of all videos in 95 of 100 cases.
const LOOKED_AT: usize = 500;

/// Videos that they are compared with at a time, few enough for the cache.
const BLOCK: usize = 1_024;

/// Cosine from which on two vectors are the same but for rounding.
const SAME: f32 = 0.999_99;

/// The state of a set of unit vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Health {
    /// Norm of the mean: 1 if all are the same. Its square is the mean cosine of two of them.
    pub mean_norm: f64,
    /// Share of vectors that equal another one, estimated on [`Health::looked_at`] of them.
    pub near_duplicates: f64,
    /// Number of vectors that were looked at, each compared with all.
    pub looked_at: usize,
}

impl Health {
    /// Of `vectors`; zeros if there are none.
    pub fn of(vectors: &Embeddings) -> Self {
        let (n, dim) = (vectors.len(), vectors.dim());
        if n == 0 {
            return Self {
                mean_norm: 0.0,
                near_duplicates: 0.0,
                looked_at: 0,
            };
        }
        let mut mean = vec![0.0_f64; dim];
        for row in 0..n {
            for (mean, x) in mean.iter_mut().zip(vectors.row(row)) {
                *mean += f64::from(*x) / n as f64;
            }
        }
        let looked_at = n.min(LOOKED_AT);
        let rows: Vec<usize> = (0..looked_at).map(|row| row * n / looked_at).collect();
        let blocks = (0..n.div_ceil(BLOCK)).into_par_iter();
        let have_twins = blocks
            .map(|block| twins_in(vectors, &rows, block * BLOCK..n.min((block + 1) * BLOCK)))
            .reduce(
                || vec![false; rows.len()],
                |a, b| a.iter().zip(b).map(|(a, b)| *a || b).collect(),
            );
        let twins = have_twins.into_iter().filter(|&has| has).count();
        Self {
            mean_norm: mean.iter().map(|x| x * x).sum::<f64>().sqrt(),
            near_duplicates: twins as f64 / looked_at as f64,
            looked_at,
        }
    }
}

/// For each of `rows`, whether another row in `block` equals it.
fn twins_in(vectors: &Embeddings, rows: &[usize], block: Range<usize>) -> Vec<bool> {
    let has_twin = |&row: &usize| {
        let vector = vectors.row(row);
        let mut others = block.clone().filter(|&other| other != row);
        others.any(|other| kernel::dot(vector, vectors.row(other)) > SAME)
    };
    rows.iter().map(has_twin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Row `n` is the vector of `group(n)`.
    fn vectors(n: usize, group: impl Fn(usize) -> usize) -> Embeddings {
        let mut vectors = Embeddings::new(3);
        for row in 0..n {
            // A walk over the sphere that visits no point twice.
            let (angle, height) = (group(row) as f32 * 2.399_963, group(row) as f32);
            let z = (1.0 - 2.0 * (height + 0.5) / n as f32).clamp(-1.0, 1.0);
            let ring = (1.0 - z * z).sqrt();
            let vector = [ring * angle.cos(), ring * angle.sin(), z];
            vectors.push(&vector).unwrap();
        }
        vectors
    }

    /// Twins are found wherever they are, adjacent or far apart.
    #[test]
    fn groups_of_ten_are_all_twins_in_a_large_catalogue() {
        let n = 6_000;
        for vectors in [vectors(n, |row| row / 10), vectors(n, |row| row % (n / 10))] {
            let health = Health::of(&vectors);
            assert_eq!(health.looked_at, LOOKED_AT);
            assert!((health.near_duplicates - 1.0).abs() < 1e-12, "{health:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// With few videos the share is exact.
        #[test]
        fn few_vectors_are_all_compared(groups in proptest::collection::vec(0usize..150, 1..200)) {
            let health = Health::of(&vectors(groups.len(), |row| groups[row] % groups.len()));
            let with_twin = |group: &usize| {
                let same = groups.iter().filter(|other| *other % groups.len() == group % groups.len());
                same.count() > 1
            };
            let twins = groups.iter().filter(|group| with_twin(group)).count();
            prop_assert_eq!(health.looked_at, groups.len());
            prop_assert!((health.near_duplicates - twins as f64 / groups.len() as f64).abs() < 1e-12);
        }
    }
}
