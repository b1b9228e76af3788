//! Vectors that were written since the index was built.

use super::load::LoadError;
use super::videos::Videos;
use super::{Catalogue, LoadedModel};
use std::time::Duration;
use twotower_core::embedding::Embeddings;
use twotower_store::{Store, VectorTable};
use uuid::Uuid;

/// A vector is seen when its transaction has ended and bears the time at which that began: batches take seconds. What took longer is found
/// when the catalogue is read again, by the stamp of all vectors.
const OVERLAP: Duration = Duration::from_secs(30);

/// More of them than this share of the index, and more than a few, and it is to be built anew.
const MOST: usize = 20;
const FEW: usize = 1000;

/// What has been written since.
pub(super) enum Written {
    /// Nothing that is not known.
    Nothing,
    /// So much that everything is to be read again.
    TooMuch,
    /// The model and its videos with what has been written.
    Some(Box<(LoadedModel, Videos)>),
}

/// Looks for vectors written since `model` was read. `videos` are those of `model`.
pub(super) async fn written(
    store: &Store,
    model: &LoadedModel,
    videos: &Videos,
    catalogue: Catalogue,
) -> Result<Written, LoadError> {
    let since = model.read_at().before(OVERLAP);
    let dim = model.index.dim();
    let (ids, rows, read_at) = store
        .vectors_written_since(VectorTable::Videos, model.version, since, dim)
        .await?;
    let mut changed: Vec<(u32, &[f32])> = Vec::new();
    let (mut added, mut new) = (Embeddings::new(dim), Vec::<Uuid>::new());
    for (row, &id) in ids.iter().enumerate() {
        match videos.position(id) {
            Some(position) if model.index.vector(position) == rows.row(row) => {}
            Some(position) => changed.push((position, rows.row(row))),
            None => {
                new.push(id);
                // Read from the store, it is an embedding.
                let _ = added.push(rows.row(row));
            }
        }
    }
    let more = changed.len() + new.len();
    if more == 0 {
        model.read_until(read_at);
        return Ok(Written::Nothing);
    }
    if model.index.delta_len() + more > (model.index.len() / MOST).max(FEW) {
        return Ok(Written::TooMuch);
    }
    let mut facts = store.video_facts(&new).await?;
    let new: Vec<_> = new.into_iter().map(|id| (id, facts.remove(&id))).collect();
    let (videos, rows) = videos.with_added(&new, catalogue)?;
    let index = model.index.with_changes(&changed, &added, &rows)?;
    let model = model.with_index(index, read_at);
    Ok(Written::Some(Box::new((model, videos))))
}
