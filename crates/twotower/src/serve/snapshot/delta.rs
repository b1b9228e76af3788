//! Vectors that were written since the index was built.

use super::load::LoadError;
use super::videos::Videos;
use super::{Catalogue, LoadedModel, Snapshot, background};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use twotower_core::embedding::Embeddings;
use twotower_core::index::Index;
use twotower_store::{Store, VectorTable, VideoFacts};
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
    /// So much that everything is to be read again, or what cannot be added to what is held.
    TooMuch,
    /// The model and its videos with what has been written.
    Some(Box<(LoadedModel, Videos)>),
}

/// Looks for vectors written since the model of `held` was read.
pub(super) async fn written(
    store: &Store,
    held: &Arc<Snapshot>,
    catalogue: Catalogue,
) -> Result<Written, LoadError> {
    let Some(model) = &held.model else {
        return Ok(Written::Nothing);
    };
    let since = model.read_at().before(OVERLAP);
    let dim = model.index.dim();
    let (ids, rows, read_at) = store
        .vectors_written_since(VectorTable::Videos, model.version, since, dim)
        .await
        .map_err(LoadError::of_vectors(model.version))?;
    let view = (Arc::clone(held), model.index.clone());
    let Ok(changes) = background::run(move || Changes::of(view, &ids, rows)).await else {
        return Ok(beyond_adding());
    };
    let more = changes.changed.len() + changes.new.len();
    if more == 0 {
        model.read_until(read_at);
        return Ok(Written::Nothing);
    }
    if model.index.delta_len() + more > (model.index.len() / MOST).max(FEW) {
        return Ok(Written::TooMuch);
    }
    let facts = store.video_facts(&changes.new).await?;
    let applied = background::run(move || changes.applied(facts, catalogue)).await;
    let Ok(applied) = applied else {
        return Ok(beyond_adding());
    };
    let (index, videos) = applied?;
    let model = model.with_index(index, read_at);
    Ok(Written::Some(Box::new((model, videos))))
}

/// Adding has panicked and told of itself: what it would stumble over again next time is built anew instead.
fn beyond_adding() -> Written {
    tracing::error!(
        "new vectors cannot be added to the view that is held: everything is read again"
    );
    Written::TooMuch
}

/// Vectors that a view does not have, or has otherwise.
struct Changes {
    view: Arc<Snapshot>,
    index: Index,
    rows: Embeddings,
    /// Positions of videos with another vector now, and the rows of those.
    changed: Vec<(u32, usize)>,
    /// Videos that the view does not know, and their vectors.
    new: Vec<Uuid>,
    added: Embeddings,
}

impl Changes {
    /// Of a view and its index, with the vectors that were written.
    fn of((view, index): (Arc<Snapshot>, Index), ids: &[Uuid], rows: Embeddings) -> Self {
        let (mut changed, mut new) = (Vec::new(), Vec::new());
        let mut added = Embeddings::new(rows.dim());
        for (row, &id) in ids.iter().enumerate() {
            match view.videos.position(id) {
                Some(position) if index.vector(position) == rows.row(row) => {}
                Some(position) => changed.push((position, row)),
                None => {
                    new.push(id);
                    // Read from the store, it is an embedding.
                    let _ = added.push(rows.row(row));
                }
            }
        }
        Self {
            view,
            index,
            rows,
            changed,
            new,
            added,
        }
    }

    /// Index and videos with these changes; `facts` are those of the new videos.
    fn applied(
        self,
        mut facts: HashMap<Uuid, VideoFacts>,
        catalogue: Catalogue,
    ) -> Result<(Index, Videos), LoadError> {
        let new = self.new.into_iter().map(|id| (id, facts.remove(&id)));
        let new: Vec<_> = new.collect();
        let (videos, attributes) = self.view.videos.with_added(&new, catalogue)?;
        let changed = self.changed.iter();
        let changed: Vec<_> = changed
            .map(|&(position, row)| (position, self.rows.row(row)))
            .collect();
        let index = self
            .index
            .with_changes(&changed, &self.added, &attributes)?;
        Ok((index, videos))
    }
}
