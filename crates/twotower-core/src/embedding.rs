//! Finite vectors of one dimension and unit norm: what towers give out, stores keep and retrieval compares.

use thiserror::Error;

/// How far a norm may be from 1: the same when a vector is written, when it is judged before readers see it and when it is read, so that
/// nobody lets in what another one refuses.
pub const NORM_TOLERANCE: f64 = 1e-3;

/// Numbers that are no embedding.
#[derive(Debug, Error, PartialEq)]
pub enum EmbeddingError {
    /// The vector has another length than its neighbours.
    #[error("the vector has {actual} dimensions, expected {expected}")]
    Dimension {
        /// What the space has.
        expected: usize,
        /// What came.
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

/// Refuses what is not finite or not of unit norm.
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

/// The Euclidean norm, as pgvector has it: summed in double precision, so that both judge a vector at the edge alike.
pub fn norm(vector: &[f32]) -> f64 {
    let squares = vector.iter().map(|&x| f64::from(x) * f64::from(x));
    squares.sum::<f64>().sqrt()
}

/// Whether a vector of this norm is taken for one of unit norm; never with NaN.
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

    /// Appends one row.
    ///
    /// # Errors
    /// [`EmbeddingError`] if it is none; nothing is appended then.
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

    /// Row `row`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.dim..(row + 1) * self.dim]
    }

    /// The rows at `rows`, in that order.
    ///
    /// # Panics
    /// If one is not there.
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

    /// All rows, row-major, for whoever made them.
    pub fn into_rows(self) -> Vec<f32> {
        self.data
    }

    /// All rows, row-major.
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
