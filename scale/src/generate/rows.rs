use super::random::Random;
use super::world::World;
use crate::cell::ID_BYTES;
use crate::output::{OutputFile, properties};
use anyhow::Context;
use datafusion::arrow::array::{FixedSizeBinaryBuilder, RecordBatch, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use datafusion::parquet::schema::parser::parse_message_type;
use datafusion::parquet::schema::types::SchemaDescriptor;
use std::sync::Arc;

/// Rows handed to the writer at a time.
const ROWS: u64 = 65_536;

/// The first moment, microseconds since 1970, and how long everything goes on.
const BEGIN_US: i64 = 1_735_689_600_000_000;
const YEAR_US: i64 = 365 * 86_400_000_000;

const SCHEMA: &str = "message interactions {
    REQUIRED FIXED_LEN_BYTE_ARRAY(16) user_id (UUID);
    REQUIRED FIXED_LEN_BYTE_ARRAY(16) video_id (UUID);
    REQUIRED INT64 created_at (TIMESTAMP(MICROS,true));
}";

/// What rows are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Like,
    Skip,
}

impl Kind {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Like => "likes",
            Self::Skip => "skips",
        }
    }

    /// How often a row is of the user's taste.
    fn of_taste(self) -> f64 {
        match self {
            Self::Like => 0.9,
            Self::Skip => 0.1,
        }
    }
}

/// Writes file `part` of `parts`, which covers its share of the year, in the order of time.
pub(super) fn write_rows(
    file: OutputFile,
    world: &World,
    kind: Kind,
    part: u64,
    parts: u64,
    rows: u64,
) -> anyhow::Result<OutputFile> {
    let id = |name| Field::new(name, DataType::FixedSizeBinary(ID_BYTES), false);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let fields = vec![
        id("user_id"),
        id("video_id"),
        Field::new("created_at", time, false),
    ];
    let arrow = Arc::new(Schema::new(fields));
    let parquet = Arc::new(parse_message_type(SCHEMA).context("the schema of likes")?);
    let options = ArrowWriterOptions::new()
        .with_properties(properties()?.set_dictionary_enabled(false).build())
        .with_skip_arrow_metadata(true)
        .with_parquet_schema(SchemaDescriptor::new(parquet));
    let mut writer = ArrowWriter::try_new_with_options(file, arrow.clone(), options)
        .context("begin a file of likes")?;
    let mut random = Random::new(world.seed, part * 2 + u64::from(kind == Kind::Skip));
    let begin = BEGIN_US + (i128::from(YEAR_US) * i128::from(part) / i128::from(parts)) as i64;
    let length = YEAR_US / parts as i64;
    let mut last = None;
    let mut written = 0;
    while written < rows {
        let count = ROWS.min(rows - written);
        let mut users = FixedSizeBinaryBuilder::with_capacity(count as usize, ID_BYTES);
        let mut videos = FixedSizeBinaryBuilder::with_capacity(count as usize, ID_BYTES);
        let mut times = Vec::with_capacity(count as usize);
        for row in written..written + count {
            let at_us = begin
                + (i128::from(length) * i128::from(row) / i128::from(rows)) as i64
                + i64::from(random.below(1_000));
            let (user, video) = match last {
                Some(again) if random.below(500) == 0 => again,
                _ => {
                    let user = world.user(&mut random);
                    let video = if random.below(1_000) == 0 {
                        world.unknown_video(&mut random)
                    } else {
                        world.video(user, &mut random, kind.of_taste())
                    };
                    (user, video)
                }
            };
            last = Some((user, video));
            users
                .append_value(world.user_id(user).as_bytes())
                .context("an id")?;
            videos
                .append_value(world.video_id(video).as_bytes())
                .context("an id")?;
            times.push(at_us);
        }
        let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
        let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
            Arc::new(users.finish()),
            Arc::new(videos.finish()),
            Arc::new(times),
        ];
        let batch = RecordBatch::try_new(arrow.clone(), columns).context("put rows together")?;
        writer.write(&batch).context("write rows")?;
        written += count;
    }
    writer.into_inner().context("write rows")
}
