use crate::import::cell::{Cell, Defect};
use crate::import::layout::Names;
use crate::import::reader::{ReadError, Visit};
use serde_json::error::Category;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;

/// Longest line, in bytes: what is longer is no row but a file of another format.
const LONGEST_LINE: u64 = 16 << 20;

/// Reads one JSON object a line. Blank lines do not count as rows.
pub(crate) fn read(file: impl Read, names: &Names, visit: Visit<'_>) -> Result<(), ReadError> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = reader
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        if length as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
            return Err(ReadError::Format(format!(
                "line {number} is longer than {} MiB: is it one JSON object a line?",
                LONGEST_LINE >> 20
            )));
        }
        let text = if number == 1 {
            without_mark(&line)
        } else {
            &line
        };
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if number == 1 && text.trim_ascii_start().starts_with(b"[") {
            return Err(ReadError::Format(
                "the file is one JSON array; write one JSON object a line (jq -c '.[]' does that)"
                    .to_owned(),
            ));
        }
        let flow = match parse(text) {
            Ok(object) => match cells(&object, names) {
                Ok(cells) => visit(number, Ok(&cells)),
                Err(defect) => visit(number, Err(defect)),
            },
            Err(defect) => visit(number, Err(defect)),
        };
        if let ControlFlow::Break(()) = flow {
            break;
        }
    }
    Ok(())
}

fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line)
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, Defect> {
    let text = std::str::from_utf8(line).map_err(|_| Defect::row("UTF-8", "bytes that are not"))?;
    serde_json::from_str(text).map_err(|error| {
        let found = match error.classify() {
            Category::Data => "another JSON value".to_owned(),
            Category::Eof => "an object that does not end".to_owned(),
            _ => format!("a mistake at character {}", error.column()),
        };
        Defect::row("one JSON object", found)
    })
}

fn cells<'a>(object: &'a Map<String, Value>, names: &Names) -> Result<Vec<Cell<'a>>, Defect> {
    names
        .all()
        .iter()
        .enumerate()
        .map(|(column, name)| {
            object
                .get(name)
                .map_or(Ok(Cell::Absent), |v| cell(v, column))
        })
        .collect()
}

fn cell(value: &Value, column: usize) -> Result<Cell<'_>, Defect> {
    Ok(match value {
        Value::Null => Cell::Missing,
        Value::Bool(_) => Cell::Other("true or false"),
        Value::Object(_) => Cell::Other("an object"),
        Value::String(text) if text.is_empty() => Cell::Missing,
        Value::String(text) => Cell::Text(Cow::Borrowed(text)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Cell::Integer(integer),
            (None, _) if number.is_u64() => Cell::Text(number.to_string().into()),
            (None, Some(float)) => Cell::Float(float),
            (None, None) => Cell::Other("a number out of range"),
        },
        Value::Array(values) => {
            let texts = values
                .iter()
                .map(Value::as_str)
                .map(|text| text.map(Cow::Borrowed));
            match texts.collect() {
                Some(texts) => Cell::List(texts),
                None => return Err(Defect::at(column, "a list of texts", "another list")),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::FileKind;
    use crate::import::reader::{Rows, rows_of};

    fn rows(text: &[u8]) -> Result<Rows, ReadError> {
        let names = Names::new(FileKind::Likes, &[], false);
        rows_of(|visit| read(text, &names, visit))
    }

    #[test]
    fn an_object_a_line_in_any_order() {
        let text = "\u{feff}{\"video_id\":7,\"user_id\":\"\\u7530\",\"created_at\":1.5,\"x\":[{}]}\n\n {\"user_id\":18446744073709551615,\"video_id\":null}";
        let expected = [
            (1, Ok("`田` 7 1.5".replace('`', ""))),
            (3, Ok("18446744073709551615 nothing nothing".into())),
        ];
        assert_eq!(rows(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        let text =
            b"{\"user_id\":}\n[1]\n{\"user_id\":\"\xff\"}\n{\"user_id\":[1]}\n{\"user_id\":true}\n";
        let expected = [
            (
                1,
                Err("row: one JSON object, a mistake at character 12".into()),
            ),
            (2, Err("row: one JSON object, another JSON value".into())),
            (3, Err("row: UTF-8, bytes that are not".into())),
            (4, Err("column 0: a list of texts, another list".into())),
            (5, Ok("true or false nothing nothing".into())),
        ];
        assert_eq!(rows(text).unwrap(), expected);
    }

    #[test]
    fn other_formats_are_recognised() {
        let message = |text: &[u8]| rows(text).unwrap_err().to_string();
        assert!(message(b"[{\"user_id\":1}]").contains("one JSON array"));
        assert!(message(&vec![b' '; LONGEST_LINE as usize + 1]).contains("longer than 16 MiB"));
    }
}
