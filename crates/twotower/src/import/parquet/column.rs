use crate::import::cell::Cell;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray,
    FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescriptor;
use std::borrow::Cow;
use uuid::Uuid;

/// What is expected and what was found.
type Mismatch = (&'static str, &'static str);

/// Interpretation of a column's physical values.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meaning {
    Plain,
    Unsigned,
    /// Factor to convert to microseconds.
    Time {
        multiply: i64,
        divide: i64,
    },
    Days,
    /// Number of decimals.
    Decimal(i32),
    Uuid,
    Unsupported,
}

impl Meaning {
    fn of(column: &ColumnDescriptor) -> Self {
        const MILLIS: Meaning = Meaning::Time {
            multiply: 1_000,
            divide: 1,
        };
        const MICROS: Meaning = Meaning::Time {
            multiply: 1,
            divide: 1,
        };
        const NANOS: Meaning = Meaning::Time {
            multiply: 1,
            divide: 1_000,
        };
        match column.logical_type_ref() {
            Some(LogicalType::Timestamp(timestamp)) => match timestamp.unit {
                TimeUnit::MILLIS => MILLIS,
                TimeUnit::MICROS => MICROS,
                TimeUnit::NANOS => NANOS,
            },
            Some(LogicalType::Date) => Self::Days,
            Some(LogicalType::Decimal(_)) => Self::Decimal(column.type_scale()),
            Some(LogicalType::Uuid) => Self::Uuid,
            Some(LogicalType::Integer(integer)) if !integer.is_signed => Self::Unsigned,
            Some(
                LogicalType::String
                | LogicalType::Enum
                | LogicalType::Json
                | LogicalType::Integer(_),
            ) => Self::Plain,
            Some(_) => Self::Unsupported,
            None => match column.converted_type() {
                ConvertedType::TIMESTAMP_MILLIS => MILLIS,
                ConvertedType::TIMESTAMP_MICROS => MICROS,
                ConvertedType::DATE => Self::Days,
                ConvertedType::DECIMAL => Self::Decimal(column.type_scale()),
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64 => Self::Unsigned,
                ConvertedType::TIME_MILLIS
                | ConvertedType::TIME_MICROS
                | ConvertedType::INTERVAL => Self::Unsupported,
                _ if column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY => Self::Unsupported,
                _ => Self::Plain,
            },
        }
    }
}

/// Decoded values of one type, with the levels that mark nulls and the starts of lists.
struct Decoded<T: DataType> {
    reader: ColumnReaderImpl<T>,
    values: Vec<T::T>,
    next: usize,
}

impl<T: DataType> Decoded<T> {
    fn new(reader: ColumnReaderImpl<T>) -> Self {
        Self {
            reader,
            values: Vec::new(),
            next: 0,
        }
    }
}

enum Leaf {
    Bool(Decoded<BoolType>),
    Int32(Decoded<Int32Type>),
    Int64(Decoded<Int64Type>),
    Int96(Decoded<Int96Type>),
    Float(Decoded<FloatType>),
    Double(Decoded<DoubleType>),
    Bytes(Decoded<ByteArrayType>),
    Fixed(Decoded<FixedLenByteArrayType>),
}

/// Expands the same expression for every type of leaf.
macro_rules! each {
    ($leaf:expr, $values:ident => $body:expr) => {
        match $leaf {
            Leaf::Bool($values) => $body,
            Leaf::Int32($values) => $body,
            Leaf::Int64($values) => $body,
            Leaf::Int96($values) => $body,
            Leaf::Float($values) => $body,
            Leaf::Double($values) => $body,
            Leaf::Bytes($values) => $body,
            Leaf::Fixed($values) => $body,
        }
    };
}

/// One column of a row group, read some rows at a time.
pub(super) struct Column {
    meaning: Meaning,
    leaf: Leaf,
    max_definition: i16,
    list: bool,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    next_level: usize,
}

