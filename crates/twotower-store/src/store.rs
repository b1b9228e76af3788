mod open;

mod rows;

mod facts;

mod video_columns;

mod videos;

pub use facts::VideoFacts;
pub(crate) use facts::{add_name, tidy_facts};
pub use rows::{
    ConnectOptions, Connections, Counts, EmbeddingRow, IndexOutcome, IndexPlan, InteractionKind,
    InteractionRow, LastSeen, StoreKind, StoreTime, UserActivity, UserHistory, VectorAge,
    VectorSummary, VectorTable, VideoCard, VideosWritten,
};
pub use video_columns::{VideoColumn, VideoColumns};
pub use videos::{LONGEST_NAME, text_bytes};
pub(crate) use videos::{as_seen, changes, chunks, known_time, sort_names, tidy};

use crate::clock::now_us;
use crate::postgres::Postgres;
use crate::snapshot::check_time;
use crate::sqlite::Sqlite;
use crate::{
    ErasePlan, Erased, Lease, SchemaObject, SearchedRows, Snapshot, SnapshotOptions, Source,
    StoreError,
};
use futures_util::FutureExt;
use std::fmt;
use std::time::Duration;
use twotower_core::feature::Video;
use uuid::Uuid;

/// Timeout of a call that moves whole tables.
pub(crate) const BULK_TIMEOUT: Duration = Duration::from_hours(1);

/// Timeout of a call that reads or writes everything in many statements, each within
/// [`BULK_TIMEOUT`].
pub(crate) const WHOLE_TIMEOUT: Duration = BULK_TIMEOUT.saturating_mul(24);

/// Extra time for the server to cancel a statement by itself, before its connection is closed.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// A database. Cheap to clone: clones share the connections.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
    options: ConnectOptions,
    /// Lease that writes of models and vectors check first.
    lease: Option<Lease>,
}

#[derive(Clone)]
enum Engine {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

impl fmt::Debug for Store {
    /// Omits the address, which holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("kind", &self.kind())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Calls an operation of the engine in use, with the timeout of its kind.
macro_rules! call {
    ($store:expr, $limit:expr, $operation:ident($($argument:expr),*)) => {{
        let (store, limit): (&Store, Duration) = ($store, $limit);
        let deadline = store.options.acquire_timeout + limit + GRACE;
        let work = async {
            match &store.engine {
                Engine::Postgres(engine) => engine.$operation($($argument),*).await,
                Engine::Sqlite(engine) => engine.$operation($($argument),*).await,
            }
        };
        $crate::store::within(deadline, stringify!($operation), work).await
    }};
}

// After the macro, which these modules use.
mod registry;

mod vectors;

mod lease;

mod serving;

mod events;

mod job_runs;

mod backup;

mod bulk;

mod inspection;
mod maintenance;

pub(crate) use lease::still_ours;
pub(crate) use vectors::check_vector;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// The same database with at most `connections` of its own, opened when first used, so that
    /// long and short work do not compete for connections. An SQLite file is shared unchanged.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn apart(&self, connections: u32) -> Self {
        let engine = match &self.engine {
            Engine::Postgres(engine) => Engine::Postgres(engine.apart(connections)),
            Engine::Sqlite(engine) => Engine::Sqlite(engine.clone()),
        };
        Self {
            engine,
            ..self.clone()
        }
    }

    /// The engine in use.
    pub fn kind(&self) -> StoreKind {
        match self.engine {
            Engine::Postgres(_) => StoreKind::Postgres,
            Engine::Sqlite(_) => StoreKind::Sqlite,
        }
    }

