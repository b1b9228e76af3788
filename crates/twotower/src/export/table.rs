//! Rows of one kind, in files with a limited number of rows.

use super::ExportedTable;
use super::file::{Columns, ParquetFile, Part};
use anyhow::Context;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
    Int64Type,
};
use parquet::errors::Result;
use std::path::PathBuf;
use twotower_core::feature::Video;
use twotower_store::InteractionRow;

/// Number of ids handed to a column at once.
const CHUNK: usize = 8_192;

/// Where rows go.
pub(super) struct Table {
    pub(super) folder: PathBuf,
    pub(super) name: &'static str,
    pub(super) rows_per_file: u64,
    pub(super) pseudonyms: bool,
}

/// Rows that are buffered until they become a row group.
pub(super) trait Rows: Default {
    type Row;
    const SCHEMA: &'static str;
    /// Number of rows in a group.
    const GROUP: usize;
    fn push(&mut self, row: Self::Row);
    fn len(&self) -> usize;
    fn write(&self, columns: &mut Columns<'_>) -> Result<()>;
}

/// The files of one kind, at least one.
pub(super) struct Tables<R: Rows> {
    table: Table,
    waiting: R,
    file: Option<ParquetFile>,
    written: ExportedTable,
}

impl<R: Rows> Tables<R> {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            waiting: R::default(),
            file: None,
            written: ExportedTable::default(),
        }
    }

    pub(super) fn push(&mut self, row: R::Row) -> anyhow::Result<()> {
        self.waiting.push(row);
        let waiting = self.waiting.len() as u64;
        let in_file = self.file.as_ref().map_or(0, ParquetFile::rows);
        let full = in_file + waiting >= self.table.rows_per_file;
        if full || self.waiting.len() >= R::GROUP {
            self.flush(full)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> anyhow::Result<ExportedTable> {
        if self.waiting.len() > 0 || self.file.is_some() || self.written.files.is_empty() {
            self.flush(true)?;
        }
        Ok(self.written)
    }

    /// Writes the buffered rows; ends the file if `end` is set.
    fn flush(&mut self, end: bool) -> anyhow::Result<()> {
        let number = self.written.files.len();
        let name = format!("{}-{number:05}.parquet", self.table.name);
        let path = self.table.folder.join(name);
        let done = (|| {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => ParquetFile::create(&path, R::SCHEMA, self.table.pseudonyms)?,
            };
            let waiting = std::mem::take(&mut self.waiting);
            if waiting.len() > 0 {
                file.group(waiting.len() as u64, |columns| waiting.write(columns))?;
            }
            if end {
                let written = file.finish()?;
                self.written.rows += written.rows;
                self.written.files.push(written);
            } else {
                self.file = Some(file);
            }
            Ok::<_, parquet::errors::ParquetError>(())
        })();
        done.with_context(|| format!("write {}", path.display()))
    }
}

/// Likes or skips; 40 bytes each.
#[derive(Default)]
pub(super) struct InteractionRows {
    users: Vec<u8>,
    videos: Vec<u8>,
    times: Vec<i64>,
}

impl Rows for InteractionRows {
    type Row = InteractionRow;
    const SCHEMA: &'static str = "message interactions {
        required fixed_len_byte_array(16) user_id (UUID);
        required fixed_len_byte_array(16) video_id (UUID);
        required int64 created_at (TIMESTAMP(MICROS,true));
    }";
    const GROUP: usize = 500_000;

    fn push(&mut self, row: InteractionRow) {
        self.users.extend(row.user.as_bytes());
        self.videos.extend(row.video.as_bytes());
        self.times.push(row.at_us);
    }

    fn len(&self) -> usize {
        self.times.len()
    }

    fn write(&self, columns: &mut Columns<'_>) -> Result<()> {
        for ids in [&self.users, &self.videos] {
            write_ids(columns, ids)?;
        }
        columns.next::<Int64Type>(|write| write(Part::whole(&self.times)))
    }
}

