//! Bulk reads of whole tables, and bulk writes of a version's vectors.

use super::vectors::check_rows;
use super::{BULK_TIMEOUT, Engine, GRACE, Store, WHOLE_TIMEOUT, within};
use crate::{
    EmbeddingRow, SnapshotOptions, Source, SourceRead, SourceSink, StoreError, VectorTable,
};
use std::time::Duration;
use uuid::Uuid;

impl Store {
    /// Streams the rows of a source as of one moment: all videos first, then likes and skips one by
    /// one, so that memory does not grow with their number. Erased users are left out. With
    /// `pseudonyms`, users' ids are replaced by numbers in the order of the ids, the same in both
    /// engines; SQLite holds the ids of all users for that.
    ///
    /// # Errors
    /// [`StoreError`], also [`StoreError::Time`] for times that no model can learn from; and errors
    /// of the sink.
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

    /// (id, fingerprint) of the vectors of `version` with ids from `from` up to but excluding
    /// `until`, ascending by id.
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

    /// Like [`Store::write_embeddings`], but faster if none of the ids, which are ascending, has a
    /// vector of `version` yet. Existing ones, as when the answer to a first try was lost, are
    /// replaced.
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
