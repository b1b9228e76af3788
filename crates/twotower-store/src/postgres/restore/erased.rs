//! Deletes or counts rows of erased users in a database that a backup was restored into.
//!
//! The database can know of fewer erasures than the backup, for example if it comes from an older
//! dump.

use super::Restoration;
use crate::backup::BackupError;
use crate::postgres::erasure::was_erased;
use crate::postgres::ids::{IdType, described};
use crate::postgres::session::{query, query_scalar};
use crate::postgres::snapshot::interactions;
use crate::postgres::{Postgres, Session};
use crate::snapshot::tidy;
use crate::store::BULK_TIMEOUT;
use crate::{InteractionKind, Source, StoreError};
use sqlx::AssertSqlSafe;

/// Deletes a table's rows of erased users. Each user is hashed once.
macro_rules! delete_erased {
    ($table:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE user_id IN (
                 SELECT user_id FROM (SELECT DISTINCT user_id FROM ",
            $table,
            ") AS users
                 WHERE ",
            was_erased!("users.user_id"),
            "
             )"
        )
    };
}

const DELETIONS: [&str; 4] = [
    delete_erased!("twotower.events"),
    delete_erased!("public.recommendation_blocks"),
    delete_erased!("public.recommendation_cache"),
    delete_erased!("public.user_embeddings"),
];

const ANY_TOMBSTONE: &str = "SELECT EXISTS (SELECT FROM twotower.tombstones)";

/// The deletion of likes or skips waits for a row that others hold locked for at most this long.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '3s'";

/// Text that PostgreSQL accepts as a UUID.
const UUID_TEXT: &str = "^(([0-9a-f]{4}-?){7}[0-9a-f]{4}|[{]([0-9a-f]{4}-?){7}[0-9a-f]{4}[}])$";

impl Restoration<'_> {
    /// Deletes rows of erased users from our tables other than likes and skips. Requires the
    /// complete tombstones.
    pub(super) async fn delete_erased(&mut self) -> Result<(), BackupError> {
        self.restored.erased_deleted += delete_erased(&mut self.session).await?;
        Ok(())
    }
}

async fn delete_erased(session: &mut Session) -> Result<u64, StoreError> {
    let mut rows = 0;
    let any: bool = query_scalar(ANY_TOMBSTONE)
        .fetch_one(&mut **session)
        .await?;
    if any {
        for statement in DELETIONS {
            let done = query(statement).execute(&mut **session).await?;
            rows += done.rows_affected();
        }
    }
    Ok(rows)
}

impl Postgres {
    /// Deletes what others wrote of erased users into our tables, other than likes and skips, during
    /// the restoration, whose tombstones they could not see before it was committed. Returns the
    /// number of rows.
    pub(super) async fn delete_erased_since(&self) -> Result<u64, StoreError> {
        let mut session = self.begin_bulk().await?;
        query("SET LOCAL row_security = off")
            .execute(&mut *session)
            .await?;
        let rows = delete_erased(&mut session).await?;
        session.commit().await?;
        Ok(rows)
    }

    /// Deletes likes and skips of erased users, and returns how many. Requires committed
    /// tombstones.
    ///
    /// Each kind has a transaction of its own, outside the restoration's: the table can be the
    /// application's, with a trigger or a foreign key that forbids the deletion, or with a row that
    /// others keep locked. The restoration does not fail because of it. Remaining rows are counted
    /// by [`Postgres::erased_interactions`].
    pub(super) async fn delete_interactions(
        &self,
        kinds: &[InteractionKind],
    ) -> Result<u64, StoreError> {
        let mut rows = 0;
        for &kind in kinds {
            match self.try_delete_interactions(kind).await {
                Ok(deleted) => rows += deleted,
                Err(error @ StoreError::Connection(_)) => return Err(error),
                Err(error) => tracing::warn!(
                    "{} of users who were erased cannot be deleted: {error}",
                    kind.table()
                ),
            }
        }
        Ok(rows)
    }

    async fn try_delete_interactions(&self, kind: InteractionKind) -> Result<u64, StoreError> {
        let mut session = self.begin_bulk().await?;
        query("SET LOCAL row_security = off")
            .execute(&mut *session)
            .await?;
        query(LOCK_TIMEOUT).execute(&mut *session).await?;
        let any: bool = query_scalar(ANY_TOMBSTONE).fetch_one(&mut *session).await?;
        let mut rows = 0;
        if any && may_delete(&mut session, kind).await? {
            let done = sqlx::query(AssertSqlSafe(delete_interactions(kind)))
                .persistent(false)
                .execute(&mut *session)
                .await?;
            rows = done.rows_affected();
        }
        session.commit().await?;
        Ok(rows)
    }

    /// Number of likes and skips of `source` that belong to erased users.
    pub(crate) async fn erased_interactions(&self, source: &Source) -> Result<u64, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let mut rows = 0;
        let any: bool = query_scalar(ANY_TOMBSTONE).fetch_one(&mut *session).await?;
        if any {
            for (name, sql) in [("likes", &source.likes), ("skips", &source.skips)] {
                let sql = tidy(sql);
                let types = described(&mut session, &interactions(name), sql).await?;
                let is_text = types.first().is_some_and(IdType::is_text);
                // Contains the operator's own SQL, from the configuration; the transaction is
                // read-only.
                let count = count_interactions(sql, is_text);
                let counted: i64 = sqlx::query_scalar(AssertSqlSafe(count))
                    .persistent(false)
                    .fetch_one(&mut *session)
                    .await?;
                rows += counted as u64;
            }
        }
        session.commit().await?;
        Ok(rows)
    }
}

/// Whether likes or skips are in a table of which this role can delete every row.
async fn may_delete(session: &mut Session, kind: InteractionKind) -> Result<bool, StoreError> {
    Ok(query_scalar(
        "SELECT EXISTS (
             SELECT FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
             WHERE pg_class.oid = to_regclass('public.' || $1) AND relkind IN ('r', 'p')
               AND attname = 'user_id' AND NOT attisdropped
               AND has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'DELETE')
               AND NOT row_security_active(pg_class.oid)
         )",
    )
    .bind(kind.table())
    .fetch_one(&mut **session)
    .await?)
}

/// The UUID that a column holds as text in any spelling; null for other text.
fn read_uuid(column: &str) -> String {
    format!("CASE WHEN {column}::text COLLATE \"C\" ~* '{UUID_TEXT}' THEN {column}::text::uuid END")
}

/// The statement that deletes likes or skips of erased users. The table can be the application's,
/// with ids as text in any spelling. They are compared as text, since a type such as citext has an
/// equality of its own only where its schema is in the `search_path`.
fn delete_interactions(kind: InteractionKind) -> String {
    format!(
        "DELETE FROM public.{table} WHERE user_id::text IN (
             SELECT user_id FROM (SELECT DISTINCT user_id::text AS user_id, {} AS id FROM public.{table}) AS users WHERE {}
         )",
        read_uuid("user_id"),
        was_erased!("users.id"),
        table = kind.table(),
    )
}

/// The statement that counts a query's rows of erased users, with ids as text in any spelling. Each
/// user is hashed once.
fn count_interactions(sql: &str, is_text: bool) -> String {
    let id = if is_text {
        read_uuid("source.user_id")
    } else {
        "source.user_id::uuid".to_owned()
    };
    format!(
        "WITH users AS MATERIALIZED (
             SELECT {id} AS id, count(*) AS rows FROM (\n{sql}\n) AS source GROUP BY 1
         )
         SELECT coalesce(sum(users.rows), 0)::bigint FROM users WHERE {}",
        was_erased!("users.id")
    )
}
