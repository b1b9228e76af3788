//! Reads and writes named float32 tensors as the bytes of a safetensors file.

use crate::hyperparameters::HyperparameterError;
use crate::matrix::Matrix;
use safetensors::SafeTensors;
use safetensors::View;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use thiserror::Error;

/// A tensor with its name and shape.
pub type Tensor<'a> = (String, Vec<usize>, &'a mut [f32]);

/// Why a file does not contain what is read from it.
#[derive(Debug, Error)]
pub enum TensorError {
    /// The bytes are not a safetensors file.
    #[error("not a file in safetensors format: {0}")]
    Format(SafeTensorError),
    /// A tensor is missing, or has another type or shape.
    #[error("tensor `{name}`: expected float32 of shape {expected:?}, found {found}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// The required shape.
        expected: Vec<usize>,
        /// What the file has.
        found: String,
    },
    /// The file has an unexpected tensor.
    #[error("tensor `{name}` does not belong there")]
    Unknown {
        /// Name of the tensor.
        name: String,
    },
    /// A text in the metadata is missing or wrong.
    #[error("metadata `{key}`: expected {expected}, found {found}")]
    Metadata {
        /// Key.
        key: &'static str,
        /// The required text.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// The hyperparameters of the model are invalid.
    #[error("hyperparameter {0}")]
    Hyperparameter(HyperparameterError),
    /// A number is NaN or infinite.
    #[error("tensor `{name}` holds a number that is not finite")]
    NotFinite {
        /// Name of the tensor.
        name: String,
    },
}

impl From<SafeTensorError> for TensorError {
    fn from(cause: SafeTensorError) -> Self {
        Self::Format(cause)
    }
}

impl From<HyperparameterError> for TensorError {
    fn from(cause: HyperparameterError) -> Self {
        Self::Hyperparameter(cause)
    }
}

pub(crate) fn matrix(name: String, m: &mut Matrix) -> Tensor<'_> {
    (name, vec![m.rows(), m.cols()], m.as_mut_slice())
}

pub(crate) fn vector(name: String, v: &mut [f32]) -> Tensor<'_> {
    (name, vec![v.len()], v)
}

/// The bytes of a file with these tensors and these texts as metadata, by key. Deterministic.
///
/// # Errors
/// [`TensorError::Format`] if the format refuses them, which it never does if shapes fit the data.
pub(crate) fn write(
    tensors: &[Tensor<'_>],
    metadata: &[(&str, String)],
) -> Result<Vec<u8>, TensorError> {
    let views: BTreeMap<&str, Numbers<'_>> = tensors
        .iter()
        .map(|(name, shape, data)| (name.as_str(), Numbers { shape, data }))
        .collect();
    let mut file = safetensors::serialize(views, None)?;
    if !metadata.is_empty() {
        add_metadata(&mut file, metadata)?;
    }
    Ok(file)
}

/// A tensor that is converted to bytes only when it is written, so that at most one is in memory
/// twice.
struct Numbers<'a> {
    shape: &'a [usize],
    data: &'a [f32],
}

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.data.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.data)
    }
}

/// Adds metadata to the header of a file without any. The safetensors crate would write them in the
/// random order of a hash map.
fn add_metadata(file: &mut Vec<u8>, metadata: &[(&str, String)]) -> Result<(), SafeTensorError> {
    const LENGTH: usize = size_of::<u64>();
    let (header, _) = SafeTensors::read_metadata(file)?;
    let end = LENGTH + header;
    let mut header: Map<String, Value> = serde_json::from_slice(&file[LENGTH..end])?;
    let metadata = metadata
        .iter()
        .map(|(key, text)| ((*key).to_owned(), Value::from(text.as_str())))
        .collect();
    header.insert("__metadata__".to_owned(), Value::Object(metadata));
    let mut header = serde_json::to_vec(&header)?;
    // The data of tensors must begin at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let length = (header.len() as u64).to_le_bytes();
    file.splice(..end, length.into_iter().chain(header));
    Ok(())
}

/// The tensor with this name and shape. Allocates no memory for its numbers.
///
/// # Errors
/// [`TensorError::Shape`] if there is none.
pub(crate) fn find<'f>(
    file: &SafeTensors<'f>,
    name: &str,
    expected: &[usize],
) -> Result<TensorView<'f>, TensorError> {
    let refuse = |found: String| TensorError::Shape {
        name: name.to_owned(),
        expected: expected.to_vec(),
        found,
    };
    let tensor = file
        .tensor(name)
        .map_err(|error| refuse(error.to_string()))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != expected {
        let found = format!("{:?} of shape {:?}", tensor.dtype(), tensor.shape());
        return Err(refuse(found));
    }
    Ok(tensor)
}

/// Fills `tensors` from `file`.
///
/// # Errors
/// [`TensorError`] if one is missing, of another shape, or not finite.
pub(crate) fn fill(file: &SafeTensors<'_>, tensors: Vec<Tensor<'_>>) -> Result<(), TensorError> {
    for (name, expected, data) in tensors {
        let tensor = find(file, &name, &expected)?;
        let (values, _) = tensor.data().as_chunks::<4>();
        for (x, bytes) in data.iter_mut().zip(values) {
            *x = f32::from_le_bytes(*bytes);
        }
        if data.iter().any(|x| !x.is_finite()) {
            return Err(TensorError::NotFinite { name });
        }
    }
    Ok(())
}
