//! Buffers that are kept from step to step.

/// Makes `buffer` `len` numbers long, which may be any.
///
/// Steps differ a little in size. Where there is too little room, what was there is given back first, and there comes an eighth
/// more than is asked for, which takes no memory until it is written: growing as a `Vec` does would hold the old and the new.
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
