use super::erasure::{keep_erasures_out, was_erased};
use super::session::{query, query_as, query_scalar};
use super::{Postgres, Session, time};
use crate::store::{BULK_TIMEOUT, check_vector};
use crate::{EmbeddingRow, Lease, StoreError, StoreTime, VectorSummary, VectorTable};
use futures_util::TryStreamExt;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Row};
use twotower_core::embedding::{Embeddings, NORM_TOLERANCE};
use uuid::Uuid;

/// Numbers that one statement writes: a few megabytes.
const CHUNK_NUMBERS: usize = 500_000;

/// The statements for one table. None names the type `vector`, which may be in any schema: casts do
/// not need its name.
struct Statements {
    fingerprints: &'static str,
    upsert: &'static str,
    delete: &'static str,
    read: &'static str,
    /// Reads vectors written since a time, in microseconds after 1970.
    since: &'static str,
    stamp: &'static str,
    count: &'static str,
    ages: &'static str,
    /// Reads the ids of vectors not written for a number of microseconds.
    unwritten: &'static str,
    /// Counts faulty vectors: of another dimension than `$2`, not finite, or of a norm further than
    /// `$3` from 1.
    summarize: &'static str,
}

macro_rules! statements {
    ($table:literal, $id:literal, $kept:expr) => {
        Statements {
            fingerprints: concat!(
                "SELECT ", $id, ", fingerprint FROM public.", $table, " WHERE model_version = $1 ORDER BY ", $id
            ),
            upsert: concat!(
                "INSERT INTO public.", $table, " (", $id, ", model_version, embedding, fingerprint)
                 SELECT id, $2, ($3::real[])[(n - 1) * $4 + 1 : n * $4], fingerprint
                 FROM unnest($1::uuid[], $5::bigint[]) WITH ORDINALITY AS new (id, fingerprint, n)
                 WHERE ", $kept, "
                 ON CONFLICT (", $id, ", model_version) DO UPDATE SET
                     embedding = excluded.embedding, fingerprint = excluded.fingerprint, updated_at = now()"
            ),
            delete: concat!(
                "DELETE FROM public.", $table, " WHERE model_version = $1 AND ", $id, " = ANY ($2)"
            ),
            read: concat!(
                "SELECT ", $id, ", embedding::real[] FROM public.", $table, " WHERE model_version = $1 ORDER BY ", $id
            ),
            since: concat!(
                "SELECT ", $id, ", embedding::real[] FROM public.", $table, " WHERE model_version = $1
                 AND updated_at >= timestamptz 'epoch' + $2 * interval '1 microsecond' ORDER BY ", $id
            ),
            // The lower 32 bits of the microseconds, so that the sum fits 64 bits.
            stamp: concat!(
                "SELECT count(*), coalesce(sum((extract(epoch FROM updated_at) * 1000000)::bigint & 4294967295), 0)::bigint
                 FROM public.", $table, " WHERE model_version = $1"
            ),
            count: concat!(
                "SELECT model_version, count(*) FROM public.", $table, " GROUP BY model_version ORDER BY model_version"
            ),
            ages: concat!(
                "SELECT model_version, count(*), (extract(epoch FROM now() - max(updated_at)) * 1000000)::bigint,
                        (extract(epoch FROM now() - max(updated_at) FILTER (WHERE updated_at <= now())) * 1000000)::bigint
                 FROM public.", $table, " GROUP BY model_version ORDER BY model_version"
            ),
            unwritten: concat!(
                "SELECT ", $id, " FROM public.", $table, " WHERE model_version = $1
                 AND updated_at < now() - $2 * interval '1 microsecond' ORDER BY ", $id
            ),
            // NaN sorts above infinity.
            summarize: concat!(
                "SELECT format(
                     'SELECT count(*), count(*) FILTER (WHERE dims <> $2), count(*) FILTER (WHERE norm >= ''Infinity''),
                             count(*) FILTER (WHERE norm < ''Infinity'' AND abs(norm - 1) > $3)
                      FROM (SELECT %1$I.vector_dims(embedding) AS dims, %1$I.vector_norm(embedding) AS norm
                            FROM public.", $table, " WHERE model_version = $1) AS vectors', nspname)
                 FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
            ),
        }
    };
}

fn statements(table: VectorTable) -> &'static Statements {
    const VIDEOS: Statements = statements!("video_embeddings", "video_id", "true");
    const USERS: Statements = statements!(
        "user_embeddings",
        "user_id",
        concat!("NOT ", was_erased!("id"))
    );
    match table {
        VectorTable::Videos => &VIDEOS,
        VectorTable::Users => &USERS,
    }
}

