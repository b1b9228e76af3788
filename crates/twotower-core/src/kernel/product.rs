//! The matrix product. For AVX-512 it has its own code, because `matrixmultiply`, which is used
//! elsewhere, has none.
//!
//! A panel is `WIDTH` columns and at most `DEPTH` rows of b, so that it stays in the first-level
//! cache while all rows of a are multiplied with it. A block of `ROWS` rows of c is held in
//! registers: each step reads one row of the panel and one number from each row of a. a is never
//! copied. b is copied panel by panel, unless its rows are contiguous, or a has too few rows to pay
//! for the copy; a transpose and the last, narrower panel are always copied.

use super::View;

/// c ← alpha · a b + beta · c with `a` `[m, k]`, `b` `[k, n]` and row-major `c` `[m, n]`. If beta
/// is 0, c is not read.
///
/// Each number of `c` is summed in an order that depends only on k, so that a product cut by rows
/// or columns gives the same bits.
///
/// # Panics
/// If the shapes do not fit.
pub fn gemm<'a>(
    alpha: f32,
    a: impl Into<View<'a>>,
    b: impl Into<View<'a>>,
    beta: f32,
    c: &mut [f32],
) {
    let (a, b) = (a.into(), b.into());
    assert_eq!(a.cols, b.rows, "the inner dimensions agree");
    assert_eq!(
        c.len(),
        a.rows * b.cols,
        "the product has the shape of its operands"
    );
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the only requirement is the feature, which was just detected.
        return unsafe { avx512::gemm(alpha, a, b, beta, c) };
    }
    library(alpha, a, b, beta, c);
}

fn library(alpha: f32, a: View<'_>, b: View<'_>, beta: f32, c: &mut [f32]) {
    for view in [a, b] {
        if view.rows > 0 && view.cols > 0 {
            let last = (view.rows - 1) * view.row_stride + (view.cols - 1) * view.col_stride;
            assert!(last < view.data.len(), "a view stays inside its slice");
        }
    }
    let stride = |x: usize| x as isize;
    // SAFETY: the assertions above bound the last element reached through each pair of strides, `c`
    // is row-major of exactly m * n numbers and, being borrowed mutably, overlaps neither operand.
    unsafe {
        matrixmultiply::sgemm(
            a.rows,
            a.cols,
            b.cols,
            alpha,
            a.data.as_ptr(),
            stride(a.row_stride),
            stride(a.col_stride),
            b.data.as_ptr(),
            stride(b.row_stride),
            stride(b.col_stride),
            beta,
            c.as_mut_ptr(),
            stride(b.cols),
            1,
        );
    }
}

/// At most this many rows of b in a panel: 128 rows of 64 columns are 32 KiB.
#[cfg(any(test, target_arch = "x86_64"))]
const DEPTH: usize = 128;

