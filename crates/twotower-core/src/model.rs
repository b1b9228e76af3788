//! A model: two towers, the preprocessing they were trained with and the hyperparameters that made them.

use crate::embedding::Embeddings;
use crate::feature::{Preprocessing, Video};
use crate::hyperparameters::Hyperparameters;
use crate::interaction::History;
use crate::matrix::Matrix;
use crate::recommend::Recommender;
use crate::tower::{Dense, Head, ItemTower, UserTower};
use crate::{embedding::EmbeddingError, kernel};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use thiserror::Error;

/// Weights that do not make a model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The bytes are no safetensors file.
    #[error("the weights are not in safetensors format: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// A tensor is missing, or not of the shape that hyperparameters and preprocessing ask for.
    #[error("tensor `{name}`: expected float32 of shape {expected:?}, found {found}")]
    Tensor {
        /// Name of the tensor.
        name: &'static str,
        /// Shape asked for.
        expected: Vec<usize>,
        /// What is there.
        found: String,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{name}` holds a number that is not finite")]
    NotFinite {
        /// Name of the tensor.
        name: &'static str,
    },
}

/// A trained model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it was trained with.
    pub hyperparameters: Hyperparameters,
    /// How rows become inputs.
    pub preprocessing: Preprocessing,
    /// Videos → vectors.
    pub item_tower: ItemTower,
    /// Histories → vectors.
    pub user_tower: UserTower,
}

impl Model {
    /// All weights zero, in the shapes that `hyperparameters` and `preprocessing` ask for.
    pub fn zeros(hyperparameters: Hyperparameters, preprocessing: Preprocessing) -> Self {
        let dim = hyperparameters.embedding_dim;
        let head = |inputs: usize, hidden: usize| Head {
            hidden: Dense {
                weight: Matrix::zeros(inputs, hidden),
                bias: vec![0.0; hidden],
            },
            output: Dense {
                weight: Matrix::zeros(hidden, dim),
                bias: vec![0.0; dim],
            },
            residual: Matrix::zeros(inputs, dim),
        };
        let item_inputs = 2 * dim + crate::feature::NUMERIC_FEATURES;
        let user_inputs = (hyperparameters.decays.len() + 1) * dim + 2;
        Self {
            item_tower: ItemTower {
                id_table: Matrix::zeros(preprocessing.videos.len() + 1, dim),
                term_table: Matrix::zeros(preprocessing.term_rows(), dim),
                head: head(item_inputs, hyperparameters.item_hidden),
            },
            user_tower: UserTower {
                decays: hyperparameters.decays.clone(),
                skip_decay: hyperparameters.skip_decay,
                head: head(user_inputs, hyperparameters.user_hidden),
            },
            hyperparameters,
            preprocessing,
        }
    }

    /// Every weight with its name and shape, in the order of the file. The one list that saving and loading go by.
    pub fn tensors_mut(&mut self) -> Vec<(&'static str, Vec<usize>, &mut [f32])> {
        let (item, user) = (&mut self.item_tower, &mut self.user_tower);
        vec![
            matrix("item_tower.id_table", &mut item.id_table),
            matrix("item_tower.term_table", &mut item.term_table),
            matrix("item_tower.hidden.weight", &mut item.head.hidden.weight),
            vector("item_tower.hidden.bias", &mut item.head.hidden.bias),
            matrix("item_tower.output.weight", &mut item.head.output.weight),
            vector("item_tower.output.bias", &mut item.head.output.bias),
            matrix("item_tower.residual", &mut item.head.residual),
            matrix("user_tower.hidden.weight", &mut user.head.hidden.weight),
            vector("user_tower.hidden.bias", &mut user.head.hidden.bias),
            matrix("user_tower.output.weight", &mut user.head.output.weight),
            vector("user_tower.output.bias", &mut user.head.output.bias),
            matrix("user_tower.residual", &mut user.head.residual),
        ]
    }

    /// The weights as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`ModelError::Format`] if the format refuses them, which shapes that fit their data never are.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        let mut model = self.clone();
        let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = model
            .tensors_mut()
            .into_iter()
            .map(|(name, shape, data)| {
                (
                    name,
                    shape,
                    data.iter().flat_map(|x| x.to_le_bytes()).collect(),
                )
            })
            .collect();
        let views: BTreeMap<&str, TensorView<'_>> = bytes
            .iter()
            .map(|(name, shape, data)| {
                Ok((*name, TensorView::new(Dtype::F32, shape.clone(), data)?))
            })
            .collect::<Result<_, safetensors::SafeTensorError>>()?;
        Ok(safetensors::serialize(views, None)?)
    }

    /// Reads the weights back.
    ///
    /// # Errors
    /// [`ModelError`] if a tensor is missing, of another shape, or not finite.
    pub fn from_safetensors(
        hyperparameters: Hyperparameters,
        preprocessing: Preprocessing,
        bytes: &[u8],
    ) -> Result<Self, ModelError> {
        let file = safetensors::SafeTensors::deserialize(bytes)?;
        let mut model = Self::zeros(hyperparameters, preprocessing);
        for (name, expected, data) in model.tensors_mut() {
            let refuse = |found: String| ModelError::Tensor {
                name,
                expected: expected.clone(),
                found,
            };
            let tensor = file
                .tensor(name)
                .map_err(|error| refuse(error.to_string()))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != expected {
                return Err(refuse(format!(
                    "{:?} of shape {:?}",
                    tensor.dtype(),
                    tensor.shape()
                )));
            }
            let (values, _) = tensor.data().as_chunks::<4>();
            for (x, bytes) in data.iter_mut().zip(values) {
                *x = f32::from_le_bytes(*bytes);
            }
            if data.iter().any(|x| !x.is_finite()) {
                return Err(ModelError::NotFinite { name });
            }
        }
        Ok(model)
    }

    /// Embeds videos in the order given, known and new alike.
    ///
    /// # Errors
    /// [`EmbeddingError`] if the weights give a vector that is not finite.
    pub fn embed_videos(&self, videos: &[Video]) -> Result<Embeddings, EmbeddingError> {
        let features = self.preprocessing.features(videos);
        Embeddings::from_rows(
            self.hyperparameters.embedding_dim,
            self.item_tower.embed_all(&features),
        )
    }
}

/// The towers as a recommender over a fixed catalogue: a history is embedded from its videos' vectors and the score is the
/// inner product.
#[derive(Debug, Clone, Copy)]
pub struct TwoTower<'a> {
    /// Histories → vectors.
    pub user_tower: &'a UserTower,
    /// One row per video of the catalogue.
    pub videos: &'a Embeddings,
}

impl TwoTower<'_> {
    /// The user's vector `[d]`, or `None` without a like or skip.
    pub fn embed_user(&self, history: History<'_>) -> Option<Vec<f32>> {
        let rows = |items: &'_ [u32]| {
            items
                .iter()
                .map(|&item| self.videos.row(item as usize))
                .collect::<Vec<_>>()
        };
        self.user_tower.embed(
            &self
                .user_tower
                .history(rows(history.likes), rows(history.skips)),
        )
    }
}

impl Recommender for TwoTower<'_> {
    fn name(&self) -> &'static str {
        "two-tower"
    }

    fn items(&self) -> usize {
        self.videos.len()
    }

    /// Scores of an empty history are all zero: the caller serves popular videos instead.
    fn score(&self, history: History<'_>, scores: &mut [f32]) {
        match self.embed_user(history) {
            None => scores.fill(0.0),
            Some(user) => {
                for (score, row) in scores
                    .iter_mut()
                    .zip(self.videos.as_slice().chunks_exact(self.videos.dim()))
                {
                    *score = kernel::dot(&user, row);
                }
            }
        }
    }
}

fn matrix<'a>(name: &'static str, m: &'a mut Matrix) -> (&'static str, Vec<usize>, &'a mut [f32]) {
    (name, vec![m.rows(), m.cols()], m.as_mut_slice())
}
fn vector<'a>(name: &'static str, v: &'a mut [f32]) -> (&'static str, Vec<usize>, &'a mut [f32]) {
    (name, vec![v.len()], v)
}
