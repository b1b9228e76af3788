use crate::embedding::Embeddings;
use crate::kernel::{self, View};
use crate::matrix::Matrix;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

/// Rows per task that finds nearest centroids.
const TILE: usize = 128;

/// Centroids that a tile is multiplied with at a time, so that the products stay in the cache.
const CENTROIDS: usize = 512;

/// Sampled rows per centroid.
const SAMPLE: usize = 48;

/// Passes over the sample.
const ITERATIONS: usize = 8;

/// Spherical k-means (Dhillon & Modha 2001) on a sample of `rows`: `clusters` centroids of unit
/// norm, `[clusters, d]`.
///
/// Deterministic for a given seed, with any number of threads.
///
/// # Panics
/// If there are fewer rows than clusters.
pub(super) fn spherical_k_means(rows: &Embeddings, clusters: usize, seed: u64) -> Matrix {
    assert!(
        clusters <= rows.len(),
        "{clusters} clusters of {} rows",
        rows.len()
    );
    let dim = rows.dim();
    let sample = sample(rows, (clusters * SAMPLE).min(rows.len()), seed);
    // The sample is in random order, so that its head is a random choice.
    let mut centroids = Matrix::zeros(clusters, dim);
    centroids
        .as_mut_slice()
        .copy_from_slice(&sample[..clusters * dim]);
    for _ in 0..ITERATIONS {
        let nearest = nearest(&sample, &centroids);
        let mut sums = Matrix::zeros(clusters, dim);
        let mut counts = vec![0u32; clusters];
        for (row, nearest) in sample.chunks_exact(dim).zip(&nearest) {
            kernel::axpy(1.0, row, sums.row_mut(nearest.centroid as usize));
            counts[nearest.centroid as usize] += 1;
        }
        // Empty clusters take the rows that are farthest from their own centroids, each another
        // one.
        let mut farthest: Vec<usize> = (0..nearest.len()).collect();
        let empty = counts.iter().filter(|&&count| count == 0).count();
        if empty > 0 {
            farthest.sort_by(|&a, &b| nearest[a].score.total_cmp(&nearest[b].score));
        }
        let mut farthest = farthest.into_iter();
        for (cluster, &count) in counts.iter().enumerate() {
            let sum = sums.row_mut(cluster);
            if count == 0
                && let Some(row) = farthest.next()
            {
                sum.copy_from_slice(&sample[row * dim..(row + 1) * dim]);
            }
            let norm = kernel::dot(sum, sum).sqrt();
            // Rows that cancel out have no direction; the centroid stays.
            if norm > f32::EPSILON {
                let centroid = centroids.row_mut(cluster);
                centroid.fill(0.0);
                kernel::axpy(1.0 / norm, sum, centroid);
            }
        }
    }
    centroids
}

/// The centroid with the largest inner product.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nearest {
    /// Row of the centroid.
    pub(super) centroid: u32,
    score: f32,
}

/// For each row of `rows` `[n, d]` the nearest of `centroids`; ties to the first.
pub(super) fn nearest(rows: &[f32], centroids: &Matrix) -> Vec<Nearest> {
    let dim = centroids.cols();
    let mut nearest = vec![Nearest::default(); rows.len() / dim];
    nearest
        .par_chunks_mut(TILE)
        .zip(rows.par_chunks(TILE * dim))
        .for_each(|(nearest, rows)| {
            nearest.fill(Nearest {
                centroid: 0,
                score: f32::NEG_INFINITY,
            });
            let mut products = Vec::new();
            for (block, centroids) in centroids.as_slice().chunks(CENTROIDS * dim).enumerate() {
                let n = centroids.len() / dim;
                products.resize(nearest.len() * n, 0.0);
                kernel::gemm(
                    1.0,
                    View::rows(rows, dim),
                    View::rows(centroids, dim).t(),
                    0.0,
                    &mut products,
                );
                for (nearest, products) in nearest.iter_mut().zip(products.chunks_exact(n)) {
                    let best = kernel::argmax(products);
                    if products[best] > nearest.score {
                        *nearest = Nearest {
                            centroid: (block * CENTROIDS + best) as u32,
                            score: products[best],
                        };
                    }
                }
            }
        });
    nearest
}

/// `count` distinct rows, in random order.
fn sample(rows: &Embeddings, count: usize, seed: u64) -> Vec<f32> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut positions: Vec<u32> = (0..rows.len() as u32).collect();
    let mut sample = Vec::with_capacity(count * rows.dim());
    for n in 0..count {
        let chosen = random.random_range(n..positions.len());
        positions.swap(n, chosen);
        sample.extend_from_slice(rows.row(positions[n] as usize));
    }
    sample
}
