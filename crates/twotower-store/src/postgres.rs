//! The production store: PostgreSQL 14 or later with pgvector.
//!
//! Everything works through a pooler in transaction mode: each operation is one transaction,
//! statements are unnamed, and settings are `SET LOCAL`.

mod address;

mod session;

mod migrations;

mod again;

mod copy;

mod ids;

mod mapped;

mod videos;

mod facts;

mod pairs;

mod interactions;

mod user_state;

mod user_changes;

mod events;

mod experiments;

mod snapshot;

mod source;

mod registry;

mod job_runs;

mod backup;

mod restore;

mod maintenance;

mod lease;

mod erasure;

mod search;

mod vectors;

mod vector_copy;

mod index;

mod inspection;

mod user_tower;

mod replication;

use crate::store::{BULK_TIMEOUT, redact};
use crate::{ConnectOptions, StoreError, StoreTime};
pub use again::{NoSuchObject, SchemaObject};
use mapped::Mapped;
use session::{Session, query, query_scalar};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
pub use user_changes::UserChanges;
use uuid::Uuid;

/// Number of rows that one statement writes.
const CHUNK: usize = 20_000;

#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pool: PgPool,
    statement_timeout: Duration,
    renewed: Renewed,
    /// Queries with which serving reads the application's own tables.
    mapped: Option<Arc<Mapped>>,
}

/// Connections opened before this moment are closed when next taken.
type Renewed = Arc<Mutex<Option<Instant>>>;

impl Postgres {
    pub(crate) async fn connect(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        let connect = address::parse(url)?;
        let by_name = address::is_by_name(&connect);
        let failed = |cause: sqlx::Error| match &cause {
            // The cause is a file that the address names: a network error has none.
            sqlx::Error::Io(said) if by_name && said.kind() == io::ErrorKind::NotFound => {
                StoreError::NoCertificateFile {
                    address: redact(url),
                    cause,
                }
            }
            _ => StoreError::connecting(redact(url), cause),
        };
        // Connects once directly: a pool would retry until its timeout, and not report the cause.
        let first = PgConnection::connect_with(&connect);
        let first = tokio::time::timeout(options.acquire_timeout, first)
            .await
            .map_err(|_| failed(io::Error::from(io::ErrorKind::TimedOut).into()))?
            .map_err(failed)?;
        first.close().await.map_err(failed)?;
        Ok(Self::lazy(connect, options))
    }

    /// Connects lazily.
    pub(crate) fn open_lazily(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        if !["postgresql", "postgres"].contains(&scheme) {
            return Err(StoreError::ReplicaUrl(redact(url)));
        }
        Ok(Self::lazy(address::parse(url)?, options))
    }

    fn lazy(connect: PgConnectOptions, options: ConnectOptions) -> Self {
        let renewed = Renewed::default();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .acquire_timeout(options.acquire_timeout)
            // `Session::begin` tests a connection by using it, which saves a round trip.
            .test_before_acquire(false);
        Self {
            pool: renewable(pool, &renewed).connect_lazy_with(connect),
            statement_timeout: options.statement_timeout,
            renewed,
            mapped: None,
        }
    }

    pub(crate) fn apart(&self, connections: u32) -> Self {
        let renewed = Renewed::default();
        let options = self.pool.options().clone().max_connections(connections);
        let connect = self.pool.connect_options();
        Self {
            pool: renewable(options, &renewed).connect_lazy_with(connect.as_ref().clone()),
            statement_timeout: self.statement_timeout,
            renewed,
            mapped: self.mapped.clone(),
        }
    }

    pub(crate) fn hurried(&self, limit: Duration) -> Self {
        Self {
            statement_timeout: self.statement_timeout.min(limit),
            ..self.clone()
        }
    }

    /// Number of open connections, and of idle ones among them.
    pub(crate) fn connections(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        let mut session = self.begin().await?;
        query("SELECT 1").execute(&mut *session).await?;
        session.commit().await
    }

    pub(crate) async fn time(&self) -> Result<StoreTime, StoreError> {
        let mut session = self.begin().await?;
        let time = time(&mut session).await?;
        session.commit().await?;
        Ok(time)
    }

    /// Begins a transaction that answers a request.
    async fn begin(&self) -> Result<Session, StoreError> {
        Session::begin(&self.pool, "BEGIN", self.statement_timeout).await
    }

    /// Begins a transaction over whole tables.
    async fn begin_bulk(&self) -> Result<Session, StoreError> {
        Session::begin(&self.pool, "BEGIN", BULK_TIMEOUT).await
    }

    /// Begins a read-only transaction that sees several tables at one moment.
    async fn begin_reading(&self, timeout: Duration) -> Result<Session, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        Session::begin(&self.pool, begin, timeout).await
    }
}

/// Closes connections from before the moment in `renewed` when they are next taken.
fn renewable(options: PgPoolOptions, renewed: &Renewed) -> PgPoolOptions {
    let renewed = Arc::clone(renewed);
    options.before_acquire(move |_, connection| {
        let renewed = *renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_older = renewed.is_some_and(|at| connection.age > at.elapsed());
        Box::pin(std::future::ready(Ok(!is_older)))
    })
}

/// Start of the transaction by the server's clock.
async fn time(session: &mut Session) -> Result<StoreTime, StoreError> {
    let us = query_scalar("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
        .fetch_one(&mut **session)
        .await?;
    Ok(StoreTime::from_us(us))
}

/// The id that a foreign key refused. The server states it in the error's detail, `Key
/// (video_id)=(…) is not present in table "videos".`
fn refused_video(error: &StoreError) -> Option<Uuid> {
    let StoreError::Constraint { cause, .. } = error else {
        return None;
    };
    let detail = cause
        .as_database_error()?
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?
        .detail()?;
    let (_, rest) = detail.split_once("(video_id)=(")?;
    rest.split_once(')')?.0.parse().ok()
}

/// The error of a statement that writes likes or skips, whose video may not exist.
fn unknown_video(error: sqlx::Error) -> StoreError {
    let error = StoreError::from(error);
    match refused_video(&error) {
        Some(id) => StoreError::UnknownVideo(id),
        None => error,
    }
}

/// The last known migration.
pub(crate) fn last_migration() -> String {
    migrations::last().to_owned()
}
