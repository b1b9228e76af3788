pub(super) mod statements;

use super::session::{query, query_as, query_scalar};
use super::{Postgres, Session};
use crate::StoreError;
use crate::network::Backoff;
use crate::store::BULK_TIMEOUT;
use std::collections::HashSet;
use std::time::Duration;

/// Version, name and text of a migration.
macro_rules! migration {
    ($version:literal, $name:literal) => {
        (
            $version,
            $name,
            include_str!(concat!(
                "../../../../supabase/migrations/",
                $version,
                "_",
                $name,
                ".sql"
            )),
        )
    };
}

/// Version, name and text of `supabase/migrations/*`, oldest first. The Supabase CLI applies the
/// same files and shares the record of applied ones.
const MIGRATIONS: [(&str, &str, &str); 34] = [
    migration!("20261124000000", "prerequisites"),
    migration!("20261124000100", "application_tables"),
    migration!("20261124000200", "embeddings"),
    migration!("20261124000300", "model_registry"),
    migration!("20261125000000", "model_life_cycle"),
    migration!("20261125000100", "gate_verdict"),
    migration!("20261126000000", "erasure"),
    migration!("20261127000000", "serving"),
    migration!("20261128000000", "statistics"),
    migration!("20261128000100", "recommendations"),
    migration!("20261128000200", "user_functions"),
    migration!("20261128000300", "component_roles"),
    migration!("20261128000400", "model_bucket"),
    migration!("20261201000000", "job_runs"),
    migration!("20261201000100", "user_tower"),
    migration!("20261202000000", "erasure_holds"),
    migration!("20261203000000", "experiment_end"),
    migration!("20261203000100", "long_histories"),
    migration!("20261203000200", "text_ids"),
    migration!("20261203000300", "block_limit"),
    migration!("20261204000000", "erasure_steps_aside"),
    migration!("20261204000100", "blocks_agree"),
    migration!("20261204000200", "kept_answers"),
    migration!("20261204000300", "vectors_in_order"),
    migration!("20261204000400", "text_ids_both_ways"),
    migration!("20261205000000", "unit_norm"),
    migration!("20261205000100", "unit_norm_rows"),
    migration!("20261205000200", "erasure_patience"),
    migration!("20261206000000", "likes_of_pairs"),
    migration!("20261207000000", "every_skip"),
    migration!("20261208000000", "erasure_reach"),
    migration!("20261209000000", "odd_times"),
    migration!("20261209000100", "odd_times_in_histories"),
    migration!("20261209000200", "erasure_in_line"),
];

/// The last migration; with it the schema is complete.
pub(super) fn last() -> &'static str {
    MIGRATIONS.last().map_or("", |(version, ..)| version)
}

/// Version of the last migration that contains `words`, such as the one that redefines an object;
/// empty if none does.
pub(super) fn last_with(words: &str) -> &'static str {
    MIGRATIONS
        .iter()
        .rfind(|(_, _, text)| text.contains(words))
        .map_or("", |(version, ..)| version)
}

/// All versions.
pub(super) fn known() -> Vec<&'static str> {
    MIGRATIONS.iter().map(|(version, ..)| *version).collect()
}

/// The migration that creates missing application tables.
const APPLICATION_TABLES: &str = "20261124000100";

/// The migration that creates the tables of vectors.
const EMBEDDINGS: &str = "20261124000200";

/// Key of the advisory lock of migrators: "twotower" in ASCII.
const LOCK: i64 = 0x7477_6f74_6f77_6572;

/// The record, in the form of the Supabase CLI.
const RECORD: &str = "
    CREATE SCHEMA IF NOT EXISTS supabase_migrations;
    CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text NOT NULL PRIMARY KEY);
    ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS statements text[];
    ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS name text;";

/// A migration can change the application's tables, whose other statements queue behind a pending
/// lock request. Short waits let them proceed between tries.
pub(super) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '3s'";

/// Retries of a migration that needs a lock which another transaction holds.
struct LockRetry {
    /// Number of tries in all.
    tries: u32,
    backoff: Backoff,
}

const LOCK_RETRY: LockRetry = LockRetry {
    tries: 20,
    backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(10)),
};

/// Outcome of applying the first pending migration.
enum Step {
    /// No migration is pending.
    Complete,
    /// The migration was applied and recorded.
    Applied(Migration),
    /// Nothing was applied: another transaction holds a lock that the migration needs.
    Locked(Migration, sqlx::Error),
}

