//! What a server asks of the database while it answers requests.

use super::{BULK_TIMEOUT, Connections, Engine, GRACE, Store, StoreTime, VectorTable, VideoFacts};
use crate::StoreError;
use crate::postgres::UserChanges;
use crate::user::{Block, UserState};
use std::collections::HashMap;
use std::time::Duration;
use twotower_core::embedding::Embeddings;
use uuid::Uuid;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// Every like, the latest `skip_limit` skips and every block of a user, as of one moment and in one round trip;
    /// [`StoreError::ErasedUser`] of one who was erased.
    pub async fn user_state(&self, user: Uuid, skip_limit: u32) -> Result<UserState, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            user_state(user, skip_limit)
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
    /// time less the longest that a transaction which writes vectors may take (`update` writes batches, of seconds): what
    /// lies in the overlap comes twice. Deleted vectors are not told of.
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

    /// Listens for changes to what is kept of users, on a connection besides those of the pool.
    ///
    /// `None` where changes cannot be heard: SQLite has no such thing, a pooler in transaction mode lets no notification
    /// through, and a table `likes` or `skips` of the application's own may bear no triggers.
    pub async fn listen_user_changes(&self) -> Result<Option<UserChanges>, StoreError> {
        let limit = self.options.statement_timeout + UserChanges::CONNECT_TIMEOUT;
        call!(self, limit, listen_user_changes())
    }
}
