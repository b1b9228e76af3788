use super::line_feeds;
use crate::import::cell::Defect;
use crate::import::reader::LONGEST_ROW;
use std::collections::VecDeque;
use std::io::{self, Read};

/// Byte order mark, with which some programs begin UTF-8 files.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Tracks the quotes of a file while it is read.
///
/// Line ends between fields become line feeds, and the last line gets one, so that line feeds count
/// the lines; inside quotes they are text. A byte order mark is removed; a quote right after it
/// begins a field.
/// The CSV reader accepts some faults that are detected here: a quoted field of several lines with
/// text after its closing quote (usually one of the quotes is stray, and the other one begins a
/// field of a later row), a quote that is open at the end of the file, and a row without an end.
pub(super) struct Quotes<'h, R> {
    inner: R,
    delimiter: u8,
    /// Whether rows are still wanted.
    is_heard: &'h dyn Fn() -> bool,
    place: Place,
    /// Whether nothing has been read yet.
    at_start: bool,
    after_return: bool,
    last: u8,
    ended: bool,
    /// Current line, from 1.
    line: u64,
    /// Line of the last quote that began a field.
    opened: u64,
    /// Length of the current row in bytes, and its first line.
    length: u64,
    first: u64,
    misplaced: VecDeque<Misplaced>,
}

/// A field with text after its closing quote: the lines of its quotes.
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
    /// After a quote that closes the field unless another quote follows.
    QuoteInQuoted,
}

impl<'h, R> Quotes<'h, R> {
    pub(super) fn new(inner: R, delimiter: u8, is_heard: &'h dyn Fn() -> bool) -> Self {
        Self {
            inner,
            delimiter,
            is_heard,
            place: Place::FieldStart,
            at_start: true,
            after_return: false,
            last: b'\n',
            ended: false,
            line: 1,
            opened: 1,
            length: 0,
            first: 1,
            misplaced: VecDeque::new(),
        }
    }

    /// Whether the reader has been told of the end of the file.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The first field with text after its closing quote that has not been returned yet and closes
    /// at line `last` or before.
    pub(super) fn misplaced_until(&mut self, last: u64) -> Option<Misplaced> {
        let mut first = None;
        while let Some(misplaced) = self.misplaced.pop_front_if(|it| it.closed <= last) {
            first = first.or(Some(misplaced));
        }
        first
    }

    /// If the current row exceeds the maximum length: its first line, and the defect.
    pub(super) fn endless(&self) -> Option<(u64, Defect)> {
        let mib = LONGEST_ROW >> 20;
        let defect = if self.length <= LONGEST_ROW {
            return None;
        } else if self.place == Place::Quoted {
            let found = format!("none within {mib} MiB of the quote of line {}", self.opened);
            Defect::rest("a closing quote", found)
        } else {
            Defect::rest(format!("a row of at most {mib} MiB"), "a longer one")
        };
        Some((self.first, defect))
    }

    /// Rewrites `bytes` in place; returns how many remain.
    fn follow(&mut self, bytes: &mut [u8]) -> usize {
        let outside = matches!(self.place, Place::FieldStart | Place::Unquoted);
        let plain = !self.after_return && !bytes.contains(&b'"') && !bytes.contains(&b'\r');
        if outside && plain {
            if let Some(&last) = bytes.last() {
                self.place = self.after_text(last);
            }
            match bytes.iter().rposition(|byte| *byte == b'\n') {
                None => self.length += bytes.len() as u64,
                Some(end) => {
                    self.line += line_feeds(bytes);
                    self.first = self.line;
                    self.length = (bytes.len() - end - 1) as u64;
                }
            }
            return bytes.len();
        }
        let mut kept = 0;
        for index in 0..bytes.len() {
            let byte = bytes[index];
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            let inside = match (self.place, byte) {
                (Place::FieldStart, b'"') => {
                    self.opened = self.line;
                    true
                }
                (Place::Quoted, _) | (Place::QuoteInQuoted, b'"') => true,
                _ => false,
            };
            let byte = match byte {
                b'\n' if after_return && !inside => continue,
                b'\r' if !inside => b'\n',
                byte => byte,
            };
            bytes[kept] = byte;
            kept += 1;
            self.length += 1;
            if inside {
                self.place = match (self.place, byte) {
                    (Place::Quoted, b'"') => Place::QuoteInQuoted,
                    _ => Place::Quoted,
                };
                self.line += u64::from(byte == b'\r' || (byte == b'\n' && !after_return));
                continue;
            }
            let after = self.after_text(byte);
            if (self.place, after) == (Place::QuoteInQuoted, Place::Unquoted)
                && self.opened < self.line
            {
                self.misplaced.push_back(Misplaced {
                    opened: self.opened,
                    closed: self.line,
                });
            }
            self.place = after;
            if byte == b'\n' {
                self.line += 1;
                self.first = self.line;
                self.length = 0;
            }
        }
        kept
    }