impl Postgres {
    pub(crate) async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let mut applied = Vec::new();
        while let Some(migration) = retry_locked(&LOCK_RETRY, || self.apply_next()).await? {
            applied.push(migration);
        }
        Ok(versions(&applied))
    }

    /// Applies the first pending migration and records it, in one transaction.
    async fn apply_next(&self) -> Result<Step, StoreError> {
        let mut session = self.begin_migrating().await?;
        let pending = pending(&mut session).await?;
        let Some(&migration) = pending.first() else {
            session.commit().await?;
            return Ok(Step::Complete);
        };
        // Checked before anything is applied.
        let is_pending = |asked| pending.iter().any(|(version, ..)| *version == asked);
        if is_pending(APPLICATION_TABLES) {
            check_ids(&mut session).await?;
        }
        check_vectors(&mut session, is_pending(EMBEDDINGS)).await?;
        match apply(&mut session, migration).await {
            Ok(()) => {
                session.commit().await?;
                Ok(Step::Applied(migration))
            }
            // A lock timeout, or the victim of a deadlock.
            Err(StoreError::Busy(source)) => Ok(Step::Locked(migration, source)),
            Err(error) => Err(error),
        }
    }

    /// Begins a transaction while keeping other migrators out.
    pub(super) async fn begin_migrating(&self) -> Result<Session, StoreError> {
        // Pending migrations must be read after waiting for other migrators, with a snapshot from
        // then. The wait ignores a `lock_timeout` of the role or database.
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0";
        let mut session = Session::begin(&self.pool, begin, BULK_TIMEOUT).await?;
        // Held to the end of the transaction: no two migrators apply the same migration.
        query("SELECT pg_advisory_xact_lock($1)")
            .bind(LOCK)
            .execute(&mut *session)
            .await?;
        Ok(session)
    }

    pub(crate) async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        let mut session = self.begin().await?;
        let pending = pending(&mut session).await?;
        session.commit().await?;
        Ok(versions(&pending))
    }
}

/// Version, name and text.
pub(super) type Migration = (&'static str, &'static str, &'static str);

/// The migration that `step` applied, or `None` if none is pending.
async fn retry_locked<F>(
    retry: &LockRetry,
    mut step: impl FnMut() -> F,
) -> Result<Option<Migration>, StoreError>
where
    F: Future<Output = Result<Step, StoreError>>,
{
    let (mut tries, mut backoff) = (0, retry.backoff);
    loop {
        let ((version, name, _), cause) = match step().await? {
            Step::Complete => return Ok(None),
            Step::Applied(migration) => return Ok(Some(migration)),
            Step::Locked(migration, cause) => (migration, cause),
        };
        tries += 1;
        if tries >= retry.tries {
            return Err(StoreError::MigrationLocked {
                version,
                name,
                tries,
                cause,
            });
        }
        let pause = backoff.next_pause();
        tracing::warn!(
            "migration {version} ({name}) needs a lock that another transaction keeps; another try follows in {pause:?}"
        );
        tokio::time::sleep(pause).await;
    }
}

async fn apply(session: &mut Session, (version, name, sql): Migration) -> Result<(), StoreError> {
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut **session).await?;
    sqlx::raw_sql(RECORD).execute(&mut **session).await?;
    sqlx::raw_sql(sql).execute(&mut **session).await?;
    query("INSERT INTO supabase_migrations.schema_migrations (version, name, statements) VALUES ($1, $2, ARRAY[$3])")
        .bind(version)
        .bind(name)
        .bind(sql)
        .execute(&mut **session)
        .await?;
    Ok(())
}

/// Refuses if the application's ids are of another type than uuid and tables are missing: new
/// tables would have uuid ids and could not reference the application's.
async fn check_ids(session: &mut Session) -> Result<(), StoreError> {
    let rows: Vec<(String, String, String)> = query_as(
        "SELECT made.name, made.target || '.id', format_type(id.atttypid, id.atttypmod)
         FROM (VALUES
                (1, 'video_tags', 'videos'), (2, 'video_tags', 'tags'),
                (3, 'video_performers', 'videos'), (4, 'video_performers', 'performers'),
                (5, 'likes', 'videos'), (6, 'skips', 'videos')
              ) AS made (place, name, target)
         JOIN pg_attribute id ON id.attrelid = to_regclass('public.' || made.target) AND id.attname = 'id' AND NOT id.attisdropped
         JOIN pg_type kind ON kind.oid = id.atttypid
         WHERE to_regclass('public.' || made.name) IS NULL
           AND coalesce(nullif(kind.typbasetype, 0), kind.oid) <> 'uuid'::regtype
         ORDER BY made.place",
    )
    .fetch_all(&mut **session)
    .await?;
    let mut tables: Vec<String> = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for (table, id, kind) in rows {
        tables.push(table);
        ids.push(format!("{id} is {kind}"));
    }
    tables.dedup();
    ids.sort();
    ids.dedup();
    if tables.is_empty() {
        Ok(())
    } else {
        Err(StoreError::MissingTables { tables, ids })
    }
}

