//! Named float32 tensors as the bytes of a safetensors file, and back.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use std::collections::BTreeMap;
use thiserror::Error;

/// A tensor with its name and shape.
pub type Tensor<'a> = (String, Vec<usize>, &'a mut [f32]);

/// A file that does not hold what is read from it.
#[derive(Debug, Error)]
pub enum TensorError {
    /// The bytes are no safetensors file.
    #[error("not a file in safetensors format: {0}")]
    Format(#[from] SafeTensorError),
    /// A tensor is missing, or not of the shape that is asked for.
    #[error("tensor `{name}`: expected float32 of shape {expected:?}, found {found}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// Shape asked for.
        expected: Vec<usize>,
        /// What is there.
        found: String,
    },
    /// A number is NaN or infinite.
    #[error("tensor `{name}` holds a number that is not finite")]
    NotFinite {
        /// Name of the tensor.
        name: String,
    },
}

/// The bytes of a file with these tensors and, if given, one text of metadata under `key`. The same input gives the same bytes.
///
/// # Errors
/// [`TensorError::Format`] if the format refuses them, which shapes that fit their data never are.
pub(crate) fn write(
    tensors: &[Tensor<'_>],
    metadata: Option<(&str, String)>,
) -> Result<Vec<u8>, TensorError> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, data)| data.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views: BTreeMap<&str, TensorView<'_>> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<_, SafeTensorError>>()?;
    let metadata = metadata.map(|(key, text)| std::iter::once((key.to_owned(), text)).collect());
    Ok(safetensors::serialize(views, metadata)?)
}

/// Fills `tensors` from `file`.
///
/// # Errors
/// [`TensorError`] if one is missing, of another shape, or not finite.
pub(crate) fn fill(file: &SafeTensors<'_>, tensors: Vec<Tensor<'_>>) -> Result<(), TensorError> {
    for (name, expected, data) in tensors {
        let refuse = |found: String| TensorError::Shape {
            name: name.clone(),
            expected: expected.clone(),
            found,
        };
        let tensor = file
            .tensor(&name)
            .map_err(|error| refuse(error.to_string()))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != expected {
            let found = format!("{:?} of shape {:?}", tensor.dtype(), tensor.shape());
            return Err(refuse(found));
        }
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
