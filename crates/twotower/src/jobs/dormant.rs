//! Who has not been there for so long that no vector is kept for them.

use twotower_core::time::DAY_SECONDS;

/// Whether a user whose last like or skip was at `last` is dormant, where the latest one of all was at `latest` (seconds since
/// 1970). The data's own clock counts, so that an old import is not asleep as a whole. After 0 days nobody is.
///
/// One rule for two: `twotower update` adds no vector of a dormant user, and `twotower prune` deletes none but theirs.
pub(super) fn is_dormant(last: i64, latest: i64, days: u32) -> bool {
    days > 0 && last < latest - i64::from(days) * DAY_SECONDS
}

/// The data's own clock: the latest of these times, seconds since 1970, that has come by `now`. A telephone whose clock is wrong
/// does not put everybody else to sleep.
pub(super) fn latest(times: impl Iterator<Item = i64>, now: i64) -> i64 {
    times.filter(|&time| time <= now).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{DAY_SECONDS, is_dormant, latest};

    #[test]
    fn what_is_dated_in_the_future_does_not_set_the_clock() {
        assert_eq!(latest([3, 9, 5].into_iter(), 5), 5);
        assert_eq!(latest([3, 9, 5].into_iter(), 20), 9);
        assert_eq!(latest([9].into_iter(), 5), 0);
    }

    #[test]
    fn days_are_counted_back_from_the_latest() {
        let days = |n: i64| 1_000_000 + n * DAY_SECONDS;
        assert!(!is_dormant(days(0), days(30), 30));
        assert!(is_dormant(days(0) - 1, days(30), 30));
        assert!(!is_dormant(0, days(30), 0));
    }
}
