//! Finite vectors of one dimension and unit norm: the towers compute them, the store keeps them,
//! retrieval compares them.

use thiserror::Error;

/// Tolerance of the norm around 1. It is the same when vectors are written, judged before
/// activation, and read, so that no stage accepts what another refuses.
pub const NORM_TOLERANCE: f64 = 1e-3;

/// Why numbers are not an embedding.
#[derive(Debug, Error, PartialEq)]
pub enum EmbeddingError {
    /// The vector has another dimension than the others.
    #[error("the vector has {actual} dimensions, expected {expected}")]
    Dimension {
        /// Dimension of the space.
        expected: usize,
        /// Length of the vector.
        actual: usize,
    },
    /// NaN or infinity.
    #[error("component {component} is not finite")]
    NotFinite {
        /// Position of the first such component.
        component: usize,
    },
    /// The norm is not 1.
    #[error("the norm is {norm}, expected 1")]
    Norm {
        /// Euclidean norm.
        norm: f32,
    },
}

/// Checks that all components are finite and the norm is 1.
///
/// # Errors
/// [`EmbeddingError`]
pub fn check(vector: &[f32]) -> Result<(), EmbeddingError> {
    if let Some(component) = vector.iter().position(|x| !x.is_finite()) {
        return Err(EmbeddingError::NotFinite { component });
    }
    let norm = norm(vector);
    if is_unit(norm) {
        Ok(())
    } else {
        Err(EmbeddingError::Norm { norm: norm as f32 })
    }
}

/// The Euclidean norm, summed in double precision as pgvector does, so that both judge borderline
/// vectors alike.
pub fn norm(vector: &[f32]) -> f64 {
    let squares = vector.iter().map(|&x| f64::from(x) * f64::from(x));
    squares.sum::<f64>().sqrt()
}

/// Whether this norm counts as 1; false for NaN.
pub fn is_unit(norm: f64) -> bool {
    (norm - 1.0).abs() <= NORM_TOLERANCE
}

/// Row-major embeddings `[n, d]`, each finite and of unit norm.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    dim: usize,
    data: Vec<f32>,
}

impl Embeddings {
    /// No rows of dimension `dim`.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn new(dim: usize) -> Self {
        assert!(dim > 0, "embeddings have at least one dimension");
        Self {
            dim,
            data: Vec::new(),
        }
    }

    /// Takes `data` `[n, dim]`, row-major.
    ///
    /// # Errors
    /// [`EmbeddingError`] of the first row that is not an embedding.
    pub fn from_rows(dim: usize, data: Vec<f32>) -> Result<Self, EmbeddingError> {
        if !data.len().is_multiple_of(dim) {
            return Err(EmbeddingError::Dimension {
                expected: dim,
                actual: data.len() % dim,
            });
        }
        data.chunks_exact(dim).try_for_each(check)?;
        Ok(Self { dim, data })
    }

    /// Appends one row, `[d]`.
    ///
    /// # Errors
    /// [`EmbeddingError`] if it is not an embedding; nothing is appended then.
    pub fn push(&mut self, vector: &[f32]) -> Result<(), EmbeddingError> {
        if vector.len() != self.dim {
            return Err(EmbeddingError::Dimension {
                expected: self.dim,
                actual: vector.len(),
            });
        }
        check(vector)?;
        self.data.extend_from_slice(vector);
        Ok(())
    }

    /// Dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of rows n.
    pub fn len(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Row `row`, `[d]`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.dim..(row + 1) * self.dim]
    }

    /// The rows at `rows`, in that order: `[rows.len(), d]`.
    ///
    /// # Panics
    /// If a row does not exist.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        let mut data = Vec::with_capacity(rows.len() * self.dim);
        for &row in rows {
            data.extend_from_slice(self.row(row as usize));
        }
        Self {
            dim: self.dim,
            data,
        }
    }

    /// All rows, row-major, `[n, d]`, without a copy.
    pub fn into_rows(self) -> Vec<f32> {
        self.data
    }

    /// All rows, row-major, `[n, d]`.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_unit_vectors_enter() {
        let mut rows = Embeddings::new(2);
        assert!(rows.push(&[0.6, 0.8]).is_ok());
        assert_eq!(
            rows.push(&[f32::NAN, 1.0]),
            Err(EmbeddingError::NotFinite { component: 0 })
        );
        assert!(matches!(
            rows.push(&[1.0, 1.0]),
            Err(EmbeddingError::Norm { .. })
        ));
        assert!(matches!(
            rows.push(&[1.0]),
            Err(EmbeddingError::Dimension {
                expected: 2,
                actual: 1
            })
        ));
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn norms_may_be_a_thousandth_off() {
        let is_embedding = |norm: f32| check(&[0.6 * norm, 0.8 * norm]).is_ok();
        assert!([0.9991, 1.0, 1.0009].into_iter().all(is_embedding));
        assert!(![0.9989, 1.0011, 0.0, 3e38].into_iter().any(is_embedding));
        assert!(!is_unit(f64::NAN) && !is_unit(f64::INFINITY));
    }
}
