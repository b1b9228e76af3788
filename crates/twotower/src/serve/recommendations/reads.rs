//! Reads the states of many users with few statements: while one is under way requests gather, and the next is for all of them.
//!
//! A round trip costs both sides more than what one user's rows do.

mod gathering;

use crate::serve::error::ApiError;
use crate::serve::replica::{Asked, Known, Sources};
use gathering::Gathering;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use twotower_store::StoreError;
use uuid::Uuid;

/// Statements under way at once: enough to hide the way to a distant database.
const READERS: usize = 4;

/// Users that one statement is for, at most.
const MOST: usize = 32;

/// Longest wait for the end of the statement that is under way.
const COMPANY: Duration = Duration::from_millis(2);

/// Requests that wait for a reader. More of them than ever are worked on at once would help nobody.
const WAITING: usize = 256;

/// A user with more likes than this takes as long to read as many others together, and is read apart from them, by a reader of their own.
const LONG: usize = 5000;

/// So many of them are remembered, for so long.
const LONG_USERS: u64 = 10_000;
const REMEMBERED: Duration = Duration::from_mins(10);

/// Why a read brought nothing.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The user was erased.
    Erased,
    /// Of the database.
    Store(ApiError),
    /// The database did not answer.
    Late,
}

type Outcome = Result<Known, Failure>;

#[derive(Debug)]
struct Request {
    asked: Asked,
    outcome: oneshot::Sender<Outcome>,
}

/// Hands requests to the readers, which live as long as this does.
#[derive(Debug)]
pub(super) struct Reads {
    usual: mpsc::Sender<Request>,
    long: mpsc::Sender<Request>,
    long_users: Cache<Uuid, ()>,
}

impl Reads {
    /// Readers whose statements may take `deadline`; call it inside the runtime that they are to run in.
    pub(super) fn new(sources: &Arc<Sources>, deadline: Duration) -> Self {
        let start = |readers: usize, most: usize| {
            let (requests, gathering) = Gathering::new(WAITING, most, COMPANY);
            let gathering = Arc::new(gathering);
            for _ in 0..readers {
                let reader = Reader {
                    sources: Arc::clone(sources),
                    deadline,
                    gathering: Arc::clone(&gathering),
                };
                tokio::spawn(reader.run());
            }
            requests
        };
        Self {
            usual: start(READERS, MOST),
            long: start(1, 1),
            long_users: Cache::builder()
                .max_capacity(LONG_USERS)
                .time_to_live(REMEMBERED)
                .build(),
        }
    }

    /// Everything `user` has liked, and the latest skips and the blocks, as of a moment after this call.
    pub(super) async fn state(&self, asked: Asked) -> Outcome {
        let (outcome, read) = oneshot::channel();
        let requests = if self.long_users.contains_key(&asked.user) {
            &self.long
        } else {
            &self.usual
        };
        let request = Request { asked, outcome };
        if requests.send(request).await.is_err() {
            return Err(Failure::Late);
        }
        let known = read.await.unwrap_or(Err(Failure::Late))?;
        if known.state.likes.len() > LONG {
            self.long_users.insert(asked.user, ());
        }
        Ok(known)
    }
}

struct Reader {
    sources: Arc<Sources>,
    deadline: Duration,
    gathering: Arc<Gathering<Request>>,
}

impl Reader {
    async fn run(self) {
        let mut requests = Vec::new();
        loop {
            let alone = self.gathering.next(&mut requests).await;
            if requests.is_empty() {
                return;
            }
            // Who has given up meanwhile need not be read.
            requests.retain(|request| !request.outcome.is_closed());
            if !requests.is_empty() {
                self.read(&mut requests).await;
            }
            drop(alone);
        }
    }

    /// Answers `requests` and empties the list.
    async fn read(&self, requests: &mut Vec<Request>) {
        let asked: Vec<Asked> = requests.iter().map(|request| request.asked).collect();
        match self.states(&asked).await {
            Ok(states) => {
                for (request, known) in requests.drain(..).zip(states) {
                    let _ = request.outcome.send(known.ok_or(Failure::Erased));
                }
            }
            // Whatever it was, the others are not to suffer from one of them.
            Err(Failed::Statement(_)) if requests.len() > 1 => {
                for request in requests.drain(..) {
                    let outcome = match self.states(&[request.asked]).await {
                        Ok(states) => states.into_iter().next().flatten().ok_or(Failure::Erased),
                        Err(failed) => Err(failed.into()),
                    };
                    let _ = request.outcome.send(outcome);
                }
            }
            Err(failed) => {
                let failure = Failure::from(failed);
                for request in requests.drain(..) {
                    let _ = request.outcome.send(Err(failure.clone()));
                }
            }
        }
    }

    async fn states(&self, asked: &[Asked]) -> Result<Vec<Option<Known>>, Failed> {
        match timeout(self.deadline, self.sources.read(asked)).await {
            Ok(Ok(states)) => Ok(states),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the state of a user could not be read");
                let away = matches!(error, StoreError::Connection(_) | StoreError::ReadOnly(_));
                let error = ApiError::store(&error);
                Err(if away {
                    Failed::Connection(error)
                } else {
                    Failed::Statement(error)
                })
            }
            Err(_) => Err(Failed::Late),
        }
    }
}

/// Why a statement brought nothing.
enum Failed {
    /// The database is not there.
    Connection(ApiError),
    /// It did not do what it was asked.
    Statement(ApiError),
    /// It did not answer.
    Late,
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Connection(error) | Failed::Statement(error) => Self::Store(error),
            Failed::Late => Self::Late,
        }
    }
}
