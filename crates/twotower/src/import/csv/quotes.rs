use std::collections::VecDeque;
use std::io::{self, Read};

/// Hands lines on as they are, and notices what their reader does not mind: a quoted field of several lines that goes on after its closing
/// quote. As a rule one quote is stray then, and the other one begins a field of a later row.
pub(super) struct Quotes<R> {
    inner: R,
    delimiter: u8,
    place: Place,
    /// Line that is read, from 1.
    line: u64,
    /// Line of the last quote that began a field.
    opened: u64,
    misplaced: VecDeque<Misplaced>,
}

/// A field that goes on after its closing quote, by the lines of its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misplaced {
    pub(super) opened: u64,
    pub(super) closed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote that closes the field, unless another one follows.
    QuoteInQuoted,
}

impl<R> Quotes<R> {
    pub(super) fn new(inner: R, delimiter: u8) -> Self {
        Self {
            inner,
            delimiter,
            place: Place::FieldStart,
            line: 1,
            opened: 1,
            misplaced: VecDeque::new(),
        }
    }

    pub(super) fn get_ref(&self) -> &R {
        &self.inner
    }

    /// The first field that goes on after its closing quote, of those that have not been asked for and are closed by line `last`.
    pub(super) fn misplaced_until(&mut self, last: u64) -> Option<Misplaced> {
        let mut first = None;
        while let Some(misplaced) = self.misplaced.pop_front_if(|it| it.closed <= last) {
            first = first.or(Some(misplaced));
        }
        first
    }

    fn follow(&mut self, bytes: &[u8]) {
        let outside = matches!(self.place, Place::FieldStart | Place::Unquoted);
        if outside && !bytes.contains(&b'"') {
            self.line += super::line_ends(bytes);
            if let Some(&last) = bytes.last() {
                self.place = self.after_text(last);
            }
            return;
        }
        for &byte in bytes {
            self.place = match (self.place, byte) {
                (Place::FieldStart, b'"') => {
                    self.opened = self.line;
                    Place::Quoted
                }
                (Place::Quoted, b'"') => Place::QuoteInQuoted,
                (Place::Quoted, _) | (Place::QuoteInQuoted, b'"') => Place::Quoted,
                (before, _) => {
                    let after = self.after_text(byte);
                    if (before, after) == (Place::QuoteInQuoted, Place::Unquoted)
                        && self.opened < self.line
                    {
                        self.misplaced.push_back(Misplaced {
                            opened: self.opened,
                            closed: self.line,
                        });
                    }
                    after
                }
            };
            self.line += u64::from(byte == b'\n');
        }
    }

    /// After `byte` outside of quotes.
    fn after_text(&self, byte: u8) -> Place {
        if byte == b'\n' || byte == self.delimiter {
            Place::FieldStart
        } else {
            Place::Unquoted
        }
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.follow(&buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misplaced(text: &str, size: usize) -> Vec<(u64, u64)> {
        let mut quotes = Quotes::new(io::empty(), b',');
        for piece in text.as_bytes().chunks(size) {
            quotes.follow(piece);
        }
        std::iter::from_fn(|| quotes.misplaced.pop_front())
            .map(|it| (it.opened, it.closed))
            .collect()
    }

    #[test]
    fn only_fields_of_several_lines_that_go_on_after_their_quote() {
        for (text, expected) in [
            ("a,b\n1,\"2\"\n", vec![]),
            ("a,b\n1,\"2\n\n3\"\n", vec![]),
            ("a,b\n1,\"2\n\"\"3\"\"\n\"\n4,\"\"\n", vec![]),
            ("a,b\n1,\"2\" 3\n", vec![]),
            ("a,b\n1,2\"\n3\" 4\n", vec![]),
            ("a,b\n1,\"2\n3,\"4\" 5\n6,7\n", vec![(2, 3)]),
            (
                "\n1,\"2\n3\n4\"x,\"y\nz\"\"\n\"0\"\n\n",
                vec![(2, 4), (4, 6)],
            ),
        ] {
            for size in 1..=text.len() {
                assert_eq!(misplaced(text, size), expected, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn each_is_told_once() {
        let mut quotes = Quotes::new(io::empty(), b'\t');
        quotes.follow(b"\"1\n2\"x\t\"\n\"y\n\"\n\"z\n");
        let first = Misplaced {
            opened: 1,
            closed: 2,
        };
        assert_eq!(quotes.misplaced_until(1), None);
        assert_eq!(quotes.misplaced_until(3), Some(first));
        assert_eq!(quotes.misplaced_until(9).map(|it| it.closed), Some(5));
        assert_eq!(quotes.misplaced_until(9), None);
    }
}
