//! Only one publisher: who holds the lease writes vectors and switches readers, everybody else waits for another day.
//!
//! A lease is a row, not a lock of a session: a pooler in transaction mode would lose that. It expires, so that a killed
//! holder is in nobody's way for long; and since a holder may only have been asleep, every transaction of a publisher asks
//! for the lease's number, its fence, before it writes.
//!
//! When it expires is a time of the store's clock. One that is further ahead than any lease lasts was left by a clock that has been set back
//! since, and is taken for over: otherwise nobody would publish until the clock is there again.

use serde::Serialize;
use std::time::Duration;

/// A process that publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseHolder {
    /// Its machine.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// When it took the lease, microseconds since 1970 by its own clock.
    pub since_us: i64,
}

/// A lease taken: see [`crate::Store::under`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Higher than that of any lease before.
    pub(crate) fence: i64,
    /// From being taken or renewed to its end.
    pub(crate) lifetime: Duration,
}

impl Lease {
    /// No lease lasts longer without being renewed, whatever is asked for.
    pub const LONGEST: Duration = Duration::from_hours(1);
}

/// What came of asking for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// It is ours.
    Taken(Lease),
    /// It is somebody else's.
    Held(LeaseHolder),
}
