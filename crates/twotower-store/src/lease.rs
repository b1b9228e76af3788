//! The publisher's lease: only its holder writes vectors and switches readers.
//!
//! A lease is a row rather than a session lock, which a pooler in transaction mode would lose. It
//! expires, so that a killed holder does not block others for long. A holder can also wake up after
//! expiry; every transaction of a publisher therefore checks the lease's number, its fence, before
//! it writes.
//!
//! Expiry is by the store's clock. An expiry that is further ahead than any lease lasts comes from
//! a clock that was set back since, and counts as passed. Otherwise nobody could publish until the
//! clock caught up.

use serde::Serialize;
use std::time::Duration;

/// A process that publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseHolder {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// When it took the lease, microseconds since 1970 by its own clock.
    pub since_us: i64,
}

/// A lease that was taken: see [`crate::Store::under`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Fencing token: higher than that of any earlier lease.
    pub(crate) fence: i64,
    /// Time from taking or renewing it to its expiry.
    pub(crate) lifetime: Duration,
}

impl Lease {
    /// Upper bound on the lifetime of a lease that is not renewed.
    pub const LONGEST: Duration = Duration::from_hours(1);
}

/// Answer to a request for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The lease is ours.
    Taken(Lease),
    /// Another process holds the lease.
    Held(LeaseHolder),
}
