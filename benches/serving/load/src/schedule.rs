use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// When each request is due.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    next: AtomicUsize,
    /// Requests a second; 0 for as many as are answered.
    rate: f64,
    length: Duration,
}

/// A request's turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) number: usize,
    /// None where it is due when somebody is free to send it.
    pub(crate) due: Option<Instant>,
}

impl Schedule {
    pub(crate) fn new(rate: f64, seconds: f64) -> Self {
        Self {
            start: Instant::now(),
            next: AtomicUsize::new(0),
            rate,
            length: Duration::from_secs_f64(seconds),
        }
    }

    /// Takes the next turn and waits for it; none once the time is over.
    pub(crate) fn next(&self) -> Option<Slot> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if !self.runs() {
            return None;
        }
        if self.rate == 0.0 {
            return Some(Slot { number, due: None });
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
        let after = Duration::from_secs_f64(number as f64 / self.rate);
        if after >= self.length {
            return None;
        }
        let due = self.start + after;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        Some(Slot {
            number,
            due: Some(due),
        })
    }

    /// The second, from the start, that `at` lies in.
    pub(crate) fn second(&self, at: Instant) -> usize {
        usize::try_from(at.saturating_duration_since(self.start).as_secs()).unwrap_or(usize::MAX)
    }

    /// Whether the time is not yet over.
    pub(crate) fn runs(&self) -> bool {
        self.start.elapsed() < self.length
    }

    /// How long requests are sent.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_due_one_after_the_other() {
        let schedule = Schedule::new(10_000.0, 0.01);
        let due: Vec<_> = std::iter::from_fn(|| schedule.next())
            .map(|slot| slot.due)
            .collect();
        assert!(due.len() <= 100, "{}", due.len());
        assert!(due.is_sorted());
    }
}
