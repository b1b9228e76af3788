use super::Head;
use crate::feature::{ItemFeatures, NUMERIC_FEATURES};
use crate::kernel;
use crate::matrix::Matrix;
use rayon::prelude::*;

/// Rows of the item tower that one task computes.
const TILE: usize = 64;

/// Video features → a point of the common space.
///
/// x = [id ‖ content ‖ numeric]. `id` is a row of the id table (row 0, all zero, for a video
/// outside the vocabulary), and `content` the weighted sum of term rows (genre, maker, tags,
/// performers, character n-grams). The [`Head`] computes the output.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ItemTower {
    /// `[V + 1, d]`; row 0 stays zero.
    pub id_table: Matrix,
    /// `[T, d]`
    pub term_table: Matrix,
    /// x `[2 d + numeric]` → `[d]`
    pub head: Head,
}

impl ItemTower {
    /// Embedding dimension d.
    pub fn dim(&self) -> usize {
        self.id_table.cols()
    }

    /// Length of x: 2 d + number of numeric features.
    pub fn inputs(&self) -> usize {
        2 * self.dim() + NUMERIC_FEATURES
    }

    /// Writes the input x of video `item` into `x` `[2 d + numeric]`. `with_id` false leaves the id
    /// out, as for a video outside the vocabulary. `scratch` is a buffer for
    /// [`ItemFeatures::terms`].
    pub fn input(
        &self,
        features: &ItemFeatures,
        item: usize,
        with_id: bool,
        x: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        let dim = self.dim();
        let (id, rest) = x.split_at_mut(dim);
        let (content, numeric) = rest.split_at_mut(dim);
        let row = if with_id { features.id_row(item) } else { 0 };
        let id_row = self.id_table.row(row as usize);
        // It arrives while the terms are summed.
        kernel::prefetch(id_row);
        let (terms, weights) = features.terms(item, scratch);
        kernel::weighted_sum((&self.term_table).into(), terms, weights, content);
        id.copy_from_slice(id_row);
        numeric.copy_from_slice(features.numeric(item));
    }

    /// Embeds every video of `features`: `[n, d]`, unit norm.
    pub fn embed_all(&self, features: &ItemFeatures) -> Vec<f32> {
        let (dim, inputs) = (self.dim(), self.inputs());
        let mut out = vec![0.0; features.len() * dim];
        out.par_chunks_mut(TILE * dim)
            .enumerate()
            .for_each(|(tile, out)| {
                let n = out.len() / dim;
                let (mut x, mut scratch) = (vec![0.0; n * inputs], Vec::new());
                for (row, x) in x.chunks_exact_mut(inputs).enumerate() {
                    self.input(features, tile * TILE + row, true, x, &mut scratch);
                }
                self.head.embed(&x, out);
            });
        out
    }
}
