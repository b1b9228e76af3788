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
    /// A tensor has not the shape that the rest of the model asks for.
    #[error("tensor `{tensor}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// Shape asked for.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{tensor}` holds a number that is not finite")]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
    },
    /// A decay is outside 0..=1, where powers of it need not be finite.
    #[error("decay {position} is {value}, outside 0 to 1")]
    Decay {
        /// Position among the decays of likes followed by that of skips.
        position: usize,
        /// The decay as text.
        value: String,
    },
    /// Two metadata entries share a key; a reader would see one of them.
    #[error("metadata key `{key}` is given twice")]
    DuplicateMetadata {
        /// The key.
        key: String,
    },
    /// The file would be larger than protobuf, and with it ONNX without side files, allows.
    #[error("the model takes {bytes} bytes as ONNX, and a protobuf message holds at most {limit}")]
    TooLarge {
        /// Size it would have.
        bytes: usize,
        /// Largest size allowed.
        limit: usize,
    },
}
