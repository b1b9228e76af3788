//! Times as text, in UTC. Times are microseconds since 1970 unless they are a [`SystemTime`]; those
//! before 1970 count as 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use twotower_core::time::DAY;

/// Microseconds from 1970 until now.
pub(crate) fn now_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |since_epoch| since_epoch.as_micros() as i64)
}

/// `2026-11-24T17:30:05.123Z`, of microseconds since 1970.
pub(crate) fn rfc3339_us(at_us: i64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_micros(at_us.max(0) as u64))
}

/// `2026-11-24 17:30`, of microseconds since 1970.
pub(crate) fn minute(at_us: i64) -> String {
    prefix(at_us, "2026-11-24T17:30").replace('T', " ")
}

/// `2026-11-24 17:30 UTC`, of microseconds since 1970.
pub(crate) fn minute_utc(at_us: i64) -> String {
    minute(at_us) + " UTC"
}

/// `2026-11-24T17:30:05Z`, of microseconds since 1970.
pub(crate) fn second_rfc3339(at_us: i64) -> String {
    prefix(at_us, "2026-11-24T17:30:05") + "Z"
}

/// `2026-11-24`, of microseconds since 1970.
pub(crate) fn day(at_us: i64) -> String {
    prefix(at_us, "2026-11-24")
}

/// As much of [`rfc3339_us`] as `example` has.
fn prefix(at_us: i64, example: &str) -> String {
    let mut text = rfc3339_us(at_us);
    text.truncate(example.len());
    text
}

/// `2026-11-24T17:30:05.123Z`
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, day) = (since_epoch.as_secs(), DAY.as_secs());
    let (days, second) = (seconds / day, seconds % day);
    let (year, month, day) = civil(days);
    let mut text = String::with_capacity(24);
    for (before, number, width) in [
        ("", year, 4),
        ("-", month, 2),
        ("-", day, 2),
        ("T", second / 3600, 2),
        (":", second / 60 % 60, 2),
        (":", second % 60, 2),
        (".", since_epoch.subsec_millis().into(), 3),
    ] {
        text.push_str(before);
        push_digits(&mut text, number, width);
    }
    text.push('Z');
    text
}

/// Appends a number in at least `width` digits; `width` is at most 20. Each HTTP answer has some
/// twenty numbers, and `format!` takes several times as long.
pub(crate) fn push_digits(text: &mut String, number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let (mut begin, mut rest) = (digits.len(), number);
    while rest > 0 {
        begin -= 1;
        digits[begin] += (rest % 10) as u8;
        rest /= 10;
    }
    let begin = begin.min(digits.len() - width);
    text.extend(digits[begin..].iter().copied().map(char::from));
}

/// Gregorian date of a day since 1970-01-01, counted in eras of 400 years that begin in March
/// (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
        let at_us = 1_709_251_199_007_000;
        assert_eq!(rfc3339_us(at_us), "2024-02-29T23:59:59.007Z");
        assert_eq!(second_rfc3339(at_us), "2024-02-29T23:59:59Z");
        assert_eq!(minute(at_us), "2024-02-29 23:59");
        assert_eq!(minute_utc(at_us), "2024-02-29 23:59 UTC");
        assert_eq!(day(at_us), "2024-02-29");
        assert_eq!(day(-1), "1970-01-01");
    }

    #[test]
    fn digits() {
        for (number, width) in [(0, 1), (7, 3), (1234, 3), (10, 20), (u64::MAX, 1)] {
            let mut text = "x".to_owned();
            push_digits(&mut text, number, width);
            assert_eq!(text, format!("x{number:0width$}"));
        }
    }
}
