//! Operands of the matrix product.

use crate::matrix::Matrix;

/// A matrix inside a slice, with strides, so that transposing is free.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a> View<'a> {
    /// `data` `[n, cols]`, row-major.
    ///
    /// # Panics
    /// If `data` does not hold whole rows.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        assert_eq!(data.len() % cols, 0, "a view holds whole rows");
        Self {
            data,
            rows: data.len() / cols,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// Columns `from..from + cols` of the same rows.
    ///
    /// # Panics
    /// If there are fewer columns.
    #[must_use]
    pub fn columns(self, from: usize, cols: usize) -> Self {
        assert!(
            from + cols <= self.cols,
            "a view has as many columns as are taken"
        );
        Self {
            data: &self.data[(from * self.col_stride).min(self.data.len())..],
            cols,
            ..self
        }
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a> From<&'a Matrix> for View<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        Self {
            data: matrix.as_slice(),
            rows: matrix.rows(),
            cols: matrix.cols(),
            row_stride: matrix.cols(),
            col_stride: 1,
        }
    }
}
