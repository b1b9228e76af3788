use super::erasure::erased_among;
use super::{Sqlite, json_numbers, now_us, packed};
use crate::store::check_vector;
use crate::{
    EmbeddingRow, IndexOutcome, IndexPlan, Lease, StoreError, StoreTime, VectorSummary, VectorTable,
};
use futures_util::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite as Database};
use twotower_core::embedding::{self, Embeddings};
use twotower_core::tower::UserTower;
use uuid::Uuid;

/// Number of vectors that one statement writes.
const CHUNK: usize = 5_000;

/// The statements for one table.
struct Statements {
    fingerprints: &'static str,
    /// The same for ids from a first one up to but excluding a second.
    between: &'static str,
    upsert: &'static str,
    delete: &'static str,
    read: &'static str,
    /// Reads vectors written since a time.
    since: &'static str,
    stamp: &'static str,
    count: &'static str,
    ages: &'static str,
    /// Reads the ids of vectors not written since a time.
    unwritten: &'static str,
}

macro_rules! statements {
    ($table:literal, $id:literal) => {
        Statements {
            fingerprints: concat!(
                "SELECT ", $id, ", fingerprint FROM ", $table, " WHERE model_version = ?1 ORDER BY ", $id
            ),
            between: concat!(
                "SELECT ", $id, ", fingerprint FROM ", $table, " WHERE model_version = ?1 AND ", $id, " >= ?2
                 AND (?3 IS NULL OR ", $id, " < ?3) ORDER BY ", $id
            ),
            upsert: concat!(
                "INSERT INTO ", $table, " (", $id, ", model_version, embedding, fingerprint, updated_at)
                 SELECT substr(?1, key * 16 + 1, 16), ?2, substr(?3, key * ?4 + 1, ?4), value, ?5 FROM json_each(?6) WHERE true
                 ON CONFLICT (model_version, ", $id, ") DO UPDATE SET
                     embedding = excluded.embedding, fingerprint = excluded.fingerprint, updated_at = excluded.updated_at"
            ),
            delete: concat!(
                "DELETE FROM ", $table, " WHERE model_version = ?1
                 AND ", $id, " IN (SELECT substr(?2, value * 16 + 1, 16) FROM json_each(?3))"
            ),
            read: concat!(
                "SELECT ", $id, ", embedding FROM ", $table, " WHERE model_version = ?1 ORDER BY ", $id
            ),
            since: concat!(
                "SELECT ", $id, ", embedding FROM ", $table, " WHERE model_version = ?1 AND updated_at >= ?2 ORDER BY ", $id
            ),
            // The lower 32 bits of the microseconds, so that the sum fits 64 bits.
            stamp: concat!(
                "SELECT count(*), coalesce(sum(updated_at & 4294967295), 0) FROM ", $table, " WHERE model_version = ?1"
            ),
            count: concat!(
                "SELECT model_version, count(*) FROM ", $table, " GROUP BY model_version ORDER BY model_version"
            ),
            ages: concat!(
                "SELECT model_version, count(*), ?1 - max(updated_at), ?1 - max(updated_at) FILTER (WHERE updated_at <= ?1) FROM ", $table, "
                 GROUP BY model_version ORDER BY model_version"
            ),
            unwritten: concat!(
                "SELECT ", $id, " FROM ", $table, " WHERE model_version = ?1 AND updated_at < ?2 ORDER BY ", $id
            ),
        }
    };
}

fn statements(table: VectorTable) -> &'static Statements {
    const VIDEOS: Statements = statements!("video_embeddings", "video_id");
    const USERS: Statements = statements!("user_embeddings", "user_id");
    match table {
        VectorTable::Videos => &VIDEOS,
        VectorTable::Users => &USERS,
    }
}

