//! What the server reports about itself, its settings and its statistics.

mod audit;

mod expected;

mod objects;

mod definitions;

mod policies;

mod facts;

mod reads;

use super::Postgres;
use super::session::{query_as, query_scalar};
use crate::StoreError;
use crate::inspection::{Pooler, ServerFacts, TableStatistics, Transport, Verification};
use sqlx::postgres::PgSslMode;
use sqlx::{Connection, PgConnection, Row};

/// Versions, encryption, connections, limit, port.
type Server = (
    String,
    i32,
    Option<String>,
    Option<String>,
    Option<bool>,
    i64,
    i64,
    Option<i32>,
);

/// Connections are counted by the statistics, which every role can read in full.
const SERVER: &str = "
    SELECT current_setting('server_version'), current_setting('server_version_num')::integer,
           (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
           (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'),
           (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
           (SELECT coalesce(sum(numbackends), 0)::bigint FROM pg_stat_database),
           current_setting('max_connections')::bigint, inet_server_port()";

/// Table, rows, dead rows, bytes, bytes of indexes, time since the last vacuum and since the last
/// ANALYZE.
type Statistics = (String, i64, i64, i64, i64, Option<i64>, Option<i64>);

const STATISTICS: &str = "
    SELECT schemaname || '.' || relname, n_live_tup, n_dead_tup,
           pg_total_relation_size(relid), pg_indexes_size(relid),
           (extract(epoch FROM now() - greatest(last_vacuum, last_autovacuum)) * 1000000)::bigint,
           (extract(epoch FROM now() - greatest(last_analyze, last_autoanalyze)) * 1000000)::bigint
    FROM pg_stat_user_tables WHERE schemaname || '.' || relname = ANY ($1) ORDER BY 1";

/// Objects that the migrations create and that can be recreated alone, by kind and name; functions
/// without their arguments.
pub(super) fn made_alone() -> Vec<(&'static str, &'static str)> {
    definitions::made_alone(&objects::parse(objects::LIST))
}

impl Postgres {
    pub(crate) async fn server_facts(&self) -> Result<Option<ServerFacts>, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let server: Server = query_as(SERVER).fetch_one(&mut *session).await?;
        session.commit().await?;
        let (
            version,
            version_number,
            vector,
            vector_available,
            encrypted,
            connections,
            max_connections,
            port,
        ) = server;
        Ok(Some(ServerFacts {
            version,
            version_number,
            vector,
            vector_available,
            connections,
            max_connections,
            transport: self.transport(encrypted),
            port,
        }))
    }

    fn transport(&self, encrypted: Option<bool>) -> Transport {
        let options = self.pool.connect_options();
        let verified = match options.get_ssl_mode() {
            PgSslMode::VerifyFull => Verification::Host,
            PgSslMode::VerifyCa => Verification::Authority,
            _ => Verification::None,
        };
        Transport {
            host: options.get_host().to_owned(),
            local: super::address::is_local(&options),
            encrypted,
            verified,
        }
    }

    /// Detects a pooler in transaction mode. One connection reads the id of its server process, a
    /// second one holds a process in a transaction, and the first reads its id again. With such a
    /// pooler, either the second got the process of the first, or the first has a new one.
    pub(crate) async fn pooler(&self) -> Result<Option<Pooler>, StoreError> {
        let options = self.pool.connect_options();
        let mut first = PgConnection::connect_with(&options).await?;
        let mut second = PgConnection::connect_with(&options).await?;
        let before = process(&mut first).await?;
        sqlx::raw_sql("BEGIN").execute(&mut second).await?;
        let other = process(&mut second).await?;
        let after = process(&mut first).await?;
        sqlx::raw_sql("ROLLBACK").execute(&mut second).await?;
        let port: Option<i32> = sqlx::raw_sql("SELECT inet_server_port()")
            .fetch_one(&mut first)
            .await?
            .try_get(0)?;
        first.close().await?;
        second.close().await?;
        let forwarded = port.is_some_and(|port| port != i32::from(options.get_port()));
        Ok(Some(if before == other || before != after {
            Pooler::Transaction
        } else if forwarded {
            Pooler::Session
        } else {
            Pooler::None
        }))
    }

    pub(crate) async fn table_statistics(&self) -> Result<Vec<TableStatistics>, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let tables: Vec<&str> = expected::tables().collect();
        let rows: Vec<Statistics> = query_as(STATISTICS)
            .bind(tables)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        let table = |(table, rows, dead_rows, bytes, index_bytes, vacuumed_us, analyzed_us)| {
            TableStatistics {
                table,
                rows,
                dead_rows,
                bytes,
                index_bytes,
                vacuumed_us,
                analyzed_us,
            }
        };
        Ok(rows.into_iter().map(table).collect())
    }

    /// Schema of pgvector, quoted.
    async fn vector_schema(session: &mut super::Session) -> Result<Option<String>, StoreError> {
        Ok(query_scalar(
            "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
             WHERE extname = 'vector'",
        )
        .fetch_optional(&mut **session)
        .await?)
    }
}

/// Id of the server process behind a connection. By the simple protocol, in one message, so that a
/// pooler cannot split it.
async fn process(connection: &mut PgConnection) -> Result<i32, StoreError> {
    let row = sqlx::raw_sql("SELECT pg_backend_pid()")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}
