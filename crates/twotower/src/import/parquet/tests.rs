use super::*;
use crate::import::reader::{Rows, rows_of};
use crate::import::{FileKind, id};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray,
    FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;

/// Values, definition levels and repetition levels of one column, written to the row group.
type Column = Box<dyn Fn(&mut parquet::column::writer::ColumnWriter<'_>)>;

fn column<T: DataType>(
    values: impl Into<Vec<T::T>>,
    definitions: impl Into<Vec<i16>>,
    repetitions: impl Into<Vec<i16>>,
) -> Column {
    let (values, definitions, repetitions) =
        (values.into(), definitions.into(), repetitions.into());
    Box::new(move |writer| {
        let writer = parquet::column::writer::get_typed_column_writer_mut::<T>(writer);
        let levels = (!definitions.is_empty()).then_some(&definitions[..]);
        let lists = (!repetitions.is_empty()).then_some(&repetitions[..]);
        writer.write_batch(&values, levels, lists).unwrap();
    })
}

fn write(schema: &str, compression: Compression, groups: &[Vec<Column>]) -> File {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let mut file = tempfile::tempfile().unwrap();
    let mut writer =
        SerializedFileWriter::new(file.try_clone().unwrap(), schema, Arc::new(properties)).unwrap();
    for group in groups {
        let mut rows = writer.next_row_group().unwrap();
        for write in group {
            let mut column = rows.next_column().unwrap().unwrap();
            write(column.untyped());
            column.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.close().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

fn rows(kind: FileKind, file: File) -> Result<Rows, ReadError> {
    let names = Names::new(kind, &[], false);
    rows_of(|visit| read(file, &names, visit))
}

fn texts<const N: usize>(texts: [&str; N]) -> [ByteArray; N] {
    texts.map(ByteArray::from)
}

const LIKES: &str = "message likes { optional int64 user_id; required binary video_id (STRING); required int64 created_at (TIMESTAMP(MICROS,true)); }";

#[test]
fn likes_of_every_compression_and_of_many_pages() {
    let n = 20_000;
    let users: Vec<i64> = (0..n).filter(|row| row % 3 != 0).collect();
    let present: Vec<i16> = (0..n).map(|row| i16::from(row % 3 != 0)).collect();
    let videos: Vec<ByteArray> = (0..n)
        .map(|row| ByteArray::from(format!("v{row}").as_str()))
        .collect();
    let times: Vec<i64> = (0..n).map(|row| row * 7).collect();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
    ] {
        let group = || {
            vec![
                column::<Int64Type>(&users[..], &present[..], &[]),
                column::<ByteArrayType>(&videos[..], &[], &[]),
                column::<Int64Type>(&times[..], &[], &[]),
            ]
        };
        let read = rows(
            FileKind::Likes,
            write(LIKES, compression, &[group(), group()]),
        )
        .unwrap();
        assert_eq!(read.len(), 2 * n as usize, "{compression}");
        for (index, (number, row)) in read.into_iter().enumerate() {
            let i = index as i64 % n;
            let user = if i % 3 == 0 {
                "nothing".to_owned()
            } else {
                i.to_string()
            };
            assert_eq!(number, index as u64 + 1);
            assert_eq!(row, Ok(format!("{user} v{i} @{}", i * 7)));
        }
    }
}

#[test]
fn lists_numbers_and_dates_of_videos() {
    let schema = "message videos {
        required int32 id (INTEGER(32,false));
        optional binary title (STRING);
        optional group tags (LIST) { repeated group list { optional binary element (STRING); } }
        repeated binary performers (STRING);
        optional double price;
        optional float duration_seconds;
        optional int32 published_at (DATE);
    }";
    let groups = [vec![
        column::<Int32Type>(&[7, -1, 8], &[], &[]),
        column::<ByteArrayType>(&texts(["北の旅", "b"]), &[1, 0, 1], &[]),
        // A list of two texts, a null list, and a list of a null and a text.
        column::<ByteArrayType>(&texts(["x", "y", "z"]), &[3, 3, 0, 2, 3], &[0, 1, 0, 0, 1]),
        column::<ByteArrayType>(&texts(["p"]), &[0, 1, 0], &[0, 0, 0]),
        column::<DoubleType>(&[9.5], &[0, 1, 0], &[]),
        column::<FloatType>(&[0.1], &[1, 0, 0], &[]),
        column::<Int32Type>(&[-1], &[0, 0, 1], &[]),
    ]];
    let read = rows(
        FileKind::Videos,
        write(schema, Compression::SNAPPY, &groups),
    )
    .unwrap();
    let expected = [
        (
            1,
            Ok(
                "7 北の旅 nothing nothing nothing nothing 0.1 nothing nothing [\"x\", \"y\"] []"
                    .to_owned(),
            ),
        ),
        (
            2,
            Ok(
                "4294967295 nothing nothing nothing nothing 9.5 nothing nothing nothing [] [\"p\"]"
                    .to_owned(),
            ),
        ),
        (
            3,
            Ok(
                "8 b nothing nothing nothing nothing nothing @-86400000000 nothing [\"z\"] []"
                    .to_owned(),
            ),
        ),
    ];
    assert_eq!(read, expected);
}

#[test]
fn uuids_decimals_and_every_timestamp() {
    let uuid = id::from_integer(5).unwrap();
    let fixed = |bytes: &[u8]| FixedLenByteArray::from(bytes.to_vec());
    let mut julian = Int96::new();
    julian.set_data(1_000, 0, 2_440_589);
    for (time, value, micros) in [
        (
            "int64 created_at (TIMESTAMP(MILLIS,true))",
            1_700,
            1_700_000,
        ),
        ("int64 created_at (TIMESTAMP_MILLIS)", 1_700, 1_700_000),
        ("int64 created_at (TIMESTAMP(NANOS,false))", -1, -1),
    ] {
        let schema = format!(
            "message skips {{ required fixed_len_byte_array(16) user_id (UUID); required int64 video_id (INTEGER(64,false)); required {time}; }}"
        );
        let groups = [vec![
            column::<FixedLenByteArrayType>(&[fixed(uuid.as_bytes())], &[], &[]),
            column::<Int64Type>(&[-1], &[], &[]),
            column::<Int64Type>(&[value], &[], &[]),
        ]];
        let read = rows(
            FileKind::Skips,
            write(&schema, Compression::SNAPPY, &groups),
        )
        .unwrap();
        assert_eq!(
            read,
            [(1, Ok(format!("{uuid} {} @{micros}", u64::MAX)))],
            "{time}"
        );
    }
    let schema = "message skips { required int32 user_id; required fixed_len_byte_array(3) video_id (DECIMAL(6,2)); required int96 created_at; }";
    let groups = [vec![
        column::<Int32Type>(&[1], &[], &[]),
        column::<FixedLenByteArrayType>(&[fixed(&[0xff, 0xff, 0x38])], &[], &[]),
        column::<Int96Type>(&[julian], &[], &[]),
    ]];
    let read = rows(FileKind::Skips, write(schema, Compression::SNAPPY, &groups)).unwrap();
    assert_eq!(read, [(1, Ok("1 -2 @86400000001".to_owned()))]);
}

#[test]
fn a_defect_is_named_and_the_next_row_is_whole() {
    let schema = "message likes { required boolean user_id; required binary video_id; required int64 created_at; }";
    let groups = [vec![
        column::<BoolType>(&[true, false], &[], &[]),
        column::<ByteArrayType>(
            &[ByteArray::from(vec![0xff]), ByteArray::from("v")],
            &[],
            &[],
        ),
        column::<Int64Type>(&[1, 2], &[], &[]),
    ]];
    let read = rows(FileKind::Likes, write(schema, Compression::SNAPPY, &groups)).unwrap();
    let expected = [
        (1, Err("column 1: UTF-8, bytes that are not".to_owned())),
        (2, Ok("true or false v 2".to_owned())),
    ];
    assert_eq!(read, expected);
}

#[test]
fn another_file_or_half_a_file_is_an_error() {
    use std::io::Write;
    let mut text = tempfile::tempfile().unwrap();
    text.write_all(b"user_id,video_id\n").unwrap();
    assert!(matches!(
        rows(FileKind::Likes, text),
        Err(ReadError::Parquet(_))
    ));

    let groups = [vec![
        column::<Int64Type>(&[1], &[1], &[]),
        column::<ByteArrayType>(&[ByteArray::from("v")], &[], &[]),
        column::<Int64Type>(&[1], &[], &[]),
    ]];
    let half = write(LIKES, Compression::SNAPPY, &groups);
    half.set_len(half.metadata().unwrap().len() / 2).unwrap();
    assert!(matches!(
        rows(FileKind::Likes, half),
        Err(ReadError::Parquet(_))
    ));
}
