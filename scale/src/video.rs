//! Columns of the catalogue → videos, by the rules of `twotower import`.

use crate::cell::{self, CellError, cast_to, ids, plain};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use twotower_core::feature::Video;
use uuid::Uuid;

/// The columns that videos are made of, in the order in which functions and files here take them.
pub(crate) const COLUMNS: [&str; 10] = [
    "id",
    "title",
    "description",
    "genre",
    "maker",
    "price",
    "duration_seconds",
    "published_at",
    "tags",
    "performers",
];

/// Turns columns in the order of [`COLUMNS`] into videos. A column that is missing is one of nulls.
pub(crate) fn videos(columns: &[ArrayRef; COLUMNS.len()]) -> Result<Vec<Video>, CellError> {
    let named: Vec<String> = COLUMNS
        .iter()
        .map(|name| format!("{name} of videos"))
        .collect();
    let ids = ids(&columns[0], &named[0])?;
    let text = |index: usize| texts(&columns[index], &named[index]);
    let [titles, descriptions, genres, makers] = [text(1)?, text(2)?, text(3)?, text(4)?];
    let prices = amounts(&columns[5], &named[5])?;
    let durations = amounts(&columns[6], &named[6])?;
    let published = cell::times(&columns[7], &named[7])?;
    let tags = names(&columns[8], &named[8])?;
    let performers = names(&columns[9], &named[9])?;
    let rows = tags.into_iter().zip(performers).enumerate();
    rows.map(|(row, (tags, performers))| {
        Ok(Video {
            id: Uuid::from_slice(ids.value(row)).unwrap_or_default(),
            title: clean(&titles, row, &named[1])?.unwrap_or_default(),
            description: clean(&descriptions, row, &named[2])?.unwrap_or_default(),
            genre: clean(&genres, row, &named[3])?,
            maker: clean(&makers, row, &named[4])?,
            price: prices[row],
            duration_seconds: durations[row],
            published_at_us: published.is_valid(row).then(|| published.value(row)),
            thumbnail_url: None,
            tags,
            performers,
        })
    })
    .collect()
}

fn texts(array: &ArrayRef, column: &str) -> Result<StringArray, CellError> {
    Ok(cast_to(array, &DataType::Utf8, column)?.as_string().clone())
}

/// Text without the white space around it; `None` if nothing is left.
fn clean(texts: &StringArray, row: usize, column: &str) -> Result<Option<String>, CellError> {
    if texts.is_null(row) {
        return Ok(None);
    }
    let text = texts.value(row);
    if text.contains('\0') {
        return Err(CellError::value(column, "text without NUL", "a NUL"));
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn amounts(array: &ArrayRef, column: &str) -> Result<Vec<Option<f32>>, CellError> {
    let array = plain(array, column)?;
    let read = |number: Option<f32>, found: &dyn Fn() -> String| match number {
        // -0 is 0.
        Some(number) if number.is_finite() && number >= 0.0 => Ok(Some(number + 0.0)),
        _ => Err(CellError::value(column, "a number, 0 or more", found())),
    };
    match array.data_type() {
        DataType::Null => Ok(vec![None; array.len()]),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => texts(&array, column)?
            .iter()
            .map(|text| match text.map(str::trim) {
                None | Some("") => Ok(None),
                Some(text) => read(text.parse().ok(), &|| format!("`{text}`")),
            })
            .collect(),
        kind if kind.is_numeric() => cast_to(&array, &DataType::Float64, column)?
            .as_primitive::<Float64Type>()
            .iter()
            .map(|number| match number {
                None => Ok(None),
                Some(number) => read(Some(number as f32), &|| number.to_string()),
            })
            .collect(),
        other => {
            let found = format!("a column of type {other}");
            Err(CellError::value(column, "a number, 0 or more", found))
        }
    }
}

/// Lists of names, each ascending and without repetitions. Text is a list separated by `|`.
fn names(array: &ArrayRef, column: &str) -> Result<Vec<Vec<String>>, CellError> {
    let array = plain(array, column)?;
    let mut lists = match array.data_type() {
        DataType::Null => vec![Vec::new(); array.len()],
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = texts(&array, column)?;
            let split = |text: Option<&str>| {
                let parts = text.into_iter().flat_map(|text| text.split('|'));
                parts.map(str::to_owned).collect()
            };
            texts.iter().map(split).collect()
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => {
            let list = DataType::new_list(DataType::Utf8, true);
            let lists = cast_to(&array, &list, column)?;
            let read = |list: Option<ArrayRef>| {
                let texts = list.iter().flat_map(AsArray::as_string::<i32>);
                texts.flatten().map(str::to_owned).collect()
            };
            lists.as_list::<i32>().iter().map(read).collect()
        }
        other => {
            let found = format!("a column of type {other}");
            return Err(CellError::value(column, "a list of texts", found));
        }
    };
    for names in &mut lists {
        if names.iter().any(|name| name.contains('\0')) {
            return Err(CellError::value(column, "text without NUL", "a NUL"));
        }
        for name in names.iter_mut() {
            if name.trim().len() < name.len() {
                *name = name.trim().to_owned();
            }
        }
        names.retain(|name| !name.is_empty());
        names.sort();
        names.dedup();
    }
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{BinaryArray, ListArray, new_null_array};
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::Field;
    use std::sync::Arc;

    /// Bytes without a type, as some writers write text, that are no UTF-8: half of あ.
    fn bytes() -> ArrayRef {
        Arc::new(BinaryArray::from(vec![b"\xe3\x81".as_slice()]))
    }

    #[test]
    fn text_that_is_no_utf_8_is_refused_by_its_column() {
        for (index, name) in COLUMNS.into_iter().enumerate() {
            let is_text = matches!(name, "title" | "description" | "genre" | "maker");
            let is_list = matches!(name, "tags" | "performers");
            if !is_text && !is_list {
                continue;
            }
            let mut columns = [(); COLUMNS.len()].map(|()| new_null_array(&DataType::Null, 1));
            columns[0] = Arc::new(datafusion::arrow::array::Int32Array::from(vec![7]));
            assert_eq!(videos(&columns).unwrap().len(), 1);
            columns[index] = if is_text {
                bytes()
            } else {
                let element = Arc::new(Field::new("element", DataType::Binary, true));
                let offsets = OffsetBuffer::from_lengths([1]);
                Arc::new(ListArray::new(element, offsets, bytes(), None))
            };
            let error = videos(&columns).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} of videos: ")), "{error}");
        }
    }
}
