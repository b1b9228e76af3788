use super::{arrays, constant, external, value};
use crate::cell::{ID_BYTES, ids};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `twotower_id(value, column)`: the 16 bytes of the id; `column` names it in errors.
pub(crate) fn id() -> ScalarUDF {
    ScalarUDF::new_from_impl(Id {
        signature: Signature::any(2, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Id {
    signature: Signature,
}

impl ScalarUDFImpl for Id {
    fn name(&self) -> &'static str {
        "twotower_id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(ID_BYTES))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ids = ids(&arrays(&args)?[0], constant(&args, 1)?).map_err(external)?;
        Ok(value(ids))
    }
}
