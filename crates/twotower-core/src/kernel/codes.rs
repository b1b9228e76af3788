//! Inner products of rows of unsigned bytes with one row of signed bytes: the hot loop of a search
//! among quantised vectors.
//!
//! Integers are exact, so that every implementation gives the same numbers.

/// Bytes per vector register. The length of a row of codes is a multiple of it.
pub const CODE_BLOCK: usize = 32;

/// Rows are prefetched this far ahead, to cover the latency of memory.
pub const CODES_AHEAD: usize = 32;

/// Writes the inner product of `query` with each row of `codes` `[n, query.len()]` into `out`
/// `[n]`.
///
/// Neighbouring numbers of the query, |q₂ᵢ| + |q₂ᵢ₊₁|, may add up to at most 128, so that no sum of
/// two products exceeds 16 bits.
///
/// # Panics
/// If the query's length is not a multiple of [`CODE_BLOCK`], or the shapes do not fit.
pub fn code_products(codes: &[u8], query: &[i8], out: &mut [i32]) {
    assert_eq!(
        codes.len(),
        out.len() * query.len(),
        "one product for each row of codes"
    );
    dispatch(codes, query, |n| n, out);
}

/// The same for the rows of `codes` that `rows` `[n]` names.
///
/// # Panics
/// If the query's length is not a multiple of [`CODE_BLOCK`], a row does not exist, or there are
/// fewer `rows` than numbers in `out`.
pub fn code_products_at(codes: &[u8], rows: &[u32], query: &[i8], out: &mut [i32]) {
    dispatch(codes, query, |n| rows[n] as usize, out);
}

/// `row_of` gives the row for each number of `out`.
fn dispatch(codes: &[u8], query: &[i8], row_of: impl Fn(usize) -> usize, out: &mut [i32]) {
    assert_eq!(
        query.len() % CODE_BLOCK,
        0,
        "a row of codes is whole registers"
    );
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512vnni")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx2")
        {
            // SAFETY: the only requirement is the features, which were just detected.
            return unsafe { x86::vnni(codes, query, row_of, out) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the only requirement is the feature, which was just detected.
            return unsafe { x86::avx2(codes, query, row_of, out) };
        }
    }
    scalar(codes, query, row_of, out);
}

