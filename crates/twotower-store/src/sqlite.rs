//! The embedded store: one file, nothing to install.
//!
//! Rows go in as one JSON or BLOB parameter a chunk, which `json_each` takes apart: a statement for each row, or a
//! parameter for each column of each row, costs several times as much.

mod migrations;

mod ids;

mod mapped;

mod videos;

mod facts;

mod interactions;

mod user_state;

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

mod inspection;

use crate::clock::now_us;
use crate::postgres::UserChanges;
use crate::store::redact;
use crate::{ConnectOptions, PrimaryPosition, StoreError, StoreTime};
use mapped::Mapped;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite as Database, SqlitePool, Transaction};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Rows that one statement writes.
const CHUNK: usize = 10_000;

/// Rows that wait between the thread that reads the file and the one that takes them.
const ROW_BUFFER: usize = 1024;

/// How long to wait before a locked file is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// What to do where there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    pool: SqlitePool,
    /// Whether there is no file.
    in_memory: bool,
    /// What serving reads from tables of the application's own.
    mapped: Option<Arc<Mapped>>,
}

impl Sqlite {
    pub(crate) async fn connect(
        url: &str,
        options: ConnectOptions,
        missing: Missing,
    ) -> Result<Self, StoreError> {
        let failed = |cause| StoreError::Connect {
            address: redact(url),
            cause,
        };
        let memory = url.contains(":memory:") || url.contains("mode=memory");
        let connect = SqliteConnectOptions::from_str(url)
            .map_err(failed)?
            // Whatever the address says with `mode=rwc`: whoever must not make a file gets none.
            .create_if_missing(memory || missing == Missing::Create)
            .foreign_keys(true)
            // A power cut may take the last transactions, and never leaves half of one.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(options.acquire_timeout)
            .row_buffer_size(ROW_BUFFER)
            .disable_statement_logging();
        if !memory {
            let file = connect.get_filename();
            match missing {
                Missing::Create => keep_private(file).map_err(|error| failed(error.into()))?,
                // What cannot be looked at may be there: connecting says what is wrong with it.
                Missing::Refuse if matches!(file.try_exists(), Ok(false)) => {
                    return Err(StoreError::NoFile(file.to_owned()));
                }
                Missing::Refuse => {}
            }
            write_ahead(&connect, options.acquire_timeout)
                .await
                .map_err(failed)?;
        }
        // A database in memory lives as long as its one connection.
        let connections = if memory {
            1
        } else {
            options.max_connections.max(1)
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .min_connections(u32::from(memory))
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connect)
            .await
            .map_err(failed)?;
        Ok(Self {
            pool,
            in_memory: memory,
            mapped: None,
        })
    }

    /// Connections that are open, and those among them without work.
    pub(crate) fn connections(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn time(&self) -> Result<StoreTime, StoreError> {
        Ok(StoreTime::from_us(now_us()))
    }

    /// SQLite tells no other process of a change.
    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn listen_user_changes(&self) -> Result<Option<UserChanges>, StoreError> {
        Ok(None)
    }

    /// A file has no replicas.
    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn primary_position(&self) -> Result<Option<PrimaryPosition>, StoreError> {
        Ok(None)
    }

    /// Begins as a writer: a transaction that turns into one later may find that another was faster.
    async fn write(&self) -> Result<Transaction<'static, Database>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Creates the file for its owner alone: what people like is nobody else's business. The files beside it (`-wal`, `-shm`)
/// take over its permissions.
fn keep_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    if path.exists() {
        return Ok(());
    }
    options.open(path).map(drop)
}

/// Has the file keep a write-ahead log, which it remembers: the connections of the pool need not ask again.
///
/// SQLite does not wait for others while it changes the journal, however long the busy timeout: who opens a new file
/// together with another is told that it is locked, and tries again.
async fn write_ahead(
    connect: &SqliteConnectOptions,
    patience: Duration,
) -> Result<(), sqlx::Error> {
    let begun = Instant::now();
    let connect = connect.clone().journal_mode(SqliteJournalMode::Wal);
    loop {
        match connect.connect().await {
            Ok(connection) => return connection.close().await,
            Err(error) if is_busy(&error) && begun.elapsed() < patience => {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether another holds the lock (`SQLITE_BUSY`, or one of its extended codes, whose low byte it is).
fn is_busy(error: &sqlx::Error) -> bool {
    const SQLITE_BUSY: i32 = 5;
    error
        .as_database_error()
        .and_then(|error| error.code()?.parse::<i32>().ok())
        .is_some_and(|code| code & 0xff == SQLITE_BUSY)
}

/// The ids one after the other, to be cut with `substr(?, key * 16 + 1, 16)`.
fn packed(ids: impl ExactSizeIterator<Item = Uuid>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 * ids.len());
    ids.for_each(|id| bytes.extend_from_slice(id.as_bytes()));
    bytes
}

/// A JSON list of numbers.
fn json_numbers(numbers: impl IntoIterator<Item = i64>) -> String {
    use std::fmt::Write;
    let mut json = String::from("[");
    for number in numbers {
        let comma = if json.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(json, "{comma}{number}");
    }
    json.push(']');
    json
}

/// The last migration there is.
pub(crate) fn last_migration() -> String {
    migrations::LAST.to_string()
}
