use crate::import::cell::Cell;
pub(crate) use twotower_core::external::id::EXPECTED;
pub use twotower_core::external::id::{
    NAMESPACE, from_any_integer, from_float, from_integer, from_text,
};
use uuid::Uuid;

/// The UUID for a cell; `None` if the cell holds no id.
pub(crate) fn from_cell(cell: &Cell<'_>) -> Option<Uuid> {
    match cell {
        Cell::Id(id) => Some(*id),
        Cell::Text(text) => from_text(text),
        Cell::Integer(integer) => from_any_integer(*integer),
        Cell::Float(float) => from_float(*float),
        _ => None,
    }
}
