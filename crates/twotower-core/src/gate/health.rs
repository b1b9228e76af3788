use crate::embedding::Embeddings;
use crate::kernel;
use rayon::prelude::*;

/// Videos that are compared with one another, spread evenly over the catalogue.
const COMPARED: usize = 2_000;

/// Cosine from which on two vectors are the same but for rounding.
const SAME: f32 = 0.999_99;

/// The state of a set of unit vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Health {
    /// Norm of their mean: 1 if all are the same. Its square is the mean cosine of two of them.
    pub mean_norm: f64,
    /// Share of them with another one in the same place; of a large set among [`COMPARED`] of them.
    pub near_duplicates: f64,
}

impl Health {
    /// Of `vectors`; zeros if there are none.
    pub fn of(vectors: &Embeddings) -> Self {
        let (n, dim) = (vectors.len(), vectors.dim());
        if n == 0 {
            return Self {
                mean_norm: 0.0,
                near_duplicates: 0.0,
            };
        }
        let mut mean = vec![0.0_f64; dim];
        for row in 0..n {
            for (mean, x) in mean.iter_mut().zip(vectors.row(row)) {
                *mean += f64::from(*x) / n as f64;
            }
        }
        let rows: Vec<&[f32]> = (0..n.min(COMPARED))
            .map(|row| vectors.row(row * n / n.min(COMPARED)))
            .collect();
        let twins = rows.par_iter().enumerate().filter(|(a, row)| {
            let others = rows.iter().enumerate().filter(|(b, _)| b != a);
            others
                .into_iter()
                .any(|(_, other)| kernel::dot(row, other) > SAME)
        });
        Self {
            mean_norm: mean.iter().map(|x| x * x).sum::<f64>().sqrt(),
            near_duplicates: twins.count() as f64 / rows.len() as f64,
        }
    }
}
