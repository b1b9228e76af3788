//! Erasing users, and asking who was erased.

use super::session::{query, query_as, query_scalar};
use super::{CHUNK, Postgres, Session};
use crate::StoreError;
use crate::erasure::{ErasePlan, Erased, Tombstones};
use sqlx::AssertSqlSafe;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Of the lock that `twotower.erase_user` takes: "erasures" in ASCII.
pub(super) const LOCK: i64 = 0x6572_6173_7572_6573;

/// The operator's statements run while every writer of likes, skips and blocks waits for the erasure, so that they wait for no lock for longer.
const STATEMENT_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '200ms'";

/// Who erases, and for how many seconds an erasure is begun again while others keep what the operator's statements want: as long as
/// `twotower.erase_user` waits by itself.
const BEGUN: &str = "
    SELECT pg_backend_pid(), extract(epoch FROM coalesce(
        nullif(current_setting('twotower.erasure_patience', true), ''), '2 minutes'
    )::interval)::double precision";

/// How long it pauses in between.
const PAUSE: Duration = Duration::from_secs(1);

/// An erasure waits for a lock a fifth of a second at a time, and only meanwhile the server tells for whom.
const LOOK: Duration = Duration::from_millis(150);

/// How long ago somebody was seen, at most, who is named as keeping a lock: who reads of a process may end it, and one that was seen earlier may
/// have let go since.
const LATELY: Duration = Duration::from_secs(2);

/// How long nothing is said of who is waited for after that was said.
const SILENCE: Duration = Duration::from_secs(15);

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
        let mut wait = Wait::new();
        loop {
            let locked = match self.try_erase_user(user, plan, &mut wait).await? {
                Ok(erased) => return Ok(erased),
                Err(locked) => locked,
            };
            if wait.began.elapsed() >= wait.patience || locked.statement.is_none() {
                return Err(wait.over(locked, Instant::now()));
            }
            wait.tell(Instant::now());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What others keep locked may be had later: then nothing was erased.
    async fn try_erase_user(
        &self,
        user: Uuid,
        plan: &ErasePlan,
        wait: &mut Wait,
    ) -> Result<Result<Erased, Locked>, StoreError> {
        let mut session = self.begin_bulk().await?;
        let (pid, seconds): (i32, f64) = query_as(BEGUN).fetch_one(&mut *session).await?;
        // An interval that is longer than anybody waits is no error.
        wait.patience = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        tokio::select! {
            biased;
            done = erase(session, user, plan) => done,
            never = self.look(pid, wait) => match never {},
        }
    }

    /// Keeps in mind, and says now and then, for whom the server's process `pid` waits.
    async fn look(&self, pid: i32, wait: &mut Wait) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            let asked = Instant::now();
            // That it cannot be told keeps nobody from being erased.
            match self.blocking(pid).await {
                Ok(pids) if !pids.is_empty() => {
                    wait.seen = Some((asked, pids));
                    wait.tell(Instant::now());
                }
                _ => {}
            }
        }
    }

    /// The server's processes for which `pid` waits.
    async fn blocking(&self, pid: i32) -> Result<Vec<i32>, StoreError> {
        let mut session = self.begin().await?;
        let pids =
            query_scalar("SELECT DISTINCT pid FROM unnest(pg_blocking_pids($1)) AS pid ORDER BY 1")
                .bind(pid)
                .fetch_all(&mut *session)
                .await?;
        session.commit().await?;
        Ok(pids)
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

/// What an erasure came upon that others keep locked.
struct Locked {
    /// Which of the operator's statements wants it, if one does, from 1 on.
    statement: Option<usize>,
    /// What was said of it.
    cause: sqlx::Error,
}

/// How long an erasure has waited, and for whom.
struct Wait {
    began: Instant,
    /// How long it may.
    patience: Duration,
    /// Who was seen last, and when.
    seen: Option<(Instant, Vec<i32>)>,
    /// When something was said last.
    told: Option<Instant>,
}

impl Wait {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            patience: Duration::ZERO,
            seen: None,
            told: None,
        }
    }

    /// Who was seen lately, which may be nobody.
    fn keepers(&self, now: Instant) -> &[i32] {
        match &self.seen {
            Some((at, pids)) if now.saturating_duration_since(*at) <= LATELY => pids,
            _ => &[],
        }
    }

    /// Says who that is, unless something was said just now.
    fn tell(&mut self, now: Instant) {
        let is_due = |at| now.saturating_duration_since(at) >= SILENCE;
        if self.told.is_none_or(is_due) {
            tracing::warn!(
                "the erasure has waited for {} s: {} a lock that it needs",
                now.saturating_duration_since(self.began).as_secs(),
                keepers(self.keepers(now))
            );
            self.told = Some(now);
        }
    }

    fn over(&self, locked: Locked, now: Instant) -> StoreError {
        let wanted = match locked.statement {
            None => "rows of this user".to_owned(),
            Some(number) => format!("what statement {number} of [erase] wants"),
        };
        StoreError::EraseLocked {
            waited: now.saturating_duration_since(self.began),
            reason: format!("{} a lock on {wanted}", keepers(self.keepers(now))),
            cause: locked.cause,
        }
    }
}

