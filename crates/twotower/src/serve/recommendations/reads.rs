//! Reads the states of many users with few statements: while one is under way requests gather, and the next is for all of them.
//!
//! A round trip costs both sides more than what one user's rows do.

mod gathering;

mod presence;

pub(super) use presence::{Presence, Turn};

use super::cache::Subject;
use crate::serve::error::ApiError;
use crate::serve::limits::Limits;
use crate::serve::replica::{Asked, Known, Sources};
use gathering::Gathering;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use twotower_store::{StoreError, UserState};
use uuid::Uuid;

/// Statements under way at once: enough to hide the way to a distant database.
const READERS: usize = 4;

/// Users that one statement is for, at most.
const MOST: usize = 32;

/// Longest wait for the end of the statement that is under way.
const COMPANY: Duration = Duration::from_millis(2);

/// Requests that wait for a reader. More of them than ever are worked on at once would help nobody.
const WAITING: usize = 256;

/// A user with more likes, skips and blocks than this takes as long to read as many others together, and is read apart from them, by a reader
/// of their own.
const LONG: usize = 5000;

/// So many of them are remembered, for so long.
const LONG_USERS: u64 = 10_000;
const REMEMBERED: Duration = Duration::from_mins(10);

/// What the server gets to cancel a statement that is late, before the connection is closed under it: a new one costs more than the wait, and
/// nobody's request waits so long.
const GRACE: Duration = Duration::from_millis(250);

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
    long_users: LongUsers,
}

/// Users who are read apart.
type LongUsers = Cache<Uuid, ()>;

impl Reads {
    /// Readers, of whom the usual ones tell `presence` what comes of their statements; call it inside the runtime that they are to run in.
    pub(super) fn new(
        sources: &Arc<Sources>,
        limits: &Limits,
        presence: Option<&Arc<Presence>>,
    ) -> Self {
        let long_users = LongUsers::builder()
            .max_capacity(LONG_USERS)
            .time_to_live(REMEMBERED)
            .build();
        let start = |readers: usize, most: usize, presence: Option<&Arc<Presence>>| {
            let (requests, gathering) = Gathering::new(WAITING, most, COMPANY);
            let gathering = Arc::new(gathering);
            for _ in 0..readers {
                let reader = Reader {
                    sources: Arc::clone(sources),
                    deadline: limits.database,
                    quick: limits.soft().unwrap_or(limits.database / 10),
                    gathering: Arc::clone(&gathering),
                    long_users: long_users.clone(),
                    presence: presence.cloned(),
                };
                tokio::spawn(reader.run());
            }
            requests
        };
        Self {
            usual: start(READERS, MOST, presence),
            long: start(1, 1, None),
            long_users,
        }
    }

    /// Everything that was `asked` for, as of a moment after this call.
    pub(super) async fn state(&self, asked: Asked) -> Outcome {
        let readers = if self.is_apart(asked.user) {
            &self.long
        } else {
            &self.usual
        };
        ask(readers, asked).await
    }

    /// Whether `user` is known to take long.
    pub(super) fn is_apart(&self, user: Uuid) -> bool {
        self.long_users.contains_key(&user)
    }

