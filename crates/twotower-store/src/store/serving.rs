//! What a server asks of the database while it answers requests.

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
    /// The same store, over the same connections, for those who wait for `limit` and no longer: no statement takes more time on the server,
    /// besides those of bulk work. Where that is shorter already it stays.
    ///
    /// What somebody stops waiting for closes its connection, and a server that waits for a lock does not notice that: it would go on for as
    /// long as the statement may take, and the next one beside it on a new connection.
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

    /// Every like, the latest `skip_limit` skips ([`UserState::EVERY_SKIP`] for all) and every block of a user, as of one moment and in one round
    /// trip; [`StoreError::ErasedUser`] of one who was erased.
    pub async fn user_state(&self, user: Uuid, skip_limit: u32) -> Result<UserState, StoreError> {
        let states = self.user_states(&[user], skip_limit).await?;
        let state = states.into_iter().next().flatten();
        state.ok_or(StoreError::ErasedUser)
    }

    /// The same of each of `users`, in that order, still in one round trip; `None` of one who was erased.
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

    /// Keeps what `block` names away from a user; returns whether it was new. [`StoreError::Block`] if its value cannot be one,
    /// [`StoreError::ErasedUser`] of a user who was erased.
    pub async fn add_block(&self, user: Uuid, block: &Block) -> Result<bool, StoreError> {
        block.check()?;
        call!(self, self.options.statement_timeout, add_block(user, block))
    }

    /// Takes a block back; returns whether it was there.
    pub async fn remove_block(&self, user: Uuid, block: &Block) -> Result<bool, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            remove_block(user, block)
        )
    }

    /// Hands over the facts of every video, ascending by id, as of one moment. Some thousands are held at a time.
    pub async fn for_each_video_facts(
        &self,
        each: &mut (dyn FnMut(VideoFacts) + Send),
    ) -> Result<(), StoreError> {
        call!(self, BULK_TIMEOUT, for_each_video_facts(each))
    }

    /// Facts of some videos; those that are not in the catalogue are left out. The time at which a video came into the catalogue does
    /// not stand in for a publication that is not known.
    pub async fn video_facts(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, VideoFacts>, StoreError> {
        let videos = call!(self, self.options.statement_timeout, videos_by_id(ids))?;
        let facts = videos.into_iter().map(|(id, video)| (id, video.into()));
        Ok(facts.collect())
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

    /// How many connections are open.
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

    /// The time by the store's clock, which `updated_at` of vectors follows.
    pub async fn time(&self) -> Result<StoreTime, StoreError> {
        call!(self, self.options.statement_timeout, time())
    }

    /// Vectors of `version` written at `since` or later, with their ids ascending, and the store's time before they were read.
    /// One of another dimension than `dim` is an error.
    ///
    /// A vector bears the time at which its transaction began and is seen once that has ended. So ask again from the returned
    /// time less what a transaction that writes vectors usually takes (`update` writes batches, of seconds): what
    /// lies in the overlap comes twice. What took longer, and deleted vectors, [`Self::vectors_stamp`] tells of.
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

    /// How many vectors of `version` there are, and a sum of the times at which they were written. The two tell, but for one chance in
    /// 2³², that something was written or deleted since, however long before its transaction had begun. Costs a walk over the index of
    /// these times, not over vectors.
    pub async fn vectors_stamp(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<(i64, i64), StoreError> {
        call!(self, BULK_TIMEOUT, vectors_stamp(table, version))
    }

    /// How far the log of the server goes, and which server it is; `None` of SQLite. [`StoreError::Standby`] of a server that takes no
    /// writes.
    pub async fn primary_position(&self) -> Result<Option<PrimaryPosition>, StoreError> {
        call!(self, self.options.statement_timeout, primary_position())
    }

    /// Has every connection that is open now closed when it is next taken, so that whoever is behind the address by then is connected to.
    pub fn drop_connections(&self) {
        if let Engine::Postgres(engine) = &self.engine {
            engine.drop_connections();
        }
    }

    /// Listens for changes to what is kept of users, on a connection besides those of the pool.
    ///
    /// `None` where changes cannot be heard: SQLite has no such thing, a pooler in transaction mode lets no notification
    /// through, and a table `likes` or `skips` of the application's own may bear no triggers. Or not now: a database may be too busy for
    /// the notification by which that is found out. So, but with SQLite, it may be worth another try later. Nobody tells of changes to likes
    /// and skips that are [read elsewhere](Self::reads_elsewhere).
    pub async fn listen_user_changes(&self) -> Result<Option<UserChanges>, StoreError> {
        let limit = self.options.statement_timeout + UserChanges::CONNECT_TIMEOUT;
        call!(self, limit, listen_user_changes())
    }
}