impl Postgres {
    pub(crate) async fn read_fingerprints(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<Vec<(Uuid, i64)>, StoreError> {
        let mut session = self.begin_bulk().await?;
        let fingerprints = query_as(statements(table).fingerprints)
            .bind(version)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        Ok(fingerprints)
    }

    pub(crate) async fn write_embeddings(
        &self,
        lease: Option<Lease>,
        table: VectorTable,
        version: i64,
        dim: usize,
        rows: &[EmbeddingRow<'_>],
    ) -> Result<(), StoreError> {
        let mut session = self.begin_publishing(lease, BULK_TIMEOUT).await?;
        // A vector computed from an older snapshot must not bring an erased user back. Either this
        // transaction ends before the erasure, which then deletes the vector, or the statements
        // below see the tombstone.
        if table == VectorTable::Users {
            keep_erasures_out(&mut session).await?;
        }
        for chunk in rows.chunks(CHUNK_NUMBERS / dim + 1) {
            let numbers: Vec<f32> = chunk.iter().flat_map(|row| row.vector).copied().collect();
            query(statements(table).upsert)
                .bind(chunk.iter().map(|row| row.id).collect::<Vec<_>>())
                .bind(version)
                .bind(numbers)
                .bind(dim as i64)
                .bind(chunk.iter().map(|row| row.fingerprint).collect::<Vec<_>>())
                .execute(&mut *session)
                .await?;
        }
        session.commit().await
    }

    pub(crate) async fn delete_embeddings(
        &self,
        lease: Option<Lease>,
        table: VectorTable,
        version: i64,
        ids: &[Uuid],
    ) -> Result<u64, StoreError> {
        let mut session = self.begin_publishing(lease, BULK_TIMEOUT).await?;
        let done = query(statements(table).delete)
            .bind(version)
            .bind(ids)
            .execute(&mut *session)
            .await?;
        session.commit().await?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn read_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<(Vec<Uuid>, Embeddings), StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let rows = query(statements(table).read).bind(version);
        let vectors = vectors(&mut session, table, dim, rows).await?;
        session.commit().await?;
        Ok(vectors)
    }

    pub(crate) async fn vectors_written_since(
        &self,
        table: VectorTable,
        version: i64,
        since: StoreTime,
        dim: usize,
    ) -> Result<(Vec<Uuid>, Embeddings, StoreTime), StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let now = time(&mut session).await?;
        let rows = query(statements(table).since)
            .bind(version)
            .bind(since.us());
        let (ids, embeddings) = vectors(&mut session, table, dim, rows).await?;
        session.commit().await?;
        Ok((ids, embeddings, now))
    }

    pub(crate) async fn vectors_stamp(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<(i64, i64), StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let stamp = query_as(statements(table).stamp)
            .bind(version)
            .fetch_one(&mut *session)
            .await?;
        session.commit().await?;
        Ok(stamp)
    }

    pub(crate) async fn count_vectors(
        &self,
        table: VectorTable,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let counts = query_as(statements(table).count)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        Ok(counts)
    }

    pub(crate) async fn vector_ages(
        &self,
        table: VectorTable,
    ) -> Result<Vec<(i64, i64, i64, Option<i64>)>, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let ages = query_as(statements(table).ages)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        Ok(ages)
    }

    pub(crate) async fn unwritten_vectors(
        &self,
        table: VectorTable,
        version: i64,
        age_us: i64,
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let ids = query_scalar(statements(table).unwritten)
            .bind(version)
            .bind(age_us)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        Ok(ids)
    }

    pub(crate) async fn summarize_vectors(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<VectorSummary, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let statement: String = query_scalar(statements(table).summarize)
            .fetch_one(&mut *session)
            .await?;
        // Its functions are in pgvector's schema, whose name the server has quoted.
        let counts: (i64, i64, i64, i64) = sqlx::query_as(AssertSqlSafe(statement))
            .persistent(false)
            .bind(version)
            .bind(dim as i32)
            .bind(NORM_TOLERANCE)
            .fetch_one(&mut *session)
            .await?;
        session.commit().await?;
        let (rows, wrong_dimension, not_finite, wrong_norm) = counts;
        Ok(VectorSummary {
            rows: rows as u64,
            wrong_dimension: wrong_dimension as u64,
            not_finite: not_finite as u64,
            wrong_norm: wrong_norm as u64,
        })
    }
}

/// Decodes (id, vector) of each row.
async fn vectors(
    session: &mut Session,
    table: VectorTable,
    dim: usize,
    statement: Query<'static, sqlx::Postgres, PgArguments>,
) -> Result<(Vec<Uuid>, Embeddings), StoreError> {
    let mut ids = Vec::new();
    let mut embeddings = Embeddings::new(dim);
    let mut rows = statement.fetch(&mut **session);
    while let Some(row) = rows.try_next().await? {
        let vector: Vec<f32> = row.try_get(1)?;
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