impl Column {
    pub(super) fn new(descriptor: &ColumnDescriptor, reader: ColumnReader) -> Self {
        Self {
            meaning: Meaning::of(descriptor),
            leaf: match reader {
                ColumnReader::BoolColumnReader(reader) => Leaf::Bool(Decoded::new(reader)),
                ColumnReader::Int32ColumnReader(reader) => Leaf::Int32(Decoded::new(reader)),
                ColumnReader::Int64ColumnReader(reader) => Leaf::Int64(Decoded::new(reader)),
                ColumnReader::Int96ColumnReader(reader) => Leaf::Int96(Decoded::new(reader)),
                ColumnReader::FloatColumnReader(reader) => Leaf::Float(Decoded::new(reader)),
                ColumnReader::DoubleColumnReader(reader) => Leaf::Double(Decoded::new(reader)),
                ColumnReader::ByteArrayColumnReader(reader) => Leaf::Bytes(Decoded::new(reader)),
                ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                    Leaf::Fixed(Decoded::new(reader))
                }
            },
            max_definition: descriptor.max_def_level(),
            list: descriptor.max_rep_level() > 0,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            next_level: 0,
        }
    }

    /// Decodes the next `rows` rows; all earlier ones must have been taken.
    pub(super) fn fill(&mut self, rows: usize) -> Result<()> {
        self.definitions.clear();
        self.repetitions.clear();
        self.next_level = 0;
        let (definitions, repetitions) = (&mut self.definitions, &mut self.repetitions);
        let (records, values, levels) = each!(&mut self.leaf, leaf => {
            leaf.values.clear();
            leaf.next = 0;
            leaf.reader.read_records(rows, Some(definitions), Some(repetitions), &mut leaf.values)?
        });
        if self.max_definition == 0 {
            self.definitions.resize(rows, 0);
        }
        let present = self
            .definitions
            .iter()
            .filter(|d| **d == self.max_definition)
            .count();
        let complete = records == rows && levels == self.definitions.len() && values == present;
        let lists = if self.list {
            self.repetitions.len() == levels
        } else {
            levels == rows
        };
        if complete && lists {
            return Ok(());
        }
        Err(ParquetError::EOF(format!(
            "a column ends after {records} of {rows} rows"
        )))
    }

    /// The cell of the next row.
    pub(super) fn next_cell(&mut self) -> std::result::Result<Cell<'_>, Mismatch> {
        if self.list {
            return self.next_list();
        }
        match self.next_value() {
            None => Ok(Cell::Missing),
            Some(index) => self.cell(index),
        }
    }

    fn next_list(&mut self) -> std::result::Result<Cell<'_>, Mismatch> {
        let mut indices = Vec::new();
        loop {
            indices.extend(self.next_value());
            if self
                .repetitions
                .get(self.next_level)
                .is_none_or(|level| *level == 0)
            {
                break;
            }
        }
        // All elements are consumed before the first bad one is refused, so that the next row
        // begins in the right place.
        indices
            .into_iter()
            .map(|index| match self.cell(index)? {
                Cell::Text(text) => Ok(text),
                Cell::Missing => Ok(Cow::Borrowed("")),
                _ => Err(("a list of texts", "a list of something else")),
            })
            .collect::<std::result::Result<_, _>>()
            .map(Cell::List)
    }

    /// Consumes one level; returns the position of its value unless it is null.
    fn next_value(&mut self) -> Option<usize> {
        let definition = self.definitions[self.next_level];
        self.next_level += 1;
        (definition == self.max_definition).then(|| {
            each!(&mut self.leaf, leaf => {
                leaf.next += 1;
                leaf.next - 1
            })
        })
    }

    fn cell(&self, index: usize) -> std::result::Result<Cell<'_>, Mismatch> {
        let meaning = self.meaning;
        Ok(match &self.leaf {
            Leaf::Bool(_) => Cell::Other("true or false"),
            Leaf::Int32(leaf) => match meaning {
                Meaning::Unsigned => Cell::Integer(i64::from(leaf.values[index] as u32)),
                _ => integer(i64::from(leaf.values[index]), meaning),
            },
            Leaf::Int64(leaf) => integer(leaf.values[index], meaning),
            Leaf::Int96(leaf) => int96(&leaf.values[index]),
            Leaf::Float(leaf) => shortest(leaf.values[index]),
            Leaf::Double(leaf) => Cell::Float(leaf.values[index]),
            Leaf::Bytes(leaf) => return bytes(&leaf.values[index], meaning),
            Leaf::Fixed(leaf) => fixed(&leaf.values[index], meaning),
        })
    }
}

fn integer(number: i64, meaning: Meaning) -> Cell<'static> {
    let time = match meaning {
        Meaning::Plain => return Cell::Integer(number),
        Meaning::Unsigned => {
            let number = number as u64;
            return i64::try_from(number)
                .map_or_else(|_| Cell::Text(number.to_string().into()), Cell::Integer);
        }
        Meaning::Decimal(scale) => return Cell::Float(number as f64 / 10_f64.powi(scale)),
        Meaning::Days => crate::import::time::from_days(number),
        Meaning::Time { multiply, divide } => {
            number.checked_mul(multiply).map(|n| n.div_euclid(divide))
        }
        Meaning::Uuid | Meaning::Unsupported => None,
    };
    time.map_or(Cell::Other("a value of another type"), Cell::Time)
}

/// The deprecated 96-bit timestamp: nanoseconds of the day, then the Julian day.
fn int96(value: &Int96) -> Cell<'static> {
    const UNIX_EPOCH: i64 = 2_440_588;
    let [low, high, day] = [0, 1, 2].map(|word| i64::from(value.data()[word]));
    let nanos = low | high << 32;
    match crate::import::time::from_days(day - UNIX_EPOCH) {
        Some(midnight) if nanos >= 0 => Cell::Time(midnight + nanos / 1_000),
        _ => Cell::Other("a time out of range"),
    }
}

/// The shortest decimal that denotes the number: 0.1, not 0.10000000149.
fn shortest(number: f32) -> Cell<'static> {
    Cell::Float(number.to_string().parse().unwrap_or(f64::NAN))
}

fn bytes(value: &ByteArray, meaning: Meaning) -> std::result::Result<Cell<'_>, Mismatch> {
    match meaning {
        Meaning::Decimal(scale) => Ok(decimal(value.data(), scale)),
        Meaning::Plain => match std::str::from_utf8(value.data()) {
            Ok("") => Ok(Cell::Missing),
            Ok(text) => Ok(Cell::Text(text.into())),
            Err(_) => Err(("UTF-8", "bytes that are not")),
        },
        _ => Ok(Cell::Other("a value of another type")),
    }
}

fn fixed(value: &FixedLenByteArray, meaning: Meaning) -> Cell<'static> {
    match (meaning, Uuid::from_slice(value.data())) {
        (Meaning::Uuid, Ok(id)) => Cell::Id(id),
        (Meaning::Decimal(scale), _) => decimal(value.data(), scale),
        _ => Cell::Other("bytes"),
    }
}

/// Two's complement, big-endian.
fn decimal(bytes: &[u8], scale: i32) -> Cell<'static> {
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let start = if negative { -1.0 } else { 0.0 };
    let number = bytes
        .iter()
        .fold(start, |n, byte| n * 256.0 + f64::from(*byte));
    Cell::Float(number / 10_f64.powi(scale))
}
