use super::event::{EVENT_BYTES, write_event};
use super::{arrays, value};
use crate::cell::ID_BYTES;
use datafusion::arrow::array::{AsArray, FixedSizeBinaryBuilder};
use datafusion::arrow::datatypes::{DataType, Int8Type, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Bytes of one row: the user's id and then the event.
pub(crate) const ROW_BYTES: usize = ID_BYTES as usize + EVENT_BYTES;

/// `twotower_row(user, kind, at, video)`: the four as one value that sorts as they do, so that the row is its own key.
pub(crate) fn row() -> ScalarUDF {
    ScalarUDF::new_from_impl(Row {
        signature: Signature::any(4, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Row {
    signature: Signature,
}

impl ScalarUDFImpl for Row {
    fn name(&self) -> &'static str {
        "twotower_row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(ROW_BYTES as i32))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = arrays(&args)?;
        let users = arrays[0].as_fixed_size_binary();
        let kinds = arrays[1].as_primitive::<Int8Type>().values();
        let times = arrays[2].as_primitive::<Int64Type>().values();
        let videos = arrays[3].as_fixed_size_binary();
        let mut rows = FixedSizeBinaryBuilder::with_capacity(times.len(), ROW_BYTES as i32);
        let mut bytes = [0; ROW_BYTES];
        for (row, (&kind, &at)) in kinds.iter().zip(times).enumerate() {
            let (user, event) = bytes.split_at_mut(ID_BYTES as usize);
            user.copy_from_slice(users.value(row));
            write_event(event, kind, at, videos.value(row));
            rows.append_value(bytes)?;
        }
        Ok(value(rows.finish()))
    }
}
