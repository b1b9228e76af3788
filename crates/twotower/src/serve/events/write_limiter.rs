use crate::serve::circuit_breaker::{Circuit, CircuitBreaker, ProbeInterval};
use crate::serve::limits::Limits;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use twotower_store::StoreError;
use uuid::Uuid;

/// Most calls of one user at once: one of them writes, the others wait for it.
const MAX_CALLS_PER_USER: usize = 4;

/// Probes of an open circuit. A COMMIT that waits for a synchronous replica has no statement
/// timeout, so a write that was given up may leave a backend of the database waiting; the interval
/// bounds how fast these accumulate.
const PROBE_INTERVAL: ProbeInterval = ProbeInterval {
    first: Duration::from_millis(250),
    last: Duration::from_secs(10),
};

/// Limits writes of events, so that writes that hang leave connections to reads.
///
/// Writes use at most half of the connections. Writes of one user wait for each other here, where
/// they need no connection, since they would wait for each other in the database. A circuit breaker
/// of their own refuses writes while they hang.
#[derive(Debug)]
pub(in crate::serve) struct WriteLimiter {
    calls: CallsByUser,
    connections: Arc<Semaphore>,
    /// Longest wait for the earlier calls of the user, and after that for a connection: as long as
    /// a write may take. A waiting call holds only a place among events, so a short wait would
    /// protect nothing.
    max_wait: Duration,
    breaker: CircuitBreaker,
}

/// Why a write is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The user has too many calls under way.
    TooManyCalls,
    /// The earlier calls of the user did not end in time.
    UserDeadline,
    /// No connection was free in time.
    ConnectionDeadline,
    /// Writes fail or hang.
    CircuitOpen {
        /// Time until the next write is tried.
        wait: Duration,
    },
}

/// Permission for one write, until it is dropped.
#[derive(Debug)]
pub(super) struct WritePermit {
    _connection: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
    _call: Call,
}

impl WriteLimiter {
    /// For a store of `max_connections`.
    pub(in crate::serve) fn new(max_connections: u32, limits: &Limits) -> Self {
        Self::with_probes(max_connections, limits, PROBE_INTERVAL)
    }

    fn with_probes(max_connections: u32, limits: &Limits, interval: ProbeInterval) -> Self {
        let connections = (max_connections as usize / 2).max(1);
        Self {
            calls: CallsByUser::default(),
            connections: Arc::new(Semaphore::new(connections)),
            max_wait: limits.database,
            breaker: CircuitBreaker::new(limits.database, interval),
        }
    }

    /// Waits for the user's earlier calls and then for a connection.
    pub(super) async fn admit(&self, user: Uuid) -> Result<WritePermit, Refusal> {
        let call = self.calls.begin(user).ok_or(Refusal::TooManyCalls)?;
        let turn = acquire(&call.turn, self.max_wait)
            .await
            .ok_or(Refusal::UserDeadline)?;
        let connection = acquire(&self.connections, self.max_wait)
            .await
            .ok_or(Refusal::ConnectionDeadline)?;
        // Last, so that a request that gets no connection is not taken for the probe.
        if let Circuit::Open { probe_in } = self.breaker.circuit() {
            return Err(Refusal::CircuitOpen { wait: probe_in });
        }
        Ok(WritePermit {
            _connection: connection,
            _turn: turn,
            _call: call,
        })
    }

    /// Counts the outcome of a write of `user`; `None` if it did not end in time. A refusal by the
    /// database counts as a success: the database answers.
    pub(super) fn learn<T>(&self, user: Uuid, outcome: Option<&Result<T, StoreError>>) {
        let opens = match outcome {
            // Another transaction may hold the rows of this user alone.
            None
            | Some(Err(
                StoreError::Deadline { .. } | StoreError::Cancelled(_) | StoreError::Busy(_),
            )) => self.breaker.failed_for(user),
            Some(Err(error)) if error.is_outage() => self.breaker.failed(),
            Some(_) => {
                if self.breaker.succeeded() {
                    tracing::info!("events are recorded again");
                }
                false
            }
        };
        if opens {
            // Logged once: calls that are refused are counted and have no line.
            tracing::error!(
                "writes of events fail or hang: calls that record events are refused until one succeeds"
            );
        }
    }
}

/// A permit of `semaphore` within `limit`.
async fn acquire(semaphore: &Arc<Semaphore>, limit: Duration) -> Option<OwnedSemaphorePermit> {
    let permit = timeout(limit, Arc::clone(semaphore).acquire_owned()).await;
    permit.ok()?.ok()
}

/// The calls under way, by user.
#[derive(Debug, Clone, Default)]
struct CallsByUser(Arc<Mutex<HashMap<Uuid, Calls>>>);

/// The calls of one user.
#[derive(Debug)]
struct Calls {
    count: usize,
    /// Held by the call that writes.
    turn: Arc<Semaphore>,
}

/// A call under way, until it is dropped.
#[derive(Debug)]
struct Call {
    calls: CallsByUser,
    user: Uuid,
    turn: Arc<Semaphore>,
}

