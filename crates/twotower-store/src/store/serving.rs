//! Database access of a server that answers requests.

use super::{
    BULK_TIMEOUT, Connections, Engine, GRACE, Store, StoreTime, UserActivity, UserHistory,
    VectorTable, VideoCard, VideoFacts,
};
use crate::postgres::UserChanges;
use crate::user::{Block, UserState};
use crate::{PrimaryPosition, StoreError};
use std::collections::HashMap;
use std::time::Duration;
use twotower_core::embedding::Embeddings;
use uuid::Uuid;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// The same store, over the same connections, with a statement timeout of at most `limit`,
    /// except for bulk work.
    ///
    /// A caller that stops waiting closes its connection, which a server process that waits for a
    /// lock does not notice. It would continue for as long as the statement timeout allows, beside
    /// the next one on a new connection.
    #[must_use]
    pub fn hurried(&self, limit: Duration) -> Self {
        let engine = match &self.engine {
            Engine::Postgres(engine) => Engine::Postgres(engine.hurried(limit)),
            Engine::Sqlite(engine) => Engine::Sqlite(engine.clone()),
        };
        Self {
            engine,
            options: self.options.hurried(limit),
            ..self.clone()
        }
    }

    /// Every like, the latest `skip_limit` skips ([`UserState::EVERY_SKIP`] for all) and every
    /// block of a user, as of one moment and in one round trip; [`StoreError::ErasedUser`] for an
    /// erased user.
    pub async fn user_state(&self, user: Uuid, skip_limit: u32) -> Result<UserState, StoreError> {
        let states = self.user_states(&[user], skip_limit).await?;
        let state = states.into_iter().next().flatten();
        state.ok_or(StoreError::ErasedUser)
    }

    /// The same for each of `users`, in their order, also in one round trip; `None` for an erased
    /// user.
    pub async fn user_states(
        &self,
        users: &[Uuid],
        skip_limit: u32,
    ) -> Result<Vec<Option<UserState>>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        call!(
            self,
            self.options.statement_timeout,
            user_states(users, skip_limit)
        )
    }

    /// Adds a block and returns whether it was new. [`StoreError::Block`] for an invalid value,
    /// [`StoreError::ErasedUser`] for an erased user.
    pub async fn add_block(&self, user: Uuid, block: &Block) -> Result<bool, StoreError> {
        block.check()?;
        call!(self, self.options.statement_timeout, add_block(user, block))
    }

    /// Removes a block and returns whether it existed.
    pub async fn remove_block(&self, user: Uuid, block: &Block) -> Result<bool, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            remove_block(user, block)
        )
    }

    /// Passes on the facts of every video, ascending by id, as of one moment. A few thousand are
    /// held in memory at a time.
    pub async fn for_each_video_facts(
        &self,
        each: &mut (dyn FnMut(VideoFacts) + Send),
    ) -> Result<(), StoreError> {
        call!(self, BULK_TIMEOUT, for_each_video_facts(each))
    }

    /// Facts of the given videos; missing ones are left out. Unlike in the facts of all videos, an
    /// unknown publication time is not replaced by the time of arrival.
    pub async fn video_facts(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, VideoFacts>, StoreError> {
        let videos = call!(self, self.options.statement_timeout, videos_by_id(ids))?;
        let facts = videos.into_iter().map(|(id, video)| (id, video.into()));
        Ok(facts.collect())
    }

    /// The latest `limit` likes and the latest `limit` skips of a user, oldest first;
    /// [`StoreError::ErasedUser`] for an erased user.
    pub async fn user_history(&self, user: Uuid, limit: u32) -> Result<UserHistory, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            user_history(user, limit)
        )
    }

    /// Every video that the user has ever liked, in no order: those that a list leaves out unless
    /// the request says otherwise.
    pub async fn liked_videos(&self, user: Uuid) -> Result<Vec<Uuid>, StoreError> {
        call!(self, self.options.statement_timeout, liked_videos(user))
    }

    /// Number of likes of each video with at least one.
    pub async fn like_counts(&self) -> Result<Vec<(Uuid, u64)>, StoreError> {
        call!(self, BULK_TIMEOUT, like_counts())
    }

    /// Titles of all videos, ascending by id.
    pub async fn video_titles(&self) -> Result<Vec<(Uuid, String)>, StoreError> {
        call!(self, BULK_TIMEOUT, video_titles())
    }

    /// Display fields of `ids`, in the given order; missing videos are left out.
    pub async fn video_cards(&self, ids: &[Uuid]) -> Result<Vec<VideoCard>, StoreError> {
        let videos = call!(self, self.options.statement_timeout, videos_by_id(ids))?;
        Ok(ids
            .iter()
            .filter_map(|id| videos.get(id))
            .map(VideoCard::from)
            .collect())
    }

    /// Some users, most active first, for the console's preview.
    pub async fn active_users(&self, limit: u32) -> Result<Vec<UserActivity>, StoreError> {
        call!(self, self.options.statement_timeout, active_users(limit))
    }

    /// The most connections that may be open at once.
    pub fn max_connections(&self) -> u32 {
        self.options.max_connections
    }

    /// Number of open connections.
    pub fn connections(&self) -> Connections {
        let (size, idle) = match &self.engine {
            Engine::Postgres(engine) => engine.connections(),
            Engine::Sqlite(engine) => engine.connections(),
        };
        Connections {
            idle,
            busy: (size as usize).saturating_sub(idle),
        }
    }

    /// The time by the store's clock, to which `updated_at` of vectors refers.
    pub async fn time(&self) -> Result<StoreTime, StoreError> {
        call!(self, self.options.statement_timeout, time())
    }

    /// Vectors of `version` written at `since` or later, ascending by id, and the store's time
    /// before the read. A vector of another dimension than `dim` is an error.
    ///
    /// A vector has the time at which its transaction began and becomes visible when that ends. For
    /// the next call, subtract the usual duration of a writing transaction from the returned time
    /// (`update` writes batches of seconds); the overlap is returned twice. Longer transactions and
    /// deletions change [`Self::vectors_stamp`].
    pub async fn vectors_written_since(
        &self,
        table: VectorTable,
        version: i64,
        since: StoreTime,
        dim: usize,
    ) -> Result<(Vec<Uuid>, Embeddings, StoreTime), StoreError> {
        call!(
            self,
            BULK_TIMEOUT,
            vectors_written_since(table, version, since, dim)
        )
    }

    /// Number of vectors of `version`, and a sum over the times at which they were written. A
    /// change of the pair shows a write or deletion, however old its transaction; it is missed with
    /// probability 2⁻³². Costs an index scan over these times, without reading vectors.
    pub async fn vectors_stamp(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<(i64, i64), StoreError> {
        call!(self, BULK_TIMEOUT, vectors_stamp(table, version))
    }

    /// Position of the server's log, and which server it is; `None` for SQLite.
    /// [`StoreError::Standby`] for a server that accepts no writes.
    pub async fn primary_position(&self) -> Result<Option<PrimaryPosition>, StoreError> {
        call!(self, self.options.statement_timeout, primary_position())
    }

    /// Closes every currently open connection when it is next taken, so that new ones lead to the
    /// server that the address then names.
    pub fn drop_connections(&self) {
        if let Engine::Postgres(engine) = &self.engine {
            engine.drop_connections();
        }
    }

    /// Listens for changes to users' data, on a separate connection.
    ///
    /// `None` if changes cannot be received: SQLite has no notifications, a pooler in transaction
    /// mode delivers none, and a table `likes` or `skips` of the application's own may lack the
    /// triggers. Also `None` if the database is too busy to deliver the test notification in time,
    /// so that except for SQLite a later try can succeed. Changes to likes and skips that are [read
    /// elsewhere](Self::reads_elsewhere) are not notified.
    pub async fn listen_user_changes(&self) -> Result<Option<UserChanges>, StoreError> {
        let limit = self.options.statement_timeout + UserChanges::CONNECT_TIMEOUT;
        call!(self, limit, listen_user_changes())
    }
}
