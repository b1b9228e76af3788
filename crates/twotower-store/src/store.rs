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
    Activation, ActivationRecord, ErasePlan, Erased, Lease, LeaseHolder, LeaseOutcome,
    ModelDetails, ModelRecord, ModelState, NewModel, SearchedRows, Snapshot, SnapshotOptions,
    Source, StoreError,
};
use serde_json::Value;
use std::fmt;
use std::time::Duration;
use twotower_core::embedding::{self, EmbeddingError, Embeddings};
use twotower_core::feature::Video;
use twotower_core::tower::UserTower;
use uuid::Uuid;

/// What a call that moves whole tables may take.
pub(crate) const BULK_TIMEOUT: Duration = Duration::from_hours(1);

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
        match tokio::time::timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Deadline {
                operation: stringify!($operation),
                limit: deadline,
            }),
        }
    }};
}

// After the macro, which they call.
mod serving;

mod job_runs;

mod backup;

mod bulk;

mod inspection;
mod maintenance;

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

    /// Versions of migrations not yet applied.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        call!(self, self.options.statement_timeout, pending_migrations())
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

    /// Looks for a user's id in every table of the database: as a UUID, as text in any spelling and as 16 bytes.
    pub async fn search_rows(&self, user: Uuid) -> Result<SearchedRows, StoreError> {
        call!(self, 24 * BULK_TIMEOUT, search_rows(user))
    }

    /// A number that no model has had; ascending, whatever the clock says.
    pub async fn next_model_version(&self) -> Result<i64, StoreError> {
        call!(self, self.options.statement_timeout, next_model_version())
    }

    /// Registers a version in state `loading`; again for the same model is allowed while it is not active. Another model under a number
    /// that is taken is refused: vectors of the first would pass for the second's.
    pub async fn register_model(&self, model: &NewModel) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            register_model(self.lease, model)
        )
    }

    /// Changes the state of a version that is not active, to anything but active.
    pub async fn set_model_state(&self, version: i64, state: ModelState) -> Result<(), StoreError> {
        if state == ModelState::Active {
            return Err(StoreError::SetActive(version));
        }
        call!(
            self,
            self.options.statement_timeout,
            set_model_state(self.lease, version, state, None)
        )
    }

    /// Gives up a version that is not active; `reason` is kept with it.
    pub async fn fail_model(&self, version: i64, reason: &str) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            set_model_state(self.lease, version, ModelState::Failed, Some(reason))
        )
    }

    /// Says of a version that is not active that its vectors are gone, before they are: a candidate becomes retired, one that is
    /// loading failed. Registering it again takes that back.
    pub async fn prune_model(&self, version: i64) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            prune_model(self.lease, version)
        )
    }

    /// Keeps what the quality gate said of a version, in place of what it said before. Registering it again forgets it.
    pub async fn record_verdict(&self, version: i64, verdict: &Value) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            record_verdict(self.lease, version, verdict)
        )
    }

    /// What the quality gate said of a version, if it was asked and there is such a version.
    pub async fn verdict(&self, version: i64) -> Result<Option<Value>, StoreError> {
        call!(self, self.options.statement_timeout, verdict(version))
    }

    /// Makes a version the one that readers see and retires the previous one, in one transaction that also records by whom
    /// and why. Nothing happens if it is active already. An experiment that runs ends with it, since it compared with the previous
    /// version; its number is returned, also by another call after the answer to the first one was lost.
    pub async fn activate_model(&self, activation: &Activation) -> Result<Option<i64>, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            activate_model(self.lease, activation)
        )
    }

    /// Every activation there was, oldest first.
    pub async fn activations(&self) -> Result<Vec<ActivationRecord>, StoreError> {
        call!(self, self.options.statement_timeout, activations())
    }

    /// Everything that is registered of a version.
    pub async fn model_details(&self, version: i64) -> Result<ModelDetails, StoreError> {
        let mut details = call!(self, self.options.statement_timeout, model_details(version))?;
        details.activations = self.activations().await?;
        details
            .activations
            .retain(|activation| activation.version == version);
        Ok(details)
    }

    /// The version that readers see.
    pub async fn active_model(&self) -> Result<Option<ModelRecord>, StoreError> {
        call!(self, self.options.statement_timeout, active_model())
    }

    /// All registered versions, the latest first.
    pub async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        call!(self, self.options.statement_timeout, models())
    }

    /// (id, fingerprint) of every vector of `version`, ascending by id.
    pub async fn read_fingerprints(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<Vec<(Uuid, i64)>, StoreError> {
        call!(self, BULK_TIMEOUT, read_fingerprints(table, version))
    }

    /// Upserts vectors of `version`, one transaction a call. Those of users who were erased are left out. One that is no embedding is refused before anything is written.
    pub async fn write_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        rows: &[EmbeddingRow<'_>],
    ) -> Result<(), StoreError> {
        let Some(dim) = check_rows(table, rows)? else {
            return Ok(());
        };
        // Of two with one id the last counts, and no two writers meet in different orders.
        let mut rows = rows.to_vec();
        rows.reverse();
        rows.sort_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        call!(
            self,
            BULK_TIMEOUT,
            write_embeddings(self.lease, table, version, dim, &rows)
        )
    }

    /// Writes the user tower of `version`, in place of what is there, which users' vectors are computed with in SQL; `prune_model` removes it. False where it has no
    /// use: in SQLite, and where a layer has more inputs than the 16,000 of pgvector's vectors.
    pub async fn write_user_tower(
        &self,
        version: i64,
        tower: &UserTower,
    ) -> Result<bool, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            write_user_tower(self.lease, version, tower)
        )
    }

    /// Deletes the vectors of `ids` in `version`; returns how many were there.
    pub async fn delete_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        ids: &[Uuid],
    ) -> Result<u64, StoreError> {
        call!(
            self,
            BULK_TIMEOUT,
            delete_embeddings(self.lease, table, version, ids)
        )
    }

    /// All vectors of `version` with their ids ascending. One of another dimension than `dim` is an error.
    pub async fn read_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<(Vec<Uuid>, Embeddings), StoreError> {
        call!(self, BULK_TIMEOUT, read_embeddings(table, version, dim))
    }

    /// Number of vectors of each version that has any, ascending by version.
    pub async fn count_vectors(&self, table: VectorTable) -> Result<Vec<(i64, u64)>, StoreError> {
        let counts: Vec<(i64, i64)> = call!(self, BULK_TIMEOUT, count_vectors(table))?;
        Ok(counts
            .into_iter()
            .map(|(version, rows)| (version, rows as u64))
            .collect())
    }

    /// Number and age of the vectors of each version that has any, ascending by version.
    pub async fn vector_ages(&self, table: VectorTable) -> Result<Vec<VectorAge>, StoreError> {
        let ages: Vec<(i64, i64, i64, Option<i64>)> =
            call!(self, BULK_TIMEOUT, vector_ages(table))?;
        let age = |(version, rows, age_us, past_us): (i64, i64, i64, Option<i64>)| VectorAge {
            version,
            rows: rows as u64,
            // A clock that was set back makes nothing older.
            age: Duration::from_micros(age_us.max(0) as u64),
            known_age: past_us.map(|us| Duration::from_micros(us.max(0) as u64)),
        };
        Ok(ages.into_iter().map(age).collect())
    }

    /// Ids of the vectors of `version` that were not written for so long, ascending.
    pub async fn unwritten_vectors(
        &self,
        table: VectorTable,
        version: i64,
        age: Duration,
    ) -> Result<Vec<Uuid>, StoreError> {
        let age_us = age.as_micros() as i64;
        call!(
            self,
            BULK_TIMEOUT,
            unwritten_vectors(table, version, age_us)
        )
    }

    /// Counts the vectors of `version`, and those among them that are none of a model of dimension `dim`.
    pub async fn summarize_vectors(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<VectorSummary, StoreError> {
        call!(self, BULK_TIMEOUT, summarize_vectors(table, version, dim))
    }

    /// Builds the HNSW index of a version's video vectors, for those who search in SQL, unless it is there. SQLite has none.
    pub async fn build_vector_index(&self, plan: &IndexPlan) -> Result<IndexOutcome, StoreError> {
        call!(self, BULK_TIMEOUT, build_vector_index(self.lease, plan))
    }

    /// Drops the HNSW index of a version's video vectors; returns whether there was one.
    pub async fn drop_vector_index(&self, version: i64) -> Result<bool, StoreError> {
        call!(self, BULK_TIMEOUT, drop_vector_index(self.lease, version))
    }

    /// Asks to be the only publisher for so long. `asking` tells others who it is.
    pub async fn take_lease(
        &self,
        asking: &LeaseHolder,
        lifetime: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            take_lease(asking, lifetime)
        )
    }

    /// Holds the lease for its lifetime from now on; [`StoreError::LeaseLost`] if somebody has taken it over.
    pub async fn renew_lease(&self, lease: Lease) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, renew_lease(lease))
    }

    /// Gives the lease back, if it is still ours.
    pub async fn release_lease(&self, lease: Lease) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, release_lease(lease))
    }

    /// The same store for the holder of a lease: what it writes of models and vectors fails with [`StoreError::LeaseLost`]
    /// once somebody has taken the lease over, and nothing is written then.
    #[must_use]
    pub fn under(&self, lease: Lease) -> Self {
        Self {
            lease: Some(lease),
            ..self.clone()
        }
    }

    /// The latest `limit` likes and the latest `limit` skips of a user, oldest first; [`StoreError::ErasedUser`] of one who was
    /// erased.
    pub async fn user_history(&self, user: Uuid, limit: u32) -> Result<UserHistory, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            user_history(user, limit)
        )
    }

    /// Every video the user has ever liked, in no order: what must not come back.
    pub async fn liked_videos(&self, user: Uuid) -> Result<Vec<Uuid>, StoreError> {
        call!(self, self.options.statement_timeout, liked_videos(user))
    }

    /// Number of likes per video, for videos with at least one.
    pub async fn like_counts(&self) -> Result<Vec<(Uuid, u64)>, StoreError> {
        call!(self, BULK_TIMEOUT, like_counts())
    }

    /// Counts the likes of each video and averages the vectors of each version for `recommend_videos`, the function of the
    /// database that recommends in SQL; nothing on SQLite, which has none.
    pub async fn refresh_statistics(&self) -> Result<(), StoreError> {
        call!(self, BULK_TIMEOUT, refresh_statistics())
    }

    /// Titles of all videos, ascending by id.
    pub async fn video_titles(&self) -> Result<Vec<(Uuid, String)>, StoreError> {
        call!(self, BULK_TIMEOUT, video_titles())
    }

    /// Cards of `ids`, in the order given; unknown ids are left out.
    pub async fn video_cards(&self, ids: &[Uuid]) -> Result<Vec<VideoCard>, StoreError> {
        let videos = call!(self, self.options.statement_timeout, videos_by_id(ids))?;
        Ok(ids
            .iter()
            .filter_map(|id| videos.get(id))
            .map(VideoCard::from)
            .collect())
    }

    /// Some users, the most active first, for the console's try-out.
    pub async fn active_users(&self, limit: u32) -> Result<Vec<UserActivity>, StoreError> {
        call!(self, self.options.statement_timeout, active_users(limit))
    }

    /// Records one like or skip of now by the store's clock; returns whether it was new. `Ok(false)` also if it was there.
    /// An unknown video is [`StoreError::UnknownVideo`], a user who was erased [`StoreError::ErasedUser`], and what is read from a table of the
    /// application's own [`StoreError::ReadElsewhere`].
    pub async fn record(
        &self,
        kind: InteractionKind,
        user: Uuid,
        video: Uuid,
    ) -> Result<bool, StoreError> {
        self.refuse_elsewhere(kind)?;
        call!(
            self,
            self.options.statement_timeout,
            record(kind, user, video)
        )
    }
}

/// Whether the one row of the lease was found under our number.
pub(crate) fn still_ours(rows: u64) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::LeaseLost)
    }
}

/// Refuses what is not an embedding of dimension `dim`.
pub(crate) fn check_vector(vector: &[f32], dim: usize) -> Result<(), EmbeddingError> {
    if vector.len() == dim {
        embedding::check(vector)
    } else {
        Err(EmbeddingError::Dimension {
            expected: dim,
            actual: vector.len(),
        })
    }
}

/// The dimension of the vectors of `rows`; `None` without any.
fn check_rows(table: VectorTable, rows: &[EmbeddingRow<'_>]) -> Result<Option<usize>, StoreError> {
    let dim = rows.first().map(|row| row.vector.len());
    for (row, embedding) in rows.iter().enumerate() {
        let dim = dim.unwrap_or_default();
        check_vector(embedding.vector, dim).map_err(|source| StoreError::Vector {
            table: table.table(),
            row,
            source,
        })?;
    }
    Ok(dim)
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
