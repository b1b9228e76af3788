use crate::serve::recommendations::answer::Answer;
use crate::serve::recommendations::query::Query;
use crate::serve::timing::{Stage, Timing};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use twotower_store::UserState;

/// At most this many answers to different queries are kept for one user.
const QUERIES_PER_USER: usize = 4;

/// The state of a user with more likes, skips and blocks than this is not kept: the memory is
/// better spent on others.
const MAX_KNOWN_ROWS: usize = 5000;

/// The answers of one user, including pending ones, so that requests for the same answer wait
/// instead of computing it again (singleflight). No answer is computed while the lock is held.
#[derive(Debug, Default)]
pub(in crate::serve) struct UserAnswers {
    entries: Mutex<Entries>,
    /// Notified when an answer that others wait for is there, or is given up.
    settled: Notify,
    /// Memory of the entries. Outside the lock, so that no caller holds two locks.
    bytes: AtomicUsize,
}

/// The data that an answer was computed from. A kept answer is given again only if it is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) struct Validator {
    /// Revision of the view: of model and catalogue, and of popularity if the list goes by that.
    pub(in crate::serve) snapshot: u64,
    /// Hash of the likes, skips and blocks of the user.
    pub(in crate::serve) state: u64,
}

/// Outcome of a lookup.
#[derive(Debug)]
pub(in crate::serve) enum Lookup {
    /// A kept answer, computed from the same data.
    Hit(Answer),
    /// There is none: the caller is to compute it.
    Miss(PendingAnswer),
}

/// The duty to compute an answer. Others wait until it is [kept](AnswerCache::put) or dropped. If
/// it is dropped, one of them takes over the duty.
#[derive(Debug)]
pub(in crate::serve) struct PendingAnswer {
    /// `None` once it is settled.
    answers: Option<Arc<UserAnswers>>,
    number: u64,
}

#[derive(Debug, Default)]
struct Entries {
    /// Oldest first.
    list: Vec<Entry>,
    /// Number of answers ever begun.
    begun: u64,
    known: Option<LastKnown>,
}

/// The state that the database last returned for the user.
#[derive(Debug)]
struct LastKnown {
    at: Instant,
    state: Arc<UserState>,
}

#[derive(Debug)]
struct Entry {
    query: Query,
    validator: Validator,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Pending {
        number: u64,
        awaited: bool,
    },
    Done {
        number: u64,
        at: Instant,
        answer: Answer,
    },
}

/// A [`Lookup`] that does not wait.
enum Attempt<'a> {
    Done(Lookup),
    /// Another request computes the answer. The lookup is to be repeated after the notification.
    Pending(Notified<'a>),
}

impl UserAnswers {
    /// The answer to `query` computed from the same data. Waits while another request computes it.
    pub(in crate::serve) async fn find(
        self: &Arc<Self>,
        query: &Query,
        validator: Validator,
        keep: Duration,
        timing: &Timing,
    ) -> Lookup {
        loop {
            match self.look_up(query, validator, keep) {
                Attempt::Done(lookup) => return lookup,
                Attempt::Pending(settled) => {
                    let _recording = timing.stage(Stage::Cache);
                    settled.await;
                }
            }
        }
    }

    fn look_up(
        self: &Arc<Self>,
        query: &Query,
        validator: Validator,
        keep: Duration,
    ) -> Attempt<'_> {
        let mut entries = self.lock();
        entries.list.retain(|entry| entry.is_of_use(keep));
        let same = |entry: &&mut Entry| entry.validator == validator && entry.query == *query;
        if let Some(entry) = entries.list.iter_mut().find(same) {
            return match &mut entry.progress {
                Progress::Done { answer, .. } => Attempt::Done(Lookup::Hit(answer.again())),
                Progress::Pending { awaited, .. } => {
                    *awaited = true;
                    // Created under the lock, so it misses no later notification.
                    Attempt::Pending(self.settled.notified())
                }
            };
        }
        let number = entries.begun;
        entries.begun += 1;
        entries.list.push(Entry {
            query: query.clone(),
            validator,
            progress: Progress::Pending {
                number,
                awaited: false,
            },
        });
        Attempt::Done(Lookup::Miss(PendingAnswer {
            answers: Some(Arc::clone(self)),
            number,
        }))
    }

    /// Memory of answers and last known state, bytes, without that of the tables.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The latest answer to `query`, whatever data it was computed from.
    pub(in crate::serve) fn stale(&self, query: &Query, keep: Duration) -> Option<Answer> {
        let entries = self.lock();
        let mut same = entries.list.iter().filter(|entry| entry.query == *query);
        same.find_map(|entry| match &entry.progress {
            Progress::Done { at, answer, .. } if at.elapsed() < keep => Some(answer.stale()),
            _ => None,
        })
    }

    /// Keeps the state that the database has just returned. Returns whether this changes the memory
    /// used.
    pub(super) fn know(&self, state: &Arc<UserState>) -> bool {
        let many = state.likes.len() + state.skips.len() + state.blocks.len() > MAX_KNOWN_ROWS;
        let mut entries = self.lock();
        entries.known = (!many).then(|| LastKnown {
            at: Instant::now(),
            state: Arc::clone(state),
        });
        let bytes = entries.bytes();
        self.bytes.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// The state that the database last returned. With it, a list made while the database is late
    /// still leaves out the videos that the user had liked or blocked by then.
    pub(in crate::serve) fn last_known(&self, keep: Duration) -> Option<Arc<UserState>> {
        let entries = self.lock();
        let known = entries.known.as_ref();
        let known = known.filter(|known| known.at.elapsed() < keep)?;
        Some(Arc::clone(&known.state))
    }

    /// The value of [`Self::bytes`], counted anew.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // A panic leaves no partial entry: entries are pushed whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingAnswer {
    /// Ends the wait of others, with an answer to keep or without. The first call returns the
    /// answers of the user.
    pub(super) fn settle(&mut self, answer: Option<Answer>) -> Option<Arc<UserAnswers>> {
        let answers = self.answers.take()?;
        let mut entries = answers.lock();
        let awaited = entries.settle(self.number, answer);
        answers.bytes.store(entries.bytes(), Ordering::Relaxed);
        drop(entries);
        if awaited {
            answers.settled.notify_waiters();
        }
        Some(answers)
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        self.settle(None);
    }
}

