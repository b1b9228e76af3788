//! Memory asked for before it is read: what lies scattered takes about a hundred nanoseconds to come, whether one waits for it or not.

/// Bytes that memory hands out at once.
pub const CACHE_LINE: usize = 64;

/// Asks for `values`, which will be read soon.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    prefetch_bytes(values.as_ptr().cast(), size_of_val(values));
}

/// Asks for `length` bytes from `begin` on, which need not be there.
#[inline]
pub(super) fn prefetch_bytes(begin: *const u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in (0..length).step_by(CACHE_LINE) {
            // SAFETY: a prefetch reads nothing that a program could see, and may be given any address. SSE, which it needs, is part of
            // every x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(begin.wrapping_add(line).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (begin, length, CACHE_LINE);
}
