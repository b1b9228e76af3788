use crate::kernel::gemm;
use crate::matrix::Matrix;

/// Smaller matrices are inverted by elimination, which is as fast for them as products of blocks.
const BASE: usize = 32;

/// The inverse of a symmetric positive definite matrix `[n, n]`.
///
/// Computed by halves: with blocks A, B, D and the Schur complement S = D - Bᵀ A⁻¹ B the inverse is
/// [A⁻¹ + W S⁻¹ Wᵀ, -W S⁻¹; -S⁻¹ Wᵀ, S⁻¹] with W = A⁻¹ B, so that nearly all work is matrix
/// products.
pub(super) fn invert(matrix: &Matrix) -> Matrix {
    let n = matrix.rows();
    if n <= BASE {
        return eliminate(matrix);
    }
    let half = n / 2;
    let a = invert(&block(matrix, 0..half, 0..half));
    let b = block(matrix, 0..half, half..n);
    let mut w = Matrix::zeros(half, n - half);
    gemm(1.0, &a, &b, 0.0, w.as_mut_slice());
    let mut s = block(matrix, half..n, half..n);
    gemm(-1.0, transposed(&b), &w, 1.0, s.as_mut_slice());
    let s = invert(&s);
    let mut right = Matrix::zeros(half, n - half);
    gemm(-1.0, &w, &s, 0.0, right.as_mut_slice());
    let mut left = a;
    gemm(-1.0, &right, transposed(&w), 1.0, left.as_mut_slice());
    let mut inverse = Matrix::zeros(n, n);
    for row in 0..half {
        let out = inverse.row_mut(row);
        out[..half].copy_from_slice(left.row(row));
        out[half..].copy_from_slice(right.row(row));
    }
    for row in half..n {
        let out = inverse.row_mut(row);
        for (column, x) in out[..half].iter_mut().enumerate() {
            *x = right.row(column)[row - half];
        }
        out[half..].copy_from_slice(s.row(row - half));
    }
    inverse
}

fn transposed(matrix: &Matrix) -> crate::kernel::View<'_> {
    crate::kernel::View::from(matrix).t()
}

fn block(matrix: &Matrix, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Matrix {
    let mut block = Matrix::zeros(rows.len(), columns.len());
    for (to, from) in rows.enumerate() {
        block
            .row_mut(to)
            .copy_from_slice(&matrix.row(from)[columns.clone()]);
    }
    block
}

/// Gauss-Jordan elimination in place, in 64 bits; a positive definite matrix needs no pivoting.
fn eliminate(matrix: &Matrix) -> Matrix {
    let n = matrix.rows();
    let mut x: Vec<f64> = matrix.as_slice().iter().map(|&x| f64::from(x)).collect();
    for pivot in 0..n {
        let scale = 1.0 / x[pivot * n + pivot];
        x[pivot * n + pivot] = 1.0;
        for column in 0..n {
            x[pivot * n + column] *= scale;
        }
        for row in (0..n).filter(|&row| row != pivot) {
            let factor = x[row * n + pivot];
            x[row * n + pivot] = 0.0;
            for column in 0..n {
                x[row * n + column] -= factor * x[pivot * n + column];
            }
        }
    }
    let mut inverse = Matrix::zeros(n, n);
    for (to, from) in inverse.as_mut_slice().iter_mut().zip(x) {
        *to = from as f32;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        let mut generator = Pcg64::seed_from_u64(5);
        for n in [1, 7, 32, 33, 100] {
            let mut x = Matrix::zeros(n, n);
            for value in x.as_mut_slice() {
                *value = generator.random_range(-1.0..1.0);
            }
            let mut matrix = Matrix::zeros(n, n);
            for i in 0..n {
                matrix.row_mut(i)[i] = 5.0;
            }
            gemm(1.0, transposed(&x), &x, 1.0, matrix.as_mut_slice());
            let mut product = Matrix::zeros(n, n);
            gemm(1.0, &matrix, &invert(&matrix), 0.0, product.as_mut_slice());
            for i in 0..n {
                for j in 0..n {
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((product.row(i)[j] - expected).abs() < 1e-4, "{n}: {i}, {j}");
                }
            }
        }
    }
}
