use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// After so many statements in a row that failed or were late, the database is taken to be away.
const AWAY_AFTER: u32 = 3;

/// While it is away one request in this time looks whether it is back; nobody else waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whether the database is there, by what becomes of the statements that anybody's request may share.
///
/// Requests are not what is counted: one user who takes long to read, and asks again and again, would have everybody do without.
#[derive(Debug)]
pub(in crate::serve::recommendations) struct Presence {
    soft: Duration,
    /// Statements in a row that brought nothing in time, and when somebody last looked while the database was away.
    misses: AtomicU32,
    looked: Mutex<Option<Instant>>,
}

/// What a request is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve::recommendations) enum Turn {
    /// Ask: the database is there.
    Ask,
    /// Look whether it is back.
    Look,
    /// Do without: it is away, and somebody else looks.
    DoWithout,
}

impl Presence {
    /// Of a database that is late after `soft`.
    pub(in crate::serve::recommendations) fn new(soft: Duration) -> Self {
        Self {
            soft,
            misses: AtomicU32::new(0),
            looked: Mutex::default(),
        }
    }

    /// What an answer waits for the database.
    pub(in crate::serve::recommendations) fn soft(&self) -> Duration {
        self.soft
    }

    /// What the request that asks is to do.
    pub(in crate::serve::recommendations) fn turn(&self) -> Turn {
        if self.misses.load(Ordering::Relaxed) < AWAY_AFTER {
            return Turn::Ask;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Turn::DoWithout;
        }
        *looked = Some(Instant::now());
        Turn::Look
    }

    /// Waits for a statement to the end, and counts it.
    pub(super) async fn watch<T, E>(
        &self,
        statement: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut statement = pin!(statement);
        if let Ok(outcome) = timeout(self.soft, &mut statement).await {
            if outcome.is_ok() {
                self.misses.store(0, Ordering::Relaxed);
            } else {
                self.missed();
            }
            return outcome;
        }
        // Now and not at its end: a database that hangs would be noticed much later.
        self.missed();
        statement.await
    }

    fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::time::sleep;

    const GOOD: Result<(), ()> = Ok(());
    const BAD: Result<(), ()> = Err(());

    #[tokio::test]
    async fn after_three_failures_in_a_row_one_looks_and_nobody_waits() {
        let presence = Presence::new(Duration::from_hours(1));
        for outcome in [BAD, BAD, GOOD, BAD, BAD] {
            let _ = presence.watch(ready(outcome)).await;
            assert_eq!(presence.turn(), Turn::Ask);
        }
        let _ = presence.watch(ready(BAD)).await;
        assert_eq!(presence.turn(), Turn::Look);
        assert_eq!(presence.turn(), Turn::DoWithout);
        sleep(LOOK_EVERY).await;
        assert_eq!(presence.turn(), Turn::Look);
        let _ = presence.watch(ready(GOOD)).await;
        assert_eq!(presence.turn(), Turn::Ask);
    }

    #[tokio::test]
    async fn what_is_late_counts_at_once_and_once() {
        let soft = Duration::from_millis(10);
        let presence = Presence::new(soft);
        for counted in 1..=2 {
            let late = async {
                while presence.misses.load(Ordering::Relaxed) < counted {
                    sleep(soft).await;
                }
                GOOD
            };
            assert_eq!(presence.watch(late).await, GOOD);
            assert_eq!(presence.misses.load(Ordering::Relaxed), counted);
        }
        assert_eq!(presence.turn(), Turn::Ask);
        let hangs = presence.watch(pending::<Result<(), ()>>());
        assert!(timeout(20 * soft, hangs).await.is_err());
        assert_eq!(presence.turn(), Turn::Look);
    }
}