/// The definition.
fn scalar(codes: &[u8], query: &[i8], row_of: impl Fn(usize) -> usize, out: &mut [i32]) {
    for (n, out) in out.iter_mut().enumerate() {
        let row = &codes[row_of(n) * query.len()..][..query.len()];
        *out = row
            .iter()
            .zip(query)
            .map(|(&x, &q)| i32::from(x) * i32::from(q))
            .sum();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CODE_BLOCK, CODES_AHEAD as AHEAD};
    use crate::kernel::prefetch::prefetch_bytes;
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_dpbusd_epi32, _mm256_hadd_epi32, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_permute2x128_si256, _mm256_set1_epi16,
        _mm256_setzero_si256, _mm256_storeu_si256,
    };

    /// Rows whose sums are reduced together.
    const GROUP: usize = 8;

    /// Defines `name` from the instructions that add four products at a time to a sum.
    macro_rules! code_products {
        ($name:ident, $rows:ident, $features:literal, $add:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(
                codes: &[u8],
                query: &[i8],
                row_of: impl Fn(usize) -> usize,
                out: &mut [i32],
            ) {
                // With a length known to the compiler the query stays in registers: dimensions up
                // to 32, 64, 96 and 128.
                match query.len() / CODE_BLOCK {
                    1 => $rows::<1>(codes, query, row_of, out),
                    2 => $rows::<2>(codes, query, row_of, out),
                    3 => $rows::<3>(codes, query, row_of, out),
                    4 => $rows::<4>(codes, query, row_of, out),
                    _ => $rows::<0>(codes, query, row_of, out),
                }
            }

            /// `BLOCKS` registers per row, or as many as the row has if it is 0.
            #[target_feature(enable = $features)]
            fn $rows<const BLOCKS: usize>(
                codes: &[u8],
                query: &[i8],
                row_of: impl Fn(usize) -> usize,
                out: &mut [i32],
            ) {
                let blocks = if BLOCKS == 0 {
                    query.len() / CODE_BLOCK
                } else {
                    BLOCKS
                };
                let stride = blocks * CODE_BLOCK;
                let sum_of = |n: usize| {
                    let row = &codes[row_of(n) * stride..][..stride];
                    let mut sum = _mm256_setzero_si256();
                    for block in 0..blocks {
                        sum = $add(sum, load(row, block), load(query, block));
                    }
                    sum
                };
                let rows = out.len();
                let (groups, rest) = out.as_chunks_mut::<GROUP>();
                for (n, group) in groups.iter_mut().enumerate() {
                    let ahead = n * GROUP + AHEAD;
                    for row in ahead..rows.min(ahead + GROUP) {
                        prefetch_bytes(codes.as_ptr().wrapping_add(row_of(row) * stride), stride);
                    }
                    let sums: [__m256i; GROUP] = std::array::from_fn(|row| sum_of(n * GROUP + row));
                    store(group, add_up(sums));
                }
                let done = groups.len() * GROUP;
                if !rest.is_empty() {
                    let mut sums = [_mm256_setzero_si256(); GROUP];
                    for (n, sum) in sums[..rest.len()].iter_mut().enumerate() {
                        *sum = sum_of(done + n);
                    }
                    let mut group = [0; GROUP];
                    store(&mut group, add_up(sums));
                    rest.copy_from_slice(&group[..rest.len()]);
                }
            }
        };
    }

    code_products!(avx2, avx2_rows, "avx2", add_avx2);

    code_products!(vnni, vnni_rows, "avx2,avx512vnni,avx512vl", add_vnni);

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_avx2(sum: __m256i, codes: __m256i, query: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(codes, query);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512vnni,avx512vl")]
    fn add_vnni(sum: __m256i, codes: __m256i, query: __m256i) -> __m256i {
        _mm256_dpbusd_epi32(sum, codes, query)
    }

    /// Register `block` of a row of bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load<T: Byte>(row: &[T], block: usize) -> __m256i {
        let bytes: &[T] = &row[block * CODE_BLOCK..][..CODE_BLOCK];
        // SAFETY: the slice holds the 32 bytes that are read, and the load asks for no alignment.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(group: &mut [i32; GROUP], sums: __m256i) {
        // SAFETY: the array is the 32 bytes that are written, and the store asks for no alignment.
        unsafe { _mm256_storeu_si256(group.as_mut_ptr().cast(), sums) }
    }

    /// The sum of each register's eight numbers, in the order of the registers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_up(sums: [__m256i; GROUP]) -> __m256i {
        let [a, b, c, d, e, f, g, h] = sums;
        let first = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let second = _mm256_hadd_epi32(_mm256_hadd_epi32(e, f), _mm256_hadd_epi32(g, h));
        _mm256_add_epi32(
            _mm256_permute2x128_si256::<0x20>(first, second),
            _mm256_permute2x128_si256::<0x31>(first, second),
        )
    }

    /// One byte, signed or not.
    trait Byte {}
    impl Byte for u8 {}
    impl Byte for i8 {}

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_instruction_set_agrees_at_the_ends_of_the_range() {
            for dim in [32, 64, 96, 128, 160, 256] {
                let codes = vec![255; 11 * dim];
                for query in [[127, 1], [-128, 0], [-64, -64]] {
                    let query: Vec<i8> = query.into_iter().cycle().take(dim).collect();
                    let mut expected = vec![0; 11];
                    super::super::scalar(&codes, &query, |n| n, &mut expected);
                    let mut out = vec![0; 11];
                    if std::arch::is_x86_feature_detected!("avx2") {
                        // SAFETY: the feature was just detected.
                        unsafe { avx2(&codes, &query, |n| n, &mut out) };
                        assert_eq!(out, expected);
                    }
                    super::super::code_products(&codes, &query, &mut out);
                    assert_eq!(out, expected);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_equal_their_definition(
            (blocks, n) in (1usize..9, 0usize..35), seed in any::<u32>(), rows in prop::collection::vec(0u32..35, 0..30),
        ) {
            let dim = blocks * CODE_BLOCK;
            let byte = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed).wrapping_mul(40_503) >> 13;
            let codes: Vec<u8> = (0..n * dim).map(|i| byte(i) as u8).collect();
            let query: Vec<i8> = (0..dim).map(|i| (byte(i + 7) % 129) as i32 as i8 / 2).collect();
            let (mut out, mut expected) = (vec![1; n], vec![2; n]);
            code_products(&codes, &query, &mut out);
            scalar(&codes, &query, |n| n, &mut expected);
            prop_assert_eq!(&out, &expected);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the feature was just detected.
                unsafe { x86::avx2(&codes, &query, |n| n, &mut out) };
                prop_assert_eq!(&out, &expected);
            }
            let rows: Vec<u32> = rows.into_iter().filter(|&row| (row as usize) < n).collect();
            let mut picked = vec![3; rows.len()];
            code_products_at(&codes, &rows, &query, &mut picked);
            let expected: Vec<i32> = rows.iter().map(|&row| expected[row as usize]).collect();
            prop_assert_eq!(picked, expected);
        }
    }
}
