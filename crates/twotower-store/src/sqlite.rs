//! The embedded store: one file, nothing to install.
//!
//! A chunk of rows is passed as one JSON or BLOB parameter, which `json_each` takes apart. One
//! statement per row, or one parameter per column and row, costs several times as much.

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
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Number of rows that one statement writes.
const CHUNK: usize = 10_000;

/// Number of rows buffered between the thread that reads the file and the consumer.
const ROW_BUFFER: usize = 1024;

/// Pause before a locked file is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Whether a missing file is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

/// The file of a database at `sqlite://path`, as [`Store::connect`](crate::Store::connect) opens
/// it; `None` for other databases, and for one in memory. `%` and two digits in a path stand for a
/// character, so that it may have `?` and `#` in it.
#[must_use]
pub fn database_file(url: &str) -> Option<PathBuf> {
    if !url.starts_with("sqlite:") || is_in_memory(url) {
        return None;
    }
    let options = SqliteConnectOptions::from_str(url).ok()?;
    Some(options.get_filename().to_owned())
}

fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}

#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    pool: SqlitePool,
    /// Whether the file is missing.
    in_memory: bool,
    /// Queries with which serving reads the application's own tables.
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
        let memory = is_in_memory(url);
        let connect = SqliteConnectOptions::from_str(url)
            .map_err(failed)?
            // Overrides `mode=rwc` in the address: a caller that must not create a file gets none.
            .create_if_missing(memory || missing == Missing::Create)
            .foreign_keys(true)
            // What is committed outlives a power failure: a version number that was given, and a
            // tombstone above all. It costs an fsync for each commit.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(options.acquire_timeout)
            .row_buffer_size(ROW_BUFFER)
            .disable_statement_logging();
        if !memory {
            let file = connect.get_filename();
            match missing {
                Missing::Create => keep_private(file).map_err(|error| failed(error.into()))?,
                // A path that cannot be inspected may exist: connecting reports the error.
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

    /// Number of open connections, and of idle ones among them.
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

    /// SQLite does not notify other processes of changes.
    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn listen_user_changes(&self) -> Result<Option<UserChanges>, StoreError> {
        Ok(None)
    }

    /// A file has no replicas.
    #[expect(clippy::unused_async, reason = "the other engine has work to do")]
    pub(crate) async fn primary_position(&self) -> Result<Option<PrimaryPosition>, StoreError> {
        Ok(None)
    }

    /// Begins a write transaction at once: upgrading a read transaction later can fail.
    async fn write(&self) -> Result<Transaction<'static, Database>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Creates the file with access for its owner only, since likes are private. The files beside it
/// (`-wal`, `-shm`) get the same permissions.
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

/// Switches the file to write-ahead logging, which is stored in it: the pool's connections need not
/// repeat this.
///
/// SQLite ignores the busy timeout while it changes the journal mode. Processes that open a new
/// file at the same time get an error, and retry.
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

/// Whether another process holds the lock (`SQLITE_BUSY`, or one of its extended codes, whose low
/// byte it is).
fn is_busy(error: &sqlx::Error) -> bool {
    const SQLITE_BUSY: i32 = 5;
    error
        .as_database_error()
        .and_then(|error| error.code()?.parse::<i32>().ok())
        .is_some_and(|code| code & 0xff == SQLITE_BUSY)
}

/// The ids concatenated, to be split by `substr(?, key * 16 + 1, 16)`.
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

/// The last known migration.
pub(crate) fn last_migration() -> String {
    migrations::LAST.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_one_that_is_opened() {
        for (url, file) in [
            ("sqlite://twotower.db", "twotower.db"),
            ("sqlite:///srv/my%20app/a.db?mode=rwc", "/srv/my app/a.db"),
            ("sqlite:a%3Fb.db", "a?b.db"),
        ] {
            assert_eq!(database_file(url), Some(file.into()), "{url}");
        }
        for url in [
            "sqlite::memory:",
            "sqlite://a.db?mode=memory",
            "postgresql://a/b.db",
            "",
        ] {
            assert_eq!(database_file(url), None, "{url}");
        }
    }
}
