//! Large arrays on large pages.

use crate::kernel::CACHE_LINE;
use std::ops::{Deref, DerefMut};

#[cfg(target_os = "linux")]
type Pages = memmap2::MmapMut;

/// There are none.
#[cfg(not(target_os = "linux"))]
type Pages = Box<[u8]>;

/// Fewer bytes are not worth pages of their own.
const LEAST: usize = 8 << 20;

/// Bytes from the beginning of a cache line on. Where there are many the system is asked for pages of 2 MB: rows that are read in no order
/// cost a walk through the page tables each, beside the wait for the row itself.
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

/// None where there are too few bytes, or no such pages.
#[cfg(target_os = "linux")]
fn map(len: usize) -> Option<Pages> {
    if len < LEAST {
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
        for len in [0, 1, 1000, LEAST - 1, LEAST, LEAST + 1] {
            let mut bytes = Bytes::zeroed(len);
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes.as_ptr().align_offset(CACHE_LINE), 0, "{len}");
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(7);
            assert!(bytes.iter().all(|&byte| byte == 7));
        }
    }
}
