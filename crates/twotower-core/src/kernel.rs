//! The inner loops: matrix product, inner product, exponential.
//!
//! Each loop is written once, as plain safe code, and compiled twice: for the baseline of the target and for AVX2, chosen
//! at run time. No operation is reordered or fused between the two, so they agree to the bit (a property test compares them).

#![expect(
    clippy::inline_always,
    reason = "a body must be compiled inside the function that enables AVX2"
)]
#![expect(
    unsafe_code,
    reason = "the one place of it: a product through raw pointers and calls of AVX2 code after detection"
)]

use crate::matrix::Matrix;

/// A matrix inside a slice, with strides, so that a transpose costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
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
    /// If there are not as many columns.
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

/// c ← alpha · a b + beta · c with `a` `[m, k]`, `b` `[k, n]` and row-major `c` `[m, n]`.
///
/// Each number of `c` is summed in an order that depends on k alone, so that a product cut by rows or columns gives the
/// same bits.
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
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "the inner dimensions agree");
    assert_eq!(c.len(), m * n, "the product has the shape of its operands");
    for view in [a, b] {
        if view.rows > 0 && view.cols > 0 {
            let last = (view.rows - 1) * view.row_stride + (view.cols - 1) * view.col_stride;
            assert!(last < view.data.len(), "a view stays inside its slice");
        }
    }
    let stride = |x: usize| x as isize;
    // SAFETY: the assertions above bound the last element reached through each pair of strides, `c` is row-major of
    // exactly m * n numbers and, being borrowed mutably, overlaps neither operand.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            alpha,
            a.data.as_ptr(),
            stride(a.row_stride),
            stride(a.col_stride),
            b.data.as_ptr(),
            stride(b.row_stride),
            stride(b.col_stride),
            beta,
            c.as_mut_ptr(),
            stride(n),
            1,
        );
    }
}

/// Defines a kernel from its body in [`scalar`]: the function dispatches, the body is the twin that tests compare with.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        $(#[$doc])*
        pub fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    scalar::$name($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the only requirement is the feature, which was just detected.
                    return unsafe { avx2($($argument),*) };
                }
            }
            scalar::$name($($argument),*)
        }
    };
}

const LANES: usize = 8;

kernel! {
    /// Inner product of two slices of equal length (the shorter counts), summed in eight lanes.
    dot(a: &[f32], b: &[f32]) -> f32
}

kernel! {
    /// y ← y + alpha x
    axpy(alpha: f32, x: &[f32], y: &mut [f32])
}

kernel! {
    /// x ← exp(x - shift); returns the sum. Relative error below 2e-7 where the result is a normal number; 0 below -87.
    exp_sum(x: &mut [f32], shift: f32) -> f32
}

kernel! {
    /// y ← GELU(x) by its sigmoid approximation, x ← GELU'(x).
    gelu(x: &mut [f32], y: &mut [f32])
}

kernel! {
    /// One step of Adam (Kingma & Ba 2015, algorithm 1) with decoupled weight decay, bias correction inside `step`.
    adam(parameters: &mut [f32], moments: (&mut [f32], &mut [f32]), gradient: &[f32], step: AdamStep)
}

/// The numbers of one Adam step that are the same for every parameter.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Learning rate divided by 1 - β₁ᵗ.
    pub rate: f32,
    /// 1 / (1 - β₂ᵗ)
    pub second_correction: f32,
    /// Learning rate times weight decay.
    pub decay: f32,
}

/// e^x. Relative error below 2e-7 where the result is a normal number; 0 below -87.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // exp(x) = 2^n · exp(r) with n = round(x / ln 2), |r| ≤ ln 2 / 2; exp(r) by its Taylor polynomial of degree 7.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0
                    + r * (1.0 / 24.0
                        + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))))));
    let scale = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { p * scale }
}

/// 1 / (1 + e^-x)
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The bodies of the kernels, in plain safe code.
pub mod scalar {
    use super::{AdamStep, LANES};
    use crate::tower::GELU_SLOPE;