impl Entries {
    /// Replaces earlier answers to the same query by the one that was begun as `number`, unless one
    /// that was begun later, from newer data, is there. Returns whether any request waits for it.
    fn settle(&mut self, number: u64, answer: Option<Answer>) -> bool {
        let begun = |entry: &Entry| matches!(entry.progress, Progress::Pending { number: other, .. } if other == number);
        let Some(place) = self.list.iter().position(begun) else {
            return false;
        };
        let Entry {
            query,
            validator,
            progress,
        } = self.list.remove(place);
        let later = |entry: &Entry| matches!(entry.progress, Progress::Done { number: other, .. } if other > number && entry.query == query);
        if let Some(answer) = answer
            && !self.list.iter().any(later)
        {
            self.list
                .retain(|entry| !entry.is_done() || entry.query != query);
            let done = self.list.iter().filter(|entry| entry.is_done()).count();
            if done >= QUERIES_PER_USER
                && let Some(oldest) = self.list.iter().position(Entry::is_done)
            {
                self.list.remove(oldest);
            }
            let at = Instant::now();
            self.list.push(Entry {
                query,
                validator,
                progress: Progress::Done { number, at, answer },
            });
        }
        matches!(progress, Progress::Pending { awaited: true, .. })
    }

    fn bytes(&self) -> usize {
        let known = self.known.as_ref().map_or(0, LastKnown::bytes);
        known + self.list.iter().map(Entry::bytes).sum::<usize>()
    }
}

impl LastKnown {
    fn bytes(&self) -> usize {
        let UserState {
            likes,
            skips,
            blocks,
        } = &*self.state;
        let names: usize = blocks.iter().map(|block| block.value.len()).sum();
        size_of::<UserState>()
            + size_of_val(likes.as_slice())
            + size_of_val(skips.as_slice())
            + size_of_val(blocks.as_slice())
            + names
    }
}

impl Entry {
    fn is_done(&self) -> bool {
        matches!(self.progress, Progress::Done { .. })
    }

    /// Whether it is pending, or may be given again.
    fn is_of_use(&self, keep: Duration) -> bool {
        match self.progress {
            Progress::Pending { .. } => true,
            Progress::Done { at, .. } => at.elapsed() < keep,
        }
    }

