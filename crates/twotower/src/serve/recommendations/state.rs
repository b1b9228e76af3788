//! What the database knows of a user at the moment of a request.

use super::reads::{Failure, Presence, Reads, Turn};
use crate::serve::error::ApiError;
use crate::serve::limits::Limits;
use crate::serve::replica::{Asked, Known, Sources};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use twotower_store::UserState;

/// Reads states, each within its deadline.
#[derive(Debug)]
pub(in crate::serve) struct UserStates {
    reads: Reads,
    hashes: RandomState,
    /// Where there is a soft deadline; without one an answer waits for as long as the database may take.
    presence: Option<Arc<Presence>>,
    hard: Duration,
}

/// Why a state is not known.
#[derive(Debug, Clone)]
pub(in crate::serve) enum Unknown {
    /// The user was erased.
    Erased,
    /// The database has not answered within the soft deadline, or not at all: an answer can be made without it.
    Late,
    /// There is no soft deadline, and this is what came of waiting.
    Failed(ApiError),
}

impl UserStates {
    pub(in crate::serve) fn new(sources: &Arc<Sources>, limits: &Limits) -> Self {
        let presence = limits.soft().map(|soft| Arc::new(Presence::new(soft)));
        Self {
            reads: Reads::new(sources, limits, presence.as_ref()),
            hashes: RandomState::new(),
            presence,
            hard: limits.database,
        }
    }

    /// Everything the user has liked, skipped and blocked.
    ///
    /// A read that is too late for its request is not cut off but left to its own deadline: cutting it off costs the connection,
    /// and a slow database is not helped by new ones.
    pub(in crate::serve) async fn read(&self, asked: Asked) -> Result<Known, Unknown> {
        let Some(presence) = &self.presence else {
            let read = timeout(self.hard, self.reads.state(asked)).await;
            return read
                .unwrap_or(Err(Failure::Late))
                .map_err(|failure| match failure {
                    Failure::Erased => Unknown::Erased,
                    Failure::Store(error) => Unknown::Failed(error),
                    Failure::Late => Unknown::Failed(ApiError::Timeout {
                        stage: "the database",
                    }),
                });
        };
        let turn = presence.turn();
        if turn == Turn::DoWithout {
            return Err(Unknown::Late);
        }
        let read = async {
            // Of the one who takes long nobody learns in time that the database is back.
            if turn == Turn::Look && self.reads.is_apart(asked.user) {
                self.reads.look().await?;
            }
            self.reads.state(asked).await
        };
        match timeout(presence.soft(), read).await {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(Failure::Erased)) => Err(Unknown::Erased),
            Ok(Err(Failure::Store(_) | Failure::Late)) | Err(_) => Err(Unknown::Late),
        }
    }

    /// Equal for equal states, for as long as this process runs.
    pub(in crate::serve) fn hash(&self, state: &UserState) -> u64 {
        let mut hasher = self.hashes.build_hasher();
        for ids in [&state.likes, &state.skips] {
            hasher.write_usize(ids.len());
            // As numbers, a third of the work: as slices each would be preceded by its length.
            for id in ids {
                hasher.write_u128(id.as_u128());
            }
        }
        state.blocks.hash(&mut hasher);
        hasher.finish()
    }
}
