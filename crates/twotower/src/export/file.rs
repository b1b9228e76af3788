//! Parquet files that are hashed while they are written.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::get_typed_column_writer_mut;
use parquet::data_type::DataType;
use parquet::errors::Result;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use twotower_store::{create_private, hex};

/// Metadata key that says whether the users of a file are pseudonyms.
pub(crate) const USERS_KEY: &str = "twotower.users";
/// Value of [`USERS_KEY`]: numbers in the order of the ids.
pub(crate) const PSEUDONYMS: &str = "pseudonyms";
const IDS: &str = "ids";

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WrittenFile {
    /// Its name in the folder of its kind.
    pub(crate) name: String,
    /// Number of rows.
    pub(crate) rows: u64,
    /// SHA-256 of the file, hex.
    pub(crate) sha256: String,
}

/// A Parquet file being written.
pub(super) struct ParquetFile {
    name: String,
    rows: u64,
    writer: SerializedFileWriter<Hashing>,
}

impl ParquetFile {
    pub(super) fn create(path: &Path, schema: &str, pseudonyms: bool) -> Result<Self> {
        let schema = Arc::new(parse_message_type(schema)?);
        let users = if pseudonyms { PSEUDONYMS } else { IDS };
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_key_value_metadata(Some(vec![KeyValue::new(
                USERS_KEY.to_owned(),
                users.to_owned(),
            )]))
            .set_column_dictionary_enabled(ColumnPath::from("user_id"), false)
            .set_column_dictionary_enabled(ColumnPath::from("created_at"), false)
            .set_column_encoding(
                ColumnPath::from("created_at"),
                Encoding::DELTA_BINARY_PACKED,
            )
            .build();
        let file = Hashing {
            file: BufWriter::new(create_private(path)?),
            hash: Sha256::new(),
        };
        Ok(Self {
            name: path
                .file_name()
                .map(|name| name.display().to_string())
                .unwrap_or_default(),
            rows: 0,
            writer: SerializedFileWriter::new(file, schema, Arc::new(properties))?,
        })
    }

    /// Adds a row group of `rows` rows; `write` gives its columns in order.
    pub(super) fn group(
        &mut self,
        rows: u64,
        write: impl FnOnce(&mut Columns<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut columns = Columns {
            group: self.writer.next_row_group()?,
        };
        write(&mut columns)?;
        columns.group.close()?;
        self.rows += rows;
        Ok(())
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the file and makes it durable.
    pub(super) fn finish(self) -> Result<WrittenFile> {
        let Hashing { file, hash } = self.writer.into_inner()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(WrittenFile {
            name: self.name,
            rows: self.rows,
            sha256: hex(&hash.finalize()),
        })
    }
}

/// Values of a part of a column, with the levels that mark missing values and the starts of lists.
pub(super) struct Part<'a, T> {
    pub(super) values: &'a [T],
    pub(super) definitions: Option<&'a [i16]>,
    pub(super) repetitions: Option<&'a [i16]>,
}

impl<'a, T> Part<'a, T> {
    /// A part of a column without missing values.
    pub(super) fn whole(values: &'a [T]) -> Self {
        Self {
            values,
            definitions: None,
            repetitions: None,
        }
    }
}

/// The columns of a row group, written one after the other.
pub(super) struct Columns<'a> {
    group: SerializedRowGroupWriter<'a, Hashing>,
}

impl Columns<'_> {
    /// Writes the next column, which `parts` hands over piece by piece.
    pub(super) fn next<T: DataType>(
        &mut self,
        parts: impl FnOnce(&mut dyn FnMut(Part<'_, T::T>) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let Some(mut column) = self.group.next_column()? else {
            return Err(parquet::errors::ParquetError::General(
                "the schema has no such column".to_owned(),
            ));
        };
        let typed = get_typed_column_writer_mut::<T>(column.untyped());
        parts(&mut |part| {
            typed
                .write_batch(part.values, part.definitions, part.repetitions)
                .map(drop)
        })?;
        column.close()
    }
}

struct Hashing {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a new file that only its owner may read, and makes it durable.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_private(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
