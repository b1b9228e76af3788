mod line_ends;

mod quotes;

use crate::import::cell::{Cell, Defect};
use crate::import::csv::line_ends::LineEnds;
use crate::import::csv::quotes::{Misplaced, Quotes};
use crate::import::layout::Names;
use crate::import::reader::{ReadError, Visit};
use csv::{ByteRecord, ReaderBuilder};
use std::io::Read;
use std::ops::ControlFlow;

/// So many separators in a field, on each line of it as many as a row has there, are no chance.
const SEPARATORS_OF_ROWS: usize = 20;

/// Reads comma-separated values with a header. A row is numbered by the line on which it begins.
pub(crate) fn read(
    file: impl Read,
    delimiter: u8,
    names: &Names,
    visit: Visit<'_>,
) -> Result<(), ReadError> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .buffer_capacity(1 << 16)
        .from_reader(Quotes::new(LineEnds::new(file), delimiter));
    let headers = reader
        .headers()
        .map_err(|error| match error.kind() {
            csv::ErrorKind::Utf8 { .. } => ReadError::Format("the header is not UTF-8".to_owned()),
            _ => error.into(),
        })?
        .clone();
    if reader.get_ref().get_ref().ended() && !headers.is_empty() {
        return Err(ReadError::Format(
            "the header has a quote that is never closed".to_owned(),
        ));
    }
    let last = reader.position().line().saturating_sub(1);
    if let Some(Misplaced { closed, .. }) = reader.get_mut().misplaced_until(last) {
        return Err(ReadError::Format(format!(
            "the header has a quote that is closed in the middle of line {closed}"
        )));
    }
    let width = headers.len();
    let located = names.locate(&headers.iter().map(str::trim))?;

    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record)? {
        // Every line ends, so that a record ends with one; only inside quotes line ends do not count, and the end of the file
        // has to do. The reader does not mind, and would make a row of all that a stray quote swallowed.
        let open = reader.get_ref().get_ref().ended();
        let line_ends = line_ends(record.as_slice());
        // The reader stands behind the line end of the record, which itself may hold some.
        let line = reader.position().line() - line_ends - u64::from(!open);
        let last = line + line_ends - u64::from(open);
        let misplaced = reader.get_mut().misplaced_until(last);
        let row = if open {
            let found = format!(
                "a quote that is never closed, which makes one row of the rest of the file (lines {line} to {last})"
            );
            Err(Defect::row("a closing quote", found))
        } else if let Some(Misplaced { opened, closed }) = misplaced {
            let found = format!(
                "a quote of line {opened} that is closed in the middle of line {closed}: one of the two is stray, or is to be doubled"
            );
            Err(Defect::row("a closing quote at the end of a field", found))
        } else if record.len() != width {
            let found = match line_ends {
                0 => record.len().to_string(),
                _ => format!(
                    "{} in the row that quotes make of lines {line} to {last}",
                    record.len()
                ),
            };
            let expected = format!("{width} fields as in the header");
            Err(Defect::row(expected, found))
        } else if let Some((opened, closed)) = rows_in_quotes(&record, line, delimiter) {
            let found = format!(
                "whole rows between a quote of line {opened} and one of line {closed}: both are stray, or are to be doubled"
            );
            Err(Defect::row("one row", found))
        } else {
            located
                .iter()
                .enumerate()
                .map(|(column, index)| match index {
                    None => Ok(Cell::Absent),
                    Some(index) => field(&record[*index], column),
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let flow = match row {
            Ok(cells) => visit(line, Ok(&cells)),
            Err(defect) => visit(line, Err(defect)),
        };
        if let ControlFlow::Break(()) = flow {
            break;
        }
    }
    Ok(())
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').count() as u64 - 1
}

/// The lines on which a field begins and ends that has swallowed rows, if one has. A quote at the beginning of a field and one at the end of
/// a later row's make a field by all rules; but then each line between them has as many separators as a row has, but for a few rows that are
/// wrong by themselves.
fn rows_in_quotes(record: &ByteRecord, line: u64, delimiter: u8) -> Option<(u64, u64)> {
    // One separator a line is nothing that texts have not, too.
    if record.len() < 3 {
        return None;
    }
    let mut opened = line;
    for (index, field) in record.iter().enumerate() {
        let closed = opened + line_ends(field);
        if opened < closed {
            let lines = (closed - opened) as usize + 1;
            let pieces = field.split(|byte| *byte == b'\n').enumerate();
            let as_in_rows = pieces.filter_map(|(number, piece)| {
                let expected = match number {
                    0 => record.len() - 1 - index,
                    number if number + 1 == lines => index,
                    _ => record.len() - 1,
                };
                let separators = piece.iter().filter(|byte| **byte == delimiter);
                (separators.count() == expected).then_some(expected)
            });
            let as_in_rows: Vec<usize> = as_in_rows.collect();
            let separators: usize = as_in_rows.iter().sum();
            if separators >= SEPARATORS_OF_ROWS && as_in_rows.len() * 10 >= lines * 9 {
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
    use crate::import::reader::{Rows, rows_of};

    fn rows(text: &[u8]) -> Result<Rows, ReadError> {
        let names = Names::new(FileKind::Likes, &[], false);
        rows_of(|visit| read(text, b',', &names, visit))
    }

    #[test]
    fn fields_are_found_through_quotes_marks_and_line_ends() {
        let text = "\u{feff}video_id,note,user_id, created_at \r\n7,\"a,\n\"\"b\"\"\",ann,1\r\n8,,ben,\"\"\r\n";
        let expected = [(2, Ok("ann 7 1".into())), (4, Ok("ben 8 nothing".into()))];
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
            // A wrong number of fields is not what it is about.
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
            // Quotes inside a field that did not begin with one are text.
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
            // A stray one, and a field in quotes later.
            ("\"ann,7,1\nben,8,2\n\"cat\",9,3\n", misplaced(2, 4)),
            ("\"ann\n,7,1\nben,8,2\n\"cat\" c,9,3\n", misplaced(2, 5)),
            // A closing one is missing.
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
        // On one line it is a slip that hides nothing.
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

    /// Wherever the reader's buffer happens to end.
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
    fn a_header_must_be_there() {
        assert!(matches!(rows(b""), Err(ReadError::Layout(_))));
        assert!(matches!(rows(b"ann,7,1\n"), Err(ReadError::Layout(_))));
        assert!(matches!(rows(b"\xff\n"), Err(ReadError::Format(_))));
    }
}
