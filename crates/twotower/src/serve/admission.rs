//! Admission control: a concurrency limit that follows measured latency, a short queue in front of
//! it, and a rate limit for each user.

mod gradient;

mod queue_deadline;

mod rate;

mod refusals;

pub use rate::UserRate;

pub(super) use rate::UserRates;
pub(super) use refusals::Refusals;

use gradient::{Bounds, Gradient, Sample};
use queue_deadline::QueueDeadline;
use std::collections::VecDeque;
use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many requests are processed at once, and how long others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Lower bound of the limit, however slow requests are: as many as keep cores and database
    /// connections busy.
    pub minimum: usize,
    /// Upper bound of the limit, however fast requests are.
    pub maximum: usize,
    /// Longest wait for a place.
    pub queue: Duration,
}

/// Why a request is shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shed {
    /// As many requests wait as may ever be processed at once.
    QueueFull,
    /// The request has waited until its deadline.
    QueueDeadline,
}

impl Shed {
    /// The value of the metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueDeadline => "queue_deadline",
        }
    }
}

/// The concurrency limit and numbers of requests at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) limit: usize,
    pub(super) in_flight: usize,
    pub(super) waiting: usize,
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            limit: self.limit + other.limit,
            in_flight: self.in_flight + other.in_flight,
            waiting: self.waiting + other.waiting,
        }
    }
}

/// A concurrency limit with a queue in front of it.
///
/// [`QueueDeadline`] bounds the time in the queue. The upper bound of the concurrency limit bounds
/// its length, so that a flood costs no memory. The queue is first in, first out: deadlines are
/// short, and no request expires because later ones overtake it.
#[derive(Debug, Clone)]
pub(super) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    gradient: Gradient,
    deadline: QueueDeadline,
    in_flight: usize,
    waiting: VecDeque<oneshot::Sender<Permit>>,
    most_waiting: usize,
}

impl Admission {
    pub(super) fn new(concurrency: Concurrency) -> Self {
        let bounds = Bounds {
            minimum: concurrency.minimum,
            maximum: concurrency.maximum,
        };
        Self(Arc::new(Shared {
            started: Instant::now(),
            state: Mutex::new(State {
                gradient: Gradient::new(bounds),
                deadline: QueueDeadline::new(concurrency.queue),
                in_flight: 0,
                waiting: VecDeque::new(),
                most_waiting: concurrency.maximum,
            }),
        }))
    }

    /// A place among the requests in flight, at once or after a short wait.
    pub(super) async fn admit(&self) -> Result<Permit, Shed> {
        let (mut place, deadline) = {
            let mut state = self.0.state();
            if state.waiting.is_empty() && state.in_flight < state.gradient.limit() {
                state.in_flight += 1;
                drop(state);
                return Ok(Permit::new(&self.0));
            }
            if state.waiting.len() >= state.most_waiting {
                state.waiting.retain(|waiting| !waiting.is_closed());
            }
            if state.waiting.len() >= state.most_waiting {
                return Err(Shed::QueueFull);
            }
            let now = self.0.started.elapsed();
            let waiting = state.waiting.len();
            let deadline = state.deadline.next(now, waiting);
            let (given, place) = oneshot::channel();
            state.waiting.push_back(given);
            (place, deadline)
        };
        match tokio::time::timeout(deadline, &mut place).await {
            Ok(Ok(permit)) => Ok(permit),
            // The place may have been granted at the moment of the deadline.
            Ok(Err(_)) | Err(_) => place.try_recv().map_err(|_| Shed::QueueDeadline),
        }
    }

    pub(super) fn load(&self) -> Load {
        let state = self.0.state();
        Load {
            limit: state.gradient.limit(),
            in_flight: state.in_flight,
            waiting: state
                .waiting
                .iter()
                .filter(|waiting| !waiting.is_closed())
                .count(),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees a place and grants free places to waiting requests.
    fn release(self: &Arc<Self>, admitted: Duration, measured: bool) {
        let mut granted = Vec::new();
        let mut state = self.state();
        if measured {
            let ended = self.started.elapsed();
            let in_flight = state.in_flight;
            state.gradient.observe(&Sample {
                admitted,
                ended,
                in_flight,
            });
        }
        state.in_flight -= 1;
        while state.in_flight < state.gradient.limit() {
            let Some(waiting) = state.waiting.pop_front() else {
                break;
            };
            if !waiting.is_closed() {
                state.in_flight += 1;
                granted.push(waiting);
            }
        }
        drop(state);
        for waiting in granted {
            // A request that was given up meanwhile drops the permit, which frees the place again.
            let _ = waiting.send(Permit::new(self));
        }
    }
}

/// A place among the requests in flight, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    shared: Arc<Shared>,
    admitted: Duration,
    measured: bool,
}

impl Permit {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            admitted: shared.started.elapsed(),
            measured: false,
        }
    }

    /// Counts the time since admission as the latency of a request. Permits of refusals and of
    /// callers who hang up are only dropped: a refusal is quicker than work and a hang-up cuts it
    /// short, so neither says anything about load.
    pub(super) fn measured(mut self) {
        self.measured = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.release(self.admitted, self.measured);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(places: usize, queue_ms: u64) -> Admission {
        Admission::new(Concurrency {
            minimum: places,
            maximum: places,
            queue: Duration::from_millis(queue_ms),
        })
    }

    #[tokio::test]
    async fn places_are_counted_and_come_back() {
        let admission = admission(2, 0);
        let first = admission.admit().await.unwrap();
        let second = admission.admit().await.unwrap();
        assert_eq!(admission.admit().await.unwrap_err(), Shed::QueueDeadline);
        drop(first);
        let third = admission.admit().await.unwrap();
        drop((second, third));
        let idle = Load {
            limit: 2,
            in_flight: 0,
            waiting: 0,
        };
        assert_eq!(admission.load(), idle);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_in_order() {
        let admission = admission(1, 60_000);
        let first = admission.admit().await.unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit().await.map(Permit::measured) }
        });
        while admission.load().waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(admission.admit().await.unwrap_err(), Shed::QueueFull);
        drop(first);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(admission.load().in_flight, 0);
    }

    /// Callers hang up at every stage: while they wait, and at the moment at which they are granted
    /// a place.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_place_is_lost() {
        let admission = admission(3, 1);
        let tasks: Vec<_> = (0..2000)
            .map(|n: u64| {
                let admission = admission.clone();
                tokio::spawn(async move {
                    let work = async {
                        if let Ok(permit) = admission.admit().await {
                            tokio::time::sleep(Duration::from_micros(n % 7 * 100)).await;
                            if n.is_multiple_of(2) {
                                permit.measured();
                            }
                        }
                    };
                    let _ = tokio::time::timeout(Duration::from_micros(n % 13 * 200), work).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(admission.load().in_flight, 0);
        assert!(admission.admit().await.is_ok());
    }
}
