use super::answer::Answer;
use super::query::Query;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use twotower_store::UserChangeKey;
use uuid::Uuid;

/// Users whose answers are kept; who asked longest ago makes room.
const MAX_USERS: usize = 20_000;

/// Memory that answers may take, bytes. Ten videos without reasons are some 1.5 kB, a hundred with reasons some 40 kB, so that of long
/// lists those of fewer users are kept.
const MAX_BYTES: usize = 128 << 20;

/// Of a user besides their answers: entries of the tables, and what allocation adds.
const BYTES_PER_USER: usize = 512;

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
    users: Mutex<Users>,
    keep: Duration,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Users {
    by_subject: HashMap<Subject, Entry>,
    /// Who asked longest ago comes first.
    by_turn: BTreeMap<u64, Subject>,
    next_turn: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    answers: Arc<UserAnswers>,
    /// As counted in [`Users::bytes`].
    bytes: usize,
    turn: u64,
    asked: Instant,
}

/// The answers of one user. Whoever makes a new one holds the lock, so that requests at the same time make it once.
#[derive(Debug, Default)]
pub(in crate::serve) struct UserAnswers {
    kept: Mutex<Vec<Kept>>,
    /// Of what is kept; apart, since making an answer holds the lock for long.
    bytes: AtomicUsize,
}

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
    query: Query,
    made: Made,
    at: Instant,
    answer: Answer,
}

impl AnswerCache {
    /// Keeps answers for so long; not at all if that is 0.
    pub(in crate::serve) fn new(keep: Duration) -> Self {
        Self::with_room(keep, MAX_BYTES)
    }

    fn with_room(keep: Duration, max_bytes: usize) -> Self {
        Self {
            users: Mutex::default(),
            keep,
            max_bytes,
        }
    }

    /// The answers of a user. To be taken before the user's state is read: what is dropped afterwards is dropped for good.
    pub(in crate::serve) fn of(&self, subject: Subject) -> Arc<UserAnswers> {
        if self.keep.is_zero() {
            return Arc::default();
        }
        // Declared first, so that memory is given back after the lock.
        let mut dropped = Vec::new();
        let mut users = self.lock();
        users.drop_idle(self.keep, &mut dropped);
        let answers = users.ask(subject);
        users.make_room(self.max_bytes, &mut dropped);
        answers
    }

    /// Counts what `answers` take by now, and drops those of others if that is too much.
    pub(in crate::serve) fn weigh(&self, subject: &Subject, answers: &Arc<UserAnswers>) {
        let mut dropped = Vec::new();
        let mut users = self.lock();
        let Users {
            by_subject, bytes, ..
        } = &mut *users;
        // Those that were dropped meanwhile go with whoever holds them.
        let Some(entry) = by_subject
            .get_mut(subject)
            .filter(|entry| Arc::ptr_eq(&entry.answers, answers))
        else {
            return;
        };
        *bytes -= entry.bytes;
        entry.bytes = BYTES_PER_USER + answers.bytes.load(Ordering::Relaxed);
        *bytes += entry.bytes;
        users.make_room(self.max_bytes, &mut dropped);
    }

    /// Forgets the answers of a user.
    pub(in crate::serve) fn drop_user(&self, subject: &Subject) {
        let dropped = self.lock().remove(subject);
        drop(dropped);
    }

    /// Forgets everything.
    pub(in crate::serve) fn drop_all(&self) {
        let dropped = std::mem::take(&mut *self.lock());
        drop(dropped);
    }

    /// Users who have answers here.
    pub(in crate::serve) fn len(&self) -> u64 {
        let mut dropped = Vec::new();
        let mut users = self.lock();
        users.drop_idle(self.keep, &mut dropped);
        users.by_subject.len() as u64
    }

