use crate::import::cell::{Cell, Defect};
use crate::import::layout::{LayoutError, Names};
use crate::import::{csv, jsonl, movielens, parquet};
use anyhow::Context;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Called for each row with its number, and its cells in the order of our columns.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(u64, Result<&[Cell<'_>], Defect>) -> ControlFlow<()>;

/// Maximum length of a row of a text format, bytes.
pub(crate) const LONGEST_ROW: u64 = 16 << 20;

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Csv(#[from] ::csv::Error),
    #[error(transparent)]
    Parquet(#[from] ::parquet::errors::ParquetError),
    #[error("{0}")]
    Format(String),
}

/// Refuses a file that begins like UTF-16: with its byte order mark, or with an ASCII letter in two
/// bytes.
pub(crate) fn refuse_utf16(start: &[u8]) -> Result<(), ReadError> {
    let is_utf16 = match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, ..] => (*first == 0) != (*second == 0),
        _ => false,
    };
    if is_utf16 {
        return Err(ReadError::Format(
            "the file is UTF-16, and text has to be UTF-8: save it so, or convert it (iconv -f UTF-16 -t UTF-8 FILE > NEW)"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv { delimiter: u8 },
    JsonLines,
    Parquet,
    MovieLens,
}

impl Format {
    /// The format given by a file's extension; `delimiter` overrides that of comma- or
    /// tab-separated values.
    pub(crate) fn of(path: &Path, delimiter: Option<u8>) -> anyhow::Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        Ok(match extension.to_ascii_lowercase().as_str() {
            "csv" => Self::Csv {
                delimiter: delimiter.unwrap_or(b','),
            },
            "tsv" | "tab" => Self::Csv {
                delimiter: delimiter.unwrap_or(b'\t'),
            },
            "jsonl" | "ndjson" | "json" => Self::JsonLines,
            "parquet" | "pq" => Self::Parquet,
            "gz" | "zip" | "bz2" | "xz" | "zst" => anyhow::bail!(
                "{}: the file is compressed; unpack it, and import what is in it",
                path.display()
            ),
            "xls" | "xlsx" | "ods" => anyhow::bail!(
                "{}: unknown format; save the sheet as CSV in UTF-8, or as .parquet or .jsonl",
                path.display()
            ),
            "dat" => anyhow::bail!(
                "{}: unknown format; folders of MovieLens are read with --preset movielens FOLDER, other files are to be .csv, .tsv, .parquet or .jsonl",
                path.display()
            ),
            _ => anyhow::bail!(
                "{}: unknown format; name it .csv, .tsv, .parquet or .jsonl",
                path.display()
            ),
        })
    }

    /// What the format's row numbers count.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Parquet => "row",
            _ => "line",
        }
    }
}

/// A file and how to read it.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    pub(crate) names: Names,
}

impl Input {
    /// Reads every row, until `visit` breaks. A reader that may read much of the file between two
    /// visits checks `is_heard`, and stops without further visits once that returns false.
    pub(crate) fn read(&self, is_heard: &dyn Fn() -> bool, visit: Visit<'_>) -> anyhow::Result<()> {
        let context = || self.path.display().to_string();
        let file = File::open(&self.path).with_context(context)?;
        match self.format {
            Format::Csv { delimiter } => csv::read(file, delimiter, &self.names, is_heard, visit),
            Format::JsonLines => jsonl::read(file, &self.names, is_heard, visit),
            Format::Parquet => parquet::read(file, &self.names, visit),
            Format::MovieLens => {
                movielens::read(&self.path, file, self.names.kind, is_heard, visit)
            }
        }
        .with_context(context)
    }
}

/// Visited rows in words: the number, and the cells separated by blanks or the defect.
#[cfg(test)]
pub(crate) type Rows = Vec<(u64, Result<String, String>)>;

/// Collects the rows that a reader visits.
#[cfg(test)]
pub(crate) fn rows_of(
    read: impl FnOnce(Visit<'_>) -> Result<(), ReadError>,
) -> Result<Rows, ReadError> {
    let mut rows = Vec::new();
    read(&mut |number, row| {
        let row = match row {
            Ok(cells) => {
                let cells = cells.iter().map(|cell| match cell {
                    Cell::Text(text) => text.to_string(),
                    Cell::List(texts) => format!("{texts:?}"),
                    Cell::Time(micros) => format!("@{micros}"),
                    Cell::Id(id) => id.to_string(),
                    cell => cell.describe(false),
                });
                Ok(cells.collect::<Vec<_>>().join(" "))
            }
            Err(defect) => {
                let place = match defect.column {
                    Some(column) => format!("column {column}"),
                    None => "row".to_owned(),
                };
                Err(format!("{place}: {}, {}", defect.expected, defect.found))
            }
        };
        rows.push((number, row));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

/// Yields this many bytes at a time.
#[cfg(test)]
pub(crate) struct Pieces<'a>(pub(crate) &'a [u8], pub(crate) usize);

#[cfg(test)]
impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(self.0.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}
