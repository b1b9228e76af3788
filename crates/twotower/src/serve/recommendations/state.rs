//! What the database knows of a user at the moment of a request.

use crate::serve::error::ApiError;
use crate::serve::limits::Limits;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use twotower_store::{Store, StoreError, UserState};
use uuid::Uuid;

/// So many latest skips count; older ones would hardly move the user's vector.
const SKIPS: u32 = 1000;

/// Reads under way at once. The database has a handful of connections; more waiting for them helps nobody.
const MAX_READS: usize = 64;

/// After so many reads in a row that failed or were late, the database is taken to be away.
const AWAY_AFTER: u32 = 3;

/// While it is away one read in this time looks whether it is back; nobody else waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Reads states, each within its deadline.
#[derive(Debug)]
pub(in crate::serve) struct UserStates {
    store: Store,
    reads: Arc<Semaphore>,
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
    pub(in crate::serve) fn new(store: Store, limits: &Limits) -> Self {
        Self {
            store,
            reads: Arc::new(Semaphore::new(MAX_READS)),
            hashes: RandomState::new(),
            soft: (!limits.soft_deadline.is_zero()).then_some(limits.soft_deadline),
            hard: limits.database,
            misses: AtomicU32::new(0),
            looked: Mutex::default(),
        }
    }

    /// Everything the user has liked, and the latest skips and the blocks.
    ///
    /// A read that is too late for its request is not cut off but left to its own deadline: cutting it off costs the connection,
    /// and a slow database is not helped by new ones.
    pub(in crate::serve) async fn read(&self, user: Uuid) -> Result<UserState, Unknown> {
        let Some(soft) = self.soft else {
            return match timeout(self.hard, self.store.user_state(user, SKIPS)).await {
                Ok(outcome) => outcome.map_err(|error| match ApiError::store(&error) {
                    ApiError::Erased => Unknown::Erased,
                    error => Unknown::Failed(error),
                }),
                Err(_) => Err(Unknown::Failed(ApiError::Timeout {
                    stage: "the database",
                })),
            };
        };
        if self.is_away() {
            return Err(Unknown::Late);
        }
        let in_time = async {
            let Ok(permit) = Arc::clone(&self.reads).acquire_owned().await else {
                return Err(Unknown::Late);
            };
            let (store, hard) = (self.store.clone(), self.hard);
            let read = tokio::spawn(async move {
                let _permit = permit;
                timeout(hard, store.user_state(user, SKIPS)).await
            });
            match read.await {
                Ok(Ok(Ok(state))) => Ok(state),
                Ok(Ok(Err(StoreError::ErasedUser))) => Err(Unknown::Erased),
                Ok(Ok(Err(error))) => {
                    tracing::warn!(%error, "the state of a user could not be read");
                    Err(Unknown::Late)
                }
                Ok(Err(_)) | Err(_) => Err(Unknown::Late),
            }
        };
        let outcome = timeout(soft, in_time).await.unwrap_or(Err(Unknown::Late));
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
