use crate::import::cell::{Cell, Defect, quote};
use crate::import::layout::{LayoutError, Names};
use crate::import::lines::each_line;
use crate::import::reader::{ReadError, Visit, refuse_utf16};
use serde_json::error::Category;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{Read, Seek};
use std::ops::ControlFlow;

/// Reads one JSON object per line. Blank lines are not rows.
///
/// Each line has its own columns. So a first pass looks for the required columns, up to the line
/// that has the last of them: a file that lacks one is refused before any row is visited. No row is
/// visited either once `is_heard` returns false.
pub(crate) fn read(
    mut file: impl Read + Seek,
    names: &Names,
    is_heard: &dyn Fn() -> bool,
    visit: Visit<'_>,
) -> Result<(), ReadError> {
    let mut search = Search::new(names);
    each_object(&mut file, |_, line| match parse(line) {
        _ if !is_heard() => ControlFlow::Break(()),
        Ok(object) => search.see(&object),
        Err(_) => ControlFlow::Continue(()),
    })?;
    if !is_heard() {
        return Ok(());
    }
    search.finish()?;
    file.rewind()?;
    each_object(file, |number, line| {
        let object = parse(line);
        match object.as_ref().map(|object| cells(object, names)) {
            Ok(Ok(cells)) => visit(number, Ok(&cells)),
            Ok(Err(defect)) => visit(number, Err(defect)),
            Err(defect) => visit(number, Err(defect.clone())),
        }
    })
}

/// Required columns that have not been seen yet.
struct Search<'n> {
    names: &'n Names,
    missing: Vec<usize>,
    /// Keys seen so far, for the message.
    keys: BTreeSet<String>,
    objects: bool,
}

impl<'n> Search<'n> {
    /// At most this many keys are listed in the message.
    const KEYS: usize = 100;

    fn new(names: &'n Names) -> Self {
        Self {
            names,
            missing: names.somewhere().collect(),
            keys: BTreeSet::new(),
            objects: false,
        }
    }

    fn see(&mut self, object: &Map<String, Value>) -> ControlFlow<()> {
        self.objects = true;
        let all = self.names.all();
        self.missing
            .retain(|&column| matches!(find(object, &all[column]), Ok(None)));
        if self.missing.is_empty() {
            return ControlFlow::Break(());
        }
        for key in object.keys() {
            if self.keys.len() < Self::KEYS && !self.keys.contains(key) {
                self.keys.insert(key.clone());
            }
        }
        ControlFlow::Continue(())
    }

    /// If no line is an object, this is not an error of the columns: each line reports it.
    fn finish(self) -> Result<(), LayoutError> {
        match self.missing.first() {
            Some(&column) if self.objects => {
                let keys = self.keys.iter().map(String::as_str);
                self.names.refuse_without(column, &keys)
            }
            _ => Ok(()),
        }
    }
}

/// Yields the lines that are not blank, with their numbers.
fn each_object(
    file: impl Read,
    mut take: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    each_line(file, "one JSON object a line", |number, line| {
        let text = if number == 1 {
            refuse_utf16(line)?;
            without_mark(line)
        } else {
            line
        };
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(ControlFlow::Continue(()));
        }
        if number == 1 && text.trim_ascii_start().starts_with(b"[") {
            return Err(ReadError::Format(
                "the file is one JSON array; write one JSON object a line (jq -c '.[]' does that)"
                    .to_owned(),
            ));
        }
        Ok(take(number, text))
    })
}

fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line)
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, Defect> {
    // Without the line end, where the parser would report an unclosed string.
    let line = line.strip_suffix(b"\n").unwrap_or(line);
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
        .map(|(column, name)| match find(object, name) {
            Ok(None) => Ok(Cell::Absent),
            Ok(Some(value)) => cell(value, column),
            Err(found) => Err(Defect::at(column, "the column once", found)),
        })
        .collect()
}

