//! Functions of our own that plans call. They hold nothing: what they need comes as arguments, so that a name suffices for
//! an executor on another machine to know them.

mod event;

mod id;

mod moment;

mod row;

mod tower;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use std::sync::Arc;

pub(crate) use event::{EVENT_BYTES, LIKE, SKIP, event, read_event};
pub(crate) use id::id;
pub(crate) use moment::moment;
pub(crate) use row::row;
pub(crate) use tower::{item_tower, user_tower};

/// All of them.
pub(crate) fn all() -> [ScalarUDF; 6] {
    [id(), moment(), event(), row(), item_tower(), user_tower()]
}

/// The arguments as arrays of one length.
fn arrays(args: &ScalarFunctionArgs) -> Result<Vec<ArrayRef>> {
    let rows = args.number_rows;
    args.args.iter().map(|arg| arg.to_array(rows)).collect()
}

/// A text that is the same for all rows.
fn constant(args: &ScalarFunctionArgs, index: usize) -> Result<&str> {
    if let Some(ColumnarValue::Scalar(
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)),
    )) = args.args.get(index)
    {
        return Ok(text);
    }
    exec_err!("argument {index} of a function of twotower is not a constant text")
}

/// Errors of ours as the engine carries them.
fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn value(array: impl Array + 'static) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(array))
}
