mod header;

mod quotes;

use crate::import::cell::{Cell, Defect};
use crate::import::csv::header::{explained, header};
use crate::import::csv::quotes::{Misplaced, Quotes};
use crate::import::layout::Names;
use crate::import::reader::{ReadError, Visit, refuse_utf16};
use csv::{ByteRecord, ReaderBuilder};
use std::io::{BufRead, BufReader, Read};

/// A field with this many separators, as many on each of its lines as in a row, is taken for rows
/// inside a stray pair of quotes.
const SEPARATORS_OF_ROWS: usize = 20;

/// Size of the read buffer, bytes.
const BUFFER: usize = 1 << 16;

/// Position of a row.
struct Place {
    first: u64,
    last: u64,
    /// Whether a quote is still open at the end of the file.
    open: bool,
    /// A field with text after its closing quote.
    misplaced: Option<Misplaced>,
}

/// Reads comma-separated values with a header, or without one if `names` gives it. A row is
/// numbered by its first line. Stops once `is_heard` returns false.
pub(crate) fn read(
    file: impl Read,
    delimiter: u8,
    names: &Names,
    is_heard: &dyn Fn() -> bool,
    visit: Visit<'_>,
) -> Result<(), ReadError> {
    let mut file = BufReader::with_capacity(BUFFER, file);
    refuse_utf16(file.fill_buf()?)?;
    let given = names.header();
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(given.is_none())
        .flexible(true)
        .buffer_capacity(BUFFER)
        .from_reader(Quotes::new(file, delimiter, is_heard));
    // Line ends read so far that the CSV reader does not count.
    let mut returns = 0;
    let headers = match given {
        Some(given) => given,
        None => match header(&mut reader, &mut returns) {
            Err(_) if !is_heard() => return Ok(()),
            headers => headers?,
        },
    };
    let located = names
        .locate(&headers.iter().map(str::trim))
        .map_err(|error| explained(error, &headers, delimiter))?;
    names.warn_of_ratings(headers.iter().map(str::trim));

    let mut record = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) if !is_heard() => break,
            Err(error) => {
                let (line, defect) = reader.get_ref().endless().ok_or(error)?;
                let _ = visit(line, Err(defect));
                break;
            }
        }
        // Every line ends with a line feed, so a record does too; only if a quote is open does it
        // end with the file. The reader accepts that, and would turn everything after a stray quote
        // into one row.
        let open = reader.get_ref().ended();
        // The reader counts line feeds and is now past the record's own line end; the record itself
        // may contain some.
        let feeds = line_feeds(record.as_slice());
        let first = reader.position().line() - feeds - u64::from(!open) + returns;
        let lone: u64 = record.iter().map(lone_returns).sum();
        returns += lone;
        let last = first + feeds + lone - u64::from(open);
        let place = Place {
            first,
            last,
            open,
            misplaced: reader.get_mut().misplaced_until(last),
        };
        let row = match defect(&record, &place, headers.len(), delimiter) {
            Some(defect) => Err(defect),
            None => located
                .iter()
                .enumerate()
                .map(|(column, index)| match index {
                    None => Ok(Cell::Absent),
                    Some(index) => field(&record[*index], column),
                })
                .collect::<Result<Vec<_>, _>>(),
        };
        let flow = match row {
            Ok(cells) => visit(first, Ok(&cells)),
            Err(defect) => visit(first, Err(defect)),
        };
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// What is wrong with the row as a whole.
fn defect(record: &ByteRecord, place: &Place, width: usize, delimiter: u8) -> Option<Defect> {
    let Place { first, last, .. } = place;
    if place.open {
        let found = format!(
            "a quote that is never closed, which makes one row of the rest of the file (lines {first} to {last})"
        );
        return Some(Defect::rest("a closing quote", found));
    }
    if let Some(Misplaced { opened, closed }) = place.misplaced {
        let found = format!(
            "a quote of line {opened} that is closed in the middle of line {closed}: one of the two is stray, or is to be doubled"
        );
        return Some(Defect::row("a closing quote at the end of a field", found));
    }
    if record.len() != width {
        let expected = format!("{width} fields as in the header");
        let fields = record.len();
        let found = if first < last {
            format!("{fields} in the row that quotes make of lines {first} to {last}")
        } else {
            fields.to_string()
        };
        return Some(Defect::row(expected, found));
    }
    let (opened, closed) = rows_in_quotes(record, *first, delimiter)?;
    let found = format!(
        "whole rows between a quote of line {opened} and one of line {closed}: both are stray, or are to be doubled"
    );
    Some(Defect::row("one row", found))
}

