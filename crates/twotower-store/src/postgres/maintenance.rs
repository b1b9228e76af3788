use super::session::{query, query_as, query_scalar};
use super::user_changes::PROTOCOL_VIOLATION;
use super::{CHUNK, Postgres};
use crate::maintenance::{LEAST_MB, hnsw_build_mb, hnsw_bytes};
use crate::store::WHOLE_TIMEOUT;
use crate::{Health, IndexHealth, StepLimits, StoreError, TableHealth, Upkeep};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

/// Our tables, and whether the role may maintain them: as owner or, from PostgreSQL 17 on, by a
/// grant.
macro_rules! own_tables {
    () => {
        "SELECT class.oid, format('%I.%I', nspname, class.relname) AS name, stats.*,
                pg_has_role(relowner, 'USAGE')
                OR CASE WHEN current_setting('server_version_num')::integer >= 170000
                   THEN has_table_privilege(class.oid, 'MAINTAIN') ELSE false END AS permitted
         FROM pg_class AS class JOIN pg_namespace ON pg_namespace.oid = relnamespace
         LEFT JOIN pg_stat_all_tables AS stats ON stats.relid = class.oid
         WHERE relkind = 'r' AND (nspname = 'twotower' OR nspname = 'public' AND class.relname IN (
             'video_embeddings', 'user_embeddings', 'recommendation_blocks', 'recommendation_cache'))"
    };
}

type TableRow = (String, i64, i64, i64, i64, Option<i64>, Option<i64>, bool);

/// Name, table, size, validity, whether it is a remnant of a rebuild, version, dimension,
/// neighbours per layer, permission.
type IndexRow = (
    String,
    String,
    i64,
    bool,
    bool,
    Option<i64>,
    Option<i64>,
    i64,
    bool,
);

impl Postgres {
    pub(crate) async fn health(&self) -> Result<Health, StoreError> {
        let mut session = self.begin_bulk().await?;
        let tables: Vec<TableRow> = query_as(concat!(
            "SELECT name, coalesce(n_live_tup, 0), coalesce(n_dead_tup, 0), coalesce(n_mod_since_analyze, 0), pg_total_relation_size(own.oid),
                    (extract(epoch FROM greatest(last_vacuum, last_autovacuum)) * 1000000)::bigint,
                    (extract(epoch FROM greatest(last_analyze, last_autoanalyze)) * 1000000)::bigint, permitted
             FROM (", own_tables!(), ") AS own ORDER BY name"
        ))
        .fetch_all(&mut *session)
        .await?;
        // An index that is being built right now is no remnant.
        let rows: Vec<IndexRow> = query_as(concat!(
            "SELECT format('%I.%I', nspname, class.relname), own.name, pg_relation_size(indexrelid), indisvalid,
                    class.relname ~ '_cc(new|old)[0-9]*$', models.version, embedding_dim::bigint,
                    coalesce((SELECT option_value::bigint FROM pg_options_to_table(class.reloptions) WHERE option_name = 'm'), 16),
                    permitted
             FROM pg_index JOIN pg_class AS class ON class.oid = indexrelid JOIN pg_namespace ON pg_namespace.oid = class.relnamespace
             JOIN (", own_tables!(), ") AS own ON own.oid = indrelid
             LEFT JOIN twotower.models AS models ON class.relname = 'video_embeddings_hnsw_' || models.version
             WHERE (NOT indisvalid OR models.version IS NOT NULL)
             AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS building WHERE building.index_relid = indexrelid)
             ORDER BY class.relname"
        ))
        .fetch_all(&mut *session)
        .await?;
        let mut indexes = Vec::new();
        for (name, table, bytes, valid, leftover, version, dim, m, permitted) in rows {
            let count: i64 = query_scalar(
                "SELECT count(*) FROM public.video_embeddings WHERE model_version = $1",
            )
            .bind(version)
            .fetch_one(&mut *session)
            .await?;
            let (count, dim) = (count as u64, dim.unwrap_or(0) as u64);
            indexes.push(IndexHealth {
                name,
                table,
                bytes: bytes as u64,
                needed_bytes: version.map(|_| hnsw_bytes(count, dim, m as u64)),
                rows: count,
                dim: dim as usize,
                valid,
                leftover: leftover && !valid,
                permitted,
            });
        }
        session.commit().await?;
        let table = |row: TableRow| {
            let (name, live, dead, changed, bytes, vacuumed_at_us, analyzed_at_us, permitted) = row;
            TableHealth {
                name,
                live_rows: live as u64,
                dead_rows: dead as u64,
                changed_rows: changed as u64,
                bytes: bytes as u64,
                vacuumed_at_us,
                analyzed_at_us,
                permitted,
            }
        };
        Ok(Health {
            tables: tables.into_iter().map(table).collect(),
            indexes,
            file: None,
        })
    }

    pub(crate) async fn maintain(
        &self,
        step: &Upkeep,
        limits: StepLimits,
    ) -> Result<u64, StoreError> {
        let mut connection = self.connect_to_maintain(step, limits).await?;
        let done = run(&mut connection, step).await;
        // Closed in either case, since a failed statement can leave its settings behind.
        connection.close().await?;
        done
    }

    /// A separate connection, since these statements run outside transactions, where `SET LOCAL`
    /// has no effect. Without effective limits nothing is run: the application would queue behind
    /// our locks.
    async fn connect_to_maintain(
        &self,
        step: &Upkeep,
        limits: StepLimits,
    ) -> Result<PgConnection, StoreError> {
        let memory = match step {
            Upkeep::Rebuild { index } => hnsw_build_mb(index.rows, index.dim, limits.memory_mb),
            _ => LEAST_MB,
        };
        let lock_ms = limits.lock.as_millis().max(1) as i64;
        let options = (*self.pool.connect_options()).clone().options([
            ("maintenance_work_mem", format!("{memory}MB")),
            ("lock_timeout", lock_ms.to_string()),
            ("statement_timeout", milliseconds(limits.statement)),
            ("client_connection_check_interval", "5s".into()),
        ]);
        let mut connection = match PgConnection::connect_with(&options).await {
            // A pooler that does not support these settings.
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(PROTOCOL_VIOLATION) =>
            {
                return Err(refused());
            }
            connection => connection?,
        };
        let arrived: i64 =
            query_scalar("SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout'")
                .fetch_one(&mut connection)
                .await?;
        if arrived == lock_ms {
            Ok(connection)
        } else {
            Err(refused())
        }
    }
}

