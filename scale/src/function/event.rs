use super::{arrays, value};
use crate::cell::ID_BYTES;
use datafusion::arrow::array::{AsArray, FixedSizeBinaryBuilder};
use datafusion::arrow::datatypes::{DataType, Int8Type, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Number of a like among kinds.
pub(crate) const LIKE: i8 = 0;
/// Number of a skip among kinds.
pub(crate) const SKIP: i8 = 1;

/// Bytes of one event: kind, microseconds since 1970 (highest byte first) and the video's id, so that the order of bytes is
/// that of (kind, time, video).
pub(crate) const EVENT_BYTES: usize = 1 + 8 + ID_BYTES as usize;

/// Fills the [`EVENT_BYTES`] of an event.
pub(super) fn write_event(event: &mut [u8], kind: i8, at_us: i64, video: &[u8]) {
    event[0] = kind as u8;
    event[1..9].copy_from_slice(&at_us.to_be_bytes());
    event[9..].copy_from_slice(video);
}

/// The kind, the microseconds since 1970 and the video's id of an event.
pub(crate) fn read_event(event: &[u8]) -> Option<(i8, i64, &[u8])> {
    let (&kind, rest) = event.split_first()?;
    let (at_us, video) = rest.split_first_chunk()?;
    Some((kind as i8, i64::from_be_bytes(*at_us), video))
}

/// `twotower_event(kind, at, video)`: the three as one value that sorts as they do.
pub(crate) fn event() -> ScalarUDF {
    ScalarUDF::new_from_impl(Event {
        signature: Signature::any(3, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Event {
    signature: Signature,
}

impl ScalarUDFImpl for Event {
    fn name(&self) -> &'static str {
        "twotower_event"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(EVENT_BYTES as i32))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = arrays(&args)?;
        let kinds = arrays[0].as_primitive::<Int8Type>().values();
        let times = arrays[1].as_primitive::<Int64Type>().values();
        let videos = arrays[2].as_fixed_size_binary();
        let mut events = FixedSizeBinaryBuilder::with_capacity(times.len(), EVENT_BYTES as i32);
        let mut event = [0; EVENT_BYTES];
        for (row, (&kind, &at)) in kinds.iter().zip(times).enumerate() {
            write_event(&mut event, kind, at, videos.value(row));
            events.append_value(event)?;
        }
        Ok(value(events.finish()))
    }
}
