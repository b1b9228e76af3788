use super::{arrays, constant, external, value};
use crate::cell::moments;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `twotower_moment(value, column)`: microseconds since 1970 UTC, within seconds of 32 bits; `column` names it in errors.
pub(crate) fn moment() -> ScalarUDF {
    ScalarUDF::new_from_impl(Moment {
        signature: Signature::any(2, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Moment {
    signature: Signature,
}

impl ScalarUDFImpl for Moment {
    fn name(&self) -> &'static str {
        "twotower_moment"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = moments(&arrays(&args)?[0], constant(&args, 1)?).map_err(external)?;
        Ok(value(times))
    }
}
