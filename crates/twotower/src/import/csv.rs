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
    let width = headers.len();
    let located = names.locate(&headers.iter().map(str::trim))?;

    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record)? {
        // The reader stands behind the line end of the record, which itself may hold some.
        let lines = record.as_slice().split(|byte| *byte == b'\n').count();
        let line = reader.position().line() - lines as u64;
        let row = if record.len() == width {
            located
                .iter()
                .enumerate()
                .map(|(column, index)| match index {
                    None => Ok(Cell::Missing),
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
    fn a_header_must_be_there() {
        assert!(matches!(rows(b""), Err(ReadError::Layout(_))));
        assert!(matches!(rows(b"ann,7,1\n"), Err(ReadError::Layout(_))));
        assert!(matches!(rows(b"\xff\n"), Err(ReadError::Format(_))));
    }
}
