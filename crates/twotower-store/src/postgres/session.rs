use crate::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool, Postgres};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// One transaction with its own statement timeout.
///
/// If it is dropped before [`Session::commit`], after an error or because the caller stopped
/// waiting, it closes its connection. The server then rolls back, and the pool's next user does not
/// wait for an abandoned answer.
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
        // In one round trip. `SET LOCAL` ends with the transaction, so that a pooler's next client
        // does not inherit it.
        let begin = format!("{begin}; {}", limit(timeout));
        let (session, _) = Self::first(pool, &begin).await?;
        Ok(session)
    }

    /// Runs one statement in a transaction with its own timeout, in one round trip.
    ///
    /// The statements of one message form a transaction, but such a message has no parameters. The
    /// caller must make sure that `statement` contains no untrusted text.
    pub(super) async fn run_alone(
        pool: &PgPool,
        statement: &str,
        timeout: Duration,
    ) -> Result<Vec<PgRow>, StoreError> {
        let message = format!("{}; {statement}", limit(timeout));
        let (mut session, rows) = Self::first(pool, &message).await?;
        session.committed = true;
        Ok(rows)
    }

    /// Takes a connection and sends the first message on it.
    async fn first(pool: &PgPool, message: &str) -> Result<(Self, Vec<PgRow>), StoreError> {
        // After a restart of the server every idle connection is dead, and only the first message
        // shows that. A failed connection is closed, so that at the latest the last try gets a new
        // one.
        let mut tries = pool.options().get_max_connections() + 1;
        loop {
            let mut session = Self {
                connection: pool.acquire().await?,
                committed: false,
            };
            let answer = sqlx::raw_sql(AssertSqlSafe(message))
                .fetch_all(&mut *session)
                .await;
            tries -= 1;
            match answer.map_err(StoreError::from) {
                Ok(rows) => return Ok((session, rows)),
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

/// Sets the statement timeout until the end of the transaction.
fn limit(timeout: Duration) -> String {
    // 0 would mean no limit.
    let ms = timeout.as_millis().max(1);
    format!("SET LOCAL statement_timeout = {ms}")
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

/// An unnamed statement: behind a pooler the next one may run on another connection.
pub(super) fn query(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// [`query`] that returns rows of type `T`.
pub(super) fn query_as<T>(sql: &'static str) -> QueryAs<'static, Postgres, T, PgArguments>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

/// [`query`] that returns single values of type `T`.
pub(super) fn query_scalar<T>(sql: &'static str) -> QueryScalar<'static, Postgres, T, PgArguments>
where
    (T,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}
