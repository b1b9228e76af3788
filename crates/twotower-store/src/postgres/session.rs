use crate::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool, Postgres};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// One transaction with a statement timeout of its own.
///
/// Dropped before [`Session::commit`], be it by an error or because somebody stopped waiting, it closes its connection: the
/// server rolls back, and the next user of the pool does not wait for an answer that nobody wants.
pub(super) struct Session {
    connection: PoolConnection<Postgres>,
    committed: bool,
}

impl Session {
    pub(super) async fn begin(
        pool: &PgPool,
        begin: &str,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        // One round trip. `SET LOCAL` ends with the transaction, so that a pooler's next client does not inherit it.
        let begin = format!(
            "{begin}; SET LOCAL statement_timeout = {}",
            // 0 would mean none at all.
            timeout.as_millis().max(1)
        );
        // After a restart of the server every idle connection is dead, and beginning is what finds out: each that fails is
        // closed, so that at the latest the last try has a new one.
        let mut tries = pool.options().get_max_connections() + 1;
        loop {
            let mut session = Self {
                connection: pool.acquire().await?,
                committed: false,
            };
            let begun = sqlx::raw_sql(AssertSqlSafe(begin.as_str()))
                .execute(&mut *session)
                .await;
            tries -= 1;
            match begun.map_err(StoreError::from) {
                Ok(_) => return Ok(session),
                Err(StoreError::Connection(_)) if tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut *self).await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A statement without a name: behind a pooler the next one may run on another connection.
pub(super) fn query(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// [`query`] that gives rows of type `T`.
pub(super) fn query_as<T>(sql: &'static str) -> QueryAs<'static, Postgres, T, PgArguments>
where
    T: for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

/// [`query`] that gives single values of type `T`.
pub(super) fn query_scalar<T>(sql: &'static str) -> QueryScalar<'static, Postgres, T, PgArguments>
where
    (T,): for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}
