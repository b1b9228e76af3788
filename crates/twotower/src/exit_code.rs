//! Exit codes besides 0, as docs/configuration.md lists them. `twotower run` decides by those of
//! the commands that it starts.

/// Any other failure.
pub(crate) const FAILED: i32 = 1;

/// Wrong arguments or configuration.
pub(crate) const WRONG_USAGE: i32 = 2;

/// Too little data to learn from.
pub(crate) const TOO_LITTLE_DATA: i32 = 3;

/// The database or the storage is out of reach or busy, or another process publishes.
pub(crate) const UNAVAILABLE: i32 = 4;

/// Refused by the quality gate.
pub(crate) const REFUSED: i32 = 5;

/// Stopped by Ctrl-C or SIGTERM.
pub(crate) const INTERRUPTED: i32 = 130;
