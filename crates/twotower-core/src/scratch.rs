//! Buffers that are kept from step to step.

/// Resizes `buffer` to `len` numbers of any value.
///
/// Steps differ a little in size. If the capacity is too small, the old memory is freed first and
/// an eighth more than `len` is reserved, which takes no memory until it is written. Growing like a
/// `Vec` would hold the old and the new memory at the same time.
pub(crate) fn resize(buffer: &mut Vec<f32>, len: usize) {
    if buffer.capacity() < len {
        *buffer = Vec::new();
        buffer.reserve_exact(len + len / 8);
    }
    buffer.resize(len, 0.0);
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_buffer_is_as_long_as_asked_for_and_moves_only_when_it_must() {
        let mut buffer = Vec::new();
        super::resize(&mut buffer, 80);
        let place = buffer.as_ptr();
        for len in [90, 7, 80] {
            super::resize(&mut buffer, len);
            assert_eq!((buffer.len(), buffer.as_ptr()), (len, place));
        }
        super::resize(&mut buffer, 1000);
        assert_eq!(buffer, [0.0; 1000]);
    }
}
