mod loaded;

mod item;

mod user;

pub(crate) use item::item_tower;
pub(crate) use user::user_tower;

use datafusion::arrow::array::{ArrayRef, Float32Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use std::sync::Arc;

/// Type of a vector in plans.
fn vector_type() -> DataType {
    DataType::List(Arc::new(element()))
}

fn element() -> Field {
    Field::new("element", DataType::Float32, false)
}

/// A column of vectors of `dim` numbers.
fn vectors<'a>(rows: impl Iterator<Item = Option<&'a [f32]>>) -> ArrayRef {
    let mut lists = ListBuilder::new(Float32Builder::new()).with_field(element());
    for row in rows {
        if let Some(vector) = row {
            lists.values().append_slice(vector);
        }
        lists.append(row.is_some());
    }
    Arc::new(lists.finish())
}
