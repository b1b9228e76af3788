//! Initial weights.

use crate::model::Model;
use crate::tower::Head;
use rand::RngExt;
use rand_pcg::Pcg64Mcg;

/// Initialises a model of zeros. Both towers start as averages: the residual path of the item tower
/// adds id and content, that of the user tower takes the mean over all scales of likes. The hidden
/// layers start from random weights.
pub(super) fn initialise(model: &mut Model, random: &mut Pcg64Mcg) {
    let dim = model.hyperparameters.embedding_dim;
    let table = (3.0 / dim as f32).sqrt();
    let (ids, terms) = (
        &mut model.item_tower.id_table,
        &mut model.item_tower.term_table,
    );
    let known = &mut ids.as_mut_slice()[dim..];
    known.fill_with(|| random.random_range(-table..table));
    terms
        .as_mut_slice()
        .fill_with(|| random.random_range(-table..table));
    let likes = model.user_tower.decays.len();
    initialise_head(&mut model.item_tower.head, 2, 1.0, random);
    initialise_head(
        &mut model.user_tower.head,
        likes,
        1.0 / likes as f32,
        random,
    );
}

/// Glorot-uniform layers (Glorot & Bengio 2010); the residual is `gain` times the identity for each
/// of the first `blocks` blocks of inputs.
fn initialise_head(head: &mut Head, blocks: usize, gain: f32, random: &mut Pcg64Mcg) {
    for layer in [&mut head.hidden, &mut head.output] {
        let limit = (6.0 / (layer.weight.rows() + layer.weight.cols()) as f32).sqrt();
        layer
            .weight
            .as_mut_slice()
            .fill_with(|| random.random_range(-limit..limit));
    }
    let dim = head.residual.cols();
    for row in 0..blocks * dim {
        head.residual.row_mut(row)[row % dim] = gain;
    }
}
