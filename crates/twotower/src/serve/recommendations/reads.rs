//! Reads the states of many users with few statements: requests that arrive while a statement is
//! under way share the next one.
//!
//! A round trip costs both sides more than the rows of one user do.

mod batcher;

mod fair_queue;

use super::batch::USERS_AT_ONCE;
use super::cache::Subject;
use crate::serve::circuit_breaker::CircuitBreaker;
use crate::serve::error::ApiError;
use crate::serve::limits::Limits;
use crate::serve::replica::{Asked, Known, Sources};
use batcher::Batcher;
use fair_queue::FairQueue;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use twotower_store::{StoreError, UserState};
use uuid::Uuid;

/// Statements of the shared lane under way at once: enough to hide the round trip to a distant
/// database.
const SHARED_READERS: usize = 4;

/// Statements of the separate lane under way at once. With two, a user whose reads are slow holds
/// up no other.
const SEPARATE_READERS: usize = 2;

/// Most requests that one statement answers.
const MAX_BATCH_SIZE: usize = 32;

/// Longest wait of a batch for the end of the statement under way.
const MAX_BATCH_WAIT: Duration = Duration::from_millis(2);

/// Most requests that wait in the channel to the readers of the shared lane. Further ones wait for
/// room in it.
const MAX_QUEUED: usize = 256;

/// A user with more likes, skips and blocks than this takes as long to read as many others
/// together, and is read in the separate lane.
const MAX_SHARED_ROWS: usize = 5000;

/// Most users who are remembered for the separate lane, and for how long.
const MAX_SEPARATE_USERS: u64 = 10_000;
const SEPARATE_FOR: Duration = Duration::from_mins(10);

/// Time for the database to cancel a late statement by itself. After that the connection is closed,
/// and a new one costs more than this wait, which holds up no request.
const GRACE: Duration = Duration::from_millis(250);

/// What the database says of a user, shared by all requests that one read answers.
#[derive(Debug, Clone)]
pub(in crate::serve) struct StateRead {
    pub(in crate::serve) state: Arc<UserState>,
    /// As [`Known::verified`].
    pub(in crate::serve) verified: bool,
}

impl From<Known> for StateRead {
    fn from(known: Known) -> Self {
        Self {
            state: Arc::new(known.state),
            verified: known.verified,
        }
    }
}

/// Why the state of a user could not be read.
#[derive(Debug, Clone)]
pub(in crate::serve) enum ReadError {
    /// The user was erased.
    Erased,
    /// The database did not answer in time.
    Late,
    /// The database cannot be reached or has no free connection.
    Unreachable(ApiError),
    /// The statement failed, perhaps because of one of its users.
    Statement(ApiError),
}

impl ReadError {
    fn of(error: &StoreError) -> Self {
        match error {
            // Cancelled by the database at the end of its time. One statement for each user might
            // take as long each.
            StoreError::Cancelled(_) | StoreError::Deadline { .. } => Self::Late,
            error if error.is_outage() => Self::Unreachable(ApiError::store(error)),
            error => Self::Statement(ApiError::store(error)),
        }
    }
}

type Outcome = Result<StateRead, ReadError>;

#[derive(Debug)]
struct Request {
    asked: Asked,
    outcome: oneshot::Sender<Outcome>,
}

/// All requests of a batch for one user, which one read answers.
struct UserRequests {
    asked: Asked,
    outcomes: Vec<oneshot::Sender<Outcome>>,
}

impl UserRequests {
    /// Groups requests by user, in the order of each user's first request. Drops those whose
    /// callers no longer wait.
    fn group(requests: impl IntoIterator<Item = Request>) -> Vec<Self> {
        let mut grouped: Vec<Self> = Vec::new();
        for Request { asked, outcome } in requests {
            if outcome.is_closed() {
                continue;
            }
            match grouped.iter_mut().find(|it| it.asked.user == asked.user) {
                Some(of_user) => of_user.outcomes.push(outcome),
                None => grouped.push(Self {
                    asked,
                    outcomes: vec![outcome],
                }),
            }
        }
        grouped
    }

