//! Lengths of time, with units in their names. This module has no clock.

use std::time::Duration;

/// A second, in microseconds.
pub const SECOND_US: i64 = 1_000_000;

/// A minute, in microseconds.
pub const MINUTE_US: i64 = 60 * SECOND_US;

/// An hour, in microseconds.
pub const HOUR_US: i64 = 60 * MINUTE_US;

/// A day without leap seconds, as Unix time counts, in microseconds.
pub const DAY_US: i64 = 24 * HOUR_US;

/// A day, in minutes.
pub const DAY_MINUTES: u16 = 24 * 60;

/// A day, in seconds.
pub const DAY_SECONDS: i64 = DAY_US / SECOND_US;

/// A day.
pub const DAY: Duration = Duration::from_secs(DAY_SECONDS.unsigned_abs());
