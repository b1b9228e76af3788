//! A streaming replica of the database, from which the states of users can be read.

use crate::postgres::Postgres;
use crate::store::GRACE;
use crate::user::UserState;
use crate::{ConnectOptions, Store, StoreError};
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// A position in the write-ahead log (LSN), bytes since its beginning. A replica that has replayed
/// up to it has everything committed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalPosition(pub(crate) u64);

impl WalPosition {
    /// Size of a page of the log, bytes.
    const PAGE: u64 = 8192;

    /// Size of a page header, bytes.
    const HEADER: u64 = 24;

    /// Size of the header of a segment's first page, bytes.
    const LONG_HEADER: u64 = 40;

    /// The position `bytes` into the log.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes since the beginning of the log.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Converts an insert position to the end of the last record. At the start of an empty page,
    /// the insert position includes the page header, which no replica has replayed yet. `segment`
    /// is the size of a log segment, bytes.
    pub(crate) const fn end_of_last(inserting: u64, segment: u64) -> Self {
        // Only on a segment's first page: on other pages a record can end at byte 40, if its last
        // 16 bytes did not fit the page before.
        let begins_segment =
            matches!(inserting.checked_rem(segment), Some(into) if into < Self::PAGE);
        let header = if begins_segment {
            Self::LONG_HEADER
        } else {
            Self::HEADER
        };
        if inserting % Self::PAGE == header {
            Self(inserting - header)
        } else {
            Self(inserting)
        }
    }
}

/// Position of a server that accepts writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryPosition {
    /// Everything committed before the request lies before it.
    pub position: WalPosition,
    /// Identifies a start of a server. Another value means another server behind the same address,
    /// or a restart.
    pub server: String,
}

/// States of users as read from a replica, and its position.
#[derive(Debug)]
pub struct ReplicaStates {
    /// The states include everything committed before this. `None` for a server that is no longer a
    /// replica: how far it lags is unknown.
    pub position: Option<WalPosition>,
    /// In the order requested; `None` for an erased user.
    pub states: Vec<Option<UserState>>,
}

/// A streaming replica, only read from. Cheap to clone: clones share the connections.
#[derive(Clone)]
pub struct Replica {
    engine: Postgres,
    options: ConnectOptions,
}

impl fmt::Debug for Replica {
    /// Omits the address, which holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Replica {
    /// Parses `postgresql://…`. Connections are opened when first used, so the server may still be
    /// down.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn open(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        Ok(Self {
            engine: Postgres::open_lazily(url, options)?,
            options,
        })
    }

    /// The same server with at most `connections` of its own.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn apart(&self, connections: u32) -> Self {
        Self {
            engine: self.engine.apart(connections),
            options: self.options,
        }
    }

    /// The same server, with the sources of `store`: see [`Store::with_source`].
    #[must_use]
    pub fn reading_as(&self, store: &Store) -> Self {
        Self {
            engine: store.read_on(&self.engine),
            options: self.options,
        }
    }

    /// How far the replica has replayed; `None` for a server that is no longer a replica.
    pub async fn position(&self) -> Result<Option<WalPosition>, StoreError> {
        self.within("replica_position", self.engine.replica_position())
            .await
    }

    /// The replica's answer to [`crate::Store::user_states`], in one round trip.
    pub async fn user_states(
        &self,
        users: &[Uuid],
        skip_limit: u32,
    ) -> Result<ReplicaStates, StoreError> {
        let read = self.engine.replica_user_states(users, skip_limit);
        self.within("replica_user_states", read).await
    }

    async fn within<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit: Duration = self.options.acquire_timeout + self.options.statement_timeout + GRACE;
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or(Err(StoreError::Deadline { operation, limit }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_only_begun_holds_nothing_to_wait_for() {
        let mib = 1 << 20;
        for (inserting, segment, end) in [
            (0x0300_2000, 16 * mib, 0x0300_2000),
            (0x0300_2018, 16 * mib, 0x0300_2000),
            (0x0300_2060, 16 * mib, 0x0300_2060),
            (0x0400_0000, 16 * mib, 0x0400_0000),
            (0x0400_0028, 16 * mib, 0x0400_0000),
            (0x0400_0058, 16 * mib, 0x0400_0058),
            // The end of a record that began on the previous page.
            (0x0400_2028, 16 * mib, 0x0400_2028),
            // A boundary for the usual segment size within a larger segment, and one for a smaller
            // size within a usual segment.
            (0x0500_0028, 64 * mib, 0x0500_0028),
            (0x0500_0018, 64 * mib, 0x0500_0000),
            (0x0410_0028, 16 * mib, 0x0410_0028),
            (0x0410_0028, mib, 0x0410_0000),
        ] {
            let told = WalPosition::end_of_last(inserting, segment);
            assert_eq!(told, WalPosition::new(end), "{inserting:#x} of {segment}");
        }
    }
}