fn write_ids(columns: &mut Columns<'_>, ids: &[u8]) -> Result<()> {
    columns.next::<FixedLenByteArrayType>(|write| {
        for chunk in ids.chunks(16 * CHUNK) {
            // One allocation for the whole chunk.
            let bytes = ByteArray::from(chunk.to_vec());
            let places = (0..chunk.len()).step_by(16);
            let ids: Vec<FixedLenByteArray> = places.map(|at| bytes.slice(at, 16).into()).collect();
            write(Part::whole(&ids))?;
        }
        Ok(())
    })
}

/// Videos.
#[derive(Default)]
pub(super) struct VideoRows {
    videos: Vec<Video>,
}

impl Rows for VideoRows {
    type Row = Video;
    const SCHEMA: &'static str = "message videos {
        required fixed_len_byte_array(16) id (UUID);
        required binary title (STRING);
        required binary description (STRING);
        optional binary genre (STRING);
        optional binary maker (STRING);
        optional float price;
        optional float duration_seconds;
        optional int64 published_at (TIMESTAMP(MICROS,true));
        optional binary thumbnail_url (STRING);
        required group tags (LIST) { repeated group list { required binary element (STRING); } }
        required group performers (LIST) { repeated group list { required binary element (STRING); } }
    }";
    const GROUP: usize = 20_000;

    fn push(&mut self, video: Video) {
        self.videos.push(video);
    }

    fn len(&self) -> usize {
        self.videos.len()
    }

    fn write(&self, columns: &mut Columns<'_>) -> Result<()> {
        let videos = || self.videos.iter();
        let ids: Vec<u8> = videos().flat_map(|video| *video.id.as_bytes()).collect();
        write_ids(columns, &ids)?;
        write_texts(columns, videos().map(|video| &video.title))?;
        write_texts(columns, videos().map(|video| &video.description))?;
        let optional = |text: &Option<String>| text.as_deref().map(ByteArray::from);
        write_optional::<ByteArrayType>(columns, videos().map(|video| optional(&video.genre)))?;
        write_optional::<ByteArrayType>(columns, videos().map(|video| optional(&video.maker)))?;
        write_optional::<FloatType>(columns, videos().map(|video| video.price))?;
        write_optional::<FloatType>(columns, videos().map(|video| video.duration_seconds))?;
        write_optional::<Int64Type>(columns, videos().map(|video| video.published_at_us))?;
        let thumbnails = videos().map(|video| optional(&video.thumbnail_url));
        write_optional::<ByteArrayType>(columns, thumbnails)?;
        write_names(columns, videos().map(|video| &video.tags))?;
        write_names(columns, videos().map(|video| &video.performers))
    }
}

fn write_texts<'v>(
    columns: &mut Columns<'_>,
    texts: impl Iterator<Item = &'v String>,
) -> Result<()> {
    let texts: Vec<ByteArray> = texts.map(|text| ByteArray::from(text.as_str())).collect();
    columns.next::<ByteArrayType>(|write| write(Part::whole(&texts)))
}

fn write_optional<T: DataType>(
    columns: &mut Columns<'_>,
    all: impl Iterator<Item = Option<T::T>>,
) -> Result<()> {
    let (mut values, mut definitions) = (Vec::new(), Vec::new());
    for value in all {
        definitions.push(i16::from(value.is_some()));
        values.extend(value);
    }
    columns.next::<T>(|write| {
        write(Part {
            values: &values,
            definitions: Some(&definitions),
            repetitions: None,
        })
    })
}

fn write_names<'v>(
    columns: &mut Columns<'_>,
    lists: impl Iterator<Item = &'v Vec<String>>,
) -> Result<()> {
    let (mut names, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    for list in lists {
        // An empty list is one level without a name.
        if list.is_empty() {
            definitions.push(0);
            repetitions.push(0);
        }
        for (place, name) in list.iter().enumerate() {
            names.push(ByteArray::from(name.as_str()));
            definitions.push(1);
            repetitions.push(i16::from(place > 0));
        }
    }
    columns.next::<ByteArrayType>(|write| {
        write(Part {
            values: &names,
            definitions: Some(&definitions),
            repetitions: Some(&repetitions),
        })
    })
}