    fn is_given_up(&self) -> bool {
        self.outcomes.iter().all(oneshot::Sender::is_closed)
    }

    fn answer(self, outcome: &Outcome) {
        for waiting in self.outcomes {
            let _ = waiting.send(outcome.clone());
        }
    }
}

/// Hands requests to the readers, which end when this is dropped.
///
/// Most users are read in the shared lane, many in one statement. Users whose reads take long are
/// read in the separate lane, one in each statement.
#[derive(Debug)]
pub(super) struct Reads {
    shared: mpsc::Sender<Request>,
    separate: Arc<FairQueue>,
    separate_users: SeparateUsers,
}

/// Users who are read in the separate lane.
type SeparateUsers = Cache<Uuid, ()>;

impl Reads {
    /// Starts the readers in the current runtime. Statements of the shared lane count in `breaker`:
    /// one user whose reads take long, and who asks again and again, must not open the circuit for
    /// everybody.
    pub(super) fn new(
        sources: &Arc<Sources>,
        limits: &Limits,
        breaker: Option<&Arc<CircuitBreaker>>,
    ) -> Self {
        let separate_users = SeparateUsers::builder()
            .max_capacity(MAX_SEPARATE_USERS)
            .time_to_live(SEPARATE_FOR)
            .build();
        let reader = |breaker: Option<&Arc<CircuitBreaker>>| Reader {
            sources: Arc::clone(sources),
            deadline: limits.database,
            quick: limits.soft().unwrap_or(limits.database / 10),
            separate_users: separate_users.clone(),
            breaker: breaker.cloned(),
        };
        let (shared, batcher) = Batcher::new(MAX_QUEUED, MAX_BATCH_SIZE, MAX_BATCH_WAIT);
        let batcher = Arc::new(batcher);
        for _ in 0..SHARED_READERS {
            tokio::spawn(reader(breaker).read_batches(Arc::clone(&batcher)));
        }
        // Large enough for all reads that are asked for at once, since a full queue drops requests.
        let separate = Arc::new(FairQueue::new(limits.concurrency.maximum * USERS_AT_ONCE));
        for _ in 0..SEPARATE_READERS {
            tokio::spawn(reader(None).read_in_turn(Arc::clone(&separate)));
        }
        Self {
            shared,
            separate,
            separate_users,
        }
    }

    /// The state of the user `asked` for, as of a moment after this call.
    pub(super) async fn state(&self, asked: Asked) -> Outcome {
        if !self.is_separate(asked.user) {
            return self.state_in_shared_lane(asked).await;
        }
        let (outcome, read) = oneshot::channel();
        self.separate.push(Request { asked, outcome });
        read.await.unwrap_or(Err(ReadError::Late))
    }

    /// Whether `user` is read in the separate lane.
    pub(super) fn is_separate(&self, user: Uuid) -> bool {
        self.separate_users.contains_key(&user)
    }

