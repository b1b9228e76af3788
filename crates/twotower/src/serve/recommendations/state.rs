//! What the database knows of a user at the moment of a request.

use super::reads::{Failure, Reads};
use crate::serve::error::ApiError;
use crate::serve::limits::Limits;
use crate::serve::replica::{Asked, Known, Sources};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use twotower_store::UserState;

/// After so many reads in a row that failed or were late, the database is taken to be away.
const AWAY_AFTER: u32 = 3;

/// While it is away one read in this time looks whether it is back; nobody else waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Reads states, each within its deadline.
#[derive(Debug)]
pub(in crate::serve) struct UserStates {
    reads: Reads,
    hashes: RandomState,
    /// For the answer that an app waits for; none for as long as the database may take.
    soft: Option<Duration>,
    hard: Duration,
    /// Reads in a row that brought nothing, and when the latest one began while the database is away.
    misses: AtomicU32,
    looked: Mutex<Option<Instant>>,
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
        Self {
            reads: Reads::new(sources, limits.database),
            hashes: RandomState::new(),
            soft: limits.soft(),
            hard: limits.database,
            misses: AtomicU32::new(0),
            looked: Mutex::default(),
        }
    }

    /// Everything the user has liked, and the latest skips and the blocks.
    ///
    /// A read that is too late for its request is not cut off but left to its own deadline: cutting it off costs the connection,
    /// and a slow database is not helped by new ones.
    pub(in crate::serve) async fn read(&self, asked: Asked) -> Result<Known, Unknown> {
        let Some(soft) = self.soft else {
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
        if self.is_away() {
            return Err(Unknown::Late);
        }
        let read = timeout(soft, self.reads.state(asked)).await;
        let outcome = match read {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(Failure::Erased)) => Err(Unknown::Erased),
            Ok(Err(Failure::Store(_) | Failure::Late)) | Err(_) => Err(Unknown::Late),
        };
        if matches!(outcome, Err(Unknown::Late)) {
            self.misses.fetch_add(1, Ordering::Relaxed);
        } else {
            self.misses.store(0, Ordering::Relaxed);
        }
        outcome
    }

    /// Whether to answer without asking: the database is away, and somebody else looks whether it is back.
    fn is_away(&self) -> bool {
        if self.misses.load(Ordering::Relaxed) < AWAY_AFTER {
            return false;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return true;
        }
        *looked = Some(Instant::now());
        false
    }

    /// Equal for equal states, for as long as this process runs.
    pub(in crate::serve) fn hash(&self, state: &UserState) -> u64 {
        self.hashes
            .hash_one((&state.likes, &state.skips, &state.blocks))
    }
}