/// The value of a key. Letter case is ignored unless two keys differ only in it. The error names
/// two such keys if neither matches exactly.
fn find<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Value>, String> {
    if let Some(value) = object.get(name) {
        return Ok(Some(value));
    }
    let mut alike = object
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name));
    match (alike.next(), alike.next()) {
        (Some((one, _)), Some((other, _))) => Err(format!("{} and {}", quote(one), quote(other))),
        (found, _) => Ok(found.map(|(_, value)| value)),
    }
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
    use crate::import::reader::{LONGEST_ROW, Rows, rows_of};
    use crate::import::{ColumnRule, FileKind};
    use std::io::Cursor;

    fn rows_by(kind: FileKind, rules: &[&str], text: &[u8]) -> Result<Rows, ReadError> {
        let rules: Vec<ColumnRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let names = Names::new(
            kind,
            &rules,
            rules.iter().any(|rule| rule.column == "created_at"),
        );
        rows_of(|visit| read(Cursor::new(text), &names, &|| true, visit))
    }

    fn rows(text: &[u8]) -> Result<Rows, ReadError> {
        rows_by(FileKind::Likes, &[], text)
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
            b"{\"user_id\":}\n[1]\n{\"user_id\":\"\xff\"}\n{\"user_id\":[1]}\n{\"user_id\":true}\n{\"user_id\":\"a\n{\"video_id\":1,\"created_at\":2}";
        let expected = [
            (
                1,
                Err("row: one JSON object, a mistake at character 12".into()),
            ),
            (2, Err("row: one JSON object, another JSON value".into())),
            (3, Err("row: UTF-8, bytes that are not".into())),
            (4, Err("column 0: a list of texts, another list".into())),
            (5, Ok("true or false nothing nothing".into())),
            (
                6,
                Err("row: one JSON object, an object that does not end".into()),
            ),
            (7, Ok("nothing 1 2".into())),
        ];
        assert_eq!(rows(text).unwrap(), expected);
    }

    #[test]
    fn letter_case_does_not_count_unless_two_keys_differ_in_nothing_else() {
        let text = br#"{"User_ID":1,"VIDEO_ID":2,"created_at":3,"Created_At":4}
{"user_id":1,"Video_id":2,"VIDEO_ID":3,"created_at":4}"#;
        let expected = [
            (1, Ok("1 2 3".into())),
            (
                2,
                Err("column 1: the column once, `VIDEO_ID` and `Video_id`".into()),
            ),
        ];
        assert_eq!(rows(text).unwrap(), expected);
    }

    #[test]
    fn a_column_that_is_nowhere_in_the_file_is_missed_before_a_row_is_visited() {
        let message =
            |kind, rules: &[&str], text: &[u8]| rows_by(kind, rules, text).unwrap_err().to_string();
        let like = br#"{"user_id":1,"video_id":2,"time":3}"#;
        assert_eq!(
            message(FileKind::Likes, &["created_at=ts"], like),
            "--column created_at=ts: the file has no column `ts`, but `time`, `user_id`, `video_id`"
        );
        assert!(message(FileKind::Likes, &[], like).contains("--default-time"));
        assert!(message(FileKind::Skips, &[], br#"{"user_id":1}"#).contains("`video_id`"));
        let videos = b"{\"id\":1,\"labels\":[]}\n{\"id\":2}";
        let error = message(FileKind::Videos, &["tags=label"], videos);
        assert!(error.contains("no column `label`"), "{error}");
        // A column may occur anywhere, and changes of videos need no titles.
        let late = rows_by(FileKind::Videos, &["tags=LABELS"], videos).unwrap();
        assert_eq!(late.len(), 2);
        let late = b"{\"id\":2}\n{\"id\":1,\"labels\":[]}";
        assert!(rows_by(FileKind::Videos, &["tags=labels"], late).is_ok());
        assert!(rows(b"").unwrap().is_empty());
    }

    #[test]
    fn a_search_ends_when_nobody_waits_for_rows() {
        let names = Names::new(FileKind::Likes, &[], false);
        // No line has the column, and the third exceeds the maximum length: reading it would refuse
        // the file.
        let text = [&b"{}\n{}\n"[..], &vec![b' '; LONGEST_ROW as usize]].concat();
        let asked = std::cell::Cell::new(0);
        let is_heard = || asked.replace(asked.get() + 1) < 1;
        let rows = rows_of(|visit| read(Cursor::new(&text), &names, &is_heard, visit));
        assert!(rows.unwrap().is_empty());
    }

    #[test]
    fn other_formats_are_recognised() {
        let message = |text: &[u8]| rows(text).unwrap_err().to_string();
        assert!(message(b"[{\"user_id\":1}]").contains("one JSON array"));
        assert!(message(b"\xff\xfe{\0").contains("UTF-16"));
        assert!(message(&vec![b' '; LONGEST_ROW as usize + 1]).contains("longer than 16 MiB"));
    }
}
