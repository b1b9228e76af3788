mod column;

mod values;

pub(crate) use values::{Value, values};

use crate::export::{PSEUDONYMS, USERS_KEY};
use crate::import::FileKind;
use crate::import::cell::{Cell, Defect};
use crate::import::layout::Names;
use crate::import::parquet::column::Column;
use crate::import::reader::{ReadError, Visit};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use std::fs::File;

/// Number of rows decoded at a time.
const ROWS: usize = 8_192;

/// Reads the requested columns only. Rows are numbered from 1 across all row groups.
pub(crate) fn read(file: File, names: &Names, visit: Visit<'_>) -> Result<(), ReadError> {
    let reader = SerializedFileReader::new(file)?;
    warn_of_pseudonyms(&reader, names);
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let headers: Vec<String> = schema.columns().iter().map(|c| header(c)).collect();
    let located = names.locate(&headers.iter().map(String::as_str))?;
    names.warn_of_ratings(headers.iter().map(String::as_str));
    for index in located.iter().flatten() {
        if schema.column(*index).max_rep_level() > 1 {
            let header = &headers[*index];
            return Err(ReadError::Format(format!(
                "column `{header}` holds lists of lists"
            )));
        }
    }

    let mut number = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        let mut columns = located
            .iter()
            .map(|index| match index {
                None => Ok(None),
                Some(index) => group
                    .get_column_reader(*index)
                    .map(|reader| Some(Column::new(&schema.column(*index), reader))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        while left > 0 {
            let rows = left.min(ROWS);
            for column in columns.iter_mut().flatten() {
                column.fill(rows)?;
            }
            for _ in 0..rows {
                number += 1;
                // Every column advances, even after a defect in an earlier one.
                let mut cells = Vec::with_capacity(columns.len());
                let mut defect = None;
                for (index, column) in columns.iter_mut().enumerate() {
                    let cell = column.as_mut().map_or(Ok(Cell::Absent), Column::next_cell);
                    cells.push(cell.unwrap_or_else(|(expected, found)| {
                        defect.get_or_insert_with(|| Defect::at(index, expected, found));
                        Cell::Missing
                    }));
                }
                let row = defect.map_or(Ok(&cells[..]), Err);
                let flow = visit(number, row);
                if flow.is_break() {
                    return Ok(());
                }
            }
            left -= rows;
        }
    }
    Ok(())
}

/// Whether the users of a file are pseudonyms.
fn has_pseudonyms(reader: &SerializedFileReader<File>) -> bool {
    let metadata = reader.metadata().file_metadata().key_value_metadata();
    metadata
        .into_iter()
        .flatten()
        .any(|entry| entry.key == USERS_KEY && entry.value.as_deref() == Some(PSEUDONYMS))
}

/// Pseudonyms do not match the users of a database that has its own.
fn warn_of_pseudonyms(reader: &SerializedFileReader<File>, names: &Names) {
    if has_pseudonyms(reader) && names.kind != FileKind::Videos {
        tracing::warn!(
            "the users of these {} are pseudonyms, and nobody in a database with users of its own: `twotower export --user-ids` writes their ids",
            names.kind
        );
    }
}

/// Name of a leaf: that of its list (`tags` for `tags.list.element`), or the whole path inside a
/// structure.
fn header(column: &ColumnDescriptor) -> String {
    let parts = column.path().parts();
    match column.max_rep_level() {
        0 => parts.join("."),
        _ => parts[0].clone(),
    }
}

#[cfg(test)]
mod tests;
