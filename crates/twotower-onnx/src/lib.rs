//! A trained model as ONNX bytes, for any ONNX runtime.
//!
//! Each tower is one graph of opset 17 whose tensors carry the names that they have in `weights.safetensors`. Same model and
//! metadata → the same bytes.

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]
mod proto;

mod builder;

mod head;

mod item;

mod user;

pub use item::{check_item_tower, item_tower};
pub use user::user_tower;

use thiserror::Error;

/// A model that cannot be written as ONNX.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OnnxError {
    /// A tensor does not have the shape that the rest of the model requires.
    #[error("tensor `{tensor}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// Required shape.
        expected: Vec<usize>,
        /// Actual shape.
        found: Vec<usize>,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{tensor}` holds a number that is not finite")]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
    },
    /// A decay is outside 0..=1, where its powers can be infinite.
    #[error("decay {position} is {value}, outside 0 to 1")]
    Decay {
        /// Position in the list of the likes' decays followed by the skips' decays.
        position: usize,
        /// The decay as text.
        value: String,
    },
    /// Two metadata entries share a key; a reader would see only one of them.
    #[error("metadata key `{key}` is given twice")]
    DuplicateMetadata {
        /// The key.
        key: String,
    },
    /// The file would be larger than protobuf allows, and ONNX without side files with it.
    #[error("the model takes {bytes} bytes as ONNX, and a protobuf message holds at most {limit}")]
    TooLarge {
        /// Size that the file would have, in bytes.
        bytes: usize,
        /// Largest size allowed, in bytes.
        limit: usize,
    },
}