    fn bytes(&self) -> usize {
        match &self.progress {
            Progress::Pending { .. } => 0,
            Progress::Done { answer, .. } => {
                size_of::<Self>() + self.query.bytes() + answer.bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;
    use std::sync::atomic::AtomicU32;

    const KEEP: Duration = Duration::from_mins(5);
    const VALIDATOR: Validator = Validator {
        snapshot: 1,
        state: 1,
    };

    /// A query for `limit` videos.
    fn query(limit: usize) -> Query {
        Query {
            limit,
            ..Query::default()
        }
    }

    /// Begins an answer that is neither kept nor pending.
    fn begin(answers: &Arc<UserAnswers>, limit: usize, validator: Validator) -> PendingAnswer {
        match answers.look_up(&query(limit), validator, KEEP) {
            Attempt::Done(Lookup::Miss(pending)) => pending,
            _ => panic!("{limit} is there, or under way"),
        }
    }

    fn is_kept(answers: &Arc<UserAnswers>, limit: usize) -> bool {
        let found = answers.look_up(&query(limit), VALIDATOR, KEEP);
        matches!(found, Attempt::Done(Lookup::Hit(_)))
    }

    fn keep(mut pending: PendingAnswer, title: &str) {
        pending.settle(Some(Answer::of_titles(&[title])));
    }

    #[test]
    fn a_query_waits_for_the_same_one_and_for_no_other() {
        let answers = Arc::<UserAnswers>::default();
        let pending = begin(&answers, 1, VALIDATOR);
        let timing = Timing::default();
        let same = query(1);
        let mut waiting = pin!(answers.find(&same, VALIDATOR, KEEP, &timing));
        assert!(waiting.as_mut().now_or_never().is_none());
        // Another query, and newer likes than those of the pending answer.
        let other = begin(&answers, 2, VALIDATOR);
        let later = Validator {
            state: 2,
            ..VALIDATOR
        };
        let newer = begin(&answers, 1, later);
        keep(other, "other");
        assert!(waiting.as_mut().now_or_never().is_none(), "not that one");
        keep(pending, "same");
        match waiting.now_or_never() {
            Some(Lookup::Hit(answer)) => assert!(answer.cached),
            found => panic!("{found:?}"),
        }
        assert!(timing.spent(Stage::Cache).is_some());
        keep(newer, "newer");
        assert!(is_kept(&answers, 2) && !is_kept(&answers, 1), "older likes");
        assert_eq!(answers.bytes(), answers.counted());
    }

    #[test]
    fn what_ends_before_somebody_begins_to_wait_is_heard_of() {
        let answers = Arc::<UserAnswers>::default();
        let pending = begin(&answers, 1, VALIDATOR);
        let Attempt::Pending(settled) = answers.look_up(&query(1), VALIDATOR, KEEP) else {
            panic!("it is under way");
        };
        keep(pending, "t");
        assert!(settled.now_or_never().is_some());
    }

    #[test]
    fn an_earlier_answer_stays_until_the_next_one_is_there() {
        let answers = Arc::<UserAnswers>::default();
        keep(begin(&answers, 1, VALIDATOR), "earlier");
        let next = begin(
            &answers,
            1,
            Validator {
                state: 2,
                ..VALIDATOR
            },
        );
        assert!(answers.stale(&query(1), KEEP).is_some());
        drop(next);
        assert!(is_kept(&answers, 1));
    }

    #[test]
    fn what_was_known_last_is_known_for_a_while() {
        let answers = UserAnswers::default();
        assert!(answers.last_known(KEEP).is_none());
        let state = |likes: usize| {
            Arc::new(UserState {
                likes: vec![uuid::Uuid::nil(); likes],
                ..UserState::default()
            })
        };
        assert!(answers.know(&state(MAX_KNOWN_ROWS)));
        assert!(!answers.know(&state(MAX_KNOWN_ROWS)), "as much as before");
        assert_eq!(answers.last_known(KEEP), Some(state(MAX_KNOWN_ROWS)));
        assert!(answers.last_known(Duration::ZERO).is_none());
        assert!(answers.bytes() > 16 * MAX_KNOWN_ROWS && answers.bytes() == answers.counted());
        // The earlier state is not kept either.
        assert!(answers.know(&state(MAX_KNOWN_ROWS + 1)));
        assert!(answers.last_known(KEEP).is_none());
        assert_eq!(answers.bytes(), 0);
    }

    #[test]
    fn what_is_under_way_is_not_pushed_out() {
        let answers = Arc::<UserAnswers>::default();
        let all = 1..=QUERIES_PER_USER + 3;
        let pending: Vec<PendingAnswer> =
            all.clone().map(|n| begin(&answers, n, VALIDATOR)).collect();
        assert_eq!(answers.bytes(), 0);
        for pending in pending {
            keep(pending, "t");
        }
        let kept: Vec<usize> = all.filter(|&n| is_kept(&answers, n)).collect();
        assert_eq!(kept, [4, 5, 6, 7]);
    }

    /// Several callers in turn hang up while they compute the answer.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_ask_one_makes_it_and_the_next_one_if_that_fails() {
        const ASKED: usize = 64;
        const FAIL: u32 = 5;
        let answers = Arc::<UserAnswers>::default();
        let begun = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..ASKED)
            .map(|_| {
                let (answers, begun) = (Arc::clone(&answers), Arc::clone(&begun));
                tokio::spawn(async move {
                    let (query, timing) = (query(1), Timing::default());
                    match answers.find(&query, VALIDATOR, KEEP, &timing).await {
                        Lookup::Hit(answer) => answer.cached,
                        Lookup::Miss(pending) => {
                            let before = begun.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            if before >= FAIL {
                                keep(pending, "t");
                            }
                            false
                        }
                    }
                })
            })
            .collect();
        let mut kept = 0;
        for task in tasks {
            kept += usize::from(task.await.unwrap());
        }
        assert_eq!(begun.load(Ordering::Relaxed), FAIL + 1);
        assert_eq!(kept, ASKED - FAIL as usize - 1);
    }
}
