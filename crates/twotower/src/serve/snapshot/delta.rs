//! Adds vectors written since the index was built.

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

/// A vector becomes visible when its transaction commits, but bears the time at which the
/// transaction began, seconds earlier. The vectors of a longer transaction are found when the
/// catalogue is read again, by the stamp of all vectors.
const OVERLAP: Duration = Duration::from_secs(30);

/// The index is built anew if there are more new vectors than one part in `REBUILD_SHARE` of it,
/// and more than `REBUILD_MIN`.
const REBUILD_SHARE: usize = 20;
const REBUILD_MIN: usize = 1000;

/// The outcome of looking for new vectors.
pub(super) enum Written {
    /// Nothing new.
    Nothing,
    /// So much that everything is to be read again, or vectors that cannot be added to the view.
    TooMuch,
    /// The model and its videos, including the new vectors.
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
    if model.index.delta_len() + more > (model.index.len() / REBUILD_SHARE).max(REBUILD_MIN) {
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

/// Adding has panicked, which is logged. It would panic again next time, so the index is built anew
/// instead.
fn beyond_adding() -> Written {
    tracing::error!(
        "new vectors cannot be added to the view that is held: everything is read again"
    );
    Written::TooMuch
}

/// New vectors, and vectors that differ from those of the view.
struct Changes {
    view: Arc<Snapshot>,
    index: Index,
    rows: Embeddings,
    /// Positions of videos whose vector has changed, and the rows of the new vectors.
    changed: Vec<(u32, usize)>,
    /// Videos that the view does not have, and their vectors.
    new: Vec<Uuid>,
    added: Embeddings,
}

impl Changes {
    /// The changes that the written vectors make to a view and its index.
    fn of((view, index): (Arc<Snapshot>, Index), ids: &[Uuid], rows: Embeddings) -> Self {
        let (mut changed, mut new) = (Vec::new(), Vec::new());
        let mut added = Embeddings::new(rows.dim());
        for (row, &id) in ids.iter().enumerate() {
            match view.videos.position(id) {
                Some(position) if index.vector(position) == rows.row(row) => {}
                Some(position) => changed.push((position, row)),
                None => {
                    new.push(id);
                    // A row of the store is a valid embedding, so this cannot fail.
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