    /// How long answers are kept.
    pub(in crate::serve) fn keep(&self) -> Duration {
        self.keep
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        // Nothing in there can panic between two changes that belong together.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// The answers of a user, who now is the one who asked last.
    fn ask(&mut self, subject: Subject) -> Arc<UserAnswers> {
        let turn = self.next_turn;
        self.next_turn += 1;
        let entry = self.by_subject.entry(subject).or_insert_with(|| {
            self.bytes += BYTES_PER_USER;
            Entry {
                answers: Arc::default(),
                bytes: BYTES_PER_USER,
                turn,
                asked: Instant::now(),
            }
        });
        self.by_turn.remove(&entry.turn);
        self.by_turn.insert(turn, subject);
        entry.turn = turn;
        entry.asked = Instant::now();
        Arc::clone(&entry.answers)
    }

    /// Drops who has not asked for so long: nothing of theirs would be given again.
    fn drop_idle(&mut self, keep: Duration, dropped: &mut Vec<Entry>) {
        while let Some((&turn, &subject)) = self.by_turn.first_key_value()
            && self
                .by_subject
                .get(&subject)
                .is_none_or(|entry| entry.asked.elapsed() >= keep)
        {
            self.by_turn.remove(&turn);
            dropped.extend(self.remove(&subject));
        }
    }

    /// Drops who asked longest ago, until the others fit.
    fn make_room(&mut self, max_bytes: usize, dropped: &mut Vec<Entry>) {
        while (self.bytes > max_bytes || self.by_subject.len() > MAX_USERS)
            && let Some((_, subject)) = self.by_turn.pop_first()
        {
            dropped.extend(self.remove(&subject));
        }
    }

    fn remove(&mut self, subject: &Subject) -> Option<Entry> {
        let entry = self.by_subject.remove(subject)?;
        self.by_turn.remove(&entry.turn);
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

impl UserAnswers {
    /// The answer to `query` made of the same, or the one that `make` makes now.
    pub(in crate::serve) fn get_or_make(
        &self,
        query: &Query,
        made: Made,
        keep: Duration,
        make: impl FnOnce() -> Answer,
    ) -> Answer {
        let mut kept = self.lock();
        kept.retain(|kept| kept.at.elapsed() < keep);
        if let Some(kept) = kept
            .iter()
            .find(|kept| kept.made == made && kept.query == *query)
        {
            return kept.answer.again();
        }
        let answer = make();
        kept.retain(|kept| kept.query != *query);
        if kept.len() == QUERIES_PER_USER {
            kept.remove(0);
        }
        kept.push(Kept {
            query: query.clone(),
            made,
            at: Instant::now(),
            answer: answer.clone(),
        });
        let bytes = kept.iter().map(Kept::bytes).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        answer
    }

    /// The latest answer to `query`, whatever it was made of.
    pub(in crate::serve) fn stale(&self, query: &Query, keep: Duration) -> Option<Answer> {
        self.lock()
            .iter()
            .find(|kept| kept.query == *query && kept.at.elapsed() < keep)
            .map(|kept| kept.answer.stale())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Nothing is left half done by a panic: entries are pushed whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.query.bytes() + self.answer.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_mins(5);
    const MADE: Made = Made {
        snapshot: 1,
        state: 1,
    };

    fn subject(n: u128) -> Subject {
        Subject::User(Uuid::from_u128(n))
    }

    /// For videos with this tag.
    fn query(tag: &str) -> Query {
        let mut query = Query::default();
        query.filter.tags.any.push(tag.to_owned());
        query
    }

    /// Asks as user `n` for videos with this tag; whether the answer was kept from before.
    fn ask(cache: &AnswerCache, n: u128, tag: &str, title: &str) -> bool {
        let answers = cache.of(subject(n));
        let answer = answers.get_or_make(&query(tag), MADE, KEEP, || Answer::of_titles(&[title]));
        cache.weigh(&subject(n), &answers);
        answer.cached
    }

    /// What really is in there.
    fn held(cache: &AnswerCache) -> usize {
        let users = cache.lock();
        let entries = users.by_subject.values();
        let answers = entries.flat_map(|entry| {
            let kept = entry.answers.lock();
            kept.iter().map(Kept::bytes).collect::<Vec<_>>()
        });
        answers.sum::<usize>() + BYTES_PER_USER * users.by_subject.len()
    }

    #[test]
    fn answers_take_no_more_than_their_room_and_the_oldest_go_first() {
        const ROOM: usize = 200_000;
        let cache = AnswerCache::with_room(KEEP, ROOM);
        let long = "x".repeat(10_000);
        for n in 0..100 {
            assert!(!ask(&cache, n, "a", &long));
            // Who asks again and again stays.
            assert!(ask(&cache, 0, "a", &long), "{n}");
            assert!(held(&cache) <= ROOM);
            assert_eq!(held(&cache), cache.lock().bytes);
        }
        assert!((10..20).contains(&cache.len()), "{}", cache.len());
        for n in 95..100 {
            assert!(ask(&cache, n, "a", &long), "{n} has asked just now");
        }
        assert!(!ask(&cache, 50, "a", &long));
        // Several queries of one user count, too, and the oldest of them make way.
        for tag in ["b", "c", "d", "e", "f"] {
            ask(&cache, 99, tag, &long);
            assert!(held(&cache) <= ROOM);
            assert_eq!(held(&cache), cache.lock().bytes);
        }
        assert!(ask(&cache, 99, "c", &long));
        assert!(!ask(&cache, 99, "a", &long));
        // One that has no room at all is given, and not kept.
        let huge = "x".repeat(ROOM);
        assert!(!ask(&cache, 7, "a", &huge) && !ask(&cache, 7, "a", &huge));
        assert!(held(&cache) <= ROOM);
        cache.drop_all();
        assert_eq!((cache.len(), held(&cache)), (0, 0));
    }

    #[test]
    fn what_was_dropped_meanwhile_stays_dropped() {
        let cache = AnswerCache::new(KEEP);
        let answers = cache.of(subject(1));
        cache.drop_user(&subject(1));
        answers.get_or_make(&query("a"), MADE, KEEP, || Answer::of_titles(&["t"]));
        cache.weigh(&subject(1), &answers);
        assert_eq!((cache.len(), cache.lock().bytes), (0, 0));
        assert!(cache.of(subject(1)).stale(&query("a"), KEEP).is_none());
        // Nor is another's entry charged for it.
        let bytes = cache.lock().bytes;
        cache.weigh(&subject(1), &answers);
        assert_eq!(cache.lock().bytes, bytes);
    }

    #[test]
    fn who_has_not_asked_for_long_is_forgotten() {
        let cache = AnswerCache::new(KEEP);
        ask(&cache, 1, "a", "t");
        let mut dropped = Vec::new();
        cache.lock().drop_idle(KEEP, &mut dropped);
        assert_eq!((cache.len(), dropped.len()), (1, 0));
        cache.lock().drop_idle(Duration::ZERO, &mut dropped);
        assert_eq!((cache.len(), dropped.len()), (0, 1));
        assert_eq!((held(&cache), cache.lock().bytes), (0, 0));
        let off = AnswerCache::new(Duration::ZERO);
        off.of(subject(1));
        assert_eq!(off.len(), 0);
    }
}