fn line_feeds(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').count() as u64 - 1
}

/// Carriage returns that are line ends on their own.
fn lone_returns(bytes: &[u8]) -> u64 {
    if !bytes.contains(&b'\r') {
        return 0;
    }
    lines(bytes).count() as u64 - 1 - line_feeds(bytes)
}

/// The lines of a text; at least one.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(end) = end else {
            return rest.take();
        };
        let (line, after) = text.split_at(end);
        rest = Some(after.strip_prefix(b"\r\n").unwrap_or(&after[1..]));
        Some(line)
    })
}

/// First and last line of a field that contains rows, if there is one. A quote at the beginning of
/// a field and one at the end of a field in a later row make a valid field; but then each line
/// between them has as many separators as a row, except for a few rows with other faults.
fn rows_in_quotes(record: &ByteRecord, line: u64, delimiter: u8) -> Option<(u64, u64)> {
    // With one separator per row it cannot be told from ordinary text.
    if record.len() < 3 {
        return None;
    }
    let mut opened = line;
    for (index, field) in record.iter().enumerate() {
        let closed = opened + line_feeds(field) + lone_returns(field);
        if opened < closed {
            let count = (closed - opened) as usize + 1;
            let as_in_rows = lines(field).enumerate().filter_map(|(number, line)| {
                let expected = match number {
                    0 => record.len() - 1 - index,
                    number if number + 1 == count => index,
                    _ => record.len() - 1,
                };
                let separators = line.iter().filter(|byte| **byte == delimiter);
                (separators.count() == expected).then_some(expected)
            });
            let as_in_rows: Vec<usize> = as_in_rows.collect();
            let separators: usize = as_in_rows.iter().sum();
            if separators >= SEPARATORS_OF_ROWS && as_in_rows.len() * 10 >= count * 9 {
                return Some((opened, closed));
            }
        }
        opened = closed;
    }
    None
}

