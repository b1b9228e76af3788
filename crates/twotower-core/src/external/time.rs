//! Parses times in the spellings that applications use.

use crate::time::{DAY_US, SECOND_US};

/// Accepted spellings of a time, for messages.
pub const EXPECTED: &str =
    "a time (2026-01-31, 2026-01-31 23:59:59 or 2026-01-31T23:59:59+09:00; Unix seconds, ms or µs)";

/// Microseconds since 1970 UTC of a time written as text.
///
/// RFC 3339; a date alone (its midnight) or with a time of day, in UTC if no offset is given; or a
/// number, see [`from_unix`]. More than six decimals of a second are cut. `None` for anything else.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    if bytes.get(4) == Some(&b'-') {
        return calendar(bytes);
    }
    if let Ok(integer) = text.parse() {
        return from_unix(integer);
    }
    let numeric = bytes.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    text.parse().ok().filter(|_| numeric).and_then(from_float)
}

/// Microseconds since 1970 UTC of a Unix time whose unit follows from its magnitude.
///
/// Numbers below 10¹¹ are seconds, below 10¹⁴ milliseconds, below 10¹⁷ microseconds, and from there
/// on nanoseconds: each unit covers 1973 to 5138. `None` for eight digits that read as a date
/// (20260131), which would be a moment of 1970.
pub fn from_unix(number: i64) -> Option<i64> {
    if looks_like_a_date(number) {
        return None;
    }
    Some(match number.unsigned_abs() {
        0..100_000_000_000 => number * SECOND_US,
        100_000_000_000..100_000_000_000_000 => number * 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => number,
        _ => number.div_euclid(1_000),
    })
}

/// As [`from_unix`], for seconds with a fraction, or a large whole number, in floating point.
pub fn from_float(number: f64) -> Option<i64> {
    if number.fract() == 0.0 {
        return (number.abs() < 9.2e18)
            .then(|| from_unix(number as i64))
            .flatten();
    }
    Some(match number.abs() {
        magnitude if magnitude < 1e11 => (number * 1e6).round() as i64,
        magnitude if magnitude < 1e14 => (number * 1e3).round() as i64,
        magnitude if magnitude < 1e17 => number.round() as i64,
        _ => return None,
    })
}

/// Microseconds since 1970 of the midnight at the start of a day.
pub fn from_days(days: i64) -> Option<i64> {
    days.checked_mul(DAY_US)
}

/// Midnight of a date of the Gregorian calendar; `None` for a day that does not exist.
pub fn from_date(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    (1..=last).contains(&day).then(|| {
        // Days since 1970-01-01. Years are counted from March so that the leap day comes last (H.
        // Hinnant, days_from_civil).
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        (era * 146_097 + day_of_era - 719_468) * DAY_US
    })
}

fn looks_like_a_date(number: i64) -> bool {
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    (1900..2200).contains(&year) && from_date(year, month, day).is_some()
}

/// `YYYY-MM-DD`, optionally followed by a time of day and an offset.
fn calendar(bytes: &[u8]) -> Option<i64> {
    let (date, rest) = bytes.split_at_checked(10)?;
    if date[7] != b'-' {
        return None;
    }
    let midnight = from_date(
        digits(&date[..4])?,
        digits(&date[5..7])?,
        digits(&date[8..])?,
    )?;
    let Some((separator, rest)) = rest.split_first() else {
        return Some(midnight);
    };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (clock, rest) = rest.split_at_checked(5)?;
    let (hour, minute) = (digits(&clock[..2])?, digits(&clock[3..])?);
    let (second, rest) = match rest.split_first() {
        Some((b':', rest)) => {
            let (second, rest) = rest.split_at_checked(2)?;
            (digits(second)?, rest)
        }
        _ => (0, rest),
    };
    // A leap second counts as the moment after it.
    if clock[2] != b':' || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, rest) = fraction(rest)?;
    let offset = offset(rest)?;
    Some(midnight + ((hour * 60 + minute) * 60 + second) * SECOND_US + fraction - offset)
}

/// Microseconds of a fraction such as `.25`, and the rest of the text.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', rest)) = bytes.split_first() else {
        return Some((0, bytes));
    };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let places = rest[..length].iter().map(|digit| i64::from(digit - b'0'));
    let zeros = std::iter::repeat(0);
    let micros = places
        .chain(zeros)
        .take(6)
        .fold(0, |n, digit| n * 10 + digit);
    Some((micros, &rest[length..]))
}

