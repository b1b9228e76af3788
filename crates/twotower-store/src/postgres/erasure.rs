//! Erasing users, and asking who was erased.

use super::session::{query, query_as, query_scalar};
use super::{CHUNK, Postgres, Session};
use crate::StoreError;
use crate::erasure::{ErasePlan, Erased, Tombstones};
use sqlx::AssertSqlSafe;
use std::time::Duration;
use uuid::Uuid;

/// Of the lock that `twotower.erase_user` takes: "erasures" in ASCII.
const LOCK: i64 = 0x6572_6173_7572_6573;

/// The operator's statements run while every writer of likes, skips and blocks waits for the erasure, so that they wait for no lock for longer.
const STATEMENT_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '200ms'";

/// How often an erasure is begun while others keep what the operator's statements want, and how long it waits in between. Who asked for it
/// tries again some times.
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_secs(1);

/// What follows FROM for the tombstone of the user with this id: a row, or none.
macro_rules! tombstone {
    ($id:literal) => {
        concat!(
            "twotower.tombstones WHERE user_hash = (SELECT sha256(salt || uuid_send(",
            $id,
            ")) FROM twotower.tombstone_salt)"
        )
    };
}
pub(super) use tombstone;

/// SQL that says whether the user with this id was erased.
macro_rules! was_erased {
    ($id:literal) => {
        concat!(
            "EXISTS (SELECT FROM ",
            $crate::postgres::erasure::tombstone!($id),
            ")"
        )
    };
}
pub(super) use was_erased;

impl Postgres {
    pub(crate) async fn erase_user(
        &self,
        user: Uuid,
        plan: &ErasePlan,
    ) -> Result<Erased, StoreError> {
        let mut tries = 0;
        loop {
            let (statement, error) = match self.try_erase_user(user, plan).await? {
                Ok(erased) => return Ok(erased),
                Err(locked) => locked,
            };
            tries += 1;
            if tries == TRIES {
                return Err(error);
            }
            tracing::warn!(
                "statement {statement} of [erase] needs a lock that another transaction keeps; another try follows in {PAUSE:?}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The number of the operator's statement that came upon a lock, with what was said of it: then nothing was erased.
    async fn try_erase_user(
        &self,
        user: Uuid,
        plan: &ErasePlan,
    ) -> Result<Result<Erased, (usize, StoreError)>, StoreError> {
        let mut session = self.begin_bulk().await?;
        // First of all, since it takes the lock: who holds it shared may wait for rows that a statement has touched.
        let (erased_at_us, number, first_time, likes, skips, vectors): (i64, i64, bool, i64, i64, i64) =
            query_as(
                "SELECT (extract(epoch FROM erased_at) * 1000000)::bigint, number, first_time, likes_deleted, skips_deleted,
                        vectors_deleted
                 FROM twotower.erase_user($1, $2)",
            )
            .bind(user)
            .bind(plan.application_tables)
            .fetch_one(&mut *session)
            .await?;
        let mut statements = Vec::new();
        if !plan.statements.is_empty() {
            query(STATEMENT_LOCK_TIMEOUT).execute(&mut *session).await?;
        }
        for statement in &plan.statements {
            // The operator's own SQL, from the configuration.
            let done = sqlx::query(AssertSqlSafe(statement.as_str()))
                .persistent(false)
                .bind(user)
                .execute(&mut *session)
                .await;
            match done.map_err(StoreError::from) {
                Ok(done) => statements.push(done.rows_affected()),
                Err(error @ StoreError::Busy(_)) => return Ok(Err((statements.len() + 1, error))),
                Err(error) => return Err(error),
            }
        }
        session.commit().await?;
        Ok(Ok(Erased {
            erased_at_us,
            number,
            first_time,
            likes: likes as u64,
            skips: skips as u64,
            user_vectors: vectors as u64,
            statements,
        }))
    }

    pub(crate) async fn erased_users(&self, users: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let mut session = self.begin_bulk().await?;
        // Most of the time there is nobody, and millions of ids need not travel.
        let any: bool = query_scalar("SELECT EXISTS (SELECT FROM twotower.tombstones)")
            .fetch_one(&mut *session)
            .await?;
        let mut erased = Vec::new();
        for chunk in users.chunks(CHUNK).filter(|_| any) {
            erased.extend(erased_among(&mut session, chunk).await?);
        }
        session.commit().await?;
        Ok(erased)
    }

    pub(crate) async fn erasures_unseen(&self) -> Result<Vec<(i64, i64)>, StoreError> {
        let mut session = self.begin().await?;
        let unseen = query_as(
            "SELECT version, (extract(epoch FROM min(erased_at)) * 1000000)::bigint
             FROM twotower.models JOIN twotower.tombstones
             ON CASE WHEN erasures_seen IS NULL THEN erased_at > created_at ELSE number > erasures_seen END
             WHERE state <> 'failed' AND pruned_at IS NULL GROUP BY version ORDER BY version",
        )
        .fetch_all(&mut *session)
        .await?;
        session.commit().await?;
        Ok(unseen)
    }
}

/// Keeps erasures out until the end of the transaction, and waits for one that is under way. The statements that follow see
/// what it did.
pub(super) async fn keep_erasures_out(session: &mut Session) -> Result<(), StoreError> {
    query("SELECT pg_advisory_xact_lock_shared($1)")
        .bind(LOCK)
        .execute(&mut **session)
        .await?;
    Ok(())
}

/// Those of `users` who were erased.
pub(super) async fn erased_among(
    session: &mut Session,
    users: &[Uuid],
) -> Result<Vec<Uuid>, StoreError> {
    // No hash is computed while there is no tombstone.
    Ok(query_scalar(concat!(
        "SELECT DISTINCT id FROM unnest($1::uuid[]) AS id WHERE EXISTS (SELECT FROM twotower.tombstones) AND ",
        was_erased!("id")
    ))
    .bind(users)
    .fetch_all(&mut **session)
    .await?)
}

/// All tombstones, as of the moment that the transaction sees.
pub(super) async fn tombstones(session: &mut Session) -> Result<Tombstones, StoreError> {
    let rows: Vec<(Vec<u8>, i64)> = query_as("SELECT user_hash, number FROM twotower.tombstones")
        .fetch_all(&mut **session)
        .await?;
    if rows.is_empty() {
        return Ok(Tombstones::default());
    }
    let salt = query_scalar("SELECT salt FROM twotower.tombstone_salt")
        .fetch_one(&mut **session)
        .await?;
    Ok(Tombstones::new(salt, rows))
}
