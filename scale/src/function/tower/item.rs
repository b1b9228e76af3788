use super::{loaded, vector_type, vectors};
use crate::function::{arrays, constant, external};
use crate::video::{COLUMNS, videos};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Constant arguments before those of the rows.
const CONSTANTS: usize = 2;

/// `item_tower(folder, manifest_file_sha256, id, title, description, genre, maker, price, duration_seconds, published_at, tags,
/// performers)`: the video's vector `[d]` by the model in `folder`, if its manifest has that SHA-256.
pub(crate) fn item_tower() -> ScalarUDF {
    ScalarUDF::new_from_impl(ItemTower {
        signature: Signature::any(CONSTANTS + COLUMNS.len(), Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ItemTower {
    signature: Signature,
}

impl ScalarUDFImpl for ItemTower {
    fn name(&self) -> &'static str {
        "item_tower"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(vector_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let model = loaded::model(constant(&args, 0)?, constant(&args, 1)?)?;
        let mut columns = arrays(&args)?.into_iter().skip(CONSTANTS);
        let columns: [ArrayRef; COLUMNS.len()] = std::array::from_fn(|_| {
            // The signature counts them.
            columns
                .next()
                .unwrap_or_else(|| datafusion::arrow::array::new_empty_array(&DataType::Null))
        });
        let mut videos = videos(&columns).map_err(external)?;
        let rows = videos.len();
        // A lone video in the last tile takes another path through the head, with other rounding. With an even number there
        // is none, so that a vector never depends on the rows that the engine happens to put beside it.
        if rows % 2 == 1 {
            videos.push(videos[rows - 1].clone());
        }
        let embedded = model.model.embed_videos(&videos).map_err(external)?;
        let rows = (0..rows).map(|row| Some(embedded.row(row)));
        Ok(ColumnarValue::Array(vectors(rows)))
    }
}
