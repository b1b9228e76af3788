//! Values of Parquet columns as `twotower import` understands them.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Int64Array,
};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use datafusion::arrow::error::ArrowError;
use thiserror::Error;
use twotower_core::external::{id, time};
use uuid::Uuid;

/// Bytes of an id.
pub(crate) const ID_BYTES: i32 = 16;

const SECOND_US: i64 = 1_000_000;

/// A column that does not hold what it should. Values are not repeated: they may say who somebody is.
#[derive(Debug, Error)]
pub(crate) enum CellError {
    #[error("{column}: expected {expected}, found {found}: correct the files and run again")]
    Value {
        column: String,
        expected: &'static str,
        found: String,
    },
    #[error("{column}: {source}: correct the files and run again")]
    Arrow { column: String, source: ArrowError },
}

impl CellError {
    pub(crate) fn value(column: &str, expected: &'static str, found: impl Into<String>) -> Self {
        Self::Value {
            column: column.to_owned(),
            expected,
            found: found.into(),
        }
    }
}

/// Casts `array`; `column` names it in errors. What cannot be cast is one, and never null: null is what is not there.
pub(crate) fn cast_to(
    array: &ArrayRef,
    to: &DataType,
    column: &str,
) -> Result<ArrayRef, CellError> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, to, &options).map_err(|source| CellError::Arrow {
        column: column.to_owned(),
        source,
    })
}

/// The type itself, or that of a dictionary's values, so that encodings make no difference.
pub(crate) fn plain(array: &ArrayRef, column: &str) -> Result<ArrayRef, CellError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast_to(array, values, column),
        _ => Ok(array.clone()),
    }
}

/// Ids as 16 bytes each.
pub(crate) fn ids(array: &ArrayRef, column: &str) -> Result<FixedSizeBinaryArray, CellError> {
    let array = plain(array, column)?;
    let wrong = |found: &str| CellError::value(column, id::EXPECTED, found);
    if array.null_count() > 0 {
        return Err(wrong("nothing"));
    }
    match array.data_type() {
        DataType::FixedSizeBinary(ID_BYTES) => Ok(array.as_fixed_size_binary().clone()),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => {
            let text = cast_to(&array, &DataType::Utf8View, column)
                .map_err(|_| wrong("bytes that are no text"))?;
            let texts = text.as_string_view().iter();
            collect(texts.map(|text| text.and_then(id::from_text)), array.len())
                .ok_or_else(|| wrong("text that is none"))
        }
        DataType::UInt64 => {
            let numbers = array.as_primitive::<UInt64Type>().values().iter();
            let ids = numbers.map(|&number| match i64::try_from(number) {
                Ok(number) => id::from_any_integer(number),
                Err(_) => id::from_text(&number.to_string()),
            });
            collect(ids, array.len()).ok_or_else(|| wrong("a number that is none"))
        }
        kind if kind.is_integer() => {
            let number = cast_to(&array, &DataType::Int64, column)?;
            let numbers = number.as_primitive::<Int64Type>().values().iter();
            collect(numbers.map(|&n| id::from_any_integer(n)), array.len())
                .ok_or_else(|| wrong("a number that is none"))
        }
        kind if kind.is_floating() => {
            let number = cast_to(&array, &DataType::Float64, column)?;
            let numbers = number.as_primitive::<Float64Type>().values().iter();
            collect(numbers.map(|&n| id::from_float(n)), array.len())
                .ok_or_else(|| wrong("a number with a fraction"))
        }
        other => Err(wrong(&format!("a column of type {other}"))),
    }
}

/// `None` if one of `ids` is none.
fn collect(ids: impl Iterator<Item = Option<Uuid>>, rows: usize) -> Option<FixedSizeBinaryArray> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(rows, ID_BYTES);
    for id in ids {
        builder.append_value(id?.as_bytes()).ok()?;
    }
    Some(builder.finish())
}

