//! A streaming replica of the database, from which the states of users can be read.

use crate::postgres::Postgres;
use crate::store::GRACE;
use crate::user::UserState;
use crate::{ConnectOptions, Store, StoreError};
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// A place in the write-ahead log, in bytes since its beginning: what was committed before it is seen by a replica that has come as far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalPosition(pub(crate) u64);

impl WalPosition {
    /// Page of the log, bytes.
    const PAGE: u64 = 8192;

    /// Header of a page, bytes.
    const HEADER: u64 = 24;

    /// Header of the first page of a segment, bytes.
    const LONG_HEADER: u64 = 40;

    /// A position that was `bytes` into the log.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes into the log.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Where the next record would be inserted, said as where the last one ends: on a page that holds nothing yet a server already counts
    /// the header, which no replica has replayed. `segment` is what a file of the log holds, bytes.
    pub(crate) const fn end_of_last(inserting: u64, segment: u64) -> Self {
        // Only there: 40 bytes into any other page a record may end, of which the last 16 bytes did not fit the page before.
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

/// A server that takes writes, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryPosition {
    /// Everything that was committed when the server was asked lies before it.
    pub position: WalPosition,
    /// Which start of which server it is: another text, another server behind the same address, or a server that was started anew.
    pub server: String,
}

/// States of users that a replica told, and how far it had come.
#[derive(Debug)]
pub struct ReplicaStates {
    /// What was committed before this is in the states. `None` of a server that is no replica any more: nobody can say what it lacks.
    pub position: Option<WalPosition>,
    /// In the order asked for; `None` of one who was erased.
    pub states: Vec<Option<UserState>>,
}

/// A streaming replica. Nothing is written there. Cheap to clone: clones share the connections.
#[derive(Clone)]
pub struct Replica {
    engine: Postgres,
    options: ConnectOptions,
}

impl fmt::Debug for Replica {
    /// Says nothing of the address: it holds a password.
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
    /// Takes `postgresql://…`, whose server need not be there yet: connections are opened when they are first used.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn open(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        Ok(Self {
            engine: Postgres::open_lazily(url, options)?,
            options,
        })
    }

    /// The same server through at most `connections` of its own.
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

    /// The same server, read where `store` reads: see [`Store::with_source`].
    #[must_use]
    pub fn reading_as(&self, store: &Store) -> Self {
        Self {
            engine: store.read_on(&self.engine),
            options: self.options,
        }
    }

    /// How far the replica has come; `None` of a server that is no replica any more.
    pub async fn position(&self) -> Result<Option<WalPosition>, StoreError> {
        self.within("replica_position", self.engine.replica_position())
            .await
    }

    /// What [`crate::Store::user_states`] tells, as the replica has it, in one round trip.
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
            // The end of a record that began on the page before.
            (0x0400_2028, 16 * mib, 0x0400_2028),
            // A boundary of the usual size in the middle of a larger segment, and of a smaller one in the middle of the usual.
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