impl Sqlite {
    pub(crate) async fn read_fingerprints(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<Vec<(Uuid, i64)>, StoreError> {
        Ok(sqlx::query_as(statements(table).fingerprints)
            .bind(version)
            .fetch_all(&self.pool)
            .await?)
    }

    pub(crate) async fn fingerprints_between(
        &self,
        table: VectorTable,
        version: i64,
        from: Uuid,
        until: Option<Uuid>,
    ) -> Result<Vec<(Uuid, i64)>, StoreError> {
        Ok(sqlx::query_as(statements(table).between)
            .bind(version)
            .bind(from)
            .bind(until)
            .fetch_all(&self.pool)
            .await?)
    }

    pub(crate) async fn write_embeddings(
        &self,
        lease: Option<Lease>,
        table: VectorTable,
        version: i64,
        dim: usize,
        rows: &[EmbeddingRow<'_>],
    ) -> Result<(), StoreError> {
        let now = now_us();
        let mut transaction = self.publish(lease).await?;
        let mut rows = rows.to_vec();
        // A vector computed from an older snapshot must not bring an erased user back. There is
        // only one writer at a time.
        if table == VectorTable::Users {
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
            let erased = erased_among(&mut transaction, &ids).await?;
            rows.retain(|row| !erased.contains(&row.id));
        }
        for chunk in rows.chunks(CHUNK) {
            let vectors: Vec<u8> = chunk
                .iter()
                .flat_map(|row| row.vector)
                .flat_map(|x| x.to_le_bytes())
                .collect();
            sqlx::query(statements(table).upsert)
                .bind(packed(chunk.iter().map(|row| row.id)))
                .bind(version)
                .bind(vectors)
                .bind((4 * dim) as i64)
                .bind(now)
                .bind(json_numbers(chunk.iter().map(|row| row.fingerprint)))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn delete_embeddings(
        &self,
        lease: Option<Lease>,
        table: VectorTable,
        version: i64,
        ids: &[Uuid],
    ) -> Result<u64, StoreError> {
        let mut transaction = self.publish(lease).await?;
        let mut deleted = 0;
        for chunk in ids.chunks(super::CHUNK) {
            deleted += sqlx::query(statements(table).delete)
                .bind(version)
                .bind(packed(chunk.iter().copied()))
                .bind(json_numbers(0..chunk.len() as i64))
                .execute(&mut *transaction)
                .await?
                .rows_affected();
        }
        transaction.commit().await?;
        Ok(deleted)
    }

    pub(crate) async fn read_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<(Vec<Uuid>, Embeddings), StoreError> {
        let rows = sqlx::query(statements(table).read).bind(version);
        self.vectors(table, dim, rows).await
    }

    pub(crate) async fn vectors_written_since(
        &self,
        table: VectorTable,
        version: i64,
        since: StoreTime,
        dim: usize,
    ) -> Result<(Vec<Uuid>, Embeddings, StoreTime), StoreError> {
        let now = StoreTime::from_us(now_us());
        let rows = sqlx::query(statements(table).since)
            .bind(version)
            .bind(since.us());
        let (ids, embeddings) = self.vectors(table, dim, rows).await?;
        Ok((ids, embeddings, now))
    }

    /// Decodes (id, vector) of each row.
    async fn vectors(
        &self,
        table: VectorTable,
        dim: usize,
        statement: Query<'static, Database, SqliteArguments>,
    ) -> Result<(Vec<Uuid>, Embeddings), StoreError> {
        let mut ids = Vec::new();
        let mut embeddings = Embeddings::new(dim);
        let mut vector = Vec::with_capacity(dim);
        let mut rows = statement.fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            let (numbers, _) = row.try_get::<&[u8], _>(1)?.as_chunks::<4>();
            vector.clear();
            vector.extend(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            check_vector(&vector, dim)
                .and_then(|()| embeddings.push(&vector))
                .map_err(|cause| StoreError::Vector {
                    table: table.table(),
                    row: ids.len(),
                    cause,
                })?;
            ids.push(row.try_get(0)?);
        }
        Ok((ids, embeddings))
    }

    pub(crate) async fn vectors_stamp(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<(i64, i64), StoreError> {
        Ok(sqlx::query_as(statements(table).stamp)
            .bind(version)
            .fetch_one(&self.pool)
            .await?)
    }

    pub(crate) async fn count_vectors(
        &self,
        table: VectorTable,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        Ok(sqlx::query_as(statements(table).count)
            .fetch_all(&self.pool)
            .await?)
    }

    pub(crate) async fn vector_ages(
        &self,
        table: VectorTable,
    ) -> Result<Vec<(i64, i64, i64, Option<i64>)>, StoreError> {
        Ok(sqlx::query_as(statements(table).ages)
            .bind(now_us())
            .fetch_all(&self.pool)
            .await?)
    }

    pub(crate) async fn unwritten_vectors(
        &self,
        table: VectorTable,
        version: i64,
        age_us: i64,
    ) -> Result<Vec<Uuid>, StoreError> {
        Ok(sqlx::query_scalar(statements(table).unwritten)
            .bind(version)
            .bind(now_us() - age_us)
            .fetch_all(&self.pool)
            .await?)
    }

    pub(crate) async fn summarize_vectors(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<VectorSummary, StoreError> {
        let mut summary = VectorSummary::default();
        let mut vector = Vec::with_capacity(dim);
        let mut rows = sqlx::query(statements(table).read)
            .bind(version)
            .fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            let (numbers, _) = row.try_get::<&[u8], _>(1)?.as_chunks::<4>();
            let numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes));
            vector.clear();
            vector.extend(numbers);
            let norm = embedding::norm(&vector);
            summary.rows += 1;
            summary.wrong_dimension += u64::from(vector.len() != dim);
            summary.not_finite += u64::from(!norm.is_finite());
            summary.wrong_norm += u64::from(norm.is_finite() && !embedding::is_unit(norm));
        }
        Ok(summary)
    }

    /// A statement takes thousands of rows here whether they exist or not, so there is no faster
    /// bulk path.
    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn insert_embeddings(
        &self,
        _lease: Option<Lease>,
        _table: VectorTable,
        _version: i64,
        _dim: usize,
        _rows: &[EmbeddingRow<'_>],
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Retrieval is in our own process; SQLite has no vector index.
    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn drop_vector_index(
        &self,
        _lease: Option<Lease>,
        _version: i64,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// See [`Sqlite::drop_vector_index`]: there are no recommendations in SQL here.
    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn write_user_tower(
        &self,
        _lease: Option<Lease>,
        _version: i64,
        _tower: &UserTower,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// See [`Sqlite::drop_vector_index`].
    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn build_vector_index(
        &self,
        _lease: Option<Lease>,
        _plan: &IndexPlan,
    ) -> Result<IndexOutcome, StoreError> {
        Ok(IndexOutcome::None)
    }
}
