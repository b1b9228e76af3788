//! A trained model as ONNX bytes, for any ONNX runtime.

use thiserror::Error;
use twotower_core::model::Model;

/// A model that cannot be written as ONNX.
#[derive(Debug, Error)]
pub enum OnnxError {}

/// The item tower.
///
/// # Errors
/// [`OnnxError`]
pub fn item_tower(_model: &Model) -> Result<Vec<u8>, OnnxError> {
    unimplemented!()
}

/// The user tower.
///
/// # Errors
/// [`OnnxError`]
pub fn user_tower(_model: &Model) -> Result<Vec<u8>, OnnxError> {
    unimplemented!()
}
