//! Large arrays on large pages.

use crate::kernel::CACHE_LINE;
use std::ops::{Deref, DerefMut};

#[cfg(target_os = "linux")]
type Pages = memmap2::MmapMut;

/// Other systems have no such pages.
#[cfg(not(target_os = "linux"))]
type Pages = Box<[u8]>;

/// Smaller arrays get no pages of their own.
const MIN_BYTES: usize = 8 << 20;

/// Bytes that begin at a cache line. For large arrays the system is asked for pages of 2 MB: with
/// small pages each read of a random row costs a walk through the page tables, besides the read
/// itself.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// The cache line begins at `begin`.
    Heap { bytes: Vec<u8>, begin: usize },
    /// Pages of their own.
    Mapped(Pages),
}

impl Bytes {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        if let Some(mapped) = map(len) {
            return Self::Mapped(mapped);
        }
        let bytes = vec![0; len + CACHE_LINE];
        let begin = bytes.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
        Self::Heap { bytes, begin }
    }
}

/// `None` if there are too few bytes, or no such pages.
#[cfg(target_os = "linux")]
fn map(len: usize) -> Option<Pages> {
    if len < MIN_BYTES {
        return None;
    }
    let mapped = Pages::map_anon(len).ok()?;
    mapped.advise(memmap2::Advice::HugePage).ok()?;
    Some(mapped)
}

#[cfg(not(target_os = "linux"))]
fn map(_: usize) -> Option<Pages> {
    None
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap { bytes, begin } => &bytes[*begin..bytes.len() + begin - CACHE_LINE],
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap { bytes, begin } => {
                let end = bytes.len() + *begin - CACHE_LINE;
                &mut bytes[*begin..end]
            }
            Self::Mapped(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_as_many_as_asked_for_and_begin_with_a_cache_line() {
        for len in [0, 1, 1000, MIN_BYTES - 1, MIN_BYTES, MIN_BYTES + 1] {
            let mut bytes = Bytes::zeroed(len);
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes.as_ptr().align_offset(CACHE_LINE), 0, "{len}");
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(7);
            assert!(bytes.iter().all(|&byte| byte == 7));
        }
    }
}
