//! All values of a file that may be ids, for searches.

use super::column::Column;
use super::{ROWS, has_pseudonyms, header};
use crate::import::id;
use crate::import::reader::ReadError;
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use std::fs::File;
use std::ops::ControlFlow;
use uuid::Uuid;

/// Name of the column of users.
const USERS: &str = "user_id";

/// Name of the column of videos.
const VIDEOS: &str = "video_id";

/// A value somewhere in a file.
pub(crate) enum Value<'a> {
    /// Text or other bytes.
    Bytes(&'a [u8]),
    /// Text or other bytes in the column of videos.
    Video(&'a [u8]),
    /// A user in the column of users, read as import does.
    User(Uuid),
}

/// Called with each value; may stop the search.
type Visit<'v> = &'v mut dyn FnMut(Value<'_>) -> ControlFlow<()>;

/// Passes every text and byte array, and every user in the column of users whatever its type, to
/// `visit` until that breaks. Pseudonyms are not passed on.
pub(crate) fn values(file: File, visit: Visit<'_>) -> Result<(), ReadError> {
    let reader = SerializedFileReader::new(file)?;
    let pseudonyms = has_pseudonyms(&reader);
    let metadata = reader.metadata().file_metadata();
    for entry in metadata.key_value_metadata().into_iter().flatten() {
        let value = entry.value.as_deref().unwrap_or_default();
        for text in [&entry.key, value] {
            if visit(Value::Bytes(text.as_bytes())).is_break() {
                return Ok(());
            }
        }
    }
    let schema = metadata.schema_descr_ptr();
    // The schema name that our exports use.
    let of_videos = schema.name() == "videos";
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        for (index, column) in schema.columns().iter().enumerate() {
            let users = header(column).eq_ignore_ascii_case(USERS);
            if users && pseudonyms {
                continue;
            }
            let name = header(column);
            let videos = name.eq_ignore_ascii_case(VIDEOS) || (of_videos && name == "id");
            let mut flow = if videos {
                bytes(&*group, index, column, &mut |value| match value {
                    Value::Bytes(bytes) => visit(Value::Video(bytes)),
                    value => visit(value),
                })?
            } else {
                bytes(&*group, index, column, visit)?
            };
            if users && column.max_rep_level() == 0 && flow.is_continue() {
                flow = users_of(&*group, index, column, visit)?;
            }
            if flow.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The values of a column of byte arrays.
fn bytes(
    group: &dyn RowGroupReader,
    index: usize,
    column: &ColumnDescriptor,
    visit: Visit<'_>,
) -> Result<ControlFlow<()>, ReadError> {
    if !matches!(
        column.physical_type(),
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY
    ) {
        return Ok(ControlFlow::Continue(()));
    }
    let rows = rows(group);
    match group.get_column_reader(index)? {
        ColumnReader::ByteArrayColumnReader(reader) => each(reader, rows, visit),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => each(reader, rows, visit),
        _ => Ok(ControlFlow::Continue(())),
    }
}

fn each<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    visit: Visit<'_>,
) -> Result<ControlFlow<()>, ReadError> {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        values.clear();
        definitions.clear();
        repetitions.clear();
        let levels = (Some(&mut definitions), Some(&mut repetitions));
        let (records, ..) = reader.read_records(ROWS, levels.0, levels.1, &mut values)?;
        if records == 0 {
            let error = format!("a column ends after {done} of {rows} rows");
            return Err(ParquetError::EOF(error).into());
        }
        done += records;
        for value in &values {
            if visit(Value::Bytes(value.as_bytes())).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The users of a column. Values that are no user's id are skipped.
fn users_of(
    group: &dyn RowGroupReader,
    index: usize,
    column: &ColumnDescriptor,
    visit: Visit<'_>,
) -> Result<ControlFlow<()>, ReadError> {
    let mut users = Column::new(column, group.get_column_reader(index)?);
    let mut left = rows(group);
    while left > 0 {
        let rows = left.min(ROWS);
        users.fill(rows)?;
        for _ in 0..rows {
            let user = users.next_cell().ok();
            let user = user.and_then(|cell| id::from_cell(&cell));
            if user.is_some_and(|user| visit(Value::User(user)).is_break()) {
                return Ok(ControlFlow::Break(()));
            }
        }
        left -= rows;
    }
    Ok(ControlFlow::Continue(()))
}

fn rows(group: &dyn RowGroupReader) -> usize {
    usize::try_from(group.metadata().num_rows()).unwrap_or(0)
}
