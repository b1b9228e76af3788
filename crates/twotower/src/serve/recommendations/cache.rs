use super::answer::Answer;
use moka::sync::Cache;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use twotower_store::UserChangeKey;
use uuid::Uuid;

/// Users whose answers are kept; those asked for least make room.
const MAX_USERS: u64 = 20_000;

/// Answers to different queries that are kept of one user.
const QUERIES_PER_USER: usize = 4;

/// Whose answers. Two users never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::serve) enum Subject {
    /// As notifications of the database name them.
    Key(UserChangeKey),
    /// Where there are none.
    User(Uuid),
}

/// Answers of the last minutes, apart for each user.
///
/// Whether an answer may be given again is decided by what the user has liked, skipped and blocked at the moment of the request
/// ([`Made::state`]), so an answer is never older than the user's latest like. What a dropped entry saves is its use as a stale
/// answer while the database is away, and memory.
#[derive(Debug)]
pub(in crate::serve) struct AnswerCache {
    users: Cache<Subject, Arc<UserAnswers>>,
    keep: Duration,
}

/// The answers of one user. Whoever makes a new one holds the lock, so that requests at the same time make it once.
#[derive(Debug, Default)]
pub(in crate::serve) struct UserAnswers(Mutex<Vec<Kept>>);

/// What an answer was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) struct Made {
    /// Of which view: model, catalogue and popularity.
    pub(in crate::serve) snapshot: u64,
    /// A hash of what the user has liked, skipped and blocked.
    pub(in crate::serve) state: u64,
}

#[derive(Debug)]
struct Kept {
    query: Box<str>,
    made: Made,
    at: Instant,
    answer: Answer,
}

impl AnswerCache {
    /// Keeps answers for so long; not at all if that is 0.
    pub(in crate::serve) fn new(keep: Duration) -> Self {
        let users = Cache::builder()
            .max_capacity(MAX_USERS)
            .time_to_idle(keep.max(Duration::from_secs(1)))
            .build();
        Self { users, keep }
    }

    /// The answers of a user. To be taken before the user's state is read: what is dropped afterwards is dropped for good.
    pub(in crate::serve) fn of(&self, subject: Subject) -> Arc<UserAnswers> {
        if self.keep.is_zero() {
            return Arc::default();
        }
        self.users.get_with(subject, Arc::default)
    }

    /// Forgets the answers of a user.
    pub(in crate::serve) fn drop_user(&self, subject: &Subject) {
        self.users.invalidate(subject);
    }

    /// Forgets everything.
    pub(in crate::serve) fn drop_all(&self) {
        self.users.invalidate_all();
    }

    /// Users who have answers here, about.
    pub(in crate::serve) fn len(&self) -> u64 {
        self.users.entry_count()
    }

    /// How long answers are kept.
    pub(in crate::serve) fn keep(&self) -> Duration {
        self.keep
    }
}

impl UserAnswers {
    /// The answer to `query` made of the same, or the one that `make` makes now.
    pub(in crate::serve) fn get_or_make(
        &self,
        query: &str,
        made: Made,
        keep: Duration,
        make: impl FnOnce() -> Answer,
    ) -> Answer {
        let mut kept = self.lock();
        kept.retain(|kept| kept.at.elapsed() < keep);
        if let Some(kept) = kept
            .iter()
            .find(|kept| kept.made == made && *kept.query == *query)
        {
            return kept.answer.again();
        }
        let answer = make();
        kept.retain(|kept| *kept.query != *query);
        if kept.len() == QUERIES_PER_USER {
            kept.remove(0);
        }
        kept.push(Kept {
            query: query.into(),
            made,
            at: Instant::now(),
            answer: answer.clone(),
        });
        answer
    }

    /// The latest answer to `query`, whatever it was made of.
    pub(in crate::serve) fn stale(&self, query: &str, keep: Duration) -> Option<Answer> {
        self.lock()
            .iter()
            .find(|kept| *kept.query == *query && kept.at.elapsed() < keep)
            .map(|kept| kept.answer.stale())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Nothing is left half done by a panic: entries are pushed whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
