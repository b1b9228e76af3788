//! A circuit breaker (Nygard, "Release It!", 2007): while calls fail, requests do without them, and
//! a probe now and then finds out whether they succeed again.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use uuid::Uuid;

/// Failures in a row after which the circuit opens.
const OPEN_AFTER: u32 = 3;

/// Failures in a row that may affect their callers alone, after which the circuit opens however few
/// the callers are: a success of anybody comes between them where the database works.
const OPEN_AFTER_REPEATS: u32 = 20;

/// Time between two probes of an open circuit.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeInterval {
    /// Time from the opening of the circuit to the first probe. Each probe doubles the interval.
    pub(super) first: Duration,
    /// The longest interval.
    pub(super) last: Duration,
}

impl ProbeInterval {
    fn after(self, probes: u32) -> Duration {
        (self.first * (1 << probes.min(16))).min(self.last)
    }
}

/// What a caller is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Circuit {
    /// Call: calls succeed.
    Closed,
    /// Call: this call is the probe.
    HalfOpen,
    /// Do not call: calls fail.
    Open {
        /// Time until the next probe is due.
        probe_in: Duration,
    },
}

/// Opens after three failures in a row, and closes at the next success.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    /// A call that takes longer counts as a failure.
    late_after: Duration,
    probe_interval: ProbeInterval,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed {
        /// Failures in a row.
        failures: u32,
        /// Callers of [`CircuitBreaker::failed_for`] among these failures.
        callers: Vec<Uuid>,
        /// Further failures of these callers in the same row.
        repeats: u32,
    },
    Open {
        /// Number of probes since the circuit opened. The interval depends on these and not on
        /// failures: calls that are in flight together fail together.
        probes: u32,
        next_probe: Instant,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed {
            failures: 0,
            callers: Vec::new(),
            repeats: 0,
        }
    }
}

impl CircuitBreaker {
    pub(super) fn new(late_after: Duration, probe_interval: ProbeInterval) -> Self {
        Self {
            late_after,
            probe_interval,
            state: Mutex::default(),
        }
    }

    /// The time after which a call is late.
    pub(super) fn late_after(&self) -> Duration {
        self.late_after
    }

    /// What the caller is to do. [`Circuit::HalfOpen`] is given to one caller per interval.
    pub(super) fn circuit(&self) -> Circuit {
        self.circuit_at(Instant::now())
    }

    fn circuit_at(&self, now: Instant) -> Circuit {
        let mut state = self.state();
        let State::Open { probes, next_probe } = &mut *state else {
            return Circuit::Closed;
        };
        let probe_in = next_probe.saturating_duration_since(now);
        if !probe_in.is_zero() {
            return Circuit::Open { probe_in };
        }
        *probes = probes.saturating_add(1);
        *next_probe = now + self.probe_interval.after(*probes);
        Circuit::HalfOpen
    }

