//! Exponential backoff between tries.

use crate::jobs::jittered;
use std::time::Duration;

/// Limit of a pause, before jitter.
const LONGEST: Duration = Duration::from_mins(15);

/// Pauses with jitter, each twice as long as the one before up to [`LONGEST`]; none once the tries are used up.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    /// Number of pauses left.
    left: u32,
    pause: Duration,
}

impl Backoff {
    /// For `attempts` tries in all, with about `pause` before the second.
    pub(super) fn of(attempts: u32, pause: Duration) -> Self {
        Self {
            left: attempts.saturating_sub(1),
            pause,
        }
    }

    /// For any number of tries: the caller has a deadline.
    pub(super) fn endless(pause: Duration) -> Self {
        Self {
            left: u32::MAX,
            pause: pause.max(Duration::from_secs(1)),
        }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        Some(jittered(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let pauses: Vec<Duration> = Backoff::of(4, Duration::from_mins(1)).collect();
        assert_eq!(pauses.len(), 3);
        for (pause, minutes) in pauses.iter().zip([1.0, 2.0, 4.0]) {
            let ratio = pause.as_secs_f64() / 60.0 / minutes;
            assert!((0.5..=1.5).contains(&ratio), "{pauses:?}");
        }
        assert_eq!(Backoff::of(1, Duration::from_mins(1)).next(), None);
        let longest = Backoff::endless(Duration::from_secs(1)).take(100).max();
        assert!(longest.unwrap() <= LONGEST * 3 / 2);
    }
}
