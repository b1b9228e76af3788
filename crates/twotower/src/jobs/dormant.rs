//! Who has not been there for so long that no vector is kept for them.

/// Whether a user whose last like or skip was at `last` is dormant, where the latest one of all was at `latest` (seconds since
/// 1970). The data's own clock counts, so that an old import is not asleep as a whole. After 0 days nobody is.
///
/// One rule for two: `twotower update` adds no vector of a dormant user, and `twotower prune` deletes none but theirs.
pub(super) fn is_dormant(last: i64, latest: i64, days: u32) -> bool {
    days > 0 && last < latest - i64::from(days) * 86_400
}

#[cfg(test)]
mod tests {
    use super::is_dormant;

    #[test]
    fn days_are_counted_back_from_the_latest() {
        let days = |n: i64| 1_000_000 + n * 86_400;
        assert!(!is_dormant(days(0), days(30), 30));
        assert!(is_dormant(days(0) - 1, days(30), 30));
        assert!(!is_dormant(0, days(30), 0));
    }
}
