//! The files `interactions-00000.parquet`, …

use super::ShardEntry;
use super::rank::{FIRST_BUCKETS, Key};
use crate::function::LIKE;
use crate::output::{OutputFile, properties};
use anyhow::{Context, ensure};
use datafusion::parquet::basic::Encoding;
use datafusion::parquet::column::reader::ColumnReaderImpl;
use datafusion::parquet::column::reader::get_typed_column_reader;
use datafusion::parquet::data_type::{DataType, Int32Type, Int64Type};
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};
use datafusion::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use datafusion::parquet::schema::parser::parse_message_type;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a row group.
const ROW_GROUP: usize = 1 << 20;

const SCHEMA: &str = "message interactions {
    REQUIRED INT32 user (INTEGER(32,false));
    REQUIRED INT32 kind;
    REQUIRED INT32 video (INTEGER(32,false));
    REQUIRED INT64 at (TIMESTAMP(MICROS,true));
}";

/// One like or skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) user: u32,
    pub(super) kind: i8,
    pub(super) video: u32,
    pub(super) at_us: i64,
}

impl Row {
    /// Its place among likes in the order of time.
    pub(super) fn key(self) -> Key {
        Key::new(self.at_us, self.user, self.video)
    }
}

/// What a folder of shards holds.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) files: Vec<ShardEntry>,
    pub(super) users: u64,
    pub(super) likes: u64,
    pub(super) skips: u64,
    pub(super) latest_at_us: Option<i64>,
    /// The latest that had come when they were packed: not one that is dated in the future.
    pub(super) come_us: Option<i64>,
    /// Likes in each [`Key::first_bucket`].
    pub(super) likes_by_time: Vec<u64>,
}

/// Writes rows in the order (user, kind, at, video). Bytes depend on the rows alone, and not on how they came.
pub(super) struct ShardWriter {
    folder: PathBuf,
    shard_rows: u64,
    now_us: i64,
    open: Option<SerializedFileWriter<OutputFile>>,
    /// Of the open file; its name is empty until it is closed.
    entry: ShardEntry,
    columns: Columns,
    last_user: Option<u32>,
    packed: Packed,
}

