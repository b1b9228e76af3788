use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use std::fmt;
use std::time::Duration;
use twotower_core::time::DAY_MINUTES;

/// A part of the day in which maintenance may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Minutes after midnight.
    from: u16,
    /// Minutes after midnight, up to 24:00; not after `from` if the window spans midnight.
    to: u16,
}

impl Window {
    /// Parses `03:30-06:00`, `22:00-02:00`, `00:00-24:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minutes(from)?, minutes(to)?);
        (from != to && from < DAY_MINUTES).then_some(Self { from, to })
    }

    /// Time left at `now_us` (microseconds since 1970); `None` outside of the window.
    pub fn left(self, now_us: i64, time_zone: &TimeZone) -> Option<Duration> {
        let now = Timestamp::from_microsecond(now_us).ok()?;
        let local = time_zone.to_datetime(now);
        let minute =
            u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let over_midnight = self.to <= self.from;
        let (inside, tomorrow) = if over_midnight {
            (minute >= self.from || minute < self.to, minute >= self.from)
        } else {
            (
                (self.from..self.to).contains(&minute),
                self.to == DAY_MINUTES,
            )
        };
        let date = local.date();
        let end = DateTime::from_parts(
            if tomorrow {
                date.tomorrow().ok()?
            } else {
                date
            },
            Time::new((self.to / 60 % 24) as i8, (self.to % 60) as i8, 0, 0).ok()?,
        );
        let end = time_zone.to_timestamp(end).ok()?;
        let left_us = end.as_microsecond() - now_us;
        // Where clocks are put back, an end that occurs twice is the first one.
        (inside && left_us > 0).then(|| Duration::from_micros(left_us as u64))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        let [a, b, c, d] = [from / 60, from % 60, to / 60, to % 60];
        write!(f, "{a:02}:{b:02}-{c:02}:{d:02}")
    }
}

/// `03:30` in minutes after midnight.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let two_digits = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn left(window: &str, now: &str, zone: &str) -> Option<u64> {
        let zone = TimeZone::get(zone).unwrap();
        let left = Window::parse(window).unwrap().left(at(now), &zone);
        left.map(|left| left.as_secs() / 60)
    }

    #[test]
    fn a_window_has_a_beginning_and_an_end() {
        for (now, expected) in [
            ("2026-11-26T03:29:59Z", None),
            ("2026-11-26T03:30:00Z", Some(150)),
            ("2026-11-26T05:59:00Z", Some(1)),
            ("2026-11-26T06:00:00Z", None),
        ] {
            assert_eq!(left("03:30-06:00", now, "UTC"), expected, "{now}");
        }
        assert_eq!(left("00:00-24:00", "2026-11-26T23:00:00Z", "UTC"), Some(60));
    }

    #[test]
    fn a_window_may_go_past_midnight() {
        for (now, expected) in [
            ("2026-11-26T21:59:00Z", None),
            ("2026-11-26T23:00:00Z", Some(180)),
            ("2026-11-27T01:00:00Z", Some(60)),
            ("2026-11-27T02:00:00Z", None),
        ] {
            assert_eq!(left("22:00-02:00", now, "UTC"), expected, "{now}");
        }
    }

    #[test]
    fn the_time_zone_decides_also_when_clocks_change() {
        assert_eq!(
            left("03:30-06:00", "2026-11-26T03:30:00Z", "Europe/Berlin"),
            Some(90)
        );
        // 02:00 is followed by 03:00 on that night: the hour in between does not exist.
        assert_eq!(
            left("01:30-04:00", "2026-03-29T00:30:00Z", "Europe/Berlin"),
            Some(90)
        );
        assert_eq!(
            left("12:00-18:00", "2026-11-26T03:30:00Z", "Asia/Tokyo"),
            Some(330)
        );
    }

    #[test]
    fn what_is_no_window_is_none() {
        for text in [
            "",
            "03:30",
            "3:30-6:00",
            "03:30-03:30",
            "24:00-01:00",
            "03:60-06:00",
            "03:30-24:01",
            "a-b",
        ] {
            assert_eq!(Window::parse(text), None, "{text}");
        }
        assert_eq!(
            Window::parse("22:00-02:00").unwrap().to_string(),
            "22:00-02:00"
        );
    }
}
