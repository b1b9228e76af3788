use crate::serve::recommendations::answer::Answer;
use crate::serve::recommendations::query::Query;
use crate::serve::timing::{Stage, Timing};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use twotower_store::UserState;

/// Answers to different queries that are kept of one user.
const QUERIES_PER_USER: usize = 4;

/// Of who has liked, skipped and blocked more, nothing is known while the database is late: the memory is better spent on others.
const MOST_KNOWN: usize = 5000;

/// The answers of one user. Those that are being made have a place here, too, so that requests for the same wait instead of making it
/// again; nothing is made while the lock is held.
#[derive(Debug, Default)]
pub(in crate::serve) struct UserAnswers {
    entries: Mutex<Entries>,
    /// Told when one that others wait for is there, or will not come.
    settled: Notify,
    /// Of what is kept; apart, so that nobody holds two locks.
    bytes: AtomicUsize,
}

/// What an answer was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) struct Made {
    /// Of which view: model and catalogue, and popularity where the list goes by that.
    pub(in crate::serve) snapshot: u64,
    /// A hash of what the user has liked, skipped and blocked.
    pub(in crate::serve) state: u64,
}

/// What a request finds.
#[derive(Debug)]
pub(in crate::serve) enum Found {
    /// An answer made of the same.
    Kept(Answer),
    /// None: whoever asked is to make it.
    Missing(Making),
}

/// The duty to make an answer. Others wait for it until it is [kept](AnswerCache::put) or dropped; then one of them makes it.
#[derive(Debug)]
pub(in crate::serve) struct Making {
    /// Until it is settled.
    answers: Option<Arc<UserAnswers>>,
    number: u64,
}

#[derive(Debug, Default)]
struct Entries {
    /// Oldest first.
    list: Vec<Entry>,
    /// Answers that were begun.
    begun: u64,
    known: Option<LastKnown>,
}

/// What the database said of the user last.
#[derive(Debug)]
struct LastKnown {
    at: Instant,
    state: Arc<UserState>,
}

#[derive(Debug)]
struct Entry {
    query: Query,
    made: Made,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    UnderWay {
        number: u64,
        awaited: bool,
    },
    Done {
        number: u64,
        at: Instant,
        answer: Answer,
    },
}

/// As [`Found`], at once.
enum LookedUp<'a> {
    Found(Found),
    /// Somebody else makes it. It is to be looked for again after that.
    UnderWay(Notified<'a>),
}

impl UserAnswers {
    /// The answer to `query` made of the same. While another request makes it, this waits.
    pub(in crate::serve) async fn find(
        self: &Arc<Self>,
        query: &Query,
        made: Made,
        keep: Duration,
        timing: &Timing,
    ) -> Found {
        loop {
            match self.look_up(query, made, keep) {
                LookedUp::Found(found) => return found,
                LookedUp::UnderWay(settled) => {
                    let _recording = timing.stage(Stage::Cache);
                    settled.await;
                }
            }
        }
    }

