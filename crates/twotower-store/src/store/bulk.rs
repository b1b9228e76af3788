//! Whole tables out, and whole generations of vectors in.

use super::vectors::check_rows;
use super::{BULK_TIMEOUT, Engine, GRACE, Store, WHOLE_TIMEOUT, within};
use crate::{
    EmbeddingRow, SnapshotOptions, Source, SourceRead, SourceSink, StoreError, VectorTable,
};
use std::time::Duration;
use uuid::Uuid;

impl Store {
    /// Hands over the rows of a source as of one moment: the videos at once, likes and skips as they come, so that memory does not grow with
    /// their number. Users who were erased are left out. With `pseudonyms` numbers take the place of users' ids, in the order of the ids and the
    /// same for both engines; SQLite holds the ids of all users for that.
    ///
    /// # Errors
    /// [`StoreError`], also [`StoreError::Time`] for what no model can learn from; and what the sink says.
    pub async fn stream_source<S: SourceSink>(
        &self,
        source: &Source,
        options: SnapshotOptions,
        sink: &mut S,
    ) -> Result<SourceRead, S::Error> {
        let work = async {
            match &self.engine {
                Engine::Postgres(engine) => engine.stream_source(source, options, sink).await,
                Engine::Sqlite(engine) => engine.stream_source(source, options, sink).await,
            }
        };
        within(WHOLE_TIMEOUT, "stream_source", work).await
    }

    /// Ids of the videos of a source, in no order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn source_video_ids(&self, source: &Source) -> Result<Vec<Uuid>, StoreError> {
        call!(self, BULK_TIMEOUT, source_video_ids(source))
    }

    /// (id, fingerprint) of the vectors of `version` with ids from `from` on and below `until`, ascending by id.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn fingerprints_between(
        &self,
        table: VectorTable,
        version: i64,
        from: Uuid,
        until: Option<Uuid>,
    ) -> Result<Vec<(Uuid, i64)>, StoreError> {
        call!(
            self,
            BULK_TIMEOUT,
            fingerprints_between(table, version, from, until)
        )
    }

    /// As [`Store::write_embeddings`], faster where none of the ids, which are ascending, has a vector of `version` yet. Where one has after
    /// all, as when the answer to a first try was lost, it is replaced.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        rows: &[EmbeddingRow<'_>],
    ) -> Result<(), StoreError> {
        let Some(dim) = check_rows(table, rows)? else {
            return Ok(());
        };
        let inserted = call!(
            self,
            BULK_TIMEOUT,
            insert_embeddings(self.lease, table, version, dim, rows)
        )?;
        if inserted {
            return Ok(());
        }
        self.write_embeddings(table, version, rows).await
    }
}