/// Who keeps a lock, with the verb.
fn keepers(pids: &[i32]) -> String {
    let name = |pid: &i32| match pid {
        0 => "a prepared transaction (pg_prepared_xacts)".to_owned(),
        pid => format!("process {pid} of the server"),
    };
    let names: Vec<String> = pids.iter().map(name).collect();
    match names.len() {
        0 => "another transaction keeps".to_owned(),
        1 => format!("{} keeps", names[0]),
        _ => format!("{} keep", names.join(" and ")),
    }
}

/// One try, in a transaction that has begun.
async fn erase(
    mut session: Session,
    user: Uuid,
    plan: &ErasePlan,
) -> Result<Result<Erased, Locked>, StoreError> {
    // First of all, since it takes the lock: who holds it shared may wait for rows that a statement has touched.
    let done = query_as(
        "SELECT (extract(epoch FROM erased_at) * 1000000)::bigint, number, first_time, likes_deleted, skips_deleted, vectors_deleted
         FROM twotower.erase_user($1, $2)",
    )
    .bind(user)
    .bind(plan.application_tables)
    .fetch_one(&mut *session)
    .await;
    let row: (i64, i64, bool, i64, i64, i64) = match done.map_err(StoreError::from) {
        Ok(row) => row,
        Err(StoreError::Busy(cause)) => {
            let statement = None;
            return Ok(Err(Locked { statement, cause }));
        }
        Err(error) => return Err(error),
    };
    let (erased_at_us, number, first_time, likes, skips, vectors) = row;
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
            Err(StoreError::Busy(cause)) => {
                let statement = Some(statements.len() + 1);
                return Ok(Err(Locked { statement, cause }));
            }
            Err(error) => return Err(error.of_erase(statements.len() + 1, false)),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of a while ago may have let go by now, and who reads of it may end it.
    #[test]
    fn who_was_seen_lately_is_named_and_nobody_else() {
        let began = Instant::now();
        let mut wait = Wait::new();
        let over = |wait: &Wait, after: Duration| {
            let locked = Locked {
                statement: Some(2),
                cause: sqlx::Error::PoolTimedOut,
            };
            wait.over(locked, began + after).to_string()
        };
        let nobody = "another transaction keeps a lock on what statement 2 of [erase] wants";
        assert!(over(&wait, PAUSE).contains(nobody));
        wait.seen = Some((began, vec![7]));
        wait.tell(began);
        assert_eq!(wait.told, Some(began));
        // Seen after that was said, and before it is said again.
        let later = began + PAUSE;
        wait.seen = Some((later, vec![8, 9]));
        wait.tell(later);
        assert_eq!(wait.told, Some(began));
        let error = over(&wait, PAUSE + LATELY);
        let both = "process 8 of the server and process 9 of the server keep a lock on what";
        assert!(error.contains(both), "{error}");
        let error = over(&wait, PAUSE + LATELY + PAUSE);
        assert!(error.contains(nobody), "{error}");
        wait.tell(began + SILENCE);
        assert_eq!(wait.told, Some(began + SILENCE));
    }
}