/// Rows of b in each panel over the same columns, except perhaps the last.
#[cfg(any(test, target_arch = "x86_64"))]
fn panel_depth(depth: usize) -> usize {
    depth.div_ceil(depth.div_ceil(DEPTH).max(1))
}

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::needless_range_loop,
    reason = "an array indexed by constants, once loops are unrolled, is registers; its iterators are not always inlined"
)]
mod avx512 {
    use super::{View, panel_depth};
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps};
    use std::ops::Range;

    /// Numbers in a register.
    const LANES: usize = 16;

    /// Registers side by side.
    const REGISTERS: usize = 4;

    /// Columns of a panel.
    const WIDTH: usize = REGISTERS * LANES;

    /// Rows of c in registers: 24 of 32 registers sum.
    const ROWS: usize = 6;

    /// At least this many rows of a pay for copying a panel.
    const MANY: usize = 8 * ROWS;

    /// See [`super::gemm`].
    #[target_feature(enable = "avx512f")]
    pub(super) fn gemm(alpha: f32, a: View<'_>, b: View<'_>, beta: f32, c: &mut [f32]) {
        let (depth, columns) = (a.cols, b.cols);
        if depth == 0 {
            for c in c {
                *c = scaled(beta, *c);
            }
            return;
        }
        let panel_depth = panel_depth(depth);
        let mut copy = Vec::new();
        for from in (0..depth).step_by(panel_depth) {
            let steps = panel_depth.min(depth - from);
            for column in (0..columns).step_by(WIDTH) {
                let width = WIDTH.min(columns - column);
                let far_apart = b.col_stride != 1 || (b.row_stride > WIDTH && a.rows > MANY);
                let (data, stride) = if far_apart || width < WIDTH {
                    copy_panel(b, from..from + steps, column..column + width, &mut copy);
                    (&copy[..], WIDTH)
                } else {
                    (&b.data[from * b.row_stride + column..], b.row_stride)
                };
                let panel = Panel {
                    data,
                    stride,
                    from,
                    steps,
                    column,
                    width,
                };
                let beta = if from == 0 { beta } else { 1.0 };
                panel.multiply(a, (alpha, beta), c, columns);
            }
        }
    }

    /// β c, and 0 if β is 0, whatever c holds.
    #[inline(always)]
    fn scaled(beta: f32, c: f32) -> f32 {
        if beta == 0.0 { 0.0 } else { beta * c }
    }

    /// Copies rows and columns of `b` contiguously, padded with columns of zeros.
    #[target_feature(enable = "avx512f")]
    fn copy_panel(b: View<'_>, rows: Range<usize>, columns: Range<usize>, copy: &mut Vec<f32>) {
        copy.clear();
        copy.resize(rows.len() * WIDTH, 0.0);
        if b.col_stride != 1 {
            for (n, column) in columns.enumerate() {
                let from = &b.data[column * b.col_stride..][rows.clone()];
                for (to, &x) in copy.chunks_exact_mut(WIDTH).zip(from) {
                    to[n] = x;
                }
            }
            return;
        }
        for (row, to) in rows.zip(copy.chunks_exact_mut(WIDTH)) {
            let from = &b.data[row * b.row_stride..][columns.clone()];
            if from.len() < WIDTH {
                to[..from.len()].copy_from_slice(from);
                continue;
            }
            for n in 0..REGISTERS {
                to[n * LANES..][..LANES].copy_from_slice(&from[n * LANES..][..LANES]);
            }
        }
    }

    /// Some rows and columns of b.
    #[derive(Clone, Copy)]
    struct Panel<'a> {
        /// The rows, `stride` apart.
        data: &'a [f32],
        stride: usize,
        /// First row in b, and the number of rows.
        from: usize,
        steps: usize,
        /// First column in b, and the number of columns.
        column: usize,
        width: usize,
    }

    impl Panel<'_> {
        /// c ← α a b + β c in the panel's columns; `columns` is the number of columns of c.
        #[target_feature(enable = "avx512f")]
        fn multiply(self, a: View<'_>, (alpha, beta): (f32, f32), c: &mut [f32], columns: usize) {
            let mut row = 0;
            while row < a.rows {
                let mut sums = [0.0; ROWS * WIDTH];
                let rows = match a.rows - row {
                    ROWS.. => self.sums::<ROWS>(a, row, &mut sums),
                    4.. => self.sums::<4>(a, row, &mut sums),
                    2.. => self.sums::<2>(a, row, &mut sums),
                    _ => self.sums::<1>(a, row, &mut sums),
                };
                for (r, sums) in sums.chunks_exact(WIDTH).take(rows).enumerate() {
                    let c = &mut c[(row + r) * columns + self.column..][..self.width];
                    for (c, sum) in c.iter_mut().zip(sums) {
                        *c = alpha * sum + scaled(beta, *c);
                    }
                }
                row += rows;
            }
        }

        /// Writes the products of rows `row..row + R` of `a` with the panel into `sums`; returns R.
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn sums<const R: usize>(
            self,
            a: View<'_>,
            row: usize,
            into: &mut [f32; ROWS * WIDTH],
        ) -> usize {
            let (row_stride, col_stride) = (a.row_stride, a.col_stride);
            let left = &a.data[row * row_stride + self.from * col_stride..];
            let last = self.steps - 1;
            assert!((R - 1) * row_stride + last * col_stride < left.len());
            assert!(last * self.stride + WIDTH <= self.data.len());
            let (left, right) = (left.as_ptr(), self.data.as_ptr());
            let mut sums = [[_mm512_set1_ps(0.0); REGISTERS]; R];
            for step in 0..self.steps {
                let mut vectors = [_mm512_set1_ps(0.0); REGISTERS];
                for n in 0..REGISTERS {
                    // SAFETY: `step` is at most `last`, up to which the assertion allows whole rows
                    // of the panel.
                    vectors[n] =
                        unsafe { _mm512_loadu_ps(right.add(step * self.stride + n * LANES)) };
                }
                for r in 0..R {
                    // SAFETY: likewise, `r` being at most R - 1.
                    let number = unsafe { *left.add(r * row_stride + step * col_stride) };
                    let number = _mm512_set1_ps(number);
                    for n in 0..REGISTERS {
                        sums[r][n] = _mm512_fmadd_ps(number, vectors[n], sums[r][n]);
                    }
                }
            }
            for r in 0..R {
                for n in 0..REGISTERS {
                    let into = &mut into[r * WIDTH + n * LANES..][..LANES];
                    // SAFETY: the slice holds what is written.
                    unsafe { _mm512_storeu_ps(into.as_mut_ptr(), sums[r][n]) };
                }
            }
            R
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The reference for the AVX-512 code, to the bit.
    fn scalar(alpha: f32, a: View<'_>, b: View<'_>, beta: f32, c: &mut [f32]) {
        let at = |view: View<'_>, i, j| view.data[i * view.row_stride + j * view.col_stride];
        for (n, c) in c.iter_mut().enumerate() {
            let (i, j) = (n / b.cols, n % b.cols);
            *c = if beta == 0.0 { 0.0 } else { beta * *c };
            let panel = panel_depth(a.cols).max(1);
            for from in (0..a.cols).step_by(panel) {
                let steps = from..a.cols.min(from + panel);
                let sum = steps.fold(0.0, |sum, p| at(a, i, p).mul_add(at(b, p, j), sum));
                *c += alpha * sum;
            }
        }
    }

    fn numbers(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    proptest! {
        #[test]
        fn it_equals_its_twin_to_the_bit_and_the_library_nearly(
            (m, k, n) in (0usize..70, prop_oneof![0usize..9, 120usize..400], 0usize..150),
            (a_transposed, b_transposed) in any::<(bool, bool)>(), beta in 0u8..3,
        ) {
            let (a, b, beta) = (numbers(m * k, 0.37), numbers(k * n, 0.73), f32::from(beta));
            let view = |data, rows, cols, transposed: bool| {
                let (row_stride, col_stride) = if transposed { (1, rows) } else { (cols, 1) };
                View { data, rows, cols, row_stride, col_stride }
            };
            let (a, b) = (view(&a, m, k, a_transposed), view(&b, k, n, b_transposed));
            let before = if beta == 0.0 { f32::NAN } else { 0.5 };
            let (mut ours, mut twin, mut theirs) = (vec![before; m * n], vec![before; m * n], vec![before; m * n]);
            gemm(2.0, a, b, beta, &mut ours);
            scalar(2.0, a, b, beta, &mut twin);
            library(2.0, a, b, beta, &mut theirs);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx512f") {
                let bits = |c: &[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&ours), bits(&twin));
            }
            for (other, twin) in ours.iter().chain(&theirs).zip(twin.iter().chain(&twin)) {
                prop_assert!((other - twin).abs() < 1e-6 * (1.0 + k as f32), "{} is not {}", other, twin);
            }
        }

        #[test]
        fn a_product_cut_by_rows_and_columns_has_the_same_bits(
            (m, k, n) in (1usize..80, 1usize..300, 1usize..200), (row, column) in (0usize..80, 0usize..200),
        ) {
            let (a, b) = (numbers(m * k, 0.37), numbers(k * n, 0.73));
            let (row, column) = (row % m, column % n);
            let mut whole = vec![0.0; m * n];
            gemm(1.0, View::rows(&a, k), View::rows(&b, n), 0.0, &mut whole);
            let mut part = vec![0.0; (m - row) * (n - column)];
            let right = View::rows(&b, n).columns(column, n - column);
            gemm(1.0, View::rows(&a[row * k..], k), right, 0.0, &mut part);
            for (part, whole) in part.chunks_exact(n - column).zip(whole[row * n..].chunks_exact(n)) {
                prop_assert_eq!(part, &whole[column..]);
            }
        }
    }
}