    /// State after `byte` outside of quotes.
    fn after_text(&self, byte: u8) -> Place {
        if byte == b'\n' || byte == self.delimiter {
            Place::FieldStart
        } else {
            Place::Unquoted
        }
    }
}

impl<R: Read> Read for Quotes<'_, R> {
    /// Fails on a row that exceeds the maximum length, and once rows are not wanted.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !(self.is_heard)() {
                return Err(io::Error::other("nobody waits for the rows"));
            }
            let mut length = self.inner.read(buffer)?;
            if length == 0 {
                if self.last == b'\n' {
                    self.ended = true;
                    return Ok(0);
                }
                buffer[0] = b'\n';
                length = 1;
            }
            while self.at_start && buffer[..length].starts_with(MARK) {
                buffer.copy_within(MARK.len()..length, 0);
                length -= MARK.len();
            }
            self.at_start &= length == 0;
            let kept = self.follow(&mut buffer[..length]);
            if self.length > LONGEST_ROW {
                return Err(io::Error::other("a row does not end"));
            }
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
    use crate::import::reader::Pieces;

    const HEARD: &dyn Fn() -> bool = &|| true;

    /// The rewritten text, and the line after it.
    fn read(text: &str, size: usize) -> (String, u64) {
        let mut read = String::new();
        let mut quotes = Quotes::new(Pieces(text.as_bytes(), size), b',', HEARD);
        assert!(!quotes.ended());
        quotes.read_to_string(&mut read).unwrap();
        assert!(quotes.ended());
        (read, quotes.line)
    }

    #[test]
    fn line_ends_between_fields_become_one_kind_and_those_of_texts_stay() {
        for (text, expected, line) in [
            ("", "", 1),
            ("a", "a\n", 2),
            ("a\n", "a\n", 2),
            ("a\r\n\r\nb\rc\n\nd\r", "a\n\nb\nc\n\nd\n", 7),
            (
                "\"a\r\nb\rc\n\nd\r\",e\r\n\"f\"\r\"\r\"\r\n",
                "\"a\r\nb\rc\n\nd\r\",e\n\"f\"\n\"\r\"\n",
                10,
            ),
            // A quote inside an unquoted field.
            ("a\"\r\nb\"\r", "a\"\nb\"\n", 3),
            ("\"a\"\r\n\"\"\"\r\n\"\r\n", "\"a\"\n\"\"\"\r\n\"\n", 4),
            ("\"a\r", "\"a\r\n", 2),
        ] {
            for size in 1..=text.len().max(1) {
                let found = read(text, size);
                assert_eq!(found, (expected.to_owned(), line), "{text:?} by {size}");
            }
        }
    }

    fn misplaced(text: &str, size: usize) -> Vec<(u64, u64)> {
        let mut quotes = Quotes::new(io::empty(), b',', HEARD);
        for piece in text.as_bytes().chunks(size) {
            quotes.follow(&mut piece.to_vec());
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
            ("a,b\r\n1,\"2\r\n3,\"4\" 5\r\n6,7\r\n", vec![(2, 3)]),
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
        let mut quotes = Quotes::new(io::empty(), b'\t', HEARD);
        quotes.follow(&mut b"\"1\n2\"x\t\"\n\"y\n\"\n\"z\n".to_vec());
        let first = Misplaced {
            opened: 1,
            closed: 2,
        };
        assert_eq!(quotes.misplaced_until(1), None);
        assert_eq!(quotes.misplaced_until(3), Some(first));
        assert_eq!(quotes.misplaced_until(9).map(|it| it.closed), Some(5));
        assert_eq!(quotes.misplaced_until(9), None);
    }

    #[test]
    fn a_mark_is_no_part_of_the_first_field() {
        let text = "\u{feff}\"a,\"\r\n1,2\r\n";
        for size in MARK.len()..=text.len() {
            let (found, line) = read(text, size);
            assert_eq!((found.as_str(), line), ("\"a,\"\n1,2\n", 3), "{size}");
        }
        // Elsewhere a byte order mark is text.
        let text = "a\u{feff}\n\u{feff}\n";
        assert_eq!(read(text, text.len()).0, text);
    }

    #[test]
    fn nothing_is_read_for_whom_nobody_waits() {
        let mut quotes = Quotes::new(Pieces(b"a,b\n", 1), b',', &|| false);
        assert!(quotes.read_to_end(&mut Vec::new()).is_err());
    }
}
