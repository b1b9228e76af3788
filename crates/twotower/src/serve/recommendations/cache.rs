mod of_user;

pub(in crate::serve) use of_user::{Lookup, PendingAnswer, UserAnswers, Validator};

use super::answer::Answer;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use twotower_store::{UserChangeKey, UserState};
use uuid::Uuid;

/// At most this many users have answers kept. The least recently active user makes room.
const MAX_USERS: usize = 20_000;

/// At most this much memory for answers, bytes. Ten videos without reasons take about 1.5 kB, a
/// hundred with reasons about 40 kB, so long lists are kept for fewer users.
const MAX_BYTES: usize = 128 << 20;

/// Memory of a user besides the answers: table entries and allocation overhead.
const BYTES_PER_USER: usize = 512;

/// The user to whom answers belong. Two users never have the same subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::serve) enum Subject {
    /// The user as notifications of the database name them.
    Key(UserChangeKey),
    /// The user's id, as long as there are no notifications.
    User(Uuid),
}

/// The answers of the last minutes, kept separately for each user.
///
/// Whether an answer may be given again depends on the likes, skips and blocks of the user at the
/// moment of the request ([`Validator::state`]), so an answer is never older than the user's latest
/// like. An entry must be dropped early only because it may otherwise be used while the database is
/// late, as a stale answer or as the last known state, and to save memory.
#[derive(Debug)]
pub(in crate::serve) struct AnswerCache {
    users: Mutex<Users>,
    keep: Duration,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Users {
    by_subject: HashMap<Subject, Entry>,
    /// Least recently active user first.
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
    /// Keeps answers for `keep`; none at all if that is 0.
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

    /// The answers of a user. To be taken before the user's state is read, so that what is dropped
    /// during the read stays dropped.
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

    /// Keeps an answer that was pending, and drops those of other users if there is no room.
    pub(in crate::serve) fn put(
        &self,
        subject: &Subject,
        mut pending: PendingAnswer,
        answer: &Answer,
    ) {
        if let Some(answers) = pending.settle(Some(answer.clone())) {
            self.weigh(subject, &answers);
        }
    }

    /// Keeps the state that the database has just returned, for times when the database is late.
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

    /// Counts the current memory of `answers`, and drops those of other users if there is no room.
    fn weigh(&self, subject: &Subject, answers: &Arc<UserAnswers>) {
        let mut dropped = Vec::new();
        let mut users = self.lock();
        let Users {
            by_subject, bytes, ..
        } = &mut *users;
        // Answers that have been dropped meanwhile do not count: they go with their last holder.
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

    /// Number of users.
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
        // No panic can come between two changes that belong together.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// The answers of a user, who becomes the most recently active one.
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

    /// Drops users who have not asked for `keep`: none of their answers could be given again.
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

    /// Drops the least recently active users until the others fit.
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
    const VALIDATOR: Validator = Validator {
        snapshot: 1,
        state: 1,
    };

    fn subject(n: u128) -> Subject {
        Subject::User(Uuid::from_u128(n))
    }

    /// A query for videos with this tag.
    fn query(tag: &str) -> Query {
        let mut query = Query::default();
        query.filter.tags.any.push(tag.to_owned());
        query
    }

    /// Asks as user `n` for videos with this tag. Returns whether the answer was a kept one.
    fn ask(cache: &AnswerCache, n: u128, tag: &str, title: &str) -> bool {
        let answers = cache.of(subject(n));
        match find(&answers, tag) {
            Lookup::Hit(answer) => answer.cached,
            Lookup::Miss(pending) => {
                cache.put(&subject(n), pending, &Answer::of_titles(&[title]));
                false
            }
        }
    }

    /// Looks up a query for which no answer is pending.
    fn find(answers: &Arc<UserAnswers>, tag: &str) -> Lookup {
        let (query, timing) = (query(tag), Timing::default());
        let found = answers.find(&query, VALIDATOR, KEEP, &timing);
        found.now_or_never().expect("somebody makes it")
    }

    /// Memory of all entries, counted anew.
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
            // A user who asks again and again stays.
            assert!(ask(&cache, 0, "a", &long), "{n}");
            assert!(held(&cache) <= ROOM);
            assert_eq!(held(&cache), cache.lock().bytes);
        }
        assert!((10..20).contains(&cache.len()), "{}", cache.len());
        for n in 95..100 {
            assert!(ask(&cache, n, "a", &long), "{n} has asked just now");
        }
        assert!(!ask(&cache, 50, "a", &long));
        // Several queries of one user count too, and the oldest of them make room.
        for tag in ["b", "c", "d", "e", "f"] {
            ask(&cache, 99, tag, &long);
            assert!(held(&cache) <= ROOM);
            assert_eq!(held(&cache), cache.lock().bytes);
        }
        assert!(ask(&cache, 99, "c", &long));
        assert!(!ask(&cache, 99, "a", &long));
        // An answer larger than all the room is given, but not kept.
        let huge = "x".repeat(ROOM);
        assert!(!ask(&cache, 7, "a", &huge) && !ask(&cache, 7, "a", &huge));
        assert!(held(&cache) <= ROOM);
        cache.drop_all();
        assert_eq!((cache.len(), held(&cache)), (0, 0));
    }

    #[test]
    fn what_was_dropped_meanwhile_stays_dropped() {
        let cache = AnswerCache::new(KEEP);
        let begin = |answers: &Arc<UserAnswers>| match find(answers, "a") {
            Lookup::Miss(pending) => pending,
            Lookup::Hit(answer) => panic!("{answer:?}"),
        };
        let answers = cache.of(subject(1));
        let begun = begin(&answers);
        cache.drop_user(&subject(1));
        cache.put(&subject(1), begun, &Answer::of_titles(&["t"]));
        assert_eq!((cache.len(), cache.lock().bytes), (0, 0));
        assert!(cache.of(subject(1)).stale(&query("a"), KEEP).is_none());
        // Nor does it count for a newer entry of the same user.
        let bytes = cache.lock().bytes;
        cache.weigh(&subject(1), &answers);
        assert_eq!(cache.lock().bytes, bytes);
        // A request from before the drop may get it. A later one neither gets it nor waits for it.
        let (before, timing) = (cache.of(subject(2)), Timing::default());
        let begun = begin(&before);
        let query = query("a");
        let mut waiting = pin!(before.find(&query, VALIDATOR, KEEP, &timing));
        assert!(waiting.as_mut().now_or_never().is_none());
        cache.drop_all();
        let begun_after = begin(&cache.of(subject(2)));
        cache.put(&subject(2), begun, &Answer::of_titles(&["of before"]));
        assert!(matches!(waiting.now_or_never(), Some(Lookup::Hit(_))));
        drop(begun_after);
        begin(&cache.of(subject(2)));
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
