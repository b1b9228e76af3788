use super::session::{query, query_scalar};
use super::{Postgres, Session};
use crate::StoreError;
use std::collections::HashSet;

/// Version, name and text of `supabase/migrations/*`, oldest first. The Supabase CLI applies the same files, and the two
/// keep one record of what was applied.
const MIGRATIONS: [(&str, &str, &str); 15] = [
    (
        "20261124000000",
        "prerequisites",
        include_str!("../../../../supabase/migrations/20261124000000_prerequisites.sql"),
    ),
    (
        "20261124000100",
        "application_tables",
        include_str!("../../../../supabase/migrations/20261124000100_application_tables.sql"),
    ),
    (
        "20261124000200",
        "embeddings",
        include_str!("../../../../supabase/migrations/20261124000200_embeddings.sql"),
    ),
    (
        "20261124000300",
        "model_registry",
        include_str!("../../../../supabase/migrations/20261124000300_model_registry.sql"),
    ),
    (
        "20261125000000",
        "model_life_cycle",
        include_str!("../../../../supabase/migrations/20261125000000_model_life_cycle.sql"),
    ),
    (
        "20261125000100",
        "gate_verdict",
        include_str!("../../../../supabase/migrations/20261125000100_gate_verdict.sql"),
    ),
    (
        "20261126000000",
        "erasure",
        include_str!("../../../../supabase/migrations/20261126000000_erasure.sql"),
    ),
    (
        "20261127000000",
        "serving",
        include_str!("../../../../supabase/migrations/20261127000000_serving.sql"),
    ),
    (
        "20261128000000",
        "statistics",
        include_str!("../../../../supabase/migrations/20261128000000_statistics.sql"),
    ),
    (
        "20261128000100",
        "recommendations",
        include_str!("../../../../supabase/migrations/20261128000100_recommendations.sql"),
    ),
    (
        "20261128000200",
        "user_functions",
        include_str!("../../../../supabase/migrations/20261128000200_user_functions.sql"),
    ),
    (
        "20261128000300",
        "component_roles",
        include_str!("../../../../supabase/migrations/20261128000300_component_roles.sql"),
    ),
    (
        "20261128000400",
        "model_bucket",
        include_str!("../../../../supabase/migrations/20261128000400_model_bucket.sql"),
    ),
    (
        "20261201000000",
        "job_runs",
        include_str!("../../../../supabase/migrations/20261201000000_job_runs.sql"),
    ),
    (
        "20261201000100",
        "user_tower",
        include_str!("../../../../supabase/migrations/20261201000100_user_tower.sql"),
    ),
];

/// The last one, with which the schema is complete.
pub(super) fn last() -> &'static str {
    MIGRATIONS.last().map_or("", |(version, ..)| version)
}

/// Of the advisory lock that migrators take: "twotower" in ASCII.
const LOCK: i64 = 0x7477_6f74_6f77_6572;

/// The record, as the Supabase CLI makes it.
const RECORD: &str = "
    CREATE SCHEMA IF NOT EXISTS supabase_migrations;
    CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text NOT NULL PRIMARY KEY);
    ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS statements text[];
    ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS name text;";

impl Postgres {
    pub(crate) async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let mut session = self.begin_bulk().await?;
        // Held to the end of the transaction: a second migrator waits, and then finds nothing to do.
        query("SELECT pg_advisory_xact_lock($1)")
            .bind(LOCK)
            .execute(&mut *session)
            .await?;
        let pending = pending(&mut session).await?;
        if !pending.is_empty() {
            sqlx::raw_sql(RECORD).execute(&mut *session).await?;
        }
        for &(version, name, sql) in &pending {
            sqlx::raw_sql(sql).execute(&mut *session).await?;
            query("INSERT INTO supabase_migrations.schema_migrations (version, name, statements) VALUES ($1, $2, ARRAY[$3])")
                .bind(version)
                .bind(name)
                .bind(sql)
                .execute(&mut *session)
                .await?;
        }
        session.commit().await?;
        Ok(versions(&pending))
    }

    pub(crate) async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        let mut session = self.begin().await?;
        let pending = pending(&mut session).await?;
        session.commit().await?;
        Ok(versions(&pending))
    }
}

type Migration = (&'static str, &'static str, &'static str);

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