    /// Waits for running calls and closes the connections, at the end of a program.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Postgres(engine) => engine.close().await,
            Engine::Sqlite(engine) => engine.close().await,
        }
    }

    /// A cheap round trip, for readiness checks.
    pub async fn ping(&self) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, ping())
    }

    /// Applies pending migrations and returns their versions. Safe to run at any time, also
    /// concurrently.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        call!(self, BULK_TIMEOUT, migrate())
    }

    /// Recreates missing or edited objects of ours by the statements of the migrations that create
    /// them, and replaces nothing else. Requires that all migrations were applied. `None` for
    /// SQLite.
    pub async fn make_again(&self, objects: &[SchemaObject]) -> Result<Option<()>, StoreError> {
        call!(self, BULK_TIMEOUT, make_again(objects))
    }

    /// Versions of pending migrations.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        call!(self, self.options.statement_timeout, pending_migrations())
    }

    /// Whether the database contains nothing of ours: no recorded migration, and no table of ours
    /// without a record.
    pub async fn has_nothing_of_ours(&self) -> Result<bool, StoreError> {
        call!(self, self.options.statement_timeout, has_nothing_of_ours())
    }

    /// Numbers of rows in the application's tables.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        call!(self, BULK_TIMEOUT, counts())
    }

    /// Upserts videos with their tags and performers, in one transaction per call. Of two with one
    /// id the last counts.
    pub async fn write_videos(&self, videos: &[Video]) -> Result<VideosWritten, StoreError> {
        self.write_video_columns(VideoColumns::ALL, videos).await
    }

    /// [`Self::write_videos`] for a caller that knows only `columns`. Other columns are kept for
    /// existing videos and left empty for new ones; their values in `videos` are ignored.
    pub async fn write_video_columns(
        &self,
        columns: VideoColumns,
        videos: &[Video],
    ) -> Result<VideosWritten, StoreError> {
        let videos = tidy(videos)?;
        call!(self, BULK_TIMEOUT, write_videos(columns, &videos))
    }

    /// Inserts missing likes or skips and returns how many were new. One transaction per call.
    ///
    /// Of several rows for one (user, video) the earliest is kept, unless one exists already. Rows
    /// of erased users are left out. A row of an unknown video is [`StoreError::UnknownVideo`], and
    /// nothing of the call is written then.
    pub async fn write_interactions(
        &self,
        kind: InteractionKind,
        rows: &[InteractionRow],
    ) -> Result<u64, StoreError> {
        for row in rows {
            check_time(kind, row.at_us)?;
        }
        // In order of the primary key: inserts are faster, and two writers cannot deadlock.
        let mut rows = rows.to_vec();
        rows.sort_unstable_by_key(|row| (row.user, row.video, row.at_us));
        rows.dedup_by_key(|row| (row.user, row.video));
        call!(self, BULK_TIMEOUT, write_interactions(kind, &rows))
    }

    /// Reads all training data as one consistent view.
    pub async fn read_snapshot(
        &self,
        source: &Source,
        options: SnapshotOptions,
    ) -> Result<Snapshot, StoreError> {
        let builder = call!(self, BULK_TIMEOUT, read_snapshot(source, options))?;
        Ok(builder.finish(options, now_us()))
    }

    /// When each user was last seen.
    pub async fn last_seen(&self, source: &Source) -> Result<Vec<LastSeen>, StoreError> {
        let seen = call!(self, BULK_TIMEOUT, last_seen(source))?;
        Ok(seen.finish())
    }

    /// Deletes everything of a user in one transaction, and leaves a tombstone that keeps their
    /// data from coming back. Safe to repeat, and to run beside everything else.
    ///
    /// An SQLite file is rewritten afterwards, so that nothing remains in its free space.
    pub async fn erase_user(&self, user: Uuid, plan: &ErasePlan) -> Result<Erased, StoreError> {
        call!(self, BULK_TIMEOUT, erase_user(user, plan))
    }

    /// The erased ones among `users`, in no order.
    pub async fn erased_users(&self, users: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        call!(self, BULK_TIMEOUT, erased_users(users))
    }

    /// Versions whose data may include a user erased since: (version, time of the first such
    /// erasure in microseconds since 1970), ascending. Failed and pruned ones are left out.
    pub async fn erasures_unseen(&self) -> Result<Vec<(i64, i64)>, StoreError> {
        call!(self, self.options.statement_timeout, erasures_unseen())
    }

    /// Searches every table of the database for a user's id: as a UUID, as text in any spelling and
    /// as 16 bytes. If it is also the id of a video, columns of video ids are passed over: our own,
    /// those that `source` reads as such, and those that refer to one of these.
    pub async fn search_rows(
        &self,
        user: Uuid,
        source: &Source,
    ) -> Result<SearchedRows, StoreError> {
        call!(self, WHOLE_TIMEOUT, search_rows(user, source))
    }
}

/// The outcome of `work`, or [`StoreError::Deadline`] after `limit`.
///
/// Not an `async fn`, which would reserve space for `work` twice, as an argument and where it is
/// awaited, in every call that a server makes.
fn within<T, E: From<StoreError>>(
    limit: Duration,
    operation: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    tokio::time::timeout(limit, work).map(move |done| {
        done.unwrap_or_else(|_| Err(StoreError::Deadline { operation, limit }.into()))
    })
}

/// The address without credentials: user information and query are removed.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Not even an address: anything after its first word may be a secret.
        return url
            .split([':', '@', '/', '?'])
            .next()
            .unwrap_or_default()
            .to_owned()
            + "…";
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{place}")
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn no_part_of_a_password_survives() {
        for url in [
            "mysql://user:s3cret@host/db",
            "mysql://user:s3cret@host/db?password=s3cret",
            "mysql://user:p@s3cret/x?y@host:5432/db",
            "user:s3cret@host",
            "mysql:s3cret",
        ] {
            assert!(!redact(url).contains("s3cret"), "{}", redact(url));
        }
        assert_eq!(redact("mysql://user:x@host:1/db?a=b"), "mysql://host:1/db");
    }
}