    /// See [`super::dot`].
    #[inline(always)]
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        let mut lanes = [0.0; LANES];
        let (a_blocks, a_rest) = a.as_chunks::<LANES>();
        let (b_blocks, b_rest) = b.as_chunks::<LANES>();
        for (a, b) in a_blocks.iter().zip(b_blocks) {
            for lane in 0..LANES {
                lanes[lane] += a[lane] * b[lane];
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
        lanes.iter().sum::<f32>() + rest
    }

    /// See [`super::axpy`].
    #[inline(always)]
    pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += alpha * x;
        }
    }

    /// See [`super::exp_sum`].
    #[inline(always)]
    pub fn exp_sum(x: &mut [f32], shift: f32) -> f32 {
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = x.as_chunks_mut::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                block[lane] = super::exp(block[lane] - shift);
                lanes[lane] += block[lane];
            }
        }
        let mut sum = lanes.iter().sum::<f32>();
        for x in rest {
            *x = super::exp(*x - shift);
            sum += *x;
        }
        sum
    }

    /// See [`super::gelu`].
    #[inline(always)]
    pub fn gelu(x: &mut [f32], y: &mut [f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            let gate = super::sigmoid(GELU_SLOPE * *x);
            *y = *x * gate;
            *x = gate * (1.0 + GELU_SLOPE * *x * (1.0 - gate));
        }
    }

    /// See [`super::adam`].
    #[inline(always)]
    pub fn adam(
        parameters: &mut [f32],
        moments: (&mut [f32], &mut [f32]),
        gradient: &[f32],
        step: AdamStep,
    ) {
        let (first, second) = moments;
        for (((p, m), v), g) in parameters.iter_mut().zip(first).zip(second).zip(gradient) {
            *m = step.beta1 * *m + (1.0 - step.beta1) * g;
            *v = step.beta2 * *v + (1.0 - step.beta2) * g * g;
            *p -= step.rate * *m / ((*v * step.second_correction).sqrt() + 1e-8) + step.decay * *p;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn kernels_equal_their_scalar_twins_to_the_bit(
            a in prop::collection::vec(-20.0f32..20.0, 0..70), alpha in -2.0f32..2.0,
        ) {
            let b: Vec<f32> = a.iter().rev().map(|x| x * 0.7 - 0.1).collect();
            prop_assert_eq!(dot(&a, &b).to_bits(), scalar::dot(&a, &b).to_bits());
            let (mut x, mut y) = (b.clone(), b.clone());
            axpy(alpha, &a, &mut x);
            scalar::axpy(alpha, &a, &mut y);
            prop_assert_eq!(&x, &y);
            prop_assert_eq!(exp_sum(&mut x, alpha).to_bits(), scalar::exp_sum(&mut y, alpha).to_bits());
            prop_assert_eq!(&x, &y);
            let (mut x, mut y) = ((a.clone(), b.clone()), (a.clone(), b.clone()));
            gelu(&mut x.0, &mut x.1);
            scalar::gelu(&mut y.0, &mut y.1);
            prop_assert_eq!(&x, &y);
            let step = AdamStep { beta1: 0.9, beta2: 0.999, rate: 0.01, second_correction: 1.5, decay: 1e-4 };
            let second: Vec<f32> = a.iter().map(|x| x * x).collect();
            let (mut x, mut y) = ((a.clone(), b.clone(), second.clone()), (a.clone(), b.clone(), second));
            adam(&mut x.0, (&mut x.1, &mut x.2), &b, step);
            scalar::adam(&mut y.0, (&mut y.1, &mut y.2), &b, step);
            prop_assert_eq!(x, y);
        }

        #[test]
        fn exp_is_close(x in -87.0f32..88.0) {
            let exact = f64::from(x).exp();
            prop_assert!(((f64::from(exp(x)) - exact) / exact).abs() < 2e-7);
        }

        #[test]
        fn gemm_equals_its_definition(
            (m, k, n) in (1usize..9, 1usize..9, 1usize..9), transpose in any::<bool>(), beta in 0u8..2,
        ) {
            let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.73).cos()).collect();
            let mut c = vec![0.5; m * n];
            let a_view = if transpose { View::rows(&a, m).t() } else { View::rows(&a, k) };
            let at = |i: usize, p: usize| if transpose { p * m + i } else { i * k + p };
            gemm(2.0, a_view, View::rows(&b, n), f32::from(beta), &mut c);
            for i in 0..m {
                for j in 0..n {
                    let sum: f32 = (0..k).map(|p| a[at(i, p)] * b[p * n + j]).sum();
                    prop_assert!((c[i * n + j] - 2.0 * sum - f32::from(beta) * 0.5).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn exp_of_minus_infinity_is_zero() {
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0.0_f32.to_bits());
        assert_eq!(
            exp_sum(&mut [f32::NEG_INFINITY, 0.0], 0.0).to_bits(),
            1.0_f32.to_bits()
        );
    }
}