impl ShardWriter {
    pub(super) fn new(folder: &Path, shard_rows: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            shard_rows,
            now_us: i64::MAX,
            open: None,
            entry: empty(),
            columns: Columns::default(),
            last_user: None,
            packed: Packed {
                files: Vec::new(),
                users: 0,
                likes: 0,
                skips: 0,
                latest_at_us: None,
                come_us: None,
                likes_by_time: vec![0; FIRST_BUCKETS],
            },
        }
    }

    /// The same, at this time: see [`Packed::come_us`].
    pub(super) fn at(self, now_us: i64) -> Self {
        Self { now_us, ..self }
    }

    pub(super) fn push(&mut self, row: Row) -> anyhow::Result<()> {
        if self.last_user != Some(row.user) {
            if self.entry.rows >= self.shard_rows {
                self.close()?;
            }
            self.last_user = Some(row.user);
            self.entry.users += 1;
            self.packed.users += 1;
        }
        let packed = &mut self.packed;
        if row.kind == LIKE {
            packed.likes += 1;
            packed.likes_by_time[row.key().first_bucket()] += 1;
        } else {
            packed.skips += 1;
        }
        packed.latest_at_us = packed.latest_at_us.max(Some(row.at_us));
        if row.at_us <= self.now_us {
            packed.come_us = packed.come_us.max(Some(row.at_us));
        }
        self.entry.rows += 1;
        self.columns.push(row);
        if self.columns.len() == ROW_GROUP {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes a row group of what has come.
    fn flush(&mut self) -> anyhow::Result<()> {
        if self.columns.len() == 0 {
            return Ok(());
        }
        let mut file = if let Some(file) = self.open.take() {
            file
        } else {
            let schema = Arc::new(parse_message_type(SCHEMA).context("the schema of shards")?);
            let file = OutputFile::create(&self.folder.join(self.name()))?;
            SerializedFileWriter::new(file, schema, shard_properties()?).context("begin a shard")?
        };
        let mut group = file.next_row_group().context("begin a row group")?;
        self.columns.write(&mut group)?;
        group.close().context("write a row group")?;
        self.columns.clear();
        self.open = Some(file);
        Ok(())
    }

    fn name(&self) -> String {
        format!("interactions-{:05}.parquet", self.packed.files.len())
    }

    /// Ends the open file.
    fn close(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        let Some(file) = self.open.take() else {
            return Ok(());
        };
        let name = self.name();
        let file = file.into_inner().with_context(|| format!("write {name}"))?;
        let entry = ShardEntry {
            name,
            sha256: file.finish()?,
            ..std::mem::replace(&mut self.entry, empty())
        };
        self.packed.files.push(entry);
        Ok(())
    }

    pub(super) fn finish(mut self) -> anyhow::Result<Packed> {
        self.close()?;
        Ok(self.packed)
    }
}

fn empty() -> ShardEntry {
    ShardEntry {
        name: String::new(),
        rows: 0,
        users: 0,
        sha256: String::new(),
    }
}

fn shard_properties() -> anyhow::Result<WriterPropertiesPtr> {
    let mut properties = properties()?.set_max_row_group_row_count(Some(ROW_GROUP));
    // Ascending numbers and times: differences are small.
    for column in ["user", "at"] {
        properties = properties
            .set_column_dictionary_enabled(column.into(), false)
            .set_column_encoding(column.into(), Encoding::DELTA_BINARY_PACKED);
    }
    let properties: WriterProperties = properties.build();
    Ok(Arc::new(properties))
}

/// Rows of one row group, column by column.
#[derive(Debug, Default)]
struct Columns {
    users: Vec<i32>,
    kinds: Vec<i32>,
    videos: Vec<i32>,
    times: Vec<i64>,
}

impl Columns {
    fn len(&self) -> usize {
        self.users.len()
    }

    fn push(&mut self, row: Row) {
        self.users.push(row.user as i32);
        self.kinds.push(row.kind.into());
        self.videos.push(row.video as i32);
        self.times.push(row.at_us);
    }

    fn clear(&mut self) {
        self.users.clear();
        self.kinds.clear();
        self.videos.clear();
        self.times.clear();
    }

    fn write(&self, group: &mut SerializedRowGroupWriter<'_, OutputFile>) -> anyhow::Result<()> {
        write::<Int32Type>(group, &self.users)?;
        write::<Int32Type>(group, &self.kinds)?;
        write::<Int32Type>(group, &self.videos)?;
        write::<Int64Type>(group, &self.times)
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        let kinds = self.users.iter().zip(&self.kinds);
        let rest = self.videos.iter().zip(&self.times);
        kinds
            .zip(rest)
            .map(|((&user, &kind), (&video, &at_us))| Row {
                user: user as u32,
                kind: kind as i8,
                video: video as u32,
                at_us,
            })
    }
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, OutputFile>,
    values: &[T::T],
) -> anyhow::Result<()> {
    let column = group.next_column().context("begin a column")?;
    let mut column = column.context("a column more than the schema has")?;
    column
        .typed::<T>()
        .write_batch(values, None, None)
        .context("write a column")?;
    column.close().context("write a column")
}

/// Reads the shards of `folder` again, row by row, in order.
pub(super) fn read(
    folder: &Path,
    files: &[ShardEntry],
    mut visit: impl FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for entry in files {
        let path = folder.join(&entry.name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let reader =
            SerializedFileReader::new(file).with_context(|| format!("read {}", path.display()))?;
        for index in 0..reader.num_row_groups() {
            let group = reader.get_row_group(index).context("read a row group")?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            let column = |index| group.get_column_reader(index).context("read a column");
            let columns = Columns {
                users: values(get_typed_column_reader::<Int32Type>(column(0)?), rows)?,
                kinds: values(get_typed_column_reader::<Int32Type>(column(1)?), rows)?,
                videos: values(get_typed_column_reader::<Int32Type>(column(2)?), rows)?,
                times: values(get_typed_column_reader::<Int64Type>(column(3)?), rows)?,
            };
            columns.rows().try_for_each(&mut visit)?;
        }
    }
    Ok(())
}

fn values<T: DataType>(mut reader: ColumnReaderImpl<T>, rows: usize) -> anyhow::Result<Vec<T::T>> {
    let mut values = Vec::with_capacity(rows);
    let (_, read, _) = reader
        .read_records(rows, None, None, &mut values)
        .context("read a column")?;
    ensure!(read == rows, "a column ends after {read} of {rows} rows");
    Ok(values)
}
