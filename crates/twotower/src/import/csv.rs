mod line_ends;

use crate::import::cell::{Cell, Defect};
use crate::import::csv::line_ends::LineEnds;
use crate::import::layout::Names;
use crate::import::reader::{ReadError, Visit};
use csv::{ByteRecord, ReaderBuilder};
use std::io::Read;
use std::ops::ControlFlow;

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
        .from_reader(LineEnds::new(file));
    let headers = reader
        .headers()
        .map_err(|error| match error.kind() {
            csv::ErrorKind::Utf8 { .. } => ReadError::Format("the header is not UTF-8".to_owned()),
            _ => error.into(),
        })?
        .clone();
    if reader.get_ref().ended() && !headers.is_empty() {
        return Err(ReadError::Format(
            "the header has a quote that is never closed".to_owned(),
        ));
    }
    let width = headers.len();
    let located = names.locate(&headers.iter().map(str::trim))?;

    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record)? {
        // Every line ends, so that a record ends with one; only inside quotes line ends do not count, and the end of the file
        // has to do. The reader does not mind, and would make a row of all that a stray quote swallowed.
        let open = reader.get_ref().ended();
        let lines = record.as_slice().split(|byte| *byte == b'\n');
        let line_ends = lines.count() as u64 - 1;
        // The reader stands behind the line end of the record, which itself may hold some.
        let line = reader.position().line() - line_ends - u64::from(!open);
        let row = if open {
            let found = format!(
                "a quote that is never closed, which makes one row of the rest of the file (lines {line} to {})",
                line + line_ends - 1
            );
            Err(Defect::row("a closing quote", found))
        } else if record.len() == width {
            located
                .iter()
                .enumerate()
                .map(|(column, index)| match index {
                    None => Ok(Cell::Absent),
                    Some(index) => field(&record[*index], column),
                })
                .collect::<Result<Vec<_>, _>>()
        } else {
            Err(Defect::row(
                format!("{width} fields as in the header"),
                record.len().to_string(),
            ))
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
