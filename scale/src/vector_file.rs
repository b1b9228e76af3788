//! The files `videos-00000.parquet`, … and `users-00000.parquet`, …

use crate::cell::ID_BYTES;
use crate::hash::sha256;
use crate::output::{FileEntry, OutputFile, properties};
use anyhow::{Context, bail, ensure};
use datafusion::arrow::array::{
    Array, AsArray, FixedSizeBinaryBuilder, ListBuilder, PrimitiveBuilder, RecordBatch,
};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Schema};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use datafusion::parquet::basic::Compression;
use datafusion::parquet::schema::parser::parse_message_type;
use datafusion::parquet::schema::types::SchemaDescriptor;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Rows of a file: some 70 MB at 64 dimensions, so that there are enough of them to load in parallel.
const FILE_ROWS: u64 = 262_144;
/// Rows handed to the writer at a time; pages depend on it, so that it never varies.
const BATCH: usize = 4_096;

const SCHEMA: &str = "message vectors {
    REQUIRED FIXED_LEN_BYTE_ARRAY(16) id (UUID);
    REQUIRED group embedding (LIST) { REPEATED group list { REQUIRED FLOAT element; } }
}";

/// The files of one kind of vectors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorFiles {
    /// Vectors in all of them.
    pub rows: u64,
    /// Ids ascend over them in this order.
    pub files: Vec<FileEntry>,
}

/// Writes vectors in ascending order of id. Bytes depend on the vectors alone, and not on how they came.
pub(crate) struct VectorWriter {
    folder: PathBuf,
    kind: &'static str,
    dim: usize,
    open: Option<ArrowWriter<OutputFile>>,
    open_rows: u64,
    ids: Vec<[u8; 16]>,
    values: Vec<f32>,
    last: Option<[u8; 16]>,
    written: VectorFiles,
}

impl VectorWriter {
    /// `kind` is `videos` or `users`.
    pub(crate) fn new(folder: &Path, kind: &'static str, dim: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            kind,
            dim,
            open: None,
            open_rows: 0,
            ids: Vec::new(),
            values: Vec::new(),
            last: None,
            written: VectorFiles::default(),
        }
    }

    /// Takes columns `id` and `embedding`; rows whose vector is null are left out.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let columns = (|| {
            let ids = batch.column_by_name("id")?.as_fixed_size_binary_opt()?;
            Some((
                ids,
                batch.column_by_name("embedding")?.as_list_opt::<i32>()?,
            ))
        })();
        let (ids, vectors) =
            columns.context("the engine gave back other columns than asked for")?;
        for row in (0..batch.num_rows()).filter(|&row| vectors.is_valid(row)) {
            let id: [u8; 16] = ids.value(row).try_into().context("an id of 16 bytes")?;
            if let Some(last) = self.last.filter(|&last| last >= id) {
                if last == id {
                    bail!("{} {} is there twice", self.kind, Uuid::from_bytes(id));
                }
                bail!("the engine gave the rows back out of order");
            }
            self.last = Some(id);
            let vector = vectors.value(row);
            let vector = vector
                .as_primitive_opt::<Float32Type>()
                .context("a vector of floats")?;
            ensure!(
                vector.len() == self.dim,
                "a vector of {} numbers",
                vector.len()
            );
            self.ids.push(id);
            self.values.extend_from_slice(vector.values());
            if self.ids.len() == BATCH {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let element = Field::new("element", DataType::Float32, false);
        let list = DataType::List(Arc::new(element.clone()));
        let arrow = Arc::new(Schema::new(vec![
            Field::new("id", DataType::FixedSizeBinary(ID_BYTES), false),
            Field::new("embedding", list, false),
        ]));
        let mut writer = if let Some(writer) = self.open.take() {
            writer
        } else {
            let parquet = parse_message_type(SCHEMA).context("the schema of vectors")?;
            let properties = properties()?
                .set_dictionary_enabled(false)
                .set_compression(Compression::UNCOMPRESSED)
                .set_max_row_group_row_count(Some(FILE_ROWS as usize));
            let options = ArrowWriterOptions::new()
                .with_properties(properties.build())
                .with_skip_arrow_metadata(true)
                .with_parquet_schema(SchemaDescriptor::new(Arc::new(parquet)));
            let file = OutputFile::create(&self.folder.join(self.name()))?;
            ArrowWriter::try_new_with_options(file, arrow.clone(), options)
                .context("begin a file of vectors")?
        };
        let mut ids = FixedSizeBinaryBuilder::with_capacity(self.ids.len(), ID_BYTES);
        for id in &self.ids {
            ids.append_value(id).context("an id")?;
        }
        let mut lists =
            ListBuilder::new(PrimitiveBuilder::<Float32Type>::new()).with_field(element);
        for vector in self.values.chunks_exact(self.dim) {
            lists.values().append_slice(vector);
            lists.append(true);
        }
        let batch = RecordBatch::try_new(
            arrow,
            vec![Arc::new(ids.finish()), Arc::new(lists.finish())],
        )
        .context("put vectors together")?;
        writer.write(&batch).context("write vectors")?;
        self.open_rows += self.ids.len() as u64;
        self.ids.clear();
        self.values.clear();
        self.open = Some(writer);
        if self.open_rows >= FILE_ROWS {
            self.close()?;
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}-{:05}.parquet", self.kind, self.written.files.len())
    }

    fn close(&mut self) -> anyhow::Result<()> {
        let Some(writer) = self.open.take() else {
            return Ok(());
        };
        let name = self.name();
        let file = writer
            .into_inner()
            .with_context(|| format!("write {name}"))?;
        let rows = std::mem::take(&mut self.open_rows);
        self.written.rows += rows;
        let sha256 = file.finish()?;
        self.written.files.push(FileEntry { name, rows, sha256 });
        Ok(())
    }

    pub(crate) fn finish(mut self) -> anyhow::Result<VectorFiles> {
        self.flush()?;
        self.close()?;
        Ok(self.written)
    }
}

