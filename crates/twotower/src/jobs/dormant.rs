//! Dormant users: users who have been inactive for so long that no vector is kept for them.

use twotower_core::time::DAY_SECONDS;

/// Whether a user whose last like or skip was at `last` is dormant. `latest` is the latest like or
/// skip of all users; both are seconds since 1970. Time is measured by the data, so that the users
/// of an old import are not all dormant. With 0 days, no user is.
///
/// `twotower update` adds no vector of a dormant user, and `twotower prune` deletes only vectors of
/// dormant users; both use this rule.
pub(super) fn is_dormant(last: i64, latest: i64, days: u32) -> bool {
    days > 0 && last < latest - i64::from(days) * DAY_SECONDS
}

/// The latest of `times` that is not after `now`, in seconds since 1970. Times in the future are
/// ignored, so that one device with a wrong clock does not make all other users dormant.
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