fn field(bytes: &[u8], column: usize) -> Result<Cell<'_>, Defect> {
    match std::str::from_utf8(bytes) {
        Ok("") => Ok(Cell::Missing),
        Ok(text) => Ok(Cell::Text(text.into())),
        Err(_) => Err(Defect::at(column, "UTF-8", "bytes that are not")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::FileKind;
    use crate::import::reader::{LONGEST_ROW, Rows, rows_of};

    fn rows(text: &[u8]) -> Result<Rows, ReadError> {
        let names = Names::new(FileKind::Likes, &[], false);
        rows_of(|visit| read(text, b',', &names, &|| true, visit))
    }

    #[test]
    fn fields_are_found_through_quotes_marks_and_line_ends() {
        let text = "\u{feff}video_id,note,user_id, created_at \r\n7,\"a,\n\"\"b\"\"\",ann,1\r\n8,,ben,\"\"\r\n";
        let expected = [(2, Ok("ann 7 1".into())), (4, Ok("ben 8 nothing".into()))];
        assert_eq!(rows(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_mark_does_not_hide_the_quotes_of_the_header() {
        let header = "\u{feff}\"notes,\",user_id,video_id,created_at\r\n";
        let text = format!("{header},ann,7,1\r\n\"x\r\ny\",ben,8,2\r\n");
        let expected = [(2, Ok("ann 7 1".into())), (3, Ok("ben 8 2".into()))];
        assert_eq!(rows(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        let text = b"user_id,video_id,created_at\nann,7\nben,\xff,1\n\ncat,8,2\n";
        let expected = [
            (2, Err("row: 3 fields as in the header, 2".into())),
            (3, Err("column 1: UTF-8, bytes that are not".into())),
            (5, Ok("cat 8 2".into())),
        ];
        assert_eq!(rows(text).unwrap(), expected);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_a_defect_where_it_begins() {
        let open = |first: u64, last: u64| {
            let found = format!(
                "row: a closing quote, a quote that is never closed, which makes one row of the rest of the file (lines {first} to {last})"
            );
            (first, Err(found))
        };
        let header = "user_id,video_id,created_at\n";
        for (body, expected) in [
            ("ann,7,\"1\nben,8,2\ncat,9,3\n", open(2, 4)),
            ("ann,7,\"1\r\nben,8,2\r\ncat,9,3\r\n", open(2, 4)),
            ("ann,7,\"1\nben,8,2", open(2, 3)),
            ("\n\nann,7,\"1\n\n", open(4, 5)),
            ("ann,7,\"", open(2, 2)),
            ("\"ann", open(2, 2)),
            ("\"", open(2, 2)),
            ("ann,7,\"1\"\"", open(2, 2)),
            ("ann,7,\"1\"\"\n", open(2, 2)),
            ("ann,7,\"1\n\"\"", open(2, 3)),
            // The open quote is reported, not the number of fields.
            ("\"ann,7,1\nben,8,2\n", open(2, 3)),
        ] {
            let text = format!("{header}{body}");
            assert_eq!(rows(text.as_bytes()).unwrap(), [expected], "{text:?}");
        }
        let text = format!("{header}\"a\nb\",7,1\nann,8,\"2\n");
        let expected = [(2, Ok("a\nb 7 1".into())), open(4, 4)];
        assert_eq!(rows(text.as_bytes()).unwrap(), expected);
        assert!(matches!(
            rows(b"\"user_id,video_id"),
            Err(ReadError::Format(_))
        ));
    }

    #[test]
    fn quotes_that_are_closed_are_none_wherever_the_file_ends() {
        let header = "user_id,video_id,created_at\n";
        for (last, cell) in [
            ("\"1\"", "1"),
            ("\"1\"\"\"", "1\""),
            ("\"\"\"\"", "\""),
            ("\"\"", "nothing"),
            ("\"1\n\"\"\"", "1\n\""),
            ("\"\n\n\"", "\n\n"),
            // Quotes in a field that does not begin with one are text.
            ("1\"", "1\""),
            ("1\"2", "1\"2"),
        ] {
            for end in ["", "\n", "\r\n", "\r", "\n\n", "\r\n\r\n\n"] {
                let text = format!("{header}ann,7,{last}{end}");
                let expected = [(2, Ok(format!("ann 7 {cell}")))];
                assert_eq!(rows(text.as_bytes()).unwrap(), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn a_quote_that_is_closed_in_a_later_row_is_a_defect_where_it_begins() {
        let header = "user_id,video_id,created_at\n";
        let misplaced = |opened: u64, closed: u64| {
            format!(
                "row: a closing quote at the end of a field, a quote of line {opened} that is closed in the middle of line {closed}: one of \
                 the two is stray, or is to be doubled"
            )
        };
        for (body, expected) in [
            // A stray quote, and a quoted field later.
            ("\"ann,7,1\nben,8,2\n\"cat\",9,3\n", misplaced(2, 4)),
            ("\"ann\n,7,1\nben,8,2\n\"cat\" c,9,3\n", misplaced(2, 5)),
            // The closing quote is missing.
            ("\"ann\",\"7\",\"1\n\"ben\",\"8\",\"2\"\n", misplaced(2, 3)),
            (
                "ann,\"7,1\nben,8\",\"2\",x\ncat,9,3\n",
                "row: 3 fields as in the header, 4 in the row that quotes make of lines 2 to 3"
                    .into(),
            ),
        ] {
            let text = format!("{header}{body}");
            let found = rows(text.as_bytes()).unwrap();
            assert_eq!(found[0], (2, Err(expected)), "{text:?}");
        }
        // On one line it hides no other rows.
        let text = format!("{header}\"ann\" a,7,1\nben,8,2\n");
        let expected = [(2, Ok("ann a 7 1".into())), (3, Ok("ben 8 2".into()))];
        assert_eq!(rows(text.as_bytes()).unwrap(), expected);
        assert!(matches!(
            rows(b"\"user_id\n\"s,video_id,created_at\nann,7,1\n"),
            Err(ReadError::Format(_))
        ));
    }

    #[test]
    fn rows_between_two_stray_quotes_are_a_defect_where_they_begin() {
        let swallowed = |opened: u64, closed: u64| {
            format!(
                "row: one row, whole rows between a quote of line {opened} and one of line {closed}: both are stray, or are to be doubled"
            )
        };
        let header = "user_id,video_id,created_at\n";
        let row = |n: u64| format!("user {n},{n},{n}\n");
        for (first, last) in [("\"", "a\""), ("\"a", "\"")] {
            for column in 0..3 {
                let with = |n: u64, end: &str| {
                    let mut fields = [n; 3].map(|n| n.to_string());
                    fields[column] = end.to_owned();
                    fields.join(",") + "\n"
                };
                let between: String = (4..500).map(row).collect();
                let wrong = "one field\n\n";
                let (first, last) = (with(3, first), with(500, last));
                let text = format!("{header}{}{first}{between}{last}{}", row(2), row(501));
                let expected = [
                    (2, Ok("user 2 2 2".into())),
                    (3, Err(swallowed(3, 500))),
                    (501, Ok("user 501 501 501".into())),
                ];
                assert_eq!(rows(text.as_bytes()).unwrap(), expected, "{column}");
                let text = format!("{header}{first}{between}{wrong}{last}");
                let expected = [(2, Err(swallowed(2, 501)))];
                assert_eq!(rows(text.as_bytes()).unwrap(), expected, "{column}");
            }
        }
    }

    #[test]
    fn long_texts_are_texts() {
        let header = "user_id,video_id,created_at\n";
        let many = |line: &str, lines: usize| vec![line; lines].join("\n");
        for text in [
            many("A line without any.", 2_000),
            many("One, as in prose.", 2_000),
            many("A list, of, some words, as in a catalogue,", 2_000),
            many("", 2_000),
            // A few lines may look like rows of three fields.
            format!("Cast:\n{}", many("Ann, Ben, Cat", 8)),
            format!(
                "{}\nand more\n{}",
                many("Ann, Ben, Cat", 30),
                many("Sea, sun.", 30)
            ),
        ] {
            let rows = rows(format!("{header}ann,7,\"{text}\"\nben,8,2\n").as_bytes()).unwrap();
            assert_eq!(rows[0], (2, Ok(format!("ann 7 {text}"))));
            assert_eq!(rows.len(), 2);
        }
    }

    /// Wherever the end of the reader's buffer falls.
    #[test]
    fn long_files_end_as_short_ones() {
        let header = "user_id,video_id,created_at\n";
        for length in (1 << 16) - 40..(1 << 16) + 4 {
            let name = "a".repeat(length);
            let text = format!("{header}{name},7,\"1\"\"\"\n");
            let expected = [(2, Ok(format!("{name} 7 1\"")))];
            assert!(rows(text.as_bytes()).unwrap() == expected, "{length}");
            let text = format!("{header}{name},7,\"1\"\"\n");
            assert!(rows(text.as_bytes()).unwrap()[0].1.is_err(), "{length}");
        }
    }

    #[test]
    fn line_ends_inside_quotes_are_text() {
        let text = "user_id,video_id,\"created\r_at\",created_at\r\n\"a\r\nb\rc\nd\",7,,1\r\nben,8\r\ncat,9,,\"1\r\n";
        let open = "row: a closing quote, a quote that is never closed, which makes one row of the rest of the file (lines 8 to 8)";
        let expected = [
            (3, Ok("a\r\nb\rc\nd 7 1".into())),
            (7, Err("row: 4 fields as in the header, 2".into())),
            (8, Err(open.into())),
        ];
        assert_eq!(rows(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_row_does_not_go_on_for_ever() {
        let header = "user_id,video_id,created_at\n";
        let long = "1\n".repeat(LONGEST_ROW as usize / 2 + (1 << 16));
        let text = format!("{header}ann,7,1\nben,\"8\n{long}");
        let quote = "row: a closing quote, none within 16 MiB of the quote of line 3";
        let expected = [(2, Ok("ann 7 1".into())), (3, Err(quote.into()))];
        assert_eq!(rows(text.as_bytes()).unwrap(), expected);
        let long = long.replace('\n', " ");
        let text = format!("{header}\nann,7,{long}");
        let row = "row: a row of at most 16 MiB, a longer one";
        assert_eq!(rows(text.as_bytes()).unwrap(), [(3, Err(row.into()))]);
        let error = rows(format!("\"{long}").as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("in the header"), "{error}");
        // Just within the limit.
        let text = format!("{header}ann,7,{}\n", &long[..LONGEST_ROW as usize - 7]);
        assert!(rows(text.as_bytes()).unwrap()[0].1.is_ok());
    }

    #[test]
    fn nothing_is_told_of_a_row_for_which_nobody_waits() {
        let names = Names::new(FileKind::Likes, &[], false);
        let asked = std::cell::Cell::new(0);
        let is_heard = || asked.replace(asked.get() + 1) < 3;
        let text = format!("user_id,video_id,created_at\nann,\"{}", "7".repeat(1 << 20));
        let rows = rows_of(|visit| read(text.as_bytes(), b',', &names, &is_heard, visit));
        assert!(rows.unwrap().is_empty());
        assert!(asked.get() < 10);
    }

    #[test]
    fn a_header_must_be_there() {
        assert!(matches!(rows(b""), Err(ReadError::Layout(_))));
        assert!(matches!(rows(b"ann,7\n"), Err(ReadError::Format(_))));
        assert!(matches!(rows(b"ann,b,c\n"), Err(ReadError::Layout(_))));
        assert!(matches!(rows(b"\xff\n"), Err(ReadError::Format(_))));
    }
}
