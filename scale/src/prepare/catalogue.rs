//! The catalogue: small beside the likes, so that it is kept in memory.

use crate::cell::ID_BYTES;
use crate::output::{FileEntry, Output, properties};
use crate::source::{Files, Table};
use crate::video::{COLUMNS, videos};
use anyhow::Context;
use datafusion::arrow::array::{
    ArrayRef, FixedSizeBinaryBuilder, Float32Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use datafusion::parquet::schema::parser::parse_message_type;
use datafusion::parquet::schema::types::SchemaDescriptor;
use datafusion::prelude::{SessionContext, lit};
use datafusion::scalar::ScalarValue;
use futures_util::StreamExt;
use std::sync::Arc;
use twotower_core::feature::{Catalogue, CatalogueBuilder, Names, VideoRef};

const NAME: &str = "catalogue.parquet";

/// Rows handed to the writer at a time.
const ROWS: usize = 65_536;

/// As `twotower export` writes videos, so that `twotower import` reads it as well.
const SCHEMA: &str = "message videos {
    REQUIRED FIXED_LEN_BYTE_ARRAY(16) id (UUID);
    OPTIONAL BYTE_ARRAY title (STRING);
    OPTIONAL BYTE_ARRAY description (STRING);
    OPTIONAL BYTE_ARRAY genre (STRING);
    OPTIONAL BYTE_ARRAY maker (STRING);
    OPTIONAL FLOAT price;
    OPTIONAL FLOAT duration_seconds;
    OPTIONAL INT64 published_at (TIMESTAMP(MICROS,true));
    REQUIRED group tags (LIST) { REPEATED group list { REQUIRED BYTE_ARRAY element (STRING); } }
    REQUIRED group performers (LIST) { REPEATED group list { REQUIRED BYTE_ARRAY element (STRING); } }
}";

/// The videos of `files`, ascending by id. `context` reads them in this process whatever engine sorts: they are needed where
/// the shards are written.
///
/// # Errors
/// If a file cannot be read, holds what is no video, or one video twice.
pub(crate) async fn read(context: &SessionContext, files: &Files) -> anyhow::Result<Catalogue> {
    let table = Table::open(context, files, "videos").await?;
    let mut columns = vec![table.needed("id")?.alias("id")];
    for name in &COLUMNS[1..] {
        let column = table.column(name).unwrap_or_else(|| lit(ScalarValue::Null));
        columns.push(column.alias(*name));
    }
    let rows = table.rows.select(columns).context("read the videos")?;
    let mut stream = rows.execute_stream().await.context("read the videos")?;
    let mut catalogue = CatalogueBuilder::default();
    while let Some(batch) = stream.next().await {
        let batch = batch.context("read the videos")?;
        let columns: [ArrayRef; COLUMNS.len()] =
            batch.columns().to_vec().try_into().map_err(|_| {
                anyhow::anyhow!("the engine gave back other columns than asked for")
            })?;
        for video in &videos(&columns)? {
            catalogue.video(video);
        }
    }
    catalogue
        .finish()
        .with_context(|| format!("{files}: list each video once"))
}

/// Writes `catalogue.parquet`.
pub(crate) fn write(output: &Output, catalogue: &Catalogue) -> anyhow::Result<FileEntry> {
    let file = output.file(NAME)?;
    let sha256 = write_videos(file, catalogue.videos())?.finish()?;
    Ok(FileEntry {
        name: NAME.to_owned(),
        rows: catalogue.len() as u64,
        sha256,
    })
}

/// Writes videos in the form that `twotower import` reads.
pub(crate) fn write_videos<'a, W: std::io::Write + Send, V: Into<VideoRef<'a>>>(
    file: W,
    videos: impl IntoIterator<Item = V>,
) -> anyhow::Result<W> {
    let arrow = Arc::new(Schema::new(fields()));
    let parquet = Arc::new(parse_message_type(SCHEMA).context("the schema of videos")?);
    let options = ArrowWriterOptions::new()
        .with_properties(properties()?.build())
        .with_skip_arrow_metadata(true)
        .with_parquet_schema(SchemaDescriptor::new(parquet));
    let mut writer = ArrowWriter::try_new_with_options(file, arrow.clone(), options)
        .context("begin the videos")?;
    let mut videos = videos.into_iter().map(V::into);
    loop {
        let some: Vec<VideoRef<'_>> = videos.by_ref().take(ROWS).collect();
        if some.is_empty() {
            break;
        }
        let batch =
            RecordBatch::try_new(arrow.clone(), columns(&some)?).context("put videos together")?;
        writer.write(&batch).context("write the videos")?;
    }
    writer.into_inner().context("write the videos")
}

fn fields() -> Vec<Field> {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let names = |name| {
        let element = Field::new("element", DataType::Utf8, false);
        Field::new(name, DataType::List(Arc::new(element)), false)
    };
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![
        Field::new("id", DataType::FixedSizeBinary(ID_BYTES), false),
        text("title"),
        text("description"),
        text("genre"),
        text("maker"),
        Field::new("price", DataType::Float32, true),
        Field::new("duration_seconds", DataType::Float32, true),
        Field::new("published_at", time, true),
        names("tags"),
        names("performers"),
    ]
}

fn columns(videos: &[VideoRef<'_>]) -> anyhow::Result<Vec<ArrayRef>> {
    let mut ids = FixedSizeBinaryBuilder::with_capacity(videos.len(), ID_BYTES);
    for video in videos {
        ids.append_value(video.id.as_bytes()).context("an id")?;
    }
    let text = |of: for<'a> fn(&VideoRef<'a>) -> Option<&'a str>| -> ArrayRef {
        Arc::new(videos.iter().map(of).collect::<StringArray>())
    };
    let names = |of: for<'a> fn(&VideoRef<'a>) -> Names<'a>| -> ArrayRef {
        let element = Field::new("element", DataType::Utf8, false);
        let mut lists = ListBuilder::new(StringBuilder::new()).with_field(element);
        for video in videos {
            for name in of(video).iter() {
                lists.values().append_value(name);
            }
            lists.append(true);
        }
        Arc::new(lists.finish())
    };
    let amounts = |of: fn(&VideoRef<'_>) -> Option<f32>| -> ArrayRef {
        Arc::new(videos.iter().map(of).collect::<Float32Array>())
    };
    let published: TimestampMicrosecondArray =
        videos.iter().map(|video| video.published_at_us).collect();
    Ok(vec![
        Arc::new(ids.finish()),
        text(|video| Some(video.title)),
        text(|video| Some(video.description)),
        text(|video| video.genre),
        text(|video| video.maker),
        amounts(|video| video.price),
        amounts(|video| video.duration_seconds),
        Arc::new(published.with_timezone("UTC")),
        names(|video| video.tags),
        names(|video| video.performers),
    ])
}