fn refused() -> StoreError {
    StoreError::Settings {
        setting: "lock_timeout",
    }
}

/// At most a day; 0 would mean no limit.
fn milliseconds(limit: Duration) -> String {
    limit.min(WHOLE_TIMEOUT).as_millis().max(1).to_string()
}

async fn run(connection: &mut PgConnection, step: &Upkeep) -> Result<u64, StoreError> {
    let (form, name) = match step {
        Upkeep::Vacuum { table } => (
            "SELECT 'VACUUM (ANALYZE, TRUNCATE FALSE) ' || $1::regclass",
            table,
        ),
        Upkeep::Analyze { table } => ("SELECT 'ANALYZE ' || $1::regclass", table),
        Upkeep::Rebuild { index } => (
            "SELECT 'REINDEX INDEX CONCURRENTLY ' || $1::regclass",
            &index.name,
        ),
        Upkeep::Drop { index } => ("SELECT 'DROP INDEX CONCURRENTLY ' || $1::regclass", index),
        Upkeep::DeleteAnswers { age } => return delete_answers(connection, *age).await,
        Upkeep::DeleteRuns { age } => {
            let done = query(
                "DELETE FROM twotower.job_runs WHERE finished_at < now() - $1 * interval '1 second'",
            )
            .bind(age.as_secs_f64())
            .execute(connection)
            .await?;
            return Ok(done.rows_affected());
        }
        // The server does these by itself.
        Upkeep::Optimize | Upkeep::CheckFile | Upkeep::ShrinkFile => return Ok(0),
    };
    // The server has quoted the name.
    let statement: String = query_scalar(form)
        .bind(name)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await?;
    Ok(0)
}

/// In batches, skipping locked rows.
async fn delete_answers(connection: &mut PgConnection, age: Duration) -> Result<u64, StoreError> {
    let mut deleted = 0;
    loop {
        let done = query(
            "DELETE FROM public.recommendation_cache WHERE (user_id, cache_key) IN (
                 SELECT user_id, cache_key FROM public.recommendation_cache
                 WHERE made_at < now() - $1 * interval '1 second' LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .bind(age.as_secs_f64())
        .bind(CHUNK as i64)
        .execute(&mut *connection)
        .await?;
        deleted += done.rows_affected();
        if done.rows_affected() < CHUNK as u64 {
            return Ok(deleted);
        }
    }
}