    fn look_up(self: &Arc<Self>, query: &Query, made: Made, keep: Duration) -> LookedUp<'_> {
        let mut entries = self.lock();
        entries.list.retain(|entry| entry.is_of_use(keep));
        let same = |entry: &&mut Entry| entry.made == made && entry.query == *query;
        if let Some(entry) = entries.list.iter_mut().find(same) {
            return match &mut entry.progress {
                Progress::Done { answer, .. } => LookedUp::Found(Found::Kept(answer.again())),
                Progress::UnderWay { awaited, .. } => {
                    *awaited = true;
                    // Made before the lock is given back, it hears of all that comes after.
                    LookedUp::UnderWay(self.settled.notified())
                }
            };
        }
        let number = entries.begun;
        entries.begun += 1;
        entries.list.push(Entry {
            query: query.clone(),
            made,
            progress: Progress::UnderWay {
                number,
                awaited: false,
            },
        });
        LookedUp::Found(Found::Missing(Making {
            answers: Some(Arc::clone(self)),
            number,
        }))
    }

    /// Memory of what is kept, besides the tables.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The latest answer to `query`, whatever it was made of.
    pub(in crate::serve) fn stale(&self, query: &Query, keep: Duration) -> Option<Answer> {
        let entries = self.lock();
        let mut same = entries.list.iter().filter(|entry| entry.query == *query);
        same.find_map(|entry| match &entry.progress {
            Progress::Done { at, answer, .. } if at.elapsed() < keep => Some(answer.stale()),
            _ => None,
        })
    }

    /// Keeps what the database has just said of the user. Whether this takes more or less memory than before.
    pub(super) fn know(&self, state: &Arc<UserState>) -> bool {
        let many = state.likes.len() + state.skips.len() + state.blocks.len() > MOST_KNOWN;
        let mut entries = self.lock();
        entries.known = (!many).then(|| LastKnown {
            at: Instant::now(),
            state: Arc::clone(state),
        });
        let bytes = entries.bytes();
        self.bytes.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// What the database said of the user last: who is answered while it says nothing gets none of what they had liked or blocked by then.
    pub(in crate::serve) fn last_known(&self, keep: Duration) -> Option<Arc<UserState>> {
        let entries = self.lock();
        let known = entries.known.as_ref();
        let known = known.filter(|known| known.at.elapsed() < keep)?;
        Some(Arc::clone(&known.state))
    }

    /// What [`Self::bytes`] says, counted anew.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing is left half done by a panic: entries are pushed whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Making {
    /// Ends the wait of others, with an answer to keep or without. Gives back whose answers these are, the first time.
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

impl Drop for Making {
    fn drop(&mut self) {
        self.settle(None);
    }
}

impl Entries {
    /// Puts the answer that was begun as `number` in the place of earlier ones to the same query; one that was begun later knows more, and
    /// stays. Returns whether somebody waits for it.
    fn settle(&mut self, number: u64, answer: Option<Answer>) -> bool {
        let begun = |entry: &Entry| matches!(entry.progress, Progress::UnderWay { number: other, .. } if other == number);
        let Some(place) = self.list.iter().position(begun) else {
            return false;
        };
        let Entry {
            query,
            made,
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
                made,
                progress: Progress::Done { number, at, answer },
            });
        }
        matches!(progress, Progress::UnderWay { awaited: true, .. })
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

    /// Whether somebody waits for it, or may get it again.
    fn is_of_use(&self, keep: Duration) -> bool {
        match self.progress {
            Progress::UnderWay { .. } => true,
            Progress::Done { at, .. } => at.elapsed() < keep,
        }
    }

    fn bytes(&self) -> usize {
        match &self.progress {
            Progress::UnderWay { .. } => 0,
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
    const MADE: Made = Made {
        snapshot: 1,
        state: 1,
    };

    /// For so many videos.
    fn query(limit: usize) -> Query {
        Query {
            limit,
            ..Query::default()
        }
    }

    /// What is to be made; nobody makes it yet.
    fn begin(answers: &Arc<UserAnswers>, limit: usize, made: Made) -> Making {
        match answers.look_up(&query(limit), made, KEEP) {
            LookedUp::Found(Found::Missing(making)) => making,
            _ => panic!("{limit} is there, or under way"),
        }
    }

    fn is_kept(answers: &Arc<UserAnswers>, limit: usize) -> bool {
        let found = answers.look_up(&query(limit), MADE, KEEP);
        matches!(found, LookedUp::Found(Found::Kept(_)))
    }

    fn keep(mut making: Making, title: &str) {
        making.settle(Some(Answer::of_titles(&[title])));
    }

    #[test]
    fn a_query_waits_for_the_same_one_and_for_no_other() {
        let answers = Arc::<UserAnswers>::default();
        let making = begin(&answers, 1, MADE);
        let timing = Timing::default();
        let same = query(1);
        let mut waiting = pin!(answers.find(&same, MADE, KEEP, &timing));
        assert!(waiting.as_mut().now_or_never().is_none());
        // Of another query, or of likes that the one under way does not know.
        let other = begin(&answers, 2, MADE);
        let later = Made { state: 2, ..MADE };
        let newer = begin(&answers, 1, later);
        keep(other, "other");
        assert!(waiting.as_mut().now_or_never().is_none(), "not that one");
        keep(making, "same");
        match waiting.now_or_never() {
            Some(Found::Kept(answer)) => assert!(answer.cached),
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
        let making = begin(&answers, 1, MADE);
        let LookedUp::UnderWay(settled) = answers.look_up(&query(1), MADE, KEEP) else {
            panic!("it is under way");
        };
        keep(making, "t");
        assert!(settled.now_or_never().is_some());
    }

    #[test]
    fn an_earlier_answer_stays_until_the_next_one_is_there() {
        let answers = Arc::<UserAnswers>::default();
        keep(begin(&answers, 1, MADE), "earlier");
        let next = begin(&answers, 1, Made { state: 2, ..MADE });
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
        assert!(answers.know(&state(MOST_KNOWN)));
        assert!(!answers.know(&state(MOST_KNOWN)), "as much as before");
        assert_eq!(answers.last_known(KEEP), Some(state(MOST_KNOWN)));
        assert!(answers.last_known(Duration::ZERO).is_none());
        assert!(answers.bytes() > 16 * MOST_KNOWN && answers.bytes() == answers.counted());
        // Not what was known before, either.
        assert!(answers.know(&state(MOST_KNOWN + 1)));
        assert!(answers.last_known(KEEP).is_none());
        assert_eq!(answers.bytes(), 0);
    }

    #[test]
    fn what_is_under_way_is_not_pushed_out() {
        let answers = Arc::<UserAnswers>::default();
        let all = 1..=QUERIES_PER_USER + 3;
        let making: Vec<Making> = all.clone().map(|n| begin(&answers, n, MADE)).collect();
        assert_eq!(answers.bytes(), 0);
        for making in making {
            keep(making, "t");
        }
        let kept: Vec<usize> = all.filter(|&n| is_kept(&answers, n)).collect();
        assert_eq!(kept, [4, 5, 6, 7]);
    }

    /// Callers hang up while they make it, time and again.
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
                    match answers.find(&query, MADE, KEEP, &timing).await {
                        Found::Kept(answer) => answer.cached,
                        Found::Missing(making) => {
                            let before = begun.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            if before >= FAIL {
                                keep(making, "t");
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