impl CallsByUser {
    /// Counts a call of `user`; `None` if the user has too many.
    fn begin(&self, user: Uuid) -> Option<Call> {
        let mut users = self.lock();
        let calls = users.entry(user).or_insert_with(|| Calls {
            count: 0,
            turn: Arc::new(Semaphore::new(1)),
        });
        if calls.count >= MAX_CALLS_PER_USER {
            return None;
        }
        calls.count += 1;
        Some(Call {
            calls: self.clone(),
            user,
            turn: Arc::clone(&calls.turn),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Calls>> {
        // Nothing in here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut users = self.calls.lock();
        if let Some(calls) = users.get_mut(&self.user) {
            calls.count -= 1;
            if calls.count == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn limiter(max_connections: u32) -> WriteLimiter {
        let limits = Limits {
            database: Duration::from_millis(1),
            ..Limits::default()
        };
        WriteLimiter::new(max_connections, &limits)
    }

    fn limiter_that_probes_every(interval: Duration) -> WriteLimiter {
        let interval = ProbeInterval {
            first: interval,
            last: interval,
        };
        WriteLimiter::with_probes(8, &Limits::default(), interval)
    }

    const HANGS: Option<&Result<(), StoreError>> = None;

    fn user(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[tokio::test]
    async fn one_user_writes_once_at_a_time_and_takes_one_connection() {
        let limiter = limiter(4);
        let first = limiter.admit(user(1)).await.unwrap();
        let mut waiting: Vec<_> = (1..MAX_CALLS_PER_USER)
            .map(|_| Box::pin(limiter.admit(user(1))))
            .collect();
        for waiting in &mut waiting {
            assert!(waiting.now_or_never().is_none());
        }
        let refused = limiter.admit(user(1)).await.unwrap_err();
        assert_eq!(refused, Refusal::TooManyCalls);
        let other = limiter.admit(user(2)).await.unwrap();
        let refused = limiter.admit(user(3)).await.unwrap_err();
        assert_eq!(
            refused,
            Refusal::ConnectionDeadline,
            "half of four are taken"
        );
        drop((first, other));
        for waiting in waiting {
            waiting.await.unwrap();
        }
        assert!(limiter.calls.lock().is_empty());
    }

    #[tokio::test]
    async fn a_burst_waits_for_connections_as_long_as_a_write_may_take() {
        let mut limits = Limits {
            database: Duration::from_hours(1),
            ..Limits::default()
        };
        limits.concurrency.queue = Duration::ZERO;
        let limiter = WriteLimiter::new(2, &limits);
        let first = limiter.admit(user(1)).await.unwrap();
        let mut second = Box::pin(limiter.admit(user(2)));
        let waited = timeout(Duration::from_millis(20), &mut second).await;
        assert!(waited.is_err(), "it waits for the only connection");
        drop(first);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn after_writes_that_hang_calls_are_refused() {
        let limiter = limiter_that_probes_every(Duration::from_hours(1));
        for n in 1..=3 {
            drop(limiter.admit(user(n)).await.unwrap());
            limiter.learn(user(n), HANGS);
        }
        let refused = limiter.admit(user(1)).await.unwrap_err();
        let Refusal::CircuitOpen { wait } = refused else {
            panic!("{refused:?}");
        };
        assert!(wait > Duration::from_mins(30));
        assert!(limiter.calls.lock().is_empty());
    }

    #[tokio::test]
    async fn a_probe_that_the_database_answers_ends_refusals() {
        let limiter = limiter_that_probes_every(Duration::ZERO);
        for n in 1..=3 {
            limiter.learn(user(n), HANGS);
        }
        drop(limiter.admit(user(1)).await.unwrap());
        assert_ne!(limiter.breaker.circuit(), Circuit::Closed);
        // It answers, if only that it does not take the event.
        let answered = Err::<(), _>(StoreError::UnknownVideo(user(1)));
        limiter.learn(user(1), Some(&answered));
        assert_eq!(limiter.breaker.circuit(), Circuit::Closed);
    }

    #[tokio::test]
    async fn writes_of_one_user_that_hang_are_no_reason_to_refuse_others() {
        let limiter = limiter_that_probes_every(Duration::from_hours(1));
        for _ in 0..10 {
            limiter.learn(user(1), HANGS);
        }
        limiter.admit(user(2)).await.unwrap();
    }

    #[tokio::test]
    async fn outages_count_for_whichever_user_they_come() {
        let limiter = limiter_that_probes_every(Duration::from_hours(1));
        for _ in 0..3 {
            limiter.learn(user(1), Some(&Err::<(), _>(StoreError::Standby)));
        }
        let refused = limiter.admit(user(2)).await.unwrap_err();
        assert!(matches!(refused, Refusal::CircuitOpen { .. }));
    }

    #[test]
    fn writes_have_a_connection_where_the_pool_has_only_one() {
        assert_eq!(limiter(1).connections.available_permits(), 1);
    }
}
