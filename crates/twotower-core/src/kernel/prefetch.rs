//! Prefetching: a read of scattered memory takes about a hundred nanoseconds unless it was
//! requested before.

/// Size of a cache line, in bytes.
pub const CACHE_LINE: usize = 64;

/// Prefetches `values`, wherever in a cache line they begin.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    let (begin, length) = (values.as_ptr().cast::<u8>(), size_of_val(values));
    prefetch_bytes(begin, length);
    if let Some(last) = length.checked_sub(1) {
        prefetch_bytes(begin.wrapping_add(last), 1);
    }
}

/// Prefetches `length` bytes from `begin`, the start of a cache line, on. The address need not be
/// valid.
#[inline]
pub(super) fn prefetch_bytes(begin: *const u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in (0..length).step_by(CACHE_LINE) {
            // SAFETY: a prefetch has no visible effect and may be given any address. It needs SSE,
            // which every x86-64 has.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(begin.wrapping_add(line).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (begin, length, CACHE_LINE);
}
