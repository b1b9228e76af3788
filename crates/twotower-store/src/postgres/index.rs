//! The HNSW index of a version's video vectors.

use super::Postgres;
use super::session::{query, query_scalar};
use crate::lease::Lease;
use crate::maintenance::{LEAST_MB, hnsw_build_mb};
use crate::store::{self, BULK_TIMEOUT};
use crate::{IndexOutcome, IndexPlan, StoreError};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

impl Postgres {
    /// Builds the index concurrently if the role owns the table, so that writers of other versions
    /// are not blocked; else by a function that runs as the owner. The remains of a killed build
    /// are invalid: they are dropped first.
    pub(crate) async fn build_vector_index(
        &self,
        lease: Option<Lease>,
        plan: &IndexPlan,
    ) -> Result<IndexOutcome, StoreError> {
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        let owner: bool = query_scalar(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'public.video_embeddings'::regclass",
        )
        .fetch_one(&mut *session)
        .await?;
        let valid: Option<bool> = query_scalar(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('public.video_embeddings_hnsw_' || $1::bigint)",
        )
        .bind(plan.version)
        .fetch_optional(&mut *session)
        .await?;
        let (drop, create): (String, String) = super::session::query_as(
            "SELECT format('DROP INDEX CONCURRENTLY IF EXISTS public.%I', name),
                    format('CREATE INDEX CONCURRENTLY %1$I ON public.video_embeddings
                            USING hnsw ((embedding::%2$I.vector(%3$s)) %2$I.vector_ip_ops) WHERE model_version = %4$s',
                           name, nspname, $2::bigint, $1::bigint)
             FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace,
                  (SELECT 'video_embeddings_hnsw_' || $1::bigint AS name) AS index
             WHERE extname = 'vector'",
        )
        .bind(plan.version)
        .bind(plan.dim as i64)
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        if valid == Some(true) {
            return Ok(IndexOutcome::Present);
        }
        let memory_mb = hnsw_build_mb(plan.rows, plan.dim, plan.memory_cap_mb);
        let mut connection = self.connect_to_build(memory_mb).await?;
        if owner {
            // Only numbers, and names that the server has quoted.
            if valid == Some(false) {
                still_publishing(&mut connection, lease).await?;
                sqlx::raw_sql(AssertSqlSafe(drop))
                    .execute(&mut connection)
                    .await?;
            }
            still_publishing(&mut connection, lease).await?;
            sqlx::raw_sql(AssertSqlSafe(create))
                .execute(&mut connection)
                .await?;
        } else {
            // Only a table's owner can create an index on it. The function runs as the owner.
            still_publishing(&mut connection, lease).await?;
            query("SELECT twotower.build_vector_index($1)")
                .bind(plan.version)
                .execute(&mut connection)
                .await?;
        }
        let memory = sqlx::query_scalar("SELECT current_setting('maintenance_work_mem')")
            .persistent(false)
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(IndexOutcome::Built { memory })
    }

    /// Drops the index concurrently, so that readers are not blocked. Returns whether it existed.
    pub(crate) async fn drop_vector_index(
        &self,
        lease: Option<Lease>,
        version: i64,
    ) -> Result<bool, StoreError> {
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        let drop: Option<String> = query_scalar(
            "SELECT format('DROP INDEX CONCURRENTLY IF EXISTS %s', index::regclass)
             FROM (SELECT to_regclass('public.video_embeddings_hnsw_' || $1::bigint) AS index) AS _ WHERE index IS NOT NULL",
        )
        .bind(version)
        .fetch_optional(&mut *session)
        .await?;
        session.commit().await?;
        let Some(drop) = drop else {
            return Ok(false);
        };
        let mut connection = self.connect_to_build(LEAST_MB).await?;
        still_publishing(&mut connection, lease).await?;
        // The server has quoted the name.
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(true)
    }

    /// A separate connection. Concurrent builds run outside a transaction, where `SET LOCAL` has no
    /// effect, and a plain `SET` would persist in a pooled connection. A pooler, or a server that
    /// does not know one of them, may refuse these settings; the server's own apply then.
    async fn connect_to_build(&self, memory_mb: u64) -> Result<PgConnection, StoreError> {
        let plain = self.pool.connect_options();
        let sized = (*plain).clone().options([
            ("maintenance_work_mem", format!("{memory_mb}MB")),
            ("statement_timeout", BULK_TIMEOUT.as_millis().to_string()),
            // An index whose builder was killed is useless, and the next builder would wait for it.
            ("client_connection_check_interval", "5s".into()),
        ]);
        match PgConnection::connect_with(&sized).await {
            Err(sqlx::Error::Database(error)) if !is_for_now(error.code().as_deref()) => {
                tracing::warn!(
                    "an index is built or dropped with maintenance_work_mem and statement_timeout as the server has them, since it does not \
                     get the settings of a connection, as behind a pooler in transaction mode: {}",
                    error.message()
                );
                Ok(PgConnection::connect_with(&plain).await?)
            }
            connection => Ok(connection?),
        }
    }
}

/// Whether a server refused a connection for want of room (class 53) or because it starts or ends
/// (class 57), which says nothing about the settings of the connection.
fn is_for_now(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("53") || code.starts_with("57"))
}

/// Fails if another process has taken the lease over. Concurrent builds and drops run outside a
/// transaction, which therefore cannot hold the lease. A process that was suspended since its last
/// check would drop or build an index of the next publisher.
async fn still_publishing(
    connection: &mut PgConnection,
    lease: Option<Lease>,
) -> Result<(), StoreError> {
    let Some(lease) = lease else {
        return Ok(());
    };
    let found = query("SELECT FROM twotower.publisher WHERE fence = $1")
        .bind(lease.fence)
        .fetch_all(connection)
        .await?;
    store::still_ours(found.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_room_is_not_taken_for_a_pooler() {
        for code in ["53300", "57P03"] {
            assert!(is_for_now(Some(code)), "{code}");
        }
        for code in [Some("08P01"), Some("22023"), Some("42704"), None] {
            assert!(!is_for_now(code), "{code:?}");
        }
    }
}
