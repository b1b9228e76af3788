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

/// What a call that moves whole tables may take.
pub(crate) const BULK_TIMEOUT: Duration = Duration::from_hours(1);

/// What a call may take that reads or writes all there is in many statements, each within [`BULK_TIMEOUT`].
pub(crate) const WHOLE_TIMEOUT: Duration = BULK_TIMEOUT.saturating_mul(24);

/// What the server gets to cancel a statement by itself, before the connection is closed under it.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// A database. Cheap to clone: clones share the connections.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
    options: ConnectOptions,
    /// What writes of models and vectors ask for first.
    lease: Option<Lease>,
}

#[derive(Clone)]
enum Engine {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

impl fmt::Debug for Store {
    /// Says nothing of the address: it holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("kind", &self.kind())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Calls one operation of whichever engine it is, within what an operation of its kind may take.
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

// After the macro, which they call.
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
    /// The same database through at most `connections` of its own, opened when they are first used, so that long work and short work do not
    /// wait for each other. An SQLite file is shared as it is.
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

    /// Which engine it is.
    pub fn kind(&self) -> StoreKind {
        match self.engine {
            Engine::Postgres(_) => StoreKind::Postgres,
            Engine::Sqlite(_) => StoreKind::Sqlite,
        }
    }

    /// Waits for calls under way and closes the connections; for the end of a program.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Postgres(engine) => engine.close().await,
            Engine::Sqlite(engine) => engine.close().await,
        }
    }

    /// Cheap round trip; for readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, ping())
    }

    /// Applies what is missing of the schema; returns the versions applied. Safe to run at any time, also twice at once.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        call!(self, BULK_TIMEOUT, migrate())
    }

    /// Makes objects of ours again that are missing or were edited, by the statements of the migrations that make them, and replaces nothing else. All
    /// migrations have to be applied. `None` of the embedded store.
    pub async fn make_again(&self, objects: &[SchemaObject]) -> Result<Option<()>, StoreError> {
        call!(self, BULK_TIMEOUT, make_again(objects))
    }

    /// Versions of migrations not yet applied.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        call!(self, self.options.statement_timeout, pending_migrations())
    }

    /// Whether nothing of ours is in the database: no migration is recorded, and none of our tables is there without its record.
    pub async fn has_nothing_of_ours(&self) -> Result<bool, StoreError> {
        call!(self, self.options.statement_timeout, has_nothing_of_ours())
    }

    /// Rows in the application's tables.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        call!(self, BULK_TIMEOUT, counts())
    }

    /// Upserts videos with their tags and performers, one transaction a call. Of two with one id the last counts.
    pub async fn write_videos(&self, videos: &[Video]) -> Result<VideosWritten, StoreError> {
        self.write_video_columns(VideoColumns::ALL, videos).await
    }

    /// [`Self::write_videos`] for who knows only `columns`: of videos that are there already the others stay as they are, those
    /// of new videos are empty, and what `videos` say in them does not count.
    pub async fn write_video_columns(
        &self,
        columns: VideoColumns,
        videos: &[Video],
    ) -> Result<VideosWritten, StoreError> {
        let videos = tidy(videos)?;
        call!(self, BULK_TIMEOUT, write_videos(columns, &videos))
    }

    /// Inserts likes or skips that are not there yet; returns how many were new. One transaction a call.
    ///
    /// Of several rows for one (user, video) the earliest is kept, unless one is there already. Rows of users who were erased
    /// are left out. A row that names an unknown
    /// video is [`StoreError::UnknownVideo`], and nothing of the call is written then.
    pub async fn write_interactions(
        &self,
        kind: InteractionKind,
        rows: &[InteractionRow],
    ) -> Result<u64, StoreError> {
        for row in rows {
            check_time(kind, row.at_us)?;
        }
        // In order of the primary key: the engines insert faster, and two writers cannot deadlock.
        let mut rows = rows.to_vec();
        rows.sort_unstable_by_key(|row| (row.user, row.video, row.at_us));
        rows.dedup_by_key(|row| (row.user, row.video));
        call!(self, BULK_TIMEOUT, write_interactions(kind, &rows))
    }

    /// Reads everything that a model learns from, as one consistent view.
    pub async fn read_snapshot(
        &self,
        source: &Source,
        options: SnapshotOptions,
    ) -> Result<Snapshot, StoreError> {
        let builder = call!(self, BULK_TIMEOUT, read_snapshot(source, options))?;
        Ok(builder.finish(options, now_us()))
    }

    /// When each user was there last.
    pub async fn last_seen(&self, source: &Source) -> Result<Vec<LastSeen>, StoreError> {
        let seen = call!(self, BULK_TIMEOUT, last_seen(source))?;
        Ok(seen.finish())
    }

    /// Deletes what there is of a user, in one transaction, and leaves a tombstone that keeps them from coming back. Safe to
    /// run again, and beside everything else.
    ///
    /// The embedded store is written anew afterwards, so that nothing is left in its free space.
    pub async fn erase_user(&self, user: Uuid, plan: &ErasePlan) -> Result<Erased, StoreError> {
        call!(self, BULK_TIMEOUT, erase_user(user, plan))
    }

    /// Those of `users` who were erased, in no order.
    pub async fn erased_users(&self, users: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        call!(self, BULK_TIMEOUT, erased_users(users))
    }

    /// Versions that may have learned from somebody who was erased since: (version, time of the first such erasure in
    /// microseconds since 1970), ascending. Failed and pruned ones are left out.
    pub async fn erasures_unseen(&self) -> Result<Vec<(i64, i64)>, StoreError> {
        call!(self, self.options.statement_timeout, erasures_unseen())
    }

    /// Looks for a user's id in every table of the database: as a UUID, as text in any spelling and as 16 bytes. Where it is the id of a video, too,
    /// columns of videos' ids are passed over: our own, those that `source` reads such from, and those that refer to one of these.
    pub async fn search_rows(
        &self,
        user: Uuid,
        source: &Source,
    ) -> Result<SearchedRows, StoreError> {
        call!(self, WHOLE_TIMEOUT, search_rows(user, source))
    }
}

/// What comes of `work`, or [`StoreError::Deadline`] once `limit` is over.
///
/// No `async fn`: that would keep room for `work` twice, as an argument and where it is awaited, in every call that a server makes.
fn within<T, E: From<StoreError>>(
    limit: Duration,
    operation: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    tokio::time::timeout(limit, work).map(move |done| {
        done.unwrap_or_else(|_| Err(StoreError::Deadline { operation, limit }.into()))
    })
}

/// The address without credentials: user information and query are left out.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Not even an address: whatever it is, it may hold a secret after its first word.
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
