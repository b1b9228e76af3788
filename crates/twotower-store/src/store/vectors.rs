//! Vectors of a version, and data derived from them for searches in SQL.

use super::{BULK_TIMEOUT, Engine, GRACE, Store};
use crate::{
    EmbeddingRow, IndexOutcome, IndexPlan, StoreError, VectorAge, VectorSummary, VectorTable,
};
use std::time::Duration;
use twotower_core::embedding::{self, EmbeddingError, Embeddings};
use twotower_core::tower::UserTower;
use uuid::Uuid;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// (id, fingerprint) of every vector of `version`, ascending by id.
    pub async fn read_fingerprints(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<Vec<(Uuid, i64)>, StoreError> {
        call!(self, BULK_TIMEOUT, read_fingerprints(table, version))
    }

    /// Upserts vectors of `version`, in one transaction per call. Those of erased users are left
    /// out. An invalid embedding is refused before anything is written.
    pub async fn write_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        rows: &[EmbeddingRow<'_>],
    ) -> Result<(), StoreError> {
        let Some(dim) = check_rows(table, rows)? else {
            return Ok(());
        };
        // Of two with one id the last counts. Sorted, so that two writers cannot deadlock.
        let mut rows = rows.to_vec();
        rows.reverse();
        rows.sort_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        call!(
            self,
            BULK_TIMEOUT,
            write_embeddings(self.lease, table, version, dim, &rows)
        )
    }

    /// Writes the user tower of `version`, with which SQL computes users' vectors, replacing an
    /// existing one; `prune_model` removes it. Returns false where it is of no use: in SQLite, and
    /// if a layer has more inputs than the 16,000 of pgvector's vectors.
    pub async fn write_user_tower(
        &self,
        version: i64,
        tower: &UserTower,
    ) -> Result<bool, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            write_user_tower(self.lease, version, tower)
        )
    }

    /// Deletes the vectors of `ids` in `version`; returns how many existed.
    pub async fn delete_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        ids: &[Uuid],
    ) -> Result<u64, StoreError> {
        call!(
            self,
            BULK_TIMEOUT,
            delete_embeddings(self.lease, table, version, ids)
        )
    }

    /// All vectors of `version`, ascending by id. A vector of another dimension than `dim` is an
    /// error.
    pub async fn read_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<(Vec<Uuid>, Embeddings), StoreError> {
        call!(self, BULK_TIMEOUT, read_embeddings(table, version, dim))
    }

    /// Number of vectors of each version with any, ascending by version.
    pub async fn count_vectors(&self, table: VectorTable) -> Result<Vec<(i64, u64)>, StoreError> {
        let counts: Vec<(i64, i64)> = call!(self, BULK_TIMEOUT, count_vectors(table))?;
        Ok(counts
            .into_iter()
            .map(|(version, rows)| (version, rows as u64))
            .collect())
    }

    /// Number and age of the vectors of each version with any, ascending by version.
    pub async fn vector_ages(&self, table: VectorTable) -> Result<Vec<VectorAge>, StoreError> {
        let ages: Vec<(i64, i64, i64, Option<i64>)> =
            call!(self, BULK_TIMEOUT, vector_ages(table))?;
        let age = |(version, rows, age_us, past_us): (i64, i64, i64, Option<i64>)| VectorAge {
            version,
            rows: rows as u64,
            // Future times, left by a clock that was set back, count as age zero.
            age: Duration::from_micros(age_us.max(0) as u64),
            known_age: past_us.map(|us| Duration::from_micros(us.max(0) as u64)),
        };
        Ok(ages.into_iter().map(age).collect())
    }

    /// Ids of the vectors of `version` that were not written for at least `age`, ascending.
    pub async fn unwritten_vectors(
        &self,
        table: VectorTable,
        version: i64,
        age: Duration,
    ) -> Result<Vec<Uuid>, StoreError> {
        let age_us = age.as_micros() as i64;
        call!(
            self,
            BULK_TIMEOUT,
            unwritten_vectors(table, version, age_us)
        )
    }

    /// Counts the vectors of `version`, and the faulty ones for a model of dimension `dim`.
    pub async fn summarize_vectors(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<VectorSummary, StoreError> {
        call!(self, BULK_TIMEOUT, summarize_vectors(table, version, dim))
    }

    /// Builds the HNSW index of a version's video vectors for searches in SQL, unless it exists.
    /// SQLite has none.
    pub async fn build_vector_index(&self, plan: &IndexPlan) -> Result<IndexOutcome, StoreError> {
        call!(self, BULK_TIMEOUT, build_vector_index(self.lease, plan))
    }

    /// Drops the HNSW index of a version's video vectors; returns whether it existed.
    pub async fn drop_vector_index(&self, version: i64) -> Result<bool, StoreError> {
        call!(self, BULK_TIMEOUT, drop_vector_index(self.lease, version))
    }

    /// Counts the likes of each video and averages the vectors of each version for
    /// `recommend_videos`, the SQL function for recommendations. Does nothing in SQLite, which has
    /// no such function.
    pub async fn refresh_statistics(&self) -> Result<(), StoreError> {
        call!(self, BULK_TIMEOUT, refresh_statistics())
    }
}

/// Refuses a vector that is no embedding of dimension `dim`.
pub(crate) fn check_vector(vector: &[f32], dim: usize) -> Result<(), EmbeddingError> {
    if vector.len() == dim {
        embedding::check(vector)
    } else {
        Err(EmbeddingError::Dimension {
            expected: dim,
            actual: vector.len(),
        })
    }
}

/// The dimension of the vectors of `rows`; `None` without any.
pub(super) fn check_rows(
    table: VectorTable,
    rows: &[EmbeddingRow<'_>],
) -> Result<Option<usize>, StoreError> {
    let dim = rows.first().map(|row| row.vector.len());
    for (row, embedding) in rows.iter().enumerate() {
        let dim = dim.unwrap_or_default();
        check_vector(embedding.vector, dim).map_err(|cause| StoreError::Vector {
            table: table.table(),
            row,
            cause,
        })?;
    }
    Ok(dim)
}