    /// Waits for the end of `call` and counts it.
    pub(super) async fn watch<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut call = pin!(call);
        if let Ok(outcome) = timeout(self.late_after, &mut call).await {
            if outcome.is_ok() {
                self.succeeded();
            } else {
                self.failed();
            }
            return outcome;
        }
        // Counted now and not at the end of the call, which is much later where the database hangs.
        self.failed();
        call.await
    }

    /// Counts a success. Returns whether it closes the circuit.
    pub(super) fn succeeded(&self) -> bool {
        let before = std::mem::take(&mut *self.state());
        matches!(before, State::Open { .. })
    }

    /// Counts a failure. Returns whether it opens the circuit.
    pub(super) fn failed(&self) -> bool {
        self.failed_at(Instant::now(), None)
    }

    /// As [`Self::failed`], for a failure that may affect `caller` alone: of those in a row only the
    /// first of each caller counts, so that one caller does not open the circuit for all, unless
    /// there are [`OPEN_AFTER_REPEATS`] more without a success of anybody.
    pub(super) fn failed_for(&self, caller: Uuid) -> bool {
        self.failed_at(Instant::now(), Some(caller))
    }

    fn failed_at(&self, now: Instant, caller: Option<Uuid>) -> bool {
        let mut state = self.state();
        let State::Closed {
            failures,
            callers,
            repeats,
        } = &mut *state
        else {
            return false;
        };
        if let Some(caller) = caller {
            if callers.contains(&caller) {
                *repeats += 1;
            } else {
                callers.push(caller);
                *failures += 1;
            }
        } else {
            *failures += 1;
        }
        if *failures < OPEN_AFTER && *repeats < OPEN_AFTER_REPEATS {
            return false;
        }
        *state = State::Open {
            probes: 0,
            next_probe: now + self.probe_interval.after(0),
        };
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::time::sleep;

    const GOOD: Result<(), ()> = Ok(());
    const BAD: Result<(), ()> = Err(());

    const MS: Duration = Duration::from_millis(1);
    const INTERVAL: ProbeInterval = ProbeInterval {
        first: Duration::from_millis(250),
        last: Duration::from_secs(10),
    };

    fn breaker(late_after: Duration) -> CircuitBreaker {
        CircuitBreaker::new(late_after, INTERVAL)
    }

    fn failures(breaker: &CircuitBreaker) -> u32 {
        match &*breaker.state() {
            State::Closed { failures, .. } => *failures,
            State::Open { .. } => OPEN_AFTER,
        }
    }

    #[tokio::test]
    async fn it_opens_after_three_failures_in_a_row_and_closes_at_a_success() {
        let breaker = breaker(Duration::from_hours(1));
        for outcome in [BAD, BAD, GOOD, BAD, BAD] {
            let _ = breaker.watch(ready(outcome)).await;
            assert_eq!(breaker.circuit(), Circuit::Closed);
        }
        assert!(breaker.failed());
        assert_ne!(breaker.circuit(), Circuit::Closed);
        assert!(!breaker.failed(), "it is open already");
        assert!(breaker.succeeded());
        assert_eq!(breaker.circuit(), Circuit::Closed);
        assert!(!breaker.succeeded(), "it is closed already");
    }

    #[test]
    fn one_call_an_interval_probes_and_the_interval_doubles_with_each_probe() {
        let breaker = breaker(Duration::from_hours(1));
        let opened = Instant::now();
        // Many calls in flight fail together.
        for _ in 0..10 {
            breaker.failed_at(opened, None);
        }
        let mut now = opened;
        for interval_ms in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let probe_in = interval_ms * MS;
            assert_eq!(breaker.circuit_at(now), Circuit::Open { probe_in });
            now += probe_in.checked_sub(MS).unwrap();
            assert_eq!(breaker.circuit_at(now), Circuit::Open { probe_in: MS });
            now += MS;
            assert_eq!(breaker.circuit_at(now), Circuit::HalfOpen);
            breaker.failed_at(now, None);
        }
        // The next time it begins with the first interval again.
        breaker.succeeded();
        for _ in 0..OPEN_AFTER {
            breaker.failed_at(now, None);
        }
        let probe_in = INTERVAL.first;
        assert_eq!(breaker.circuit_at(now), Circuit::Open { probe_in });
    }

    #[test]
    fn one_caller_does_not_open_it() {
        let breaker = breaker(Duration::from_hours(1));
        let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
        for _ in 0..2 {
            for caller in [one, one, two, one, two] {
                assert!(!breaker.failed_for(caller));
            }
            breaker.succeeded();
        }
        for (caller, opens) in [(one, false), (two, false), (one, false), (three, true)] {
            assert_eq!(breaker.failed_for(caller), opens);
        }
    }

    /// Where only one user writes, nobody else can show that the database hangs.
    #[test]
    fn one_caller_opens_it_after_many_failures_without_a_success() {
        let breaker = breaker(Duration::from_hours(1));
        let caller = Uuid::from_u128(1);
        for _ in 0..OPEN_AFTER_REPEATS {
            assert!(!breaker.failed_for(caller));
        }
        assert!(breaker.failed_for(caller));
    }

    #[tokio::test]
    async fn a_late_call_counts_at_once_and_once() {
        let late_after = Duration::from_millis(10);
        let breaker = breaker(late_after);
        for counted in 1..=2 {
            let late = async {
                while failures(&breaker) < counted {
                    sleep(late_after).await;
                }
                GOOD
            };
            assert_eq!(breaker.watch(late).await, GOOD);
            assert_eq!(failures(&breaker), counted);
        }
        assert_eq!(breaker.circuit(), Circuit::Closed);
        let hangs = breaker.watch(pending::<Result<(), ()>>());
        assert!(timeout(20 * late_after, hangs).await.is_err());
        assert_ne!(breaker.circuit(), Circuit::Closed);
    }
}