/// Times as microseconds since 1970 UTC; null where there is none.
pub(crate) fn times(array: &ArrayRef, column: &str) -> Result<Int64Array, CellError> {
    let array = plain(array, column)?;
    let wrong = |found: &str| CellError::value(column, time::EXPECTED, found);
    // Cut, and not rounded, below a microsecond; of whole units, too large ones are refused.
    let scaled = |factor: i64, raw: Int64Array| {
        let times: Option<Int64Array> = raw
            .iter()
            .map(|time| time.map_or(Some(None), |time| time.checked_mul(factor).map(Some)))
            .collect::<Option<_>>();
        times.ok_or_else(|| wrong("a time out of range"))
    };
    macro_rules! raw {
        ($kind:ty) => {
            array
                .as_primitive::<$kind>()
                .unary::<_, Int64Type>(i64::from)
        };
    }
    match array.data_type() {
        DataType::Null => Ok(Int64Array::new_null(array.len())),
        DataType::Timestamp(TimeUnit::Second, _) => scaled(SECOND_US, raw!(TimestampSecondType)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            scaled(1_000, raw!(TimestampMillisecondType))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(raw!(TimestampMicrosecondType)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Ok(array
            .as_primitive::<TimestampNanosecondType>()
            .unary(|nanos| nanos.div_euclid(1_000))),
        DataType::Date32 => scaled(86_400 * SECOND_US, raw!(Date32Type)),
        DataType::Date64 => scaled(1_000, raw!(Date64Type)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let text = cast_to(&array, &DataType::Utf8View, column)?;
            let texts = text.as_string_view().iter();
            each(
                texts.map(|text| text.filter(|text| !text.is_empty())),
                time::parse,
            )
            .ok_or_else(|| wrong("text that is none"))
        }
        kind if kind.is_integer() => {
            // The unsigned ones go further than any time does.
            let number = cast_to(&array, &DataType::Int64, column)
                .map_err(|_| wrong("a time out of range"))?;
            each(number.as_primitive::<Int64Type>().iter(), time::from_unix)
                .ok_or_else(|| wrong("a number that is none"))
        }
        kind if kind.is_numeric() => {
            let number = cast_to(&array, &DataType::Float64, column)?;
            each(
                number.as_primitive::<Float64Type>().iter(),
                time::from_float,
            )
            .ok_or_else(|| wrong("a number that is none"))
        }
        other => Err(wrong(&format!("a column of type {other}"))),
    }
}

/// Reads each value that is there; `None` if one cannot be read.
fn each<T>(
    values: impl Iterator<Item = Option<T>>,
    read: impl Fn(T) -> Option<i64>,
) -> Option<Int64Array> {
    values
        .map(|value| value.map_or(Some(None), |value| read(value).map(Some)))
        .collect()
}

/// Times of likes and skips: none may be missing, and each is one that training can count, in seconds of 32 bits.
pub(crate) fn moments(array: &ArrayRef, column: &str) -> Result<Int64Array, CellError> {
    let times = times(array, column)?;
    if times.null_count() > 0 {
        return Err(CellError::value(column, time::EXPECTED, "nothing"));
    }
    let outside = times
        .values()
        .iter()
        .find(|&&at_us| !(0..=i64::from(u32::MAX)).contains(&at_us.div_euclid(SECOND_US)));
    match outside {
        None => Ok(times),
        Some(at_us) => Err(CellError::value(
            column,
            "a time from 1970 to 2106",
            format!("{at_us} microseconds since 1970"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        BinaryArray, Float64Array, Int32Array, StringArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use std::sync::Arc;

    fn reference(array: impl Array + 'static) -> ArrayRef {
        Arc::new(array)
    }

    #[test]
    fn every_spelling_of_an_id_is_the_same_id() {
        let seven = id::from_text("7").unwrap();
        for array in [
            reference(StringArray::from(vec!["7"])),
            reference(Int32Array::from(vec![7])),
            reference(Float64Array::from(vec![7.0])),
            reference(StringArray::from(vec![seven.to_string()])),
        ] {
            let ids = ids(&array, "x").unwrap();
            assert_eq!(ids.value(0), seven.as_bytes(), "{array:?}");
        }
        for array in [
            reference(StringArray::from(vec![""])),
            reference(StringArray::from(vec![None::<&str>])),
            reference(Float64Array::from(vec![7.5])),
            reference(TimestampMillisecondArray::from(vec![7])),
            reference(BinaryArray::from(vec![b"\xff".as_slice()])),
        ] {
            let error = ids(&array, "user_id of likes").unwrap_err().to_string();
            assert!(
                error.starts_with("user_id of likes: expected an id"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_missing() {
        let array = reference(UInt64Array::from(vec![u64::MAX]));
        let error = times(&array, "published_at of videos").unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("published_at of videos: expected ")
                && error.contains("out of range"),
            "{error}"
        );
        let text = reference(BinaryArray::from(vec![b"\xe3\x81".as_slice()]));
        let error = cast_to(&text, &DataType::Utf8, "title of videos").unwrap_err();
        assert!(
            error.to_string().starts_with("title of videos: "),
            "{error}"
        );
    }

    #[test]
    fn every_unit_of_time_is_microseconds() {
        for array in [
            reference(StringArray::from(vec!["2026-01-31T23:59:59.25Z"])),
            reference(TimestampMillisecondArray::from(vec![1_769_903_999_250])),
            reference(TimestampNanosecondArray::from(vec![
                1_769_903_999_250_000_999,
            ])),
            reference(Int64Array::from(vec![1_769_903_999_250])),
            reference(Float64Array::from(vec![1_769_903_999.25])),
        ] {
            let times = moments(&array, "x").unwrap();
            assert_eq!(times.value(0), 1_769_903_999_250_000, "{array:?}");
        }
        for micros in [-1, 4_294_967_296_000_000] {
            let array = reference(datafusion::arrow::array::TimestampMicrosecondArray::from(
                vec![micros],
            ));
            let error = moments(&array, "created_at of skips")
                .unwrap_err()
                .to_string();
            assert!(error.contains(&micros.to_string()), "{error}");
            assert!(error.contains("created_at of skips"), "{error}");
        }
    }
}
