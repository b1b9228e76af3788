//! Databases in the form of Supabase (`tests/stand-ins/database`), with our migrations.

use crate::database::{empty_postgres_url, execute, few_connections, postgres_url, server};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use twotower_store::Store;

const ROLES: &str = include_str!("../../../../../tests/stand-ins/database/roles.sql");
const SCHEMA: &str = include_str!("../../../../../tests/stand-ins/database/schema.sql");
const DEFAULT_PRIVILEGES: &str =
    include_str!("../../../../../tests/stand-ins/database/default_privileges.sql");

/// Key of the lock that prevents concurrent tests from creating the same roles.
const LOCK: i64 = 0x726f_6c65_7300;

/// State of the database before the migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Plain PostgreSQL.
    Plain,
    /// Supabase with no default privileges.
    Supabase,
    /// Older Supabase, with all default privileges.
    OlderSupabase,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Supabase, Self::OlderSupabase];

    /// A database without our migrations; its address as their owner.
    pub(super) async fn empty(self) -> String {
        let url = empty_postgres_url().await;
        if self == Self::Plain {
            return url;
        }
        let mut cluster = PgConnection::connect(&server()).await.unwrap();
        let roles = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK}); {ROLES}; COMMIT");
        cluster.execute(AssertSqlSafe(roles)).await.unwrap();
        cluster.close().await.unwrap();
        execute(&url, SCHEMA).await;
        if self == Self::OlderSupabase {
            execute(&url, DEFAULT_PRIVILEGES).await;
        }
        url.replace("postgres@", "stand_in_owner@")
    }

    /// A migrated database; its address as the owner.
    pub(super) async fn migrated(self) -> String {
        if self == Self::Plain {
            return postgres_url().await;
        }
        let url = self.empty().await;
        let store = Store::connect(&url, few_connections()).await.unwrap();
        store.migrate().await.unwrap();
        store.close().await;
        url
    }
}

/// The address of the same database as a superuser.
pub(super) fn as_superuser(url: &str) -> String {
    url.replace("stand_in_owner@", "postgres@")
}