/// The vectors of videos, by id.
#[derive(Debug)]
pub(crate) struct VideoVectors {
    dim: usize,
    rows: HashMap<[u8; 16], u32>,
    values: Vec<f32>,
}

impl VideoVectors {
    /// Reads and checks `files` in `folder`.
    pub(crate) fn read(folder: &Path, files: &VectorFiles, dim: usize) -> anyhow::Result<Self> {
        let mut vectors = Self {
            dim,
            rows: HashMap::new(),
            values: Vec::new(),
        };
        for entry in &files.files {
            let path = folder.join(&entry.name);
            // Of at most FILE_ROWS rows.
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            ensure!(
                sha256(&bytes) == entry.sha256,
                "{} is not the file that was written: every executor must see the folder that --to names",
                path.display()
            );
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))
                .and_then(ParquetRecordBatchReaderBuilder::build)
                .with_context(|| format!("read {}", path.display()))?;
            for batch in reader {
                let batch = batch.with_context(|| format!("read {}", path.display()))?;
                let columns = (|| {
                    let ids = batch.column(0).as_fixed_size_binary_opt()?;
                    let lists = batch.column(1).as_list_opt::<i32>()?;
                    Some((ids, lists.values().as_primitive_opt::<Float32Type>()?))
                })();
                let (ids, values) = columns.context("a file of vectors with other columns")?;
                ensure!(
                    values.len() == ids.len() * dim,
                    "vectors of another dimension"
                );
                for id in ids.iter().flatten() {
                    let number = vectors.rows.len() as u32;
                    vectors
                        .rows
                        .insert(id.try_into().context("an id of 16 bytes")?, number);
                }
                vectors.values.extend_from_slice(values.values());
            }
        }
        Ok(vectors)
    }

    /// The vector of the video `id` `[d]`, if it is known.
    pub(crate) fn get(&self, id: &[u8]) -> Option<(u32, &[f32])> {
        let id: &[u8; 16] = id.try_into().ok()?;
        let &row = self.rows.get(id)?;
        let start = row as usize * self.dim;
        Some((row, &self.values[start..start + self.dim]))
    }
}
