//! A model: two towers, the preprocessing they were trained with and the hyperparameters that made
//! them.

use crate::embedding::Embeddings;
use crate::feature::{Preprocessing, VideoRef};
use crate::hyperparameters::Hyperparameters;
use crate::interaction::History;
use crate::matrix::Matrix;
use crate::recommend::Recommender;
use crate::tensors::{self, Tensor, TensorError, matrix};
use crate::tower::{Head, ItemTower, UserTower};
use crate::{embedding::EmbeddingError, kernel};
use safetensors::SafeTensors;

const ID_TABLE: &str = "item_tower.id_table";
const TERM_TABLE: &str = "item_tower.term_table";

/// A trained model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Hyperparameters of its training.
    pub hyperparameters: Hyperparameters,
    /// Turns rows of the catalogue into inputs.
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
        let item_inputs = 2 * dim + crate::feature::NUMERIC_FEATURES;
        let user_tower = UserTower::zeros(
            hyperparameters.decays.clone(),
            hyperparameters.skip_decay,
            hyperparameters.user_hidden,
            dim,
        );
        Self {
            item_tower: ItemTower {
                id_table: Matrix::zeros(preprocessing.id_rows(), dim),
                term_table: Matrix::zeros(preprocessing.term_rows(), dim),
                head: Head::zeros(item_inputs, hyperparameters.item_hidden, dim),
            },
            user_tower,
            hyperparameters,
            preprocessing,
        }
    }

    /// Every weight with its name and shape, in the order of the file. Saving and loading both use
    /// this list.
    pub fn tensors_mut(&mut self) -> Vec<Tensor<'_>> {
        let item = &mut self.item_tower;
        let tables = [
            matrix(ID_TABLE.into(), &mut item.id_table),
            matrix(TERM_TABLE.into(), &mut item.term_table),
        ];
        let heads = [
            item.head.tensors_mut("item_tower"),
            self.user_tower.tensors_mut(),
        ];
        tables
            .into_iter()
            .chain(heads.into_iter().flatten())
            .collect()
    }

    /// The weights as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`TensorError::Format`] if the format refuses them, which it never does if shapes fit the
    /// data.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, TensorError> {
        tensors::write(&self.clone().tensors_mut(), &[])
    }

    /// Reads weights that [`Model::to_safetensors`] wrote.
    ///
    /// # Errors
    /// [`TensorError`] if a hyperparameter is outside its range, or a tensor is missing, of another
    /// shape, or not finite.
    pub fn from_safetensors(
        hyperparameters: Hyperparameters,
        preprocessing: Preprocessing,
        bytes: &[u8],
    ) -> Result<Self, TensorError> {
        hyperparameters.validate()?;
        let file = SafeTensors::deserialize(bytes)?;
        // The lengths that the preprocessing states are not trusted: no memory is allocated before
        // tensors of these shapes are found.
        let dim = hyperparameters.embedding_dim;
        tensors::find(&file, ID_TABLE, &[preprocessing.id_rows(), dim])?;
        tensors::find(&file, TERM_TABLE, &[preprocessing.term_rows(), dim])?;
        let mut model = Self::zeros(hyperparameters, preprocessing);
        tensors::fill(&file, model.tensors_mut())?;
        Ok(model)
    }

    /// Embeds videos in the order given, known and new ones: `[n, d]`.
    ///
    /// # Errors
    /// [`EmbeddingError`] if the weights give a vector that is not finite.
    pub fn embed_videos<'a, V: Into<VideoRef<'a>>>(
        &self,
        videos: impl IntoIterator<Item = V>,
    ) -> Result<Embeddings, EmbeddingError> {
        let features = self.preprocessing.features(videos);
        Embeddings::from_rows(
            self.hyperparameters.embedding_dim,
            self.item_tower.embed_all(&features),
        )
    }
}

/// The towers as a recommender over a fixed catalogue. A history is embedded from the vectors of
/// its videos, and the score is the inner product.
#[derive(Debug, Clone, Copy)]
pub struct TwoTower<'a> {
    /// Histories → vectors.
    pub user_tower: &'a UserTower,
    /// One row per video of the catalogue.
    pub videos: &'a Embeddings,
}

impl TwoTower<'_> {
    /// The user's vector `[d]`; `None` without a like or skip.
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

    /// Skips alone are enough.
    fn serves(&self, history: History<'_>) -> bool {
        !history.likes.is_empty() || !history.skips.is_empty()
    }

    /// An empty history scores 0 for all videos: the caller serves popular videos instead.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{Catalogue, PreprocessingOptions, Video};

    #[test]
    fn sizes_that_no_memory_holds_are_refused_before_any_is_taken() {
        let catalogue = Catalogue::new([Video::default()]).unwrap();
        let options = PreprocessingOptions {
            min_term_videos: 1,
            ngram_buckets: 8,
        };
        let preprocessing = Preprocessing::fit(&catalogue, |_| true, options);
        let hyperparameters = Hyperparameters::default();
        let model = Model::zeros(hyperparameters.clone(), preprocessing.clone());
        let bytes = model.to_safetensors().unwrap();
        let read = |hyperparameters: Hyperparameters, preprocessing: Preprocessing| {
            Model::from_safetensors(hyperparameters, preprocessing, &bytes)
        };
        let same = read(hyperparameters.clone(), preprocessing.clone());
        assert_eq!(same.unwrap(), model);
        let many = Preprocessing {
            ngram_buckets: u32::MAX,
            ..preprocessing.clone()
        };
        let error = read(hyperparameters.clone(), many).unwrap_err();
        assert!(error.to_string().contains(TERM_TABLE), "{error}");
        let wide = Hyperparameters {
            user_hidden: usize::MAX,
            ..hyperparameters
        };
        let error = read(wide, preprocessing).unwrap_err();
        assert!(error.to_string().contains("user_hidden"), "{error}");
    }
}
