//! Pauses between tries.

use std::time::Duration;

/// No pause is longer.
const LONGEST: Duration = Duration::from_mins(15);

/// Pauses, each twice as long as the one before; none once the tries are used up. Each varies between a half and one and a half of that:
/// what failed together should not come back together.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// Pauses left.
    left: u32,
    pause: Duration,
}

impl Patience {
    /// So many tries in all, with `pause` before the second.
    pub(super) fn of(attempts: u32, pause: Duration) -> Self {
        Self {
            left: attempts.saturating_sub(1),
            pause,
        }
    }

    /// As many tries as there is time for.
    pub(super) fn endless(pause: Duration) -> Self {
        Self {
            left: u32::MAX,
            pause: pause.max(Duration::from_secs(1)),
        }
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        let random = getrandom::u32().unwrap_or(u32::MAX / 2);
        Some(pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let pauses: Vec<Duration> = Patience::of(4, Duration::from_mins(1)).collect();
        assert_eq!(pauses.len(), 3);
        for (pause, minutes) in pauses.iter().zip([1.0, 2.0, 4.0]) {
            let ratio = pause.as_secs_f64() / 60.0 / minutes;
            assert!((0.5..=1.5).contains(&ratio), "{pauses:?}");
        }
        assert_eq!(Patience::of(1, Duration::from_mins(1)).next(), None);
        let longest = Patience::endless(Duration::from_secs(1)).take(100).max();
        assert!(longest.unwrap() <= LONGEST * 3 / 2);
    }
}
