//! Erases users, and tells which users were erased.

use super::session::{query, query_as, query_scalar};
use super::{CHUNK, Postgres, Session};
use crate::erasure::{ErasePlan, Erased, Tombstones, left_to_statements};
use crate::{InteractionKind, StoreError};
use sqlx::AssertSqlSafe;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Key of the advisory lock that `twotower.erase_user_from` takes: "erasures" in ASCII.
pub(super) const LOCK: i64 = 0x6572_6173_7572_6573;

/// The operator's statements wait for a lock for at most this long, since all writers of likes,
/// skips and blocks wait for the erasure meanwhile.
const STATEMENT_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '200ms'";

/// The server process of this session, and for how many seconds an erasure is tried again while
/// others hold locks that the operator's statements need. `twotower.erase_user_from` waits for as
/// long by itself.
const BEGUN: &str = "
    SELECT pg_backend_pid(), extract(epoch FROM coalesce(
        nullif(current_setting('twotower.erasure_patience', true), ''), '2 minutes'
    )::interval)::double precision";

/// Those of the tables $1 of which the owner of `twotower.erase_user_from` can delete every row.
const DELETABLE: &str = "
    SELECT relname::text
    FROM pg_class, pg_proc JOIN pg_roles AS definer ON definer.oid = proowner
    WHERE pg_proc.oid = 'twotower.erase_user_from(uuid, text[], boolean)'::regprocedure
      AND pg_class.oid IN (SELECT to_regclass('public.' || own) FROM unnest($1::text[]) AS own)
      AND relkind IN ('r', 'p')
      AND has_table_privilege(proowner, pg_class.oid, 'SELECT')
      AND has_table_privilege(proowner, pg_class.oid, 'DELETE')
      AND (NOT relrowsecurity OR rolsuper OR rolbypassrls
           OR NOT relforcerowsecurity AND pg_has_role(proowner, relowner, 'USAGE'))";

/// Pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Interval at which the server is asked whom an erasure waits for. An erasure waits for a lock for
/// a fifth of a second at a time, in the end once for ten seconds, and only during that time does
/// the server tell.
const LOOK: Duration = Duration::from_millis(150);

/// A process that was seen holding a lock is named for at most this long. It may have released the
/// lock since, and a reader may end a process that is named.
const LATELY: Duration = Duration::from_secs(2);

/// Interval between two warnings about whom an erasure waits for.
const SILENCE: Duration = Duration::from_secs(15);

/// SQL that follows FROM: the tombstone of the user with this id, one row or none.
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

/// The condition that the user with this id was erased.
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

    /// One try. `Err(Locked)` if others hold a lock that it needs; then nothing was erased.
    async fn try_erase_user(
        &self,
        user: Uuid,
        plan: &ErasePlan,
        wait: &mut Wait,
    ) -> Result<Result<Erased, Locked>, StoreError> {
        let mut session = self.begin_bulk().await?;
        let (pid, seconds): (i32, f64) = query_as(BEGUN).fetch_one(&mut *session).await?;
        // An interval that a duration cannot hold counts as endless.
        wait.patience = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        tokio::select! {
            biased;
            done = erase(session, user, plan) => done,
            never = self.look(pid, wait) => match never {},
        }
    }

    /// Records for whom the server process `pid` waits, and logs it from time to time.
    async fn look(&self, pid: i32, wait: &mut Wait) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            let asked = Instant::now();
            // The erasure goes on where this cannot be told.
            match self.blocking(pid).await {
                Ok(pids) if !pids.is_empty() => {
                    wait.seen = Some((asked, pids));
                    wait.tell(Instant::now());
                }
                _ => {}
            }
        }
    }

    /// The server processes for which `pid` waits.
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
        // Usually nobody was erased, and millions of ids need not be sent.
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

/// A lock that an erasure needs and others hold.
struct Locked {
    /// Number of the operator's statement that needs it, from 1; `None` for our own statements.
    statement: Option<usize>,
    /// The error of the server.
    cause: sqlx::Error,
}

/// How long an erasure has waited, and for whom.
struct Wait {
    began: Instant,
    /// For how long it may wait.
    patience: Duration,
    /// The processes that were seen last, and when.
    seen: Option<(Instant, Vec<i32>)>,
    /// When it was logged last.
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

    /// The processes that were seen lately; may be empty.
    fn keepers(&self, now: Instant) -> &[i32] {
        match &self.seen {
            Some((at, pids)) if now.saturating_duration_since(*at) <= LATELY => pids,
            _ => &[],
        }
    }

    /// Logs who they are, unless that was done within [`SILENCE`].
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

/// The processes as the subject of a sentence, with the verb.
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
    let own = own_tables(&mut session, plan).await?;
    // This runs first because it takes the lock: a transaction that holds the lock shared may wait
    // for rows that a statement has touched. It gives up its own rows after each try, which it
    // could not do with those of a statement before it.
    let done = query_as(
        "SELECT (extract(epoch FROM erased_at) * 1000000)::bigint, number, first_time, likes_deleted, skips_deleted, vectors_deleted
         FROM twotower.erase_user_from($1, $2, every_spelling => true)",
    )
    .bind(user)
    .bind(own)
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
        // The operator's SQL from the configuration.
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

/// Our own tables whose rows `twotower.erase_user_from` deletes.
///
/// If the other table is the application's, its statements run in any case, and can cover ours too.
/// A table of our name that the function cannot empty, such as a view, is left to them.
async fn own_tables(
    session: &mut Session,
    plan: &ErasePlan,
) -> Result<Vec<&'static str>, StoreError> {
    let planned = [
        (plan.likes, InteractionKind::Like),
        (plan.skips, InteractionKind::Skip),
    ];
    let mut own: Vec<&str> = planned
        .into_iter()
        .filter_map(|(is_planned, kind)| is_planned.then_some(kind.table()))
        .collect();
    if !plan.leaves_rest_to_statements() {
        return Ok(own);
    }
    let deletable: Vec<String> = query_scalar(DELETABLE)
        .bind(&own)
        .fetch_all(&mut **session)
        .await?;
    own.retain(|&table| {
        let is_deletable = deletable.iter().any(|name| name == table);
        if !is_deletable {
            left_to_statements(table);
        }
        is_deletable
    });
    Ok(own)
}

/// Keeps erasures out until the end of the transaction, after waiting for one that is under way.
/// Later statements see what it did.
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
    // Without any tombstone no hash is computed.
    Ok(query_scalar(concat!(
        "SELECT DISTINCT id FROM unnest($1::uuid[]) AS id WHERE EXISTS (SELECT FROM twotower.tombstones) AND ",
        was_erased!("id")
    ))
    .bind(users)
    .fetch_all(&mut **session)
    .await?)
}

/// All tombstones in the snapshot of the transaction.
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

    /// A process that was seen earlier may have released its lock, and a reader may end what is
    /// named.
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
        // Seen between two warnings.
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
