use super::{loaded, vector_type, vectors};
use crate::function::{EVENT_BYTES, LIKE, arrays, constant, read_event};
use crate::vector_file::VideoVectors;
use datafusion::arrow::array::{Array, AsArray, FixedSizeBinaryArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::collections::HashSet;
use twotower_core::tower::UserTower;

/// `user_tower(folder, manifest_file_sha256, index, index_sha256, events)`: the user's vector `[d]` by the model in `folder` over
/// the vectors of videos that the file `index` lists. `events` is the list of their `twotower_event`s in any order; of each
/// video the earliest like and the earliest skip count. Null for a user none of whose videos is known.
pub(crate) fn user_tower() -> ScalarUDF {
    ScalarUDF::new_from_impl(Tower {
        signature: Signature::any(5, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Tower {
    signature: Signature,
}

impl ScalarUDFImpl for Tower {
    fn name(&self) -> &'static str {
        "user_tower"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(vector_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let model = loaded::model(constant(&args, 0)?, constant(&args, 1)?)?;
        let tower = &model.model.user_tower;
        let videos = loaded::vectors(constant(&args, 2)?, constant(&args, 3)?, tower.dim())?;
        let events = arrays(&args)?.swap_remove(4);
        let Some(lists) = events.as_list_opt::<i32>() else {
            return exec_err!(
                "user_tower takes a list of events, not {}",
                events.data_type()
            );
        };
        let mut embedded = Vec::with_capacity(lists.len());
        for list in lists.iter() {
            let Some(list) = list else {
                embedded.push(None);
                continue;
            };
            match list.as_fixed_size_binary_opt() {
                Some(events) if events.value_length() == EVENT_BYTES as i32 => {
                    embedded.push(embed(tower, &videos, events));
                }
                _ => return exec_err!("user_tower takes events as twotower_event makes them"),
            }
        }
        Ok(ColumnarValue::Array(vectors(
            embedded.iter().map(Option::as_deref),
        )))
    }
}

fn embed(
    tower: &UserTower,
    videos: &VideoVectors,
    events: &FixedSizeBinaryArray,
) -> Option<Vec<f32>> {
    let mut events: Vec<&[u8]> = events.iter().flatten().collect();
    events.sort_unstable();
    let [mut likes, mut skips] = [Vec::new(), Vec::new()];
    let mut seen = HashSet::new();
    for event in events {
        let Some((kind, _, video)) = read_event(event) else {
            continue;
        };
        let Some((row, vector)) = videos.get(video) else {
            continue;
        };
        if seen.insert((kind, row)) {
            let of_kind = if kind == LIKE { &mut likes } else { &mut skips };
            of_kind.push(vector);
        }
    }
    tower.embed(&tower.history(likes, skips))
}
