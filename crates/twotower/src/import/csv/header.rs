//! The header row, and likely reasons if its columns are not the expected ones.

use super::lone_returns;
use super::quotes::{Misplaced, Quotes};
use crate::import::cell::Defect;
use crate::import::layout::LayoutError;
use crate::import::reader::ReadError;
use crate::import::{FileKind, time};
use csv::{Reader, StringRecord};
use std::io::Read;
use uuid::Uuid;

/// Names of the columns from the first row. Adds to `returns` its line ends as [`lone_returns`]
/// counts them.
pub(super) fn header(
    reader: &mut Reader<Quotes<'_, impl Read>>,
    returns: &mut u64,
) -> Result<StringRecord, ReadError> {
    let headers = match reader.headers().cloned() {
        Ok(headers) => headers,
        Err(error) => return Err(bad_header(error, reader.get_ref().endless())),
    };
    *returns = headers.iter().map(|it| lone_returns(it.as_bytes())).sum();
    if reader.get_ref().ended() && !headers.is_empty() {
        return Err(ReadError::Format(
            "the header has a quote that is never closed".to_owned(),
        ));
    }
    let last = reader.position().line().saturating_sub(1) + *returns;
    if let Some(Misplaced { closed, .. }) = reader.get_mut().misplaced_until(last) {
        return Err(ReadError::Format(format!(
            "the header has a quote that is closed in the middle of line {closed}"
        )));
    }
    Ok(headers)
}

/// An error about the columns of a header, with its likely reason.
pub(super) fn explained(error: LayoutError, headers: &StringRecord, delimiter: u8) -> ReadError {
    let alone = (headers.len() == 1).then(|| &headers[0]);
    let other = alone.and_then(|header| {
        let separators = [(b'\t', "tab"), (b';', "';'"), (b'|', "'|'"), (b',', "','")];
        separators
            .into_iter()
            .find(|(byte, _)| *byte != delimiter && header.as_bytes().contains(byte))
    });
    if let Some((_, separator)) = other {
        return ReadError::Format(format!(
            "{error}. If that is several columns, add --delimiter {separator}"
        ));
    }
    let is_value = |text: &str| {
        let text = text.trim();
        text.parse::<f64>().is_ok() || Uuid::try_parse(text).is_ok() || time::parse(text).is_some()
    };
    if headers.iter().any(is_value) {
        return ReadError::Format(format!(
            "{error}. If the first line is a row and the file has no header, name its columns in their order with --header {}",
            names_of(&error)
        ));
    }
    error.into()
}

/// An example of a header for the kind of file that `error` is about.
fn names_of(error: &LayoutError) -> String {
    match error {
        LayoutError::MissingColumn { kind, .. } | LayoutError::MissingTime { kind, .. } => {
            let needed = kind.columns().iter().enumerate();
            let needed =
                needed.filter(|(column, _)| *kind != FileKind::Videos || kind.requires(*column));
            needed.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
        }
        _ => "NAMES".to_owned(),
    }
}

/// Why the header cannot be read.
fn bad_header(error: csv::Error, endless: Option<(u64, Defect)>) -> ReadError {
    if let Some((
        _,
        Defect {
            expected, found, ..
        },
    )) = endless
    {
        return ReadError::Format(format!("in the header: expected {expected}, found {found}"));
    }
    if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) {
        return ReadError::Format(
            "the header is not UTF-8: save the file so, or convert it (for texts of Western Windows, iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW)"
                .to_owned(),
        );
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::import::layout::Names;
    use crate::import::reader::{Rows, rows_of};

    fn rows(text: &[u8], names: &Names) -> Result<Rows, ReadError> {
        rows_of(|visit| read(text, b',', names, &|| true, visit))
    }

    fn refusal(kind: FileKind, text: &[u8]) -> String {
        let refused = rows(text, &Names::new(kind, &[], false));
        refused.unwrap_err().to_string()
    }

    #[test]
    fn a_header_that_is_none_is_told_from_one_with_other_separators() {
        let refused = |text: &str| refusal(FileKind::Likes, text.as_bytes());
        let said = refused("user_id;video_id;created_at\n1;2;3\n");
        assert!(said.ends_with("add --delimiter ';'"), "{said}");
        let said = refused("user_id\tvideo_id\n");
        assert!(said.ends_with("add --delimiter tab"), "{said}");
        for first in [
            "17,242,881250949\n",
            "ann,7,2026-01-31\n",
            "550e8400-e29b-41d4-a716-446655440000,clip,now\n",
        ] {
            let said = refused(first);
            let hint = "--header user_id,video_id,created_at";
            assert!(said.ends_with(hint), "{said}");
        }
        let said = refusal(FileKind::Videos, b"1,Film\n");
        assert!(said.ends_with("--header id,title"), "{said}");
        let said = refused("uid,vid,when\n");
        assert!(!said.contains("--header"), "{said}");
    }

    #[test]
    fn a_file_without_a_header_has_the_one_that_is_given() {
        let given = ["user_id", "_", "video_id", "_", "created_at"].map(str::to_owned);
        let names = Names::new(FileKind::Likes, &[], false).with_header(&given);
        let text = "\u{feff}ann,x,7,,1\r\n\nben,\"y\nz\",8,,2\r\ncat,9";
        let expected = [
            (1, Ok("ann 7 1".into())),
            (3, Ok("ben 8 2".into())),
            (5, Err("row: 5 fields as in the header, 2".into())),
        ];
        assert_eq!(rows(text.as_bytes(), &names).unwrap(), expected);
        assert!(rows(b"", &names).unwrap().is_empty());
        let short = Names::new(FileKind::Likes, &[], false).with_header(&given[..1]);
        assert!(matches!(rows(b"ann\n", &short), Err(ReadError::Layout(_))));
    }

    #[test]
    fn text_that_is_not_utf_8_is_called_what_it_is() {
        let utf16 = |text: &str, big: bool| -> Vec<u8> {
            let units = text.encode_utf16();
            let bytes = units.flat_map(|unit| {
                if big {
                    unit.to_be_bytes()
                } else {
                    unit.to_le_bytes()
                }
            });
            bytes.collect()
        };
        let text = "user_id,video_id,created_at\r\n";
        for big in [false, true] {
            for mark in ["", "\u{feff}"] {
                let said = refusal(FileKind::Likes, &utf16(&format!("{mark}{text}"), big));
                assert!(said.contains("iconv -f UTF-16 -t UTF-8"), "{said}");
            }
        }
        let said = refusal(FileKind::Likes, b"user_id,video_id,cr\xe9\xe9\n");
        assert!(said.contains("iconv -f WINDOWS-1252"), "{said}");
    }
}
