mod of_user;

pub(in crate::serve) use of_user::{Found, Made, Making, UserAnswers};

use super::answer::Answer;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use twotower_store::{UserChangeKey, UserState};
use uuid::Uuid;

/// Users whose answers are kept; who asked longest ago makes room.
const MAX_USERS: usize = 20_000;

/// Memory that answers may take, bytes. Ten videos without reasons are some 1.5 kB, a hundred with reasons some 40 kB, so that of long
/// lists those of fewer users are kept.
const MAX_BYTES: usize = 128 << 20;

/// Of a user besides their answers: entries of the tables, and what allocation adds.
const BYTES_PER_USER: usize = 512;

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
/// ([`Made::state`]), so an answer is never older than the user's latest like. What a dropped entry saves is its use while the database is
/// late, as a stale answer or for what is known of the user, and memory.
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

    /// Keeps the answer that was to be made for a user, and drops those of others if there is no room.
    pub(in crate::serve) fn put(&self, subject: &Subject, mut making: Making, answer: &Answer) {
        if let Some(answers) = making.settle(Some(answer.clone())) {
            self.weigh(subject, &answers);
        }
    }

    /// Keeps what the database has just said of a user, to answer by while it is late.
    pub(in crate::serve) fn know(
        &self,
        subject: &Subject,
        answers: &Arc<UserAnswers>,
        state: &Arc<UserState>,
    ) {
        if !self.keep.is_zero() && answers.know(state) {
            self.weigh(subject, answers);
        }
    }

    /// Counts what `answers` take by now, and drops those of others if that is too much.
    fn weigh(&self, subject: &Subject, answers: &Arc<UserAnswers>) {
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
        entry.bytes = BYTES_PER_USER + answers.bytes();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::recommendations::query::Query;
    use crate::serve::timing::Timing;
    use futures_util::FutureExt;
    use std::pin::pin;

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
        match find(&answers, tag) {
            Found::Kept(answer) => answer.cached,
            Found::Missing(making) => {
                cache.put(&subject(n), making, &Answer::of_titles(&[title]));
                false
            }
        }
    }

    /// Of what nobody makes at the moment.
    fn find(answers: &Arc<UserAnswers>, tag: &str) -> Found {
        let (query, timing) = (query(tag), Timing::default());
        let found = answers.find(&query, MADE, KEEP, &timing);
        found.now_or_never().expect("somebody makes it")
    }

    /// What really is in there.
    fn held(cache: &AnswerCache) -> usize {
        let users = cache.lock();
        let entries = users.by_subject.values();
        let answers: usize = entries.map(|entry| entry.answers.counted()).sum();
        answers + BYTES_PER_USER * users.by_subject.len()
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
        let making = |answers: &Arc<UserAnswers>| match find(answers, "a") {
            Found::Missing(making) => making,
            Found::Kept(answer) => panic!("{answer:?}"),
        };
        let answers = cache.of(subject(1));
        let begun = making(&answers);
        cache.drop_user(&subject(1));
        cache.put(&subject(1), begun, &Answer::of_titles(&["t"]));
        assert_eq!((cache.len(), cache.lock().bytes), (0, 0));
        assert!(cache.of(subject(1)).stale(&query("a"), KEEP).is_none());
        // Nor is another's entry charged for it.
        let bytes = cache.lock().bytes;
        cache.weigh(&subject(1), &answers);
        assert_eq!(cache.lock().bytes, bytes);
        // Who came before the drop may get it; who comes afterwards neither gets it nor waits for it.
        let (before, timing) = (cache.of(subject(2)), Timing::default());
        let begun = making(&before);
        let query = query("a");
        let mut waiting = pin!(before.find(&query, MADE, KEEP, &timing));
        assert!(waiting.as_mut().now_or_never().is_none());
        cache.drop_all();
        let begun_after = making(&cache.of(subject(2)));
        cache.put(&subject(2), begun, &Answer::of_titles(&["of before"]));
        assert!(matches!(waiting.now_or_never(), Some(Found::Kept(_))));
        drop(begun_after);
        making(&cache.of(subject(2)));
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