    /// Has the shared lane read the state of a user who does not exist, which is quick whenever the
    /// database answers.
    pub(super) async fn probe(&self) -> Result<(), ReadError> {
        let user = Uuid::nil();
        let nobody = Asked {
            user,
            subject: Subject::User(user),
        };
        match self.state_in_shared_lane(nobody).await {
            Ok(_) | Err(ReadError::Erased) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn state_in_shared_lane(&self, asked: Asked) -> Outcome {
        let (outcome, read) = oneshot::channel();
        if self.shared.send(Request { asked, outcome }).await.is_err() {
            return Err(ReadError::Late);
        }
        read.await.unwrap_or(Err(ReadError::Late))
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        self.separate.close();
    }
}

struct Reader {
    sources: Arc<Sources>,
    deadline: Duration,
    /// A user who is read in less time need not be read in the separate lane.
    quick: Duration,
    separate_users: SeparateUsers,
    breaker: Option<Arc<CircuitBreaker>>,
}

impl Reader {
    async fn read_batches(self, batcher: Arc<Batcher<Request>>) {
        let mut requests = Vec::new();
        loop {
            let leader = batcher.next(&mut requests).await;
            if requests.is_empty() {
                return;
            }
            self.read(UserRequests::group(requests.drain(..))).await;
            drop(leader);
        }
    }

    async fn read_in_turn(self, queue: Arc<FairQueue>) {
        while let Some((requests, turn)) = queue.next().await {
            self.read(UserRequests::group(requests)).await;
            drop(turn);
        }
    }

    async fn read(&self, users: Vec<UserRequests>) {
        if users.is_empty() {
            return;
        }
        let asked: Vec<Asked> = users.iter().map(|of_user| of_user.asked).collect();
        match self.states(&asked).await {
            Ok(states) => {
                for (of_user, known) in users.into_iter().zip(states) {
                    of_user.answer(&outcome_of(known));
                }
            }
            // The failure of one user must not fail the others.
            Err(ReadError::Statement(_)) if users.len() > 1 => {
                for of_user in users {
                    if of_user.is_given_up() {
                        continue;
                    }
                    let states = self.states(&[of_user.asked]).await;
                    let known = states.map(|states| states.into_iter().next().flatten());
                    of_user.answer(&known.and_then(outcome_of));
                }
            }
            Err(error) => {
                let outcome = Err(error);
                for of_user in users {
                    of_user.answer(&outcome);
                }
            }
        }
    }

    async fn states(&self, asked: &[Asked]) -> Result<Vec<Option<Known>>, ReadError> {
        let begun = Instant::now();
        let statement = self.statement(asked);
        let outcome = match &self.breaker {
            Some(breaker) => breaker.watch(statement).await,
            None => statement.await,
        };
        self.learn(asked, begun.elapsed(), &outcome);
        outcome
    }

    async fn statement(&self, asked: &[Asked]) -> Result<Vec<Option<Known>>, ReadError> {
        match timeout(self.deadline + GRACE, self.sources.read(asked)).await {
            Ok(Ok(states)) => Ok(states),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the state of a user could not be read");
                Err(ReadError::of(&error))
            }
            Err(_) => Err(ReadError::Late),
        }
    }

    /// Remembers users whose reads take long, whether or not a request still waits: a request does
    /// not wait for a long read.
    fn learn(
        &self,
        asked: &[Asked],
        took: Duration,
        outcome: &Result<Vec<Option<Known>>, ReadError>,
    ) {
        match outcome {
            Ok(states) => {
                for (asked, known) in asked.iter().zip(states) {
                    if known.as_ref().is_some_and(|known| is_long(&known.state)) {
                        self.separate_users.insert(asked.user, ());
                    } else if took < self.quick && self.is_separate(asked.user) {
                        // Not this user was slow, but the database or another user of the same
                        // statement.
                        self.separate_users.invalidate(&asked.user);
                    }
                }
            }
            // Any of the users may have been the slow one. Each is read separately next, and
            // returns to the shared lane if that read is quick.
            Err(ReadError::Late) => {
                for asked in asked {
                    self.separate_users.insert(asked.user, ());
                }
            }
            Err(ReadError::Erased | ReadError::Unreachable(_) | ReadError::Statement(_)) => {}
        }
    }

    fn is_separate(&self, user: Uuid) -> bool {
        self.separate_users.contains_key(&user)
    }
}

fn outcome_of(known: Option<Known>) -> Outcome {
    known.map(StateRead::from).ok_or(ReadError::Erased)
}

fn is_long(state: &UserState) -> bool {
    state.likes.len() + state.skips.len() + state.blocks.len() > MAX_SHARED_ROWS
}

#[cfg(test)]
mod tests;