/// Refuses tables of vectors that another system created, which lack the versions that ours have
/// had from the start. The Supabase CLI, which checks nothing, may have recorded [`EMBEDDINGS`]
/// over them; no later migration can then be applied.
async fn check_vectors(session: &mut Session, pending: bool) -> Result<(), StoreError> {
    let tables: Vec<String> = query_scalar(
        "SELECT 'public.' || made.name FROM (VALUES (1, 'video_embeddings'), (2, 'user_embeddings')) AS made (place, name)
         WHERE to_regclass('public.' || made.name) IS NOT NULL AND NOT EXISTS (
             SELECT FROM pg_attribute
             WHERE attrelid = to_regclass('public.' || made.name) AND attname = 'model_version' AND NOT attisdropped
         )
         ORDER BY made.place",
    )
    .fetch_all(&mut **session)
    .await?;
    if tables.is_empty() {
        return Ok(());
    }
    let mut statements = vec!["CREATE SCHEMA IF NOT EXISTS two_tower_python;".to_owned()];
    // Dropping rather than renaming: indexes would keep their names, which ours need.
    let moved = |table| format!("ALTER TABLE {table} SET SCHEMA two_tower_python;");
    statements.extend(tables.iter().map(moved));
    if !pending {
        statements.push(format!(
            "DELETE FROM supabase_migrations.schema_migrations WHERE version = '{EMBEDDINGS}';"
        ));
    }
    Err(StoreError::OtherVectors {
        tables,
        statements: statements.join(" "),
    })
}

/// Pending migrations, or `None` if the role may not read the record. Looked up by name, since
/// `to_regclass` requires rights on the schema, and an error would end the transaction.
pub(super) async fn pending_if_told(
    session: &mut Session,
) -> Result<Option<Vec<Migration>>, StoreError> {
    let readable: Option<bool> = query_scalar(
        "SELECT has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(pg_class.oid, 'SELECT')
         FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
         WHERE nspname = 'supabase_migrations' AND relname = 'schema_migrations'",
    )
    .fetch_optional(&mut **session)
    .await?;
    match readable {
        Some(false) => Ok(None),
        // Not by `pending`, which fails if the role has no access to that schema.
        None => Ok(Some(MIGRATIONS.to_vec())),
        Some(true) => Ok(Some(pending(session).await?)),
    }
}

async fn pending(session: &mut Session) -> Result<Vec<Migration>, StoreError> {
    let recorded: bool =
        query_scalar("SELECT to_regclass('supabase_migrations.schema_migrations') IS NOT NULL")
            .fetch_one(&mut **session)
            .await?;
    let applied: HashSet<String> = if recorded {
        query_scalar("SELECT version FROM supabase_migrations.schema_migrations")
            .fetch_all(&mut **session)
            .await?
            .into_iter()
            .collect()
    } else {
        HashSet::new()
    };
    Ok(MIGRATIONS
        .into_iter()
        .filter(|(version, ..)| !applied.contains(*version))
        .collect())
}

fn versions(migrations: &[Migration]) -> Vec<String> {
    migrations
        .iter()
        .map(|(version, ..)| (*version).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    const ONE: Migration = ("1", "one", "");

    const AT_ONCE: LockRetry = LockRetry {
        tries: 3,
        backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
    };

    fn locked() -> Step {
        Step::Locked(ONE, sqlx::Error::PoolTimedOut)
    }

    #[tokio::test]
    async fn a_lock_is_waited_for() {
        let mut steps = [locked(), locked(), Step::Applied(ONE), Step::Complete].into_iter();
        let mut step = || ready(Ok(steps.next().unwrap()));
        assert_eq!(retry_locked(&AT_ONCE, &mut step).await.unwrap(), Some(ONE));
        assert_eq!(retry_locked(&AT_ONCE, &mut step).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_lock_is_not_waited_for_without_end() {
        let mut tries = 0;
        let step = || {
            tries += 1;
            ready(Ok(locked()))
        };
        let error = retry_locked(&AT_ONCE, step).await.unwrap_err();
        assert_eq!(tries, 3);
        assert!(
            matches!(error, StoreError::MigrationLocked { tries: 3, .. }),
            "{error}"
        );
        assert!(error.is_transient() && error.is_outage());
        for said in ["migration 1 (one)", "nothing of it was", "pg_blocking_pids"] {
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