/// Microseconds that local time is ahead of UTC: nothing, `Z`, `+09`, `+0900` or `+09:00`, also
/// after a space.
fn offset(bytes: &[u8]) -> Option<i64> {
    let bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
    let (sign, rest) = match bytes.split_first() {
        None | Some((b'Z' | b'z', [])) => return Some(0),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        Some(_) if bytes == b"UTC" => return Some(0),
        Some(_) => return None,
    };
    let (hours, minutes) = match rest {
        [_, _] => (digits(rest)?, 0),
        [_, _, b':', _, _] => (digits(&rest[..2])?, digits(&rest[3..])?),
        [_, _, _, _] => (digits(&rest[..2])?, digits(&rest[2..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60 * SECOND_US)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY_SECONDS;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    #[test]
    fn spellings_of_one_moment() {
        let moment = 1_769_903_999_250_000;
        for text in [
            "2026-01-31T23:59:59.25Z",
            "2026-01-31 23:59:59.25",
            "2026-01-31t23:59:59.2500009z",
            "2026-02-01T08:59:59.25+09:00",
            "2026-02-01 08:59:59.25+0900",
            "2026-01-31 18:59:59.250000-05",
            "2026-01-31 23:59:59.25 UTC",
            "1769903999.25",
            "1769903999250",
            "1769903999250000",
            "1769903999250000000",
        ] {
            assert_eq!(parse(text), Some(moment), "{text}");
        }
        assert_eq!(from_float(1_769_903_999.25), Some(moment));
        assert_eq!(parse("2026-02-01"), Some(1_769_904_000_000_000));
        assert_eq!(parse("2026-02-01T00:00"), Some(1_769_904_000_000_000));
        assert_eq!(parse("2016-12-31T23:59:60Z"), parse("2017-01-01"));
        assert_eq!(parse("881250949"), Some(881_250_949_000_000));
        assert_eq!(parse("1895-12-28"), Some(-2_335_564_800_000_000));
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "yesterday",
            "2026-02-30",
            "2025-02-29",
            "2026-13-01",
            "2026-1-31",
            "31-01-2026",
            "01/31/2026",
            "2026-01-31T25:00:00Z",
            "2026-01-31T23:60:00Z",
            "2026-01-31T23:59:59+9",
            "2026-01-31X23:59:59",
            "2026-01-31T23:59:59.Z",
            "2026-01-31 23:59:59 JST",
            "20260131",
            "NaN",
            "inf",
            "1e9",
            "1.2.3",
            "２０２６-01-31",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn calendar_and_numbers_agree() {
        let mut random = Pcg64::seed_from_u64(2);
        let mut days = 0;
        let mut expected = 0;
        // Every day from 1970 to 2170 is one day after the one before it.
        for year in 1970..2170 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(midnight) = from_date(year, month, day) {
                        assert_eq!(midnight, expected, "{year}-{month}-{day}");
                        days += 1;
                        expected = from_days(days).unwrap();
                        let second = random.random_range(0..DAY_SECONDS);
                        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
                        let micros = random.random_range(0..SECOND_US);
                        let offset: i64 = random.random_range(-14 * 60..=14 * 60);
                        let sign = if offset < 0 { '-' } else { '+' };
                        let text = format!(
                            "{year}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{micros:06}{sign}{:02}:{:02}",
                            offset.abs() / 60,
                            offset.abs() % 60,
                        );
                        let local = midnight + second * SECOND_US + micros;
                        assert_eq!(
                            parse(&text),
                            Some(local - offset * 60 * SECOND_US),
                            "{text}"
                        );
                    }
                }
            }
        }
        assert_eq!(days, 73_049);
    }

    #[test]
    fn no_text_makes_it_panic() {
        let mut random = Pcg64::seed_from_u64(3);
        let alphabet: Vec<char> = "0123456789-+:.TZ te界".chars().collect();
        for _ in 0..100_000 {
            let length = random.random_range(0..32);
            let text: String = (0..length)
                .map(|_| alphabet[random.random_range(0..alphabet.len())])
                .collect();
            let _ = parse(&text);
        }
    }
}
