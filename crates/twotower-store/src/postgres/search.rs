//! Looking for an id in every table.

use super::session::query_as;
use super::{Postgres, Session};
use crate::StoreError;
use crate::erasure::SearchedRows;
use crate::store::BULK_TIMEOUT;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// A table's name, the statement that counts, whether its rows are elsewhere, and its columns that may hold an id.
type Table = (String, String, bool, Vec<String>);

impl Postgres {
    /// Looks at every column of every table and materialized view but those that hold numbers, times or vectors.
    pub(crate) async fn search_rows(&self, user: Uuid) -> Result<SearchedRows, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        // As text, an id has hyphens or not, and its letters are small or not; bytes are written as digits.
        let tables: Vec<Table> = query_as(
            "SELECT nspname || '.' || relname,
                    format('SELECT ARRAY[%s] FROM ONLY %I.%I', string_agg(format(
                        'count(*) FILTER (WHERE strpos(replace(lower(%I::text), ''-'', ''''), $1) > 0)', attname
                    ), ', ' ORDER BY attnum), nspname, relname),
                    relkind = 'f', array_agg(attname::text ORDER BY attnum)
             FROM pg_class c
             JOIN pg_namespace n ON n.oid = relnamespace
             JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
             JOIN pg_type t ON t.oid = atttypid
             LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
             WHERE relkind IN ('r', 'm', 'f') AND relpersistence <> 't'
             AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_toast%'
             -- Boolean, date and time, geometric, network, number, interval.
             AND coalesce(e.typcategory, t.typcategory) NOT IN ('B', 'D', 'G', 'I', 'N', 'T')
             AND t.typname NOT IN ('vector', 'halfvec', 'sparsevec')
             GROUP BY nspname, relname, relkind ORDER BY 1",
        )
        .fetch_all(&mut *session)
        .await?;
        session.commit().await?;
        let mut rows = SearchedRows::default();
        for (name, statement, foreign, columns) in tables {
            if foreign {
                let reason = "its rows are in another database".into();
                rows.not_searched.push((name, reason));
                continue;
            }
            let mut session = self.begin_reading(BULK_TIMEOUT).await?;
            match count(&mut session, user, statement).await {
                Ok(counts) => {
                    session.commit().await?;
                    rows.add(&name, &columns, &counts);
                }
                // The role may not look, or not at all rows; or the table is gone by now.
                Err(error @ (StoreError::Permission(_) | StoreError::Schema(_))) => {
                    rows.not_searched.push((name, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }
}

async fn count(
    session: &mut Session,
    user: Uuid,
    statement: String,
) -> Result<Vec<i64>, StoreError> {
    // Rows that a policy would hide are an error, not rows that are not there.
    sqlx::raw_sql("SET LOCAL row_security = off; SET LOCAL bytea_output = hex")
        .execute(&mut **session)
        .await?;
    // The server has written the statement, and quoted the names in it.
    Ok(sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(user.simple().to_string())
        .fetch_one(&mut **session)
        .await?)
}