    /// Has the usual readers read what nobody has liked, which takes no longer than that the database is there.
    pub(super) async fn look(&self) -> Result<(), Failure> {
        let user = Uuid::nil();
        let nobody = Asked {
            user,
            subject: Subject::User(user),
        };
        match ask(&self.usual, nobody).await {
            Ok(_) | Err(Failure::Erased) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

async fn ask(readers: &mpsc::Sender<Request>, asked: Asked) -> Outcome {
    let (outcome, read) = oneshot::channel();
    if readers.send(Request { asked, outcome }).await.is_err() {
        return Err(Failure::Late);
    }
    read.await.unwrap_or(Err(Failure::Late))
}

struct Reader {
    sources: Arc<Sources>,
    deadline: Duration,
    /// What is read in less time takes nobody's.
    quick: Duration,
    gathering: Arc<Gathering<Request>>,
    long_users: LongUsers,
    presence: Option<Arc<Presence>>,
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
                    // Meanwhile more of them may have given up.
                    if request.outcome.is_closed() {
                        continue;
                    }
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
        let begun = Instant::now();
        let statement = self.statement(asked);
        let outcome = match &self.presence {
            Some(presence) => presence.watch(statement).await,
            None => statement.await,
        };
        self.learn(asked, begun.elapsed(), &outcome);
        outcome
    }

    async fn statement(&self, asked: &[Asked]) -> Result<Vec<Option<Known>>, Failed> {
        match timeout(self.deadline + GRACE, self.sources.read(asked)).await {
            Ok(Ok(states)) => Ok(states),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the state of a user could not be read");
                Err(Failed::of(&error))
            }
            Err(_) => Err(Failed::Late),
        }
    }

    /// Remembers who takes long to read, whether or not anybody has waited for it: who does takes longer than a request waits.
    fn learn(&self, asked: &[Asked], took: Duration, outcome: &Result<Vec<Option<Known>>, Failed>) {
        match outcome {
            Ok(states) => {
                for (asked, known) in asked.iter().zip(states) {
                    if known.as_ref().is_some_and(|known| is_long(&known.state)) {
                        self.long_users.insert(asked.user, ());
                    } else if took < self.quick && self.long_users.contains_key(&asked.user) {
                        // It was the database that had been slow.
                        self.long_users.invalidate(&asked.user);
                    }
                }
            }
            // Of several it may have been any.
            Err(Failed::Late) => {
                if let [alone] = asked {
                    self.long_users.insert(alone.user, ());
                }
            }
            Err(Failed::Connection(_) | Failed::Statement(_)) => {}
        }
    }
}

fn is_long(state: &UserState) -> bool {
    state.likes.len() + state.skips.len() + state.blocks.len() > LONG
}

/// Why a statement brought nothing.
enum Failed {
    /// The database is not there, or has no room.
    Connection(ApiError),
    /// It did not do what it was asked.
    Statement(ApiError),
    /// It did not answer.
    Late,
}

impl Failed {
    fn of(error: &StoreError) -> Self {
        match error {
            // Cancelled by the server once its time was over. Asked for one by one, many would take as long each.
            StoreError::Cancelled(_) | StoreError::Deadline { .. } => Self::Late,
            error if error.is_outage() => Self::Connection(ApiError::store(error)),
            error => Self::Statement(ApiError::store(error)),
        }
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Connection(error) | Failed::Statement(error) => Self::Store(error),
            Failed::Late => Self::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;
    use twotower_core::feature::Video;
    use twotower_store::{
        Block, BlockKind, ConnectOptions, InteractionKind, InteractionRow, Store,
    };

    const USER: Uuid = Uuid::from_u128(1);

    async fn store() -> Store {
        let options = ConnectOptions::default();
        Store::connect("sqlite::memory:", options).await.unwrap()
    }

    fn reader(store: Store, presence: Option<Arc<Presence>>) -> Reader {
        let (_, gathering) = Gathering::new(1, 1, COMPANY);
        Reader {
            sources: Arc::new(Sources::new(store, None, None, Arc::default())),
            deadline: Duration::from_mins(1),
            quick: Duration::from_mins(1),
            gathering: Arc::new(gathering),
            long_users: LongUsers::builder().build(),
            presence,
        }
    }

    fn of(user: Uuid) -> Asked {
        Asked {
            user,
            subject: Subject::User(user),
        }
    }

    fn request(user: Uuid) -> (Request, oneshot::Receiver<Outcome>) {
        let (outcome, read) = oneshot::channel();
        let asked = of(user);
        (Request { asked, outcome }, read)
    }

    #[test]
    fn all_that_is_read_of_a_user_counts() {
        let ids = |count| vec![Uuid::nil(); count];
        let block = Block {
            kind: BlockKind::Tag,
            value: "x".into(),
        };
        let mut state = UserState {
            likes: ids(LONG - 1000),
            skips: ids(990),
            blocks: vec![block; 10],
        };
        assert!(!is_long(&state));
        state.blocks.extend(state.blocks.first().cloned());
        assert!(is_long(&state));
    }

    #[tokio::test]
    async fn who_takes_long_is_remembered_though_nobody_waits_for_it() {
        let store = store().await;
        store.migrate().await.unwrap();
        let videos: Vec<Video> = (0..=LONG)
            .map(|n| Video {
                id: Uuid::from_u128(100 + n as u128),
                title: "x".into(),
                ..Video::default()
            })
            .collect();
        store.write_videos(&videos).await.unwrap();
        let likes: Vec<InteractionRow> = videos
            .iter()
            .map(|video| InteractionRow {
                user: USER,
                video: video.id,
                at_us: 1_700_000_000_000_000,
            })
            .collect();
        let written = store.write_interactions(InteractionKind::Like, &likes);
        written.await.unwrap();
        let reader = reader(store, None);
        let other = Uuid::from_u128(2);
        reader.long_users.insert(other, ());
        let mut requests = Vec::new();
        for user in [USER, other] {
            let (request, _gives_up) = request(user);
            requests.push(request);
        }
        reader.read(&mut requests).await;
        assert!(requests.is_empty());
        assert!(reader.long_users.contains_key(&USER));
        assert!(!reader.long_users.contains_key(&other), "it was quick");
    }

    #[tokio::test]
    async fn who_was_late_alone_is_read_alone() {
        let reader = reader(store().await, None);
        let [one, two, three] = [1, 2, 3].map(|n| of(Uuid::from_u128(n)));
        let took = Duration::from_secs(2);
        reader.learn(&[one, two], took, &Err(Failed::Late));
        let away = Failed::Connection(ApiError::Overloaded);
        reader.learn(&[three], took, &Err(away));
        reader.long_users.run_pending_tasks();
        assert_eq!(reader.long_users.entry_count(), 0);
        reader.learn(&[one], took, &Err(Failed::Late));
        assert!(reader.long_users.contains_key(&one.user));
    }

    /// Nothing can be read where there is no schema.
    #[tokio::test]
    async fn one_by_one_those_are_asked_for_who_still_wait() {
        let presence = Arc::new(Presence::new(Duration::from_hours(1)));
        let reader = reader(store().await, Some(Arc::clone(&presence)));
        let (waits, read) = request(USER);
        let mut requests: Vec<Request> = iter::repeat_with(|| request(Uuid::nil()).0)
            .take(5)
            .chain([waits])
            .collect();
        reader.read(&mut requests).await;
        assert!(matches!(read.await, Ok(Err(Failure::Store(_)))));
        assert_eq!(presence.turn(), Turn::Ask, "two statements and no more");
    }

    #[test]
    fn what_the_server_cancels_is_late() {
        let late = StoreError::Deadline {
            operation: "user_states",
            limit: Duration::from_secs(2),
        };
        assert!(matches!(Failed::of(&late), Failed::Late));
    }
}
