use std::io::{self, Read};

/// Turns every line end into a line feed and adds one at the end, so that lines can be counted by them.
pub(super) struct LineEnds<R> {
    inner: R,
    last: u8,
    after_return: bool,
    ended: bool,
}

impl<R> LineEnds<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            last: b'\n',
            after_return: false,
            ended: false,
        }
    }

    /// Whether a reader has been told that nothing comes any more.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Rewrites `bytes` in place; returns how many are left.
    fn rewrite(&mut self, bytes: &mut [u8]) -> usize {
        if !self.after_return && !bytes.contains(&b'\r') {
            return bytes.len();
        }
        let mut kept = 0;
        for index in 0..bytes.len() {
            let byte = bytes[index];
            if !(byte == b'\n' && self.after_return) {
                bytes[kept] = if byte == b'\r' { b'\n' } else { byte };
                kept += 1;
            }
            self.after_return = byte == b'\r';
        }
        kept
    }
}

impl<R: Read> Read for LineEnds<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let length = self.inner.read(buffer)?;
            if length == 0 {
                if self.last == b'\n' {
                    self.ended = true;
                    return Ok(0);
                }
                self.last = b'\n';
                buffer[0] = b'\n';
                return Ok(1);
            }
            let kept = self.rewrite(&mut buffer[..length]);
            if kept > 0 {
                self.last = buffer[kept - 1];
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out `size` bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn however_it_is_cut() {
        for (text, expected) in [
            ("", ""),
            ("a", "a\n"),
            ("a\n", "a\n"),
            ("a\r\n\r\nb\rc\n\nd\r", "a\n\nb\nc\n\nd\n"),
        ] {
            for size in 1..8 {
                let mut read = String::new();
                let mut reader = LineEnds::new(Pieces(text.as_bytes(), size));
                assert!(!reader.ended());
                reader.read_to_string(&mut read).unwrap();
                assert!(reader.ended());
                assert_eq!(read, expected, "{text:?} by {size}");
            }
        }
    }
}
