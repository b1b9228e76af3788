//! Bulk loading of vectors, by `COPY`.

use super::Postgres;
use super::erasure::{erased_among, keep_erasures_out};
use super::session::query_as;
use crate::store::BULK_TIMEOUT;
use crate::{EmbeddingRow, Lease, StoreError, VectorTable};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

/// A publisher that is suspended while it sends rows does not count as idle, and others wait for
/// the end of the statement. This limit leaves time for a slow disk and no more.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);

/// Header of `COPY … (FORMAT binary)`: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// SQLSTATE `feature_not_supported`: the answer to `COPY` into a table by a role to which policies
/// apply.
const NOT_SUPPORTED: &str = "0A000";

impl Postgres {
    pub(crate) async fn fingerprints_between(
        &self,
        table: VectorTable,
        version: i64,
        from: Uuid,
        until: Option<Uuid>,
    ) -> Result<Vec<(Uuid, i64)>, StoreError> {
        let mut session = self.begin_bulk().await?;
        let statement = match table {
            VectorTable::Videos => {
                "SELECT video_id, fingerprint FROM public.video_embeddings
                 WHERE model_version = $1 AND video_id >= $2 AND ($3::uuid IS NULL OR video_id < $3) ORDER BY video_id"
            }
            VectorTable::Users => {
                "SELECT user_id, fingerprint FROM public.user_embeddings
                 WHERE model_version = $1 AND user_id >= $2 AND ($3::uuid IS NULL OR user_id < $3) ORDER BY user_id"
            }
        };
        let fingerprints = query_as(statement)
            .bind(version)
            .bind(from)
            .bind(until)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        Ok(fingerprints)
    }

    /// Loads the rows in one transaction. Returns false and writes nothing if one of the rows
    /// exists already, or if the role may not use `COPY`.
    pub(crate) async fn insert_embeddings(
        &self,
        lease: Option<Lease>,
        table: VectorTable,
        version: i64,
        dim: usize,
        rows: &[EmbeddingRow<'_>],
    ) -> Result<bool, StoreError> {
        let patience = lease.map_or(BULK_TIMEOUT, |lease| lease.lifetime.max(LEAST_PATIENCE));
        let mut session = self.begin_publishing(lease, patience).await?;
        let mut erased = HashSet::new();
        // As in the statement that replaces vectors.
        if table == VectorTable::Users {
            keep_erasures_out(&mut session).await?;
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
            erased.extend(erased_among(&mut session, &ids).await?);
        }
        let statement = match table {
            VectorTable::Videos => {
                "COPY public.video_embeddings (video_id, model_version, embedding, fingerprint) FROM STDIN (FORMAT binary)"
            }
            VectorTable::Users => {
                "COPY public.user_embeddings (user_id, model_version, embedding, fingerprint) FROM STDIN (FORMAT binary)"
            }
        };
        let kept = rows.iter().filter(|row| !erased.contains(&row.id));
        let stream = encode(version, dim, kept);
        let copied = async {
            let mut copy = session.copy_in_raw(statement).await?;
            copy.send(stream).await?;
            copy.finish().await
        };
        match copied.await.map_err(StoreError::from) {
            Ok(_) => {
                session.commit().await?;
                Ok(true)
            }
            Err(error) if error.is_duplicate() || is_not_supported(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_not_supported(error: &StoreError) -> bool {
    matches!(error, StoreError::Database(source)
        if source.as_database_error().is_some_and(|error| error.code().as_deref() == Some(NOT_SUPPORTED)))
}

/// The rows as a `COPY` stream: id, version, vector, fingerprint.
fn encode<'a>(
    version: i64,
    dim: usize,
    rows: impl Iterator<Item = &'a EmbeddingRow<'a>>,
) -> Vec<u8> {
    let vector_bytes = 4 + 4 * dim;
    let mut stream = HEADER.to_vec();
    for row in rows {
        stream.extend(4_i16.to_be_bytes());
        stream.extend(16_i32.to_be_bytes());
        stream.extend(row.id.as_bytes());
        stream.extend(8_i32.to_be_bytes());
        stream.extend(version.to_be_bytes());
        // A vector is its dimension, two unused bytes, and its numbers.
        stream.extend((vector_bytes as i32).to_be_bytes());
        stream.extend((dim as i16).to_be_bytes());
        stream.extend([0; 2]);
        for number in row.vector {
            stream.extend(number.to_be_bytes());
        }
        stream.extend(8_i32.to_be_bytes());
        stream.extend(row.fingerprint.to_be_bytes());
    }
    stream.extend(TRAILER);
    stream
}
