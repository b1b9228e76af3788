//! Cron expressions of five fields: minute, hour, day of the month, month, day of the week.

use jiff::civil::{Date, Time};
use thiserror::Error;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const MINUTE: Field = Field::of_numbers("minute", 0, 59);
const HOUR: Field = Field::of_numbers("hour", 0, 23);
const DAY: Field = Field::of_numbers("day of the month", 1, 31);
const MONTH: Field = Field {
    names: &MONTHS,
    ..Field::of_numbers("month", 1, 12)
};
/// Sunday is both 0 and 7.
const WEEKDAY: Field = Field {
    names: &WEEKDAYS,
    ..Field::of_numbers("day of the week", 0, 7)
};

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpressionError {
    /// Not five fields.
    #[error(
        "has {fields} fields, expected five: minute, hour, day of the month, month, day of the week"
    )]
    Fields {
        /// The number found.
        fields: usize,
    },
    /// A field cannot be parsed.
    #[error(
        "`{text}` is no {field}: expected {minimum} to {maximum}, a range such as {minimum}-{maximum}, a step such as */2, or a list of these"
    )]
    Field {
        /// Name of the field.
        field: &'static str,
        /// The invalid part.
        text: String,
        /// Minimum of the field.
        minimum: u32,
        /// Maximum of the field.
        maximum: u32,
    },
    /// A date that occurs in no year.
    #[error("names a day that never comes")]
    Never,
}

/// A parsed expression, in local time. As in cron, if both kinds of day are restricted, a day needs
/// to match only one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expression {
    /// Bit n is set if the number n is in the field; likewise in the other fields.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of day are restricted.
    either_day: bool,
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, ExpressionError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(ExpressionError::Fields {
                fields: fields.len(),
            });
        };
        let weekdays = WEEKDAY.parse(weekday)?;
        Ok(Self {
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: weekdays | ((weekdays >> 7) & 1),
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }

    /// Whether it is due at any time of this day.
    pub(super) fn falls_on(&self, date: Date) -> bool {
        let day = holds(self.days, date.day());
        let weekday = holds(self.weekdays, date.weekday().to_sunday_zero_offset());
        holds(self.months, date.month())
            && if self.either_day {
                day || weekday
            } else {
                day && weekday
            }
    }

    /// The due times of a day, ascending.
    pub(super) fn times(&self) -> impl DoubleEndedIterator<Item = Time> {
        let hours = (0..24).filter(|&hour| holds(self.hours, hour));
        hours.flat_map(|hour| {
            let minutes = (0..60).filter(|&minute| holds(self.minutes, minute));
            minutes.filter_map(move |minute| Time::new(hour, minute, 0, 0).ok())
        })
    }
}

fn holds(bits: u64, number: i8) -> bool {
    (bits >> number) & 1 == 1
}

struct Field {
    name: &'static str,
    minimum: u32,
    maximum: u32,
    /// Names of the numbers from `minimum` on.
    names: &'static [&'static str],
}

impl Field {
    const fn of_numbers(name: &'static str, minimum: u32, maximum: u32) -> Self {
        Self {
            name,
            minimum,
            maximum,
            names: &[],
        }
    }

    /// Sets bit n for each number n that the text names.
    fn parse(&self, text: &str) -> Result<u64, ExpressionError> {
        let mut bits = 0;
        for part in text.split(',') {
            bits |= self.part(part).ok_or_else(|| ExpressionError::Field {
                field: self.name,
                text: part.to_owned(),
                minimum: self.minimum,
                maximum: self.maximum,
            })?;
        }
        Ok(bits)
    }

    fn part(&self, text: &str) -> Option<u64> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<usize>().ok()?)),
            None => (text, None),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            None if range == "*" => (self.minimum, self.maximum),
            // A step requires a range.
            None if step.is_some() => return None,
            None => (self.number(range)?, self.number(range)?),
        };
        let step = step.unwrap_or(1);
        if from > to || step == 0 {
            return None;
        }
        Some(
            (from..=to)
                .step_by(step)
                .fold(0, |bits, number| bits | (1 << number)),
        )
    }

    fn number(&self, text: &str) -> Option<u32> {
        let named = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(position) => self.minimum + position as u32,
            None => text.parse().ok()?,
        };
        (self.minimum..=self.maximum)
            .contains(&number)
            .then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn on(text: &str, date: Date) -> bool {
        Expression::parse(text).unwrap().falls_on(date)
    }

    #[test]
    fn fields_are_numbers_ranges_steps_names_and_lists() {
        let times = |text: &str| -> Vec<String> {
            let expression = Expression::parse(text).unwrap();
            expression.times().map(|time| time.to_string()).collect()
        };
        assert_eq!(times("0 2 * * *"), ["02:00:00"]);
        assert_eq!(
            times("*/30 1-2,23 * * *"),
            [
                "01:00:00", "01:30:00", "02:00:00", "02:30:00", "23:00:00", "23:30:00"
            ]
        );
        assert_eq!(times("5-20/10 0 * * *"), ["00:05:00", "00:15:00"]);
        // This is a Thursday.
        let day = date(2026, 11, 26);
        assert!(on("0 0 * NOV Thu", day) && on("0 0 26 11 *", day));
        assert!(!on("0 0 * 10 *", day) && !on("0 0 * * mon-wed", day));
        let sunday = date(2026, 11, 29);
        for text in ["0 0 * * 0", "0 0 * * 7", "0 0 * * 5-7", "0 0 * * sun"] {
            assert!(on(text, sunday) && !on(text, day), "{text}");
        }
    }

    #[test]
    fn either_day_will_do_where_both_are_restricted() {
        assert!(on("0 0 1 * 4", date(2026, 11, 26)) && on("0 0 1 * 4", date(2026, 12, 1)));
        assert!(!on("0 0 1 * 4", date(2026, 11, 27)));
        // A field that begins with `*` does not make either day sufficient, as in cron.
        assert!(!on("0 0 */2 * 4", date(2026, 11, 26)) && on("0 0 */2 * 5", date(2026, 11, 27)));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |text: &str| Expression::parse(text).unwrap_err();
        assert_eq!(error("0 2 * *"), ExpressionError::Fields { fields: 4 });
        for (text, field, part) in [
            ("60 2 * * *", "minute", "60"),
            ("0 2,24 * * *", "hour", "24"),
            ("0 0 0 * *", "day of the month", "0"),
            ("0 0 * foo *", "month", "foo"),
            ("0 0 * * 5-2", "day of the week", "5-2"),
            ("*/0 0 * * *", "minute", "*/0"),
            ("5/10 0 * * *", "minute", "5/10"),
            ("0 -1 * * *", "hour", "-1"),
        ] {
            let said = error(text).to_string();
            assert!(
                said.starts_with(&format!("`{part}` is no {field}: expected")),
                "{text}: {said}"
            );
        }
    }
}
